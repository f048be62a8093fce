/** The CNI executable: process in, process out. Everything else is in command.ts; what runs it is native/host.c. */
import { askAgent } from "./agent-socket.ts";
import { runCommand } from "./command.ts";
import { appendLine } from "./command-log.ts";
import type { JsonObject } from "./config.ts";
import { queueDelete, unqueueDelete } from "./delete-queue.ts";
import { VARIABLES } from "./environment.ts";
import { exit, readAll, variable, writeAll } from "./system-calls.ts";

const STDIN = 0;
const STDOUT = 1;
const MAX_CONFIG_BYTES = 16 * 1024 * 1024;

let logged: { readonly file: string; readonly line: JsonObject } | undefined;
const { exitCode, stdout } = runCommand({
  variables: Object.fromEntries(VARIABLES.map((name) => [name, variable(name)])),
  readStdin: () => readAll(STDIN, MAX_CONFIG_BYTES),
  ask: askAgent,
  queueDelete,
  unqueueDelete,
  log(file, line) {
    logged = { file, line };
  },
});
writeAll(STDOUT, stdout);
if (logged !== undefined) appendLine(logged.file, logged.line);
exit(exitCode);
