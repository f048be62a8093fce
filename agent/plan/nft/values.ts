/**
 * Values of the nftables model: text as in `nft list` to the bytes that the kernel compares, and back.
 *
 * Invariant: `keyText(types, keyFromRanges(types, keyRanges(types, key)))` is stable, so an element read back from the
 * kernel is equal, as text, to the canonical form of the one that was sent. Symbol tables are nft 1.0.6's (src/datatype.c,
 * proto.c, ct.c, fib.c). One home for both renderers, the read-back and the fake.
 */
import { cidrFromBytes, cidrRange, parseCidr } from "../../../src/net/cidr.ts";
import { type IpVersion, ipBytes, ipFromBytes, parseIp } from "../../../src/net/ip.ts";
import type { NftDataType, NftField, NftValue } from "./ruleset.ts";

export type NftValueType =
  | NftDataType
  | "nf_proto"
  | "pkt_type"
  | "ct_state"
  | "ct_status"
  | "ct_dir"
  | "tcp_flag"
  | "icmp_code"
  | "icmpv6_code"
  | "fib_addrtype"
  | "boolean";

/** Of addresses of each family. */
export const ADDRESS_TYPES: Readonly<Record<IpVersion, "ipv4_addr" | "ipv6_addr">> = { 4: "ipv4_addr", 6: "ipv6_addr" };

/** First and last value, equal for a single one; kernel byte order. */
export type ByteRange = { readonly from: Uint8Array; readonly to: Uint8Array };

type ValueSpec = {
  readonly bytes: number;
  readonly form: "address" | "ether" | "name" | "number" | "hex" | "flags";
  /** Host byte order: how the kernel keeps numbers that never were on the wire. */
  readonly isHostOrder?: boolean;
  readonly symbols?: Readonly<Record<string, number>>;
};

const VALUES: Readonly<Record<NftValueType, ValueSpec>> = {
  ipv4_addr: { bytes: 4, form: "address" },
  ipv6_addr: { bytes: 16, form: "address" },
  ether_addr: { bytes: 6, form: "ether" },
  ifname: { bytes: 16, form: "name" },
  inet_service: { bytes: 2, form: "number" },
  mark: { bytes: 4, form: "hex", isHostOrder: true },
  inet_proto: { bytes: 1, form: "number", symbols: { icmp: 1, igmp: 2, tcp: 6, udp: 17, gre: 47, esp: 50, ah: 51, "ipv6-icmp": 58, sctp: 132, udplite: 136 } },
  nf_proto: { bytes: 1, form: "number", symbols: { ipv4: 2, ipv6: 10 } },
  pkt_type: { bytes: 1, form: "number", symbols: { host: 0, broadcast: 1, multicast: 2, other: 3 } },
  ct_state: { bytes: 4, form: "flags", isHostOrder: true, symbols: { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } },
  ct_status: {
    bytes: 4,
    form: "flags",
    isHostOrder: true,
    symbols: { expected: 1, "seen-reply": 2, assured: 4, confirmed: 8, snat: 16, dnat: 32, dying: 512 },
  },
  ct_dir: { bytes: 1, form: "number", symbols: { original: 0, reply: 1 } },
  tcp_flag: { bytes: 1, form: "flags", symbols: { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ecn: 64, cwr: 128 } },
  icmp_type: {
    bytes: 1,
    form: "number",
    symbols: {
      "echo-reply": 0,
      "destination-unreachable": 3,
      "source-quench": 4,
      redirect: 5,
      "echo-request": 8,
      "router-advertisement": 9,
      "router-solicitation": 10,
      "time-exceeded": 11,
      "parameter-problem": 12,
      "timestamp-request": 13,
      "timestamp-reply": 14,
      "info-request": 15,
      "info-reply": 16,
      "address-mask-request": 17,
      "address-mask-reply": 18,
    },
  },
  icmp_code: {
    bytes: 1,
    form: "number",
    symbols: {
      "net-unreachable": 0,
      "host-unreachable": 1,
      "prot-unreachable": 2,
      "port-unreachable": 3,
      "frag-needed": 4,
      "net-prohibited": 9,
      "host-prohibited": 10,
      "admin-prohibited": 13,
    },
  },
  icmpv6_type: {
    bytes: 1,
    form: "number",
    symbols: {
      "destination-unreachable": 1,
      "packet-too-big": 2,
      "time-exceeded": 3,
      "parameter-problem": 4,
      "echo-request": 128,
      "echo-reply": 129,
      "mld-listener-query": 130,
      "mld-listener-report": 131,
      "mld-listener-done": 132,
      "nd-router-solicit": 133,
      "nd-router-advert": 134,
      "nd-neighbor-solicit": 135,
      "nd-neighbor-advert": 136,
      "nd-redirect": 137,
      "router-renumbering": 138,
      "ind-neighbor-solicit": 141,
      "ind-neighbor-advert": 142,
      "mld2-listener-report": 143,
    },
  },
  icmpv6_code: {
    bytes: 1,
    form: "number",
    symbols: { "no-route": 0, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4, "policy-fail": 5, "reject-route": 6 },
  },
  fib_addrtype: {
    bytes: 4,
    form: "number",
    isHostOrder: true,
    symbols: { unspec: 0, unicast: 1, local: 2, broadcast: 3, anycast: 4, multicast: 5, blackhole: 6, unreachable: 7, prohibit: 8 },
  },
  boolean: { bytes: 4, form: "number", isHostOrder: true, symbols: { missing: 0, exists: 1 } },
};

