/**
 * Runs the scenarios on one server with one set of agents, then the baselines, and makes the results of both. Baselines run when the server is gone, so
 * that nothing shares the machine with them but their own clients.
 */
import { execFileSync } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import type { AgentsMethods } from "./agents-process.ts";
import { type BaselineName, type BaselineRun, type Replay, runBaseline } from "./baseline.ts";
import type { ClusterShape } from "./cluster.ts";
import { type LatencyFigures, rounded } from "./latency.ts";
import { plainMessages } from "./plain-protocol.ts";
import { type Load, SCENARIOS, type Scenario, type ScenarioName } from "./scenarios.ts";
import type { ServerMethods, Started } from "./server-process.ts";
import { Worker } from "./worker.ts";

export interface RunOptions {
  readonly delivery: DeliveryKind;
  readonly shape: ClusterShape;
  readonly scenarios: readonly ScenarioName[];
  readonly seconds: number;
  /** Undefined: each scenario's own. */
  readonly ratePerSecond: number | undefined;
  readonly sample: number;
  readonly hasBaseline: boolean;
  readonly profile: string | undefined;
  /** Progress, for people. */
  readonly say: (text: string) => void;
}

/** One line of the output. Fields that a scenario has no use for are absent. */
export interface ScenarioResult {
  readonly bench: "fanout";
  readonly scenario: string;
  readonly what: string;
  readonly commit: string;
  readonly delivery: DeliveryKind;
  readonly machine: {
    readonly node: string;
    readonly cpu: string;
    readonly cores: number;
    /** Of the last minute, before the run: what else the machine does. */
    readonly loadAverage: number;
  };
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
  readonly memory?: { readonly rssMb: number; readonly kbPerClient: number };
  readonly perAgent?: { readonly cpuUs: number; readonly bytesReceived: number; readonly bytesSent: number };
  readonly baselines: Readonly<Partial<Record<BaselineName, BaselineFigures | { readonly skipped: string }>>>;
  /** What the scenario must show and did not. */
  readonly failures: readonly string[];
}

export interface BaselineFigures {
  readonly cpuUsPerDelivery: number;
  readonly receiptMs: LatencyFigures;
  /** The server's figure divided by the baseline's. */
  readonly ratios: { readonly cpuPerDelivery: number; readonly p99: number };
}

type Measured = Omit<ScenarioResult, "bench" | "commit" | "delivery" | "machine" | "cluster" | "baselines">;

/** Every scenario's result, the start first. Rejects when a process fails. */
export async function runBench(options: RunOptions): Promise<ScenarioResult[]> {
  const loadAverage = rounded(loadavg()[0] ?? 0);
  const { measured, replays, started } = await measureServer(options);
  const baselines = options.hasBaseline && replays.length > 0 ? await measureBaselines(options, replays) : new Map<BaselineName, never>();
  const common = {
    bench: "fanout",
    commit: commitOf(),
    delivery: options.delivery,
    machine: { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, loadAverage },
  } as const;
  return measured.map((one) => ({
    ...common,
    ...one,
    cluster: { ...options.shape, pods: started.pods, records: started.records },
    baselines: Object.fromEntries([...baselines].flatMap(([name, result]) => baselineFigures(name, result, one))),
  }));
}

async function measureServer(options: RunOptions): Promise<{ measured: Measured[]; replays: Replay[]; started: Started }> {
  const { shape, scenarios, delivery, sample, profile, say } = options;
  const server = new Worker<ServerMethods>(new URL("server-process.ts", import.meta.url), {
    nodeFlags: ["--expose-gc"],
    words: [delivery],
  });
  const agents = new Worker<AgentsMethods>(new URL("agents-process.ts", import.meta.url));
  const measured: Measured[] = [];
  const replays: Replay[] = [];
  try {
    await agents.call("create", { count: shape.agents, sample });
    say(`loading ${shape.nodes} nodes, ${shape.policies} policies`);
    const started = await server.call("start", { shape });
    say(`${started.records} records after ${Math.round(started.loadMs)} ms; connecting ${shape.agents} agents`);
    const { rssBytes: rssAlone } = await server.call("usage", { isCollected: true });
    const parts = { server, agents, options, port: started.port, rssAlone };
    measured.push(await measureStart(parts));
    for (const name of scenarios) {
      say(name);
      const scenario = SCENARIOS[name];
      if (profile !== undefined) await server.call("profileBegin", undefined);
      const { result, replay } = await measureScenario(scenario, parts);
      if (profile !== undefined) await server.call("profileEnd", { file: join(profile, `${name}.cpuprofile`) });
      measured.push(result);
      if (replay !== undefined) replays.push(replay);
    }
    return { measured, replays, started };
  } finally {
    await agents.stop();
    await server.stop();
  }
}

