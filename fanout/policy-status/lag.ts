/**
 * What one server knows of the nodes that are connected to it: which of them do not have which policies as the table has them, and why.
 *
 * Only what lacks is told, so that a quiet tier has next to nothing to tell; who is connected is told in full, because a node that nobody has a session of
 * lacks everything. A policy is in force on a node when the policy, its sets, and the stacks and endpoints through which it applies there are in the
 * node's kernel: so a member that joins a set counts as much as a rule that changes.
 */
import type { RecordKey } from "../../src/model/record.ts";
import type { ClientState } from "../session/client-state.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Table } from "../table/table.ts";
import type { PolicyRelations } from "./relations.ts";

export interface NodeLag {
  readonly node: string;
  /** Why all that it lacks is lacking. */
  readonly reason: string;
  /** Record keys of policies, in order of the first; undefined: every policy of its view. */
  readonly policies: readonly RecordKey[] | undefined;
  /** Policies of which the kernel refused a record, with its words. The last good state of each is in force, or it fails closed. */
  readonly failures: readonly { readonly policy: RecordKey; readonly reason: string }[];
}

export interface LagReport {
  readonly server: string;
  /** The server has had the whole cluster once. */
  readonly isInSync: boolean;
  /** By kind, how far in the API's history its table surely is; a kind that is not in it: not known. */
  readonly reached: ReadonlyMap<string, bigint>;
  readonly connected: readonly string[];
  readonly lagging: readonly NodeLag[];
}

/** What it looks at of a client. */
export type LagClient = Pick<ClientState, "node" | "isLevel" | "openKeys" | "acknowledged" | "state" | "dirtyKeys" | "askForAck">;

export interface LagSessions {
  everyClient(): Iterable<LagClient>;
  clientOf(node: NodeId): LagClient | undefined;
}

export interface LagSources {
  readonly table: Table;
  readonly sessions: LagSessions;
  readonly relations: PolicyRelations;
}

/**
 * Of the server's sessions and those at relays below; with `policy`, only what concerns that record. One synchronous look; who lags is asked to say so as soon
 * as it does not.
 */
export function localLag({ table, sessions, relations }: LagSources, policy?: RecordKey): Pick<LagReport, "connected" | "lagging"> {
  const connected: string[] = [];
  const lagging: NodeLag[] = [];
  for (const session of sessions.everyClient()) {
    const { node } = session;
    if (node === undefined || sessions.clientOf(node.id) !== session) continue;
    connected.push(node.name);
    if (session.isLevel) continue;
    const lag = lagOf(session, { node, table, relations, policy });
    if (lag.policies?.length === 0 && lag.failures.length === 0) continue;
    session.askForAck();
    lagging.push(lag);
  }
  return { connected, lagging };
}

function lagOf(
  session: LagClient,
  {
    node,
    table,
    relations,
    policy,
  }: Pick<LagSources, "table" | "relations"> & { readonly node: NonNullable<ClientState["node"]>; readonly policy: RecordKey | undefined },
): NodeLag {
  const isOfNode = (key: RecordKey): boolean => {
    const entry = table.findEntry(key);
    return entry !== undefined && (policy === undefined || key === policy) && table.isInView(entry, node.id);
  };
  const open = session.openKeys();
  const policies = open === undefined ? undefined : [...new Set(open.flatMap((key) => relations.policiesOf(key)))].filter(isOfNode);
  const failures = session.acknowledged.failed.flatMap(({ key, reason }) =>
    relations
      .policiesOf(key)
      .filter(isOfNode)
      .map((name) => ({ policy: name, reason: key === name ? reason : `${key}: ${reason}` })),
  );
  return { node: node.name, reason: reasonOf(session, open), policies, failures };
}

function reasonOf(session: LagClient, open: readonly RecordKey[] | undefined): string {
  const { programmed, sent } = session.acknowledged;
  switch (session.state) {
    case "greeting":
    case "waiting":
    case "restating":
      return "waits for its view";
    case "answering":
      return "its view is being sent";
    default:
      if (session.dirtyKeys > 0) return `not yet sent (${session.dirtyKeys} records wait)`;
      if (open === undefined) return `its view is sent, the kernel does not have it yet`;
      return `sent (revision ${sent}), not yet in the kernel (which has revision ${programmed})`;
  }
}
