/**
 * The journal of addresses: every change is on the disk before anyone is told of it.
 *
 * A snapshot and a log of batches since; entries that wait share one frame and one sync, so that a hundred ADDs at once cost a few syncs. The log
 * belongs to the snapshot of its generation.
 * Invariant: an entry whose `append` resolved is in every later state; one that was never appended is in none; one whose append rejected or was cut
 * off by a crash may be in. Whoever releases does so after the append, whoever takes takes before it: so in doubt an address is in use.
 * What cannot be read is moved aside and makes the state untrusted: it is not taken for "no addresses in use".
 */
import { encodeFrame, type Frame, readFrames } from "../view/frames.ts";
import type { BootTime } from "./boot-time.ts";
import type { JournalFileName, JournalFiles } from "./journal-files.ts";
import { applyEntry, emptyState, fromSnapshot, type JournalEntry, type JournalState, parseBatch, toSnapshot } from "./journal-state.ts";

/** The state directory cannot be used as it is. The message says which file and what to do. */
export class JournalError extends Error {
  readonly code = "JOURNAL";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "JournalError";
  }
}

export interface JournalOptions {
  readonly files: JournalFiles;
  readonly node: string;
  /** Of this moment. Without it times are the wall clock's, also over a restart. */
  readonly time?: BootTime;
  /** The log is taken into a new snapshot when it is longer than this. Default 1 MiB. */
  readonly compactAboveBytes?: number;
}

const FORMAT = 1;
const SNAPSHOT: JournalFileName = "addresses.snapshot";
const LOG: JournalFileName = "addresses.log";
const DEFAULT_COMPACT_BYTES = 1 << 20;

interface Waiting {
  readonly entries: readonly JournalEntry[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Journal {
  /** What `open` found wrong and did about it, for the log. */
  readonly problems: readonly string[];
  /** All that is on the disk. Only the journal changes it. */
  readonly state: JournalState;
  /** How much the wall clock, as it was at the opening, is behind the times of the state (ms): it was set meanwhile. 0 in the first run of a boot. */
  readonly wallBehindMs: number;
  readonly #files: JournalFiles;
  readonly #node: string;
  readonly #compactAboveBytes: number;
  #generation: number;
  #logBytes = 0;
  #isLogGood = false;
  #waiting: Waiting[] = [];
  #flushing: Promise<void> | undefined;

  private constructor(options: JournalOptions, found: Found) {
    this.#files = options.files;
    this.#node = options.node;
    this.#compactAboveBytes = options.compactAboveBytes ?? DEFAULT_COMPACT_BYTES;
    this.state = found.state;
    this.problems = found.problems;
    this.#generation = found.generation;
    this.wallBehindMs = enterBoot(found.state, options.time);
  }

  /** Reads what is there and writes it as a fresh pair of files. Rejects with JournalError, or NodeJS.ErrnoException when the directory cannot be written. */
  static async open(options: JournalOptions): Promise<Journal> {
    const journal = new Journal(options, await readJournal(options));
    await journal.#compact();
    return journal;
  }

  /** Resolves when all entries are on the disk (together, in one frame) and in `state`; rejects when the disk refuses, and then `state` is without them. */
  append(entries: readonly JournalEntry[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ entries, resolve, reject });
      this.#flushing ??= this.#flush();
    });
  }

  /** Where its files are, for messages. */
  get directory(): string {
    return this.#files.directory;
  }

  /** Waits for what was appended. */
  async close(): Promise<void> {
    await this.#flushing;
    await this.#files.close();
  }

  async #flush(): Promise<void> {
    // Whatever the callers of this turn append shares the first batch.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        await this.#write(batch.flatMap(({ entries }) => entries));
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#flushing = undefined;
  }

  async #write(entries: readonly JournalEntry[]): Promise<void> {
    if (!this.#isLogGood || this.#logBytes > this.#compactAboveBytes) await this.#compact();
    const frame = encodeFrame({ entries }, []);
    // Only a whole frame makes the log good again; a part of one would end it for the reader.
    this.#isLogGood = false;
    await this.#files.append(LOG, frame);
    this.#isLogGood = true;
    this.#logBytes += frame.length;
    for (const entry of entries) applyEntry(this.state, entry);
  }

  /** A crash between the two files leaves the older log, which the newer snapshot contains and its generation shuts out. */
  async #compact(): Promise<void> {
    this.#isLogGood = false;
    const generation = this.#generation + 1;
    const head = { format: FORMAT, node: this.#node, generation };
    await this.#files.replace(SNAPSHOT, Buffer.concat([encodeFrame({ ...head, file: SNAPSHOT }, []), encodeFrame(toSnapshot(this.state), [])]));
    this.#generation = generation;
    const log = encodeFrame({ ...head, file: LOG }, []);
    await this.#files.replace(LOG, log);
    this.#logBytes = log.length;
    this.#isLogGood = true;
  }
}

