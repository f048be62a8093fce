/** `sedge fanout --workers`: the program with its processes, against the embedded API. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { credentials, type ServiceError } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { RebalanceWish } from "../../fanout/tier/rebalancer.ts";
import type { Workers } from "../../fanout/workers/workers.ts";
import { startEmbeddedApi } from "../../src/datastore/embedded/start.ts";
import type { LogLevel } from "../../src/runtime/log.ts";
import { processStartTime } from "../../src/runtime/process-start.ts";
import type { ClientPage, GetStatusResponse, RebalanceResponse, SetLogLevelResponse } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { rankServers } from "../../src/wire/rendezvous.ts";
import { IntrospectionServiceClient } from "../../src/wire/service.ts";
import { CHANNEL_OPTIONS, certificates, GrpcAgent, node, pool, serverSlice, startFanout, startWorkers, upsert, writePair } from "../fakes/fanout-fixture.ts";

const SEDGE = join(import.meta.dirname, "..", "..", "bin", "sedge.ts");
const DAY_MS = 86_400_000;
/** Of pino. */
const DEBUG = 20;
const NODES = Array.from({ length: 12 }, (_, i) => `n${i}`);
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 30_000, interval: 20 });

interface Program {
  readonly child: ChildProcess;
  readonly address: string;
  readonly metricsPort: number;
  readonly healthPort: number;
  /** The newest process of each worker. */
  readonly pids: Map<number, number>;
  readonly ended: Promise<number | null>;
  /** All that the processes have logged. */
  readonly lines: readonly LogLine[];
}

interface LogLine {
  readonly msg: string;
  readonly level: number;
  readonly worker: number;
  readonly pid: number;
  readonly ports: number[];
  readonly metricsPort: number;
  readonly healthPort: number;
}

