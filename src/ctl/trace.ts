/**
 * Which tier, policy and rule decides on a connection, at each end, from records as the server has them.
 *
 * Verdicts come from the evaluator that the records are tested with; the chain beside them names each policy that was asked on the way.
 */
import {
  type Endpoint,
  type HostEndpoint,
  type Policy,
  type RecordKey,
  type RecordValue,
  type Rule,
  type RuleSide,
  recordKey,
  type SetShard,
  type Stack,
} from "../model/record.ts";
import { recordName } from "../model/record-name.ts";
import type { IpAddress } from "../net/ip.ts";
import { type Direction, evaluate, type Packet, ruleMatches, type SetLookup } from "../policy/evaluate.ts";
import { setsOfShards } from "../policy/shard-sets.ts";
import { wholeStack } from "../policy/stack-lists.ts";
import { commonAddresses } from "./policy-world.ts";
import { protocolText } from "./protocol-text.ts";
import { missOf, type TraceMiss } from "./trace-miss.ts";

/** One side of the connection. Neither an endpoint nor a host endpoint: nothing of Sedge's is there. */
export interface TraceEnd {
  /** As the person wrote it. */
  readonly text: string;
  readonly addresses: readonly IpAddress[];
  readonly owner: Endpoint | HostEndpoint | undefined;
}

/** A policy that was asked, in order, or the end of a tier. */
export interface TraceStep {
  /** "" for a profile. */
  readonly tier: string;
  /** Record key; "" for the end of a tier. */
  readonly policy: RecordKey;
  readonly outcome: "allow" | "deny" | "reject" | "pass" | "no rule matches" | "policy is not known";
  /** The rule that matched as a person wrote it, "spec.ingress[0]". */
  readonly rule?: string;
  /** What the rule says, "allow tcp from set s1 to port 80". */
  readonly says?: string;
  /** Sets of the rule that have the packet's address, or address and port. */
  readonly sets?: readonly { readonly id: string; readonly member: string }[];
  /** Of a policy of which no rule matches: whether it has any in this direction. */
  readonly hasRules?: boolean;
  /** Rules before the one that matches, or all when none does. Absent: none. */
  readonly misses?: readonly TraceMiss[];
}

export interface TraceVerdict {
  readonly end: string;
  /** Record key of whose rules were asked; "" when there is none. */
  readonly owner: RecordKey;
  readonly verdict: "allow" | "deny";
  readonly reason: string;
  readonly chain: readonly TraceStep[];
}

export interface Trace {
  readonly verdict: "allow" | "deny";
  readonly packet: Packet;
  readonly egress: TraceVerdict;
  readonly ingress: TraceVerdict;
}

export interface TraceRecords {
  readonly stacks: ReadonlyMap<RecordKey, Stack>;
  readonly policies: ReadonlyMap<RecordKey, Policy>;
  readonly sets: SetLookup;
  /** What a set is made of, in words, by its id. */
  readonly about: ReadonlyMap<string, string>;
}

export function traceRecords(values: Iterable<RecordValue>, about: ReadonlyMap<string, string> = new Map()): TraceRecords {
  const stacks = new Map<RecordKey, Stack>();
  const policies = new Map<RecordKey, Policy>();
  const shards: SetShard[] = [];
  const all = [...values];
  const lists = new Map(all.flatMap((value) => (value.kind === "policy-list" ? [[recordKey(value), value] as const] : [])));
  for (const value of all) {
    if (value.kind === "stack")
      stacks.set(
        recordKey(value),
        wholeStack(value, (key) => lists.get(key)),
      );
    else if (value.kind === "policy") policies.set(`policy/${value.policyKind}/${value.namespace}/${value.name}`, value);
    else if (value.kind === "set") shards.push(value);
  }
  return { stacks, policies, sets: setsOfShards(shards), about };
}

export interface TraceQuestion {
  readonly from: TraceEnd;
  readonly to: TraceEnd;
  /** IP protocol number. */
  readonly protocol: number;
  readonly port: number | undefined;
  /** The source is the node that the destination pod is on. */
  readonly isOwnNode: boolean;
}

