/** Files that are there as a whole or not at all, and on the disk when the call resolves (fsync(2) of file and directory, rename(2) between). */
import { open, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** Mode 0600. A crash leaves the old file, or the new one; at most "<path>.new" besides. Rejects with NodeJS.ErrnoException. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.new`;
  const file = await open(temporary, "w", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const directory = await open(dirname(path), "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Renames a damaged file to the first free "<path>.corrupt-<n>", so that a person can look at it; the new path. */
export async function moveAside(path: string): Promise<string> {
  for (let n = 1; ; n++) {
    const target = `${path}.corrupt-${n}`;
    if (await exists(target)) continue;
    if (await exists(path)) await rename(path, target);
    return target;
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
