/**
 * Messages out of records already encoded. Sessions with the same changed keys share one frame, which lives until the next commit.
 */
import type { RecordKey } from "../../src/model/record.ts";
import { delimitedSize, encodeUpdate } from "../../src/wire/update-codec.ts";
import type { Entry } from "../table/entry.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Table } from "../table/table.ts";

/** Larger updates go out in parts (the receiver's default limit is 4 MiB a message). */
export const MAX_MESSAGE_BYTES = 1024 * 1024;
/** Frames are shared up to this many keys; beyond, finding an equal set costs more than it saves. */
const MAX_SHARED_KEYS = 64;

export interface Delta {
  readonly upserts: readonly Entry[];
  readonly removed: readonly RecordKey[];
}

/** What the keys are for the node now. */
export function deltaOf(table: Table, node: NodeId, keys: Iterable<RecordKey>): Delta {
  const upserts: Entry[] = [];
  const removed: RecordKey[] = [];
  for (const key of keys) {
    const entry = table.findEntry(key);
    if (entry !== undefined && table.isInView(entry, node)) upserts.push(entry);
    else removed.push(key);
  }
  return { upserts, removed };
}

/** The commit that made a change. */
export interface CommitMark {
  readonly committedAtUnixUs: bigint;
  readonly revision: bigint;
}

export interface CommitFields {
  readonly revision: bigint;
  readonly committedAtUnixUs: bigint;
  /** Only in the commit that ends an answer. */
  readonly digest?: bigint;
  /** For agents with the feature "upstream": what their commit tells (upstream-versions.ts), and since which revision. */
  readonly upstream?: { readonly since: bigint; readonly versions: readonly bigint[] };
}

/** The delta as messages, the last of which commits. */
export function deltaFrames({ upserts, removed }: Delta, { revision, committedAtUnixUs, digest, upstream }: CommitFields): Uint8Array[] {
  const frames: Uint8Array[] = [];
  const empty = { buckets: [], upserts: [], removed: [], commit: false, revision: 0n, digest: undefined, committedAtUnixUs: 0n } as const;
  let part: Uint8Array[] = [];
  let bytes = removed.reduce((sum, key) => sum + delimitedSize(key.length), 0);
  let removedInPart = removed;
  for (const entry of upserts) {
    const size = delimitedSize(entry.bytes.length);
    if (bytes > 0 && bytes + size > MAX_MESSAGE_BYTES) {
      frames.push(encodeUpdate({ ...empty, upserts: part, removed: removedInPart }));
      part = [];
      removedInPart = [];
      bytes = 0;
    }
    part.push(entry.bytes);
    bytes += size;
  }
  frames.push(
    encodeUpdate({ buckets: [], upserts: part, removed: removedInPart, commit: true, revision, digest, committedAtUnixUs, upstream: upstream?.versions ?? [] }),
  );
  return frames;
}

/** Size of the delta as messages, about. */
export function bytesOfDelta({ upserts, removed }: Delta): number {
  let bytes = 0;
  for (const { bytes: record } of upserts) bytes += delimitedSize(record.length);
  for (const key of removed) bytes += delimitedSize(key.length);
  return bytes;
}

/** What the keys are for the node, in messages without commit; each is made when it is taken, with the values of then. */
export function* deltaParts({
  table,
  node,
  keys,
  partBytes,
}: {
  readonly table: Table;
  readonly node: NodeId;
  readonly keys: Iterable<RecordKey>;
  readonly partBytes: number;
}): Generator<Uint8Array, void> {
  let delta: { upserts: Entry[]; removed: RecordKey[] } = { upserts: [], removed: [] };
  let bytes = 0;
  const take = (): Uint8Array => {
    const { upserts, removed } = delta;
    delta = { upserts: [], removed: [] };
    bytes = 0;
    return encodeUpdate({
      buckets: [],
      upserts: upserts.map((entry) => entry.bytes),
      removed,
      commit: false,
      revision: 0n,
      digest: undefined,
      committedAtUnixUs: 0n,
    });
  };
  for (const key of keys) {
    const entry = table.findEntry(key);
    if (entry !== undefined && table.isInView(entry, node)) {
      delta.upserts.push(entry);
      bytes += delimitedSize(entry.bytes.length);
    } else {
      delta.removed.push(key);
      bytes += delimitedSize(key.length);
    }
    if (bytes >= partBytes) yield take();
  }
  if (bytes > 0) yield take();
}

export class FrameCache {
  readonly #frames = new Map<string, readonly Uint8Array[]>();
  #revision = -1n;
  /** Frames made and frames found. */
  readonly counts = { made: 0, shared: 0 };

  /** Revisions begin anew, and may come to be those of frames that are kept. */
  clear(): void {
    this.#frames.clear();
    this.#revision = -1n;
  }

  /** As `deltaFrames`, shared between equal deltas of one revision. */
  frames(delta: Delta, fields: CommitFields): readonly Uint8Array[] {
    if (fields.revision !== this.#revision) {
      this.#frames.clear();
      this.#revision = fields.revision;
    }
    if (delta.upserts.length + delta.removed.length > MAX_SHARED_KEYS) {
      this.counts.made++;
      return deltaFrames(delta, fields);
    }
    const name = nameOf(delta, fields);
    const found = this.#frames.get(name);
    if (found !== undefined) {
      this.counts.shared++;
      return found;
    }
    const frames = deltaFrames(delta, fields);
    this.counts.made++;
    this.#frames.set(name, frames);
    return frames;
  }
}

/** Entry ids name content within one revision. Keys have no "|" before their own text ends, and the list is last, so that names do not collide. */
function nameOf({ upserts, removed }: Delta, { committedAtUnixUs, digest, upstream }: CommitFields): string {
  let name = `${committedAtUnixUs}|${digest ?? ""}|${upstream?.since ?? ""}|`;
  for (const entry of upserts) name += `${entry.id},`;
  return removed.length === 0 ? name : `${name}|${JSON.stringify(removed)}`;
}
