/**
 * The view on disk: `view.snapshot` (the whole view at some commit) and `view.log` (the commits since), under the state directory.
 *
 * A commit is one frame, appended and synced before anything is programmed, so that a node that comes back up has at least the policy that its
 * kernel had. The log belongs to the snapshot of its generation; one that is older was already taken into a newer snapshot and is ignored.
 * Invariant: after any crash, truncation or damage `open` gives the view after a whole number of commits, or an empty one, and says what it
 * found; damaged files are moved aside, never deleted. Rejected: SQLite (a dependency for two append-only files), and a mark of what was programmed
 * (the first apply after a start reads the kernel, which knows better).
 */
import { type FileHandle, mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { RecordKey } from "../../src/model/record.ts";
import { moveAside, replaceFile } from "../../src/runtime/durable-file.ts";
import type { View, ViewDelta } from "../../src/wire/view.ts";
import { type Frame, readFrames } from "./frames.ts";
import { emptyView, encodeCommit, encodeFileHead, type FileHead, FORMAT, parseFileHead, replay, type StoredView, wholeCommit } from "./stored-view.ts";

/** The state directory cannot be used as it is. The message says which file and what to do. */
export class StateError extends Error {
  readonly code = "STATE";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "StateError";
  }
}

export interface ViewStoreOptions {
  readonly directory: string;
  /** Name of the node whose view it is. */
  readonly node: string;
  /** The log is taken into a new snapshot when it is longer than this and than the snapshot. Default 1 MiB. */
  readonly compactAboveBytes?: number;
}

export interface ViewCommit {
  readonly delta: ViewDelta;
  readonly isComplete: boolean;
  /** Records that are not understood, with the bytes of the last value that was; and keys for which that is over. */
  readonly kept?: readonly Uint8Array[];
  readonly unkept?: readonly RecordKey[];
}

const SNAPSHOT = "view.snapshot";
const LOG = "view.log";

export class ViewStore {
  /** What `open` found wrong and did about it, for the log. */
  readonly problems: readonly string[];
  readonly #options: Required<ViewStoreOptions>;
  readonly #stored: StoredView;
  #isComplete: boolean;
  #generation: number;
  #log: FileHandle;
  #logBytes: number;
  #snapshotBytes: number;
  #isLogGood = true;

  private constructor(
    options: Required<ViewStoreOptions>,
    opened: { stored: StoredView; problems: readonly string[]; generation: number; log: FileHandle; logBytes: number; snapshotBytes: number },
  ) {
    this.#options = options;
    this.#stored = opened.stored;
    this.#isComplete = opened.stored.isComplete;
    this.problems = opened.problems;
    this.#generation = opened.generation;
    this.#log = opened.log;
    this.#logBytes = opened.logBytes;
    this.#snapshotBytes = opened.snapshotBytes;
  }

  /** Reads what is there, or begins empty. Throws StateError when the directory is another node's, NodeJS.ErrnoException when it cannot be written. */
  static async open(options: ViewStoreOptions): Promise<ViewStore> {
    const complete = { compactAboveBytes: 1 << 20, ...options };
    const { directory, node } = options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const found = await readState(directory, node);
    // Always begin with a fresh pair: what was cut or moved aside is then gone from the files that the next start reads.
    const generation = found.generation + 1;
    const files = await writeFiles(directory, node, generation, found.stored);
    return new ViewStore(complete, { ...files, stored: found.stored, problems: found.problems, generation });
  }

  /** The view itself; sessions change it, and `append` writes the change down. */
  get view(): View {
    return this.#stored.view;
  }

  /** Bytes of the last value that was understood, for records that now are not. */
  get kept(): ReadonlyMap<RecordKey, Uint8Array> {
    return this.#stored.kept;
  }

