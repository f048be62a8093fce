// Makes every generated file again (npm run generate), or with --check says which are not current: code and descriptors from proto/, docs/config.md,
// docs/metrics.md. The files are committed, so that a checkout runs without generators.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { pinnedNode, root, toolEnv } from "./setup.mjs";

const isCheck = process.argv.includes("--check");
const outDir = isCheck ? mkdtempSync(join(tmpdir(), "sedge-generate-")) : root;
const GENERATED = ["src/wire/gen", "src/datastore/gen"];

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], env: toolEnv() });
  if (result.status !== 0) {
    process.stderr.write(`${command} ${args.join(" ")} failed\n`);
    process.exit(1);
  }
}

const buf = join(root, "node_modules", ".bin", "buf");
run(buf, ["lint"]);
run(buf, ["generate", "--output", outDir]);
