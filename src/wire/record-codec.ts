/**
 * Records between value and bytes. The server encodes each once; everything after that moves bytes.
 *
 * Invariant: equal values give equal bytes under one seed. A record that this version does not understand keeps its bytes and says why
 * (`value` undefined): it is never dropped, so that it still counts in the digest and outlives an upgrade.
 */

import type { NodeName } from "../model/names.ts";
import {
  type AddressRequest,
  type IcmpMatch,
  type RecordKey,
  type RecordValue,
  type Rule,
  type RuleAction,
  type RuleSide,
  recordKey,
  type StackTier,
} from "../model/record.ts";
import type { DirectionLimits, TrafficLimits } from "../model/traffic-limits.ts";
import { compareCidrs } from "../net/cidr.ts";
import { compareIps, type IpAddress, ipBytes, ipFromBytes } from "../net/ip.ts";
import { contentHash } from "./digest.ts";
import { WireError } from "./error.ts";
import * as gen from "./gen/sedge/sync/v1/records.ts";
import { settingsFromWire, settingsToWire } from "./node-settings-codec.ts";
import { prefixFromWire, prefixToWire } from "./prefix-codec.ts";
import { packMembers, unpackMembers } from "./set-members.ts";

export interface EncodedRecord {
  readonly key: RecordKey;
  /** The whole Record message, canonical, with its hash. */
  readonly bytes: Uint8Array;
  readonly hash: bigint;
}

export interface DecodedRecord extends EncodedRecord {
  /** undefined: this version does not understand the record; `problem` says why. */
  readonly value: RecordValue | undefined;
  readonly problem: string;
}

/** Tag and value of `hash`, always last. */
const HASH_BYTES = 9;
const HASH_TAG = 0x79;
const KEY_TAG = 0x0a;
const decoder = new TextDecoder("utf-8", { fatal: true });

/** The canonical bytes of a value. Sorts what the wire wants sorted. Throws RangeError when a text in the value is no address. */
export function encodeRecord(value: RecordValue, seed: bigint): EncodedRecord {
  const key = recordKey(value);
  return seal(key, gen.Record.encode({ key, value: toWire(value), hash: 0n }).finish(), seed);
}

/** Key and hash without a look at the value; throws WireError when the bytes are no canonical Record. */
export function readRecord(bytes: Uint8Array): EncodedRecord {
  const hashAt = bytes.length - HASH_BYTES;
  let at = 1;
  let length = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++] ?? 0x80;
    length |= (byte & 0x7f) << shift;
    if (byte < 0x80) break;
    if (shift > 14) throw new WireError("malformed", "a record's key is longer than 2 MiB or cut off");
  }
  if (bytes[0] !== KEY_TAG || hashAt < at + length || bytes[hashAt] !== HASH_TAG)
    throw new WireError("malformed", "a record does not begin with its key and end with its hash");
  let key: string;
  try {
    key = decoder.decode(bytes.subarray(at, at + length));
  } catch (error) {
    throw new WireError("malformed", "a record's key is not UTF-8", { cause: error });
  }
  return { key, bytes, hash: new DataView(bytes.buffer, bytes.byteOffset + hashAt + 1, 8).getBigUint64(0, true) };
}

/** As `readRecord`, and checks the hash over the content: what a receiver does with every record. */
export function verifyRecord(bytes: Uint8Array, seed: bigint): EncodedRecord {
  const record = readRecord(bytes);
  if (contentHash(bytes.subarray(0, bytes.length - HASH_BYTES), seed) !== record.hash)
    throw new WireError("hash-mismatch", `record ${record.key}: its hash does not fit its content`);
  return record;
}

