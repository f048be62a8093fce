/**
 * The store on disk: a log of changes and, now and then, a snapshot. What was answered to a client survives kill -9 and power loss.
 *
 *   snapshot-<revision>.jsonl   every object at that revision, then an end line; written aside, synced, renamed
 *   log-<revision>.jsonl        the changes after that revision
 *
 * Each line is "<crc32 in 8 hex digits> <JSON>\n". A change is first made in memory, then written and synced together with others that came
 * meanwhile (`settled`), and only then shown to watches and answered: nobody is told of what a crash could take back.
 *
 * On start a torn end of the newest log (the write that the crash interrupted, never answered) is cut. Anything else that does not read is an
 * error that names the file, and nothing is changed: a guess could lose objects.
 */
import {
  closeSync,
  existsSync,
  fdatasync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  write,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { processStartTime } from "../../runtime/process-start.ts";
import type { JsonObject } from "./json.ts";
import type { Change, Entry, ObjectKey, Snapshot, Store } from "./store.ts";

/** The directory cannot be used as it is. The message names the file and says what to do. */
export class DataDirectoryError extends Error {
  readonly code = "DATA_DIRECTORY";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "DataDirectoryError";
  }
}

/** A snapshot is written when the log is larger than this and than the snapshot before it, bytes. */
const SNAPSHOT_AFTER_BYTES = 16 * 1024 * 1024;

/** Files of other parts of the embedded API that live in the same directory. */
const OTHER_FILES = new Set(["ca.crt", "ca.key", "server.crt", "server.key", "token", "lock"]);

type Line =
  | { readonly t: "object"; readonly rv: number; readonly k: ObjectKey; readonly o: JsonObject }
  | { readonly t: "change"; readonly rv: number; readonly c: Change["kind"]; readonly k: ObjectKey; readonly o: JsonObject }
  | { readonly t: "end"; readonly rv: number; readonly n: number };

function lineOf(json: string): string {
  return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
}

function objectLine(entry: Entry): string {
  return lineOf(`{"t":"object","rv":${entry.revision},"k":${JSON.stringify(entry.key)},"o":${entry.text}}`);
}

function changeLine({ revision, kind, entry }: Change): string {
  return lineOf(`{"t":"change","rv":${revision},"c":"${kind}","k":${JSON.stringify(entry.key)},"o":${entry.text}}`);
}

/** undefined when the line is not whole. */
function parseLine(text: string): Line | undefined {
  const json = text.slice(9);
  if (!/^[0-9a-f]{8} $/.test(text.slice(0, 9)) || crc32(json) !== Number.parseInt(text.slice(0, 8), 16)) return undefined;
  return JSON.parse(json) as Line;
}

function entryOf(line: { readonly k: ObjectKey; readonly rv: number; readonly o: JsonObject }): Entry {
  return { key: line.k, revision: line.rv, object: line.o, text: JSON.stringify(line.o) };
}

interface ReadFile {
  readonly lines: Line[];
  /** Bytes up to the end of the last whole line. */
  readonly goodBytes: number;
  readonly isTorn: boolean;
}

function readLines(path: string): ReadFile {
  const bytes = readFileSync(path);
  const lines: Line[] = [];
  let start = 0;
  while (start < bytes.length) {
    const end = bytes.indexOf(0x0a, start);
    const line = end < 0 ? undefined : parseLine(bytes.toString("utf8", start, end));
    if (line === undefined) {
      if (hasWholeLineAfter(bytes, start)) {
        throw new DataDirectoryError(
          `${path}: damaged at byte ${start}, with readable changes after it. Nothing was changed. Restore the file from a copy, or move the directory away and start with an empty one.`,
        );
      }
      return { lines, goodBytes: start, isTorn: true };
    }
    lines.push(line);
    start = end + 1;
  }
  return { lines, goodBytes: start, isTorn: false };
}

function hasWholeLineAfter(bytes: Buffer, from: number): boolean {
  for (let start = bytes.indexOf(0x0a, from) + 1; start > 0 && start < bytes.length; ) {
    const end = bytes.indexOf(0x0a, start);
    if (end < 0) return false;
    if (parseLine(bytes.toString("utf8", start, end)) !== undefined) return true;
    start = end + 1;
  }
  return false;
}

