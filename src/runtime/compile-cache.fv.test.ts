import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { compileCacheDirectory } from "./compile-cache.ts";

const SEDGE = join(import.meta.dirname, "..", "..", "bin", "sedge.ts");
const UID = process.getuid?.() ?? -1;
const made: string[] = [];
afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
});

function home(): string {
  const path = mkdtempSync(join(tmpdir(), "sedge-home-"));
  made.push(path);
  return path;
}

describe("where the command line keeps compiled code", () => {
  it("in the user's own cache directory, for this user alone", () => {
    const HOME = home();
    const directory = compileCacheDirectory({ env: { HOME }, uid: UID });
    expect(directory).toBe(join(HOME, ".cache", "sedge"));
    expect(statSync(directory ?? "").mode & 0o777).toBe(0o700);
    const caches = home();
    expect(compileCacheDirectory({ env: { HOME, XDG_CACHE_HOME: caches }, uid: UID })).toBe(join(caches, "sedge"));
    expect(compileCacheDirectory({ env: { HOME, XDG_CACHE_HOME: "relative" }, uid: UID })).toBe(directory);
  });

  const wrong: Readonly<Record<string, (path: string) => Readonly<Record<string, string>>>> = {
    "no home": () => ({}),
    "a shared directory such as /tmp": (path) => {
      chmodSync(path, 0o1777);
      return { XDG_CACHE_HOME: path };
    },
    "a directory that others can write": (path) => {
      mkdirSync(join(path, "sedge"));
      chmodSync(join(path, "sedge"), 0o770);
      return { XDG_CACHE_HOME: path };
    },
    "a link to another place": (path) => {
      symlinkSync(home(), join(path, "sedge"));
      return { XDG_CACHE_HOME: path };
    },
    "a file in its place": (path) => {
      writeFileSync(join(path, "sedge"), "");
      return { XDG_CACHE_HOME: path };
    },
    "a home that is not there": (path) => ({ HOME: join(path, "none") }),
  };
  it.each(Object.entries(wrong))("%s: nothing is kept", (_what, make) => {
    expect(compileCacheDirectory({ env: make(home()), uid: UID })).toBeUndefined();
  });

  it.skipIf(UID !== 0)("another user's home, as sudo can leave it: nothing is made there", () => {
    const HOME = home();
    chownSync(HOME, 65_534, 65_534);
    expect(compileCacheDirectory({ env: { HOME }, uid: UID })).toBeUndefined();
    expect(existsSync(join(HOME, ".cache"))).toBe(false);
  });

  it("the verbs use it, and say the same; a server does not", () => {
    const HOME = home();
    const run = (...args: readonly string[]): string =>
      execFileSync(process.execPath, [SEDGE, ...args], { encoding: "utf8", env: { PATH: process.env["PATH"], HOME } });
    run("fanout", "--help");
    expect(existsSync(join(HOME, ".cache"))).toBe(false);
    const first = run("clients", "--help");
    expect(readdirSync(join(HOME, ".cache", "sedge")).length).toBeGreaterThan(0);
    expect(run("clients", "--help")).toBe(first);
  });
});
