/**
 * The process of the server: the real engine, table, sessions and delivery, with the generated cluster where the API's source would be. CPU and memory are
 * this process's alone; what is given to the server is made before the clock starts.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { Session } from "node:inspector/promises";
import { dirname } from "node:path";
import { Registry } from "prom-client";
import type { AddressStore } from "../../fanout/claims/address-store.ts";
import { DEFAULT_DELIVERY, DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { FanoutServer } from "../../fanout/server.ts";
import type { Session as ClientSession } from "../../fanout/session/session.ts";
import { Compute } from "../../src/compute/compute.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { createLogger } from "../../src/runtime/log.ts";
import { type Change, Cluster, type ClusterShape, nodeName } from "./cluster.ts";
import { Latency, type LatencyFigures, unixUs } from "./latency.ts";
import type { Load } from "./scenarios.ts";
import { serveCalls } from "./worker.ts";

export interface Started {
  readonly port: number;
  readonly records: number;
  readonly pods: number;
  /** Computing and committing the whole cluster. */
  readonly loadMs: number;
}

export interface Driven {
  readonly changes: number;
  /** What the changes must cost when each is delivered alone. */
  readonly expectedDeliveries: number;
  readonly commits: number;
  readonly cpuUs: number;
  /** Until every agent had acknowledged everything. */
  readonly elapsedMs: number;
  /** From the last change until every agent had acknowledged everything. */
  readonly levelAfterMs: number;
  readonly acknowledged: LatencyFigures;
}

const SLICE = 512;
const LEVEL_TIMEOUT_MS = 120_000;
const log = createLogger({ level: "warn", program: "bench-server" });
const registry = new Registry();
const acknowledged = new Latency();
const clock = { ...systemClock, wallTime: () => unixUs() / 1000 };
const compute = new Compute();
let profiler: Session | undefined;
let commits = 0;
let agents = 0;
/** Events given to the server, and those that its last commit knew of. */
let given = 0;
let applied = 0;
let committed = 0;
let cluster: Cluster | undefined;

const server = new FanoutServer({
  serverName: "bench",
  version: "bench",
  clusterUid: "00000000-0000-4000-8000-000000000000",
  listen: [{ host: "127.0.0.1", port: 0, tls: undefined }],
  compute: {
    apply(event) {
      applied++;
      compute.apply(event);
    },
    flush() {
      committed = applied;
      return compute.flush();
    },
  },
  store: noStore(),
  clock,
  log,
  registry,
  // Named when the process is started: the server is there before the first call.
  settings: { delivery: DELIVERY_KINDS.find((kind) => kind === process.argv[2]) ?? DEFAULT_DELIVERY },
  upstreamAgeMs: () => 0,
  onCommit: () => commits++,
  onProgrammed: (seconds) => acknowledged.record(seconds * 1e6),
});

/** Loads the cluster and listens. */
async function start({ shape }: { readonly shape: ClusterShape }): Promise<Started> {
  agents = shape.agents;
  const generator = new Cluster(shape);
  cluster = generator;
  await server.listen();
  void server.run(new AbortController().signal).catch((error: unknown) => {
    log.fatal({ err: error }, "the server failed");
    process.exit(1);
  });
  const began = performance.now();
  let slice: ClusterEvent[] = [];
  for (const event of generator.initial()) {
    slice.push(event);
    if (slice.length < SLICE) continue;
    give(slice);
    slice = [];
    await clock.sleep(0);
  }
  give(slice);
  await until(() => server.engine.isInSync, "in sync");
  const port = Number(server.addresses[0]?.address.split(":").at(-1));
  return { port, records: server.table.size, pods: generator.pods, loadMs: performance.now() - began };
}

