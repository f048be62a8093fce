/**
 * The one table of records. A commit changes some of them, atomically, and gives them the next revision; nothing that is not here is ever sent.
 *
 * Invariants: a node's digests equal those computed from its view; `revision` grows by one with each commit that changes anything; equal inputs give
 * equal bytes. Rejected: a log of commits (a slow client would hold it; digests make it needless).
 */
import type { NodeName } from "../../src/model/names.ts";
import { type RecordChange, type RecordKey, SHARED_RECORD_KINDS } from "../../src/model/record.ts";
import { addDigest, bucketOfHash, keyHashOf } from "../../src/wire/digest.ts";
import { encodeRecord } from "../../src/wire/record-codec.ts";
import type { RelayCommit, StagedRecord } from "../../src/wire/relay-protocol.ts";
import type { Entry } from "./entry.ts";
import { type NodeId, NodeIds } from "./node-ids.ts";
import { NodeRecords } from "./node-records.ts";
import { SharedRecords } from "./shared-records.ts";

/** One record that a commit changed, for somebody. */
export interface TouchedRecord {
  readonly key: RecordKey;
  /** Whose view changed; undefined: everybody's. */
  readonly nodes: ReadonlySet<NodeId> | undefined;
  /** The record has other bytes, or is new. */
  readonly isContentNew: boolean;
  /** Nodes that entered or left its audience. */
  readonly moved: ReadonlySet<NodeId>;
}

export interface Commit {
  readonly revision: bigint;
  readonly committedAtUnixUs: bigint;
  readonly touched: readonly TouchedRecord[];
}

const NOBODY: ReadonlySet<NodeId> = new Set();
const SHARED_PREFIXES: readonly string[] = SHARED_RECORD_KINDS.map((kind) => `${kind}/`);

/** What a parent said does not fit what the table holds: its bytes are not all there. */
export class MirrorError extends Error {
  readonly code = "MIRROR";

  constructor(message: string) {
    super(message);
    this.name = "MirrorError";
  }
}

export class Table {
  #seed: bigint;
  readonly nodes = new NodeIds();
  readonly #entries = new Map<RecordKey, Entry>();
  readonly #shared = new SharedRecords();
  /** Nodes that have records of their own. */
  readonly #own = new Map<NodeId, NodeRecords>();
  readonly #countByKind = new Map<string, number>();
  #revision = 0n;
  #nextEntryId = 1;

  constructor(options: { readonly seed: bigint }) {
    this.#seed = options.seed;
  }

  /** Of all hashes. */
  get seed(): bigint {
    return this.#seed;
  }

