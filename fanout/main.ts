/** `sedge fanout`: the program. Only wiring. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { Registry } from "prom-client";
import { Compute } from "../src/compute/compute.ts";
import { ApiClient } from "../src/datastore/api-client.ts";
import { clusterUid } from "../src/datastore/cluster-uid.ts";
import { findConnection } from "../src/datastore/kubeconfig.ts";
import { Leader } from "../src/datastore/lease.ts";
import { ClusterSource } from "../src/datastore/source.ts";
import { AddressWriter } from "../src/datastore/writer.ts";
import { type Clock, systemClock } from "../src/runtime/clock.ts";
import { ConfigError, describeFlags, loadConfig } from "../src/runtime/config.ts";
import { Health, type Report } from "../src/runtime/health.ts";
import { parseHostAndPort } from "../src/runtime/host-port.ts";
import { serveHealth, serveMetrics } from "../src/runtime/http.ts";
import { createLogger, type Logger } from "../src/runtime/log.ts";
import { Backoff, retryUntil } from "../src/runtime/retry.ts";
import { StartError } from "../src/runtime/start-error.ts";
import { runAll, signalsToAbort } from "../src/runtime/supervisor.ts";
import { type FanoutConfig, fanoutConfigSchema, listenersOf, relayOf, serviceOf, workerProblems } from "./config.ts";
import type { GrpcListen } from "./delivery/grpc-delivery.ts";
import { PolicyStatusWriter } from "./policy-status/writer.ts";
import { FanoutServer, type FanoutServerOptions, type RootOptions } from "./server.ts";
import { ClusterStatusWriter } from "./tier/cluster-status-writer.ts";
import { Workers } from "./workers/workers.ts";

const LEASE_NAME = "sedge-fanout";

/** Runs until SIGTERM or SIGINT. 0: stopped as asked. 1: failed (the log says why). Throws ConfigError for wrong settings, StartError for what it cannot use. */
export async function main(argv: readonly string[]): Promise<number> {
  const { config, positional } = loadConfig(fanoutConfigSchema, { argv, env: process.env, program: "fanout" });
  if (config.help) {
    process.stdout.write(`usage: sedge fanout [flags]\n\n${describeFlags(fanoutConfigSchema)}\n`);
    return 0;
  }
  const { listeners, problems } = listenersOf(config);
  const { relay, problems: relayProblems } = relayOf(config);
  problems.push(...relayProblems, ...workerProblems(config));
  if (problems.length > 0 || positional.length > 0) throw new ConfigError([...problems, ...positional.map((word) => `unexpected argument ${word}`)]);
  const log = createLogger({ level: config.logLevel, program: "fanout" });
  const version = packageVersion();
  log.info({ config, version }, "starting");
  const signal = signalsToAbort(log);
  const clock = systemClock;
  const client = relay === undefined ? await clientOf(config.kubeconfig, version) : undefined;
  const health = new Health(clock);
  const registry = new Registry();
  const report = health.register("sync");
  const metrics = new MetricsSource(registry);
  const metricsEndpoint = await serveMetrics(metrics, parseHostAndPort(config.metricsListen));
  const healthEndpoint = await serveHealth(health, parseHostAndPort(config.healthListen));
  log.info({ metricsPort: metricsEndpoint.port, healthPort: healthEndpoint.port }, "metrics and health are served");
  try {
    const common: CommonOptions = {
      serverName: config.serverName === "" ? hostname() : config.serverName,
      version,
      listen: listeners,
      clock,
      log,
      registry,
      settings: { ...config, peers: config.peer, service: serviceOf(config) },
      onReport: report,
    };
    if (client !== undefined)
      await runRoot(common, { client, config, metrics, workersReport: config.workers === 0 ? undefined : health.register("workers"), signal });
    else if (relay !== undefined) await runAll([new FanoutServer({ ...common, relay: { ...relay, ownQuestions: "about-itself" } })], { signal, log });
    return 0;
  } catch (error) {
    if (error instanceof StartError) throw error;
    log.fatal({ err: error }, "stopped by a failure");
    return 1;
  } finally {
    await metricsEndpoint.close();
    await healthEndpoint.close();
    client?.close();
  }
}

async function clientOf(kubeconfig: string | undefined, version: string): Promise<ApiClient> {
  return new ApiClient({
    connection: await findConnection({ file: kubeconfig, environment: process.env }),
    userAgent: `sedge-fanout/${version}`,
  });
}

type CommonOptions = Omit<FanoutServerOptions, keyof RootOptions | "relay">;

interface RootNeeds {
  readonly client: ApiClient;
  readonly config: FanoutConfig;
  readonly metrics: MetricsSource;
  /** undefined: there are no workers. */
  readonly workersReport: ((report: Report) => void) | undefined;
  readonly signal: AbortSignal;
}

/** What /metrics shows: this process, and its workers. */
class MetricsSource {
  workers: Workers | undefined;
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  metrics(): Promise<string> {
    return this.workers?.metrics() ?? this.#registry.metrics();
  }
}