const DIGIT_ZERO = 0x30;
const DIGIT_NINE = 0x39;
const DOT = 0x2e;
const SLASH = 0x2f;
const END_OF_TEXT = -1;

/** What each field holds. */
export const FIELD_TYPES: Readonly<Record<NftField, NftValueType>> = {
  iifname: "ifname",
  oifname: "ifname",
  "meta mark": "mark",
  "meta nfproto": "nf_proto",
  "meta l4proto": "inet_proto",
  "meta pkttype": "pkt_type",
  "ip saddr": "ipv4_addr",
  "ip daddr": "ipv4_addr",
  "ip protocol": "inet_proto",
  "ip6 saddr": "ipv6_addr",
  "ip6 daddr": "ipv6_addr",
  "ip6 nexthdr": "inet_proto",
  "ether saddr": "ether_addr",
  "ether daddr": "ether_addr",
  "tcp sport": "inet_service",
  "tcp dport": "inet_service",
  "tcp flags": "tcp_flag",
  "udp sport": "inet_service",
  "udp dport": "inet_service",
  "sctp sport": "inet_service",
  "sctp dport": "inet_service",
  "th sport": "inet_service",
  "th dport": "inet_service",
  "icmp type": "icmp_type",
  "icmp code": "icmp_code",
  "icmpv6 type": "icmpv6_type",
  "icmpv6 code": "icmpv6_code",
  "arp saddr ip": "ipv4_addr",
  "arp daddr ip": "ipv4_addr",
  "ct state": "ct_state",
  "ct status": "ct_status",
  "ct mark": "mark",
  "ct direction": "ct_dir",
  "fib daddr type": "fib_addrtype",
  "fib saddr type": "fib_addrtype",
  "fib saddr . iif oif": "boolean",
  "fib saddr . mark . iif oif": "boolean",
};

/** Bytes that a value of the type takes, without register padding. */
export function valueBytes(type: NftValueType): number {
  return VALUES[type].bytes;
}

/** So many leading ones, of an address type. Throws RangeError or TypeError when the type has no such prefix. */
export function prefixMask(type: NftValueType, length: number): Uint8Array {
  const { bytes, form } = VALUES[type];
  if (form !== "address") throw new TypeError(`${type} has no prefixes`);
  if (!Number.isInteger(length) || length < 0 || length > bytes * 8) throw new RangeError(`a prefix of ${type} has 0 to ${bytes * 8} bits, not ${length}`);
  return Uint8Array.from({ length: bytes }, (_, index) => 0xff & ~(0xff >> Math.min(8, Math.max(0, length - index * 8))));
}

/** False also for the whole address, which needs no mask. Throws TypeError for a concatenation. */
export function isMasked<T extends { readonly fields: readonly NftField[]; readonly prefixLength?: number }>(
  lookup: T,
): lookup is T & { readonly prefixLength: number } {
  const [field, ...others] = lookup.fields;
  if (lookup.prefixLength === undefined || field === undefined) return false;
  if (others.length > 0) throw new TypeError(`a prefix length is for one address, not for ${lookup.fields.join(" . ")}`);
  return lookup.prefixLength !== VALUES[FIELD_TYPES[field]].bytes * 8;
}

/** True for numbers kept in the machine's byte order, which have no order as bytes. */
export function isHostOrder(type: NftValueType): boolean {
  return VALUES[type].isHostOrder === true;
}

export function isFlags(type: NftValueType): boolean {
  return VALUES[type].form === "flags";
}

/** First and last value. Throws RangeError naming type and text. */
export function valueRange(type: NftValueType, value: NftValue): ByteRange {
  const spec = VALUES[type];
  if (spec.form === "address") return addressRange(type, String(value));
  if (spec.form === "ether") return single(etherBytes(String(value)));
  if (spec.form === "name") return single(nameBytes(String(value), spec.bytes));
  if (spec.form === "flags") return single(numberBytes(type, flagsNumber(type, value)));
  const { first, last } = splitRange(type, value);
  const from = symbolNumber(type, first);
  const to = symbolNumber(type, last);
  if (from > to) throw invalid(type, value, "a range from the lower to the higher value");
  return from === to ? single(numberBytes(type, from)) : { from: numberBytes(type, from), to: numberBytes(type, to) };
}

