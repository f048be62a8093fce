// Compiles the CNI executable, cni/main.ts, to the one file dist/cni/sedge-cni.
//
//   node scripts/build-cni.mjs [--force]
//
// stdout: nothing; stderr: progress. Plain JavaScript for Node >= 20. Exit codes: 0 built or current; 1 failed.
//
// What lies under the final name is complete: the file is renamed there, by one builder at a time. It is current when the hash of the sources, the
// flags and the compiler's version is the one that its neighbour `sedge-cni.hash` holds. It must not be stripped: it would start as plain Bun.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildOnce } from "./single-build.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const OUTPUT = join(ROOT, "dist", "cni", "sedge-cni");
const HASH = `${OUTPUT}.hash`;
const FLAGS = ["--compile", "--bytecode", "--minify", "--format=esm", "--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"];
const BUN_PACKAGES = { x64: "bun-linux-x64-baseline", arm64: "bun-linux-aarch64" };

function note(text) {
  process.stderr.write(`build-cni: ${text}\n`);
}

function compiler() {
  const name = BUN_PACKAGES[process.arch];
  if (name === undefined || process.platform !== "linux")
    throw new Error(`the CNI executable is built on Linux x64 or arm64, not ${process.platform} ${process.arch}`);
  const folder = join(ROOT, "node_modules", "@oven", name);
  const bun = join(folder, "bin", "bun");
  if (!existsSync(bun)) throw new Error(`${bun} is missing: run npm ci (it is an optional dependency, so npm says nothing when it cannot be fetched)`);
  return { bun, version: JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version };
}

function sources(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return sources(path);
      return path.endsWith(".ts") && !path.endsWith(".test.ts") ? [path] : [];
    });
}

function contentHash(version) {
  const hash = createHash("sha256").update(`${version} ${process.arch} ${FLAGS.join(" ")}\n`);
  for (const path of sources(join(ROOT, "cni")))
    hash
      .update(`${path.slice(ROOT.length)}\0`)
      .update(readFileSync(path))
      .update("\0");
  return hash.digest("hex");
}

function build(bun, hash) {
  const started = Date.now();
  // Bun leaves its own temporary files in the working directory when it is killed: let it be one that goes away.
  const folder = mkdtempSync(join(dirname(OUTPUT), ".build-"));
  try {
    const partial = join(folder, "sedge-cni");
    const args = ["build", join(ROOT, "cni", "main.ts"), ...FLAGS, `--outfile=${partial}`];
    const result = spawnSync(bun, args, { cwd: folder, encoding: "utf8", env: { ...process.env, DO_NOT_TRACK: "1" } });
    if (result.error) throw result.error;
    if (result.status !== 0 || !existsSync(partial))
      throw new Error(`${bun} ${args.join(" ")} ended with ${result.status ?? result.signal}: ${result.stderr || result.stdout}`);
    rmSync(HASH, { force: true });
    renameSync(partial, OUTPUT);
    writeFileSync(join(folder, "hash"), `${hash}\n`);
    renameSync(join(folder, "hash"), HASH);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  note(`built dist/cni/sedge-cni in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

try {
  const { bun, version } = compiler();
  const hash = contentHash(version);
  mkdirSync(dirname(OUTPUT), { recursive: true });
  const force = process.argv.includes("--force");
  let isForced = force;
  const isDone = () => !isForced && existsSync(OUTPUT) && existsSync(HASH) && readFileSync(HASH, "utf8").trim() === hash;
  await buildOnce({
    path: OUTPUT,
    isDone,
    build: async () => {
      isForced = false;
      build(bun, hash);
    },
    onWait: () => note("another process is building it, waiting"),
  });
} catch (error) {
  note(error.message);
  process.exitCode = 1;
}
