/** Writes what is generated of manifests/ below the folder given. Called by scripts/generate.mjs. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { installConfigSchema } from "../src/installer/config.ts";
import { renderConflist } from "../src/installer/conflist.ts";
import { renderFiles } from "../src/operator/render/files.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const crdFolder = join(root, "manifests", "crds");
const crds = new Map(readdirSync(crdFolder).map((name) => [name, readFileSync(join(crdFolder, name), "utf8")]));
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string };
const target = process.argv[2] ?? root;
// What `sedge cni-install` writes by itself, where the reference plugins of the host know CNI 1.0.0, as those that distributions carry do.
const { networkName: name, socket, queueDir, mtu, cniLogFile: logFile } = installConfigSchema.parse({});
const conflist = renderConflist({ name, cniVersion: "1.0.0", socket, queueDir, mtu, logFile, chained: ["portmap"], sysctls: {} });
for (const [name, text] of [...renderFiles({ crds, version }), ["10-sedge.conflist", conflist] as const]) {
  const path = join(target, "manifests", name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
