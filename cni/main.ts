/** The CNI executable: process in, process out. Everything else is in command.ts. */
import { askAgent } from "./agent-socket.ts";
import { runCommand } from "./command.ts";
import { appendLine } from "./command-log.ts";
import type { JsonObject } from "./config.ts";
import { queueDelete, unqueueDelete } from "./delete-queue.ts";
import { readAll, writeAll } from "./system-calls.ts";

const STDIN = 0;
const STDOUT = 1;
const MAX_CONFIG_BYTES = 16 * 1024 * 1024;

let logged: { readonly file: string; readonly line: JsonObject } | undefined;
const { exitCode, stdout } = await runCommand({
  variables: process.env,
  readStdin: () => readAll(STDIN, MAX_CONFIG_BYTES),
  ask: askAgent,
  queueDelete,
  unqueueDelete,
  log(file, line) {
    logged = { file, line };
  },
});
writeAll(STDOUT, new TextEncoder().encode(stdout));
if (logged !== undefined) await appendLine(logged.file, logged.line);
process.exit(exitCode);
