/**
 * The process of the server: the real engine, table, sessions and delivery, with the generated cluster where the API's source would be. CPU and memory are
 * this process's alone; what is given to the server is made before the clock starts.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { Session } from "node:inspector/promises";
import { dirname } from "node:path";
import { Registry } from "prom-client";
import type { AddressStore } from "../../fanout/claims/address-store.ts";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import { FanoutServer, type FanoutSettings } from "../../fanout/server.ts";
import type { Session as FanoutSession } from "../../fanout/session/session.ts";
import { Compute } from "../../src/compute/compute.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NamespaceName } from "../../src/model/names.ts";
import type { IpAddress } from "../../src/net/ip.ts";
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

/** What changed since the start, so that a server started anew has the same cluster. */
export type History = readonly { readonly kind: Load["kind"]; readonly changes: number }[];

export interface StartOptions {
  readonly shape: ClusterShape;
  readonly delivery: DeliveryKind;
  /** 0: any. */
  readonly port: number;
  /** Undefined: plain text. */
  readonly tls: TlsFiles | undefined;
  readonly history: History;
  /** All servers of the tier, this one among them; absent: it is alone. */
  readonly servers?: readonly ServerEndpoint[];
  /** Its name in that list. */
  readonly serverName?: string;
  readonly settings?: Partial<FanoutSettings>;
}

/** A server as its Service's EndpointSlices tell of it. */
export interface ServerEndpoint {
  readonly name: string;
  readonly port: number;
  readonly isReady: boolean;
}

const SERVICE = { namespace: "sedge" as NamespaceName, name: "sedge-fanout" };
const SLICE = 512;
const LEVEL_TIMEOUT_MS = 120_000;
const MEMORY_SAMPLE_MS = 50;
const log = createLogger({ level: "warn", program: "bench-server" });
const acknowledged = new Latency();
const clock = { ...systemClock, wallTime: () => unixUs() / 1000 };
const compute = new Compute();
const stopping = new AbortController();
let profiler: Session | undefined;
let commits = 0;
let agents = 0;
let peakRss = 0;
/** Events given to the server, and those that its last commit knew of. */
let given = 0;
let applied = 0;
let committed = 0;
let cluster: Cluster | undefined;
let running: Promise<void> | undefined;
let started: FanoutServer | undefined;
let behind: FanoutSession | undefined;

function makeServer({ delivery, port, tls, serverName = "bench", settings }: StartOptions): FanoutServer {
  return new FanoutServer({
    serverName,
    version: "bench",
    clusterUid: "00000000-0000-4000-8000-000000000000",
    listen: [{ host: "127.0.0.1", port, tls }],
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
    registry: new Registry(),
    settings: { service: SERVICE, ...settings, delivery },
    upstreamAgeMs: () => 0,
    onCommit: () => commits++,
    onProgrammed: (seconds) => acknowledged.record(seconds * 1e6),
  });
}

