/**
 * One object's state over several servers, of what each knows of the nodes that are connected to it. Pure.
 *
 * Servers agree on whom an object concerns, not on revisions. A server that has an older version of the object counts none of its nodes as having the newest.
 */
import type { GetObjectStatusResponse } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { MAX_LAGGING } from "../object-status.ts";

/** `own` decides which version is asked for, unless another has a newer one. `unheard`: servers that did not answer. */
export function mergeObjectStatuses(
  own: GetObjectStatusResponse,
  others: readonly GetObjectStatusResponse[],
  unheard: readonly string[],
): GetObjectStatusResponse {
  const all = [own, ...others].filter(({ resourceVersion }) => resourceVersion !== "");
  const newest = all.reduce((best, one) => (isNewer(one.resourceVersion, best.resourceVersion) ? one : best), own);
  const level = all.filter(({ resourceVersion }) => resourceVersion === newest.resourceVersion);
  // An object that concerns every node concerns, for each server, those that are connected to it.
  const nodes = Math.max(newest.nodes, sum(all.map((one) => one.nodesConnected)));
  const nodesProgrammed = Math.min(nodes, sum(level.map((one) => one.nodesProgrammed)));
  const late = all.filter((one) => !level.includes(one));
  const lagging = [
    ...level.flatMap((one) => one.lagging.filter(({ connected }) => connected)),
    ...late.flatMap((one) =>
      one.lagging
        .filter(({ connected }) => connected)
        .map(({ node }) => ({ node, reason: `its server has version ${one.resourceVersion} of the object`, connected: true })),
    ),
    // Only this server's question was limited to nodes that nobody has.
    ...own.lagging.filter(({ connected }) => !connected),
  ];
  const lastProgrammedAt = level.reduce((latest, one) => (one.lastProgrammedAtUnixUs > latest ? one.lastProgrammedAtUnixUs : latest), 0n);
  const isDone = nodesProgrammed === nodes && unheard.length === 0;
  return {
    ...newest,
    nodes,
    nodesProgrammed,
    nodesConnected: sum(all.map((one) => one.nodesConnected)),
    lagging: lagging.slice(0, MAX_LAGGING),
    programmedAtUnixUs: isDone ? (lastProgrammedAt === 0n ? newest.committedAtUnixUs : lastProgrammedAt) : 0n,
    lastProgrammedAtUnixUs: lastProgrammedAt,
    unheard: [...unheard],
  };
}

/** Of one kind, versions are decimal numbers that grow (KEP-5504); others are not compared, and the first stays. */
function isNewer(a: string, b: string): boolean {
  const isNumber = /^\d{1,20}$/;
  return isNumber.test(a) && isNumber.test(b) ? BigInt(a) > BigInt(b) : b === "" && a !== "";
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