/** A unix socket in a directory that only this user may enter. */
function privateDoor(): { readonly listen: GrpcListen; close(): void } {
  const directory = mkdtempSync(join(tmpdir(), "sedge-fanout-"));
  return {
    listen: { host: `unix:${join(directory, "workers.sock")}`, port: 0, tls: undefined, isPrivate: true },
    close: () => rmSync(directory, { recursive: true, force: true }),
  };
}

function workersOf(
  { serverName, version, listen, settings, clock, log, registry }: CommonOptions,
  { config, parent, onReport }: { readonly config: FanoutConfig; readonly parent: string; readonly onReport: (report: Report) => void },
): Workers {
  return new Workers({
    count: config.workers,
    settings: {
      serverName,
      version,
      logLevel: config.logLevel,
      parent,
      listen: listen.map((one) => ({ ...one, isPortShared: true })),
      // Together they are one server.
      settings: {
        ...settings,
        agentsPerServer: Math.ceil(config.agentsPerServer / config.workers),
        movesPerSecond: Math.max(1, config.movesPerSecond / config.workers),
      },
    },
    clock,
    log: log.child({ component: "workers" }),
    registry,
    onReport,
  });
}

/** The server that watches the API, until the signal aborts. */
async function runRoot(common: CommonOptions, { client, config, metrics, workersReport, signal }: RootNeeds): Promise<void> {
  const { clock, log } = common;
  const uid = await waitForClusterUid(client, { clock, log, signal });
  if (uid === undefined) return;
  const door = workersReport === undefined ? undefined : privateDoor();
  const certificate = common.listen.find(({ tls }) => tls !== undefined)?.tls;
  const workers = door === undefined || workersReport === undefined ? [] : [workersOf(common, { config, parent: door.listen.host, onReport: workersReport })];
  const server: FanoutServer = new FanoutServer({
    ...common,
    ...(door === undefined ? {} : { listen: [door.listen], ...(certificate === undefined ? {} : { certificate }) }),
    ...(workers[0] === undefined ? {} : { workers: workers[0] }),
    clusterUid: uid,
    compute: new Compute({ floatingIps: config.floatingIps }),
    store: new AddressWriter({ client, clock }),
    upstreamVersions: () => new Map(source.kinds().map(({ kind, resourceVersion }) => [kind, resourceVersion])),
    catchUp: (kind) => source.catchUp(kind),
    upstreamAgeMs: () => source.upstreamAgeMs(),
    sourceCounters: () => source.counters(),
    onEvent: (event) => {
      for (const one of workers) one.note(event);
    },
  });
  const source = new ClusterSource({ client, clock, log, sink: server.sink });
  for (const one of workers) metrics.workers = one;
  try {
    await server.listen();
    // Stopped in reverse: first the workers, who ask the agents to move.
    await runAll([source, server, ...leaderOf(server, { client, config, clock, log }), ...workers], { signal, log });
  } finally {
    door?.close();
  }
}

/** The part that writes what the whole tier knows, on one server at a time. */
function leaderOf(server: FanoutServer, { client, config, clock, log }: LeaderNeeds): readonly Leader[] {
  const { leaseMs, leaseNamespace, serverName, statusWritesPerSecond: writesPerSecond } = config;
  if (writesPerSecond === 0) return [];
  const writer = new PolicyStatusWriter({
    client,
    statuses: server.policies,
    clock,
    log: log.child({ component: "policy-status" }),
    writesPerSecond,
    onWrite: (outcome) => server.policyStatusWritten(outcome),
  });
  const identity = `${serverName === "" ? hostname() : serverName}_${server.epoch}`;
  const lease = { client, clock, log: log.child({ component: "leader" }), namespace: leaseNamespace, name: LEASE_NAME, identity, leaseMs };
  const cluster = new ClusterStatusWriter({
    client,
    tier: server.tier,
    isInSync: () => server.engine.isInSync,
    clock,
    log: log.child({ component: "cluster-status" }),
  });
  const work = async (signal: AbortSignal): Promise<void> => {
    await Promise.all([writer.run(signal), cluster.run(signal)]);
  };
  return [new Leader({ ...lease, work })];
}

interface LeaderNeeds {
  readonly client: ApiClient;
  readonly config: FanoutConfig;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The seed of all hashes comes from the API, so nothing can begin before it was reached once. Undefined: stopped meanwhile. */
async function waitForClusterUid(client: ApiClient, { clock, log, signal }: { clock: Clock; log: Logger; signal: AbortSignal }): Promise<string | undefined> {
  let uid: string | undefined;
  const backoff = new Backoff({ initialMs: 100, maxMs: 5_000 });
  await retryUntil(
    async () => {
      try {
        uid = await clusterUid(client, { signal });
        return true;
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, "the API cannot be reached yet");
        return false;
      }
    },
    { backoff, clock, signal },
  );
  return uid;
}

function packageVersion(): string {
  const content: unknown = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  return typeof content === "object" && content !== null && "version" in content ? String(content.version) : "unknown";
}
