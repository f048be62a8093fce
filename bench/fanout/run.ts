/**
 * Runs the scenarios on one server with one set of agents, then the baselines, and makes the results of both. Baselines run when the server is gone, so
 * that nothing shares the machine with them but their own clients.
 */
import { join } from "node:path";
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import { typhaDeltas, typhaSessions, typhaSnapshot } from "../typha/typha.ts";
import type { AckMode } from "./acks.ts";
import type { AgentsMethods } from "./agents-process.ts";
import { type BaselineName, type BaselineRun, type Replay, runBaseline } from "./baseline.ts";
import { type Certificates, makeCertificates } from "./certificates.ts";
import type { ClusterShape } from "./cluster.ts";
import { measureClientList, measureRestart, measureSlow, measureStorm } from "./incidents.ts";
import { rounded } from "./latency.ts";
import { failuresNow, memoryOf, memoryWithClients, type Parts, perAgent, startServer } from "./parts.ts";
import { plainMessages } from "./plain-protocol.ts";
import { type BaselineFigures, commitOf, type Measured, machine, type ScenarioResult } from "./result.ts";
import { type Load, SCENARIOS, type Scenario, type ScenarioName } from "./scenarios.ts";
import type { Started } from "./server-process.ts";
import { Worker } from "./worker.ts";

/** What 10,000 changes of one record within a second may cost one agent. */
const HOT_MESSAGES = 30;
const HOT_BYTES = 10_000;