/** The value of a record; throws WireError only when the bytes are no protobuf Record at all. */
export function decodeRecord(bytes: Uint8Array): DecodedRecord {
  const { key, hash } = readRecord(bytes);
  let message: gen.Record;
  try {
    message = gen.Record.decode(bytes);
  } catch (error) {
    throw new WireError("malformed", `record ${key} cannot be decoded`, { cause: error });
  }
  const unknown = (problem: string): DecodedRecord => ({ key, bytes, hash, value: undefined, problem });
  if (message.value === undefined) return unknown("it is of a kind that this version does not know");
  let value: RecordValue | undefined;
  try {
    value = fromWire(message.value);
  } catch (error) {
    return unknown(error instanceof Error ? error.message : String(error));
  }
  if (value === undefined) return unknown("it has a value that this version does not know");
  const again = gen.Record.encode({ key: recordKey(value), value: toWire(value), hash: 0n }).finish();
  if (!equalBytes(again, bytes.subarray(0, bytes.length - HASH_BYTES)))
    return unknown("it has a field that this version does not know, or is not in canonical form");
  return { key, bytes, hash, value, problem: "" };
}

/** Ends the bytes before `hash` with it. */
export function seal(key: RecordKey, content: Uint8Array, seed: bigint): EncodedRecord {
  const hash = contentHash(content, seed);
  const bytes = new Uint8Array(content.length + HASH_BYTES);
  bytes.set(content);
  bytes[content.length] = HASH_TAG;
  new DataView(bytes.buffer).setBigUint64(content.length + 1, hash, true);
  return { key, bytes, hash };
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

type WireValue = NonNullable<gen.Record["value"]>;

const ACTION_TO_WIRE = {
  allow: gen.Action.ALLOW,
  deny: gen.Action.DENY,
  pass: gen.Action.PASS,
  log: gen.Action.LOG,
  reject: gen.Action.REJECT,
} as const satisfies Record<RuleAction, gen.Action>;
const ACTION_FROM_WIRE: Readonly<Record<number, RuleAction>> = { 1: "allow", 2: "deny", 3: "pass", 4: "log", 5: "reject" };
const SET_TYPE_TO_WIRE = { address: gen.SetType.ADDRESS, "address-port": gen.SetType.ADDRESS_PORT, prefix: gen.SetType.PREFIX } as const;
const SET_TYPE_FROM_WIRE: Readonly<Record<number, "address" | "address-port" | "prefix">> = { 1: "address", 2: "address-port", 3: "prefix" };

function addressToWire(address: IpAddress): Buffer {
  return Buffer.from(ipBytes(address));
}

function sorted<T>(list: readonly T[], compare: (a: T, b: T) => number): readonly T[] {
  return list.length < 2 ? list : [...list].sort(compare);
}

function toWire(value: RecordValue): WireValue {
  switch (value.kind) {
    case "node":
      return {
        $case: "nodeEntry",
        value: {
          name: value.name,
          addresses: sorted(value.addresses, compareIps).map(addressToWire),
          blocks: sorted(value.blocks, compareCidrs).map(prefixToWire),
        },
      };
    case "borrowed":
      return { $case: "borrowed", value: { node: value.node, addresses: sorted(value.addresses, compareIps).map(addressToWire) } };
    case "loans":
      return {
        $case: "loans",
        value: {
          block: prefixToWire(value.block),
          loans: sorted(value.loans, (a, b) => compareIps(a.address, b.address)).map(({ address, id, isAgreed }) => ({
            address: addressToWire(address),
            id,
            agreed: isAgreed,
          })),
        },
      };
    case "node-pools":
      return { $case: "nodePools", value: { node: value.node, excluded: sorted(value.excluded, (a, b) => (a < b ? -1 : 1)).slice() } };
    case "node-settings":
      return {
        $case: "nodeSettings",
        value: settingsToWire(value),
      };
    case "pool":
      return {
        $case: "pool",
        value: {
          name: value.name,
          cidr: prefixToWire(value.cidr),
          natOutgoing: value.natOutgoing,
          disabled: value.disabled,
          blockSize: value.blockSize,
          selective: value.isSelective ?? false,
          reserved: sorted(value.reserved ?? [], compareCidrs).map(prefixToWire),
          cooldownSeconds: value.cooldownSeconds ?? 0,
        },
      };
    case "endpoint":
      return {
        $case: "endpoint",
        value: {
          namespace: value.namespace,
          pod: value.pod,
          uid: value.uid,
          stack: value.stack,
          addresses: sorted(value.addresses, compareIps).map(addressToWire),
          addressRequest: value.addressRequest === undefined ? undefined : addressRequestToWire(value.addressRequest),
          limits: value.limits === undefined ? undefined : limitsToWire(value.limits),
          floating: sorted(value.floating ?? [], compareIps).map(addressToWire),
        },
      };
    case "stack":
      return {
        $case: "stack",
        value: {
          id: value.id,
          noMatchAction: ACTION_TO_WIRE[value.noMatchAction],
          tiers: value.tiers.map((tier) => ({ ...mutableTier(tier), defaultAction: ACTION_TO_WIRE[tier.defaultAction] })),
          profiles: [...(value.profiles ?? [])],
          logDenied: value.logDenied ?? false,
        },
      };
    case "policy-list":
      return { $case: "policyList", value: { stack: value.stack, part: value.part, policies: [...value.policies] } };
    case "host": {
      const { name, interfaceName, stack, forwardStack, preDnatStack, untrackedStack } = value;
      const addresses = sorted(value.addresses, compareIps).map(addressToWire);
      return { $case: "hostEndpoint", value: { name, interfaceName, addresses, stack, forwardStack, preDnatStack, untrackedStack } };
    }
    case "policy":
      return {
        $case: "policy",
        value: {
          kind: value.policyKind,
          namespace: value.namespace,
          name: value.name,
          tier: value.tier,
          ingress: value.ingress.map(ruleToWire),
          egress: value.egress.map(ruleToWire),
        },
      };
    case "set":
      return { $case: "setShard", value: { id: value.id, shard: value.shard, type: SET_TYPE_TO_WIRE[value.type], ...packMembers(value.type, value.members) } };
  }
}

function mutableTier(tier: StackTier): { name: string; ingress: string[]; egress: string[] } {
  return { name: tier.name, ingress: [...tier.ingress], egress: [...tier.egress] };
}

function ruleToWire(rule: Rule): gen.Rule {
  return {
    action: ACTION_TO_WIRE[rule.action],
    protocol: rule.protocol,
    source: sideToWire(rule.source),
    destination: sideToWire(rule.destination),
    origin: rule.origin,
    ipVersion: rule.ipVersion ?? 0,
    notProtocol: rule.notProtocol ?? 0,
    icmp: rule.icmp,
    notIcmp: rule.notIcmp,
    name: rule.name ?? "",
    logPrefix: rule.logPrefix ?? "",
  };
}

/** A side that states nothing is left out. */
function sideToWire(side: RuleSide): gen.RuleSide | undefined {
  const { nets, notNets, sets, notSets, ports, portSets, notPorts = [], notPortSets = [] } = side;
  if ([nets, notNets, sets, notSets, ports, portSets, notPorts, notPortSets].every(({ length }) => length === 0)) return undefined;
  return {
    nets: nets.map(prefixToWire),
    notNets: notNets.map(prefixToWire),
    sets: [...sets],
    notSets: [...notSets],
    ports: ports.map(({ first, last }) => ({ first, last })),
    portSets: [...portSets],
    notPorts: notPorts.map(({ first, last }) => ({ first, last })),
    notPortSets: [...notPortSets],
  };
}

function addressRequestToWire({ pools, addresses, ipVersions, mac, problem }: AddressRequest): gen.AddressRequest {
  const bytes = mac === "" ? [] : mac.split(":").map((part) => Number.parseInt(part, 16));
  return { pools: [...pools], addresses: addresses.map(addressToWire), ipVersions: [...ipVersions], mac: Buffer.from(bytes), problem };
}

function limitsToWire({ ingress, egress, dscp, problems }: TrafficLimits): gen.TrafficLimits {
  return { ingress: directionToWire(ingress), egress: directionToWire(egress), dscp, problems: [...problems] };
}

function directionToWire(limits: DirectionLimits): gen.DirectionLimits {
  return {
    bitsPerSecond: BigInt(limits.bitsPerSecond ?? 0),
    burstBytes: limits.burstBytes ?? 0,
    peakBitsPerSecond: BigInt(limits.peakBitsPerSecond ?? 0),
    minBurstBytes: limits.minBurstBytes ?? 0,
    packetsPerSecond: limits.packetsPerSecond ?? 0,
    packetBurst: limits.packetBurst ?? 0,
    maxConnections: limits.maxConnections ?? 0,
  };
}

function limitsFromWire({ ingress, egress, dscp, problems }: gen.TrafficLimits): TrafficLimits {
  return { ingress: directionFromWire(ingress), egress: directionFromWire(egress), ...(dscp === undefined ? {} : { dscp }), problems };
}

function directionFromWire(wire: gen.DirectionLimits | undefined): DirectionLimits {
  const positive = <Name extends keyof DirectionLimits>(name: Name): { readonly [Key in Name]?: number } => {
    const value = Number(wire?.[name] ?? 0);
    return value > 0 ? ({ [name]: value } as { readonly [Key in Name]: number }) : {};
  };
  return {
    ...positive("bitsPerSecond"),
    ...positive("burstBytes"),
    ...positive("peakBitsPerSecond"),
    ...positive("minBurstBytes"),
    ...positive("packetsPerSecond"),
    ...positive("packetBurst"),
    ...positive("maxConnections"),
  };
}

function addressRequestFromWire({ pools, addresses, ipVersions, mac, problem }: gen.AddressRequest): AddressRequest {
  return {
    pools,
    addresses: addresses.map(ipFromBytes),
    ipVersions: ipVersions.flatMap((version) => (version === 4 || version === 6 ? version : [])),
    mac: [...mac].map((byte) => byte.toString(16).padStart(2, "0")).join(":"),
    problem,
  };
}

function fromWire(wire: WireValue): RecordValue | undefined {
  switch (wire.$case) {
    case "nodeEntry":
      return {
        kind: "node",
        name: wire.value.name as NodeName,
        addresses: wire.value.addresses.map(ipFromBytes),
        blocks: wire.value.blocks.map(prefixFromWire),
      };
    case "borrowed":
      return { kind: "borrowed", node: wire.value.node as NodeName, addresses: wire.value.addresses.map(ipFromBytes) };
    case "loans": {
      const { block, loans } = wire.value;
      if (block === undefined) return undefined;
      return {
        kind: "loans",
        block: prefixFromWire(block),
        loans: loans.map(({ address, id, agreed }) => ({ address: ipFromBytes(address), id, isAgreed: agreed })),
      };
    }
    case "nodePools":
      return { kind: "node-pools", node: wire.value.node as NodeName, excluded: wire.value.excluded };
    case "nodeSettings":
      return settingsFromWire(wire.value);
    case "pool": {
      const { name, cidr, natOutgoing, disabled, blockSize, selective, reserved, cooldownSeconds } = wire.value;
      return cidr === undefined
        ? undefined
        : {
            kind: "pool",
            name,
            cidr: prefixFromWire(cidr),
            natOutgoing,
            disabled,
            blockSize,
            ...(selective ? { isSelective: true as const } : {}),
            ...(reserved.length > 0 ? { reserved: reserved.map(prefixFromWire) } : {}),
            ...(cooldownSeconds > 0 ? { cooldownSeconds } : {}),
          };
    }
    case "endpoint": {
      const { namespace, pod, uid, stack, addresses, addressRequest, limits, floating } = wire.value;
      const request = addressRequest === undefined ? {} : { addressRequest: addressRequestFromWire(addressRequest) };
      const limited = limits === undefined ? {} : { limits: limitsFromWire(limits) };
      const floats = floating.length > 0 ? { floating: floating.map(ipFromBytes) } : {};
      return { kind: "endpoint", namespace, pod, uid, stack, addresses: addresses.map(ipFromBytes), ...request, ...limited, ...floats };
    }
    case "stack": {
      const noMatchAction = ACTION_FROM_WIRE[wire.value.noMatchAction];
      const tiers = wire.value.tiers.map(tierFromWire);
      if (!isComplete(tiers) || (noMatchAction !== "allow" && noMatchAction !== "deny")) return undefined;
      const { id, profiles, logDenied } = wire.value;
      return { kind: "stack", id, tiers, noMatchAction, ...(profiles.length > 0 ? { profiles } : {}), ...(logDenied ? { logDenied } : {}) };
    }
    case "policyList": {
      const { stack, part, policies } = wire.value;
      return { kind: "policy-list", stack, part, policies };
    }
    case "hostEndpoint": {
      const { name, interfaceName, addresses, stack, forwardStack, preDnatStack, untrackedStack } = wire.value;
      return { kind: "host", name, interfaceName, addresses: addresses.map(ipFromBytes), stack, forwardStack, preDnatStack, untrackedStack };
    }
    case "policy": {
      const { kind: policyKind, namespace, name, tier } = wire.value;
      const ingress = wire.value.ingress.map(ruleFromWire);
      const egress = wire.value.egress.map(ruleFromWire);
      return isComplete(ingress) && isComplete(egress) ? { kind: "policy", policyKind, namespace, name, tier, ingress, egress } : undefined;
    }
    case "setShard": {
      const type = SET_TYPE_FROM_WIRE[wire.value.type];
      return type === undefined ? undefined : { kind: "set", id: wire.value.id, shard: wire.value.shard, type, members: unpackMembers(type, wire.value) };
    }
  }
}

function isComplete<T>(list: readonly (T | undefined)[]): list is readonly T[] {
  return !list.includes(undefined);
}

function tierFromWire(tier: gen.StackTier): StackTier | undefined {
  const defaultAction = ACTION_FROM_WIRE[tier.defaultAction];
  const isKnown = defaultAction === "deny" || defaultAction === "pass" || defaultAction === "reject";
  return isKnown ? { name: tier.name, defaultAction, ingress: tier.ingress, egress: tier.egress } : undefined;
}

function ruleFromWire(rule: gen.Rule): Rule | undefined {
  const action = ACTION_FROM_WIRE[rule.action];
  const { protocol, origin, ipVersion, notProtocol, icmp, notIcmp, name, logPrefix } = rule;
  if (action === undefined || (ipVersion !== 0 && ipVersion !== 4 && ipVersion !== 6)) return undefined;
  return {
    action,
    protocol,
    source: sideFromWire(rule.source),
    destination: sideFromWire(rule.destination),
    origin,
    ...(ipVersion === 0 ? {} : { ipVersion }),
    ...(notProtocol === 0 ? {} : { notProtocol }),
    ...(icmp === undefined ? {} : { icmp: icmpFromWire(icmp) }),
    ...(notIcmp === undefined ? {} : { notIcmp: icmpFromWire(notIcmp) }),
    ...(name === "" ? {} : { name }),
    ...(logPrefix === "" ? {} : { logPrefix }),
  };
}

function icmpFromWire({ type, code }: gen.IcmpMatch): IcmpMatch {
  return code === undefined ? { type } : { type, code };
}

const NO_SIDE: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };

function sideFromWire(side: gen.RuleSide | undefined): RuleSide {
  if (side === undefined) return NO_SIDE;
  const { sets, notSets, ports, portSets, notPorts, notPortSets } = side;
  return {
    nets: side.nets.map(prefixFromWire),
    notNets: side.notNets.map(prefixFromWire),
    sets,
    notSets,
    ports,
    portSets,
    ...(notPorts.length > 0 ? { notPorts } : {}),
    ...(notPortSets.length > 0 ? { notPortSets } : {}),
  };
}
