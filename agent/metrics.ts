/** Metrics of the agent. Label values come from the code alone, never from the cluster, but for what policies have counted. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { ReconcileObserver } from "./apply/reconciler.ts";
import type { PolicyCount } from "./apply/rule-counters.ts";
import type { FreshnessReport } from "./sync/freshness.ts";

const LATENCY_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];

/** Values that are read when metrics are. */
export interface AgentGauges {
  readonly viewRecords: () => number;
  readonly endpoints: () => number;
  readonly failures: () => number;
  readonly programmedRevision: () => number;
  readonly unconfirmedReports: () => number;
  /** NaN without a certificate. */
  readonly certificateSecondsLeft: () => number;
  readonly freshness: () => FreshnessReport;
}

export class AgentMetrics implements ReconcileObserver {
  readonly #sinceCommit: Histogram;
  readonly #sinceReceipt: Histogram;
  readonly #applySeconds: Histogram;
  readonly #podProtected: Histogram;
  readonly #operations: Counter;
  readonly #routeChanges: Counter;
  readonly #applyFailures: Counter;
  readonly #drift: Counter<"what">;
  readonly #sessionEnds: Counter;
  readonly #withoutServer: Histogram;
  readonly #viewRepairs: Counter;
  readonly #storeFailures: Counter;
  readonly #cutConnections: Counter;
  readonly #enrollments: Counter<"outcome">;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#sinceCommit = new Histogram({
      name: "sedge_agent_commit_to_programmed_seconds",
      help: "From the commit at the server, by its clock, to the kernel",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#sinceReceipt = new Histogram({
      name: "sedge_agent_receipt_to_programmed_seconds",
      help: "From the receipt of a commit to the kernel",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#applySeconds = new Histogram({
      name: "sedge_agent_apply_seconds",
      help: "One apply: plan, transaction, routes",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#podProtected = new Histogram({
      name: "sedge_agent_pod_protected_seconds",
      help: "From the beginning of a pod's ADD to its policy in the kernel; of a pod whose policy comes after its ADD, when it comes",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#operations = new Counter({ name: "sedge_agent_nftables_operations_total", help: "Operations of nftables transactions", registers });
    this.#routeChanges = new Counter({ name: "sedge_agent_route_changes_total", help: "Routes added, changed and removed", registers });
    this.#applyFailures = new Counter({ name: "sedge_agent_apply_failures_total", help: "Applies that the kernel refused as a whole", registers });
    this.#drift = new Counter({
      name: "sedge_agent_drift_repairs_total",
      help: "Changes by others to what is ours, repaired",
      labelNames: ["what"],
      registers,
    });
    this.#withoutServer = new Histogram({
      name: "sedge_agent_without_server_seconds",
      help: "From the end of a live session to the next that is live",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#sessionEnds = new Counter({ name: "sedge_agent_session_ends_total", help: "Sessions with a server that ended", registers });
    this.#viewRepairs = new Counter({ name: "sedge_agent_view_repairs_total", help: "Times the view differed from the server's", registers });
    this.#storeFailures = new Counter({ name: "sedge_agent_store_failures_total", help: "Commits that could not be written to disk", registers });
    this.#enrollments = new Counter({
      name: "sedge_agent_enrollments_total",
      help: "Tries to get a certificate from the issuer",
      labelNames: ["outcome"],
      registers,
    });
    this.#cutConnections = new Counter({ name: "sedge_agent_cut_connections_total", help: "Connections cut because policy denies them now", registers });
    for (const what of ["table", "routes"] as const) this.#drift.inc({ what }, 0);
  }

  applied({ seconds, operations, routes }: Parameters<ReconcileObserver["applied"]>[0]): void {
    this.#applySeconds.observe(seconds);
    this.#operations.inc(operations);
    this.#routeChanges.inc(routes);
  }

  failed(): void {
    this.#applyFailures.inc();
  }

  repaired(what: "table" | "routes"): void {
    this.#drift.inc({ what });
  }

  podProtected(seconds: number): void {
    this.#podProtected.observe(seconds);
  }

  programmed({ sinceCommitSeconds, sinceReceiptSeconds }: Parameters<ReconcileObserver["programmed"]>[0]): void {
    if (sinceCommitSeconds !== undefined) this.#sinceCommit.observe(sinceCommitSeconds);
    this.#sinceReceipt.observe(sinceReceiptSeconds);
  }

  enrolled(outcome: "issued" | "pending" | "refused" | "failed"): void {
    this.#enrollments.inc({ outcome });
  }

  reconnected(seconds: number): void {
    this.#withoutServer.observe(seconds);
  }

  sessionEnded(): void {
    this.#sessionEnds.inc();
  }

  viewRepaired(): void {
    this.#viewRepairs.inc();
  }

  connectionsCut(connections: number): void {
    this.#cutConnections.inc(connections);
  }

  storeFailed(): void {
    this.#storeFailures.inc();
  }
}

/** Gauges that ask when they are read. */
export function registerGauges(registry: Registry, gauges: AgentGauges): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  };
  gauge("sedge_agent_view_records", "Records in the view", gauges.viewRecords);
  gauge("sedge_agent_local_endpoints", "Pods connected on this node", gauges.endpoints);
  gauge("sedge_agent_failed_objects", "Objects that are not in force, or not in their newest state", gauges.failures);
  gauge("sedge_agent_programmed_revision", "Revision that the kernel has", gauges.programmedRevision);
  gauge("sedge_agent_certificate_expiry_seconds", "Time until the agent's certificate expires; NaN without one", gauges.certificateSecondsLeft);
  gauge("sedge_agent_unconfirmed_reports", "Blocks whose newest report is not in the API", gauges.unconfirmedReports);
  gauge("sedge_agent_connected", "1 with a session at a server", () => Number(gauges.freshness().isConnected));
  gauge("sedge_agent_stale", "1 when the upstream data is older than its limit", () => Number(gauges.freshness().isStale));
  gauge("sedge_agent_upstream_age_seconds", "Age of the upstream data; -1 when it is not known", () => {
    const age = gauges.freshness().upstreamAgeMs;
    return age === undefined ? -1 : age / 1000;
  });
}

/** Packets and bytes by rule: of the first packet of each connection, as those that follow are not judged again. */
export function registerPolicyCounters(registry: Registry, read: () => Promise<readonly PolicyCount[]>): void {
  let reading: Promise<readonly PolicyCount[]> | undefined;
  /** One reading for all metrics of a scrape. */
  const readOnce = (): Promise<readonly PolicyCount[]> => {
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
  };
  const labelNames = ["kind", "namespace", "policy", "direction", "rule", "action"] as const;
  const counter = (name: string, help: string, value: (count: PolicyCount) => number): void => {
    new Counter({
      name,
      help,
      labelNames,
      registers: [registry],
      async collect() {
        const counts = await readOnce();
        this.reset();
        for (const count of counts) {
          const [, kind = "", namespace = "", policy = ""] = count.policy.split("/");
          this.inc({ kind, namespace, policy, direction: count.direction, rule: String(count.rule), action: count.action }, value(count));
        }
      },
    });
  };
  counter("sedge_agent_policy_packets_total", "Packets that a policy's rule decided on", ({ packets }) => packets);
  counter("sedge_agent_policy_bytes_total", "Bytes of the packets that a policy's rule decided on", ({ bytes }) => bytes);
}
