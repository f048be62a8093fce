/** Writes what is generated of manifests/ below the folder given. Called by scripts/generate.mjs. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { renderFiles } from "../src/operator/render/files.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const crdFolder = join(root, "manifests", "crds");
const crds = new Map(readdirSync(crdFolder).map((name) => [name, readFileSync(join(crdFolder, name), "utf8")]));
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string };
const target = process.argv[2] ?? root;
for (const [name, text] of renderFiles({ crds, version })) {
  const path = join(target, "manifests", name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
