/**
 * The records of one node that not all nodes have, with their digests at up to 256 buckets. Finer ones are rare (a view of more than 8192 records)
 * and walk the node's own records. A node with few records keeps none but their sum and walks as well: 2 KB of digests for each of many thousands of
 * nodes that have a pod or two cost more than they save.
 *
 * Invariant: the digests are the sums over exactly the entries that are in.
 */
import { addTo, bucketOfHash, coarser, subtractFrom } from "../../src/wire/digest.ts";
import type { Entry } from "./entry.ts";

const OWN_BITS = 8;
/** From so many records on the digests are kept. */
const KEPT_FROM = 256;

export class NodeRecords {
  readonly entries = new Set<Entry>();
  readonly #total = new BigUint64Array(1);
  #digests: BigUint64Array | undefined;

  get digest(): bigint {
    return this.#total[0] ?? 0n;
  }

  get isEmpty(): boolean {
    return this.entries.size === 0;
  }

  add(entry: Entry): void {
    this.entries.add(entry);
    this.addHash(entry, entry.hash);
    if (this.entries.size === KEPT_FROM) this.#digests = this.#walk(OWN_BITS);
  }

  remove(entry: Entry): void {
    this.entries.delete(entry);
    this.subtractHash(entry, entry.hash);
    if (this.entries.size < KEPT_FROM / 2) this.#digests = undefined;
  }

  addHash(entry: Entry, hash: bigint): void {
    if (this.#digests !== undefined) addTo(this.#digests, bucketOfHash(entry.keyHash, OWN_BITS), hash);
    addTo(this.#total, 0, hash);
  }

  subtractHash(entry: Entry, hash: bigint): void {
    if (this.#digests !== undefined) subtractFrom(this.#digests, bucketOfHash(entry.keyHash, OWN_BITS), hash);
    subtractFrom(this.#total, 0, hash);
  }

  /** A fresh array of 2^bits digests. */
  bucketDigests(bits: number): BigUint64Array {
    return this.#digests === undefined || bits > OWN_BITS ? this.#walk(bits) : coarser(this.#digests, bits);
  }

  #walk(bits: number): BigUint64Array {
    const digests = new BigUint64Array(2 ** bits);
    for (const entry of this.entries) addTo(digests, bucketOfHash(entry.keyHash, bits), entry.hash);
    return digests;
  }
}
