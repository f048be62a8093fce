/**
 * Decides one packet from records, as the kernel's rules made of the same records do: what explains a verdict, and what the kernel is tested against.
 *
 * Invariant: what cannot be decided is denied: a policy that the stack names and nobody has is a denial, never a policy without rules.
 */
import { assertNever } from "../model/event.ts";
import type { IcmpMatch, Policy, PortRange, RecordKey, Rule, RuleSide, Stack, StackTier } from "../model/record.ts";
import { cidrContains } from "../net/cidr.ts";
import { type IpAddress, ipVersion } from "../net/ip.ts";

export type Direction = "ingress" | "egress";

export interface Packet {
  readonly sourceAddress: IpAddress;
  readonly destinationAddress: IpAddress;
  /** IP protocol number. */
  readonly protocol: number;
  /** undefined: unknown, or a protocol without ports; a rule that states source ports does not match then. */
  readonly sourcePort?: number | undefined;
  readonly destinationPort: number | undefined;
  /** Of ICMP and ICMPv6. undefined: unknown; a rule that states a type does not match then. */
  readonly icmpType?: number | undefined;
  readonly icmpCode?: number | undefined;
}

/** Membership of the sets that rules name. A set that nobody has is empty. */
export interface SetLookup {
  /** In a set of addresses or of prefixes. */
  hasAddress(setId: string, address: IpAddress): boolean;
  hasAddressPort(setId: string, address: IpAddress, protocol: number, port: number): boolean;
}

export interface Decision {
  readonly action: "allow" | "deny";
  readonly by: DecidedBy;
  /** Denied, and the sender is told. */
  readonly isRejected?: true;
}

export type DecidedBy =
  /** A rule with allow, deny or reject. `rule` is its index in the record, `origin` in the object that a person wrote. `tier` is "" for a profile. */
  | { readonly kind: "rule"; readonly tier: string; readonly policy: RecordKey; readonly rule: number; readonly origin: number }
  /** The end of a tier, none of whose policies (those given) decided. */
  | { readonly kind: "tier-default"; readonly tier: string; readonly policies: readonly RecordKey[] }
  /** No tier decided, or none has a policy in this direction. */
  | { readonly kind: "no-match" }
  /** No policy applies to the endpoint at all. */
  | { readonly kind: "no-policy" }
  /** The stack names a policy that is not there. */
  | { readonly kind: "missing-policy"; readonly tier: string; readonly policy: RecordKey };

export interface EvaluateInput {
  /** The endpoint's stack; undefined when it has none. */
  readonly stack: Stack | undefined;
  readonly policy: (key: RecordKey) => Policy | undefined;
  readonly sets: SetLookup;
  readonly direction: Direction;
  readonly packet: Packet;
}

/** The decision on the first packet of a connection, at the endpoint that has the stack. */
export function evaluate(input: EvaluateInput): Decision {
  const { stack } = input;
  if (stack === undefined) return { action: "allow", by: { kind: "no-policy" } };
  for (const tier of stack.tiers) {
    const decision = evaluateTier(tier, input);
    if (decision !== "pass") return decision;
  }
  for (const key of stack.profiles ?? []) {
    const decision = evaluatePolicy("", key, input);
    if (decision === "pass") break;
    if (decision !== undefined) return decision;
  }
  return { action: stack.noMatchAction, by: { kind: "no-match" } };
}

function evaluateTier(tier: StackTier, input: EvaluateInput): Decision | "pass" {
  const policies = tier[input.direction];
  if (policies.length === 0) return "pass";
  for (const key of policies) {
    const decision = evaluatePolicy(tier.name, key, input);
    if (decision !== undefined) return decision;
  }
  const by: DecidedBy = { kind: "tier-default", tier: tier.name, policies };
  switch (tier.defaultAction) {
    case "pass":
      return "pass";
    case "deny":
      return { action: "deny", by };
    case "reject":
      return { action: "deny", by, isRejected: true };
    default:
      return assertNever(tier.defaultAction);
  }
}

