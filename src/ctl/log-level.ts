/** `sedge log-level LEVEL`: what the server logs from now on; with `--socket` the agent of this node. Until the program starts anew. */
import { findLogLevel, LOG_LEVELS } from "../runtime/log.ts";
import type { SetLogLevelResponse } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { callAgent } from "./agent-socket.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { json, print } from "./output.ts";

export async function logLevelCommand(connection: Connection, config: CtlConfig, [level]: readonly string[]): Promise<number> {
  if (level === undefined || findLogLevel(level) === undefined) {
    process.stderr.write(`usage: sedge log-level ${LOG_LEVELS.join("|")} [--socket PATH]\n`);
    return 2;
  }
  if (config.socket !== undefined) {
    print(json(await callAgent({ socketPath: config.socket, timeoutMs: config.timeoutMs, path: "/v1/log-level", body: { level } })));
    return 0;
  }
  const { previous } = await connection.call<SetLogLevelResponse>((done) =>
    connection.client.setLogLevel({ level }, connection.metadata, connection.deadline, done),
  );
  print(`${previous} → ${level}\n`);
  return 0;
}
