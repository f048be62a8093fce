/** Finds files of the package (schemas, CRDs) from the source and from the built tree alike: upwards to the folder that has them. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Absolute path of a file or folder given relative to the package's root. Throws when no folder above this module has it. */
export function projectFile(relativePath: string): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const candidate = join(folder, relativePath);
    if (existsSync(candidate)) return candidate;
    if (dirname(folder) === folder) throw new Error(`${relativePath} is missing: the installation is incomplete`);
  }
}