  /** A relay learns the seed from its parent; false: the table holds records under another one, and takes none of this cluster. */
  adoptSeed(seed: bigint): boolean {
    if (seed !== this.#seed && this.size > 0) return false;
    this.#seed = seed;
    return true;
  }

  get revision(): bigint {
    return this.#revision;
  }

  get size(): number {
    return this.#entries.size;
  }

  get countByKind(): ReadonlyMap<string, number> {
    return this.#countByKind;
  }

  findEntry(key: RecordKey): Entry | undefined {
    return this.#entries.get(key);
  }

  entries(): IterableIterator<Entry> {
    return this.#entries.values();
  }

  isInView(entry: Entry, node: NodeId): boolean {
    return entry.isShared || entry.audience.has(node);
  }

  /** Applies changes as one revision. Undefined, and no new revision, when they change nothing. */
  commit(changes: readonly RecordChange[], committedAtUnixUs: bigint): Commit | undefined {
    const revision = this.#revision + 1n;
    const touched: TouchedRecord[] = [];
    for (const change of changes) {
      const record = this.#apply(change, revision);
      if (record !== undefined) touched.push(record);
    }
    if (touched.length === 0) return undefined;
    this.#revision = revision;
    return { revision, committedAtUnixUs, touched };
  }

  /**
   * Makes the table what its parent's is, cut to the nodes that `isHeld` is true of, as one revision: the parent's, also when nothing changes. Throws
   * MirrorError, and changes nothing, when it names a record as known that is not here. `isRestart`: it is of another run of the root, so that no revision of before
   * is comparable: each record is as old as can be.
   */
  mirror(update: RelayCommit, isHeld: (node: NodeId) => boolean, isRestart = false): Commit {
    for (const { key, bytes } of update.records.values())
      if (bytes === undefined && !this.#entries.has(key)) throw new MirrorError(`record ${key} is named as known and is not here`);
    if (isRestart) for (const entry of this.#entries.values()) entry.revision = 1n;
    const touched: TouchedRecord[] = [];
    const note = (record: TouchedRecord | undefined): void => {
      if (record !== undefined) touched.push(record);
    };
    for (const staged of update.records.values()) note(this.#mirrorRecord(staged, update.revision, isHeld));
    for (const key of update.removed) note(this.#removeEntry(key));
    for (const key of this.#leftover(update)) note(this.#removeEntry(key));
    for (const { slot, bits, buckets } of update.cleared) {
      const node = slot as NodeId;
      for (const entries of this.ownBuckets(node, bits, new Set(buckets)).values())
        for (const entry of entries) if (update.records.get(entry.key)?.slots.get(slot) !== true) note(this.#leave(entry, node));
    }
    for (const slot of update.dropped) this.forgetNode(slot as NodeId);
    this.#revision = update.revision;
    return { revision: update.revision, committedAtUnixUs: update.committedAtUnixUs, touched };
  }

  /** The parent's table is further, and nothing of that is for the nodes here. */
  advance(revision: bigint): void {
    if (revision > this.#revision) this.#revision = revision;
  }

  /** Takes a node out of all audiences: nobody asks for its view any more. */
  forgetNode(node: NodeId): void {
    for (const entry of this.#own.get(node)?.entries ?? []) this.#leave(entry, node);
  }

  ownSize(node: NodeId): number {
    return this.#own.get(node)?.entries.size ?? 0;
  }

  /** Digest of each of 2^bits buckets of the records of the node that not every node has. */
  ownBucketDigests(node: NodeId, bits: number): BigUint64Array {
    return this.#own.get(node)?.bucketDigests(bits) ?? new BigUint64Array(2 ** bits);
  }

  get sharedSize(): number {
    return this.#shared.size;
  }

  /** Digests of 2^bits buckets of the records that every node has. Not to be changed by the caller. */
  sharedBucketDigests(bits: number): BigUint64Array {
    return this.#shared.bucketDigests(bits);
  }

  /** Digest of the views of the nodes together, as relay.proto defines it: a record that is in the view of the wrong node shows. */
  unionDigest(nodes: Iterable<NodeId>): bigint {
    let digest = this.#shared.digest;
    for (const node of nodes) {
      const own = this.#own.get(node)?.digest ?? 0n;
      if (own === 0n) continue;
      const name = this.nodes.findName(node) ?? "";
      digest = addDigest(digest, own * BigInt(keyHashOf(name, this.#seed) | 1));
    }
    return digest;
  }

  viewSize(node: NodeId): number {
    return this.#shared.size + (this.#own.get(node)?.entries.size ?? 0);
  }

  /** Digest of a node's view, in O(1). */
  viewDigest(node: NodeId): bigint {
    return addDigest(this.#shared.digest, this.#own.get(node)?.digest ?? 0n);
  }

  /** Digest of each of 2^bits buckets of a node's view. */
  bucketDigests(node: NodeId, bits: number): BigUint64Array {
    const shared = this.#shared.bucketDigests(bits);
    const own = this.#own.get(node)?.bucketDigests(bits);
    if (own === undefined) return BigUint64Array.from(shared);
    for (let i = 0; i < own.length; i++) own[i] = (own[i] ?? 0n) + (shared[i] ?? 0n);
    return own;
  }

  /** Records of a node's view, in no order. */
  *view(node: NodeId): Generator<Entry> {
    yield* this.#shared.entries();
    yield* this.#own.get(node)?.entries ?? [];
  }

  /** Those records of a node's view that not every node has. */
  ownEntries(node: NodeId): Iterable<Entry> {
    return this.#own.get(node)?.entries ?? [];
  }

  /** As `view`; of a node that has nothing of its own, what every node has. */
  viewOf(name: NodeName): Iterable<Entry> {
    const node = this.nodes.findId(name);
    return node === undefined ? this.#shared.entries() : this.view(node);
  }

  /** The node's own records by bucket, for the buckets named; together with `sharedBucket` a bucket's content. */
  ownBuckets(node: NodeId, bits: number, wanted: ReadonlySet<number>): Map<number, Entry[]> {
    const buckets = new Map<number, Entry[]>();
    for (const entry of this.#own.get(node)?.entries ?? []) {
      const index = bucketOfHash(entry.keyHash, bits);
      if (!wanted.has(index)) continue;
      const bucket = buckets.get(index);
      if (bucket === undefined) buckets.set(index, [entry]);
      else bucket.push(entry);
    }
    return buckets;
  }

  /** Bytes of all shared records. */
  get sharedBytes(): number {
    return this.#shared.bytes;
  }

  /** Digest of one of 2^bits buckets, shared records only. */
  sharedDigest(index: number, bits: number): bigint {
    return this.#shared.bucketDigests(bits)[index] ?? 0n;
  }

  sharedBucket(index: number, bits: number): Generator<Entry> {
    return this.#shared.bucket(index, bits);
  }

  #apply(change: RecordChange, revision: bigint): TouchedRecord | undefined {
    const isShared = SHARED_PREFIXES.some((prefix) => change.key.startsWith(prefix));
    if (change.isRemoved) return this.#removeEntry(change.key);
    let entry = this.#entries.get(change.key);
    const encoded = change.value === undefined ? undefined : encodeRecord(change.value, this.#seed);
    let isNewContent = false;
    if (entry === undefined) {
      if (encoded === undefined) return undefined;
      entry = {
        id: this.#nextEntryId++,
        key: change.key,
        keyHash: keyHashOf(change.key, this.#seed),
        isShared,
        audience: new Set(),
        bytes: encoded.bytes,
        hash: encoded.hash,
        revision,
      };
      this.#entries.set(change.key, entry);
      this.#count(change.key, 1);
      if (isShared) this.#shared.add(entry);
      isNewContent = true;
    } else if (encoded !== undefined && encoded.hash !== entry.hash) {
      this.#replace(entry, encoded);
      entry.revision = revision;
      isNewContent = true;
    }
    if (isShared) return isNewContent ? { key: change.key, nodes: undefined, isContentNew: true, moved: NOBODY } : undefined;
    return this.#changeAudience(entry, change, isNewContent);
  }

  #changeAudience(entry: Entry, change: RecordChange, isNewContent: boolean): TouchedRecord | undefined {
    const nodes = new Set<NodeId>();
    for (const name of change.left) {
      const node = this.nodes.findId(name);
      if (node === undefined || !entry.audience.delete(node)) continue;
      this.#removeOwn(node, entry);
      nodes.add(node);
    }
    for (const name of change.entered) {
      const node = this.nodes.idOf(name);
      if (entry.audience.has(node)) continue;
      entry.audience.add(node);
      this.#ownOf(node).add(entry);
      nodes.add(node);
    }
    return touchedRecord(entry, nodes, isNewContent);
  }

  #mirrorRecord(
    { key, bytes, hash, isShared, isComplete, slots }: StagedRecord,
    revision: bigint,
    isHeld: (node: NodeId) => boolean,
  ): TouchedRecord | undefined {
    let entry = this.#entries.get(key);
    let isNewContent = false;
    if (entry === undefined) {
      if (bytes === undefined) return undefined;
      entry = { id: this.#nextEntryId++, key, keyHash: keyHashOf(key, this.#seed), isShared, audience: new Set(), bytes, hash, revision };
      this.#entries.set(key, entry);
      this.#count(key, 1);
      if (isShared) this.#shared.add(entry);
      isNewContent = true;
    } else if (bytes !== undefined && hash !== entry.hash) {
      this.#replace(entry, { bytes, hash });
      entry.revision = revision;
      isNewContent = true;
    }
    if (entry.isShared) return isNewContent ? { key, nodes: undefined, isContentNew: true, moved: NOBODY } : undefined;
    const moved = new Set<NodeId>();
    if (isComplete)
      for (const node of entry.audience) {
        if (slots.get(node) === true) continue;
        entry.audience.delete(node);
        this.#removeOwn(node, entry);
        moved.add(node);
      }
    for (const [slot, has] of slots) {
      const node = slot as NodeId;
      if (has === entry.audience.has(node) || (has && !isHeld(node))) continue;
      if (has) {
        entry.audience.add(node);
        this.#ownOf(node).add(entry);
      } else {
        entry.audience.delete(node);
        this.#removeOwn(node, entry);
      }
      moved.add(node);
    }
    const touched = touchedRecord(entry, moved, isNewContent);
    this.#dropIfUnused(entry);
    return touched;
  }

  /** Records of the shared buckets that are stated complete, which the statement does not name. */
  #leftover({ clearedShared, sharedBits, records }: RelayCommit): RecordKey[] {
    return clearedShared.flatMap((index) => [...this.#shared.bucket(index, sharedBits)].map(({ key }) => key).filter((key) => !records.has(key)));
  }

  #leave(entry: Entry, node: NodeId): TouchedRecord | undefined {
    if (!entry.audience.delete(node)) return undefined;
    this.#removeOwn(node, entry);
    this.#dropIfUnused(entry);
    const moved = new Set([node]);
    return { key: entry.key, nodes: moved, isContentNew: false, moved };
  }

  /** A relay keeps nothing that is for nobody here. */
  #dropIfUnused(entry: Entry): void {
    if (entry.isShared || entry.audience.size > 0 || !this.#entries.delete(entry.key)) return;
    this.#count(entry.key, -1);
  }

  #replace(entry: Entry, { bytes, hash }: { readonly bytes: Uint8Array; readonly hash: bigint }): void {
    const before = entry.hash;
    if (entry.isShared) this.#shared.resized(bytes.length - entry.bytes.length);
    entry.bytes = bytes;
    entry.hash = hash;
    if (entry.isShared) {
      this.#shared.subtractHash(entry, before);
      this.#shared.addHash(entry, hash);
      return;
    }
    for (const node of entry.audience) {
      const own = this.#ownOf(node);
      own.subtractHash(entry, before);
      own.addHash(entry, hash);
    }
  }

  #removeEntry(key: RecordKey): TouchedRecord | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#count(key, -1);
    if (entry.isShared) {
      this.#shared.remove(entry);
      return { key, nodes: undefined, isContentNew: true, moved: NOBODY };
    }
    for (const node of entry.audience) this.#removeOwn(node, entry);
    return { key, nodes: entry.audience, isContentNew: true, moved: entry.audience };
  }

  #ownOf(node: NodeId): NodeRecords {
    let own = this.#own.get(node);
    if (own === undefined) {
      own = new NodeRecords();
      this.#own.set(node, own);
      this.nodes.hold(node);
    }
    return own;
  }

  #removeOwn(node: NodeId, entry: Entry): void {
    const own = this.#own.get(node);
    if (own === undefined) return;
    own.remove(entry);
    if (!own.isEmpty) return;
    this.#own.delete(node);
    this.nodes.release(node);
  }

  #count(key: RecordKey, by: number): void {
    const kind = key.slice(0, key.indexOf("/"));
    this.#countByKind.set(kind, (this.#countByKind.get(kind) ?? 0) + by);
  }
}

function touchedRecord(entry: Entry, moved: ReadonlySet<NodeId>, isContentNew: boolean): TouchedRecord | undefined {
  if (!isContentNew) return moved.size === 0 ? undefined : { key: entry.key, nodes: moved, isContentNew, moved };
  const nodes = new Set(moved);
  for (const node of entry.audience) nodes.add(node);
  return { key: entry.key, nodes, isContentNew, moved };
}
