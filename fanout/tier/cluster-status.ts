/**
 * What the whole tier knows, as the status of one small object that `kubectl get sedgestatus` shows. Pure.
 *
 * Each condition says one thing that an operator asks, and names at most a handful of whom it concerns; `Unknown` where a server that did not answer might
 * know better. Ready sums up what a person must be woken for: single nodes that are away do not make it false, they are in the other conditions and in
 * the summary.
 */
import type { ReplicaReport } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import type { TierReport } from "./tier.ts";

export const CLUSTER_CONDITIONS = ["Ready", "ServersReady", "DataFresh", "NodesConnected", "NodesProgrammed", "PoliciesInForce", "CertificatesValid"] as const;

export interface ClusterCondition {
  readonly type: (typeof CLUSTER_CONDITIONS)[number];
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
}

export interface ClusterStatus {
  readonly conditions: readonly ClusterCondition[];
  /** "3/3": servers that answer and are ready, of those that there are. */
  readonly servers: string;
  /** Nodes that have a server, of those of the cluster. */
  readonly nodes: string;
  /** Nodes whose kernel has everything, of those that have a server. */
  readonly programmed: string;
  readonly replicas: readonly {
    readonly name: string;
    readonly address: string;
    readonly state: string;
    readonly nodes: number;
    readonly loadPercent: number;
  }[];
}

export interface ClusterFacts {
  readonly tier: TierReport;
  /** Names of the cluster's nodes. */
  readonly nodes: Iterable<string>;
  /** Milliseconds since 1970. */
  readonly now: number;
}

const MAX_NAMED = 5;
const MAX_REPLICAS = 64;
/** Fewer of the nodes than this have a server: something is wrong with the tier, not with nodes. */
const ENOUGH_NODES = 0.5;

