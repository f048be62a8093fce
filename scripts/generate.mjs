// Makes every generated file again (npm run generate), or with --check says which are not current: code and descriptors from proto/, docs/config.md and
// docs/metrics.md from the programs' own schemas, manifests/ from src/operator/render. The files are committed, so that a checkout runs without generators.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { pinnedNode, root, toolEnv } from "./setup.mjs";

const isCheck = process.argv.includes("--check");
const made = mkdtempSync(join(tmpdir(), "sedge-generate-"));
const TREES = ["src/wire/gen", "src/datastore/gen", "docs/config.md", "docs/metrics.md", "manifests"];
/** Files here that nothing makes are written by hand. */
const KEPT = [join("manifests", "crds")];

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], env: toolEnv() });
  if (result.status !== 0) {
    process.stderr.write(`${relative(root, command)} ${args.join(" ")} failed\n`);
    process.exit(1);
  }
}

/** Files below a path, or the path itself when it is a file; relative to `base`. */
function filesBelow(base, path) {
  const full = join(base, path);
  if (!existsSync(full)) return [];
  return statSync(full).isDirectory() ? readdirSync(full).flatMap((name) => filesBelow(base, join(path, name))) : [path];
}

const buf = join(root, "node_modules", ".bin", "buf");
run(buf, ["lint"]);
run(buf, ["generate", "--template", "buf.gen.yaml", "--output", made]);
run(buf, ["generate", "--template", "buf.gen.kubernetes.yaml", "--output", made]);
run(buf, ["build", "proto", "--path", "proto/sedge", "--path", "proto/grpc", "--output", join(made, "src/wire/gen/descriptors.binpb")]);
run(pinnedNode, [join(root, "scripts", "generate-docs.ts"), made]);
run(pinnedNode, [join(root, "scripts", "generate-manifests.ts"), made]);

const wrong = [];
for (const tree of TREES) {
  for (const file of new Set([...filesBelow(made, tree), ...filesBelow(root, tree)])) {
    const [fresh, committed] = [join(made, file), join(root, file)];
    if (!existsSync(fresh) && KEPT.some((kept) => file === kept || file.startsWith(`${kept}/`))) continue;
    const isSame = existsSync(fresh) && existsSync(committed) && readFileSync(fresh).equals(readFileSync(committed));
    if (isSame) continue;
    wrong.push(file);
    if (isCheck) continue;
    if (existsSync(fresh)) {
      mkdirSync(dirname(committed), { recursive: true });
      cpSync(fresh, committed);
    } else rmSync(committed);
  }
}
rmSync(made, { recursive: true, force: true });
if (isCheck && wrong.length > 0) {
  process.stderr.write(`not current (npm run generate makes them): ${wrong.join(", ")}\n`);
  process.exitCode = 1;
}
