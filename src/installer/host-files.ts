/**
 * Files on the host, replaced as a runtime wants it: what runs or reads the old one goes on with it, and the new one is whole or not there.
 *
 * Invariant: under the final name there is never a part of a file. Writing in place was rejected: the kernel refuses it for a program that runs (ETXTBSY),
 * and a runtime that reads a half-written configuration calls the node broken. What a killed run leaves is a temporary file, which the next run removes.
 */
import { constants } from "node:fs";
import { copyFile, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** The steps that change something on the host; a test can end the world before each. */
export interface HostSteps {
  copy(from: string, to: string): Promise<void>;
  write(path: string, text: string): Promise<void>;
  /** Mode and contents on the disk. */
  settle(path: string, mode: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
}

/** A killed run's file is at least this old before another run takes it away: one that is being written is younger. */
const ABANDONED_AFTER_MS = 60_000;
const TEMPORARY = ".sedge-new-";

export const realSteps: HostSteps = {
  copy: (from, to) => copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE),
  async write(path, text) {
    const file = await open(path, "wx", 0o600);
    try {
      await file.writeFile(text);
    } finally {
      await file.close();
    }
  },
  async settle(path, mode) {
    const file = await open(path, "r");
    try {
      await file.chmod(mode);
      await file.sync();
    } finally {
      await file.close();
    }
  },
  async rename(from, to) {
    await rename(from, to);
    await syncDirectory(dirname(to));
  },
  async remove(path) {
    await rm(path, { force: true });
    await syncDirectory(dirname(path));
  },
};

/** A name beside the final one, on the same file system. */
export function temporaryFor(path: string): string {
  return join(dirname(path), `${TEMPORARY}${basename(path)}-${process.pid}-${Math.floor(Math.random() * 0x1_0000_0000).toString(16)}`);
}

/** What killed runs left in the directory; the number of files removed. */
export async function removeAbandoned(directory: string, steps: HostSteps, now: number): Promise<number> {
  let removed = 0;
  for (const name of await readdir(directory)) {
    if (!name.startsWith(TEMPORARY)) continue;
    const path = join(directory, name);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined || now - found.mtimeMs < ABANDONED_AFTER_MS) continue;
    await steps.remove(path);
    removed++;
  }
  return removed;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
