/**
 * ADDs and DELs over several nodes while agents, server, API and CNI executables are killed.
 *
 *   node test/cni/soak.ts [--operations 20000] [--seed N] [--nodes 4] [--kill-every-ms 1500] [--keep]
 *
 * Real processes without a kernel side: `sedge api` on disk, `sedge fanout`, an agent a node, and the executable for some of the calls (some of those are
 * killed too). Each node has a container runtime that does what the kubelet does: a failed ADD is followed by DELs until one succeeds. Invariants, of
 * which the first is looked at with every answer: no address is two containers' at once; at the end, after GC, journals and API say the same, and just
 * what the runtimes have. Prints one JSON line; exit code 1 when an invariant is broken.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { handleOf } from "../../agent/addresses/attachment.ts";
import { Journal } from "../../agent/addresses/journal.ts";
import { DiskJournalFiles } from "../../agent/addresses/journal-files.ts";
import { readAddresses } from "../../src/datastore/address-repair.ts";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { API_RESOURCES, apiVersionOf } from "../../src/datastore/api-resources.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import type { ResourceKind } from "../../src/model/resource.ts";
import { cniExecutable, hasCniExecutable } from "../fakes/cni-caller.ts";
import { askSocket } from "../fakes/socket-caller.ts";

const SEDGE = new URL("../../bin/sedge.ts", import.meta.url).pathname;
const NETWORK = "k8s-pod-network";
/** At once on one node. */
const WORKERS = 8;
const SETTLE_MS = 180_000;
/** For everything to be there: on a machine that others use too, five programs want a minute. */
const START_MS = 180_000;
const EXECUTABLE_SHARE = 0.05;
const EXECUTABLE_KILL_SHARE = 0.3;
/** Containers of a node that are kept running, about. */
const LIVE = 40;

export interface SoakOptions {
  readonly operations: number;
  readonly seed: number;
  readonly nodes: number;
  readonly killEveryMs: number;
  readonly directory: string;
}

export interface SoakResult {
  readonly seed: number;
  readonly operations: number;
  readonly added: number;
  readonly refused: number;
  /** Why ADDs by socket were refused: CNI code and message, with their number. */
  readonly reasons: Readonly<Record<string, number>>;
  readonly kills: Readonly<Record<string, number>>;
  readonly seconds: number;
  /** What is wrong; empty when every invariant held. */
  readonly problems: readonly string[];
}

interface Program {
  readonly name: string;
  readonly argv: readonly string[];
  child: ChildProcess | undefined;
}

export async function runSoak({ operations, seed, nodes, killEveryMs, directory }: SoakOptions): Promise<SoakResult> {
  const random = generator(seed);
  const started = performance.now();
  const world = await World.start(directory, nodes);
  const problems: string[] = [];
  const holders = new Map<string, string>();
  const kills: Record<string, number> = { agent: 0, fanout: 0, api: 0, executable: 0 };
  let done = 0;
  let added = 0;
  let refused = 0;
  let serial = 0;
  const stop = new AbortController();
  const live = world.nodes.map(() => new Map<string, readonly string[]>());

  const release = async (node: number, id: string): Promise<void> => {
    for (const address of live[node]?.get(id) ?? []) holders.delete(address);
    live[node]?.delete(id);
    while (!(await world.del(node, id))) await sleep(50);
  };
  const worker = async (node: number): Promise<void> => {
    const own = live[node] ?? new Map<string, readonly string[]>();
    while (done < operations) {
      done++;
      if (random() < own.size / (2 * LIVE)) {
        const ids = [...own.keys()];
        const id = ids[Math.floor(random() * ids.length)];
        if (id !== undefined) await release(node, id);
        continue;
      }
      const id = `c${seed}-${++serial}`;
      const killAfterMs = random() < EXECUTABLE_KILL_SHARE ? random() * 15 : undefined;
      const answer =
        random() < EXECUTABLE_SHARE
          ? await world.addByExecutable(node, id, killAfterMs, () => (kills["executable"] = (kills["executable"] ?? 0) + 1))
          : await world.add(node, id);
      if (answer === undefined) {
        refused++;
        await release(node, id);
        await sleep(20);
        continue;
      }
      added++;
      for (const address of answer) {
        const holder = holders.get(address);
        if (holder !== undefined) problems.push(`${address} was given to ${id} while ${holder} has it`);
        holders.set(address, id);
      }
      own.set(id, answer);
    }
  };
  const killer = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await sleep(killEveryMs * (0.5 + random()), undefined, { signal: stop.signal }).catch(() => undefined);
      if (stop.signal.aborted) return;
      const dice = random();
      const kind = dice < 0.7 ? "agent" : dice < 0.9 ? "fanout" : "api";
      kills[kind] = (kills[kind] ?? 0) + 1;
      await world.killAndStart(kind, Math.floor(random() * nodes));
    }
  };
  try {
    for (const [node, name] of world.nodes.entries()) await until(`the agent of ${name}`, () => world.ready(node));
    const killing = killer();
    await Promise.all(world.nodes.flatMap((_, node) => Array.from({ length: WORKERS }, () => worker(node))));
    stop.abort();
    await killing;
    for (const [node, own] of live.entries()) while (!(await world.collect(node, [...own.keys()]))) await sleep(200);
    problems.push(...(await world.settle(live)));
  } finally {
    await world.stop();
  }
  problems.push(...(await world.compareJournals(live)));
  return { seed, operations, added, refused, reasons: world.reasons, kills, seconds: Math.round((performance.now() - started) / 1_000), problems };
}

