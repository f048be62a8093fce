/**
 * A rule of the model to the kernel's expressions, with the protocol dependencies that nft adds by itself.
 *
 * Invariant: what comes out is what nft 1.0.6 makes of `ruleText(rule)`, up to merging of adjacent loads, so `nft list`
 * prints it as that text. A dependency is stated once a rule, before the first statement that needs it.
 */
import { anonymousSet, type ElementShape } from "../../plan/nft/intervals.ts";
import type { NftElement, NftFamily, NftField, NftMatch, NftRejectReason, NftRule, NftStatement, NftValue } from "../../plan/nft/ruleset.ts";
import { compareBytes, FIELD_TYPES, isFlags, isMasked, keyText, prefixLength, prefixMask, valueBytes, valueRange } from "../../plan/nft/values.ts";
import { CMP, CT_KEY, expressionText, FIB_FLAG, FIB_RESULT, META_KEY, type NftExpression, PAYLOAD_BASE, registerOf } from "./expression.ts";

export type AnonymousSet = { readonly shape: ElementShape; readonly elements: readonly NftElement[] };

export type LoweredRule = {
  readonly expressions: readonly NftExpression[];
  /** In the order of the lookups that use them; those have `setId` 1, 2, … */
  readonly anonymousSets: readonly AnonymousSet[];
};

type Dependency = { readonly network?: "ipv4" | "ipv6" | "arp"; readonly transport?: number; readonly link?: "ether" };

type Load =
  | { readonly from: "meta" | "ct"; readonly key: number }
  | { readonly from: "payload"; readonly base: number; readonly offset: number }
  | { readonly from: "fib"; readonly result: number; readonly flags: number };

type FieldSource = Load & { readonly needs?: Dependency };

const TCP = 6;
const UDP = 17;
const SCTP = 132;
const ICMP = 1;
const ICMPV6 = 58;
const { network, transport, link } = PAYLOAD_BASE;

const FIELD_SOURCES: Readonly<Record<NftField, FieldSource>> = {
  iifname: { from: "meta", key: META_KEY.iifname },
  oifname: { from: "meta", key: META_KEY.oifname },
  "meta mark": { from: "meta", key: META_KEY.mark },
  "meta nfproto": { from: "meta", key: META_KEY.nfproto },
  "meta l4proto": { from: "meta", key: META_KEY.l4proto },
  "meta pkttype": { from: "meta", key: META_KEY.pkttype },
  "ip saddr": { from: "payload", base: network, offset: 12, needs: { network: "ipv4" } },
  "ip daddr": { from: "payload", base: network, offset: 16, needs: { network: "ipv4" } },
  "ip protocol": { from: "payload", base: network, offset: 9, needs: { network: "ipv4" } },
  "ip6 saddr": { from: "payload", base: network, offset: 8, needs: { network: "ipv6" } },
  "ip6 daddr": { from: "payload", base: network, offset: 24, needs: { network: "ipv6" } },
  "ip6 nexthdr": { from: "payload", base: network, offset: 6, needs: { network: "ipv6" } },
  "arp saddr ip": { from: "payload", base: network, offset: 14, needs: { network: "arp" } },
  "arp daddr ip": { from: "payload", base: network, offset: 24, needs: { network: "arp" } },
  "ether saddr": { from: "payload", base: link, offset: 6, needs: { link: "ether" } },
  "ether daddr": { from: "payload", base: link, offset: 0, needs: { link: "ether" } },
  "tcp sport": { from: "payload", base: transport, offset: 0, needs: { transport: TCP } },
  "tcp dport": { from: "payload", base: transport, offset: 2, needs: { transport: TCP } },
  "tcp flags": { from: "payload", base: transport, offset: 13, needs: { transport: TCP } },
  "udp sport": { from: "payload", base: transport, offset: 0, needs: { transport: UDP } },
  "udp dport": { from: "payload", base: transport, offset: 2, needs: { transport: UDP } },
  "sctp sport": { from: "payload", base: transport, offset: 0, needs: { transport: SCTP } },
  "sctp dport": { from: "payload", base: transport, offset: 2, needs: { transport: SCTP } },
  "th sport": { from: "payload", base: transport, offset: 0 },
  "th dport": { from: "payload", base: transport, offset: 2 },
  "icmp type": { from: "payload", base: transport, offset: 0, needs: { network: "ipv4", transport: ICMP } },
  "icmp code": { from: "payload", base: transport, offset: 1, needs: { network: "ipv4", transport: ICMP } },
  "icmpv6 type": { from: "payload", base: transport, offset: 0, needs: { network: "ipv6", transport: ICMPV6 } },
  "icmpv6 code": { from: "payload", base: transport, offset: 1, needs: { network: "ipv6", transport: ICMPV6 } },
  "ct state": { from: "ct", key: CT_KEY.state },
  "ct status": { from: "ct", key: CT_KEY.status },
  "ct mark": { from: "ct", key: CT_KEY.mark },
  "ct direction": { from: "ct", key: CT_KEY.direction },
  "fib daddr type": { from: "fib", result: FIB_RESULT.addrtype, flags: FIB_FLAG.daddr },
  "fib saddr type": { from: "fib", result: FIB_RESULT.addrtype, flags: FIB_FLAG.saddr },
  "fib saddr . iif oif": { from: "fib", result: FIB_RESULT.oif, flags: FIB_FLAG.saddr | FIB_FLAG.iif | FIB_FLAG.present },
  "fib saddr . mark . iif oif": {
    from: "fib",
    result: FIB_RESULT.oif,
    flags: FIB_FLAG.saddr | FIB_FLAG.mark | FIB_FLAG.iif | FIB_FLAG.present,
  },
};

