/**
 * Time of a CNI ADD and DEL, from the start of the executable to its exit: ours (with an agent that has a journal on disk and makes real interfaces)
 * beside the reference plugins ptp and host-local, in the same run, in namespaces of the bench's own.
 *
 *   node bench/cni/main.ts [--rounds 40] [--parallel 100]      as root
 *
 * The policy's part of an ADD is pretended (one route, no ruleset): it is the reconcile loop's and measured there. Prints one JSON line: medians and p99 in
 * ms, and the ratio to the reference. Exit code 3: not root, or no reference plugins (Debian's containernetworking-plugins is installed when it is missing).
 */
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { inNetns } from "../../agent/drivers/netlink/libc.ts";

const REFERENCE_DIRS = ["/opt/cni/bin", "/usr/lib/cni"];
const cniExecutable = new URL("../../dist/cni/sedge-cni", import.meta.url).pathname;
const AGENT = new URL("../../test/fakes/cni-agent.ts", import.meta.url).pathname;
const WARM_UP = 5;

/** A network namespace of the bench's own. */
class Namespace implements Disposable {
  static #made = 0;
  readonly name: string;
  readonly path: string;

  constructor(kind: string) {
    this.name = `sdgb${kind}-${process.pid}-${++Namespace.#made}`;
    this.path = `/run/netns/${this.name}`;
    execFileSync("ip", ["netns", "add", this.name]);
  }

  [Symbol.dispose](): void {
    execFileSync("ip", ["netns", "delete", this.name]);
  }
}

interface Plugin {
  readonly executable: string;
  readonly config: object;
  readonly path: string;
}

function referencePlugins(): string | undefined {
  const find = (): string | undefined => REFERENCE_DIRS.find((dir) => ["ptp", "host-local"].every((name) => existsSync(join(dir, name))));
  if (find() === undefined) {
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    spawnSync("apt-get", ["install", "-y", "-q", "--no-install-recommends", "containernetworking-plugins"], { stdio: ["ignore", 2, 2], env });
  }
  return find();
}

