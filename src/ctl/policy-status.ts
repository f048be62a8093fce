/**
 * `sedge policy status [[KIND/]NAME] [-n NAMESPACE]`: on how many nodes of the whole tier each policy is in force, which lack it and why, and what of it is
 * not understood. Without a name: all of them.
 *
 * Exit codes: 0 answered (whatever the answer is: `sedge wait` is for scripts); 1 the call failed, or no policy has the name; 2 wrong usage.
 */
import { isPolicyKindName } from "../model/policy-kinds.ts";
import { describeKind } from "../model/resource.ts";
import type { InvalidObject, PolicyStatus } from "../wire/gen/sedge/sync/v1/introspection.ts";
import type { CtlConfig } from "./config.ts";
import { CallError, type Connection } from "./connection.ts";
import { isNameProblem, type PolicyName, parsePolicyName } from "./object-name.ts";
import { json, print, table } from "./output.ts";

/** Nodes named for each policy in a list of several; one policy alone names all that the server told. */
const NAMED_IN_LIST = 5;

const OUTCOMES: Readonly<Record<string, string>> = {
  narrowed: "these parts let nothing through, the rest is in force",
  earlier: "the version before it stays in force",
  closed: "a stand-in is in force that lets nothing more through than the policy may have meant",
  nothing: "it is in force nowhere",
};

export async function policyStatusCommand(connection: Connection, config: CtlConfig, [text]: readonly string[]): Promise<number> {
  const { namespace = "" } = config;
  const wanted = text === undefined ? { kind: undefined, namespace, name: "" } : parsePolicyName(text, namespace);
  if (isNameProblem(wanted)) {
    process.stderr.write(`sedge policy status: ${wanted.problem}\n`);
    return 2;
  }
  const statuses = await policyStatuses(connection, wanted);
  if (statuses.length === 0 && wanted.name !== "") {
    process.stderr.write(`sedge policy status: ${noSuchPolicy(wanted)}; sedge policy status lists all\n`);
    return 1;
  }
  if (config.output === "json") print(json(statuses));
  else
    print(
      statuses.length === 0
        ? `no policy${namespace === "" ? "" : ` in namespace ${namespace}`}\n`
        : statusText(statuses, statuses.length === 1 ? Infinity : NAMED_IN_LIST),
    );
  return 0;
}

/** Sorted by kind, namespace and name; empty: there is none of the name. */
export async function policyStatuses(connection: Connection, { kind, namespace, name }: PolicyName): Promise<readonly PolicyStatus[]> {
  const found: PolicyStatus[] = [];
  const stream = connection.client.listPolicyStatus({ kind: kind ?? "", namespace, name }, connection.metadata, connection.deadline);
  try {
    for await (const status of connection.messages<PolicyStatus>(stream)) found.push(status);
  } catch (error) {
    if (!(error instanceof CallError) || error.code !== "NOT_FOUND") throw error;
  }
  return found;
}

export function noSuchPolicy({ kind, namespace, name }: PolicyName): string {
  return `no ${kind === undefined ? "policy" : describeKind(kind)} ${name}${namespace === "" ? "" : ` in namespace ${namespace}`} is known to the server`;
}

/** "NetworkPolicy shop/allow-web" */
export function policyLabel({ kind, namespace, name }: PolicyStatus): string {
  return `${isPolicyKindName(kind) ? describeKind(kind) : kind} ${namespace === "" ? "" : `${namespace}/`}${name}`;
}

/** What keeps it from being in force as written on every node; empty: nothing does. */
export function shortcomings(status: PolicyStatus, named = Infinity): readonly string[] {
  const { lagging, nodes, nodesProgrammed, problems, unknown } = status;
  const shown = lagging.slice(0, named);
  const more = nodes - nodesProgrammed - shown.length;
  return [
    ...(unknown === "" ? [] : [unknown]),
    ...shown.map(({ node, reason }) => `${node}: ${reason}`),
    ...(more > 0 ? [`and ${more} more nodes`] : []),
    ...problemLines(problems),
  ];
}

function problemLines(problems: readonly InvalidObject[]): readonly string[] {
  const [first] = problems;
  if (first === undefined) return [];
  return [...problems.map(({ field, problem }) => `${field}: ${problem}`), `so ${OUTCOMES[first.outcome] ?? first.outcome}`];
}

function statusText(statuses: readonly PolicyStatus[], named: number): string {
  const rows = statuses.map((status) => [policyLabel(status), inForce(status), status.problems.length === 0 ? "yes" : "no", `${status.generation || "-"}`]);
  const lines = table([["POLICY", "IN FORCE", "ACCEPTED", "GENERATION"], ...rows]).split("\n");
  const [heading = "", ...body] = lines;
  return [heading, ...statuses.flatMap((status, i) => [body[i] ?? "", ...shortcomings(status, named).map((line) => `  ${line}`)])].join("\n");
}

function inForce({ nodes, nodesProgrammed, problems, staged, unknown }: PolicyStatus): string {
  if (staged) return "staged: never";
  if (unknown !== "") return "not known yet";
  if (problems[0]?.outcome === "nothing") return "nowhere";
  return nodes === 0 ? "no endpoint" : `${nodesProgrammed} of ${nodes} nodes`;
}