/** undefined: the ends have no address of the same family. */
export function trace(records: TraceRecords, { from, to, protocol, port, isOwnNode }: TraceQuestion): Trace | undefined {
  const addresses = commonAddresses(from.addresses, to.addresses);
  if (addresses === undefined) return undefined;
  const packet: Packet = { sourceAddress: addresses.source, destinationAddress: addresses.destination, protocol, destinationPort: port };
  const isSelf = from.owner?.kind === "endpoint" && to.owner?.kind === "endpoint" && ownerKey(from) === ownerKey(to);
  const self = isSelf ? `${from.text} reaches itself without leaving` : undefined;
  const egress = self === undefined ? verdictAt(records, from, "egress", packet) : fixed(from, self);
  const nearby = isOwnNode ? `${from.text} is the node of ${to.text}: a node always reaches its own pods` : undefined;
  const reason = self ?? nearby;
  const ingress = reason === undefined ? verdictAt(records, to, "ingress", packet) : fixed(to, reason);
  return { verdict: egress.verdict === "allow" && ingress.verdict === "allow" ? "allow" : "deny", packet, egress, ingress };
}

function verdictAt(records: TraceRecords, end: TraceEnd, direction: Direction, packet: Packet): TraceVerdict {
  const { owner, text } = end;
  if (owner === undefined) return fixed(end, `${text} is no endpoint that the server knows: no policy applies there`);
  if (owner.stack === "") return fixed(end, `no policy applies to ${recordName(ownerKey(end))}`);
  const stack = records.stacks.get(owner.stack);
  if (stack === undefined) return { ...fixed(end, `${owner.stack} of ${recordName(ownerKey(end))} is not known to the server`), verdict: "deny" };
  const decision = evaluate({ stack, policy: (key) => records.policies.get(key), sets: records.sets, direction, packet });
  const chain = chainOf(records, stack, direction, packet);
  const head = { end: text, owner: ownerKey(end), verdict: decision.action, chain };
  const done = decision.action === "allow" ? "allowed" : decision.isRejected === true ? "rejected" : "denied";
  switch (decision.by.kind) {
    case "rule": {
      const { tier, policy, origin } = decision.by;
      return { ...head, reason: `${done} by spec.${direction}[${origin}] of ${recordName(policy)}${tier === "" ? "" : ` (tier ${tier})`}` };
    }
    case "tier-default":
      return {
        ...head,
        reason: `${done} at the end of tier ${decision.by.tier}: no ${direction} rule of ${decision.by.policies.map(recordName).join(", ")} matches`,
      };
    case "missing-policy":
      return { ...head, reason: `${done}: ${recordName(decision.by.policy)} applies and the server does not know it` };
    case "no-match":
      if (decision.action === "deny")
        return { ...head, reason: `${done}: ${recordName(ownerKey(end))} is there, and no policy or profile of it allows ${direction}` };
      return { ...head, reason: `${done}: no policy decides ${direction}` };
    case "no-policy":
      return { ...head, reason: `${done}: no policy applies` };
  }
}

/** The policies in the order in which they are asked, up to the one that decides. */
function chainOf(records: TraceRecords, stack: Stack, direction: Direction, packet: Packet): TraceStep[] {
  const steps: TraceStep[] = [];
  const isDecided = ({ outcome }: TraceStep): boolean => outcome !== "no rule matches" && outcome !== "pass";
  for (const tier of stack.tiers) {
    if (tier[direction].length === 0) continue;
    let last: TraceStep | undefined;
    for (const key of tier[direction]) {
      last = stepOf(records, { tier: tier.name, key, direction, packet });
      steps.push(last);
      if (last.outcome !== "no rule matches") break;
    }
    if (last !== undefined && isDecided(last)) return steps;
    if (last?.outcome === "pass") continue;
    const end: TraceStep = { tier: tier.name, policy: "", outcome: tier.defaultAction };
    steps.push(end);
    if (isDecided(end)) return steps;
  }
  for (const key of stack.profiles ?? []) {
    const step = stepOf(records, { tier: "", key, direction, packet });
    steps.push(step);
    if (step.outcome !== "no rule matches") return steps;
  }
  return steps;
}