/** undefined: none of its rules decides. */
function evaluatePolicy(tier: string, key: RecordKey, input: EvaluateInput): Decision | "pass" | undefined {
  const policy = input.policy(key);
  if (policy === undefined) return { action: "deny", by: { kind: "missing-policy", tier, policy: key } };
  const match = firstMatch(policy[input.direction], input);
  if (match === undefined) return undefined;
  const { rule, index } = match;
  const by: DecidedBy = { kind: "rule", tier, policy: key, rule: index, origin: rule.origin };
  switch (rule.action) {
    case "pass":
      return "pass";
    case "allow":
      return { action: "allow", by };
    case "reject":
      return { action: "deny", by, isRejected: true };
    case "deny":
    case "log":
      return { action: "deny", by };
    default:
      return assertNever(rule.action);
  }
}

/** The first matching rule that decides; a matching "log" goes on. */
function firstMatch(rules: readonly Rule[], { packet, sets }: EvaluateInput): { readonly rule: Rule; readonly index: number } | undefined {
  const index = rules.findIndex((rule) => rule.action !== "log" && ruleMatches(rule, packet, sets));
  const rule = rules[index];
  return rule === undefined ? undefined : { rule, index };
}

/** True when all that the rule states holds for the packet. */
export function ruleMatches(rule: Rule, packet: Packet, sets: SetLookup): boolean {
  return (
    (rule.protocol === 0 || rule.protocol === packet.protocol) &&
    (rule.notProtocol === undefined || rule.notProtocol !== packet.protocol) &&
    (rule.ipVersion === undefined || rule.ipVersion === ipVersion(packet.sourceAddress)) &&
    icmpMatches(rule, packet) &&
    sideMatches(rule.source, packet.sourceAddress, packet.sourcePort, packet.protocol, sets) &&
    sideMatches(rule.destination, packet.destinationAddress, packet.destinationPort, packet.protocol, sets)
  );
}

function icmpMatches({ icmp, notIcmp }: Rule, packet: Packet): boolean {
  if (icmp === undefined && notIcmp === undefined) return true;
  if (packet.icmpType === undefined) return false;
  return (icmp === undefined || isOfIcmp(icmp, packet)) && (notIcmp === undefined || !isOfIcmp(notIcmp, packet));
}

function isOfIcmp({ type, code }: IcmpMatch, packet: Packet): boolean {
  return packet.icmpType === type && (code === undefined || packet.icmpCode === code);
}

function sideMatches(side: RuleSide, address: IpAddress, port: number | undefined, protocol: number, sets: SetLookup): boolean {
  return (
    (side.nets.length === 0 || side.nets.some((net) => cidrContains(net, address))) &&
    !side.notNets.some((net) => cidrContains(net, address)) &&
    side.sets.every((id) => sets.hasAddress(id, address)) &&
    !side.notSets.some((id) => sets.hasAddress(id, address)) &&
    portMatches(side, address, port, protocol, sets)
  );
}

/** IP protocol numbers of TCP, UDP, SCTP: those with ports that a rule can state. */
const PORT_PROTOCOLS: readonly number[] = [6, 17, 132];

function portMatches(side: RuleSide, address: IpAddress, port: number | undefined, protocol: number, sets: SetLookup): boolean {
  const { ports, portSets, notPorts = [], notPortSets = [] } = side;
  const isStated = ports.length > 0 || portSets.length > 0;
  const isDenied = notPorts.length > 0 || notPortSets.length > 0;
  // A port that is not known is in no list, positive or negative; that of a protocol without ports is surely not in a negative one.
  if (port === undefined) return !isStated && (!isDenied || !PORT_PROTOCOLS.includes(protocol));
  if (isStated && !inRanges(ports, port) && !portSets.some((id) => sets.hasAddressPort(id, address, protocol, port))) return false;
  return !inRanges(notPorts, port) && !notPortSets.some((id) => sets.hasAddressPort(id, address, protocol, port));
}

function inRanges(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some(({ first, last }) => first <= port && port <= last);
}
