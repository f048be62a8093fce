/**
 * The records that every node has, with their digests. Kept at the finest resolution; coarser ones are sums, remembered until the next change.
 *
 * Invariant: `digest` and every bucket digest are the sums over exactly the entries that are in.
 */
import { addTo, bucketOfHash, coarser, MAX_BUCKET_BITS, subtractFrom } from "../../src/wire/digest.ts";
import type { Entry } from "./entry.ts";

export class SharedRecords {
  readonly #digests = new BigUint64Array(2 ** MAX_BUCKET_BITS);
  readonly #total = new BigUint64Array(1);
  readonly #buckets: Set<Entry>[] = [];
  readonly #coarser = new Map<number, BigUint64Array>();
  #size = 0;
  #bytes = 0;

  get size(): number {
    return this.#size;
  }

  /** Of all records. */
  get bytes(): number {
    return this.#bytes;
  }

  get digest(): bigint {
    return this.#total[0] ?? 0n;
  }

  add(entry: Entry): void {
    const bucket = bucketOfHash(entry.keyHash, MAX_BUCKET_BITS);
    (this.#buckets[bucket] ??= new Set()).add(entry);
    this.#size++;
    this.#bytes += entry.bytes.length;
    this.addHash(entry, entry.hash);
  }

  remove(entry: Entry): void {
    if (this.#buckets[bucketOfHash(entry.keyHash, MAX_BUCKET_BITS)]?.delete(entry) === true) {
      this.#size--;
      this.#bytes -= entry.bytes.length;
    }
    this.subtractHash(entry, entry.hash);
  }

  /** An entry that is in has other bytes now. */
  resized(by: number): void {
    this.#bytes += by;
  }

  addHash(entry: Entry, hash: bigint): void {
    addTo(this.#digests, bucketOfHash(entry.keyHash, MAX_BUCKET_BITS), hash);
    addTo(this.#total, 0, hash);
    this.#coarser.clear();
  }

  subtractHash(entry: Entry, hash: bigint): void {
    subtractFrom(this.#digests, bucketOfHash(entry.keyHash, MAX_BUCKET_BITS), hash);
    subtractFrom(this.#total, 0, hash);
    this.#coarser.clear();
  }

  /** Digests of 2^bits buckets. Not to be changed by the caller. */
  bucketDigests(bits: number): BigUint64Array {
    if (bits === MAX_BUCKET_BITS) return this.#digests;
    let digests = this.#coarser.get(bits);
    if (digests === undefined) {
      digests = coarser(this.#digests, bits);
      this.#coarser.set(bits, digests);
    }
    return digests;
  }

  /** Records of one bucket of 2^bits. */
  *bucket(index: number, bits: number): Generator<Entry> {
    const parts = 2 ** (MAX_BUCKET_BITS - bits);
    for (let i = index * parts; i < (index + 1) * parts; i++) yield* this.#buckets[i] ?? [];
  }

  *entries(): Generator<Entry> {
    for (const bucket of this.#buckets) yield* bucket ?? [];
  }
}