class World {
  readonly nodes: readonly string[];
  readonly #directory: string;
  readonly reasons: Record<string, number> = {};
  readonly #programs = new Map<string, Program>();
  readonly client: ApiClient;

  private constructor(directory: string, nodes: readonly string[], client: ApiClient) {
    this.#directory = directory;
    this.nodes = nodes;
    this.client = client;
  }

  static async start(directory: string, count: number): Promise<World> {
    const [apiPort, syncPort] = [await freePort(), await freePort()];
    const kubeconfig = join(directory, "kubeconfig");
    const api = start("api", [
      "api",
      "--listen",
      `127.0.0.1:${apiPort}`,
      "--data-dir",
      join(directory, "api"),
      "--kubeconfig-out",
      kubeconfig,
      "--log-level",
      "error",
    ]);
    const client = await until("the API", async () => {
      if (api.child?.exitCode !== null) throw new ProgramEnded("the API");
      const candidate = new ApiClient({ connection: await findConnection({ file: kubeconfig, environment: {} }), timeoutMs: 10_000 });
      await candidate.requestJson("GET", "/version");
      return candidate;
    }).catch((error: unknown) => {
      api.child?.kill("SIGKILL");
      throw error;
    });
    const world = new World(
      directory,
      Array.from({ length: count }, (_, i) => `n${i + 1}`),
      client,
    );
    world.#programs.set("api", api);
    const create = async (kind: ResourceKind, object: Readonly<Record<string, unknown>>): Promise<void> =>
      void (await client.create(API_RESOURCES[kind], { apiVersion: apiVersionOf(API_RESOURCES[kind]), kind, ...object }));
    await create("IPPool", { metadata: { name: "pods" }, spec: { cidr: "10.65.0.0/18" } });
    await create("IPAMConfiguration", { metadata: { name: "default" }, spec: { ipCooldownSeconds: 1, maxBlocksPerHost: 40 } });
    for (const name of world.nodes) await create("Node", { metadata: { name } });
    const listen = ["--metrics-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0", "--log-level", "error"];
    world.#programs.set("fanout", start("fanout", ["fanout", "--kubeconfig", kubeconfig, "--insecure-listen", `127.0.0.1:${syncPort}`, ...listen]));
    for (const [i, name] of world.nodes.entries()) {
      mkdirSync(join(directory, name), { recursive: true });
      const paths = ["--state-dir", join(directory, name, "state"), "--socket", world.#socket(i)];
      const agent = [
        "agent",
        "--node-name",
        name,
        "--server",
        `127.0.0.1:${syncPort}`,
        "--insecure",
        "--no-dataplane",
        "--policy-wait-ms",
        "0",
        ...paths,
        ...listen,
      ];
      world.#programs.set(`agent${i}`, start(`agent${i}`, agent));
    }
    return world;
  }

  /** Rejects while STATUS says that pods cannot be added: with 51 until the first view is in the kernel, which is asked again like 50 and 11. */
  async ready(node: number): Promise<void> {
    for (const [name, { child }] of this.#programs) if (child !== undefined && child.exitCode !== null) throw new ProgramEnded(name);
    const answer = await askSocket(this.#socket(node), "status", { version: 1, config: { name: NETWORK } });
    if (answer?.["ok"] !== true) throw new Error(JSON.stringify(answer));
  }

  async add(node: number, id: string): Promise<readonly string[] | undefined> {
    const answer = await askSocket(this.#socket(node), "add", this.#request(id));
    if (answer?.["ok"] !== true) {
      const { code, msg } = (answer?.["error"] ?? { code: 0, msg: "no answer" }) as { readonly code: number; readonly msg: string };
      this.reasons[`${code} ${msg}`] = (this.reasons[`${code} ${msg}`] ?? 0) + 1;
    }
    const ips = (answer?.["result"] as { readonly ips?: readonly { readonly address: string }[] } | undefined)?.ips;
    return answer?.["ok"] === true ? ips?.map(({ address }) => address) : undefined;
  }

  async addByExecutable(node: number, id: string, killAfterMs: number | undefined, onKill: () => void): Promise<readonly string[] | undefined> {
    const child = spawn(cniExecutable, [], {
      env: {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: id,
        CNI_NETNS: `/run/netns/${id}`,
        CNI_IFNAME: "eth0",
        CNI_PATH: "/",
        CNI_ARGS: `K8S_POD_NAMESPACE=soak;K8S_POD_NAME=${id}`,
      },
      stdio: ["pipe", "pipe", "ignore"],
    });
    const ended = once(child, "close");
    let output = "";
    child.stdout.on("data", (bytes: Buffer) => (output += bytes.toString()));
    child.stdin.on("error", () => undefined);
    child.stdin.end(
      JSON.stringify({
        cniVersion: "1.1.0",
        name: NETWORK,
        type: "sedge-cni",
        socket: this.#socket(node),
        queueDir: join(this.#directory, this.nodes[node] ?? "", "state", "cni-queue"),
      }),
    );
    if (killAfterMs !== undefined) void sleep(killAfterMs).then(() => child.kill("SIGKILL") && onKill());
    await ended;
    if (child.exitCode !== 0) return undefined;
    return (JSON.parse(output) as { readonly ips: readonly { readonly address: string }[] }).ips.map(({ address }) => address);
  }

  async del(node: number, id: string): Promise<boolean> {
    return (await askSocket(this.#socket(node), "del", this.#request(id)))?.["ok"] === true;
  }

  async collect(node: number, valid: readonly string[]): Promise<boolean> {
    const config = { name: NETWORK, "cni.dev/valid-attachments": valid.map((containerID) => ({ containerID, ifname: "eth0" })) };
    return (await askSocket(this.#socket(node), "gc", { version: 1, config }))?.["ok"] === true;
  }

  async killAndStart(kind: string, node: number): Promise<void> {
    const program = this.#programs.get(kind === "agent" ? `agent${node}` : kind);
    if (program?.child === undefined) return;
    const ended = once(program.child, "exit");
    program.child.kill("SIGKILL");
    await ended;
    program.child = launch(program.argv);
  }

  /** Waits until the API says just what the runtimes have; what it says else when it never does. */
  async settle(live: readonly ReadonlyMap<string, readonly string[]>[]): Promise<readonly string[]> {
    const expected = expectedOf(live);
    let differences: readonly string[] = [];
    for (const deadline = performance.now() + SETTLE_MS; performance.now() < deadline; await sleep(500)) {
      try {
        const { blocks } = await readAddresses(this.client);
        differences = compare(
          "API",
          expected,
          new Map(blocks.flatMap(({ allocations }) => allocations.map(({ address, handle }) => [address as string, handle]))),
        );
        if (differences.length === 0) return [];
      } catch (error) {
        differences = [`the API cannot be read: ${String(error)}`];
      }
    }
    return differences;
  }

  async compareJournals(live: readonly ReadonlyMap<string, readonly string[]>[]): Promise<readonly string[]> {
    const found = new Map<string, string>();
    const problems: string[] = [];
    for (const name of this.nodes) {
      const journal = await Journal.open({ files: await DiskJournalFiles.open(join(this.#directory, name, "state")), node: name });
      problems.push(...journal.problems);
      for (const attachment of journal.state.attachments.values()) {
        for (const address of attachment.addresses) {
          if (found.has(address)) problems.push(`${address} is in two journals`);
          found.set(address, handleOf(attachment));
        }
      }
      await journal.close();
    }
    return [...problems, ...compare("journals", expectedOf(live), found)];
  }

  async stop(): Promise<void> {
    for (const { child } of [...this.#programs.values()].reverse()) {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    }
    this.client.close();
  }

  #socket(node: number): string {
    return join(this.#directory, this.nodes[node] ?? "", "agent.sock");
  }

  #request(id: string): object {
    return {
      version: 1,
      containerId: id,
      netns: `/run/netns/${id}`,
      ifname: "eth0",
      args: { K8S_POD_NAMESPACE: "soak", K8S_POD_NAME: id },
      config: { name: NETWORK },
    };
  }
}

function expectedOf(live: readonly ReadonlyMap<string, readonly string[]>[]): ReadonlyMap<string, string> {
  return new Map(
    live.flatMap((own) => [...own].flatMap(([id, addresses]) => addresses.map((address) => [address.replace(/\/\d+$/, ""), `${NETWORK}.${id}`] as const))),
  );
}

function compare(what: string, expected: ReadonlyMap<string, string>, found: ReadonlyMap<string, string>): readonly string[] {
  const problems: string[] = [];
  for (const [address, handle] of expected)
    if (found.get(address) !== handle) problems.push(`${what}: ${address} is ${found.get(address) ?? "nobody"}'s, not ${handle}'s`);
  for (const [address, handle] of found) if (!expected.has(address)) problems.push(`${what}: ${address} is still ${handle}'s: leaked`);
  return problems.slice(0, 20);
}

function start(name: string, argv: readonly string[]): Program {
  return { name, argv, child: launch(argv) };
}

function launch(argv: readonly string[]): ChildProcess {
  return spawn(process.execPath, [SEDGE, ...argv], { stdio: ["ignore", "ignore", "inherit"] });
}

/** It will not be there, however long one waits. */
class ProgramEnded extends Error {
  constructor(name: string) {
    super(`${name} has ended`);
  }
}

/** Tries until it works, START_MS at most; what the last try said is in the message. */
async function until<T>(what: string, action: () => Promise<T>): Promise<T> {
  const began = performance.now();
  for (;;) {
    try {
      return await action();
    } catch (error) {
      const tookMs = performance.now() - began;
      if (error instanceof ProgramEnded || tookMs >= START_MS)
        throw new Error(`${what} was not ready after ${Math.round(tookMs / 1_000)} s: ${error instanceof Error ? error.message : String(error)}`, {
          cause: error,
        });
      await sleep(100);
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** mulberry32. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      operations: { type: "string", default: "20000" },
      seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
      nodes: { type: "string", default: "4" },
      "kill-every-ms": { type: "string", default: "1500" },
      keep: { type: "boolean", default: false },
    },
  });
  if (!hasCniExecutable()) {
    process.stderr.write("skipped: node scripts/build-cni.mjs was not run\n");
    process.exit(3);
  }
  const directory = mkdtempSync(join(tmpdir(), "sedge-soak-"));
  const result = await runSoak({
    operations: Number(values.operations),
    seed: Number(values.seed),
    nodes: Number(values.nodes),
    killEveryMs: Number(values["kill-every-ms"]),
    directory,
  });
  process.stdout.write(`${JSON.stringify(result)}\n`);
  if (values.keep) writeFileSync(join(directory, "result.json"), JSON.stringify(result));
  else rmSync(directory, { recursive: true, force: true });
  process.exitCode = result.problems.length === 0 ? 0 : 1;
}
