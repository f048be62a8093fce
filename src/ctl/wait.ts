/**
 * `sedge wait`: until something is in force on the nodes.
 *
 *   sedge wait --revision R [--node N]                      every connected node (or the one) has revision R, or all that concerns it
 *   sedge wait policy/NAMESPACE/NAME [--for programmed]     every node that the policy concerns has its present state
 *
 * It asks again and again: the server keeps no list of who waits. Exit codes: 0 it is so; 1 not in time (--timeout-ms), with who lacks it and why.
 */
import type { GetObjectStatusResponse } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { listClients } from "./clients.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { print } from "./output.ts";

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1_000;
const USAGE = "usage: sedge wait --revision R [--node N] | sedge wait policy/NAMESPACE/NAME [--for programmed]\n";

/** What still lacks; empty: it is so. */
type Look = () => Promise<readonly string[]>;

export async function waitCommand(connection: Connection, config: CtlConfig, [what]: readonly string[]): Promise<number> {
  const look = lookFor(connection, config, what);
  if (look === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  const deadline = performance.now() + config.timeoutMs;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(LONGEST_PAUSE_MS, pause * 1.5)) {
    const missing = await look();
    if (missing.length === 0) {
      print("in force\n");
      return 0;
    }
    if (performance.now() + pause > deadline) {
      process.stderr.write(`not in force after ${config.timeoutMs} ms (--timeout-ms gives it longer):\n${missing.map((line) => `  ${line}\n`).join("")}`);
      return 1;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function lookFor(connection: Connection, config: CtlConfig, what: string | undefined): Look | undefined {
  if (what === undefined) {
    const { revision, node } = config;
    return revision === undefined ? undefined : () => lackingRevision(connection, BigInt(revision), node);
  }
  const [kind, namespace = "", name = ""] = what.split("/");
  if (kind !== "policy" || namespace === "" || name === "") return undefined;
  return () => lackingPolicy(connection, namespace, name);
}

async function lackingRevision(connection: Connection, revision: bigint, node: string | undefined): Promise<readonly string[]> {
  const lacking: string[] = [];
  let isThere = node === undefined;
  const { revision: present } = await connection.call<{ revision: bigint }>((done) =>
    connection.client.getStatus({}, connection.metadata, connection.deadline, done),
  );
  if (present < revision) return [`the server: it is at revision ${present}`];
  for await (const client of listClients(connection)) {
    if (node !== undefined && client.node !== node) continue;
    isThere = true;
    if (client.programmedRevision < revision && !client.level)
      lacking.push(`${client.node}: has revision ${client.programmedRevision}, ${client.lagMs} ms behind`);
  }
  return isThere ? lacking : [`${node ?? ""}: not connected`];
}

async function lackingPolicy(connection: Connection, namespace: string, name: string): Promise<readonly string[]> {
  const request = { kind: "NetworkPolicy", namespace, name };
  const status = await connection.call<GetObjectStatusResponse>((done) =>
    connection.client.getObjectStatus(request, connection.metadata, connection.deadline, done),
  );
  if (status.nodesProgrammed >= status.nodes) return [];
  return [`${status.nodes - status.nodesProgrammed} of ${status.nodes} nodes`, ...status.lagging.map(({ node, reason }) => `${node}: ${reason}`)];
}