export interface RunOptions {
  readonly delivery: DeliveryKind;
  readonly acks: AckMode;
  /** Mutual TLS, with a certificate for each agent. */
  readonly isTls: boolean;
  /** Of the agents, in the scenario with slow ones. */
  readonly slowShare: number;
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

/** Every scenario's result, the start first. Rejects when a process fails. */
export async function runBench(options: RunOptions): Promise<ScenarioResult[]> {
  const before = machine();
  const { measured, replays, started } = await measureServer(options);
  const baselines = options.hasBaseline && replays.length > 0 ? await measureBaselines(options, replays) : new Map<BaselineName, never>();
  const common = { bench: "fanout", commit: commitOf(), delivery: options.delivery, acks: options.acks, isTls: options.isTls, machine: before } as const;
  return measured.map((one) => ({
    ...common,
    ...one,
    cluster: { ...options.shape, pods: started.pods, records: started.records },
    baselines: Object.fromEntries([...baselines].flatMap(([name, result]) => baselineFigures(name, result, one))),
  }));
}

async function measureServer(options: RunOptions): Promise<{ measured: Measured[]; replays: Replay[]; started: Started }> {
  const { shape, scenarios, delivery, sample, profile, isTls, say } = options;
  if (isTls) say(`making ${shape.agents} certificates`);
  const certificates = isTls ? await makeCertificates(shape.agents) : undefined;
  const parts = startParts(options, certificates);
  const measured: Measured[] = [];
  const replays: Replay[] = [];
  try {
    await parts.agents.call("create", { first: 0, count: shape.agents, sample, tls: certificates?.agents, acks: options.acks });
    say(`loading ${shape.nodes} nodes, ${shape.policies} policies`);
    const started = await parts.server.call("start", { shape, delivery, port: 0, tls: certificates?.server, history: [] });
    parts.port = started.port;
    say(`${started.records} records after ${Math.round(started.loadMs)} ms; connecting ${shape.agents} agents`);
    parts.rssAlone = (await parts.server.call("usage", { isCollected: true })).rssBytes;
    measured.push(await measureStart(parts));
    for (const name of scenarios) {
      say(name);
      const scenario = SCENARIOS[name];
      if (profile !== undefined) await parts.server.call("profileBegin", undefined);
      const { result, replay } = await measureScenario(scenario, parts, options.ratePerSecond);
      if (profile !== undefined) await parts.server.call("profileEnd", { file: join(profile, `${name}.cpuprofile`) });
      measured.push(result);
      if (replay !== undefined) replays.push(replay);
    }
    return { measured, replays, started };
  } finally {
    await parts.agents.stop();
    await parts.server.stop();
    certificates?.remove();
  }
}

function startParts(options: RunOptions, certificates: Certificates | undefined): Parts {
  return {
    server: startServer(),
    agents: new Worker<AgentsMethods>(new URL("agents-process.ts", import.meta.url)),
    shape: options.shape,
    seconds: options.seconds,
    delivery: options.delivery,
    acks: options.acks,
    slowShare: options.slowShare,
    certificates,
    snapshot: typhaSnapshot(options.shape),
    history: [],
    port: 0,
    rssAlone: 0,
  };
}

async function measureScenario(
  scenario: Scenario,
  parts: Parts,
  ratePerSecond: number | undefined,
): Promise<{ readonly result: Measured; readonly replay?: Replay }> {
  switch (scenario.name) {
    case "reconnect":
      return { result: await measureReconnect(scenario, parts) };
    case "storm":
      return { result: await measureStorm(scenario, parts) };
    case "restart":
      return { result: await measureRestart(scenario, parts) };
    case "slow":
      return { result: await measureSlow(scenario, parts) };
    case "clients":
      return { result: await measureClientList(scenario, parts) };
    default:
      return scenario.load === undefined ? { result: await measureIdle(scenario, parts) } : measureLoad(scenario, scenario.load, parts, ratePerSecond);
  }
}

async function measureStart(parts: Parts): Promise<Measured> {
  const { server, agents, shape, port } = parts;
  const before = await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const { ms } = await agents.call("connect", { port, isResume: false, isStorm: false });
  await server.call("level", {});
  const after = await server.call("usage", { isCollected: false });
  const received = await agents.call("finish", undefined);
  return {
    scenario: "start",
    what: "all agents connect at once with nothing, and get their whole view",
    warmUpChanges: 0,
    seconds: rounded(ms / 1000),
    coreShare: rounded((after.cpuUs - before.cpuUs) / 1000 / ms),
    memory: memoryWithClients(parts, after),
    perAgent: perAgent({ cpuUs: after.cpuUs - before.cpuUs, ...received.wire, agents: shape.agents }),
    answers: received.answers,
    typha: typhaSessions(parts.snapshot, shape.agents),
    failures: await failuresNow(parts, received),
  };
}

async function measureIdle(scenario: Scenario, parts: Parts): Promise<Measured> {
  const { server, agents, shape, seconds } = parts;
  await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const { cpuUs, elapsedMs } = await server.call("rest", { seconds });
  const after = await server.call("usage", { isCollected: true });
  const received = await agents.call("finish", undefined);
  return {
    scenario: scenario.name,
    what: scenario.what,
    warmUpChanges: 0,
    seconds: rounded(elapsedMs / 1000),
    coreShare: rounded(cpuUs / 1000 / elapsedMs),
    memory: memoryWithClients(parts, after),
    perAgent: perAgent({ cpuUs, ...received.wire, agents: shape.agents }),
    failures: await failuresNow(parts, received),
  };
}

async function measureReconnect(scenario: Scenario, parts: Parts): Promise<Measured> {
  const { server, agents, shape, port } = parts;
  await agents.call("disconnect", undefined);
  await server.call("alone", undefined);
  const before = await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const { ms } = await agents.call("connect", { port, isResume: true, isStorm: false });
  await server.call("level", {});
  const after = await server.call("usage", { isCollected: false });
  const received = await agents.call("finish", undefined);
  const failures = await failuresNow(parts, received);
  if (received.answers.unchanged < shape.agents) failures.push(`${shape.agents - received.answers.unchanged} agents without a change were sent records`);
  return {
    scenario: scenario.name,
    what: scenario.what,
    warmUpChanges: 0,
    seconds: rounded(ms / 1000),
    coreShare: rounded((after.cpuUs - before.cpuUs) / 1000 / ms),
    memory: memoryOf(after),
    perAgent: perAgent({ cpuUs: after.cpuUs - before.cpuUs, ...received.wire, agents: shape.agents }),
    answers: received.answers,
    typha: typhaSessions(parts.snapshot, shape.agents),
    failures,
  };
}

async function measureLoad(
  scenario: Scenario,
  planned: Load,
  parts: Parts,
  ratePerSecond: number | undefined,
): Promise<{ readonly result: Measured; readonly replay: Replay }> {
  const { server, agents, shape, seconds, history } = parts;
  const load = ratePerSecond === undefined ? planned : { ...planned, ratePerSecond };
  const warmUp = { ...load, changes: load.warmUpChanges, isEachAlone: false, ratePerSecond: Math.max(load.ratePerSecond, 10) };
  await server.call("drive", { load: warmUp, seconds: 0 });
  await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const isAcknowledged = parts.acks !== "none" || load.isEachAlone;
  if (!isAcknowledged) await agents.call("acknowledge", { mode: "none" });
  const driven = await server.call("drive", { load, seconds, isAcknowledged });
  const after = await server.call("usage", { isCollected: false });
  if (!isAcknowledged) {
    await agents.call("acknowledge", { mode: "each" });
    await server.call("level", {});
  }
  const received = await agents.call("finish", undefined);
  history.push({ kind: load.kind, changes: load.warmUpChanges + driven.changes });
  const messages = received.messages;
  const failures = await failuresNow(parts, received);
  if (load.isEachAlone && messages !== driven.expectedDeliveries)
    failures.push(`${driven.changes} changes must cost ${driven.expectedDeliveries} deliveries, they cost ${messages}`);
  if (messages > driven.expectedDeliveries) failures.push(`${messages} deliveries where at most ${driven.expectedDeliveries} were due`);
  if (load.kind === "hot" && (received.mostMessagesOfOneAgent > HOT_MESSAGES || received.mostBytesOfOneAgent > HOT_BYTES))
    failures.push(`${received.mostMessagesOfOneAgent} messages of ${received.mostBytesOfOneAgent} bytes to one agent, at most ${HOT_MESSAGES} of ${HOT_BYTES}`);
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
    memory: memoryOf(after),
    typha: typhaDeltas({ shape, kind: load.kind, changes: driven.changes, batch: load.batch }),
    failures,
  };
  return { result, replay: { name: scenario.name, messages: plainMessages(received.trace) } };
}

async function measureBaselines(
  { shape, isTls, say }: RunOptions,
  replays: readonly Replay[],
): Promise<Map<BaselineName, { readonly skipped: string } | { readonly runs: ReadonlyMap<string, BaselineRun> }>> {
  const results = new Map<BaselineName, { readonly skipped: string } | { readonly runs: ReadonlyMap<string, BaselineRun> }>();
  for (const name of ["node-sockets", "c-write-loop"] as const) {
    say(`baseline ${name}`);
    const result = await runBaseline(name, { agents: shape.agents, replays, isTls });
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