interface Parts {
  readonly server: Worker<ServerMethods>;
  readonly agents: Worker<AgentsMethods>;
  readonly options: RunOptions;
  readonly port: number;
  /** Of the server without agents. */
  readonly rssAlone: number;
}

async function measureScenario(scenario: Scenario, parts: Parts): Promise<{ readonly result: Measured; readonly replay?: Replay }> {
  if (scenario.name === "reconnect") return { result: await measureReconnect(scenario, parts) };
  if (scenario.load === undefined) return { result: await measureIdle(scenario, parts) };
  return measureLoad(scenario, scenario.load, parts);
}

async function measureStart(parts: Parts): Promise<Measured> {
  const { server, agents, options, port } = parts;
  const before = await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const { ms } = await agents.call("connect", { port, isResume: false });
  await server.call("level", undefined);
  const after = await server.call("usage", { isCollected: false });
  const received = await agents.call("finish", undefined);
  return {
    scenario: "start",
    what: "all agents connect at once with nothing, and get their whole view",
    warmUpChanges: 0,
    seconds: rounded(ms / 1000),
    coreShare: rounded((after.cpuUs - before.cpuUs) / 1000 / ms),
    memory: memoryOf(parts, after.rssBytes),
    perAgent: perAgent({ cpuUs: after.cpuUs - before.cpuUs, ...received.wire, agents: options.shape.agents }),
    failures: await failuresNow(parts, received),
  };
}

async function measureIdle(scenario: Scenario, parts: Parts): Promise<Measured> {
  const { server, agents, options } = parts;
  await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const { cpuUs, elapsedMs } = await server.call("rest", { seconds: options.seconds });
  const { rssBytes } = await server.call("usage", { isCollected: true });
  const received = await agents.call("finish", undefined);
  return {
    scenario: scenario.name,
    what: scenario.what,
    warmUpChanges: 0,
    seconds: rounded(elapsedMs / 1000),
    coreShare: rounded(cpuUs / 1000 / elapsedMs),
    memory: memoryOf(parts, rssBytes),
    perAgent: perAgent({ cpuUs, ...received.wire, agents: options.shape.agents }),
    failures: await failuresNow(parts, received),
  };
}

async function measureReconnect(scenario: Scenario, parts: Parts): Promise<Measured> {
  const { server, agents, options, port } = parts;
  await agents.call("disconnect", undefined);
  await server.call("alone", undefined);
  const before = await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const { ms } = await agents.call("connect", { port, isResume: true });
  await server.call("level", undefined);
  const after = await server.call("usage", { isCollected: false });
  const received = await agents.call("finish", undefined);
  const cost = perAgent({ cpuUs: after.cpuUs - before.cpuUs, ...received.wire, agents: options.shape.agents });
  const failures = await failuresNow(parts, received);
  return {
    scenario: scenario.name,
    what: scenario.what,
    warmUpChanges: 0,
    seconds: rounded(ms / 1000),
    coreShare: rounded((after.cpuUs - before.cpuUs) / 1000 / ms),
    perAgent: cost,
    failures,
  };
}

