/**
 * One policy rule as nftables rules.
 *
 * A rule is an AND of ORs. What nft cannot say in one rule becomes several with the same verdict: one for each family (when anything names an
 * address), for each way to satisfy a side's ports (a range, or a named-port set), for each of the two kernel sets of a set with addresses and prefixes,
 * and for each protocol with ports where a rule for any protocol excludes ports. No marks: each nft rule stands alone, so a rule's effect does not
 * depend on what ran before it. Large sets of prefixes, which are a kernel set for each length, are looked into in chains of the rule's own (large-sets.ts).
 * Invariant: an unknown never widens what passes. A set that is not understood in whole makes the rule a drop, unless all it could do is allow less.
 */
import { assertNever } from "../../src/model/event.ts";
import type { IcmpMatch, Rule, SetType } from "../../src/model/record.ts";
import { type Cidr, cidrLength, cidrVersion } from "../../src/net/cidr.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import { type LargeSetCondition, largeSetChains, type RuleChain } from "./large-sets.ts";
import { commentText, logPrefixText, setName } from "./names.ts";
import { mergeElements } from "./nft/intervals.ts";
import type { NftField, NftMatch, NftRule, NftStatement } from "./nft/ruleset.ts";
import { ADDRESS_TYPES } from "./nft/values.ts";
import { addressField, type End, hasNotPorts, hasPorts, isPortProtocol, PORT_PROTOCOL_NAMES, PORT_PROTOCOLS, portAlternatives } from "./rule-ports.ts";

/** What the planner knows of an address set. No types: no shard of it is in the view, it is empty. */
export interface SetFacts {
  readonly types: readonly SetType[];
  /** A shard exists that cannot be understood: members are missing here. */
  readonly isBroken: boolean;
  /** Of a large set of prefixes, which the kernel holds by length (address-sets.ts). */
  readonly lengths?: SetLengths;
}

/** Prefix lengths that occur, the longest first. */
export type SetLengths = Readonly<Record<IpVersion, readonly number[]>>;

/** A set as a rule looks into it: both families' kernel sets, and of prefixes in which of their two forms. */
export interface UsedSet {
  readonly id: string;
  readonly type: SetType;
  readonly isByLength: boolean;
}

export interface RuleContext {
  findSet(id: string): SetFacts;
  /** Reported to the server: why a rule drops where it should not. */
  fail(reason: string): void;
  /** A set that the rendered rule looks into. */
  use(set: UsedSet): void;
  /** Name for a chain of the rule's own. */
  chainName(narrowedTo: string | undefined, version: IpVersion): string;
  /** Of lines of Log rules that have none of their own, without the colon. */
  readonly logPrefix: string;
}

/** What verdicts do besides deciding; policies are rendered once for each variant that a stack wants. */
export interface RuleVariant {
  /** What is denied is logged first. */
  readonly logsDenied: boolean;
  /** What is allowed is not tracked. */
  readonly isUntracked: boolean;
  /** What is denied is told to the sender, whether the rule asks for it or not. */
  readonly rejects: boolean;
}

export const PLAIN: RuleVariant = { logsDenied: false, isUntracked: false, rejects: false };

type Alternative = readonly NftMatch[];
/** A rule of one protocol; 0 with `exceptPorts`: every protocol without ports. */
interface Narrowed {
  readonly rule: Rule;
  readonly exceptPorts: boolean;
}

const TCP = 6;
const ICMP = 1;
const ICMPV6 = 58;
const PROTOCOL_NAMES: ReadonlyMap<number, string> = new Map([...PORT_PROTOCOLS, [ICMP, "icmp"], [ICMPV6, "ipv6-icmp"]]);

/** A flood of logged packets must not take the node with it. */
const LOG_LIMIT: NftStatement = { kind: "limit", rate: 100, per: "second", burst: 200 };
const COUNTER: NftStatement = { kind: "counter" };

/** What logs a packet that is about to be denied. */
export const LOG_DENIED: readonly NftStatement[] = [LOG_LIMIT, { kind: "log", prefix: "sedge denied: " }];

export interface RenderedRule {
  /** In order; `pass` is rendered as `return`. */
  readonly rules: readonly NftRule[];
  /** Of the rule's own, which they jump to. */
  readonly chains: readonly RuleChain[];
}

