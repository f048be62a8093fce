/** What `sedge bench tier` says: one JSON line a scenario. */
import type { ClusterShape } from "../fanout/cluster.ts";
import type { LatencyFigures } from "../fanout/latency.ts";
import type { AnswerCounts } from "../fanout/recorder.ts";
import type { Machine } from "../fanout/result.ts";
import type { TyphaFigures } from "../typha/typha.ts";

export const TIER_SCENARIOS = ["rolling-restart", "handshakes", "rebalance"] as const;
export type TierScenario = (typeof TIER_SCENARIOS)[number];

/** A figure that the project aims at. Not meeting it is no failure of the bench: the machine may be busy. */
export interface Aim {
  readonly what: string;
  readonly value: number;
  readonly limit: number;
  readonly isMet: boolean;
}

export interface Measured {
  readonly what: string;
  readonly agents: number;
  readonly answers: AnswerCounts;
  /** How long agents were without a server, each time. */
  readonly outageMs?: LatencyFigures;
  readonly levelAfterMs: readonly number[];
  /** Of all servers together, during the scenario (s). */
  readonly serverCpuSeconds: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly handshakes?: {
    readonly count: number;
    readonly ms: number;
    readonly perSecond: number;
    readonly failedTries: number;
    /** Deliveries to those that were connected, without and with the storm. */
    readonly receiptMsBefore: LatencyFigures;
    readonly receiptMsDuring: LatencyFigures;
  };
  readonly moves?: { readonly asked: number; readonly ms: number; readonly perServer: readonly number[] };
  readonly typha: TyphaFigures & { readonly seconds?: number };
  readonly aims: readonly Aim[];
  /** What must hold on any machine, and did not. */
  readonly failures: readonly string[];
}

export interface TierResult extends Measured {
  readonly bench: "tier";
  readonly scenario: TierScenario;
  readonly commit: string;
  readonly delivery: string;
  readonly machine: Machine;
  readonly cluster: ClusterShape;
}

export function aim(what: string, value: number, limit: number): Aim {
  return { what, value, limit, isMet: value < limit };
}
