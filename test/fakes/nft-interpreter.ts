/**
 * Runs one packet through a ruleset of the nftables model, as the kernel would: base chains of a hook by priority, jumps, returns, verdict maps.
 *
 * For tests of the planner: what its rules decide is compared with what the policy says. Only what the planner uses is known; anything else throws.
 */
import type { NftField, NftMatch, NftRule, NftRuleset, NftStatement, NftVerdict } from "../../agent/plan/nft/ruleset.ts";
import { type ByteRange, compareBytes, FIELD_TYPES, keyRanges, prefixMask, valueBytes } from "../../agent/plan/nft/values.ts";
import { cidrContains, parseCidr } from "../../src/net/cidr.ts";
import { ipBytes, parseIp } from "../../src/net/ip.ts";

export interface InterpretedPacket {
  readonly version: 4 | 6;
  readonly source: string;
  readonly destination: string;
  /** IP protocol number. */
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** A number, or nft's name of it. */
  readonly icmpType?: string | number;
  readonly icmpCode?: number;
  readonly iifname?: string;
  readonly oifname?: string;
  readonly ctState: "new" | "established" | "related" | "invalid" | "untracked";
}

/** "notrack": accepted, and not to be tracked. */
export type Outcome = "accept" | "drop" | "reject" | "masquerade" | "notrack";

/** What all base chains of a hook make of the packet together. */
export function interpretHook(ruleset: NftRuleset, hook: string, packet: InterpretedPacket): Outcome {
  const bases = [...ruleset.chains.values()]
    .filter(({ chain }) => chain.base?.hook === hook)
    .sort((a, b) => (a.chain.base?.priority ?? 0) - (b.chain.base?.priority ?? 0));
  let outcome: Outcome = "accept";
  for (const { chain } of bases) {
    const verdict = runChain(ruleset, chain.name, packet) ?? chain.base?.policy;
    if (verdict === "drop" || verdict === "reject") return verdict;
    if (verdict === "masquerade" || verdict === "notrack") outcome = verdict;
  }
  return outcome;
}

/** The packet behind the destination translation of a hook (its base chains of type nat), as later hooks see it. */
export function translated(ruleset: NftRuleset, hook: "prerouting" | "output" | "postrouting", packet: InterpretedPacket): InterpretedPacket {
  for (const { chain, rules } of ruleset.chains.values()) {
    if (chain.base?.hook !== hook || chain.base.type !== "nat") continue;
    for (const statement of rules.flatMap(({ statements }) => statements)) {
      if (statement.kind !== "nat-map") continue;
      const key = statement.fields.map((field) => fieldText(field, packet)).join(" . ");
      const address = ruleset.sets.get(statement.map)?.elements.find((element) => element.key === key)?.data;
      if (typeof address === "string") return { ...packet, [statement.nat === "dnat" ? "destination" : "source"]: address };
    }
  }
  return packet;
}

/** undefined: the chain ended without a verdict. */
function runChain(ruleset: NftRuleset, name: string, packet: InterpretedPacket): Outcome | undefined {
  const found = ruleset.chains.get(name);
  if (found === undefined) throw new Error(`jump to a missing chain ${name}`);
  for (const rule of found.rules) {
    const verdict = runRule(ruleset, rule, packet);
    if (verdict === undefined || verdict.kind === "continue") continue;
    switch (verdict.kind) {
      case "accept":
      case "drop":
        return verdict.kind;
      case "masquerade":
      case "reject":
      case "notrack":
        return verdict.kind;
      case "return":
        return undefined;
      case "goto":
        return runChain(ruleset, verdict.chain, packet);
      case "jump": {
        const inner = runChain(ruleset, verdict.chain, packet);
        if (inner !== undefined) return inner;
        break;
      }
    }
  }
  return undefined;
}

function runRule(
  ruleset: NftRuleset,
  { statements }: NftRule,
  packet: InterpretedPacket,
): NftVerdict | { readonly kind: "masquerade" | "reject" | "notrack" } | undefined {
  let isTracked = true;
  for (const statement of statements) {
    if (isMatch(statement)) {
      if (statement.kind === "vmap") return mapVerdict(ruleset, statement, packet);
      if (!matches(ruleset, statement, packet)) return undefined;
      continue;
    }
    switch (statement.kind) {
      case "counter":
      case "log":
      case "limit":
      case "set-dscp":
        continue;
      // A lone packet is over no limit.
      case "ct-count-over":
        return undefined;
      case "notrack":
        isTracked = false;
        continue;
      case "masquerade":
        return { kind: "masquerade" };
      // A hook is asked what it decides; what it translates to is `translated`.
      case "nat-map":
        return undefined;
      case "reject":
        if ((statement.reason === "tcp reset") !== (packet.protocol === 6)) throw new Error(`protocol ${packet.protocol} rejected with ${statement.reason}`);
        return { kind: "reject" };
      case "accept":
        return isTracked ? statement : { kind: "notrack" };
      case "drop":
      case "continue":
      case "return":
      case "jump":
      case "goto":
        return statement;
      default:
        throw new Error(`the interpreter does not know ${statement.kind}`);
    }
  }
  return undefined;
}

function isMatch(statement: NftStatement): statement is NftMatch {
  return statement.kind === "match" || statement.kind === "match-any" || statement.kind === "lookup" || statement.kind === "vmap";
}

