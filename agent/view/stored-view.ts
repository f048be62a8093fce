/**
 * A view as the two files hold it: a snapshot and the commits after it, as values. Pure; store.ts reads and writes.
 *
 * Invariant: what `replay` returns is the view after a whole number of commits, never a mixture. `kept` holds, for records that could not be
 * understood when they came, the bytes of the value before, so that the last good one survives a restart.
 */
import { z } from "zod";
import type { RecordKey } from "../../src/model/record.ts";
import { readRecord } from "../../src/wire/record-codec.ts";
import { type UpstreamVersions, View } from "../../src/wire/view.ts";
import { encodeFrame, type Frame } from "./frames.ts";

export const FORMAT = 1;

const fileHead = z.object({ format: z.literal(FORMAT), file: z.enum(["snapshot", "log"]), generation: z.number().int().nonnegative(), node: z.string() });
export type FileHead = z.infer<typeof fileHead>;

const commitHead = z.object({
  epoch: z.string(),
  revision: z.string().regex(/^\d+$/),
  seed: z.string().regex(/^\d+$/),
  isComplete: z.boolean(),
  /** The first `upserts` blobs are records of the view, the rest are kept ones. */
  upserts: z.number().int().nonnegative(),
  removed: z.array(z.string()),
  unkept: z.array(z.string()),
  /** resourceVersion by kind: which state of the API the view is of. Absent in files of before. */
  upstream: z.record(z.string(), z.string().regex(/^\d+$/)).default({}),
});

export interface StoredCommit {
  readonly epoch: string;
  readonly revision: bigint;
  readonly seed: bigint;
  /** The view was the server's whole view at this commit, or at one before. */
  readonly isComplete: boolean;
  readonly upserts: readonly Uint8Array[];
  readonly removed: readonly RecordKey[];
  readonly kept: readonly Uint8Array[];
  readonly unkept: readonly RecordKey[];
  readonly upstream: UpstreamVersions;
}

export interface StoredView {
  readonly view: View;
  readonly kept: Map<RecordKey, Uint8Array>;
  readonly isComplete: boolean;
}

export function emptyView(): StoredView {
  return { view: new View(), kept: new Map(), isComplete: false };
}

export function encodeFileHead(head: FileHead): Uint8Array {
  return encodeFrame(head, []);
}

export function encodeCommit({ upserts, kept, epoch, revision, seed, isComplete, removed, unkept, upstream }: StoredCommit): Uint8Array {
  const versions = Object.fromEntries([...upstream].map(([kind, version]) => [kind, String(version)]));
  const head = { epoch, revision: String(revision), seed: String(seed), isComplete, upserts: upserts.length, removed, unkept, upstream: versions };
  return encodeFrame(head, [...upserts, ...kept]);
}

/** The whole view as one commit on nothing. */
export function wholeCommit({ view, kept, isComplete }: StoredView): StoredCommit {
  return {
    epoch: view.epoch,
    revision: view.revision,
    seed: view.seed,
    isComplete,
    upserts: [...view.records.values()].map(({ bytes }) => bytes),
    removed: [],
    kept: [...kept.values()],
    unkept: [],
    upstream: view.upstream,
  };
}

/** undefined: the frame is not a file's head of this format. */
export function parseFileHead(frame: Frame | undefined): FileHead | undefined {
  return frame === undefined ? undefined : fileHead.safeParse(frame.head).data;
}

/** Commits in order. Throws an Error that says what does not fit: an intact checksum over content that this version cannot have written. */
export function replay(frames: readonly Frame[]): StoredView {
  const records = new Map<RecordKey, Uint8Array>();
  const kept = new Map<RecordKey, Uint8Array>();
  let last: { epoch: string; revision: bigint; seed: bigint; upstream: UpstreamVersions } = { epoch: "", revision: 0n, seed: 0n, upstream: new Map() };
  let isComplete = false;
  for (const { head, blobs } of frames) {
    const commit = commitHead.parse(head);
    for (const key of commit.removed) records.delete(key);
    for (const key of commit.unkept) kept.delete(key);
    for (const bytes of blobs.slice(0, commit.upserts)) records.set(readRecord(bytes).key, bytes);
    for (const bytes of blobs.slice(commit.upserts)) kept.set(readRecord(bytes).key, bytes);
    const upstream = new Map(Object.entries(commit.upstream).map(([kind, version]) => [kind, BigInt(version)]));
    last = { epoch: commit.epoch, revision: BigInt(commit.revision), seed: BigInt(commit.seed), upstream };
    isComplete = commit.isComplete;
  }
  return { view: View.restore({ ...last, records: records.values() }), kept, isComplete };
}
