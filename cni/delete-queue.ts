/**
 * A DEL for an agent that is away: one file in a directory that the agent empties at its start.
 *
 * Invariant: the file is whole or not there, and on the disk when the executable says that the DEL succeeded. One container's interface has one file, so
 * that a DEL that is repeated does not pile up.
 */
import { close, makeDirectories, openFile, processId, remove, rename, sync, writeAll } from "./system-calls.ts";

/** The file's path. Throws SystemCallError. */
export function queueDelete(
  directory: string,
  { containerId, ifname, network }: { readonly containerId: string; readonly ifname: string; readonly network: string },
  request: object,
): string {
  makeDirectories(directory);
  const path = `${directory}/${network}.${containerId}.${ifname}.json`;
  const temporary = `${path}.${processId()}.tmp`;
  const file = openFile(temporary, "replace");
  try {
    try {
      writeAll(file, JSON.stringify(request));
      sync(file);
    } finally {
      close(file);
    }
    rename(temporary, path);
  } catch (error) {
    removeQuietly(temporary);
    throw error;
  }
  const folder = openFile(directory, "directory");
  try {
    sync(folder);
  } finally {
    close(folder);
  }
  return path;
}

/** On a full disk each try of the runtime would leave another. */
function removeQuietly(path: string): void {
  try {
    remove(path);
  } catch {
    // Why it could not be written is what counts.
  }
}

/** Of one that is gone: nothing. Throws SystemCallError. */
export function unqueueDelete(path: string): void {
  remove(path);
}
