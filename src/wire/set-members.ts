/**
 * Members of a set shard between text and packed bytes (SetShard.v4, SetShard.v6): fixed width, sorted as bytes, so that equal sets have equal bytes
 * and the agent can merge two of them without a table.
 */

import type { SetMember, SetType } from "../model/record.ts";
import { type Cidr, cidrAddress, cidrFromBytes, cidrLength } from "../net/cidr.ts";
import { type IpAddress, ipBytes, ipFromBytes } from "../net/ip.ts";

export interface PackedMembers {
  readonly v4: Buffer;
  readonly v6: Buffer;
}

const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };
const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 6: "tcp", 17: "udp", 132: "sctp" };
/** Bytes after the address. */
const TAIL_BYTES: Readonly<Record<SetType, number>> = { address: 0, "address-port": 3, prefix: 1 };

/** The wire's encoding of one member: address, then protocol and port, or the prefix length. Throws RangeError naming the text. */
export function memberBytes(type: SetType, member: SetMember): Uint8Array {
  switch (type) {
    case "address":
      return ipBytes(member as IpAddress);
    case "prefix":
      return concat(ipBytes(cidrAddress(member as Cidr)), [cidrLength(member as Cidr)]);
    case "address-port": {
      const match = /^([^,]+),(tcp|udp|sctp):(\d{1,5})$/.exec(member);
      const port = Number(match?.[3]);
      const protocol = PROTOCOL_NUMBERS[match?.[2] ?? ""];
      if (match === null || protocol === undefined || port > 65535)
        throw new RangeError(`not an address, protocol and port: ${JSON.stringify(member)} (want 10.0.0.1,tcp:80)`);
      return concat(ipBytes((match[1] ?? "") as IpAddress), [protocol, port >> 8, port & 0xff]);
    }
  }
}

/** Packs and sorts. */
export function packMembers(type: SetType, members: readonly SetMember[]): PackedMembers {
  const v4: Uint8Array[] = [];
  const v6: Uint8Array[] = [];
  const width = 4 + TAIL_BYTES[type];
  for (const member of members) {
    const bytes = memberBytes(type, member);
    (bytes.length === width ? v4 : v6).push(bytes);
  }
  return { v4: Buffer.concat(v4.sort(Buffer.compare)), v6: Buffer.concat(v6.sort(Buffer.compare)) };
}

/** The members as text, in wire order. Throws RangeError when the width does not fit or a protocol is not known. */
export function unpackMembers(type: SetType, packed: { readonly v4: Uint8Array; readonly v6: Uint8Array }): SetMember[] {
  return [...unpackFamily(type, packed.v4, 4), ...unpackFamily(type, packed.v6, 16)];
}

function unpackFamily(type: SetType, bytes: Uint8Array, addressBytes: number): SetMember[] {
  const width = addressBytes + TAIL_BYTES[type];
  if (bytes.length % width !== 0) throw new RangeError(`members of type ${type} are ${width} bytes wide; ${bytes.length} bytes do not divide`);
  const members: SetMember[] = [];
  for (let at = 0; at < bytes.length; at += width) {
    const address = bytes.subarray(at, at + addressBytes);
    const tail = bytes.subarray(at + addressBytes, at + width);
    if (type === "address") members.push(ipFromBytes(address));
    else if (type === "prefix") members.push(cidrFromBytes(address, tail[0] ?? 0));
    else {
      const protocol = PROTOCOL_NAMES[tail[0] ?? 0];
      if (protocol === undefined) throw new RangeError(`protocol number ${tail[0]} in a set is not known`);
      members.push(`${ipFromBytes(address)},${protocol}:${((tail[1] ?? 0) << 8) | (tail[2] ?? 0)}`);
    }
  }
  return members;
}

function concat(address: Uint8Array, tail: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(address.length + tail.length);
  bytes.set(address);
  bytes.set(tail, address.length);
  return bytes;
}
