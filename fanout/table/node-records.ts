/**
 * The records of one node that not all nodes have, with their digests at up to 256 buckets. Finer ones are rare (a view of more than 8192 records)
 * and walk the node's own records.
 *
 * Invariant: the digests are the sums over exactly the entries that are in.
 */
import { addTo, bucketOfHash, coarser, subtractFrom } from "../../src/wire/digest.ts";
import type { Entry } from "./entry.ts";

const OWN_BITS = 8;
/** Place of the sum of all, behind the buckets. */
const TOTAL = 2 ** OWN_BITS;

export class NodeRecords {
  readonly entries = new Set<Entry>();
  readonly #digests = new BigUint64Array(TOTAL + 1);

  get digest(): bigint {
    return this.#digests[TOTAL] ?? 0n;
  }

  add(entry: Entry): void {
    this.entries.add(entry);
    this.addHash(entry, entry.hash);
  }

  remove(entry: Entry): void {
    this.entries.delete(entry);
    this.subtractHash(entry, entry.hash);
  }

  addHash(entry: Entry, hash: bigint): void {
    addTo(this.#digests, bucketOfHash(entry.keyHash, OWN_BITS), hash);
    addTo(this.#digests, TOTAL, hash);
  }

  subtractHash(entry: Entry, hash: bigint): void {
    subtractFrom(this.#digests, bucketOfHash(entry.keyHash, OWN_BITS), hash);
    subtractFrom(this.#digests, TOTAL, hash);
  }

  /** A fresh array of 2^bits digests. */
  bucketDigests(bits: number): BigUint64Array {
    if (bits <= OWN_BITS) return coarser(this.#digests.subarray(0, TOTAL), bits);
    const digests = new BigUint64Array(2 ** bits);
    for (const entry of this.entries) addTo(digests, bucketOfHash(entry.keyHash, bits), entry.hash);
    return digests;
  }
}
