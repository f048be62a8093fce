/** The CNI executable: process in, process out. Everything else is in command.ts. */
import { appendFileSync, readFileSync, writeSync } from "node:fs";
import { askAgent } from "./agent-call.ts";
import { runCommand } from "./command.ts";

const STDIN = 0;
const STDOUT = 1;

const { exitCode, stdout } = await runCommand({
  variables: process.env,
  readStdin: () => Promise.resolve(readFileSync(STDIN, "utf8")),
  ask: askAgent,
  // Loaded only where an agent is away: the usual way pays nothing for it.
  queueDelete: async (...args) => (await import("./delete-queue.ts")).queueDelete(...args),
  unqueueDelete: async (path) => (await import("./delete-queue.ts")).unqueueDelete(path),
  log: (file, facts) => {
    try {
      appendFileSync(file, `${JSON.stringify({ time: new Date().toISOString(), ...facts })}\n`, { mode: 0o600 });
    } catch {
      // A log that cannot be written must not keep a pod from its network.
    }
  },
});
for (let rest = Buffer.from(stdout, "utf8"); rest.length > 0; ) rest = rest.subarray(writeSync(STDOUT, rest));
process.exit(exitCode);
