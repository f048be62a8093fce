/**
 * What this server alone knows of its agents, for who puts the state of the whole tier together.
 *
 * Bounded in size and in time: names are told of at most 1000 of a kind, and what an agent lacks is looked up by policy for at most 200 agents. An agent
 * counts as behind after a while only: every change makes all agents that it concerns be behind for some milliseconds.
 */
import type { Clock } from "../../src/runtime/clock.ts";
import type { BehindNode, CertificateEnd, GetStatusResponse, ReplicaReport, UnenforcedPolicy } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import type { ClientState } from "../session/client-state.ts";
import type { Sessions } from "../session/sessions.ts";
import type { Table } from "../table/table.ts";

export interface ReplicaReportOptions {
  readonly table: Table;
  readonly sessions: Sessions;
  readonly clock: Clock;
  readonly status: () => GetStatusResponse;
  readonly lagMs: (session: ClientState) => number;
  readonly isDraining: () => boolean;
  readonly load: () => number;
  readonly clusterNodes: () => number;
  /** When the server's own certificate ends, ms since 1970; undefined: it has none. */
  readonly certificateEndsAt: () => number | undefined;
}

/** Behind for longer than this is worth telling. */
export const BEHIND_AFTER_MS = 5_000;
/** A certificate that ends sooner than this is near its end. */
export const CERTIFICATE_NEAR_MS = 7 * 86_400_000;
const MAX_NAMES = 1_000;
const MAX_LOOKED_UP = 200;

export function replicaReport(options: ReplicaReportOptions): ReplicaReport {
  const { sessions, status, lagMs, isDraining, load, clusterNodes } = options;
  const nodes: string[] = [];
  const behind: (BehindNode & { readonly session: ClientState })[] = [];
  for (const session of sessions.everyClient()) {
    const node = session.node?.name;
    if (node === undefined) continue;
    nodes.push(node);
    if (session.isLevel) continue;
    const lag = lagMs(session);
    // What failed does not come right by waiting.
    if (lag >= BEHIND_AFTER_MS || session.acknowledged.failed.length > 0)
      behind.push({ node, lagMs: BigInt(Math.round(lag)), reason: reasonOf(session), session });
  }
  behind.sort((a, b) => (a.node < b.node ? -1 : 1));
  return {
    status: status(),
    nodes: nodes.sort(),
    behind: behind.slice(0, MAX_NAMES).map(({ node, lagMs: lag, reason }) => ({ node, lagMs: lag, reason })),
    behindCount: behind.length,
    unenforced: unenforced(
      behind.slice(0, MAX_LOOKED_UP).map(({ session }) => session),
      options.table,
    ),
    certificates: certificates(options),
    draining: isDraining(),
    load: load(),
    clusterNodes: clusterNodes(),
  };
}

function reasonOf(session: ClientState): string {
  const { failed, programmed, sent } = session.acknowledged;
  const [first] = failed;
  if (first !== undefined) return `${failed.length} objects are not in its kernel, ${first.key}: ${first.reason}`;
  if (session.state !== "live") return session.state === "waiting" || session.state === "restating" ? "waits for its view" : "is being sent its view";
  return session.dirtyKeys > 0 ? `${session.dirtyKeys} records are not sent: it does not read` : `its kernel has revision ${programmed}, sent is ${sent}`;
}

function unenforced(behind: readonly ClientState[], table: Table): UnenforcedPolicy[] {
  const found = new Map<string, UnenforcedPolicy>();
  const add = (key: string, node: string, reason: string): void => {
    if (!key.startsWith("policy/")) return;
    const before = found.get(key);
    if (before !== undefined) before.nodes++;
    else if (found.size < MAX_NAMES) found.set(key, { key, nodes: 1, node, reason });
  };
  for (const session of behind) {
    const { node } = session;
    if (node === undefined) continue;
    const { failed, programmed } = session.acknowledged;
    const told = new Set<string>();
    for (const { key, reason } of failed) {
      told.add(key);
      add(key, node.name, reason);
    }
    if (session.isCaughtUp) continue;
    for (const { key, revision } of table.ownEntries(node.id)) if (revision > programmed && !told.has(key)) add(key, node.name, reasonOf(session));
  }
  return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

function certificates({ sessions, clock, status, certificateEndsAt }: ReplicaReportOptions): CertificateEnd[] {
  const limit = clock.wallTime() + CERTIFICATE_NEAR_MS;
  const ends: { readonly holder: string; readonly at: number }[] = [];
  const own = certificateEndsAt();
  if (own !== undefined) ends.push({ holder: `server ${status().server}`, at: own });
  for (const { node, certificateEndsAtUnixMs: at } of sessions.everyClient()) if (at !== undefined) ends.push({ holder: `node ${node?.name ?? ""}`, at });
  return ends
    .filter(({ at }) => at < limit)
    .sort((a, b) => a.at - b.at || (a.holder < b.holder ? -1 : 1))
    .slice(0, MAX_NAMES)
    .map(({ holder, at }) => ({ holder, endsAtUnixMs: BigInt(Math.max(0, Math.round(at))) }));
}
