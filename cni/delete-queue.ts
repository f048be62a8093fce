/**
 * A DEL for an agent that is away: one file in a directory that the agent empties at its start.
 *
 * Invariant: the file is whole or not there, and on the disk when the executable says that the DEL succeeded. One container's interface has one file, so
 * that a DEL that is repeated does not pile up. `node:fs` is imported where it is needed: a bundle loads what stands at the top of any of its files.
 */

/** The file's path. Rejects with what the file system throws. */
export async function queueDelete(
  directory: string,
  { containerId, ifname, network }: { readonly containerId: string; readonly ifname: string; readonly network: string },
  request: object,
): Promise<string> {
  const { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeSync } = await import("node:fs");
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
export async function unqueueDelete(path: string): Promise<void> {
  const { rmSync } = await import("node:fs");
  rmSync(path, { force: true });
}
