/**
 * Sets of addresses as ranges: union and difference of prefixes.
 *
 * Invariant: lists of ranges are ascending, disjoint and not adjacent, one family each. Numbers are BigInt: policy has few prefixes, and IPv6 does
 * not fit otherwise.
 */
import { type Cidr, cidrFromBytes, cidrRange, cidrVersion } from "./cidr.ts";
import { type IpAddress, type IpVersion, ipBits, ipFromBytes } from "./ip.ts";

interface NumberRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** Both ends included; both of one family. */
export interface AddressRange {
  readonly first: IpAddress;
  readonly last: IpAddress;
}

/** The union of the prefixes as ranges, IPv4 first: what an interval set of the kernel takes. */
export function mergedRanges(cidrs: readonly Cidr[]): AddressRange[] {
  return FAMILIES.flatMap((version) =>
    union(numberRanges(cidrs, version)).map(({ first, last }) => ({ first: ipFromBytes(toBytes(first, version)), last: ipFromBytes(toBytes(last, version)) })),
  );
}

/** The union of the prefixes as the fewest prefixes, IPv4 first. */
export function mergeCidrs(cidrs: readonly Cidr[]): Cidr[] {
  return FAMILIES.flatMap((version) => union(numberRanges(cidrs, version)).flatMap((range) => prefixesOf(range, version)));
}

/** Addresses of `cidrs` that are in none of `minus`, as the fewest prefixes, IPv4 first. */
export function subtractCidrs(cidrs: readonly Cidr[], minus: readonly Cidr[]): Cidr[] {
  return FAMILIES.flatMap((version) =>
    difference(union(numberRanges(cidrs, version)), union(numberRanges(minus, version))).flatMap((range) => prefixesOf(range, version)),
  );
}

const FAMILIES: readonly IpVersion[] = [4, 6];

function numberRanges(cidrs: readonly Cidr[], version: IpVersion): NumberRange[] {
  return cidrs
    .filter((cidr) => cidrVersion(cidr) === version)
    .map((cidr) => {
      const { first, last } = cidrRange(cidr);
      return { first: toNumber(first), last: toNumber(last) };
    });
}

function union(ranges: readonly NumberRange[]): NumberRange[] {
  const merged: { first: bigint; last: bigint }[] = [];
  for (const { first, last } of [...ranges].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))) {
    const previous = merged.at(-1);
    if (previous === undefined || first > previous.last + 1n) merged.push({ first, last });
    else if (last > previous.last) previous.last = last;
  }
  return merged;
}

/** Both ascending and disjoint. */
function difference(ranges: readonly NumberRange[], minus: readonly NumberRange[]): NumberRange[] {
  return ranges.flatMap(({ first, last }) => {
    const kept: NumberRange[] = [];
    let from = first;
    for (const hole of minus) {
      if (hole.last < from || hole.first > last) continue;
      if (hole.first > from) kept.push({ first: from, last: hole.first - 1n });
      from = hole.last + 1n;
    }
    if (from <= last) kept.push({ first: from, last });
    return kept;
  });
}

/** Greedy from the left: the largest prefix that begins here and does not run over the end. */
function prefixesOf({ first, last }: NumberRange, version: IpVersion): Cidr[] {
  const bits = ipBits(version);
  const cidrs: Cidr[] = [];
  let from = first;
  while (from <= last) {
    let hostBits = 0;
    while (hostBits < bits && (from & ((2n << BigInt(hostBits)) - 1n)) === 0n && from + (2n << BigInt(hostBits)) - 1n <= last) hostBits++;
    cidrs.push(cidrFromBytes(toBytes(from, version), bits - hostBits));
    from += 1n << BigInt(hostBits);
  }
  return cidrs;
}

function toNumber(bytes: Uint8Array): bigint {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

function toBytes(value: bigint, version: IpVersion): Uint8Array {
  const bytes = new Uint8Array(ipBits(version) / 8);
  let rest = value;
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}
