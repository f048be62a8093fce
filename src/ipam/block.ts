/**
 * Blocks of a pool: which there are, what their objects are called, where a node begins to look for one.
 *
 * Numbers of blocks are BigInt: a /48 of IPv6 has 2^74 blocks of /122.
 */
import { sha224 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { blockText } from "../model/record.ts";
import { type Cidr, cidrAddress, cidrContains, cidrContainsCidr, cidrFromBytes, cidrLength, cidrOf, cidrVersion } from "../net/cidr.ts";
import { type IpAddress, ipBits, ipBytes, ipVersion } from "../net/ip.ts";

/** What matters of a pool here. */
export interface PoolShape {
  readonly cidr: Cidr;
  /** Prefix length of its blocks, at least the pool's own. */
  readonly blockSize: number;
}

/** Longest name that Kubernetes gives an object. */
const MAX_NAME_LENGTH = 253;

/** How many blocks the pool has. */
export function blockCount(pool: PoolShape): bigint {
  return 1n << BigInt(pool.blockSize - cidrLength(pool.cidr));
}

/** How many addresses a block has. */
export function blockAddressCount(block: Cidr): number {
  return 2 ** (ipBits(cidrVersion(block)) - cidrLength(block));
}

/** Block number `index` of the pool; throws RangeError when there is none. */
export function blockAt(pool: PoolShape, index: bigint): Cidr {
  if (index < 0n || index >= blockCount(pool)) throw new RangeError(`pool ${pool.cidr} has no block number ${index}`);
  const bytes = ipBytes(cidrAddress(pool.cidr));
  let rest = index << BigInt(ipBits(cidrVersion(pool.cidr)) - pool.blockSize);
  for (let i = bytes.length - 1; i >= 0 && rest > 0n; i--) {
    bytes[i] = (bytes[i] ?? 0) | Number(rest & 0xffn);
    rest >>= 8n;
  }
  return cidrFromBytes(bytes, pool.blockSize);
}

/** The number of the block that holds the address; undefined when it is not in the pool. */
export function blockIndexOf(pool: PoolShape, address: IpAddress): bigint | undefined {
  if (!cidrContains(pool.cidr, address)) return undefined;
  const offset = addressNumber(address) - addressNumber(cidrAddress(pool.cidr));
  return offset >> BigInt(ipBits(ipVersion(address)) - pool.blockSize);
}

/** The block that holds the address; undefined when it is not in the pool. */
export function blockOf(pool: PoolShape, address: IpAddress): Cidr | undefined {
  return cidrContains(pool.cidr, address) ? cidrOf(address, pool.blockSize) : undefined;
}

/** True when the prefix is a block of this pool, by place and size. */
export function isBlockOf(pool: PoolShape, block: Cidr): boolean {
  return cidrLength(block) === pool.blockSize && cidrContainsCidr(pool.cidr, block);
}

/** Name of a block's object: "10.0.0.0/26" is "10-0-0-0-26". */
export function blockName(block: Cidr): string {
  return blockText(block);
}

/** Name of the object that is a node's claim to a block: "<node>-<block>", shortened by a hash where it would be too long. */
export function affinityName(node: string, block: Cidr): string {
  const name = `${node}-${blockName(block)}`;
  if (name.length <= MAX_NAME_LENGTH) return name;
  const hash = bytesToHex(sha224(utf8ToBytes(name))).slice(0, 32);
  return `${name.slice(0, MAX_NAME_LENGTH - hash.length - 1).replace(/[^a-z0-9]+$/, "")}-${hash}`;
}

/** Number of the block at which the node begins to look, so that nodes seldom want the same one. */
export function startIndex(pool: PoolShape, node: string): bigint {
  return BigInt(fnv1a32(utf8ToBytes(node))) % blockCount(pool);
}

/** FNV-1a, 32 bits (draft-eastlake-fnv). */
export function fnv1a32(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

function addressNumber(address: IpAddress): bigint {
  return ipBytes(address).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}