function environment(plugin: Plugin, command: string, id: string, netns: string): Record<string, string> {
  return {
    CNI_COMMAND: command,
    CNI_CONTAINERID: id,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: plugin.path,
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=${id}`,
    PATH: process.env["PATH"] ?? "",
  };
}

/** One call in the host's namespace; ms. */
function call(plugin: Plugin, host: Namespace, command: string, id: string, netns: string): number {
  let ended: SpawnSyncReturns<string> | undefined;
  const started = performance.now();
  inNetns(host.path, () => {
    ended = spawnSync(plugin.executable, [], { input: JSON.stringify(plugin.config), env: environment(plugin, command, id, netns), encoding: "utf8" });
  });
  const elapsed = performance.now() - started;
  if (ended?.status !== 0) throw new Error(`${plugin.executable} ${command} failed: ${ended?.stdout ?? ""}${ended?.stderr ?? ""}`);
  return elapsed;
}

/** All at once; ms until the last has ended. */
async function callAll(plugin: Plugin, host: Namespace, command: string, pods: readonly { readonly id: string; readonly netns: string }[]): Promise<number> {
  const started = performance.now();
  await Promise.all(
    pods.map(
      ({ id, netns }) =>
        new Promise<void>((resolve, reject) => {
          const child = inNetns(host.path, () =>
            spawn(plugin.executable, [], { env: environment(plugin, command, id, netns), stdio: ["pipe", "pipe", "inherit"] }),
          );
          let output = "";
          child.stdout.on("data", (bytes: Buffer) => (output += bytes.toString()));
          child.once("error", reject);
          child.once("close", (code) => (code === 0 ? resolve() : reject(new Error(`${plugin.executable} ${command} ${id}: ${output}`))));
          child.stdin.end(JSON.stringify(plugin.config));
        }),
    ),
  );
  return performance.now() - started;
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

const rounded = (value: number): number => Math.round(value * 100) / 100;

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { rounds: { type: "string", default: "40" }, parallel: { type: "string", default: "100" } } });
  const rounds = Number(values.rounds);
  const parallel = Number(values.parallel);
  if (process.getuid?.() !== 0) {
    process.stderr.write("skipped: needs root\n");
    return 3;
  }
  const reference = referencePlugins();
  if (reference === undefined || !existsSync(cniExecutable)) {
    process.stderr.write(
      `skipped: ${reference === undefined ? "no reference plugins (apt-get install containernetworking-plugins)" : `${cniExecutable} is not built (node scripts/build-cni.mjs)`}\n`,
    );
    return 3;
  }
  const directory = mkdtempSync(join(tmpdir(), "sedge-bench-cni-"));
  using host = new Namespace("host");
  execFileSync("ip", ["-n", host.name, "link", "set", "lo", "up"]);
  // As the agent sets it at its start.
  inNetns(host.path, () => {
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
    writeFileSync("/proc/sys/net/ipv6/conf/all/forwarding", "1");
  });
  const agent = spawn(
    "nsenter",
    [
      `--net=${host.path}`,
      process.execPath,
      AGENT,
      JSON.stringify({ directory, pools: ["10.65.0.0/16"], blockSize: { v4: 26, v6: 122 }, hasKernel: true, cooldownMs: 0, isApiInMemory: true }),
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  if (agent.stdout !== null) for await (const line of createInterface({ input: agent.stdout })) if (line === "ready") break;
  const ipam = { type: "host-local", ranges: [[{ subnet: "10.66.0.0/16" }]], routes: [{ dst: "0.0.0.0/0" }], dataDir: join(directory, "host-local") };
  const plugins = {
    sedge: {
      executable: cniExecutable,
      path: "/",
      config: { cniVersion: "1.0.0", name: "bench", type: "sedge-cni", socket: join(directory, "agent.sock"), queueDir: join(directory, "queue") },
    },
    reference: {
      executable: join(reference, "ptp"),
      path: reference,
      config: { cniVersion: "1.0.0", name: "reference", type: "ptp", ipMasq: false, mtu: 1500, ipam },
    },
  } satisfies Record<string, Plugin>;
  const times = { sedge: { add: [] as number[], del: [] as number[] }, reference: { add: [] as number[], del: [] as number[] } };
  const together = { sedge: 0, reference: 0 };
  try {
    // Taken in turns, so that what else the machine does meets both.
    for (let round = 0; round < rounds + WARM_UP; round++) {
      for (const name of ["sedge", "reference"] as const) {
        using pod = new Namespace("pod");
        const add = call(plugins[name], host, "ADD", `${name}${round}`, pod.path);
        const del = call(plugins[name], host, "DEL", `${name}${round}`, pod.path);
        if (round < WARM_UP) continue;
        times[name].add.push(add);
        times[name].del.push(del);
      }
    }
    for (const name of ["sedge", "reference"] as const) {
      const namespaces = Array.from({ length: parallel }, () => new Namespace("pod"));
      const pods = namespaces.map(({ path }, i) => ({ id: `${name}p${i}`, netns: path }));
      together[name] = await callAll(plugins[name], host, "ADD", pods);
      await callAll(plugins[name], host, "DEL", pods);
      for (const namespace of namespaces) namespace[Symbol.dispose]();
    }
  } finally {
    const ended = once(agent, "exit");
    agent.kill("SIGTERM");
    await ended;
    rmSync(directory, { recursive: true, force: true });
  }
  const figures = (values: readonly number[]): object => ({ p50: rounded(quantile(values, 0.5)), p99: rounded(quantile(values, 0.99)) });
  const result = {
    scenario: "cni",
    machine: `${cpus().length} x ${cpus()[0]?.model ?? "?"}`,
    rounds,
    addMs: {
      sedge: figures(times.sedge.add),
      reference: figures(times.reference.add),
      ratio: rounded(quantile(times.sedge.add, 0.5) / quantile(times.reference.add, 0.5)),
    },
    delMs: {
      sedge: figures(times.sedge.del),
      reference: figures(times.reference.del),
      ratio: rounded(quantile(times.sedge.del, 0.5) / quantile(times.reference.del, 0.5)),
    },
    parallel: {
      pods: parallel,
      sedgeMs: rounded(together.sedge),
      referenceMs: rounded(together.reference),
      ratio: rounded(together.sedge / together.reference),
    },
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  return 0;
}

process.exitCode = await main();
