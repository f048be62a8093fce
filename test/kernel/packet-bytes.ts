/** Bytes of the packets that a prober makes and reads by hand: SCTP (this kernel has no such sockets), echo requests, UDP, IP headers, and ICMP errors. */
import { type IpAddress, ipBytes, ipFromBytes, ipVersion } from "../../src/net/ip.ts";

export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132, raw: 255 } as const;
export const SCTP_DATA = 0;
export const SCTP_INIT = 1;
export const SCTP_INIT_ACK = 2;
const SCTP_HEADER = 12;
const INIT_CHUNK = 20;
const CRC32C_POLYNOMIAL = 0x82f63b78;
const DEFAULT_TTL = 64;

export interface Flow {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ CRC32C_POLYNOMIAL : value >>> 1;
  return value;
});

/** CRC32c (RFC 9260, appendix A), written little endian into the packet. */
export function crc32c(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) value = (crcTable[(value ^ byte) & 0xff] ?? 0) ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** An INIT (verification tag 0) or INIT ACK chunk in a packet, with the checksum right. */
export function sctpPacket(options: {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly type: number;
  readonly tag: number;
  readonly initiateTag: number;
}): Buffer {
  const isAck = options.type === SCTP_INIT_ACK;
  // An INIT ACK must carry a state cookie (parameter 7).
  const cookie = isAck ? Buffer.from([0, 7, 0, 8, 1, 2, 3, 4]) : Buffer.alloc(0);
  const bytes = Buffer.concat([Buffer.alloc(SCTP_HEADER + INIT_CHUNK), cookie]);
  bytes.writeUInt16BE(options.sourcePort, 0);
  bytes.writeUInt16BE(options.destinationPort, 2);
  bytes.writeUInt32BE(options.tag, 4);
  bytes.writeUInt8(options.type, 12);
  bytes.writeUInt16BE(INIT_CHUNK + cookie.length, 14);
  bytes.writeUInt32BE(options.initiateTag, 16);
  bytes.writeUInt32BE(65_536, 20);
  bytes.writeUInt16BE(1, 24);
  bytes.writeUInt16BE(1, 26);
  bytes.writeUInt32BE(1, 28);
  bytes.writeUInt32LE(crc32c(bytes), 8);
  return bytes;
}

/** The kernel fills in the checksum of ICMPv6. */
export function echoRequest(version: 4 | 6, { id, sequence, size = 8 }: { readonly id: number; readonly sequence: number; readonly size?: number }): Buffer {
  const bytes = Buffer.alloc(8 + size);
  bytes.writeUInt8(version === 4 ? 8 : 128, 0);
  bytes.writeUInt16BE(id, 4);
  bytes.writeUInt16BE(sequence, 6);
  if (version === 4) bytes.writeUInt16BE(internetChecksum(bytes), 2);
  return bytes;
}

export function udpPacket({ source, destination, sourcePort, destinationPort }: Flow, data: Uint8Array): Buffer {
  const bytes = Buffer.alloc(8 + data.length);
  bytes.writeUInt16BE(sourcePort, 0);
  bytes.writeUInt16BE(destinationPort, 2);
  bytes.writeUInt16BE(bytes.length, 4);
  bytes.set(data, 8);
  const pseudo = Buffer.concat([ipBytes(source), ipBytes(destination), Buffer.from([0, PROTOCOL.udp, bytes.length >> 8, bytes.length & 0xff]), bytes]);
  bytes.writeUInt16BE(internetChecksum(pseudo) || 0xffff, 6);
  return bytes;
}

/** With its header, for IP_HDRINCL and IPV6_HDRINCL: any source can be stated. */
export function ipPacket(options: { readonly source: IpAddress; readonly destination: IpAddress; readonly protocol: number }, payload: Uint8Array): Buffer {
  const isV4 = ipVersion(options.source) === 4;
  const header = Buffer.alloc(isV4 ? 20 : 40);
  if (isV4) {
    header.writeUInt8(0x45, 0);
    header.writeUInt16BE(20 + payload.length, 2);
    header.writeUInt8(DEFAULT_TTL, 8);
    header.writeUInt8(options.protocol, 9);
  } else {
    header.writeUInt8(0x60, 0);
    header.writeUInt16BE(payload.length, 4);
    header.writeUInt8(options.protocol, 6);
    header.writeUInt8(DEFAULT_TTL, 7);
  }
  header.set(ipBytes(options.source), isV4 ? 12 : 8);
  header.set(ipBytes(options.destination), isV4 ? 16 : 24);
  if (isV4) header.writeUInt16BE(internetChecksum(header), 10);
  return Buffer.concat([header, payload]);
}

/** What is behind the IPv4 header of a packet as a raw socket gives it; IPv6 raw sockets give it without one. */
export function payloadOf(version: 4 | 6, bytes: Buffer): Buffer {
  return version === 6 ? bytes : bytes.subarray(((bytes[0] ?? 0) & 0x0f) * 4);
}

/** The packet that an ICMP error is about, as far as it is quoted; undefined when the message is no "unreachable" or "prohibited". */
export function refusedFlow(version: 4 | 6, message: Buffer): (Flow & { readonly protocol: number }) | undefined {
  const isUnreachable = message[0] === (version === 4 ? 3 : 1);
  const inner = message.subarray(8);
  const headerLength = version === 4 ? ((inner[0] ?? 0) & 0x0f) * 4 : 40;
  if (!isUnreachable || inner.length < headerLength + 8) return undefined;
  const at = version === 4 ? 12 : 8;
  const size = version === 4 ? 4 : 16;
  const protocol = inner[version === 4 ? 9 : 6] ?? 0;
  const isEcho = protocol === PROTOCOL.icmp || protocol === PROTOCOL.icmpv6;
  return {
    protocol,
    source: ipFromBytes(inner.subarray(at, at + size)),
    destination: ipFromBytes(inner.subarray(at + size, at + 2 * size)),
    sourcePort: inner.readUInt16BE(headerLength + (isEcho ? 4 : 0)),
    destinationPort: inner.readUInt16BE(headerLength + (isEcho ? 6 : 2)),
  };
}

export function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
