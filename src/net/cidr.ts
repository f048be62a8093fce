/**
 * Prefixes as canonical text, and the arithmetic on them that policy and address management need.
 *
 * Invariant: host bits of a Cidr are zero. The one place where lenient input (host bits set) is masked is `parseCidr`.
 */
import { type Brand, compareIpBytes, type IpAddress, type IpVersion, ipBits, ipBytes, ipFromBytes, ipVersion, tryParseIp } from "./ip.ts";

/** Canonical prefix: host bits zero, e.g. "10.65.0.64/26", "fd00::/122". */
export type Cidr = Brand<string, "Cidr">;

/** Parses "address/length"; host bits are cleared. Throws RangeError naming the text. */
export function parseCidr(text: string): Cidr {
  const cidr = tryParseCidr(text);
  if (cidr === undefined) throw new RangeError(`not a CIDR: ${JSON.stringify(text)} (want ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/64)`);
  return cidr;
}

/** Parses "address/length", undefined when it is not a prefix; host bits are cleared. */
export function tryParseCidr(text: string): Cidr | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const lengthText = match?.[2] ?? "";
  const address = match === null ? undefined : tryParseIp(match[1] ?? "");
  if (address === undefined || (lengthText.length > 1 && lengthText.startsWith("0"))) return undefined;
  const length = Number(lengthText);
  if (length > ipBits(ipVersion(address))) return undefined;
  return cidrOf(address, length);
}

/** True when the text is a prefix whose host bits are all zero. */
export function hasHostBits(text: string): boolean {
  const cidr = tryParseCidr(text);
  return cidr !== undefined && tryParseIp(text.slice(0, text.indexOf("/"))) !== cidrAddress(cidr);
}

/** The prefix of the given length that holds the address. */
export function cidrOf(address: IpAddress, length: number): Cidr {
  return cidrFromBytes(maskBytes(ipBytes(address), length), length);
}

export function cidrFromBytes(bytes: Uint8Array, length: number): Cidr {
  return `${ipFromBytes(bytes)}/${length}` as Cidr;
}

/** First address of the prefix. */
export function cidrAddress(cidr: Cidr): IpAddress {
  return cidr.slice(0, cidr.indexOf("/")) as IpAddress;
}

export function cidrLength(cidr: Cidr): number {
  return Number(cidr.slice(cidr.indexOf("/") + 1));
}

export function cidrVersion(cidr: Cidr): IpVersion {
  return cidr.includes(":") ? 6 : 4;
}

/** First and last address, as network-order bytes. */
export function cidrRange(cidr: Cidr): { readonly first: Uint8Array; readonly last: Uint8Array } {
  const first = ipBytes(cidrAddress(cidr));
  const length = cidrLength(cidr);
  const last = first.map((byte, i) => byte | (0xff >> Math.min(8, Math.max(0, length - i * 8))));
  return { first, last };
}

export function cidrContains(cidr: Cidr, address: IpAddress): boolean {
  if (cidrVersion(cidr) !== ipVersion(address)) return false;
  const length = cidrLength(cidr);
  return compareIpBytes(maskBytes(ipBytes(address), length), ipBytes(cidrAddress(cidr))) === 0;
}

/** True when every address of `inner` is in `outer`. */
export function cidrContainsCidr(outer: Cidr, inner: Cidr): boolean {
  return cidrLength(inner) >= cidrLength(outer) && cidrContains(outer, cidrAddress(inner));
}

export function cidrsOverlap(a: Cidr, b: Cidr): boolean {
  return cidrContainsCidr(a, b) || cidrContainsCidr(b, a);
}

/** Order by family, then first address, then length. */
export function compareCidrs(a: Cidr, b: Cidr): number {
  return compareIpBytes(ipBytes(cidrAddress(a)), ipBytes(cidrAddress(b))) || cidrLength(a) - cidrLength(b);
}

/** A single address as a prefix, /32 or /128. */
export function hostCidr(address: IpAddress): Cidr {
  return `${address}/${ipBits(ipVersion(address))}` as Cidr;
}

/** Address number `ordinal` (from 0) of the prefix; throws RangeError when outside. */
export function cidrAddressAt(cidr: Cidr, ordinal: number): IpAddress {
  const hostBits = ipBits(cidrVersion(cidr)) - cidrLength(cidr);
  if (!Number.isSafeInteger(ordinal) || ordinal < 0 || (hostBits < 53 && ordinal >= 2 ** hostBits))
    throw new RangeError(`${cidr} has no address number ${ordinal}`);
  const bytes = ipBytes(cidrAddress(cidr));
  let rest = ordinal;
  for (let i = bytes.length - 1; i >= 0 && rest > 0; i--) {
    bytes[i] = (bytes[i] ?? 0) | (rest % 256);
    rest = Math.floor(rest / 256);
  }
  return ipFromBytes(bytes);
}

/** Number of the address in the prefix, undefined when outside. Exact below 2^53. */
export function cidrOrdinal(cidr: Cidr, address: IpAddress): number | undefined {
  if (!cidrContains(cidr, address)) return undefined;
  const base = ipBytes(cidrAddress(cidr));
  return ipBytes(address).reduce((sum, byte, i) => sum * 256 + (byte ^ (base[i] ?? 0)), 0);
}

function maskBytes(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.map((byte, i) => byte & ~(0xff >> Math.min(8, Math.max(0, length - i * 8))));
}
