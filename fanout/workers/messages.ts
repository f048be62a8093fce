/** What the main process and its workers say to each other, as structured clones over the channel that `fork` opens. */
import type { ClusterEvent } from "../../src/model/event.ts";
import type { Report } from "../../src/runtime/health.ts";
import type { LogLevel } from "../../src/runtime/log.ts";
import type { GrpcListen } from "../delivery/grpc-delivery.ts";
import type { FanoutSettings } from "../server.ts";
import type { Rebalance, RebalanceWish } from "../tier/rebalancer.ts";

export interface WorkerSettings {
  /** From 1. */
  readonly worker: number;
  /** Of the main process: what the tier knows this server by. */
  readonly serverName: string;
  readonly version: string;
  readonly logLevel: LogLevel;
  /** "unix:/path" of the main process. */
  readonly parent: string;
  readonly listen: readonly GrpcListen[];
  readonly settings: Partial<FanoutSettings>;
}

export type ToWorker =
  | { readonly kind: "start"; readonly settings: WorkerSettings }
  /** What tells which servers the cluster has. */
  | { readonly kind: "members"; readonly events: readonly ClusterEvent[] }
  /** Drain, then end. */
  | { readonly kind: "stop" }
  | { readonly kind: "collect"; readonly question: number }
  | { readonly kind: "rebalance"; readonly question: number; readonly wish: RebalanceWish }
  | { readonly kind: "log-level"; readonly level: LogLevel };

export type FromWorker =
  | { readonly kind: "listening"; readonly ports: readonly number[] }
  /** Said every second: a worker that does not say it hangs. */
  | { readonly kind: "report"; readonly report: Report }
  /** prom-client's JSON of the worker's registry. */
  | { readonly kind: "metrics"; readonly question: number; readonly metrics: readonly MetricJson[] }
  | { readonly kind: "rebalanced"; readonly question: number; readonly rebalance: Rebalance }
  /** Cannot start, for a reason that a person can change. */
  | { readonly kind: "failed"; readonly message: string };

export interface MetricJson {
  readonly name: string;
  readonly values: readonly { readonly labels: Readonly<Record<string, string | number>> }[];
}
