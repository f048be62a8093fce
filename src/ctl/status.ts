/** `sedge status`: the server, or each of those that are given, at a glance; with `--socket`, the agent of this node beside it. */
import type { GetStatusResponse } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { callAgent } from "./agent-socket.ts";
import type { CtlConfig } from "./config.ts";
import { duration, json, print, table } from "./output.ts";
import { askServers, exitCodeOf } from "./servers.ts";

export async function statusCommand(config: CtlConfig): Promise<number> {
  if (config.socket !== undefined) {
    const agent = await callAgent({ socketPath: config.socket, timeoutMs: config.timeoutMs, path: "/v1/status" });
    print(json(agent));
    return 0;
  }
  const { answers, failed } = await askServers(config, (connection) =>
    connection.call<GetStatusResponse>((done) => connection.client.getStatus({}, connection.metadata, connection.deadline, done)),
  );
  const isOne = answers.length + failed.length <= 1;
  if (config.output === "json") {
    const [first] = answers;
    if (!isOne) print(json(answers.map(({ server, value }) => ({ address: server, ...value }))));
    else if (first !== undefined) print(json(first.value));
    return exitCodeOf("status", failed);
  }
  for (const [i, { value }] of answers.entries()) {
    if (i > 0) print("");
    printStatus(value);
  }
  if (!isOne) {
    const agents = answers.reduce((sum, { value }) => sum + value.clients, 0);
    print(`\n${answers.length} of ${answers.length + failed.length} servers answer; ${agents} agents connected`);
  }
  return exitCodeOf("status", failed);
}

/** Fields that mean nothing here, by object. */
function unusedFields({ unused }: GetStatusResponse): ReadonlyMap<string, readonly string[]> {
  const fields = new Map<string, string[]>();
  for (const { object, field } of unused) fields.set(object, [...(fields.get(object) ?? []), field.replace(/^spec\./, "")]);
  return fields;
}

function printStatus(status: GetStatusResponse): void {
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
  for (const [object, fields] of unusedFields(status)) print(`${object}: no meaning here: ${fields.join(", ")}`);
}