/** The boot's times begin with its first run. */
function enterBoot(state: JournalState, time: BootTime | undefined): number {
  if (time === undefined) return 0;
  const aheadMs = time.wallMs - time.upMs;
  if (state.timeline?.bootId !== time.bootId) state.timeline = { bootId: time.bootId, aheadMs };
  return state.timeline.aheadMs - aheadMs;
}

interface Found {
  readonly state: JournalState;
  readonly generation: number;
  readonly problems: readonly string[];
}

interface FileRead {
  readonly generation: number;
  readonly frames: readonly Frame[];
  readonly isWhole: boolean;
}

async function readJournal({ files, node }: JournalOptions): Promise<Found> {
  const problems: string[] = [];
  const setAside = async (name: JournalFileName, why: string): Promise<void> => {
    problems.push(
      `${files.directory}/${name}: ${why}; moved to ${await files.moveAside(name)}; addresses in use are learned again from the API and the kernel`,
    );
  };
  const snapshot = await readFile(SNAPSHOT, { files, node, problems, setAside });
  const log = await readFile(LOG, { files, node, problems, setAside });
  const generation = Math.max(snapshot?.generation ?? 0, log?.generation ?? 0);
  if (snapshot === undefined) {
    if (log !== undefined && log.frames.length > 0) await setAside(LOG, "its snapshot is missing");
    return { state: emptyState(), generation, problems };
  }
  const state = snapshot.isWhole && snapshot.frames.length === 1 ? fromSnapshot(snapshot.frames[0]?.head) : undefined;
  if (state === undefined) {
    await setAside(SNAPSHOT, "damaged");
    return { state: emptyState(), generation, problems };
  }
  if (log === undefined) {
    // Damaged and moved aside, or taken away: what it said is missing.
    state.isTrusted = false;
    return { state, generation, problems };
  }
  // An older log is what a crash between the two files leaves; the snapshot contains it.
  if (log.generation < snapshot.generation) return { state, generation, problems };
  if (log.generation > snapshot.generation) {
    await setAside(LOG, `it is of generation ${log.generation}, the snapshot of ${snapshot.generation}`);
    state.isTrusted = false;
    return { state, generation, problems };
  }
  for (const { head } of log.frames) {
    const entries = parseBatch(head);
    if (entries === undefined) {
      await setAside(LOG, "an entry in it is not understood");
      state.isTrusted = false;
      break;
    }
    for (const entry of entries) applyEntry(state, entry);
  }
  if (!log.isWhole) state.isTrusted = false;
  return { state, generation, problems };
}

async function readFile(
  name: JournalFileName,
  {
    files,
    node,
    problems,
    setAside,
  }: Pick<JournalOptions, "files" | "node"> & { readonly problems: string[]; readonly setAside: (name: JournalFileName, why: string) => Promise<void> },
): Promise<FileRead | undefined> {
  const bytes = await files.read(name);
  if (bytes === undefined) return undefined;
  const { frames, end } = readFrames(bytes);
  const [first, ...rest] = frames;
  const head = first?.head as { format?: unknown; node?: unknown; generation?: unknown; file?: unknown } | undefined;
  if (head?.file !== name || head.format !== FORMAT || typeof head.generation !== "number") {
    await setAside(name, `not a journal of format ${FORMAT}, or damaged`);
    return undefined;
  }
  if (head.node !== node) {
    throw new JournalError(
      `${files.directory}/${name} is of node ${JSON.stringify(head.node)}, this agent is ${JSON.stringify(node)}: give it a --state-dir of its own, or remove the directory`,
    );
  }
  if (end === "damaged") await setAside(name, `damaged after ${rest.length} entries`);
  // Most likely the entry of a crash, of which nobody was told; but a damaged length looks the same and hides all that follows.
  if (end === "torn")
    problems.push(
      `${files.directory}/${name}: its end is not whole, as after a crash; it is cut off, and addresses in use are asked of the API and the kernel`,
    );
  return { generation: head.generation, frames: rest, isWhole: end === "whole" };
}
