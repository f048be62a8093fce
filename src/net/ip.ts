/**
 * IP addresses as canonical text.
 *
 * An address is a branded string in its one canonical spelling (dotted quad, or RFC 5952 for IPv6), so that equality is string equality and
 * an address can key a Map without an object per address. Bytes are made where they are needed (wire, kernel).
 * Rejected: a class around bytes (100,000 pods would be 100,000 objects more, and Map keys would need a second form).
 */

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Canonical text of one address: "10.65.0.2" or RFC 5952 "fd00::2". IPv4-mapped IPv6 is kept as IPv6. No zone. */
export type IpAddress = Brand<string, "IpAddress">;
export type IpVersion = 4 | 6;

/** Bits in an address of the family: 32 or 128. */
export function ipBits(version: IpVersion): number {
  return version === 4 ? 32 : 128;
}

/** Family of a canonical address, by its spelling. */
export function ipVersion(address: IpAddress): IpVersion {
  return address.includes(":") ? 6 : 4;
}

/** Parses any accepted spelling; throws RangeError naming the text. */
export function parseIp(text: string): IpAddress {
  const address = tryParseIp(text);
  if (address === undefined) throw new RangeError(`not an IP address: ${JSON.stringify(text)}`);
  return address;
}

/** Parses any accepted spelling, undefined when it is not an address. IPv4 octets with leading zeros are refused (ambiguous: RFC 6943 3.1.1). */
export function tryParseIp(text: string): IpAddress | undefined {
  const bytes = text.includes(":") ? parseV6(text) : parseV4(text);
  return bytes === undefined ? undefined : ipFromBytes(bytes);
}

/** Network-order bytes, 4 or 16. A fresh array at each call. */
export function ipBytes(address: IpAddress): Uint8Array {
  const bytes = address.includes(":") ? parseV6(address) : parseV4(address);
  if (bytes === undefined) throw new RangeError(`not a canonical address: ${address}`);
  return bytes;
}

/** The canonical text of 4 or 16 network-order bytes; throws RangeError at any other length. */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as IpAddress;
  if (bytes.length === 16) return formatV6(bytes) as IpAddress;
  throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
}

/** Order by family (IPv4 first), then numerically. */
export function compareIps(a: IpAddress, b: IpAddress): number {
  return compareIpBytes(ipBytes(a), ipBytes(b));
}

/** Order of network-order bytes: shorter first, then numerically. */
export function compareIpBytes(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return a.length - b.length;
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function parseV4(text: string): Uint8Array | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const part = match[i + 1] ?? "";
    const value = Number(part);
    if (value > 255 || (part.length > 1 && part.startsWith("0"))) return undefined;
    bytes[i] = value;
  }
  return bytes;
}

function parseV6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? "", halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "", true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  const bytes = new Uint8Array(16);
  bytes.set(head, 0);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** Bytes of colon-separated groups; a dotted quad is accepted as the last group (RFC 4291 2.2). */
function parseGroups(text: string, mayEndInQuad: boolean): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [i, group] of groups.entries()) {
    if (group.includes(".")) {
      const quad = mayEndInQuad && i === groups.length - 1 ? parseV4(group) : undefined;
      if (quad === undefined) return undefined;
      bytes.push(...quad);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

/** RFC 5952: lower case, the longest run of two or more zero groups (the first of equals) becomes "::". */
function formatV6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  let bestStart = -1;
  let bestLength = 1;
  for (let start = 0; start < 8; ) {
    let end = start;
    while (end < 8 && groups[end] === 0) end++;
    if (end - start > bestLength) {
      bestStart = start;
      bestLength = end - start;
    }
    start = end + 1;
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(":");
  return bestStart < 0 ? hex(groups) : `${hex(groups.slice(0, bestStart))}::${hex(groups.slice(bestStart + bestLength))}`;
}