/** The nft rules of one rule. */
export function renderRule(written: Rule, context: RuleContext, variant: RuleVariant = PLAIN): RenderedRule {
  const rule: Rule = variant.rejects && written.action === "deny" ? { ...written, action: "reject" } : written;
  const comment = commentText(`rule ${rule.origin}${rule.name === undefined ? "" : ` ${rule.name}`}`);
  const problem = icmpProblem(rule) ?? setProblem(rule, context);
  if (problem !== undefined) {
    context.fail(`rule ${rule.origin}: ${problem}; it drops what reaches it`);
    const drop: NftRule = { statements: [COUNTER, { kind: "drop" }], comment: commentText(`rule ${rule.origin}: not understood`) };
    return { rules: rule.action === "log" ? [] : [drop], chains: [] };
  }
  const rules: NftRule[] = [];
  const chains: RuleChain[] = [];
  for (const narrowed of narrow(rule)) {
    for (const version of families(narrowed.rule)) {
      const alternatives = matchAlternatives(narrowed, version, context);
      const decisions = verdicts(narrowed.rule, context, variant);
      const large = version === undefined ? [] : largeSetConditions(narrowed.rule, version, context);
      // Nothing is in a set that is wanted.
      if (large.some(({ lookups, negate }) => lookups.length === 0 && !negate)) continue;
      if (alternatives.length === 0 || version === undefined || large.length === 0) {
        for (const matches of alternatives) for (const decision of decisions) rules.push({ statements: [...matches, ...decision], comment });
        continue;
      }
      const isNarrowed = narrowed.rule.protocol !== rule.protocol;
      const name = context.chainName(isNarrowed ? (PROTOCOL_NAMES.get(narrowed.rule.protocol) ?? String(narrowed.rule.protocol)) : undefined, version);
      for (const matches of alternatives) rules.push({ statements: [...matches, { kind: "jump", chain: name }], comment });
      chains.push(
        ...largeSetChains(
          name,
          large,
          decisions.map((statements) => ({ statements, comment })),
        ),
      );
    }
  }
  return { rules, chains };
}

/** The statements of a deny or reject, for a packet of `protocol` (0: any but TCP). Used for rules and for the end of a tier. */
export function denyStatements(action: "deny" | "reject", protocol: number): readonly NftStatement[] {
  if (action === "deny") return [COUNTER, { kind: "drop" }];
  return [COUNTER, { kind: "reject", reason: protocol === TCP ? "tcp reset" : "icmpx admin-prohibited" }];
}

function icmpProblem({ protocol, icmp, notIcmp }: Rule): string | undefined {
  if ((icmp === undefined && notIcmp === undefined) || protocol === ICMP || protocol === ICMPV6) return undefined;
  return `states ICMP types for protocol ${protocol}`;
}

function setProblem(rule: Rule, context: RuleContext): string | undefined {
  for (const side of [rule.source, rule.destination]) {
    const notPortSets = side.notPortSets ?? [];
    for (const id of [...side.sets, ...side.notSets]) {
      if (context.findSet(id).types.includes("address-port")) return `set ${id} holds ports where addresses are wanted`;
    }
    for (const id of [...side.portSets, ...notPortSets]) {
      if (context.findSet(id).types.some((type) => type !== "address-port")) return `set ${id} holds no ports`;
    }
    const broken = [...side.sets, ...side.portSets].find((id) => context.findSet(id).isBroken);
    if (broken !== undefined && rule.action !== "allow") return `members of set ${broken} are not understood`;
    const brokenNot = [...side.notSets, ...notPortSets].find((id) => context.findSet(id).isBroken);
    if (brokenNot !== undefined) return `members of set ${brokenNot} are not understood`;
  }
  return undefined;
}

/** Where one nft rule cannot hold for all protocols, the rule of each. */
function narrow(rule: Rule): readonly Narrowed[] {
  const whole: Narrowed = { rule, exceptPorts: false };
  if (rule.protocol !== 0) return rule.protocol === rule.notProtocol ? [] : [whole];
  const of = (protocol: number): readonly Narrowed[] => (protocol === rule.notProtocol ? [] : [{ rule: { ...rule, protocol }, exceptPorts: false }]);
  if (hasNotPorts(rule)) {
    const withPorts = [...PORT_PROTOCOLS.keys()].flatMap(of);
    return hasPorts(rule) ? withPorts : [...withPorts, { rule, exceptPorts: true }];
  }
  return rule.action === "reject" ? [...of(TCP), whole] : [whole];
}