function revisionIn(name: string, kind: "snapshot" | "log"): number | undefined {
  const match = new RegExp(`^${kind}-(\\d+)\\.jsonl$`).exec(name);
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

export class Journal {
  /** What `open` found and mended, for the log. */
  readonly problems: readonly string[];
  readonly #directory: string;
  readonly #store: Store;
  readonly #snapshotAfterBytes: number;
  #file: number;
  #logBytes: number;
  #snapshotBytes = 0;
  #pending: string[] = [];
  #flush: Promise<void> | undefined;
  #failure: Error | undefined;

  private constructor({
    directory,
    store,
    file,
    logBytes,
    snapshotAfterBytes,
    problems,
  }: {
    readonly directory: string;
    readonly store: Store;
    readonly file: number;
    readonly logBytes: number;
    readonly snapshotAfterBytes: number;
    readonly problems: readonly string[];
  }) {
    this.problems = problems;
    this.#directory = directory;
    this.#store = store;
    this.#file = file;
    this.#logBytes = logBytes;
    this.#snapshotAfterBytes = snapshotAfterBytes;
    store.observe((change) => this.#pending.push(changeLine(change)));
  }

  /**
   * Takes the directory (made when it is not there), fills the empty store from it and records the store's changes from here on.
   * The store must not publish by itself. Throws DataDirectoryError.
   */
  static open({
    directory,
    store,
    snapshotAfterBytes = SNAPSHOT_AFTER_BYTES,
  }: {
    readonly directory: string;
    readonly store: Store;
    readonly snapshotAfterBytes?: number;
  }): Journal {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    lock(directory);
    const names = readdirSync(directory);
    const snapshots = names.flatMap((name) => revisionIn(name, "snapshot") ?? []).sort((a, b) => b - a);
    const logs = names.flatMap((name) => revisionIn(name, "log") ?? []).sort((a, b) => a - b);
    for (const name of names) {
      if (OTHER_FILES.has(name) || revisionIn(name, "snapshot") !== undefined || revisionIn(name, "log") !== undefined) continue;
      if (name.endsWith(".tmp")) rmSync(join(directory, name));
      else
        throw new DataDirectoryError(
          `${join(directory, name)} is not a file of the embedded API. Nothing was changed. Give --data-dir a directory of its own, or move this file away.`,
        );
    }
    const [base] = snapshots;
    if (base === undefined && logs[0] !== undefined) {
      throw new DataDirectoryError(
        `${join(directory, `log-${logs[0]}.jsonl`)} has no snapshot to start from: snapshot-${logs[0]}.jsonl is missing. Nothing was changed. Restore it from a copy, or move the directory away.`,
      );
    }
    const from = base ?? store.revision;
    if (base === undefined) writeSnapshot(directory, store.snapshot());
    const entries = readSnapshot(join(directory, `snapshot-${from}.jsonl`), from);
    const changes: Pick<Change, "revision" | "kind" | "entry">[] = [];
    const problems: string[] = [];
    const wanted = logs.filter((revision) => revision >= from);
    for (const revision of wanted) {
      const path = join(directory, `log-${revision}.jsonl`);
      const { lines, goodBytes, isTorn } = readLines(path);
      if (isTorn && revision !== wanted.at(-1))
        throw new DataDirectoryError(
          `${path}: damaged at byte ${goodBytes}, and a newer log follows. Nothing was changed. Restore the file from a copy, or move the directory away.`,
        );
      if (isTorn) problems.push(`${path}: its end is not whole, as after a crash: ${cut(path, goodBytes)} bytes after ${lines.length} changes are cut off`);
      for (const line of lines) {
        if (line.t !== "change")
          throw new DataDirectoryError(
            `${path}: holds a line that is no change. Nothing was changed. Restore the file from a copy, or move the directory away.`,
          );
        changes.push({ revision: line.rv, kind: line.c, entry: entryOf(line) });
      }
    }
    store.restore({ revision: from, entries }, changes);
    const newest = wanted.at(-1) ?? from;
    const path = join(directory, `log-${newest}.jsonl`);
    const isNew = !existsSync(path);
    const file = openSync(path, "a", 0o600);
    if (isNew) syncDirectory(directory);
    const logBytes = isNew ? 0 : readFileSync(path).length;
    return new Journal({ directory, store, file, logBytes, snapshotAfterBytes, problems });
  }

  /** Resolves when every change so far is on disk (and published). Rejects when the disk has failed: then nothing can be answered any more. */
  async settled(): Promise<void> {
    while (this.#pending.length > 0 || this.#flush !== undefined) {
      if (this.#failure !== undefined) throw this.#failure;
      const wanted = this.#pending.length > 0;
      if (this.#flush !== undefined) {
        await this.#flush;
        if (!wanted) break;
        continue;
      }
      this.#flush = this.#write().finally(() => {
        this.#flush = undefined;
      });
      await this.#flush;
      break;
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  async close(): Promise<void> {
    await this.settled();
    closeSync(this.#file);
    rmSync(join(this.#directory, "lock"), { force: true });
  }

  async #write(): Promise<void> {
    const lines = this.#pending;
    const { revision } = this.#store;
    this.#pending = [];
    const bytes = Buffer.from(lines.join(""));
    try {
      await writeAll(this.#file, bytes);
      await new Promise<void>((resolve, reject) => fdatasync(this.#file, (error) => (error === null ? resolve() : reject(error))));
    } catch (error) {
      this.#failure = new DataDirectoryError(`the data directory ${this.#directory} cannot be written; make room or repair the disk and start again`, {
        cause: error,
      });
      throw this.#failure;
    }
    this.#logBytes += bytes.length;
    this.#store.publish(revision);
    if (this.#logBytes > Math.max(this.#snapshotAfterBytes, this.#snapshotBytes) && this.#pending.length === 0) this.#trySnapshot();
  }

  /** The log has everything: a snapshot that the disk refuses is tried again when the log has doubled. */
  #trySnapshot(): void {
    try {
      this.#snapshot();
    } catch {
      this.#snapshotBytes = 2 * this.#logBytes;
    }
  }

  /** Writes a snapshot and begins a new log. Synchronous: no change comes between the two. */
  #snapshot(): void {
    const snapshot = this.#store.snapshot();
    const { revision } = snapshot;
    const logPath = join(this.#directory, `log-${revision}.jsonl`);
    const log = openSync(logPath, "a", 0o600);
    let bytes: number;
    try {
      bytes = writeSnapshot(this.#directory, snapshot);
    } catch (error) {
      closeSync(log);
      rmSync(logPath);
      throw error;
    }
    closeSync(this.#file);
    this.#file = log;
    this.#logBytes = 0;
    this.#snapshotBytes = bytes;
    for (const name of readdirSync(this.#directory)) {
      const old = revisionIn(name, "snapshot") ?? revisionIn(name, "log");
      if (old !== undefined && old < revision) rmSync(join(this.#directory, name));
    }
  }
}

/** Writes aside, syncs, renames: a snapshot is whole or not there, also when this throws. Returns its size. */
function writeSnapshot(directory: string, { revision, entries }: Snapshot): number {
  const path = join(directory, `snapshot-${revision}.jsonl`);
  const file = openSync(`${path}.tmp`, "w", 0o600);
  let bytes = 0;
  try {
    for (const entry of entries) bytes += writeAllSync(file, objectLine(entry));
    bytes += writeAllSync(file, lineOf(`{"t":"end","rv":${revision},"n":${entries.length}}`));
    fsyncSync(file);
    renameSync(`${path}.tmp`, path);
    syncDirectory(directory);
  } catch (error) {
    // The changes go on into the older log, which a snapshot that is newer would shut out.
    for (const left of [`${path}.tmp`, path]) rmSync(left, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
  return bytes;
}

function readSnapshot(path: string, revision: number): Entry[] {
  const { lines, isTorn } = readLines(path);
  const end = lines.at(-1);
  if (isTorn || end?.t !== "end" || end.n !== lines.length - 1 || end.rv !== revision) {
    throw new DataDirectoryError(
      `${path}: the snapshot is not whole. Nothing was changed. Restore the file from a copy, or move the directory away and start with an empty one.`,
    );
  }
  return lines.flatMap((line) => (line.t === "object" ? [entryOf(line)] : []));
}

/** Returns how many bytes it took away. */
function cut(path: string, bytes: number): number {
  const file = openSync(path, "r+");
  const { size } = fstatSync(file);
  ftruncateSync(file, bytes);
  fdatasyncSync(file);
  closeSync(file);
  return size - bytes;
}

function syncDirectory(directory: string): void {
  const file = openSync(directory, "r");
  fsyncSync(file);
  closeSync(file);
}

/** A full disk takes a part and says so only by the count. */
function writeAllSync(file: number, text: string): number {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
  return bytes.length;
}

async function writeAll(file: number, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += await new Promise<number>((resolve, reject) =>
      write(file, bytes, at, bytes.length - at, null, (error, written) => (error === null ? resolve(written) : reject(error))),
    );
  }
}

function lock(directory: string): void {
  const path = join(directory, "lock");
  const [pid = "", started = ""] = existsSync(path) ? readFileSync(path, "utf8").trim().split(" ") : [];
  if (/^\d+$/.test(pid) && Number(pid) !== process.pid && processStartTime(Number(pid)) === started && started !== "") {
    throw new DataDirectoryError(`${directory} is in use by process ${pid} (${path}). Stop that process first, or give --data-dir another directory.`);
  }
  writeFileSync(path, `${process.pid} ${processStartTime(process.pid) ?? ""}\n`, { mode: 0o600 });
}
