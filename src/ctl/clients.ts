/** `sedge clients`: a line for each connected agent, of all servers that are given. */
import { recordName } from "../model/record-name.ts";
import type { Client, ClientPage } from "../wire/gen/sedge/sync/v1/introspection.ts";
import type { CtlConfig } from "./config.ts";
import { CallError, type Connection } from "./connection.ts";
import { duration, json, print, table } from "./output.ts";
import { askServers, exitCodeOf } from "./servers.ts";

export async function clientsCommand(config: CtlConfig): Promise<number> {
  const { answers, failed } = await askServers(config, async (connection) => {
    const found: Client[] = [];
    for await (const client of listClients(connection)) if (config.node === undefined || client.node === config.node) found.push(client);
    return found;
  });
  const isOne = answers.length + failed.length <= 1;
  const clients = answers.flatMap(({ server, value }) => value.map((client) => ({ ...client, server }))).sort((x, y) => (x.node < y.node ? -1 : 1));
  if (config.output === "json") {
    print(json(isOne ? answers.flatMap(({ value }) => value) : clients));
    return exitCodeOf("clients", failed);
  }
  const rows = clients.map((client) => [
    client.node,
    ...(isOne ? [] : [client.server]),
    client.version,
    duration(Number(client.connectedMs)),
    client.level ? "level" : "behind",
    `${client.programmedRevision}`,
    `${client.sentRevision}`,
    client.level ? "-" : `${client.lagCommits} commits, ${duration(Number(client.lagMs))}`,
    `${client.dirtyKeys}`,
    `${client.viewRecords}`,
    `${client.bytesSent}`,
    client.lastAckMs === 0n ? "never" : `${duration(Number(client.lastAckMs))} ago`,
    client.failed.map(({ key, reason }) => `${recordName(key)}: ${reason}`).join("; ") || "-",
  ]);
  const server = isOne ? [] : ["SERVER"];
  if (answers.length > 0)
    print(
      table([["NODE", ...server, "VERSION", "CONNECTED", "STATE", "PROGRAMMED", "SENT", "LAG", "DIRTY", "RECORDS", "BYTES", "LAST ACK", "FAILED"], ...rows]),
    );
  return exitCodeOf("clients", failed);
}

/** Every client, by node. A server that does not know pages is asked for one at a time. */
export async function* listClients(connection: Connection): AsyncGenerator<Client> {
  const { client, metadata, deadline } = connection;
  try {
    for await (const { clients } of connection.messages<ClientPage>(client.listClientPages({}, metadata, deadline))) yield* clients;
  } catch (error) {
    if (!(error instanceof CallError && error.code === "UNIMPLEMENTED")) throw error;
    yield* connection.messages<Client>(client.listClients({}, metadata, deadline));
  }
}
