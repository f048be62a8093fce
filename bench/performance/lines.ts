/** The results that are kept, by file: bench/baselines/NAME.jsonl. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ScenarioResult } from "../fanout/result.ts";
import type { TierResult } from "../tier/result.ts";

/** A line of `bench delivery`. */
export interface DeliveryLine {
  readonly bench: "delivery";
  readonly server: string;
  readonly isTls: boolean;
  readonly clients: number;
  readonly usPerDelivery: number;
  readonly burstUsPerDelivery: number;
  /** Absent of the loop in C. */
  readonly kbPerClient?: number;
  readonly idleCpuMsPerSecond?: number;
}

/** The line of `bench stuck`, as far as the page tells of it. */
export interface StuckLine {
  readonly bench: "stuck";
  readonly commit: string;
  readonly machine: { readonly loadAverage: number };
  readonly agents: number;
  readonly stuck: number;
  readonly seconds: number;
  readonly changesPerSecond: number;
  readonly memory: { readonly before: { readonly rssMb: number }; readonly most: number; readonly after: { readonly rssMb: number } };
  readonly held: { readonly isBounded?: boolean; readonly mbPerHour: number; readonly levelMb: number; readonly mostMb: number };
  readonly mostInFlightBytes: number;
  readonly mostDirtyKeys: number;
  readonly levelAfterMs: number;
  readonly failures: readonly string[];
}

/** A line of `bench kernel-sets`. */
export interface KernelSetsLine {
  readonly bench: "kernel-sets";
  readonly loadAverage: number;
  readonly form: string;
  readonly size: number;
  readonly medianUs: number;
  readonly p99Us: number;
  readonly lookupNs: number;
}

/** A line of `bench set-change`. */
export interface SetChangeLine {
  readonly bench: "set-change";
  readonly loadAverage: number;
  readonly kind: string;
  readonly size: number;
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly bytes: number;
  readonly serverCpuUs: number;
  readonly agentCpuUs: number;
  readonly serverRssMb: number;
  readonly agentRssMb: number;
}

export type Line = ScenarioResult | TierResult | DeliveryLine | StuckLine | KernelSetsLine | SetChangeLine;

/** Lines of a file; empty: it is not there. */
export type Lines = (name: string) => readonly Line[];

const DIRECTORY = new URL("../baselines/", import.meta.url);

/** Throws when a file is not what the benchmarks write. */
export const readBaselines: Lines = (name) => {
  const file = fileURLToPath(new URL(`${name}.jsonl`, DIRECTORY));
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);
};