/** Applies changes at the load's rate until `seconds` are over (or its number is done), and waits until all agents are level. */
async function drive({ load, seconds }: { readonly load: Load; readonly seconds: number }): Promise<Driven> {
  const changes = makeChanges(load.kind, load.changes ?? Math.max(1, Math.round(seconds * load.ratePerSecond)));
  const expectedDeliveries = changes.reduce((sum, { concerns }) => sum + (concerns?.length ?? agents), 0);
  acknowledged.reset();
  commits = 0;
  const began = performance.now();
  const cpu = process.cpuUsage();
  const intervalMs = (1000 / load.ratePerSecond) * load.batch;
  for (let next = 0; next < changes.length; ) {
    const dueMs = (next / load.batch) * intervalMs - (performance.now() - began);
    if (dueMs > 0) await clock.sleep(dueMs);
    // As many as are due by now, so that a late timer does not lower the rate.
    const due = load.isEachAlone ? next + 1 : Math.floor((performance.now() - began) / intervalMs + 1) * load.batch;
    const batch = changes.slice(next, Math.max(next + load.batch, due));
    next += batch.length;
    give(batch.flatMap((change) => change.events));
    if (load.isEachAlone) await acknowledgedBy(batch[0], { notBeforeMs: intervalMs });
  }
  const last = performance.now();
  await level();
  const { user, system } = process.cpuUsage(cpu);
  return {
    changes: changes.length,
    expectedDeliveries,
    commits,
    cpuUs: user + system,
    elapsedMs: performance.now() - began,
    levelAfterMs: performance.now() - last,
    acknowledged: acknowledged.figures(),
  };
}

/** A CPU profile begins; `profileEnd` writes it. */
async function profileBegin(): Promise<void> {
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.start");
  profiler = session;
}

async function profileEnd({ file }: { readonly file: string }): Promise<void> {
  const result = await profiler?.post("Profiler.stop");
  profiler?.disconnect();
  profiler = undefined;
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, JSON.stringify(result?.profile));
}

/** Nothing happens for so long. */
async function rest({ seconds }: { readonly seconds: number }): Promise<{ readonly cpuUs: number; readonly elapsedMs: number }> {
  const began = performance.now();
  const cpu = process.cpuUsage();
  await clock.sleep(seconds * 1000);
  const { user, system } = process.cpuUsage(cpu);
  return { cpuUs: user + system, elapsedMs: performance.now() - began };
}

/** CPU so far; with `isCollected` garbage is collected first, so that the memory is what is held. */
function usage({ isCollected }: { readonly isCollected: boolean }): { readonly cpuUs: number; readonly rssBytes: number } {
  if (isCollected) globalThis.gc?.();
  const { user, system } = process.cpuUsage();
  return { cpuUs: user + system, rssBytes: process.memoryUsage().rss };
}

/** Resolves when every agent is connected and has acknowledged everything that was given. */
async function level(): Promise<void> {
  await until(() => committed === given && server.sessions.clients.size === agents && everyIsLevel(server.sessions.clients), "level", 10);
}

/** Resolves when no agent is connected. */
async function alone(): Promise<void> {
  await until(() => server.sessions.openStreams === 0, "disconnected");
}

/** Digest of each agent's view. */
function digests(): BigUint64Array {
  return BigUint64Array.from({ length: agents }, (_unused, index) => server.table.viewDigest(server.table.nodes.idOf(nodeName(index))));
}

function give(batch: readonly ClusterEvent[]): void {
  given += batch.length;
  server.sink(batch);
}

async function acknowledgedBy(change: Change | undefined, { notBeforeMs }: { readonly notBeforeMs: number }): Promise<void> {
  const sessions = (change?.concerns ?? []).map((index) => server.sessions.clientOf(server.table.nodes.idOf(nodeName(index))));
  await clock.sleep(notBeforeMs);
  await until(() => committed === given && sessions.every((session) => session?.isLevel === true), "acknowledged", 2);
}

function makeChanges(kind: Load["kind"], count: number): Change[] {
  const generator = cluster;
  if (generator === undefined) throw new Error("start comes first");
  return Array.from({ length: count }, () => generator.change(kind));
}

function everyIsLevel(sessions: ReadonlySet<ClientSession>): boolean {
  for (const session of sessions) if (!session.isLevel) return false;
  return true;
}

async function until(isTrue: () => boolean, what: string, everyMs = 5): Promise<void> {
  const end = performance.now() + LEVEL_TIMEOUT_MS;
  while (!isTrue()) {
    if (performance.now() > end)
      throw new Error(`not ${what} after ${LEVEL_TIMEOUT_MS / 1000} s: ${server.sessions.clients.size} of ${agents} agents connected`);
    await clock.sleep(everyMs);
  }
}

/** The bench's agents claim no blocks. */
function noStore(): AddressStore {
  const refuse = (): Promise<never> => Promise.reject(new Error("the bench has no API"));
  return { read: refuse, create: refuse, update: refuse, delete: refuse };
}

const methods = { start, drive, rest, profileBegin, profileEnd, usage, level, alone, digests };
export type ServerMethods = typeof methods;

serveCalls(methods);
