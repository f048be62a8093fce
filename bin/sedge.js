#!/usr/bin/env node
// Starts bin/sedge.ts under the Node that the project pins (node_modules/.bin/node), whichever Node ran this file: sources are TypeScript and need
// native type stripping. Plain JavaScript that Node 20 can run.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const major = Number(process.versions.node.split(".")[0]);
const pinned = join(root, "node_modules", ".bin", "node");

if (major >= 26) {
  await import("./sedge.ts");
} else if (existsSync(pinned)) {
  const child = spawn(pinned, [join(root, "bin", "sedge.js"), ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? (signal === "SIGINT" ? 130 : 143);
  });
} else {
  process.stderr.write(`sedge needs Node 26 (this is ${process.versions.node}) and ${pinned} is not there: run "npm ci" in ${root} first\n`);
  process.exitCode = 1;
}
