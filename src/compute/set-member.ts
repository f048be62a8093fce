/**
 * Members of sets: their order and their place in the trie, both by the bytes that the wire carries.
 *
 * The bytes of a member (`proto/sedge/sync/v1/records.proto`, SetShard): address (4 or 16), then for an address with a port the protocol number
 * and the port in network order, for a prefix its length.
 */

import type { SetMember } from "../model/record.ts";
import { type Cidr, cidrAddress, cidrLength } from "../net/cidr.ts";
import { type IpAddress, ipBytes } from "../net/ip.ts";

const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };

/** Name of a protocol in a member's text; undefined for protocols without ports. */
export function portProtocolName(protocol: number): "tcp" | "udp" | "sctp" | undefined {
  if (protocol === 6) return "tcp";
  if (protocol === 17) return "udp";
  return protocol === 132 ? "sctp" : undefined;
}

/** The member as the wire packs it. Throws RangeError for text that is no member. */
export function memberBytes(member: SetMember): Uint8Array {
  const comma = member.indexOf(",");
  if (comma >= 0) {
    const address = ipBytes(member.slice(0, comma) as IpAddress);
    const colon = member.indexOf(":", comma);
    const port = Number(member.slice(colon + 1));
    const bytes = new Uint8Array(address.length + 3);
    bytes.set(address);
    bytes[address.length] = protocolNumber(member.slice(comma + 1, colon));
    bytes[address.length + 1] = port >> 8;
    bytes[address.length + 2] = port & 0xff;
    return bytes;
  }
  if (!member.includes("/")) return ipBytes(member as IpAddress);
  const address = ipBytes(cidrAddress(member as Cidr));
  const bytes = new Uint8Array(address.length + 1);
  bytes.set(address);
  bytes[address.length] = cidrLength(member as Cidr);
  return bytes;
}

/** 32 bits of FNV-1a over the member's bytes, mixed by MurmurHash3's finaliser (FNV's leading bits alone hardly depend on the last byte). */
export function memberHash(member: SetMember): number {
  const quad = tryQuad(member);
  let hash = 0x811c9dc5;
  if (quad >= 0) {
    hash = Math.imul(hash ^ (quad >>> 24), 0x01000193);
    hash = Math.imul(hash ^ ((quad >>> 16) & 0xff), 0x01000193);
    hash = Math.imul(hash ^ ((quad >>> 8) & 0xff), 0x01000193);
    hash = Math.imul(hash ^ (quad & 0xff), 0x01000193);
  } else {
    for (const byte of memberBytes(member)) hash = Math.imul(hash ^ byte, 0x01000193);
  }
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  hash ^= hash >>> 16;
  return hash >>> 0;
}

/** IPv4 first, then by bytes. */
export function compareMembers(a: SetMember, b: SetMember): number {
  const quadA = tryQuad(a);
  const quadB = tryQuad(b);
  if (quadA >= 0 && quadB >= 0) return quadA - quadB;
  const isV6 = a.includes(".") ? 0 : 1;
  const difference = isV6 - (b.includes(".") ? 0 : 1);
  if (difference !== 0) return difference;
  const bytesA = memberBytes(a);
  const bytesB = memberBytes(b);
  for (let i = 0; i < bytesA.length; i++) {
    const order = (bytesA[i] ?? 0) - (bytesB[i] ?? 0);
    if (order !== 0) return order;
  }
  return 0;
}

/** A plain IPv4 address as a number; -1 for every other member. Most members are these: no allocation. */
function tryQuad(member: SetMember): number {
  let value = 0;
  let octet = 0;
  for (let i = 0; i < member.length; i++) {
    const code = member.charCodeAt(i);
    if (code === 46) {
      value = value * 256 + octet;
      octet = 0;
    } else if (code >= 48 && code <= 57) octet = octet * 10 + code - 48;
    else return -1;
  }
  return value * 256 + octet;
}

function protocolNumber(name: string): number {
  const number = PROTOCOL_NUMBERS[name];
  if (number === undefined) throw new RangeError(`not a protocol with ports: ${name}`);
  return number;
}
