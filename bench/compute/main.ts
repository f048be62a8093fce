/**
 * Runs compute scenarios and prints one JSON line for each: `sedge bench compute [a b b2 c d e]`.
 *
 * Each scenario has a process of its own, so that no heap is another's. Times are of the work alone; (e) reports each change's time, apply and flush
 * together, and the share of one core at the rate that it is meant for. Processor times (cpu…) are of the whole process, collector and the making of the
 * events included; on a machine that others use they say more than the clock's.
 */
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { performance } from "node:perf_hooks";
import { z } from "zod";
import { Compute } from "../../src/compute/compute.ts";
import { encodeRecord } from "../../src/wire/record-codec.ts";
import { benchSettings } from "../settings.ts";
import { SCENARIOS, type Scenario } from "./scenarios.ts";

const WARM_UP_CHANGES = 2_000;
const RUN_ONE = "--in-this-process";

const USAGE = {
  name: "compute",
  words: "[SCENARIO…]",
  problemOf: (word: string) =>
    SCENARIOS.some(({ name }) => name === word) ? undefined : `no scenario ${word}; known: ${SCENARIOS.map(({ name }) => name).join(" ")}`,
};

export function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(z.strictObject({}), { argv, usage: USAGE });
  if (settings === undefined) return Promise.resolve(0);
  const { words } = settings;
  for (const { name } of words.length === 0 ? SCENARIOS : SCENARIOS.filter((scenario) => words.includes(scenario.name)))
    execFileSync(process.execPath, ["--expose-gc", import.meta.filename, RUN_ONE, name], { stdio: ["ignore", "inherit", "inherit"] });
  return Promise.resolve(0);
}

function commitOf(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: import.meta.dirname, encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
}

function measure(scenario: Scenario): unknown {
  const compute = new Compute();
  const cpuAtStart = process.cpuUsage();
  const began = performance.now();
  let events = 0;
  for (const event of scenario.start()) {
    compute.apply(event);
    events++;
  }
  const applied = performance.now();
  const commit = compute.flush();
  const flushed = performance.now();
  const cpu = process.cpuUsage(cpuAtStart);
  const records = commit.changes.length;
  const rssMb = megabytes(process.memoryUsage().rss);
  const changes = measureChanges(compute, scenario);
  globalThis.gc?.();
  return {
    bench: "compute",
    scenario: scenario.name,
    what: scenario.what,
    events,
    records,
    seconds: rounded((flushed - began) / 1000),
    applySeconds: rounded((applied - began) / 1000),
    flushSeconds: rounded((flushed - applied) / 1000),
    cpuSeconds: rounded((cpu.user + cpu.system) / 1e6),
    rssMb,
    heapMb: megabytes(process.memoryUsage().heapUsed),
    ...changes,
    held: compute.sizes(),
    commit: commitOf(),
    machine: { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length },
  };
}

function measureChanges(compute: Compute, scenario: Scenario): object {
  if (scenario.changes === undefined) return {};
  const times: number[] = [];
  let changed = 0;
  let bytes = 0;
  let encodingMicros = 0;
  let number = 0;
  let cpuAtStart = process.cpuUsage();
  for (const events of scenario.changes.list()) {
    const began = performance.now();
    for (const event of events) compute.apply(event);
    const commit = compute.flush();
    const time = performance.now() - began;
    const cpuBefore = process.cpuUsage();
    if (++number === WARM_UP_CHANGES) cpuAtStart = process.cpuUsage();
    if (number <= WARM_UP_CHANGES) continue;
    times.push(time);
    changed += commit.changes.length;
    for (const { value } of commit.changes) if (value !== undefined) bytes += encodeRecord(value, 1n).bytes.length;
    const { user, system } = process.cpuUsage(cpuBefore);
    encodingMicros += user + system;
  }
  const cpu = process.cpuUsage(cpuAtStart);
  times.sort((a, b) => a - b);
  const at = (share: number): number => rounded(times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0);
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
  return {
    changes: times.length,
    warmUpChanges: WARM_UP_CHANGES,
    recordsPerChange: rounded(changed / times.length),
    bytesPerChange: rounded(bytes / times.length),
    changeMs: { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1) },
    coreShare: rounded((mean * scenario.changes.perSecond) / 1000),
    cpuCoreShare: rounded(((cpu.user + cpu.system - encodingMicros) / 1e6 / times.length) * scenario.changes.perSecond),
  };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 1e6);
}

if (process.argv[2] === RUN_ONE) {
  const scenario = SCENARIOS.find(({ name }) => name === process.argv[3]);
  if (scenario !== undefined) process.stdout.write(`${JSON.stringify(measure(scenario))}\n`);
}