/** Listens, and loads the cluster. */
async function start(options: StartOptions): Promise<Started> {
  const { shape, history, servers = [] } = options;
  agents = shape.agents;
  const server = makeServer(options);
  started = server;
  const generator = new Cluster(shape);
  cluster = generator;
  await server.listen();
  running = server.run(stopping.signal);
  running.catch((error: unknown) => {
    log.fatal({ err: error }, "the server failed");
    process.exit(1);
  });
  setInterval(() => {
    peakRss = Math.max(peakRss, process.memoryUsage.rss());
  }, MEMORY_SAMPLE_MS).unref();
  const began = performance.now();
  let slice: ClusterEvent[] = [];
  give(servers.map(endpointEvent));
  for (const event of eventsSoFar(generator, history)) {
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

/** The cluster as it was at the first start, then its changes, and only then that this is all. */
function* eventsSoFar(generator: Cluster, history: History): Generator<ClusterEvent> {
  let last: ClusterEvent | undefined;
  for (const event of generator.initial()) {
    if (last !== undefined) yield last;
    last = event;
  }
  for (const { kind, changes } of history) for (let i = 0; i < changes; i++) yield* generator.change(kind).events;
  if (last !== undefined) yield last;
}

/** The list of servers is another one. */
function servers({ list }: { readonly list: readonly ServerEndpoint[] }): void {
  give(list.map(endpointEvent));
}

function endpointEvent({ name, port, isReady }: ServerEndpoint): ClusterEvent {
  const address = "127.0.0.1" as IpAddress;
  return {
    kind: "upsert",
    resource: {
      kind: "EndpointSlice",
      namespace: SERVICE.namespace,
      name,
      resourceVersion: "1",
      service: SERVICE.name,
      addresses: isReady ? [address] : [],
      ports: [{ protocol: "TCP", port }],
      endpoints: [{ addresses: [address], target: `${SERVICE.namespace}/${name}`, isReady, isServing: true, isTerminating: !isReady, zone: "", forZones: [] }],
    },
  };
}

/** Asks all clients to move, waits for them as the program does, and closes. */
async function drain(): Promise<void> {
  stopping.abort();
  await running;
}

/** Applies changes at the load's rate until `seconds` are over (or its number is done), and waits until so many agents (all, when not given) are level. */
async function drive({
  load,
  seconds,
  nodes = agents,
  isAcknowledged = true,
}: {
  readonly load: Load;
  readonly seconds: number;
  readonly nodes?: number;
  /** False: it ends when everything is with the system. */
  readonly isAcknowledged?: boolean;
}): Promise<Driven> {
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
  if (isAcknowledged) await level({ nodes });
  else await until(() => committed === given && everythingIsSent(), "sent", 10);
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

export interface Usage {
  /** So far. */
  readonly cpuUs: number;
  readonly rssBytes: number;
  /** The most since garbage was last collected here. */
  readonly peakRssBytes: number;
  readonly clients: number;
  readonly levelClients: number;
  /** Of relays below. */
  readonly relayedClients: number;
  readonly relayedLevelClients: number;
  readonly bytesInFlight: number;
  readonly packed: { readonly made: number; readonly shared: number };
}

/** With `isCollected` garbage is collected first, so that the memory is what is held. */
function usage({ isCollected }: { readonly isCollected: boolean }): Usage {
  if (isCollected) globalThis.gc?.();
  const { user, system } = process.cpuUsage();
  const rssBytes = process.memoryUsage.rss();
  const peakRssBytes = Math.max(peakRss, rssBytes);
  if (isCollected) peakRss = 0;
  const { feeds, sessions } = serving();
  const { clients, bytesInFlight, packed } = sessions;
  const relayed = [...feeds.nodes.values()];
  return {
    cpuUs: user + system,
    rssBytes,
    peakRssBytes,
    clients: clients.size,
    levelClients: levelClients(),
    relayedClients: relayed.length,
    relayedLevelClients: relayed.filter(({ isLevel }) => isLevel).length,
    bytesInFlight,
    packed: { ...packed.counts },
  };
}

/** Resolves when the agents of the first so many nodes (all, when not given) are connected and have acknowledged everything that was given. */
async function level({ nodes = agents }: { readonly nodes?: number }): Promise<void> {
  await until(() => committed === given && areLevel(nodes), "level", 10);
}

/** Resolves when no agent is connected. */
async function alone(): Promise<void> {
  await until(() => serving().sessions.openStreams === 0, "disconnected");
}

/** Digest of the view of each of the first so many nodes (those with agents, when not given). */
function digests({ nodes = agents }: { readonly nodes?: number }): BigUint64Array {
  return BigUint64Array.from({ length: nodes }, (_unused, index) => serving().table.viewDigest(serving().table.nodes.idOf(nodeName(index))));
}

function give(batch: readonly ClusterEvent[]): void {
  given += batch.length;
  serving().sink(batch);
}

async function acknowledgedBy(change: Change | undefined, { notBeforeMs }: { readonly notBeforeMs: number }): Promise<void> {
  const sessions = (change?.concerns ?? []).map((index) => serving().sessions.clientOf(serving().table.nodes.idOf(nodeName(index))));
  await clock.sleep(notBeforeMs);
  await until(() => committed === given && sessions.every((session) => session?.isLevel === true), "acknowledged", 2);
}

function makeChanges(kind: Load["kind"], count: number): Change[] {
  const generator = cluster;
  if (generator === undefined) throw new Error("start comes first");
  return Array.from({ length: count }, () => generator.change(kind));
}

function everythingIsSent(): boolean {
  const { clients, bytesInFlight } = serving().sessions;
  if (bytesInFlight > 0) return false;
  for (const session of clients) if (session.state !== "live" || session.dirtyKeys > 0) return false;
  return true;
}

/**
 * Whether the agents of the first so many nodes are connected and level. While one that was not is not yet, no other is looked at: this is asked a hundred times a
 * second, and its CPU is in the server's figures.
 */
function areLevel(nodes: number): boolean {
  const { sessions, table } = serving();
  if (behind !== undefined && sessions.clients.has(behind) && !behind.isLevel) return false;
  behind = undefined;
  if (nodes === agents && sessions.clients.size === agents) {
    for (const session of sessions.clients) {
      if (session.isLevel) continue;
      behind = session;
      return false;
    }
    return true;
  }
  for (let index = 0; index < nodes; index++) if (sessions.clientOf(table.nodes.idOf(nodeName(index)))?.isLevel !== true) return false;
  return true;
}

function levelClients(): number {
  let level = 0;
  for (const session of serving().sessions.clients) if (session.isLevel) level++;
  return level;
}

async function until(isTrue: () => boolean, what: string, everyMs = 5): Promise<void> {
  const end = performance.now() + LEVEL_TIMEOUT_MS;
  while (!isTrue()) {
    if (performance.now() > end)
      throw new Error(`not ${what} after ${LEVEL_TIMEOUT_MS / 1000} s: ${serving().sessions.clients.size} of ${agents} agents connected`);
    await clock.sleep(everyMs);
  }
}

function serving(): FanoutServer {
  if (started === undefined) throw new Error("start comes first");
  return started;
}

/** The bench's agents claim no blocks. */
function noStore(): AddressStore {
  const refuse = (): Promise<never> => Promise.reject(new Error("the bench has no API"));
  return { read: refuse, create: refuse, update: refuse, delete: refuse };
}

const methods = { start, servers, drive, drain, rest, profileBegin, profileEnd, usage, level, alone, digests };
export type ServerMethods = typeof methods;

serveCalls(methods);
