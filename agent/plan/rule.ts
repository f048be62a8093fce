/**
 * One policy rule as nftables rules.
 *
 * A rule is an AND of ORs. What nft cannot say in one rule becomes several with the same verdict: one for each family (when anything names an
 * address), and one for each way to satisfy a side's ports (a range, or a named-port set). No marks: each nft rule stands alone, so a rule's effect
 * does not depend on what ran before it.
 * Invariant: an unknown never widens what passes. A set that is not understood in whole makes the rule a drop, unless all it could do is allow less.
 */
import { assertNever } from "../../src/model/event.ts";
import type { PortRange, Rule, RuleSide, SetType } from "../../src/model/record.ts";
import { type Cidr, cidrLength, cidrVersion } from "../../src/net/cidr.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import { setName } from "./names.ts";
import { mergeElements } from "./nft/intervals.ts";
import type { NftField, NftMatch, NftRule, NftStatement } from "./nft/ruleset.ts";

/** What the planner knows of an address set. `type` undefined: no shard of it is in the view, it is empty. */
export interface SetFacts {
  readonly type: SetType | undefined;
  /** A shard exists that cannot be understood: members are missing here. */
  readonly isBroken: boolean;
}

export interface RuleContext {
  findSet(id: string): SetFacts;
  /** Reported to the server: why a rule drops where it should not. */
  fail(reason: string): void;
  /** A set that the rendered rule looks into. */
  use(id: string, type: SetType): void;
}

type End = "source" | "destination";
type Alternative = readonly NftMatch[];

const PORT_PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [6, "tcp"],
  [17, "udp"],
  [132, "sctp"],
]);
const PROTOCOL_NAMES: ReadonlyMap<number, string> = new Map([...PORT_PROTOCOLS, [1, "icmp"], [58, "ipv6-icmp"]]);

/** A flood of logged packets must not take the node with it. */
const LOG_LIMIT: NftStatement = { kind: "limit", rate: 100, per: "second", burst: 200 };

/** The nft rules of one rule, in order; `pass` is rendered as `return`. */
export function renderRule(rule: Rule, context: RuleContext): readonly NftRule[] {
  const comment = `rule ${rule.origin}`;
  const problem = unrenderedCondition(rule) ?? setProblem(rule, context);
  if (problem !== undefined) {
    context.fail(`rule ${rule.origin}: ${problem}; it drops what reaches it`);
    return rule.action === "log" ? [] : [{ statements: [{ kind: "drop" }], comment: `${comment}: not understood` }];
  }
  const verdict = verdictStatements(rule);
  const rules: NftRule[] = [];
  for (const version of namesAddresses(rule) ? ([4, 6] as const) : [undefined]) {
    const addresses = addressMatches(rule, version, context);
    if (addresses === undefined) continue;
    for (const source of portAlternatives(rule, "source", version, context)) {
      for (const destination of portAlternatives(rule, "destination", version, context)) {
        const matches = [...addresses, ...source, ...destination];
        const family: NftMatch[] =
          version === undefined || matches.some(isOfFamily) ? [] : [{ kind: "match", field: "meta nfproto", value: version === 4 ? "ipv4" : "ipv6" }];
        rules.push({ statements: [...family, ...protocolMatch(rule, matches), ...matches, ...verdict], comment });
      }
    }
  }
  return rules;
}

/** A condition that is not rendered yet: without it the rule would match more than it says. */
function unrenderedCondition(rule: Rule): string | undefined {
  const { ipVersion, notProtocol, icmp, notIcmp, source, destination } = rule;
  if (ipVersion !== undefined) return "ipVersion is not rendered";
  if (notProtocol !== undefined) return "notProtocol is not rendered";
  if (icmp !== undefined || notIcmp !== undefined) return "ICMP types are not rendered";
  const hasNotPorts = [source, destination].some(({ notPorts = [], notPortSets = [] }) => notPorts.length + notPortSets.length > 0);
  return hasNotPorts ? "notPorts are not rendered" : undefined;
}

function setProblem(rule: Rule, context: RuleContext): string | undefined {
  for (const side of [rule.source, rule.destination]) {
    for (const id of [...side.sets, ...side.notSets]) {
      const { type } = context.findSet(id);
      if (type === "address-port") return `set ${id} holds ports where addresses are wanted`;
    }
    for (const id of side.portSets) {
      const { type } = context.findSet(id);
      if (type !== undefined && type !== "address-port") return `set ${id} holds no ports`;
    }
    const broken = [...side.sets, ...side.portSets].find((id) => context.findSet(id).isBroken);
    if (broken !== undefined && rule.action !== "allow") return `members of set ${broken} are not understood`;
    const brokenNot = side.notSets.find((id) => context.findSet(id).isBroken);
    if (brokenNot !== undefined) return `members of set ${brokenNot} are not understood`;
  }
  return undefined;
}

function verdictStatements(rule: Rule): readonly NftStatement[] {
  switch (rule.action) {
    case "allow":
      return [{ kind: "accept" }];
    case "deny":
    case "reject":
      return [{ kind: "counter" }, { kind: "drop" }];
    case "pass":
      return [{ kind: "return" }];
    case "log":
      return [LOG_LIMIT, { kind: "log", prefix: "sedge: " }];
    default:
      return assertNever(rule.action);
  }
}