export function clusterStatus({ tier, nodes, now }: ClusterFacts): ClusterStatus {
  const { heard, unheard, unready } = tier;
  const inSync = heard.filter(({ report }) => report.status?.syncStatus !== "wait-for-datastore" && !report.draining);
  const all = new Set([...heard.map(({ name }) => name), ...unheard]);
  const connected = new Set(heard.flatMap(({ report }) => report.nodes));
  const names = [...nodes];
  const missing = names.filter((node) => !connected.has(node)).sort();
  const behind = newestOf(heard.flatMap(({ report }) => report.behind));
  const behindCount = heard.reduce((sum, { report }) => sum + report.behindCount, 0);
  const unenforced = unenforcedOf(heard.map(({ report }) => report));
  const certificates = heard.flatMap(({ report }) => report.certificates).sort((a, b) => Number(a.endsAtUnixMs - b.endsAtUnixMs));
  const expired = certificates.filter(({ endsAtUnixMs }) => Number(endsAtUnixMs) <= now);
  const stale = heard.filter(({ report }) => report.status?.stale === true);

  const ready = new Set(inSync.map(({ name }) => name));
  for (const name of unready) ready.delete(name);
  const servers: ClusterCondition = condition("ServersReady", ready.size === all.size, {
    good: ["AllReady", `${count(all.size, "server is", "servers are")} ready`],
    bad: ["ServersMissing", `${all.size - ready.size} of ${count(all.size, "server")} not ready: ${list([...all].filter((name) => !ready.has(name)).sort())}`],
  });
  const fresh = condition("DataFresh", stale.length === 0, {
    good: ["Fresh", "every server hears the Kubernetes API"],
    bad: ["Stale", `${list(stale.map(({ name }) => name))}: nothing heard of the Kubernetes API; nodes keep what they have`],
  });
  const isCertain = unheard.length === 0;
  const connectedCondition = uncertain(
    isCertain,
    condition("NodesConnected", missing.length === 0, {
      good: ["AllConnected", `all ${count(names.length, "node")} have a server`],
      bad: ["NodesMissing", `${count(missing.length, "node has", "nodes have")} no server: ${list(missing)}`],
    }),
  );
  const programmed = condition("NodesProgrammed", behindCount === 0, {
    good: ["AllProgrammed", "every node that has a server has all in its kernel"],
    bad: ["NodesBehind", `${count(behindCount, "node is", "nodes are")} behind: ${list(behind.map(({ node, reason }) => `${node} (${reason})`))}`],
  });
  const policies = condition("PoliciesInForce", unenforced.length === 0, {
    good: ["AllInForce", "every policy is in force on every node that has a server"],
    bad: [
      "NotInForce",
      `${count(unenforced.length, "policy is", "policies are")} not in force everywhere: ${list(
        unenforced.map(({ key, nodes: on, node, reason }) => `${key.replace(/^policy\//, "")} on ${count(on, "node")} (${node}: ${reason})`),
      )}`,
    ],
  });
  const valid = condition("CertificatesValid", certificates.length === 0, {
    good: ["Valid", "no certificate in use ends within a week"],
    bad: [
      expired.length > 0 ? "Expired" : "NearEnd",
      `${count(certificates.length, "certificate ends", "certificates end")} within a week: ${list(
        certificates.map(({ holder, endsAtUnixMs }) => `${holder} (${new Date(Number(endsAtUnixMs)).toISOString().slice(0, 16)}Z)`),
      )}`,
    ],
  });
  const parts = [servers, fresh, connectedCondition, programmed, policies, valid];
  const woken = [
    ready.size === 0 ? "no server is ready" : "",
    fresh.status === "True" ? "" : fresh.message,
    expired.length > 0 ? valid.message : "",
    isCertain && names.length > 0 && connected.size < ENOUGH_NODES * names.length ? connectedCondition.message : "",
  ].filter((text) => text !== "");
  return {
    conditions: [condition("Ready", woken.length === 0, { good: ["Serving", "nodes are served"], bad: ["NotServing", woken.join("; ")] }), ...parts].map(
      (one) => ({ ...one, message: bounded(one.message) }),
    ),
    servers: `${ready.size}/${all.size}`,
    nodes: `${names.length - missing.length}/${names.length}`,
    programmed: `${Math.max(0, connected.size - behindCount)}/${connected.size}`,
    replicas: [
      ...heard.map(({ name, identity, report }) => ({
        name,
        address: identity,
        state: report.draining ? "draining" : (report.status?.syncStatus ?? ""),
        nodes: report.nodes.length,
        loadPercent: Math.round(report.load * 100),
      })),
      ...unheard.map((name) => ({ name, address: "", state: "no answer", nodes: 0, loadPercent: 0 })),
    ].slice(0, MAX_REPLICAS),
  };
}

type Words = readonly [reason: string, message: string];

function condition(type: ClusterCondition["type"], isGood: boolean, { good, bad }: { readonly good: Words; readonly bad: Words }): ClusterCondition {
  const [reason, message] = isGood ? good : bad;
  return { type, status: isGood ? "True" : "False", reason, message };
}

/** What is not there may be at a server that did not answer. */
function uncertain(isCertain: boolean, one: ClusterCondition): ClusterCondition {
  return isCertain || one.status === "True"
    ? one
    : { ...one, status: "Unknown", reason: "ServersUnheard", message: `${one.message}; a server that may have them does not answer` };
}

/** A node can be told of by two servers for a moment while it moves. */
function newestOf<T extends { readonly node: string }>(nodes: readonly T[]): readonly T[] {
  return [...new Map(nodes.map((one) => [one.node, one])).values()].sort((a, b) => (a.node < b.node ? -1 : 1));
}

function unenforcedOf(
  reports: readonly ReplicaReport[],
): readonly { readonly key: string; readonly nodes: number; readonly node: string; readonly reason: string }[] {
  const found = new Map<string, { key: string; nodes: number; node: string; reason: string }>();
  for (const { unenforced } of reports)
    for (const { key, nodes, node, reason } of unenforced) {
      const before = found.get(key);
      if (before === undefined) found.set(key, { key, nodes, node, reason });
      else before.nodes += nodes;
    }
  return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

function list(texts: readonly string[]): string {
  const shown = texts.slice(0, MAX_NAMED).join(", ");
  return texts.length > MAX_NAMED ? `${shown} and ${texts.length - MAX_NAMED} more` : shown;
}

/** "1 node", "2 nodes"; "1 node is", "2 nodes are". */
function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

function bounded(text: string): string {
  return text.length > 1_000 ? `${text.slice(0, 997)}...` : text;
}