async function startProgram(...flags: readonly string[]): Promise<Program> {
  const directory = await mkdtemp(join(tmpdir(), "sedge-workers-"));
  const api = await startEmbeddedApi();
  const kubeconfig = join(directory, "kubeconfig");
  await writeFile(kubeconfig, api.kubeconfig);
  const child = spawn(
    process.execPath,
    [
      SEDGE,
      "fanout",
      "--workers",
      "2",
      "--kubeconfig",
      kubeconfig,
      ...["--insecure-listen", "--metrics-listen", "--health-listen"].flatMap((flag) => [flag, "127.0.0.1:0"]),
      "--heartbeat-interval-ms",
      "500",
      "--drain-ms",
      "1000",
      "--status-writes-per-second",
      "0",
      ...flags,
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
  const pids = new Map<number, number>();
  const lines: LogLine[] = [];
  const known = { address: "", metricsPort: 0, healthPort: 0 };
  onTestFinished(async () => {
    for (const pid of [child.pid, ...pids.values()]) if (pid !== undefined && processStartTime(pid) !== undefined) process.kill(pid, "SIGKILL");
    await ended;
    await api.close();
    await rm(directory, { recursive: true, force: true });
  });
  createInterface({ input: child.stderr }).on("line", (text) => {
    const line = JSON.parse(text) as LogLine;
    lines.push(line);
    if (line.msg === "a worker listens") {
      pids.set(line.worker, line.pid);
      known.address = `127.0.0.1:${line.ports[0]}`;
    } else if (line.msg === "metrics and health are served") ({ metricsPort: known.metricsPort, healthPort: known.healthPort } = line);
  });
  await until(() => expect(pids.size).toBe(2));
  await until(async () => expect(await (await fetch(`http://127.0.0.1:${known.healthPort}/readiness`)).text()).toContain("2 of 2 workers serve"));
  return { child, pids, ended, lines, ...known };
}

/** An agent that comes back when its stream ends, with the view that it has. */
class LastingAgents implements Disposable {
  readonly agents = new Map<string, GrpcAgent>();
  readonly #timer: NodeJS.Timeout;

  constructor(address: string) {
    const connect = (): void => {
      for (const name of NODES) {
        const before = this.agents.get(name);
        if (before !== undefined && before.status === undefined) continue;
        before?.[Symbol.dispose]();
        this.agents.set(name, new GrpcAgent({ address, node: name, ...(before === undefined ? {} : { view: before.view }) }));
      }
    };
    connect();
    this.#timer = setInterval(connect, 50);
  }

  get areLive(): boolean {
    return [...this.agents.values()].every(({ isLive }) => isLive);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const agent of this.agents.values()) agent[Symbol.dispose]();
  }
}

/** What whichever worker the port leads to says: the main process's answer. */
async function clientsOf(address: string): Promise<[string, boolean, string][]> {
  const client = new IntrospectionServiceClient(address, credentials.createInsecure(), CHANNEL_OPTIONS);
  const found: [string, boolean, string][] = [];
  try {
    for await (const { clients } of client.listClientPages({}) as AsyncIterable<ClientPage>)
      for (const { node, level, address: from } of clients) found.push([node, level, from]);
  } finally {
    client.close();
  }
  return found;
}

describe("sedge fanout --workers", () => {
  it("agents learn from a worker which servers the cluster has, and the worker that starts anew knows it too", async () => {
    await using root = await startFanout({ events: upsert(node("n0", 1), pool()) });
    const served = startWorkers({ parent: root.address, settings: { service: { namespace: "sedge-system", name: "sedge-fanout" } } });
    onTestFinished(served.stop);
    const { workers } = served;
    workers.note({
      kind: "upsert",
      resource: serverSlice(
        "s",
        ["a", "b"].map((name, i) => ({ pod: `pod-${name}`, address: `192.0.2.${i + 1}:5473` })),
      ),
    });
    const serversOf = async (): Promise<void> => {
      await served.ready();
      using agent = new GrpcAgent({ address: served.address, node: "n0" });
      await until(() => expect(agent.isLive || agent.status !== undefined).toBe(true));
      const welcome = agent.outputs.find((output) => output.kind === "welcome");
      expect(welcome?.welcome.servers?.servers.map(({ name }) => name).toSorted()).toEqual(["pod-a", "pod-b"]);
    };
    await until(serversOf);
    const before = workers.pids.get(1) ?? 0;
    process.kill(before, "SIGKILL");
    await until(() => expect([undefined, before]).not.toContain(workers.pids.get(1)));
    await until(serversOf);
  }, 90_000);

  it("rebalance asks the agents of all workers, whichever is told; a drain sends each to the other servers", async () => {
    const service = { namespace: "sedge-system", name: "sedge-fanout" };
    let workers: Workers | undefined;
    const through = {
      rebalance: (wish: RebalanceWish) => workers?.rebalance(wish) ?? expect.fail("no workers"),
      setLogLevel: (level: LogLevel) => workers?.setLogLevel(level),
    };
    await using root = await startFanout({
      events: upsert(...NODES.map((name, i) => node(name, i + 1)), pool()),
      serverName: "pod-a",
      settings: { service },
      workers: through,
    });
    const served = startWorkers({ parent: root.address, count: 2, settings: { service, drainMs: 3_000 } });
    onTestFinished(served.stop);
    ({ workers } = served);
    await served.ready();
    const own = served.address;
    const other = "127.0.0.1:9";
    // One slice for each port, as endpoints have.
    for (const [i, address] of [own, other].entries()) workers.note({ kind: "upsert", resource: serverSlice(`s${i}`, [{ pod: `pod-${"ab"[i]}`, address }]) });
    const agents = NODES.map((name) => new GrpcAgent({ address: own, node: name }));
    onTestFinished(() => agents.forEach((agent) => agent[Symbol.dispose]()));
    await until(() => expect(agents.every(({ isLive }) => isLive)).toBe(true));
    const isOthers = (name: string): boolean =>
      rankServers(
        name,
        [own, other].map((identity) => ({ identity, isNear: false })),
      )[0]?.identity === other;
    const moving = NODES.filter(isOthers);
    expect([0, NODES.length]).not.toContain(moving.length);
    const client = new IntrospectionServiceClient(own, credentials.createInsecure(), CHANNEL_OPTIONS);
    onTestFinished(() => client.close());
    const rebalance = (dryRun: boolean): Promise<RebalanceResponse> =>
      new Promise((resolve, reject) =>
        client.rebalance({ movesPerSecond: 1_000, dryRun }, (error: ServiceError | null, value: RebalanceResponse) =>
          error === null ? resolve(value) : reject(error),
        ),
      );
    await until(async () => expect(await rebalance(true)).toMatchObject({ moving: moving.length, staying: NODES.length - moving.length }));
    const asked = (): string[] => agents.filter(({ outputs }) => outputs.some(({ kind }) => kind === "move")).map(({ node: name }) => name);
    expect(asked()).toEqual([]);
    expect(await rebalance(false)).toMatchObject({ moving: moving.length });
    await until(() => expect(asked()).toEqual(moving));

    const stopped = served.stop();
    await until(() => {
      for (const { outputs } of agents)
        expect(outputs.findLast(({ kind }) => kind === "move")).toMatchObject({ move: { deadlineMs: 3_000, targets: [other] } });
    });
    for (const agent of agents) agent[Symbol.dispose]();
    await stopped;
  }, 60_000);

  it("agents on one port are spread over the processes; a worker that is killed is started again and its agents resume; a clean end", async () => {
    const { child, address, pids, metricsPort, healthPort, ended } = await startProgram();
    using agents = new LastingAgents(address);
    await until(() => expect(agents.areLive).toBe(true));
    const allLevel = async (): Promise<void> => {
      const clients = await clientsOf(address);
      expect(clients.map(([node, level]) => `${node} ${level}`).toSorted()).toEqual(NODES.map((node) => `${node} true`).toSorted());
    };
    await until(allLevel);
    expect(new Set((await clientsOf(address)).map(([, , from]) => from.slice(from.indexOf(" via ")))).size).toBe(2);

    const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    const clients = [...metrics.matchAll(/^sedge_fanout_clients\{worker="(\d)"\} (\d+)$/gm)].map(([, worker, count]) => [worker, Number(count)]);
    expect(clients.map(([worker]) => worker)).toEqual(["1", "2"]);
    expect(clients.reduce((sum, [, count]) => sum + Number(count), 0)).toBe(NODES.length);
    expect(metrics).toMatch(/^sedge_fanout_relayed_clients_level 12$/m);
    expect(metrics).toMatch(/^sedge_fanout_workers_ready 2$/m);

    const [killed = 0] = [...pids.values()];
    process.kill(killed, "SIGKILL");
    await until(() => expect(pids.get(1)).not.toBe(killed));
    await until(() => expect(agents.areLive).toBe(true));
    await until(allLevel);
    expect(await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()).toMatch(/^sedge_fanout_worker_restarts_total 1$/m);

    child.kill("SIGTERM");
    await until(async () => expect((await fetch(`http://127.0.0.1:${healthPort}/readiness`)).status).toBe(503));
    expect(await ended).toBe(0);
    for (const pid of pids.values()) expect(processStartTime(pid)).toBeUndefined();
  }, 120_000);

  it("each process warns of a certificate that ends soon; the metric tells, by worker, how long it is good, and follows the file", async () => {
    await using pki = await certificates();
    const inDays = async (days: number): Promise<void> =>
      writePair(pki.tls, await pki.authority.issue({ commonName: "fanout", hosts: ["localhost"], validForMs: days * DAY_MS }));
    await inDays(3);
    const tls = Object.entries(pki.tls).flatMap(([name, file]) => [`--tls-${name}`, file]);
    const { lines, metricsPort } = await startProgram("--listen", "127.0.0.1:0", ...tls);
    await until(() =>
      expect(lines.filter(({ msg }) => msg.startsWith("the certificate expires soon")).map(({ worker }) => worker ?? "main")).toEqual(
        expect.arrayContaining(["main", 1, 2]),
      ),
    );
    const daysLeft = async (): Promise<Record<string, number>> => {
      const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
      const found = metrics.matchAll(/^sedge_fanout_certificate_expiry_seconds(?:\{worker="(\d)"\})? (\S+)$/gm);
      return Object.fromEntries([...found].map(([, worker = "main", seconds]) => [worker, Math.round((Number(seconds) * 1_000) / DAY_MS)]));
    };
    expect(await daysLeft()).toEqual({ main: 3, 1: 3, 2: 3 });
    await inDays(90);
    expect(await daysLeft()).toEqual({ main: 90, 1: 90, 2: 90 });
  }, 60_000);

  it("the main process is killed: the workers end", async () => {
    const { child, address, pids, lines } = await startProgram();
    const status = await new Promise<GetStatusResponse>((resolve, reject) => {
      const client = new IntrospectionServiceClient(address, credentials.createInsecure(), CHANNEL_OPTIONS);
      client.getStatus({}, (error: ServiceError | null, value: GetStatusResponse) => {
        client.close();
        if (error === null) resolve(value);
        else reject(error);
      });
    });
    expect(status.syncStatus).toBe("in-sync");
    // An operator's change of the log level reaches every process.
    const operator = new IntrospectionServiceClient(address, credentials.createInsecure(), CHANNEL_OPTIONS);
    const change = await new Promise<SetLogLevelResponse>((resolve, reject) =>
      operator.setLogLevel({ level: "debug" }, (error: ServiceError | null, value: SetLogLevelResponse) => (error === null ? resolve(value) : reject(error))),
    );
    operator.close();
    expect(change.previous).toBe("info");
    using agents = new LastingAgents(address);
    await until(() => expect(agents.areLive).toBe(true));
    agents[Symbol.dispose]();
    const saidBy = (isIt: (line: LogLine) => boolean): Set<number> => new Set(lines.filter(isIt).flatMap(({ worker }) => worker ?? []));
    await until(() => expect(saidBy(({ msg }) => msg === "an operator changes the log level")).toEqual(new Set([1, 2])));
    await until(() => expect(saidBy(({ level }) => level === DEBUG).size).toBeGreaterThan(0));
    child.kill("SIGKILL");
    await until(() => expect([...pids.values()].map(processStartTime)).toEqual([undefined, undefined]));
  }, 60_000);
});
