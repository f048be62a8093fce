/**
 * Compiled code of the command line kept between runs: most of the time of `sedge clients` goes into compiling modules.
 *
 * What is kept there is run: so only a directory of this user alone is taken, in a directory of this user; never a shared one such as /tmp. Where there is none,
 * or it cannot be written, nothing is kept and nothing is said. Rejected: the same for servers and agents, which start seldom and for which such a place would be one
 * more to guard.
 */
import { lstatSync, mkdirSync } from "node:fs";
import { enableCompileCache, getCompileCacheDir } from "node:module";
import { dirname, isAbsolute, join } from "node:path";

export interface CompileCacheOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number | undefined;
}

/** Modules that are loaded from here on come from the cache, and go there. Where it is; undefined: there is none. */
export function useCompileCache(options: CompileCacheOptions): string | undefined {
  // Node's own variable comes first.
  if (getCompileCacheDir() !== undefined) return getCompileCacheDir();
  const directory = compileCacheDirectory(options);
  if (directory === undefined) return undefined;
  enableCompileCache(directory);
  return directory;
}

/** $XDG_CACHE_HOME/sedge or ~/.cache/sedge (XDG Base Directory Specification), made when it is not there; undefined: no such place that is this user's alone. */
export function compileCacheDirectory({ env, uid }: CompileCacheOptions): string | undefined {
  const { XDG_CACHE_HOME: caches = "", HOME: home = "" } = env;
  // The specification: a relative path is to be ignored.
  const parent = isAbsolute(caches) ? caches : isAbsolute(home) ? join(home, ".cache") : undefined;
  if (parent === undefined || uid === undefined) return undefined;
  const directory = join(parent, "sedge");
  try {
    if (!isOwn(isAbsolute(caches) ? caches : dirname(parent), uid)) return undefined;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return isOwn(parent, uid) && isOwn(directory, uid) ? directory : undefined;
  } catch {
    return undefined;
  }
}

/** A directory, no link, of this user, in which no other can write. */
function isOwn(path: string, uid: number): boolean {
  const stat = lstatSync(path);
  return stat.isDirectory() && stat.uid === uid && (stat.mode & 0o022) === 0;
}