  /** True once the server's whole view was committed; false means that what is missing here may exist. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Writes one commit down; resolves when it is on the disk. Calls must not overlap. Rejects when the disk refuses: the next call writes everything. */
  async append({ delta, isComplete, kept = [], unkept = [] }: ViewCommit): Promise<void> {
    const { view } = this.#stored;
    this.#isComplete ||= isComplete;
    for (const key of unkept) this.#stored.kept.delete(key);
    for (const bytes of kept) this.#stored.kept.set(keyOf(bytes, delta), bytes);
    const commit = {
      epoch: view.epoch,
      revision: delta.revision,
      seed: view.seed,
      isComplete: this.#isComplete,
      upserts: [...delta.changes.values()].flatMap(({ after }) => (after === undefined ? [] : [after.bytes])),
      removed: [...delta.changes].flatMap(([key, { after }]) => (after === undefined ? [key] : [])),
      kept,
      unkept,
      upstream: view.upstream,
    };
    const frame = encodeCommit(commit);
    const isLong = this.#logBytes + frame.length > Math.max(this.#options.compactAboveBytes, this.#snapshotBytes);
    if (!this.#isLogGood || isLong) return this.#compact();
    // Only a whole frame makes the log good again; a part of one would end it for the reader.
    this.#isLogGood = false;
    await this.#log.appendFile(frame);
    await this.#log.datasync();
    this.#logBytes += frame.length;
    this.#isLogGood = true;
  }

  async close(): Promise<void> {
    await this.#log.close();
  }

  async #compact(): Promise<void> {
    this.#isLogGood = false;
    const files = await writeFiles(this.#options.directory, this.#options.node, this.#generation + 1, { ...this.#stored, isComplete: this.#isComplete });
    await this.#log.close();
    this.#generation++;
    this.#log = files.log;
    this.#logBytes = files.logBytes;
    this.#snapshotBytes = files.snapshotBytes;
    this.#isLogGood = true;
  }
}

function keyOf(bytes: Uint8Array, delta: ViewDelta): RecordKey {
  for (const [key, { before }] of delta.changes) if (before?.bytes === bytes) return key;
  throw new RangeError("a kept record must be one that the commit replaced");
}

interface StateRead {
  readonly stored: StoredView;
  readonly generation: number;
  readonly problems: readonly string[];
}

async function readState(directory: string, node: string): Promise<StateRead> {
  const problems: string[] = [];
  const snapshot = await readStateFile(join(directory, SNAPSHOT), "snapshot", node, problems);
  const log = await readStateFile(join(directory, LOG), "log", node, problems);
  const generation = Math.max(snapshot?.head.generation ?? 0, log?.head.generation ?? 0);
  if (snapshot === undefined) {
    if (log !== undefined && log.commits.length > 0)
      problems.push(`${join(directory, LOG)}: its snapshot is missing; moved to ${await moveAside(join(directory, LOG))}`);
    return { stored: emptyView(), generation, problems };
  }
  const logCommits = log !== undefined && log.head.generation === snapshot.head.generation ? log.commits : [];
  if (log !== undefined && log.head.generation > snapshot.head.generation)
    problems.push(
      `${join(directory, LOG)}: it is of generation ${log.head.generation}, the snapshot of ${snapshot.head.generation}; moved to ${await moveAside(join(directory, LOG))}`,
    );
  try {
    return { stored: replay([...snapshot.commits, ...logCommits]), generation, problems };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    problems.push(
      `${join(directory, SNAPSHOT)} and ${LOG}: their content does not fit together (${reason}); moved to ${await moveAside(join(directory, SNAPSHOT))} and ${await moveAside(join(directory, LOG))}`,
    );
    return { stored: emptyView(), generation, problems };
  }
}

async function readStateFile(
  path: string,
  file: FileHead["file"],
  node: string,
  problems: string[],
): Promise<{ readonly head: FileHead; readonly commits: readonly Frame[] } | undefined> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (bytes === undefined) return undefined;
  const { frames, end } = readFrames(bytes);
  const [first, ...commits] = frames;
  const head = parseFileHead(first);
  if (head !== undefined && head.node !== node)
    throw new StateError(
      `${path} holds the view of node ${JSON.stringify(head.node)}, this agent is ${JSON.stringify(node)}: give it a --state-dir of its own, or remove the directory`,
    );
  if (head?.file !== file || (file === "snapshot" && (end !== "whole" || commits.length !== 1))) {
    problems.push(`${path}: not a view ${file} of format ${FORMAT}, or damaged; moved to ${await moveAside(path)}; the server sends everything again`);
    return undefined;
  }
  if (end === "torn") problems.push(`${path}: its last commit is not whole, as after a crash; it is left out`);
  if (end === "damaged") problems.push(`${path}: damaged after ${commits.length} commits; moved to ${await moveAside(path)}; the commits before are used`);
  return { head, commits };
}

/** A new snapshot, then the log that belongs to it. A crash in between leaves the older log, which the newer snapshot contains. */
async function writeFiles(
  directory: string,
  node: string,
  generation: number,
  stored: StoredView,
): Promise<{ readonly log: FileHandle; readonly logBytes: number; readonly snapshotBytes: number }> {
  const head = { format: FORMAT, node, generation } as const;
  const snapshot = Buffer.concat([encodeFileHead({ ...head, file: "snapshot" }), encodeCommit(wholeCommit(stored))]);
  await replaceFile(join(directory, SNAPSHOT), snapshot);
  const log = encodeFileHead({ ...head, file: "log" });
  await replaceFile(join(directory, LOG), log);
  return { log: await open(join(directory, LOG), "a"), logBytes: log.length, snapshotBytes: snapshot.length };
}
