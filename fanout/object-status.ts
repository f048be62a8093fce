/**
 * On which nodes the present state of a cluster object is in force.
 *
 * A node has the revision when its kernel has acknowledged it, or when everything that the table holds for it is sent and acknowledged (the commit then did
 * not touch its view). Who asks waits: nodes that lack it are asked to say so as soon as they have it. "Concerned" are the audience of the object's own
 * record, or for objects without one the nodes that the commit changed.
 */

import type { RecordKey } from "../src/model/record.ts";
import type { ResourceKey, ResourceKind } from "../src/model/resource.ts";
import { RESOURCE_KINDS } from "../src/model/resource.ts";
import type { GetObjectStatusRequest, GetObjectStatusResponse, LaggingNode } from "../src/wire/gen/sedge/sync/v1/introspection.ts";
import type { ObjectLog, ObjectRecord } from "./object-log.ts";
import type { ClientState } from "./session/client-state.ts";
import type { Sessions } from "./session/sessions.ts";
import { CallError } from "./status.ts";
import type { NodeId } from "./table/node-ids.ts";
import type { Table } from "./table/table.ts";

/** Most nodes named in an answer: first those that are connected, since of the others another server may know more. */
export const MAX_LAGGING = 100;

export interface ObjectStatusSources {
  readonly table: Table;
  readonly sessions: Sessions;
  readonly objects: ObjectLog;
  /** Connected to another server: not named here, that one tells of it. */
  readonly isElsewhere?: (node: string) => boolean;
}

/** Throws CallError "unknown-object" or, for a kind that there is not, "broken-message". */
export function objectStatus({ kind, namespace, name }: GetObjectStatusRequest, sources: ObjectStatusSources): GetObjectStatusResponse {
  const { table, sessions, objects, isElsewhere } = sources;
  if (!isKind(kind)) throw new CallError("broken-message", `kind ${JSON.stringify(kind)} is not known; known: ${RESOURCE_KINDS.join(", ")}`);
  const key: ResourceKey = { kind, namespace, name };
  const object = objects.find(key);
  if (object === undefined) throw new CallError("unknown-object", `${kind} ${namespace === "" ? "" : `${namespace}/`}${name} is not known to the server`);
  const recordKey = recordOf(key);
  const lagging: LaggingNode[] = [];
  const unconnected: LaggingNode[] = [];
  let nodes = 0;
  let nodesConnected = 0;
  let programmedNodes = 0;
  let programmedAt = Number(object.committedAtUnixUs);
  for (const node of concerned(recordKey, object, { table, sessions })) {
    const name = table.nodes.findName(node);
    // The commit touched it, and it has gone since.
    if (name === undefined) continue;
    nodes++;
    const session = sessions.clientOf(node);
    if (session !== undefined) nodesConnected++;
    const reason = lagReason(session, object.revision, recordKey);
    if (reason === undefined) {
      programmedNodes++;
      const at = session?.sentCommits.programmedAt(object.revision) ?? 0;
      if (at > programmedAt) programmedAt = at;
    } else if (session !== undefined) {
      session.askForAck();
      if (lagging.length < MAX_LAGGING) lagging.push({ node: name, reason, connected: true });
    } else if (unconnected.length < MAX_LAGGING && isElsewhere?.(name) !== true) unconnected.push({ node: name, reason, connected: false });
  }
  const { resourceVersion, revision, committedAtUnixUs } = object;
  return {
    resourceVersion,
    revision,
    nodes,
    nodesProgrammed: programmedNodes,
    nodesConnected,
    lagging: [...lagging, ...unconnected].slice(0, MAX_LAGGING),
    unheard: [],
    committedAtUnixUs,
    programmedAtUnixUs: programmedNodes === nodes ? BigInt(programmedAt) : 0n,
    lastProgrammedAtUnixUs: programmedNodes === 0 ? 0n : BigInt(programmedAt),
  };
}

function isKind(kind: string): kind is ResourceKind {
  return (RESOURCE_KINDS as readonly string[]).includes(kind);
}

/** The record that is the object, so to say; undefined when it only has effects on others. */
function recordOf({ kind, namespace, name }: ResourceKey): RecordKey | undefined {
  switch (kind) {
    case "NetworkPolicy":
      return `policy/KubernetesNetworkPolicy/${namespace}/${name}`;
    case "Pod":
      return `endpoint/${namespace}/${name}`;
    case "Node":
      return `node/${name}`;
    case "IPPool":
      return `pool/${name}`;
    case "CalicoNetworkPolicy":
      return `policy/NetworkPolicy/${namespace}/${name}`;
    case "GlobalNetworkPolicy":
    case "ClusterNetworkPolicy":
    case "Profile":
      return `policy/${kind}//${name}`;
    case "HostEndpoint":
      return `host/${name}`;
    default:
      return undefined;
  }
}

function* concerned(
  recordKey: RecordKey | undefined,
  object: ObjectRecord,
  { table, sessions }: Pick<ObjectStatusSources, "table" | "sessions">,
): Generator<NodeId> {
  const entry = recordKey === undefined ? undefined : table.findEntry(recordKey);
  if (entry?.isShared === true || (recordKey === undefined && object.touched === undefined)) {
    for (const session of sessions.everyClient()) if (session.node !== undefined) yield session.node.id;
    return;
  }
  // A pod's own node has its endpoint; other nodes have it in sets, so both count.
  yield* new Set([...(entry?.audience ?? []), ...(recordKey?.startsWith("policy/") === true ? [] : (object.touched ?? []))]);
}

/** Why the node does not have it, undefined when it has. */
function lagReason(session: ClientState | undefined, revision: bigint, recordKey: RecordKey | undefined): string | undefined {
  if (session === undefined) return "not connected";
  const { programmed, sent, failed } = session.acknowledged;
  const failure = failed.find(({ key }) => key === recordKey);
  if (failure !== undefined) return failure.reason;
  if (programmed >= revision || session.isCaughtUp) return undefined;
  return sent >= revision ? `sent, not yet in the kernel (which has revision ${programmed})` : `not yet sent (${session.dirtyKeys} records wait)`;
}