async function measureLoad(scenario: Scenario, planned: Load, parts: Parts): Promise<{ readonly result: Measured; readonly replay: Replay }> {
  const { server, agents, options } = parts;
  const load = options.ratePerSecond === undefined ? planned : { ...planned, ratePerSecond: options.ratePerSecond };
  const warmUp = { ...load, changes: load.warmUpChanges, isEachAlone: false, ratePerSecond: Math.max(load.ratePerSecond, 10) };
  await server.call("drive", { load: warmUp, seconds: 0 });
  await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const driven = await server.call("drive", { load, seconds: options.seconds });
  const received = await agents.call("finish", undefined);
  const messages = received.messages;
  const failures = await failuresNow(parts, received);
  if (load.isEachAlone && messages !== driven.expectedDeliveries)
    failures.push(`${driven.changes} changes must cost ${driven.expectedDeliveries} deliveries, they cost ${messages}`);
  if (messages > driven.expectedDeliveries) failures.push(`${messages} deliveries where at most ${driven.expectedDeliveries} were due`);
  const result: Measured = {
    scenario: scenario.name,
    what: scenario.what,
    warmUpChanges: load.warmUpChanges,
    seconds: rounded(driven.elapsedMs / 1000),
    coreShare: rounded(driven.cpuUs / 1000 / driven.elapsedMs),
    load: { changes: driven.changes, ratePerSecond: load.ratePerSecond, commits: driven.commits },
    deliveries: {
      messages,
      perChange: rounded(messages / driven.changes),
      expectedPerChange: rounded(driven.expectedDeliveries / driven.changes),
      records: received.records,
      mostOfOneAgent: received.mostMessagesOfOneAgent,
      mostBytesOfOneAgent: received.mostBytesOfOneAgent,
    },
    cpuUsPerDelivery: rounded(driven.cpuUs / messages),
    cpuUsPerChange: rounded(driven.cpuUs / driven.changes),
    bytes: { perDelivery: rounded(received.bytes / messages), total: received.bytes, wireReceived: received.wire.received, wireSent: received.wire.sent },
    commitToReceiptMs: received.latency,
    commitToAcknowledgedMs: driven.acknowledged,
    levelAfterMs: rounded(driven.levelAfterMs),
    failures,
  };
  return { result, replay: { name: scenario.name, messages: plainMessages(received.trace) } };
}

/** What must hold at every quiet point. */
async function failuresNow(
  { server, agents }: Parts,
  received: { readonly repairs: number; readonly ended: number; readonly firstEnd: string },
): Promise<string[]> {
  const failures: string[] = [];
  const wrong = await agents.call("wrongDigests", { digests: await server.call("digests", undefined) });
  if (wrong > 0) failures.push(`${wrong} agents have another view than the server says`);
  if (received.repairs > 0) failures.push(`${received.repairs} repairs`);
  if (received.ended > 0) failures.push(`${received.ended} streams ended, the first: ${received.firstEnd}`);
  return failures;
}

async function measureBaselines(
  { shape, say }: RunOptions,
  replays: readonly Replay[],
): Promise<Map<BaselineName, { readonly skipped: string } | { readonly runs: ReadonlyMap<string, BaselineRun> }>> {
  const results = new Map<BaselineName, { readonly skipped: string } | { readonly runs: ReadonlyMap<string, BaselineRun> }>();
  for (const name of ["node-sockets", "c-write-loop"] as const) {
    say(`baseline ${name}`);
    const result = await runBaseline(name, { agents: shape.agents, replays });
    if ("skipped" in result) say(`baseline ${name} skipped: ${result.skipped}`);
    results.set(name, result);
  }
  return results;
}

function baselineFigures(
  name: BaselineName,
  result: { readonly skipped: string } | { readonly runs: ReadonlyMap<string, BaselineRun> },
  one: Measured,
): [BaselineName, BaselineFigures | { readonly skipped: string }][] {
  if ("skipped" in result) return one.load === undefined ? [] : [[name, result]];
  const run = result.runs.get(one.scenario);
  if (run === undefined || one.cpuUsPerDelivery === undefined || one.commitToReceiptMs === undefined) return [];
  const cpuUsPerDelivery = run.cpuUs / run.deliveries;
  const ratios = { cpuPerDelivery: rounded(one.cpuUsPerDelivery / cpuUsPerDelivery), p99: rounded(one.commitToReceiptMs.p99 / run.latency.p99) };
  return [[name, { cpuUsPerDelivery: rounded(cpuUsPerDelivery), receiptMs: run.latency, ratios }]];
}

/** The difference to the server without agents, spread over the agents. */
function memoryOf({ rssAlone, options }: Parts, rssBytes: number): { readonly rssMb: number; readonly kbPerClient: number } {
  return { rssMb: rounded(rssBytes / 1e6), kbPerClient: rounded((rssBytes - rssAlone) / 1e3 / options.shape.agents) };
}

function perAgent({ cpuUs, received, sent, agents }: { readonly cpuUs: number; readonly received: number; readonly sent: number; readonly agents: number }): {
  readonly cpuUs: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
} {
  return { cpuUs: rounded(cpuUs / agents), bytesReceived: Math.round(received / agents), bytesSent: Math.round(sent / agents) };
}

function commitOf(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: import.meta.dirname, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}
