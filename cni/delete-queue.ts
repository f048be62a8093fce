/**
 * A DEL for an agent that is away: one file in a directory that the agent empties at its start.
 *
 * Invariant: the file is whole or not there, and on the disk when the executable says that the DEL succeeded. One container's interface has one file, so
 * that a DEL that is repeated does not pile up.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";

/** The file's path. Throws what the file system does. */
export function queueDelete(
  directory: string,
  { containerId, ifname, network }: { readonly containerId: string; readonly ifname: string; readonly network: string },
  request: object,
): string {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = `${directory}/${network}.${containerId}.${ifname}.json`;
  const temporary = `${path}.${process.pid}.tmp`;
  const file = openSync(temporary, "w", 0o600);
  try {
    writeSync(file, JSON.stringify(request));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  const folder = openSync(directory, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
  return path;
}

/** Of one that is gone: nothing. */
export function unqueueDelete(path: string): void {
  rmSync(path, { force: true });
}
