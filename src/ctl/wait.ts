/**
 * `sedge wait`: until something is in force on the nodes.
 *
 *   sedge wait --revision R [--node N]                      every connected node (or the one) has revision R, or all that concerns it
 *   sedge wait policy/NAMESPACE/NAME [--for programmed]     every node that the policy concerns has its present state
 *   sedge wait KIND/[NAMESPACE/]NAME [--for programmed]     as much for any kind that the server watches, e.g. globalnetworkpolicy/deny-all
 *
 * It asks again and again: the server keeps no list of who waits. Exit codes: 0 it is so; 1 not in time (--timeout-ms), with who lacks it and why.
 */
import { RESOURCE_KINDS } from "../model/resource.ts";
import type { GetObjectStatusResponse } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { listClients } from "./clients.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { print } from "./output.ts";

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1_000;
const USAGE = "usage: sedge wait --revision R [--node N] | sedge wait policy/NAMESPACE/NAME [--for programmed] | sedge wait KIND/[NAMESPACE/]NAME\n";

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
  const object = objectOf(what);
  return object === undefined ? undefined : () => lackingObject(connection, object);
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

interface ObjectName {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** "policy/shop/allow-web" is a NetworkPolicy; any other kind by its name, with the namespace when it has one: "globalnetworkpolicy/deny-all". */
function objectOf(text: string): ObjectName | undefined {
  const [word = "", ...names] = text.split("/");
  const kind = word === "policy" ? "NetworkPolicy" : RESOURCE_KINDS.find((known) => known.toLowerCase() === word.toLowerCase());
  const [namespace = "", name = ""] = names.length === 1 ? ["", ...names] : names;
  if (kind === undefined || name === "" || names.length > 2 || (kind === "NetworkPolicy" && namespace === "")) return undefined;
  return { kind, namespace, name };
}

async function lackingObject(connection: Connection, request: ObjectName): Promise<readonly string[]> {
  const status = await connection.call<GetObjectStatusResponse>((done) =>
    connection.client.getObjectStatus(request, connection.metadata, connection.deadline, done),
  );
  if (status.nodesProgrammed >= status.nodes) return [];
  return [`${status.nodes - status.nodesProgrammed} of ${status.nodes} nodes`, ...status.lagging.map(({ node, reason }) => `${node}: ${reason}`)];
}
