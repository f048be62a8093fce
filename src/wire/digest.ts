/**
 * Hashes and digests: content decides whether two views are the same.
 *
 * Invariant: a digest is the sum mod 2^64 of record hashes, so it does not depend on order and changes in O(1). A BigUint64Array wraps at a store by
 * itself and its little-endian bytes are the wire's packed fixed64. Rejected: two uint32 halves (V8 keeps these sums in registers; no gain measured).
 */
import xxhash from "xxhash-wasm";

const { h32, h64, h64Raw } = await xxhash();

/** Finest division of a view that the protocol knows: 4096 buckets. */
export const MAX_BUCKET_BITS = 12;
/** About this many records share a bucket. */
const RECORDS_PER_BUCKET = 32;
const LOW_32 = 0xffff_ffffn;

/** Seed of every hash in a cluster: XXH64 of its UID's text (UTF-8), seed 0. */
export function seedOf(clusterUid: string): bigint {
  return textHash(clusterUid);
}

/** XXH64 of the text (UTF-8), seed 0. */
export function textHash(text: string): bigint {
  return h64(text, 0n);
}

/** XXH64 of the bytes. */
export function contentHash(bytes: Uint8Array, seed: bigint): bigint {
  return h64Raw(bytes, seed);
}

/** XXH32 of the key (UTF-8) with the lower half of the seed; its upper bits number the bucket at every resolution. */
export function keyHashOf(key: string, seed: bigint): number {
  return h32(key, Number(seed & LOW_32));
}

/** Bucket of a key hash among 2^bits. */
export function bucketOfHash(keyHash: number, bits: number): number {
  return bits === 0 ? 0 : keyHash >>> (32 - bits);
}

/** Bucket of a key among 2^bits. */
export function bucketOf(key: string, seed: bigint, bits: number): number {
  return bucketOfHash(keyHashOf(key, seed), bits);
}

/** The bucket_bits that suit a view of so many records: about 32 in a bucket, at most 4096 buckets. */
export function bucketBitsFor(records: number): number {
  let bits = 0;
  while (bits < MAX_BUCKET_BITS && 2 ** bits * RECORDS_PER_BUCKET < records) bits++;
  return bits;
}

/** a + b mod 2^64. */
export function addDigest(a: bigint, b: bigint): bigint {
  return BigInt.asUintN(64, a + b);
}

/** a - b mod 2^64. */
export function subtractDigest(a: bigint, b: bigint): bigint {
  return BigInt.asUintN(64, a - b);
}

/** Adds a hash at one place of an array of digests. */
export function addTo(digests: BigUint64Array, index: number, hash: bigint): void {
  digests[index] = (digests[index] ?? 0n) + hash;
}

export function subtractFrom(digests: BigUint64Array, index: number, hash: bigint): void {
  digests[index] = (digests[index] ?? 0n) - hash;
}

/** The digests at a coarser resolution, in a fresh array: each is the sum of its parts. */
export function coarser(digests: BigUint64Array, bits: number): BigUint64Array {
  if (digests.length === 2 ** bits) return digests.slice();
  const result = new BigUint64Array(2 ** bits);
  const parts = digests.length / result.length;
  if (parts < 1) throw new RangeError(`${digests.length} digests cannot be refined to 2^${bits}`);
  for (let i = 0; i < digests.length; i++) addTo(result, Math.floor(i / parts), digests[i] ?? 0n);
  return result;
}
