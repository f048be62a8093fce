/** `sedge status`: the server at a glance; with `--socket`, the agent of this node beside it. */
import type { GetStatusResponse } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { callAgent } from "./agent-socket.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { duration, json, print, table } from "./output.ts";

export async function statusCommand(connection: Connection, config: CtlConfig): Promise<number> {
  if (config.socket !== undefined) {
    const agent = await callAgent({ socketPath: config.socket, timeoutMs: config.timeoutMs, path: "/v1/status" });
    print(json(agent));
    return 0;
  }
  const status = await connection.call<GetStatusResponse>((done) => connection.client.getStatus({}, connection.metadata, connection.deadline, done));
  if (config.output === "json") {
    print(json(status));
    return 0;
  }
  const kinds = Object.entries(status.recordsByKind).sort(([a], [b]) => (a < b ? -1 : 1));
  print(
    table([
      ["server", `${status.server} (${status.version}), up ${duration(Number(status.uptimeMs))}`],
      ["cluster", status.clusterUid],
      [
        "sync",
        `${status.syncStatus}, upstream data ${duration(Number(status.upstreamAgeMs))} old${status.stale ? " — STALE: the API cannot be reached, serving what is known" : ""}`,
      ],
      ["revision", `${status.revision} of epoch ${status.epoch}`],
      ["agents", `${status.clients} connected, ${status.clientsLevel} have revision ${status.revision} in force`],
      ["records", kinds.map(([kind, count]) => `${count} ${kind}`).join(", ") || "none"],
      ["invalid", status.invalid.length === 0 ? "none" : `${status.invalid.length} objects could not be understood:`],
    ]),
  );
  for (const { object, field, problem } of status.invalid) print(`  ${object}: ${field}: ${problem}`);
  return 0;
}
