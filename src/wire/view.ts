/**
 * What an agent has: records by key, and the updates that wait for their commit. Pure; the same class serves the agent, its disk store and the tests.
 *
 * Invariants: nothing changes before a commit, and then all of it does (a failed check leaves the view as it was); the digest is the sum of the hashes
 * of exactly the records that the map holds; a record under another seed than the view's is never in the map.
 */
import type { RecordKey } from "../model/record.ts";
import { addDigest, addTo, bucketBitsFor, bucketOfHash, keyHashOf, subtractDigest } from "./digest.ts";
import { WireError } from "./error.ts";
import type { ViewState } from "./gen/sedge/sync/v1/sync.ts";
import { equalBytes, verifyRecord } from "./record-codec.ts";
import type { RawUpdate } from "./update-codec.ts";

export interface ViewRecord {
  readonly key: RecordKey;
  /** The whole Record message. */
  readonly bytes: Uint8Array;
  readonly hash: bigint;
  /** Places the record in its bucket. */
  readonly keyHash: number;
}

/** One record's change in a commit; both are never undefined, and they differ. */
export interface ViewChange {
  readonly before: ViewRecord | undefined;
  readonly after: ViewRecord | undefined;
}

/** What a commit changed. */
export interface ViewDelta {
  readonly changes: ReadonlyMap<RecordKey, ViewChange>;
  readonly revision: bigint;
  /** When the oldest change in it was committed at the server (microseconds since 1970), 0n when not known. */
  readonly committedAtUnixUs: bigint;
  /** False: the commit named a digest and the view does not have it. */
  readonly isDigestRight: boolean;
}

/** resourceVersion by kind. Those of two kinds, or of two clusters, are never compared. */
export type UpstreamVersions = ReadonlyMap<string, bigint>;

const EMPTY_VIEW_BUCKET_BITS = 8;

interface StagedUpdate {
  readonly update: RawUpdate;
  readonly bucketRecords: readonly (readonly ViewRecord[])[];
  readonly upserts: readonly ViewRecord[];
}

export class View {
  #seed: bigint;
  #records = new Map<RecordKey, ViewRecord>();
  #digest = 0n;
  #revision = 0n;
  #epoch = "";
  #staged: StagedUpdate[] = [];
  /** Seed of the staged updates, when it is not the view's: the commit then replaces everything. */
  #nextSeed: bigint | undefined;
  #bucketBits = 0;
  /** Newest resourceVersion of each kind that can be in the view. */
  readonly #upstream = new Map<string, bigint>();
  /** Kinds that the session's updates tell the versions of, in order. */
  #upstreamKinds: readonly string[] = [];

  /** An empty view; seed 0n until a Welcome gives one. */
  constructor(seed = 0n) {
    this.#seed = seed;
  }

  /** A view from stored records; throws WireError at the first whose hash does not fit. */
  static restore(stored: {
    readonly seed: bigint;
    readonly epoch: string;
    readonly revision: bigint;
    readonly records: Iterable<Uint8Array>;
    readonly upstream?: UpstreamVersions;
  }): View {
    const view = new View(stored.seed);
    view.#epoch = stored.epoch;
    view.#revision = stored.revision;
    for (const [kind, version] of stored.upstream ?? []) view.#upstream.set(kind, version);
    for (const bytes of stored.records) view.#put(toViewRecord(bytes, stored.seed));
    return view;
  }

  get seed(): bigint {
    return this.#seed;
  }

  get size(): number {
    return this.#records.size;
  }

  get digest(): bigint {
    return this.#digest;
  }

  get revision(): bigint {
    return this.#revision;
  }

  /** Epoch of `revision`. */
  get epoch(): string {
    return this.#epoch;
  }

  /** Which state of the API the view is of; empty when no server told. An agent never takes a view from a server that has not come as far. */
  get upstream(): UpstreamVersions {
    return this.#upstream;
  }

  get records(): ReadonlyMap<RecordKey, ViewRecord> {
    return this.#records;
  }

  get hasStaged(): boolean {
    return this.#staged.length > 0;
  }

