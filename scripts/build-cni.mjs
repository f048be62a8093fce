// Compiles the CNI executable, cni/main.ts, to the one file dist/cni/sedge-cni.
//
//   node scripts/build-cni.mjs [--force]
//
// stdout: nothing; stderr: progress. Plain JavaScript for Node >= 22.13, which strips types. Exit codes: 0 built or current; 1 failed.
// Needs a C compiler with a static libc, and pip once, for the engine's sources (Debian: gcc libc6-dev python3-pip).
//
// TypeScript → types stripped → QuickJS bytecode (cni/native/compile.c) → linked with the engine and cni/native/host.c, statically, so that it runs on
// hosts of any libc. The engine is compiled once for all work trees (single-build.mjs, cacheDir).
// What lies under the final name is complete: the file is renamed there, by one builder at a time. It is current when the hash of the sources, the flags
// and the compiler's version is the one that its neighbour `sedge-cni.hash` holds.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import * as nodeModule from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { buildOnce, cacheDir } from "./single-build.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const CNI = join(ROOT, "cni");
const NATIVE = join(CNI, "native");
const REQUIREMENTS = join(NATIVE, "requirements.txt");
const OUTPUT = join(ROOT, "dist", "cni", "sedge-cni");
const HASH = `${OUTPUT}.hash`;
const ENGINE_SOURCES = ["quickjs", "libregexp", "libunicode", "dtoa"];
// -O2 takes twice as long and makes nothing faster that runs for a millisecond.
const ENGINE_FLAGS = ["-O1", "-w", "-D_GNU_SOURCE"];
const FLAGS = ["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-D_GNU_SOURCE"];
const LINK_FLAGS = ["-static", "-s"];

function note(text) {
  process.stderr.write(`build-cni: ${text}\n`);
}

/** Rejects with what the program printed. Not spawnSync: the lock shows that this process lives by what it does meanwhile. */
function run(program, args, { stdout = "pipe", ...options } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ["ignore", stdout, "pipe"] });
    let [printed, problems] = ["", ""];
    child.stdout?.on("data", (text) => (printed += text));
    child.stderr.on("data", (text) => (problems += text));
    child.on("error", (error) =>
      reject(new Error(error.code === "ENOENT" ? `${program} is not there (Debian: apt-get install gcc libc6-dev python3-pip)` : error.message)),
    );
    child.on("close", (code, signal) =>
      code === 0 ? resolve(printed) : reject(new Error(`${program} ${args.join(" ")} ended with ${code ?? signal}:\n${problems || printed}`)),
    );
  });
}

function hashOf(parts) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\0");
  return hash.digest("hex");
}

/** The folder with libquickjs.a and quickjs.h. */
async function engine(compiler) {
  const path = join(cacheDir(), "quickjs", hashOf([process.arch, compiler, readFileSync(REQUIREMENTS), ...ENGINE_FLAGS, ...ENGINE_SOURCES]).slice(0, 16));
  await buildOnce({
    path,
    isDone: () => existsSync(path),
    build: () => buildEngine(path),
    onWait: () => note("another process is compiling the engine, waiting"),
  });
  return path;
}

async function buildEngine(path) {
  const started = Date.now();
  note("fetching and compiling the engine, once");
  const folder = mkdtempSync(`${path}.build-`);
  try {
    const pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary=:all:", "--require-hashes"];
    await run("python3", [...pip, "-r", REQUIREMENTS, "-d", folder]);
    const archive = readdirSync(folder).find((name) => name.endsWith(".tar.gz"));
    if (archive === undefined) throw new Error(`pip has put no source distribution into ${folder}`);
    await run("tar", ["-xzf", archive, "--strip-components=2", "--wildcards", "*/upstream-quickjs/*"], { cwd: folder });
    await Promise.all(ENGINE_SOURCES.map((name) => run("cc", [...ENGINE_FLAGS, "-c", `${name}.c`, "-o", `${name}.o`], { cwd: folder })));
    const made = join(folder, "made");
    mkdirSync(made);
    await run("ar", ["rcs", join(made, "libquickjs.a"), ...ENGINE_SOURCES.map((name) => `${name}.o`)], { cwd: folder });
    renameSync(join(folder, "quickjs.h"), join(made, "quickjs.h"));
    renameSync(made, path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  note(`the engine is compiled, in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

function filesBelow(folder, suffix) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(suffix) && !entry.name.endsWith(".test.ts"))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

function contentHash(compiler) {
  const files = [...filesBelow(CNI, ".ts"), ...filesBelow(NATIVE, ".c"), REQUIREMENTS];
  const flags = [...ENGINE_FLAGS, ...FLAGS, ...LINK_FLAGS];
  return hashOf([process.arch, compiler, ...flags, ...files.flatMap((path) => [relative(ROOT, path), readFileSync(path)])]);
}

function strippedTypes(path) {
  const { stripTypeScriptTypes } = nodeModule;
  if (stripTypeScriptTypes === undefined) throw new Error(`Node ${process.versions.node} strips no types: run node_modules/.bin/node scripts/build-cni.mjs`);
  return stripTypeScriptTypes(readFileSync(path, "utf8"));
}

async function build(compiler, hash) {
  const made = await engine(compiler);
  const started = Date.now();
  const folder = mkdtempSync(join(dirname(OUTPUT), ".build-"));
  try {
    for (const path of filesBelow(CNI, ".ts")) {
      const target = join(folder, relative(ROOT, path));
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, strippedTypes(path));
    }
    const library = ["-I", made, "-L", made, "-lquickjs", "-lm"];
    await run("cc", [...FLAGS, join(NATIVE, "compile.c"), ...library, "-o", "compile"], { cwd: folder });
    await run(join(folder, "compile"), ["cni/main.ts"], { cwd: folder, stdout: openSync(join(folder, "modules.c"), "w") });
    await run("cc", [...FLAGS, join(NATIVE, "host.c"), "modules.c", ...library, ...LINK_FLAGS, "-o", "sedge-cni"], { cwd: folder });
    rmSync(HASH, { force: true });
    renameSync(join(folder, "sedge-cni"), OUTPUT);
    writeFileSync(join(folder, "hash"), `${hash}\n`);
    renameSync(join(folder, "hash"), HASH);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  note(`built dist/cni/sedge-cni in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

// stripTypeScriptTypes says that it is experimental; the Node that is used is pinned.
process.removeAllListeners("warning");
try {
  if (process.platform !== "linux") throw new Error(`the CNI executable is built on Linux, not ${process.platform}`);
  const compiler = (await run("cc", ["--version"])).split("\n", 1)[0];
  const hash = contentHash(compiler);
  mkdirSync(dirname(OUTPUT), { recursive: true });
  let isForced = process.argv.includes("--force");
  const isDone = () => !isForced && existsSync(OUTPUT) && existsSync(HASH) && readFileSync(HASH, "utf8").trim() === hash;
  await buildOnce({
    path: OUTPUT,
    isDone,
    build: async () => {
      isForced = false;
      await build(compiler, hash);
    },
    onWait: () => note("another process is building it, waiting"),
  });
} catch (error) {
  note(error.message);
  process.exitCode = 1;
}