/** Ways to satisfy the rule in one family, but for its large sets. */
function matchAlternatives({ rule, exceptPorts }: Narrowed, version: IpVersion | undefined, context: RuleContext): readonly Alternative[] {
  const icmps = icmpAlternatives(rule);
  const sources = endAlternatives(rule, "source", version, context);
  const destinations = endAlternatives(rule, "destination", version, context);
  const alternatives: Alternative[] = [];
  for (const icmp of icmps) {
    for (const [source, destination] of pairs(sources, destinations)) {
      for (const [sourcePort, destinationPort] of pairs(
        portAlternatives(rule, "source", version, context),
        portAlternatives(rule, "destination", version, context),
      )) {
        const matches = [...source, ...destination, ...sourcePort, ...destinationPort, ...icmp];
        const family: NftMatch[] =
          version === undefined || matches.some(isOfFamily) ? [] : [{ kind: "match", field: "meta nfproto", value: version === 4 ? "ipv4" : "ipv6" }];
        alternatives.push([...family, ...protocolMatches(rule, exceptPorts, matches), ...matches]);
      }
    }
  }
  return alternatives;
}

/** Families that the rule can match; [undefined]: both, with one nft rule. */
function families(rule: Rule): readonly (IpVersion | undefined)[] {
  const ofIcmp = rule.icmp === undefined && rule.notIcmp === undefined ? undefined : rule.protocol === ICMP ? 4 : 6;
  const { ipVersion } = rule;
  if (ipVersion !== undefined) return ofIcmp === undefined || ofIcmp === ipVersion ? [ipVersion] : [];
  if (ofIcmp !== undefined) return [ofIcmp];
  return namesAddresses(rule) ? [4, 6] : [undefined];
}

function verdicts(rule: Rule, { logPrefix }: RuleContext, variant: RuleVariant): readonly (readonly NftStatement[])[] {
  switch (rule.action) {
    case "allow":
      return [[COUNTER, ...(variant.isUntracked ? [{ kind: "notrack" } as const] : []), { kind: "accept" }]];
    case "deny":
    case "reject":
      return [...(variant.logsDenied ? [LOG_DENIED] : []), denyStatements(rule.action, rule.protocol)];
    case "pass":
      return [[COUNTER, { kind: "return" }]];
    case "log":
      return [[LOG_LIMIT, { kind: "log", prefix: logPrefixText(rule.logPrefix ?? logPrefix) }]];
    default:
      return assertNever(rule.action);
  }
}

function namesAddresses({ source, destination }: Rule): boolean {
  return [source, destination].some(({ nets, notNets, sets, notSets, portSets, notPortSets = [] }) =>
    [nets, notNets, sets, notSets, portSets, notPortSets].some((list) => list.length > 0),
  );
}

/** Ways to satisfy one side's addresses in one family, but for its large sets; none when no packet of the family can match. */
function endAlternatives(rule: Rule, end: End, version: IpVersion | undefined, context: RuleContext): readonly Alternative[] {
  if (version === undefined) return [[]];
  const side = rule[end];
  const field = addressField(end, version);
  const matches: NftMatch[] = [];
  if (side.nets.length > 0) {
    const nets = side.nets.filter((net) => cidrVersion(net) === version);
    if (nets.length === 0) return [];
    if (!nets.some(isEverything)) matches.push(netMatch(field, nets, version, false));
  }
  const notNets = side.notNets.filter((net) => cidrVersion(net) === version);
  if (notNets.some(isEverything)) return [];
  if (notNets.length > 0) matches.push(netMatch(field, notNets, version, true));
  for (const id of side.notSets) {
    if (isLarge(rule, id, context)) continue;
    for (const set of kernelSets(id, version, context)) matches.push({ kind: "lookup", fields: [field], set, negate: true });
  }
  let alternatives: readonly Alternative[] = [matches];
  for (const id of side.sets) {
    if (isLarge(rule, id, context)) continue;
    const sets = kernelSets(id, version, context);
    alternatives = alternatives.flatMap((before) => sets.map((set): Alternative => [...before, { kind: "lookup", fields: [field], set }]));
  }
  return alternatives;
}

/** Addresses and prefixes of one set are two sets in the kernel: addresses stay in a hash table, whose members come and go one by one. */
function kernelSets(id: string, version: IpVersion, context: RuleContext): readonly string[] {
  const { types } = context.findSet(id);
  return (types.length === 0 ? (["address"] as const) : types).map((type) => {
    context.use({ id, type, isByLength: false });
    return setName(id, type, version);
  });
}

/**
 * `pass` is a `return` that leaves the tier, which it could not from a chain of the rule's own: such a rule looks into the interval set, whatever its size.
 */
function isLarge({ action }: Rule, id: string, context: RuleContext): boolean {
  return action !== "pass" && context.findSet(id).lengths !== undefined;
}

