/** The file that a configuration's `logFile` names: one JSON line a command, for who debugs a node. */
import type { JsonObject } from "./config.ts";

/** Never rejects: a log that cannot be written must not keep a pod from its network. */
export async function appendLine(file: string, facts: JsonObject): Promise<void> {
  try {
    const { appendFileSync } = await import("node:fs");
    appendFileSync(file, `${JSON.stringify({ time: new Date().toISOString(), ...facts })}\n`, { mode: 0o600 });
  } catch {
    // Nothing that the runtime could do about it.
  }
}
