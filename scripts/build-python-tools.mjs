// Makes the Python environment of the foreign gRPC client (test/foreign/python).
//
//   node scripts/build-python-tools.mjs [--find]
//
// stdout: {"python": path of its interpreter, "foreign-python-client": path of the client}. stderr: progress.
// Exit codes: 0 done; 1 failed; 2 usage; 3 no usable Python (with the line "skipped: …"); 4 --find: not there yet.
//
// The environment lies in a directory named by a hash of the requirements and the interpreter, and counts as made when the
// file `ready` is in it: a virtual environment cannot be made elsewhere and renamed, its scripts hold its path.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildOnce, cacheDir } from "./single-build.mjs";

const SOURCE = join(dirname(fileURLToPath(import.meta.url)), "..", "test", "foreign", "python");

function note(text) {
  process.stderr.write(`${text}\n`);
}

/** What identifies the interpreter; undefined: there is none that can make virtual environments. */
function pythonIdentity() {
  const program = "import sys, venv, ensurepip; print(sys.executable, sys.version)";
  const { error, status, stdout, stderr } = spawnSync("python3", ["-c", program], { encoding: "utf8" });
  if (error?.code === "ENOENT") {
    note("skipped: python3 not found");
    return undefined;
  }
  if (status !== 0) {
    note(`skipped: python3 cannot make virtual environments (Debian: install python3-venv): ${(stderr || String(error)).trim()}`);
    return undefined;
  }
  return stdout.trim();
}

function run(program, args) {
  const { status, error } = spawnSync(program, args, { stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? `ended with ${status}`}`);
}

async function main(args) {
  if (args.some((arg) => arg !== "--find")) {
    note("usage: build-python-tools.mjs [--find]");
    return 2;
  }
  const identity = pythonIdentity();
  if (identity === undefined) return 3;
  const requirements = join(SOURCE, "requirements.txt");
  const hash = createHash("sha256").update(identity).update("\0").update(readFileSync(requirements)).digest("hex").slice(0, 16);
  const path = join(cacheDir(), "python-tools", hash);
  const python = join(path, "bin", "python");
  const isDone = () => existsSync(join(path, "ready"));
  if (!args.includes("--find")) {
    await buildOnce({
      path,
      isDone,
      onWait: () => note("another process is making the Python environment, waiting"),
      build: async () => {
        rmSync(path, { recursive: true, force: true });
        run("python3", ["-m", "venv", path]);
        run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "-r", requirements]);
        writeFileSync(join(path, "ready"), "");
      },
    });
  }
  if (!isDone()) return 4;
  process.stdout.write(`${JSON.stringify({ python, "foreign-python-client": join(SOURCE, "client.py") })}\n`);
  return 0;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    note(error.message);
    process.exitCode = 1;
  },
);