  /** A session begins: forgets what was staged. Under another seed the records stay in force until the first commit, which replaces them all. */
  begin(session: { readonly seed: bigint; readonly epoch: string; readonly bucketBits: number; readonly upstreamKinds?: readonly string[] }): void {
    this.#staged = [];
    this.#upstreamKinds = session.upstreamKinds ?? [];
    this.#nextSeed = session.seed === this.#seed ? undefined : session.seed;
    if (this.#epoch !== session.epoch) this.#revision = 0n;
    this.#epoch = session.epoch;
    this.#bucketBits = session.bucketBits;
  }

  /** bucket_bits in which the next answer counts. */
  setBucketBits(bits: number): void {
    this.#bucketBits = bits;
  }

  /** Drops what was staged: the session ended before its commit. */
  discard(): void {
    this.#staged = [];
    this.#nextSeed = undefined;
  }

  /** Checks and keeps an update for the commit. Throws WireError when a record is malformed, fails its hash or is in the wrong bucket; nothing is kept then. */
  stage(update: RawUpdate): void {
    const seed = this.#nextSeed ?? this.#seed;
    const bucketRecords = update.buckets.map((bucket) =>
      bucket.records.map((bytes) => {
        const record = toViewRecord(bytes, seed);
        if (bucketOfHash(record.keyHash, this.#bucketBits) !== bucket.index)
          throw new WireError("unexpected", `record ${record.key} is not of bucket ${bucket.index}`);
        return record;
      }),
    );
    this.#staged.push({ update, bucketRecords, upserts: update.upserts.map((bytes) => toViewRecord(bytes, seed)) });
  }

  /** Applies everything staged, the last of which has `commit` set. */
  commit(): ViewDelta {
    const last = this.#staged.at(-1)?.update;
    if (last?.commit !== true) throw new WireError("unexpected", "a commit without an update that says so");
    const after = new Map<RecordKey, ViewRecord | undefined>();
    if (this.#nextSeed !== undefined) for (const key of this.#records.keys()) after.set(key, undefined);
    const keysByBucket = this.#staged.some(({ update }) => update.buckets.length > 0) ? this.#keysByBucket() : new Map<number, RecordKey[]>();
    for (const { update, bucketRecords, upserts } of this.#staged) {
      this.#clearBuckets(after, update);
      for (const [i, { index }] of update.buckets.entries()) {
        for (const key of keysByBucket.get(index) ?? []) after.set(key, undefined);
        for (const record of bucketRecords[i] ?? []) after.set(record.key, record);
      }
      for (const key of update.removed) after.set(key, undefined);
      for (const record of upserts) after.set(record.key, record);
    }
    const changes = this.#apply(after);
    this.#noteUpstream(last.upstream ?? [], last.digest !== undefined);
    this.#seed = this.#nextSeed ?? this.#seed;
    this.#nextSeed = undefined;
    this.#staged = [];
    this.#revision = last.revision;
    return {
      changes,
      revision: last.revision,
      committedAtUnixUs: last.committedAtUnixUs,
      isDigestRight: last.digest === undefined || last.digest === this.#digest,
    };
  }

  /** The server's heartbeat said that nothing changed for us up to this revision. */
  advance(revision: bigint): void {
    if (revision > this.#revision) this.#revision = revision;
  }

  /** Digest of each of 2^bits buckets. */
  bucketDigests(bits: number): BigUint64Array {
    const digests = new BigUint64Array(2 ** bits);
    for (const record of this.#records.values()) addTo(digests, bucketOfHash(record.keyHash, bits), record.hash);
    return digests;
  }

  /** What Hello and repair state. An empty view states no digests, and asks for buckets of a size that suits a large node. */
  viewState(bits = this.#records.size === 0 ? EMPTY_VIEW_BUCKET_BITS : bucketBitsFor(this.#records.size)): ViewState {
    return { hashSeed: this.#seed, bucketBits: bits, digests: this.#records.size === 0 ? [] : [...this.bucketDigests(bits)] };
  }

  /** What the same answer has given so far in these buckets is replaced too. */
  #clearBuckets(after: Map<RecordKey, ViewRecord | undefined>, { buckets }: RawUpdate): void {
    if (buckets.length === 0 || after.size === 0) return;
    const replaced = new Set(buckets.map(({ index }) => index));
    for (const [key, record] of after) if (record !== undefined && replaced.has(bucketOfHash(record.keyHash, this.#bucketBits))) after.set(key, undefined);
  }

  /** After an answer the view is the server's, and so is its place in the history; a delta only adds. */
  #noteUpstream(versions: readonly bigint[], isAnswer: boolean): void {
    if (this.#nextSeed !== undefined || (isAnswer && this.#upstreamKinds.length > 0)) this.#upstream.clear();
    for (const [i, version] of versions.entries()) {
      const kind = this.#upstreamKinds[i];
      if (kind !== undefined && version > (this.#upstream.get(kind) ?? 0n)) this.#upstream.set(kind, version);
    }
  }

  #keysByBucket(): Map<number, RecordKey[]> {
    const byBucket = new Map<number, RecordKey[]>();
    if (this.#nextSeed !== undefined) return byBucket;
    for (const { key, keyHash } of this.#records.values()) {
      const index = bucketOfHash(keyHash, this.#bucketBits);
      const keys = byBucket.get(index);
      if (keys === undefined) byBucket.set(index, [key]);
      else keys.push(key);
    }
    return byBucket;
  }

  #apply(after: ReadonlyMap<RecordKey, ViewRecord | undefined>): Map<RecordKey, ViewChange> {
    const changes = new Map<RecordKey, ViewChange>();
    for (const [key, record] of after) {
      const before = this.#records.get(key);
      if (before !== undefined && record !== undefined && equalBytes(before.bytes, record.bytes)) continue;
      if (before === undefined && record === undefined) continue;
      changes.set(key, { before, after: record });
      if (before !== undefined) this.#remove(before);
      if (record !== undefined) this.#put(record);
    }
    return changes;
  }

  #put(record: ViewRecord): void {
    this.#records.set(record.key, record);
    this.#digest = addDigest(this.#digest, record.hash);
  }

  #remove(record: ViewRecord): void {
    this.#records.delete(record.key);
    this.#digest = subtractDigest(this.#digest, record.hash);
  }
}

function toViewRecord(bytes: Uint8Array, seed: bigint): ViewRecord {
  const { key, hash } = verifyRecord(bytes, seed);
  return { key, bytes, hash, keyHash: keyHashOf(key, seed) };
}
