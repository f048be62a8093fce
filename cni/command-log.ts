/** The file that a configuration's `logFile` names: one JSON line a command, for who debugs a node. */
import type { JsonObject } from "./config.ts";
import { close, openFile, writeAll } from "./system-calls.ts";

/** Never throws: a log that cannot be written must not keep a pod from its network. */
export function appendLine(path: string, facts: JsonObject): void {
  try {
    const file = openFile(path, "append");
    try {
      writeAll(file, `${JSON.stringify({ time: new Date().toISOString(), ...facts })}\n`);
    } finally {
      close(file);
    }
  } catch {
    // Nothing that the runtime could do about it.
  }
}
