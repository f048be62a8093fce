/** What a scenario's result says. One JSON line each; tables, pictures and the documentation are made of these lines. */
import { execFileSync } from "node:child_process";
import { cpus, loadavg } from "node:os";
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import type { TyphaFigures } from "../typha/typha.ts";
import type { AckMode } from "./acks.ts";
import type { BaselineName } from "./baseline.ts";
import type { ClusterShape } from "./cluster.ts";
import { type LatencyFigures, rounded } from "./latency.ts";
import type { AnswerCounts } from "./recorder.ts";

export interface Machine {
  readonly node: string;
  readonly cpu: string;
  readonly cores: number;
  /** Of the last minute, before the run: what else the machine does. */
  readonly loadAverage: number;
}

/** One line of the output. Fields that a scenario has no use for are absent. */
export interface ScenarioResult {
  readonly bench: "fanout";
  readonly scenario: string;
  readonly what: string;
  readonly commit: string;
  readonly delivery: DeliveryKind;
  readonly acks: AckMode;
  readonly isTls: boolean;
  readonly machine: Machine;
  readonly cluster: ClusterShape & { readonly pods: number; readonly records: number };
  readonly warmUpChanges: number;
  readonly seconds: number;
  readonly coreShare: number;
  readonly load?: { readonly changes: number; readonly ratePerSecond: number; readonly commits: number };
  readonly deliveries?: {
    readonly messages: number;
    readonly perChange: number;
    readonly expectedPerChange: number;
    readonly records: number;
    readonly mostOfOneAgent: number;
    readonly mostBytesOfOneAgent: number;
  };
  readonly cpuUsPerDelivery?: number;
  readonly cpuUsPerChange?: number;
  readonly bytes?: { readonly perDelivery: number; readonly total: number; readonly wireReceived: number; readonly wireSent: number };
  readonly commitToReceiptMs?: LatencyFigures;
  readonly commitToAcknowledgedMs?: LatencyFigures;
  /** From the last change until all had it. */
  readonly levelAfterMs?: number;
  readonly memory?: MemoryFigures;
  readonly perAgent?: { readonly cpuUs: number; readonly bytesReceived: number; readonly bytesSent: number };
  /** How the agents got level. */
  readonly answers?: AnswerCounts;
  /** Of a storm: connections that ended before their view had come; their agents came again. */
  readonly endedStreams?: number;
  readonly restart?: {
    /** From the kill until the new process had the whole cluster. */
    readonly downMs: number;
    /** From then on until all agents were level, and from the kill. */
    readonly levelAfterServingMs: number;
    readonly levelAfterKillMs: number;
    readonly failedTries: number;
  };
  readonly slow?: {
    readonly share: number;
    /** Of the agents that read. */
    readonly receiptMsWithout: LatencyFigures;
    readonly mostBytesInFlight: number;
    /** From the moment when they read again until all were level. */
    readonly levelAfterResumeMs: number;
    readonly memoryWithoutMb: number;
  };
  /** `sedge clients`, each call from its start to its last line (ms). */
  readonly listClientsMs?: readonly number[];
  /** The call alone, without the start of a process (ms). */
  readonly clientsCallMs?: readonly number[];
  readonly typha?: TyphaFigures;
  readonly baselines: Readonly<Partial<Record<BaselineName, BaselineFigures | { readonly skipped: string }>>>;
  /** What the scenario must show and did not. */
  readonly failures: readonly string[];
}

export interface MemoryFigures {
  readonly rssMb: number;
  /** The most at any moment of the scenario. */
  readonly peakRssMb: number;
  /** The difference to the server without agents, spread over them; where nothing but agents came since. */
  readonly kbPerClient?: number;
}

export interface BaselineFigures {
  readonly cpuUsPerDelivery: number;
  readonly receiptMs: LatencyFigures;
  /** The server's figure divided by the baseline's. */
  readonly ratios: { readonly cpuPerDelivery: number; readonly p99: number };
}

export type Measured = Omit<ScenarioResult, "bench" | "commit" | "delivery" | "acks" | "isTls" | "machine" | "cluster" | "baselines">;

/** As it is now: asked before the run. */
export function machine(): Machine {
  return { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, loadAverage: rounded(loadavg()[0] ?? 0) };
}

/** Short hash of what is checked out; "unknown" outside a checkout. */
export function commitOf(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: import.meta.dirname, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}
