/** `sedge clients`: a line for each connected agent. */
import type { Client } from "../wire/gen/sedge/sync/v1/introspection.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { duration, json, print, table } from "./output.ts";

export async function clientsCommand(connection: Connection, config: CtlConfig): Promise<number> {
  const clients: Client[] = [];
  for await (const client of connection.messages<Client>(connection.client.listClients({}, connection.metadata, connection.deadline))) {
    if (config.node === undefined || client.node === config.node) clients.push(client);
  }
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
    `${client.dirtyKeys}`,
    `${client.viewRecords}`,
    `${client.bytesSent}`,
    client.lastAckMs === 0n ? "never" : `${duration(Number(client.lastAckMs))} ago`,
    client.failed.map(({ key, reason }) => `${key}: ${reason}`).join("; ") || "-",
  ]);
  print(table([["NODE", "VERSION", "CONNECTED", "STATE", "PROGRAMMED", "SENT", "DIRTY", "RECORDS", "BYTES", "LAST ACK", "FAILED"], ...rows]));
  return 0;
}