const NFPROTO_VALUE = { ipv4: 2, ipv6: 10 } as const;
const ETHERTYPE = { ipv4: [0x08, 0x00], ipv6: [0x86, 0xdd], arp: [0x08, 0x06] } as const;
const ARPHRD_ETHER = [1, 0];
const COMPARISON = { "==": CMP.eq, "!=": CMP.neq, "<": CMP.lt, "<=": CMP.lte, ">": CMP.gt, ">=": CMP.gte } as const;
const LIMIT_UNIT_SECONDS = { second: 1n, minute: 60n, hour: 3_600n, day: 86_400n } as const;
const CHECKSUM_INTERNET = 1;
const IPV4_CHECKSUM_OFFSET = 10;
const MASQUERADE_FULLY_RANDOM = 0x10;
const NAT_TYPE = { snat: 0, dnat: 1 } as const;
const REJECT_UNREACH = 0;
const REJECT_TCP_RESET = 1;
const REJECT_ICMPX = 2;
const REJECTS: Readonly<Record<NftRejectReason, { readonly type: number; readonly code: number; readonly needs?: Dependency }>> = {
  "tcp reset": { type: REJECT_TCP_RESET, code: 0, needs: { transport: TCP } },
  "icmp port-unreachable": { type: REJECT_UNREACH, code: 3, needs: { network: "ipv4" } },
  "icmp admin-prohibited": { type: REJECT_UNREACH, code: 13, needs: { network: "ipv4" } },
  "icmpx no-route": { type: REJECT_ICMPX, code: 0 },
  "icmpx port-unreachable": { type: REJECT_ICMPX, code: 1 },
  "icmpx host-unreachable": { type: REJECT_ICMPX, code: 2 },
  "icmpx admin-prohibited": { type: REJECT_ICMPX, code: 3 },
  "icmpv6 port-unreachable": { type: REJECT_UNREACH, code: 4, needs: { network: "ipv6" } },
  "icmpv6 admin-prohibited": { type: REJECT_UNREACH, code: 1, needs: { network: "ipv6" } },
};

/** Throws RangeError or TypeError naming the statement when a rule makes no sense (bad value, two families in one rule). */
export function lowerRule(family: NftFamily, rule: NftRule): LoweredRule {
  const lowering = new Lowering(family);
  for (const statement of rule.statements) lowering.statement(statement);
  return { expressions: lowering.expressions, anonymousSets: lowering.anonymousSets };
}

/** What a rule does, as text: equal for the model's rule and for the same rule read back from the kernel. */
export function ruleFingerprint(family: NftFamily, rule: NftRule): string {
  const { expressions, anonymousSets } = lowerRule(family, rule);
  return expressionsFingerprint(expressions, (setId) => anonymousSets[setId - 1]);
}

