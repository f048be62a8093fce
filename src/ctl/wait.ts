/**
 * `sedge wait`: until something is in force on the nodes.
 *
 *   sedge wait --revision R [--node N]                     every connected node (or the one) has revision R, or all that concerns it
 *   sedge wait policy/[NAMESPACE/]NAME [--for programmed]  the policy, of whichever kind, is accepted and in force on every node that it concerns
 *   sedge wait KIND/[NAMESPACE/]NAME [--for programmed]    as much for one kind: gnp/deny-all, networkpolicy/shop/web, cnp/baseline, pod/shop/web
 *
 * A policy that the server does not know yet is waited for, too; with --generation G, that version of it or a later one. It asks again and again: the
 * server keeps no list of who waits. Exit codes: 0 it is so; 1 not in time (--timeout), with who lacks it and why; 2 wrong usage.
 */
import { policyKindOfWord } from "../model/policy-kinds.ts";
import type { GetObjectStatusResponse } from "../wire/gen/sedge/sync/v1/introspection.ts";
import { listClients } from "./clients.ts";
import type { CtlConfig } from "./config.ts";
import type { Connection } from "./connection.ts";
import { isNameProblem, type NameProblem, type ObjectName, type PolicyName, parseObjectName, parsePolicyName } from "./object-name.ts";
import { duration, print } from "./output.ts";
import { noSuchPolicy, policyLabel, policyStatuses, shortcomings } from "./policy-status.ts";

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1_000;
/** Lines of what lacks that are told. */
const MAX_LINES = 20;
const USAGE =
  "usage: sedge wait --revision R [--node N] | sedge wait policy/[NAMESPACE/]NAME [-n NAMESPACE] [--for programmed] | sedge wait KIND/[NAMESPACE/]NAME\n";

/** What still lacks; empty: it is so. */
type Look = () => Promise<readonly string[]>;

export async function waitCommand(connection: Connection, config: CtlConfig, [what]: readonly string[]): Promise<number> {
  const look = lookFor(connection, config, what);
  if (typeof look !== "function") {
    process.stderr.write(look === undefined ? USAGE : `sedge wait: ${look.problem}\n${USAGE}`);
    return 2;
  }
  const timeoutMs = config.timeout ?? config.timeoutMs;
  const deadline = performance.now() + timeoutMs;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(LONGEST_PAUSE_MS, pause * 1.5)) {
    const missing = await look();
    if (missing.length === 0) {
      print("in force\n");
      return 0;
    }
    if (performance.now() + pause > deadline) {
      const more = missing.length > MAX_LINES ? `  and ${missing.length - MAX_LINES} more\n` : "";
      const lines = missing.slice(0, MAX_LINES).map((line) => `  ${line}\n`);
      process.stderr.write(`not in force after ${duration(timeoutMs)} (--timeout gives it longer):\n${lines.join("")}${more}`);
      return 1;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function lookFor(connection: Connection, config: CtlConfig, what: string | undefined): Look | NameProblem | undefined {
  if (what === undefined) {
    const { revision, node } = config;
    return revision === undefined ? undefined : () => lackingRevision(connection, BigInt(revision), node);
  }
  const [word = ""] = what.split("/");
  if (!what.includes("/") || /^polic(y|ies)$/i.test(word) || policyKindOfWord(word) !== undefined) {
    const policy = parsePolicyName(what, config.namespace);
    return isNameProblem(policy) ? policy : () => lackingPolicy(connection, policy, config.generation);
  }
  const object = parseObjectName(what, config.namespace);
  return isNameProblem(object) ? object : () => lackingObject(connection, object);
}

/** Of the policies of that name; staged ones are never in force, and nobody waits for them. */
async function lackingPolicy(connection: Connection, policy: PolicyName, generation = 0): Promise<readonly string[]> {
  const statuses = (await policyStatuses(connection, policy)).filter(({ staged }) => !staged);
  if (statuses.length === 0) return [noSuchPolicy(policy)];
  return statuses.flatMap((status) => {
    const label = policyLabel(status);
    if (status.generation < generation) return [`${label}: the server has generation ${status.generation}`];
    const { nodes, nodesProgrammed } = status;
    const head = nodesProgrammed < nodes ? [`${label}: ${nodesProgrammed} of ${nodes} nodes have it`] : [];
    return [...head, ...shortcomings(status, MAX_LINES).map((line) => (head.length > 0 ? line : `${label}: ${line}`))];
  });
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

async function lackingObject(connection: Connection, request: ObjectName): Promise<readonly string[]> {
  const status = await connection.call<GetObjectStatusResponse>((done) =>
    connection.client.getObjectStatus(request, connection.metadata, connection.deadline, done),
  );
  if (status.nodesProgrammed >= status.nodes) return [];
  return [`${status.nodes - status.nodesProgrammed} of ${status.nodes} nodes`, ...status.lagging.map(({ node, reason }) => `${node}: ${reason}`)];
}
