/** What the agent says about itself, as JSON on its socket and for `sedge status`: is it connected, what has the kernel, what is not in force and why. */
import type { ProgrammedState } from "../apply/reconciler.ts";
import type { FreshnessReport } from "../sync/freshness.ts";

export interface AgentStatus {
  readonly node: string;
  readonly version: string;
  /** Address of the server of the present session, "" without one. */
  readonly server: string;
  /** Servers that are known, best for this node first. */
  readonly knownServers: readonly string[];
  readonly isConnected: boolean;
  /** In this session the view was the server's whole view. */
  readonly isSynced: boolean;
  /** Age of the upstream data in ms; null when no server has said. */
  readonly upstreamAgeMs: number | null;
  readonly isStale: boolean;
  /** Place in the server's line for the view and about how long it takes; null when not in a line. */
  readonly waiting: { readonly place: number; readonly delayMs: number } | null;
  readonly dataplane: "nftables" | "none";
  readonly view: { readonly isComplete: boolean; readonly epoch: string; readonly revision: string; readonly records: number; readonly digest: string };
  /** null until a complete view was programmed. */
  readonly programmedRevision: string | null;
  /** Why the last apply failed, "" when it did not. */
  readonly kernelError: string;
  readonly failures: readonly { readonly key: string; readonly reason: string }[];
  readonly localEndpoints: number;
  readonly unconfirmedReports: number;
}

export interface StatusSources {
  readonly node: string;
  readonly version: string;
  readonly dataplane: "nftables" | "none";
  readonly freshness: () => FreshnessReport;
  readonly servers: () => readonly string[];
  readonly view: () => { readonly isComplete: boolean; readonly epoch: string; readonly revision: bigint; readonly size: number; readonly digest: bigint };
  readonly programmed: () => ProgrammedState | undefined;
  readonly kernelError: () => string | undefined;
  readonly localEndpoints: () => number;
  readonly unconfirmedReports: () => number;
}

export function agentStatus(sources: StatusSources): AgentStatus {
  const freshness = sources.freshness();
  const view = sources.view();
  const programmed = sources.programmed();
  return {
    node: sources.node,
    version: sources.version,
    server: freshness.address,
    knownServers: sources.servers(),
    isConnected: freshness.isConnected,
    isSynced: freshness.isSynced,
    upstreamAgeMs: freshness.upstreamAgeMs === undefined ? null : Math.round(freshness.upstreamAgeMs),
    isStale: freshness.isStale,
    waiting: freshness.waiting ?? null,
    dataplane: sources.dataplane,
    view: {
      isComplete: view.isComplete,
      epoch: view.epoch,
      revision: String(view.revision),
      records: view.size,
      digest: view.digest.toString(16).padStart(16, "0"),
    },
    programmedRevision: programmed === undefined ? null : String(programmed.revision),
    kernelError: sources.kernelError() ?? "",
    failures: programmed?.failures ?? [],
    localEndpoints: sources.localEndpoints(),
    unconfirmedReports: sources.unconfirmedReports(),
  };
}
