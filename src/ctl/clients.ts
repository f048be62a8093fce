/** `sedge clients`: a line for each connected agent. */
import type { Client, ClientPage } from "../wire/gen/sedge/sync/v1/introspection.ts";
import type { CtlConfig } from "./config.ts";
import { CallError, type Connection } from "./connection.ts";
import { duration, json, print, table } from "./output.ts";

export async function clientsCommand(connection: Connection, config: CtlConfig): Promise<number> {
  const clients: Client[] = [];
  for await (const client of listClients(connection)) if (config.node === undefined || client.node === config.node) clients.push(client);
  if (config.output === "json") {
    print(json(clients));
    return 0;
  }
  const rows = clients.map((client) => [
    client.node,
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
    client.failed.map(({ key, reason }) => `${key}: ${reason}`).join("; ") || "-",
  ]);
  print(table([["NODE", "VERSION", "CONNECTED", "STATE", "PROGRAMMED", "SENT", "LAG", "DIRTY", "RECORDS", "BYTES", "LAST ACK", "FAILED"], ...rows]));
  return 0;
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
