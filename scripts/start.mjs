// npm start: set-up, then the demo (src/demo) under the pinned Node. Arguments after -- go to the demo.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { buildCni, installDebianPackages, installNpmPackages, pinnedNode, root, toolEnv } from "./setup.mjs";

await installNpmPackages();
buildCni();
if (process.getuid?.() === 0) {
  const missing = installDebianPackages("runtime");
  if (missing.length > 0) process.stderr.write(`setup: not on this machine and not installable: ${missing.join(", ")}\n`);
}
const child = spawn(pinnedNode, [join(root, "bin", "sedge.js"), "demo", ...process.argv.slice(2)], { cwd: root, stdio: "inherit", env: toolEnv() });
// The terminal sends Ctrl-C to the whole group; the demo cleans up and ends, and this process only passes its end on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => (signal === "SIGINT" ? undefined : child.kill(signal)));
child.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : 143);
});