/** A value as nft lists it: names for numbers that have one, marks in hexadecimal, interface names quoted. */
export function valueText(type: NftValueType, value: NftValue): string {
  const spec = VALUES[type];
  if (spec.form === "name") return JSON.stringify(String(value));
  if (spec.form === "address" || spec.form === "ether") return String(value);
  if (spec.form === "flags") return flagsText(type, flagsNumber(type, value));
  const { first, last } = splitRange(type, value);
  const from = numberText(type, symbolNumber(type, first));
  return first === last ? from : `${from}-${numberText(type, symbolNumber(type, last))}`;
}

/** The fields of an element's key. Throws RangeError when their number is wrong or one is not of its type. */
export function keyRanges(types: readonly NftValueType[], key: string): ByteRange[] {
  const parts = types.length === 1 ? [key] : key.split(" . ");
  if (parts.length !== types.length)
    throw new RangeError(`element ${JSON.stringify(key)} has ${parts.length} fields, its set has ${types.length} (${types.join(" . ")})`);
  return types.map((type, index) => valueRange(type, parts[index] ?? ""));
}

/** An element's canonical key. A range that is a prefix becomes one; a range of one value becomes that value. */
export function keyFromRanges(types: readonly NftValueType[], ranges: readonly ByteRange[]): string {
  return types
    .map((type, index) => {
      const range = ranges[index];
      if (range === undefined) throw new RangeError(`an element of ${types.join(" . ")} lacks field ${index}`);
      return rangeText(type, range);
    })
    .join(" . ");
}

/** An element's key as nft lists it. */
export function keyText(types: readonly NftValueType[], key: string): string {
  const parts = types.length === 1 ? [key] : key.split(" . ");
  return types.map((type, index) => valueText(type, parts[index] ?? "")).join(" . ");
}

/** Numeric order of equally long big-endian bytes. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let index = 0; index < a.length; index += 1) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function rangeText(type: NftValueType, { from, to }: ByteRange): string {
  const spec = VALUES[type];
  const isSingle = compareBytes(from, to) === 0;
  if (spec.form === "name") return nameText(from);
  if (spec.form === "ether") return etherText(from);
  if (spec.form === "address") {
    if (isSingle) return ipFromBytes(from);
    const length = prefixLength(from, to);
    return length === undefined ? `${ipFromBytes(from)}-${ipFromBytes(to)}` : cidrFromBytes(from, length);
  }
  const first = numberText(type, bytesNumber(type, from));
  return isSingle ? first : `${first}-${numberText(type, bytesNumber(type, to))}`;
}

/** Length of the prefix that is exactly this range, undefined when none is. */
export function prefixLength(from: Uint8Array, to: Uint8Array): number | undefined {
  let index = 0;
  while (index < from.length && from[index] === to[index]) index += 1;
  if (index === from.length) return index * 8;
  const low = from[index] ?? 0;
  const differing = low ^ (to[index] ?? 0);
  // Host bits are the trailing ones of the difference, zero in the first address.
  if ((differing & (differing + 1)) !== 0 || (low & differing) !== 0) return undefined;
  for (let rest = index + 1; rest < from.length; rest += 1) if (from[rest] !== 0 || to[rest] !== 0xff) return undefined;
  return index * 8 + Math.clz32(differing) - 24;
}

function addressRange(type: NftValueType, text: string): ByteRange {
  const common = type === "ipv4_addr" ? commonIpv4Range(text) : undefined;
  if (common !== undefined) return common;
  const wanted = VALUES[type].bytes;
  const range = parseAddressRange(text);
  if (range.from.length !== wanted || range.to.length !== wanted) throw invalid(type, text, "an address of the set's family");
  if (compareBytes(range.from, range.to) > 0) throw invalid(type, text, "a range from the lower to the higher address");
  return range;
}

/**
 * "10.65.0.1" and "10.65.0.0/26" without regular expressions: sets of 100,000 members are parsed twice on their way to the
 * kernel, and encoding such a set takes a quarter of the time. Undefined for every other spelling, which the strict parser then judges.
 */
