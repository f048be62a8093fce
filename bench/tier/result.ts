/** What `sedge bench tier` says: one JSON line a scenario. */
import type { ClusterShape } from "../fanout/cluster.ts";
import type { LatencyFigures } from "../fanout/latency.ts";
import type { AnswerCounts } from "../fanout/recorder.ts";
import type { Machine } from "../fanout/result.ts";
import type { TyphaFigures } from "../typha/typha.ts";

export const TIER_SCENARIOS = ["rolling-restart", "handshakes", "rebalance", "relay"] as const;
export type TierScenario = (typeof TIER_SCENARIOS)[number];

/** A figure that the project aims at. Not meeting it is no failure of the bench: the machine may be busy. */
export interface Aim {
  readonly what: string;
  readonly value: number;
  readonly limit: number;
  readonly isMet: boolean;
}

export interface RelayLoad {
  readonly deliveries: number;
  readonly rootCpuUsPerDelivery: number;
  /** Of all relays together; absent without. */
  readonly relayCpuUsPerDelivery?: number;
  readonly receiptMs: LatencyFigures;
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
  readonly relay?: {
    readonly relays: number;
    /** From the first connection until all had their view and the root knew it. */
    readonly startMs: number;
    /** The same changes through the relays, and with all agents on the root: us of CPU of a process for each delivery. */
    readonly viaRelays: RelayLoad;
    readonly direct: RelayLoad;
    /** From the kill of a relay until all were level again. */
    readonly levelAfterKillMs: number;
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