function matches(ruleset: NftRuleset, match: Exclude<NftMatch, { kind: "vmap" }>, packet: InterpretedPacket): boolean {
  if (match.kind === "lookup") {
    const values = match.fields.map((field) => fieldBytes(field, packet));
    if (values.some((value) => value === undefined)) return false;
    const set = ruleset.sets.get(match.set);
    if (set === undefined) throw new Error(`lookup in a missing set ${match.set}`);
    const [only] = values;
    if (match.prefixLength !== undefined && only !== undefined && match.fields[0] !== undefined) {
      const mask = prefixMask(FIELD_TYPES[match.fields[0]], match.prefixLength);
      values[0] = only.map((byte, i) => byte & (mask[i] ?? 0));
    }
    const isMember = set.elements.some(({ key }) => keyRanges(set.set.key, key).every((range, i) => within(range, values[i])));
    return isMember !== (match.negate === true);
  }
  const values = match.kind === "match" ? [match.value] : match.values;
  const isNegated = match.kind === "match" ? match.op === "!=" : match.negate === true;
  const actual = fieldText(match.field, packet);
  if (actual === undefined) return false;
  return values.some((value) => valueMatches(match.field, String(value), actual)) !== isNegated;
}

function valueMatches(field: NftField, wanted: string, actual: string): boolean {
  if (field === "ct state") return wanted.split(",").includes(actual);
  if (wanted.endsWith("*")) return actual.startsWith(wanted.slice(0, -1));
  if (FIELD_TYPES[field] === "ipv4_addr" || FIELD_TYPES[field] === "ipv6_addr") {
    return wanted.includes("/") ? cidrContains(parseCidr(wanted), parseIp(actual)) : parseIp(wanted) === parseIp(actual);
  }
  const [range] = keyRanges([FIELD_TYPES[field]], wanted);
  const [value] = keyRanges([FIELD_TYPES[field]], actual);
  return range !== undefined && within(range, value?.from);
}

function mapVerdict(ruleset: NftRuleset, { fields, map }: Extract<NftMatch, { kind: "vmap" }>, packet: InterpretedPacket): NftVerdict | undefined {
  const found = ruleset.sets.get(map)?.elements.find(({ key }) => key === fields.map((field) => fieldText(field, packet)).join(" . "));
  return typeof found?.data === "object" ? found.data : undefined;
}

const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, "ipv6-icmp": 58, sctp: 132 };

function protocolNumber(text: string): number {
  return PROTOCOLS[text] ?? Number(text);
}

/** The field's value, undefined where the packet has no such field: the rule then does not match, negated or not. */
function fieldText(field: NftField, packet: InterpretedPacket): string | undefined {
  switch (field) {
    case "iifname":
      return packet.iifname;
    case "oifname":
      return packet.oifname;
    case "meta nfproto":
      return `ipv${packet.version}`;
    case "meta l4proto":
      return String(packet.protocol);
    case "ip saddr":
      return packet.version === 4 ? packet.source : undefined;
    case "ip daddr":
      return packet.version === 4 ? packet.destination : undefined;
    case "ip6 saddr":
      return packet.version === 6 ? packet.source : undefined;
    case "ip6 daddr":
      return packet.version === 6 ? packet.destination : undefined;
    case "ct state":
      return packet.ctState;
    case "icmp type":
    case "icmp code":
      return packet.protocol === 1 && packet.version === 4 ? icmpText(field, packet) : undefined;
    case "icmpv6 type":
    case "icmpv6 code":
      return packet.protocol === 58 && packet.version === 6 ? icmpText(field, packet) : undefined;
    case "tcp sport":
    case "udp sport":
    case "sctp sport":
      return protocolNumber(field.split(" ")[0] ?? "") === packet.protocol ? portText(packet.sourcePort) : undefined;
    case "tcp dport":
    case "udp dport":
    case "sctp dport":
      return protocolNumber(field.split(" ")[0] ?? "") === packet.protocol ? portText(packet.destinationPort) : undefined;
    case "th sport":
    case "th dport":
      // The kernel would read whatever stands in that place.
      if (![6, 17, 132].includes(packet.protocol)) throw new Error(`${field} of protocol ${packet.protocol}`);
      return portText(field === "th sport" ? packet.sourcePort : packet.destinationPort);
    default:
      throw new Error(`the interpreter does not know the field ${field}`);
  }
}

function icmpText(field: NftField, { icmpType, icmpCode }: InterpretedPacket): string | undefined {
  const value = field.endsWith("type") ? icmpType : icmpCode;
  return value === undefined ? undefined : String(value);
}

function portText(port: number | undefined): string | undefined {
  return port === undefined ? undefined : String(port);
}

function fieldBytes(field: NftField, packet: InterpretedPacket): Uint8Array | undefined {
  const text = fieldText(field, packet);
  if (text === undefined) return undefined;
  const type = FIELD_TYPES[field];
  if (type === "ipv4_addr" || type === "ipv6_addr") return ipBytes(parseIp(text));
  if (type === "ifname") return keyRanges(["ifname"], text)[0]?.from;
  const bytes = new Uint8Array(valueBytes(type));
  const number = type === "inet_proto" ? protocolNumber(text) : Number(text);
  for (let i = 0; i < bytes.length; i++) bytes[bytes.length - 1 - i] = Math.floor(number / 256 ** i) & 0xff;
  return bytes;
}

function within({ from, to }: ByteRange, value: Uint8Array | undefined): boolean {
  return value !== undefined && compareBytes(from, value) <= 0 && compareBytes(value, to) <= 0;
}
