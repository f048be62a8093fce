/**
 * What a counting agent keeps of its view: the hashes of the records that are its own, and the digest over them. Records that every node has are kept
 * once for all agents (by the agents that keep a whole view). Enough to state digests at a reconnect and to compare the digest with the server's.
 *
 * Reads an Update without making objects of it: thousands of agents share one core with nothing else.
 */
import { addDigest, addTo, bucketOf, subtractDigest } from "../../src/wire/digest.ts";

const TAG = { buckets: 0x0a, upserts: 0x12, removed: 0x1a, commit: 0x20, revision: 0x28, digest: 0x31, committedAt: 0x38, bucketIndex: 0x08 } as const;
const LETTER = { b: 0x62, n: 0x6e, p: 0x70, slash: 0x2f } as const;
const HASH_BYTES = 8;

/** What the end of an Update says. */
export interface UpdateEnd {
  readonly isCommit: boolean;
  readonly isAnswer: boolean;
  readonly revision: number;
  readonly committedAtUnixUs: number;
  readonly records: number;
}

/** Records that every node has: "node/", "pool/", "borrowed/" (and not "node-pools/", "policy/"). */
export function isSharedKey(key: string): boolean {
  return key.startsWith("node/") || key.startsWith("pool/") || key.startsWith("borrowed/");
}

/** As isSharedKey, without making a string of it. */
function isSharedAt(bytes: Buffer, at: number): boolean {
  const first = bytes[at];
  return first === LETTER.b || ((first === LETTER.n || first === LETTER.p) && bytes[at + 4] === LETTER.slash);
}

export class LightView {
  readonly #own = new Map<string, bigint>();
  #digest = 0n;
  #at = 0;
  #records = 0;

  /** Of the agent's own records. */
  get digest(): bigint {
    return this.#digest;
  }

  /** Records of its own. */
  get size(): number {
    return this.#own.size;
  }

  /** Forgets everything. */
  clear(): void {
    this.#own.clear();
    this.#digest = 0n;
  }

  /** These buckets came with nothing but records that every node has: the own ones in them are gone, until they come too. */
  replaceBuckets(indexes: ReadonlySet<number>, { seed, bits }: { readonly seed: bigint; readonly bits: number }): void {
    for (const key of this.#own.keys()) if (indexes.has(bucketOf(key, seed, bits))) this.#forget(key);
  }

  /** Digest of each of 2^bits buckets, own records only. */
  bucketDigests(seed: bigint, bits: number): BigUint64Array {
    const digests = new BigUint64Array(2 ** bits);
    for (const [key, hash] of this.#own) addTo(digests, bucketOf(key, seed, bits), hash);
    return digests;
  }

  /** Applies a whole Update message (not yet its commit: the bench's server never takes back a part). */
  apply(bytes: Buffer, { seed, bits }: { readonly seed: bigint; readonly bits: number }): UpdateEnd {
    const end = bytes.length;
    let isCommit = false;
    let isAnswer = false;
    let revision = 0;
    let committedAtUnixUs = 0;
    this.#at = 0;
    this.#records = 0;
    while (this.#at < end) {
      const tag = bytes[this.#at++];
      switch (tag) {
        case TAG.buckets:
          this.#bucket(bytes, this.#varint(bytes), seed, bits);
          break;
        case TAG.upserts:
          this.#record(bytes, this.#varint(bytes));
          break;
        case TAG.removed: {
          const length = this.#varint(bytes);
          this.#forget(bytes.toString("utf8", this.#at, this.#at + length));
          this.#at += length;
          break;
        }
        case TAG.commit:
          isCommit = this.#varint(bytes) === 1;
          break;
        case TAG.revision:
          revision = this.#varint(bytes);
          break;
        case TAG.digest:
          isAnswer = true;
          this.#at += HASH_BYTES;
          break;
        case TAG.committedAt:
          committedAtUnixUs = this.#varint(bytes);
          break;
        default:
          this.#skip(bytes, tag ?? 0);
      }
    }
    return { isCommit, isAnswer, revision, committedAtUnixUs, records: this.#records };
  }

  #bucket(bytes: Buffer, length: number, seed: bigint, bits: number): void {
    const end = this.#at + length;
    let index = 0;
    if (bytes[this.#at] === TAG.bucketIndex) {
      this.#at++;
      index = this.#varint(bytes);
    }
    for (const key of this.#own.keys()) if (bucketOf(key, seed, bits) === index) this.#forget(key);
    while (this.#at < end) {
      this.#at++;
      this.#record(bytes, this.#varint(bytes));
    }
  }

  #record(bytes: Buffer, length: number): void {
    const end = this.#at + length;
    this.#records++;
    this.#at++;
    const keyBytes = this.#varint(bytes);
    if (!isSharedAt(bytes, this.#at)) {
      const key = bytes.toString("utf8", this.#at, this.#at + keyBytes);
      const hash = bytes.readBigUInt64LE(end - HASH_BYTES);
      this.#digest = addDigest(this.#digest, hash - (this.#own.get(key) ?? 0n));
      this.#own.set(key, hash);
    }
    this.#at = end;
  }

  #forget(key: string): void {
    this.#digest = subtractDigest(this.#digest, this.#own.get(key) ?? 0n);
    this.#own.delete(key);
  }

  /** A field that the bench has no use for. */
  #skip(bytes: Buffer, tag: number): void {
    if (tag >= 0x80) this.#varint(bytes);
    const wireType = tag & 7;
    if (wireType === 0) this.#varint(bytes);
    else if (wireType === 1) this.#at += 8;
    else if (wireType === 2) {
      const length = this.#varint(bytes);
      this.#at += length;
    } else throw new Error(`an Update with a field of wire type ${wireType}`);
  }

  #varint(bytes: Buffer): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }
}