interface Asked {
  readonly tier: string;
  readonly key: RecordKey;
  readonly direction: Direction;
  readonly packet: Packet;
}

function stepOf({ policies, sets, about }: TraceRecords, { tier, key, direction, packet }: Asked): TraceStep {
  const policy = policies.get(key);
  if (policy === undefined) return { tier, policy: key, outcome: "policy is not known" };
  const at = policy[direction].findIndex((candidate) => candidate.action !== "log" && ruleMatches(candidate, packet, sets));
  const rule = policy[direction][at];
  const passedOver = at === -1 ? policy[direction] : policy[direction].slice(0, at);
  const misses = passedOver.flatMap((each) => missOf(each, { direction, packet, sets, about }) ?? []);
  const more = misses.length === 0 ? {} : { misses };
  if (rule === undefined || rule.action === "log") return { tier, policy: key, outcome: "no rule matches", hasRules: policy[direction].length > 0, ...more };
  return { tier, policy: key, outcome: rule.action, rule: `spec.${direction}[${rule.origin}]`, says: ruleText(rule), sets: matchedSets(rule, packet), ...more };
}

/** The rule matches, so the packet is in every set that it states. */
function matchedSets({ source, destination }: Rule, packet: Packet): { id: string; member: string }[] {
  const { sourceAddress, destinationAddress, protocol, destinationPort } = packet;
  return [
    ...source.sets.map((id) => ({ id, member: sourceAddress })),
    ...destination.sets.map((id) => ({ id, member: destinationAddress })),
    ...(destinationPort === undefined || isInRange(destination, destinationPort) ? [] : destination.portSets).map((id) => ({
      id,
      member: `${destinationAddress},${protocolText(protocol)}:${destinationPort ?? ""}`,
    })),
  ];
}

function isInRange({ ports }: RuleSide, port: number): boolean {
  return ports.some(({ first, last }) => first <= port && port <= last);
}

/** "allow tcp from set s1 to port 80": as the record states it, "not" before what is excluded. */
export function ruleText(rule: Rule): string {
  const name = rule.name === undefined ? "" : ` (${rule.name})`;
  const version = rule.ipVersion === undefined ? "" : ` IPv${rule.ipVersion}`;
  const not = rule.notProtocol === undefined ? "" : ` not ${protocolText(rule.notProtocol)}`;
  const icmp = rule.icmp === undefined ? "" : ` type ${rule.icmp.type}${rule.icmp.code === undefined ? "" : ` code ${rule.icmp.code}`}`;
  const notIcmp = rule.notIcmp === undefined ? "" : ` not type ${rule.notIcmp.type}${rule.notIcmp.code === undefined ? "" : ` code ${rule.notIcmp.code}`}`;
  return `${rule.action}${name}${version} ${protocolText(rule.protocol)}${not}${icmp}${notIcmp} from ${sideText(rule.source)} to ${sideText(rule.destination)}`;
}

function sideText({ nets, notNets, sets, notSets, ports, portSets, notPorts = [], notPortSets = [] }: RuleSide): string {
  const list = (word: string, entries: readonly string[]): string[] => (entries.length === 0 ? [] : [`${word} ${entries.join(", ")}`]);
  const rangeText = ({ first, last }: { readonly first: number; readonly last: number }): string => (first === last ? `${first}` : `${first}-${last}`);
  const parts = [
    ...list("net", nets),
    ...list("not net", notNets),
    ...list("set", sets),
    ...list("not set", notSets),
    ...list("port", [...ports.map(rangeText), ...portSets.map((id) => `of set ${id}`)]),
    ...list("not port", [...notPorts.map(rangeText), ...notPortSets.map((id) => `of set ${id}`)]),
  ];
  return parts.length === 0 ? "anywhere" : parts.join(" and ");
}

function ownerKey({ owner }: TraceEnd): RecordKey {
  if (owner === undefined) return "";
  return owner.kind === "endpoint" ? `endpoint/${owner.namespace}/${owner.pod}` : `host/${owner.name}`;
}

function fixed(end: TraceEnd, reason: string): TraceVerdict {
  return { end: end.text, owner: ownerKey(end), verdict: "allow", reason, chain: [] };
}