function commonIpv4Range(text: string): ByteRange | undefined {
  let value = 0;
  let part = 0;
  let digits = 0;
  let dots = 0;
  let length = 32;
  for (let index = 0; index <= text.length; index += 1) {
    const code = index === text.length ? END_OF_TEXT : text.charCodeAt(index);
    if (code >= DIGIT_ZERO && code <= DIGIT_NINE) {
      // A second digit after a zero is a leading zero, which is ambiguous.
      if (digits > 0 && part === 0) return undefined;
      part = part * 10 + code - DIGIT_ZERO;
      digits += 1;
      if (part > 255) return undefined;
      continue;
    }
    if (digits === 0) return undefined;
    value = value * 256 + part;
    part = 0;
    digits = 0;
    if (code === DOT && dots < 3) {
      dots += 1;
      continue;
    }
    if (dots !== 3) return undefined;
    if (code === END_OF_TEXT) break;
    if (code !== SLASH) return undefined;
    const prefix = text.slice(index + 1);
    length = Number(prefix);
    if (!/^\d{1,2}$/.test(prefix) || length > 32 || String(length) !== prefix) return undefined;
    break;
  }
  const host = length === 32 ? 0 : 2 ** (32 - length) - 1;
  const first = value - (length === 0 ? value : (value & host) >>> 0);
  const from = ipv4Bytes(first);
  return length === 32 ? single(from) : { from, to: ipv4Bytes(first + host) };
}

function ipv4Bytes(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

function parseAddressRange(text: string): ByteRange {
  if (text.includes("/")) {
    const { first, last } = cidrRange(parseCidr(text));
    return { from: first, to: last };
  }
  const dash = text.indexOf("-");
  if (dash === -1) return single(ipBytes(parseIp(text)));
  return { from: ipBytes(parseIp(text.slice(0, dash))), to: ipBytes(parseIp(text.slice(dash + 1))) };
}

function splitRange(type: NftValueType, value: NftValue): { readonly first: string; readonly last: string } {
  const text = String(value);
  // Only numbers have ranges here; a dash within a symbol ("ipv6-icmp") is part of its name.
  const match = /^(\d+|0x[0-9a-f]+)-(\d+|0x[0-9a-f]+)$/i.exec(text);
  if (match === null) return { first: text, last: text };
  const [, first, last] = match;
  if (first === undefined || last === undefined) throw invalid(type, value, "a range");
  return { first, last };
}

function single(bytes: Uint8Array): ByteRange {
  return { from: bytes, to: bytes };
}

function symbolNumber(type: NftValueType, text: string): number {
  const spec = VALUES[type];
  const symbol = spec.symbols === undefined || !Object.hasOwn(spec.symbols, text) ? undefined : spec.symbols[text];
  if (symbol !== undefined) return symbol;
  const number = /^(\d+|0x[0-9a-f]+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!Number.isInteger(number) || number >= 2 ** (8 * spec.bytes))
    throw invalid(type, text, `a number below 2^${8 * spec.bytes}${spec.symbols === undefined ? "" : " or a name of nft"}`);
  return number;
}

function numberText(type: NftValueType, value: number): string {
  const spec = VALUES[type];
  if (spec.form === "hex") return `0x${value.toString(16).padStart(8, "0")}`;
  for (const [name, number] of Object.entries(spec.symbols ?? {})) if (number === value) return name;
  return String(value);
}

function flagsNumber(type: NftValueType, value: NftValue): number {
  if (typeof value === "number") return value;
  let bits = 0;
  for (const name of value.split(",")) bits |= symbolNumber(type, name);
  return bits;
}

/** Names in the kernel's bit order, as nft lists them. */
function flagsText(type: NftValueType, bits: number): string {
  const names = Object.entries(VALUES[type].symbols ?? {}).filter(([, bit]) => (bits & bit) !== 0);
  return names.map(([name]) => name).join(",");
}

function numberBytes(type: NftValueType, value: number): Uint8Array {
  const { bytes, isHostOrder } = VALUES[type];
  const result = new Uint8Array(bytes);
  for (let index = 0; index < bytes; index += 1) {
    const at = isHostOrder === true ? index : bytes - 1 - index;
    result[at] = Math.floor(value / 2 ** (8 * index)) & 0xff;
  }
  return result;
}

function bytesNumber(type: NftValueType, bytes: Uint8Array): number {
  const ordered = VALUES[type].isHostOrder === true ? bytes.toReversed() : bytes;
  return ordered.reduce((sum, byte) => sum * 256 + byte, 0);
}

function nameBytes(text: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  if (text.length === 0 || text.length >= length) throw invalid("ifname", text, `1 to ${length - 1} characters`);
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (code <= 0x20 || code > 0x7e) throw invalid("ifname", text, "printable ASCII without spaces");
    bytes[index] = code;
  }
  return bytes;
}

function nameText(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    if (byte === 0) break;
    text += String.fromCharCode(byte);
  }
  return text;
}

function etherBytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw invalid("ether_addr", text, "six bytes in hexadecimal, with colons");
  return Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
}

function etherText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function invalid(type: NftValueType, value: NftValue, wanted: string): RangeError {
  return new RangeError(`${JSON.stringify(value)} is no ${type}: want ${wanted}`);
}