function namesAddresses({ source, destination }: Rule): boolean {
  return [source, destination].some(({ nets, notNets, sets, notSets, portSets }) => [nets, notNets, sets, notSets, portSets].some((list) => list.length > 0));
}

/** Matches of both sides' addresses in one family; undefined when no packet of the family can match. */
function addressMatches(rule: Rule, version: IpVersion | undefined, context: RuleContext): readonly NftMatch[] | undefined {
  if (version === undefined) return [];
  const source = sideMatches(rule.source, addressField("source", version), version, context);
  const destination = sideMatches(rule.destination, addressField("destination", version), version, context);
  return source === undefined || destination === undefined ? undefined : [...source, ...destination];
}

function sideMatches(side: RuleSide, field: NftField, version: IpVersion, context: RuleContext): readonly NftMatch[] | undefined {
  const matches: NftMatch[] = [];
  if (side.nets.length > 0) {
    const nets = side.nets.filter((net) => cidrVersion(net) === version);
    if (nets.length === 0) return undefined;
    if (!nets.some(isEverything)) matches.push(netMatch(field, nets, version, false));
  }
  const notNets = side.notNets.filter((net) => cidrVersion(net) === version);
  if (notNets.some(isEverything)) return undefined;
  if (notNets.length > 0) matches.push(netMatch(field, notNets, version, true));
  for (const [ids, negate] of [
    [side.sets, false],
    [side.notSets, true],
  ] as const) {
    for (const id of ids) {
      const type = context.findSet(id).type ?? "address";
      context.use(id, type);
      matches.push({ kind: "lookup", fields: [field], set: setName(id, type, version), ...(negate ? { negate } : {}) });
    }
  }
  return matches;
}

function netMatch(field: NftField, nets: readonly Cidr[], version: IpVersion, negate: boolean): NftMatch {
  const merged = mergeElements(
    { name: "", key: [version === 4 ? "ipv4_addr" : "ipv6_addr"], intervals: true },
    nets.map((key) => ({ key })),
  );
  const values = merged.map(({ key }) => key);
  const [first] = values;
  if (values.length === 1 && first !== undefined) return { kind: "match", field, value: first, ...(negate ? { op: "!=" as const } : {}) };
  return { kind: "match-any", field, values, ...(negate ? { negate } : {}) };
}

/** Ways to satisfy one side's ports: the ranges, or any of the named-port sets. One empty way when nothing is stated. */
function portAlternatives(rule: Rule, end: End, version: IpVersion | undefined, context: RuleContext): readonly Alternative[] {
  const { ports, portSets } = rule[end];
  if (ports.length === 0 && portSets.length === 0) return [[]];
  const alternatives: Alternative[] = [];
  const word = end === "source" ? "sport" : "dport";
  const ranges = mergePorts(ports).map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`));
  if (ranges.length > 0) {
    const protocol = PORT_PROTOCOLS.get(rule.protocol) ?? "th";
    const field = `${protocol} ${word}` as NftField;
    const [only] = ranges;
    alternatives.push([ranges.length === 1 && only !== undefined ? { kind: "match", field, value: only } : { kind: "match-any", field, values: ranges }]);
  }
  if (version === undefined) return alternatives;
  for (const id of portSets) {
    context.use(id, "address-port");
    alternatives.push([{ kind: "lookup", fields: [addressField(end, version), "meta l4proto", `th ${word}`], set: setName(id, "address-port", version) }]);
  }
  return alternatives;
}

/** The protocol, where no port match implies it. Ports of any protocol: those of the protocols that have ports. */
function protocolMatch({ protocol }: Rule, matches: readonly NftMatch[]): readonly NftMatch[] {
  const fields = matches.flatMap((match) => (match.kind === "match" || match.kind === "match-any" ? [match.field] : match.fields));
  const name = PORT_PROTOCOLS.get(protocol);
  if (name !== undefined && fields.some((field) => field.startsWith(`${name} `))) return [];
  if (protocol !== 0) return [{ kind: "match", field: "meta l4proto", value: PROTOCOL_NAMES.get(protocol) ?? protocol }];
  return fields.some((field) => field.startsWith("th ")) ? [{ kind: "match-any", field: "meta l4proto", values: [...PORT_PROTOCOLS.values()] }] : [];
}

/** Sorted and disjoint: the kernel refuses overlapping intervals in one set. */
function mergePorts(ports: readonly PortRange[]): readonly PortRange[] {
  const merged: { first: number; last: number }[] = [];
  // A range that ends before it begins holds nothing.
  const sorted = ports.filter(({ first, last }) => first <= last).sort((a, b) => a.first - b.first);
  for (const { first, last } of sorted) {
    const previous = merged.at(-1);
    if (previous !== undefined && first <= previous.last + 1) previous.last = Math.max(previous.last, last);
    else merged.push({ first, last });
  }
  return merged;
}

function addressField(end: End, version: IpVersion): NftField {
  const word = end === "source" ? "saddr" : "daddr";
  return version === 4 ? `ip ${word}` : `ip6 ${word}`;
}

function isOfFamily(match: NftMatch): boolean {
  const fields = match.kind === "match" || match.kind === "match-any" ? [match.field] : match.fields;
  return fields.some((field) => field.startsWith("ip ") || field.startsWith("ip6 "));
}

function isEverything(net: Cidr): boolean {
  return cidrLength(net) === 0;
}