/** The same, from expressions; `findAnonymous` finds the content of the set that a lookup names. */
export function expressionsFingerprint(
  expressions: readonly NftExpression[],
  findAnonymous: (setId: number, name: string) => AnonymousSet | undefined,
): string {
  const setText = (name: string, setId: number | undefined): string => {
    const set = findAnonymous(setId ?? 0, name);
    return set === undefined ? `@${name}` : `{ ${set.elements.map(({ key }) => keyText(set.shape.key, key)).join(", ")} }`;
  };
  return expressions.map((expression) => expressionText(expression, setText)).join("; ");
}

class Lowering {
  readonly expressions: NftExpression[] = [];
  readonly anonymousSets: AnonymousSet[] = [];
  readonly #family: NftFamily;
  #network: "ipv4" | "ipv6" | "arp" | undefined;
  #transport: number | undefined;
  #isEther = false;

  constructor(family: NftFamily) {
    this.#family = family;
    if (family === "ip") this.#network = "ipv4";
    if (family === "ip6") this.#network = "ipv6";
    if (family === "netdev") this.#isEther = true;
  }

  statement(statement: NftStatement): void {
    switch (statement.kind) {
      case "match":
        return this.#match(statement);
      case "match-any":
        return this.#matchAny(statement);
      case "lookup":
        this.#loadKey(statement.fields);
        if (isMasked(statement)) this.#maskAddress(statement.fields, statement.prefixLength);
        return this.#push({ name: "lookup", register: registerOf(0), set: statement.set, isInverted: statement.negate === true, isVerdictMap: false });
      case "vmap":
        this.#loadKey(statement.fields);
        return this.#push({ name: "lookup", register: registerOf(0), set: statement.map, isInverted: false, isVerdictMap: true });
      case "counter":
      case "notrack":
        return this.#push({ name: statement.kind });
      case "log":
        return this.#push({ name: "log", prefix: statement.prefix ?? "", group: statement.group, snaplen: statement.snaplen ?? 0 });
      case "limit":
        return this.#push({
          name: "limit",
          rate: BigInt(statement.rate),
          unitSeconds: LIMIT_UNIT_SECONDS[statement.per],
          burst: statement.burst,
          isOver: statement.over === true,
        });
      case "ct-count-over":
        return this.#push({ name: "connlimit", count: statement.count, isOver: true });
      case "set-dscp":
        return this.#setDscp(statement.version, statement.dscp);
      case "set-mark":
        return this.#setMark(statement.value, statement.mask);
      case "set-ct-mark":
        if (statement.value === "meta mark") this.#push({ name: "meta", key: META_KEY.mark, register: registerOf(0) });
        else this.#push({ name: "value", register: registerOf(0), value: markBytes(statement.value) });
        return this.#push({ name: "ct-set", key: CT_KEY.mark, register: registerOf(0) });
      case "restore-mark":
        this.#push({ name: "ct", key: CT_KEY.mark, register: registerOf(0) });
        return this.#push({ name: "meta-set", key: META_KEY.mark, register: registerOf(0) });
      case "masquerade":
        return this.#push({ name: "masq", flags: statement.fullyRandom === true ? MASQUERADE_FULLY_RANDOM : 0 });
      case "nat-map": {
        this.#require({ network: statement.version === 4 ? "ipv4" : "ipv6" }, `${statement.nat} of IPv${statement.version}`);
        this.#loadKey(statement.fields);
        const register = registerOf(0);
        this.#push({ name: "lookup", register, set: statement.map, isInverted: false, isVerdictMap: false, valueRegister: register });
        return this.#push({ name: "nat", type: NAT_TYPE[statement.nat], protocol: NFPROTO_VALUE[statement.version === 4 ? "ipv4" : "ipv6"], register });
      }
      case "reject": {
        const { type, code, needs } = REJECTS[statement.reason];
        this.#require(needs, statement.reason);
        return this.#push({ name: "reject", type, code });
      }
      default:
        return this.#push({ name: "verdict", verdict: statement });
    }
  }

  /** Two bytes at once, as nft does it: the checksum of IPv4 is a sum of such. */
  #setDscp(version: 4 | 6, dscp: number): void {
    if (!Number.isInteger(dscp) || dscp < 0 || dscp > 63) throw new RangeError(`a code point is 0 to 63, not ${dscp}`);
    this.#require({ network: version === 4 ? "ipv4" : "ipv6" }, `dscp of IPv${version}`);
    const place = { base: network, offset: 0, length: 2, register: registerOf(0) };
    this.#push({ name: "payload", ...place });
    const [mask, xor] =
      version === 4
        ? [
            [0xff, 0x03],
            [0, dscp << 2],
          ]
        : [
            [0xf0, 0x3f],
            [dscp >> 2, (dscp & 3) << 6],
          ];
    this.#push({ name: "bitwise", register: registerOf(0), mask: Uint8Array.from(mask), xor: Uint8Array.from(xor) });
    this.#push({ name: "payload-set", ...place, checksum: version === 4 ? { type: CHECKSUM_INTERNET, offset: IPV4_CHECKSUM_OFFSET } : { type: 0, offset: 0 } });
  }

  #push(expression: NftExpression): void {
    this.expressions.push(expression);
  }

  #match(match: Extract<NftMatch, { readonly kind: "match" }>): void {
    const { field, value } = match;
    const op = match.op ?? "==";
    const type = FIELD_TYPES[field];
    if (match.mask !== undefined && match.mask >>> 0 !== 0xffff_ffff) {
      if (type !== "mark") throw new TypeError(`match on ${field}: a mask is for marks only`);
      this.#load(field, 0);
      this.#push({ name: "bitwise", register: registerOf(0), mask: markBytes(match.mask), xor: new Uint8Array(4) });
      return this.#compare(op, valueRange(type, value).from);
    }
    if (type === "ifname" && String(value).endsWith("*")) return this.#matchNamePrefix(field, op, String(value).slice(0, -1));
    const { from, to } = valueRange(type, value);
    if (isFlags(type)) {
      this.#requireEquality(op, field, value);
      this.#load(field, 0);
      this.#push({ name: "bitwise", register: registerOf(0), mask: from, xor: new Uint8Array(from.length) });
      return this.#compare(op === "==" ? "!=" : "==", new Uint8Array(from.length));
    }
    if (String(value).includes("/")) {
      this.#requireEquality(op, field, value);
      return this.#matchPrefix(field, op, from, prefixLength(from, to) ?? from.length * 8);
    }
    this.#load(field, 0);
    if (compareBytes(from, to) === 0) {
      this.#compare(op, from);
      if (op === "==") this.#learn(field, from);
      return;
    }
    this.#requireEquality(op, field, value);
    if (op === "!=") return this.#push({ name: "range", op: CMP.neq, register: registerOf(0), from, to });
    this.#compare(">=", from);
    this.#compare("<=", to);
  }

  #matchNamePrefix(field: NftField, op: keyof typeof COMPARISON, prefix: string): void {
    this.#requireEquality(op, field, `${prefix}*`);
    const bytes = valueRange("ifname", prefix).from.subarray(0, prefix.length);
    this.#load(field, 0);
    this.#compare(op, bytes);
  }

  #matchPrefix(field: NftField, op: keyof typeof COMPARISON, address: Uint8Array, length: number): void {
    const source = FIELD_SOURCES[field];
    if (length > 0 && length % 8 === 0 && source.from === "payload") {
      // Whole bytes: load and compare only those, as nft does.
      this.#require(source.needs, field);
      const bytes = length / 8;
      this.#push({ name: "payload", base: source.base, offset: source.offset, length: bytes, register: registerOf(0) });
      return this.#compare(op, address.subarray(0, bytes));
    }
    this.#load(field, 0);
    this.#maskAddress([field], length);
    this.#compare(op, address);
  }

  #maskAddress([field]: readonly NftField[], length: number): void {
    if (field === undefined) return;
    const mask = prefixMask(FIELD_TYPES[field], length);
    this.#push({ name: "bitwise", register: registerOf(0), mask, xor: new Uint8Array(mask.length) });
  }

  #matchAny(match: Extract<NftMatch, { readonly kind: "match-any" }>): void {
    if (match.values.length === 0) throw new RangeError(`match-any on ${match.field}: no values`);
    if (isFlags(FIELD_TYPES[match.field])) throw new RangeError(`match-any on ${match.field}: use one match with comma-joined flags`);
    this.#load(match.field, 0);
    this.anonymousSets.push(anonymousSet(match));
    this.#push({
      name: "lookup",
      register: registerOf(0),
      set: "__set%d",
      setId: this.anonymousSets.length,
      isInverted: match.negate === true,
      isVerdictMap: false,
    });
  }

  #setMark(value: number, mask: number | undefined): void {
    if (mask === undefined || mask >>> 0 === 0xffff_ffff) {
      this.#push({ name: "value", register: registerOf(0), value: markBytes(value) });
    } else {
      if ((value & ~mask) !== 0) throw new RangeError(`set-mark: value 0x${value.toString(16)} has bits outside of mask 0x${mask.toString(16)}`);
      this.#push({ name: "meta", key: META_KEY.mark, register: registerOf(0) });
      this.#push({ name: "bitwise", register: registerOf(0), mask: markBytes(~mask >>> 0), xor: markBytes(value) });
    }
    this.#push({ name: "meta-set", key: META_KEY.mark, register: registerOf(0) });
  }

  /** The fields of a concatenation lie side by side, each padded to four bytes. */
  #loadKey(fields: readonly NftField[]): void {
    for (const field of fields) this.#require(FIELD_SOURCES[field].needs, field);
    let slot = 0;
    for (const field of fields) {
      this.#load(field, slot);
      slot += Math.ceil(valueBytes(FIELD_TYPES[field]) / 4);
    }
    if (slot > 16) throw new RangeError(`a key of ${fields.join(" . ")} needs ${slot * 4} bytes, the kernel has 64`);
  }

  #load(field: NftField, slot: number): void {
    const source = FIELD_SOURCES[field];
    const register = registerOf(slot);
    this.#require(source.needs, field);
    switch (source.from) {
      case "meta":
      case "ct":
        return this.#push({ name: source.from, key: source.key, register });
      case "payload":
        return this.#push({ name: "payload", base: source.base, offset: source.offset, length: valueBytes(FIELD_TYPES[field]), register });
      case "fib":
        return this.#push({ name: "fib", result: source.result, flags: source.flags, register });
    }
  }

  #compare(op: keyof typeof COMPARISON, value: Uint8Array): void {
    this.#push({ name: "cmp", op: COMPARISON[op], register: registerOf(0), value });
  }

  /** State what the field's place in the packet depends on, unless this rule did so already. */
  #require(needs: Dependency | undefined, what: string): void {
    if (needs === undefined) return;
    if (needs.link !== undefined && !this.#isEther) {
      this.#push({ name: "meta", key: META_KEY.iiftype, register: registerOf(0) });
      this.#compare("==", Uint8Array.from(ARPHRD_ETHER));
      this.#isEther = true;
    }
    if (needs.network !== undefined && needs.network !== this.#network) {
      if (this.#network !== undefined) throw new TypeError(`${what} needs ${needs.network}, but the rule or its table is for ${this.#network}`);
      this.#requireNetwork(needs.network);
    }
    if (needs.transport !== undefined && needs.transport !== this.#transport) {
      if (this.#transport !== undefined) throw new TypeError(`${what} needs protocol ${needs.transport}, but the rule already requires ${this.#transport}`);
      this.#push({ name: "meta", key: META_KEY.l4proto, register: registerOf(0) });
      this.#compare("==", Uint8Array.of(needs.transport));
      this.#transport = needs.transport;
    }
  }

  #requireNetwork(protocol: "ipv4" | "ipv6" | "arp"): void {
    if (this.#family === "netdev") {
      this.#push({ name: "meta", key: META_KEY.protocol, register: registerOf(0) });
      this.#compare("==", Uint8Array.from(ETHERTYPE[protocol]));
    } else {
      if (protocol === "arp") throw new TypeError(`a table of family ${this.#family} sees no ARP`);
      this.#push({ name: "meta", key: META_KEY.nfproto, register: registerOf(0) });
      this.#compare("==", Uint8Array.of(NFPROTO_VALUE[protocol]));
    }
    this.#network = protocol;
  }

  /** An explicit match may be the dependency of what follows. */
  #learn(field: NftField, value: Uint8Array): void {
    if (field === "meta nfproto") this.#network = value[0] === NFPROTO_VALUE.ipv4 ? "ipv4" : "ipv6";
    if (field === "meta l4proto" || field === "ip protocol" || field === "ip6 nexthdr") this.#transport = value[0];
  }

  #requireEquality(op: string, field: NftField, value: NftValue): void {
    if (op !== "==" && op !== "!=") throw new TypeError(`match on ${field}: ${JSON.stringify(value)} can be compared with == and != only, not ${op}`);
  }
}

function markBytes(value: number): Uint8Array {
  return valueRange("mark", value >>> 0).from;
}
