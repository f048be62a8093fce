// One build of one thing at a time, between processes: a directory is the lock, its modification time the sign of life.
//
// Invariant: what callers see under its final name is complete, whatever was killed when; so a lock that was taken away
// from a builder that only looked dead costs a second build and nothing else.
// Rejected: a file with a process id: ids mean nothing between containers that share the cache.
import { mkdirSync, rmSync, statSync, utimesSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

const BEAT_MS = 2_000;
const DEAD_AFTER_MS = 30_000;
const POLL_MS = 250;

/** Where built tools are kept: $SEDGE_CACHE, else ~/.cache/sedge. */
export function cacheDir() {
  return process.env.SEDGE_CACHE || join(homedir(), ".cache", "sedge");
}

/**
 * Runs `build` unless `isDone` says that it is not needed (any more: another process may have done it while this one waited).
 * @param {{ path: string, isDone: () => boolean, build: () => Promise<void>, onWait: () => void }} work `path` names the thing; the lock is `<path>.lock`.
 */
export async function buildOnce({ path, isDone, build, onWait }) {
  if (isDone()) return;
  const lock = `${path}.lock`;
  mkdirSync(dirname(path), { recursive: true });
  for (let waited = false; !tryLock(lock); waited = true) {
    if (!waited) onWait();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (isDone()) return;
  }
  const release = () => rmSync(lock, { recursive: true, force: true });
  const beat = setInterval(() => {
    try {
      utimesSync(lock, new Date(), new Date());
    } catch {
      // Taken away; see above.
    }
  }, BEAT_MS);
  process.once("exit", release);
  try {
    if (!isDone()) await build();
  } finally {
    clearInterval(beat);
    process.removeListener("exit", release);
    release();
  }
}

function tryLock(lock) {
  try {
    mkdirSync(lock);
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
  try {
    if (Date.now() - statSync(lock).mtimeMs > DEAD_AFTER_MS) rmSync(lock, { recursive: true, force: true });
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  return false;
}