/** Conditions on the large sets of a rule in one family. */
function largeSetConditions(rule: Rule, version: IpVersion, context: RuleContext): readonly LargeSetCondition[] {
  const conditions: LargeSetCondition[] = [];
  for (const end of ["source", "destination"] as const) {
    const field = addressField(end, version);
    const { sets, notSets } = rule[end];
    for (const [ids, negate] of [
      [notSets, true],
      [sets, false],
    ] as const) {
      for (const id of ids) {
        if (!isLarge(rule, id, context)) continue;
        const { types, lengths } = context.findSet(id);
        const others = types.filter((type) => type !== "prefix");
        // Also where no packet of this family can be in it: a start learns from the kernel's sets which form a set has.
        context.use({ id, type: "prefix", isByLength: true });
        for (const type of others) context.use({ id, type, isByLength: false });
        const lookups: NftMatch[] = [
          ...others.map((type) => ({ kind: "lookup" as const, fields: [field], set: setName(id, type, version) })),
          ...(lengths?.[version] ?? []).map((length) => ({
            kind: "lookup" as const,
            fields: [field],
            prefixLength: length,
            set: setName(id, "prefix", version, length),
          })),
        ];
        // Everything is outside of a set of nothing.
        if (lookups.length > 0 || !negate) conditions.push({ lookups, negate });
      }
    }
  }
  return conditions;
}

function netMatch(field: NftField, nets: readonly Cidr[], version: IpVersion, negate: boolean): NftMatch {
  const merged = mergeElements(
    { name: "", key: [ADDRESS_TYPES[version]], intervals: true },
    nets.map((key) => ({ key })),
  );
  const values = merged.map(({ key }) => key);
  const [first] = values;
  if (values.length === 1 && first !== undefined) return { kind: "match", field, value: first, ...(negate ? { op: "!=" as const } : {}) };
  return { kind: "match-any", field, values, ...(negate ? { negate } : {}) };
}

/** Ways to satisfy the ICMP part. "Not this type and code" is: another type, or another code of this type. */
function icmpAlternatives({ protocol, icmp, notIcmp }: Rule): readonly Alternative[] {
  const word = protocol === ICMP ? "icmp" : "icmpv6";
  const is = (part: "type" | "code", value: number, negate = false): NftMatch => ({
    kind: "match",
    field: `${word} ${part}`,
    value,
    ...(negate ? { op: "!=" as const } : {}),
  });
  const wanted = icmp === undefined ? [] : icmpMatches(icmp, is);
  if (notIcmp === undefined) return [wanted];
  if (notIcmp.code === undefined) return [[...wanted, is("type", notIcmp.type, true)]];
  return [
    [...wanted, is("type", notIcmp.type, true)],
    [...wanted, is("type", notIcmp.type), is("code", notIcmp.code, true)],
  ];
}

function icmpMatches({ type, code }: IcmpMatch, is: (part: "type" | "code", value: number) => NftMatch): Alternative {
  return code === undefined ? [is("type", type)] : [is("type", type), is("code", code)];
}

/** The protocol, where no other match implies it. */
function protocolMatches({ protocol, notProtocol }: Rule, exceptPorts: boolean, matches: readonly NftMatch[]): readonly NftMatch[] {
  const fields = matches.flatMap((match) => (match.kind === "match" || match.kind === "match-any" ? [match.field] : match.fields));
  if (protocol !== 0) {
    const name = PROTOCOL_NAMES.get(protocol);
    const implied = protocol === ICMPV6 ? "icmpv6" : name;
    const comesFirst = fields.find((field) => field.startsWith("th ") || field.startsWith(`${implied} `));
    if (implied !== undefined && comesFirst?.startsWith(`${implied} `) === true) return [];
    return [{ kind: "match", field: "meta l4proto", value: name ?? protocol }];
  }
  const not: readonly NftMatch[] =
    notProtocol === undefined ? [] : [{ kind: "match", field: "meta l4proto", op: "!=", value: PROTOCOL_NAMES.get(notProtocol) ?? notProtocol }];
  if (exceptPorts)
    return [{ kind: "match-any", field: "meta l4proto", values: PORT_PROTOCOL_NAMES, negate: true }, ...(isPortProtocol(notProtocol) ? [] : not)];
  // Ports of any protocol: those of the protocols that have ports.
  if (!fields.some((field) => field.startsWith("th "))) return not;
  return [{ kind: "match-any", field: "meta l4proto", values: PORT_PROTOCOL_NAMES }, ...(isPortProtocol(notProtocol) ? not : [])];
}

function pairs<T>(left: readonly T[], right: readonly T[]): readonly (readonly [T, T])[] {
  return left.flatMap((a) => right.map((b) => [a, b] as const));
}

function isOfFamily(match: NftMatch): boolean {
  const fields = match.kind === "match" || match.kind === "match-any" ? [match.field] : match.fields;
  return fields.some((field) => /^(ip|ip6|icmp|icmpv6) /.test(field));
}

function isEverything(net: Cidr): boolean {
  return cidrLength(net) === 0;
}
