/**
 * Time of a CNI ADD and DEL, from the start of the executable to its exit: ours (with an agent that has a journal on disk and makes real interfaces)
 * beside the reference plugins ptp and host-local, in the same run, in namespaces of the bench's own.
 *
 *   sedge bench cni [--rounds 40] [--parallel 100]      as root
 *
 * The policy's part of an ADD is pretended (one route, no ruleset): it is the reconcile loop's and measured there. Prints one JSON line: medians and p99 in
 * ms, processor time of one command (the executable's and its children's, and the agent's), and ratios to the reference. Processor time is what a machine that
 * does other things besides still tells. Exit code 1: not root, or no reference plugins (Debian's containernetworking-plugins is installed when it is missing).
 */
import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { inNetns } from "../../agent/drivers/netlink/libc.ts";
import { StartError } from "../../src/runtime/start-error.ts";
import { benchSettings } from "../settings.ts";

const REFERENCE_DIRS = ["/opt/cni/bin", "/usr/lib/cni"];
const cniExecutable = new URL("../../dist/cni/sedge-cni", import.meta.url).pathname;
const AGENT = new URL("../../test/fakes/cni-agent.ts", import.meta.url).pathname;
const WARM_UP = 5;
const NAMES = ["sedge", "reference"] as const;

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

/**
 * All at once, ms until the last has ended. A shell starts them, as fast as a runtime written in Go or C does: this process would take longer to start one
 * than it runs. Throws with what the failed ones printed.
 */
async function callAll(
  plugin: Plugin,
  { host, directory }: { readonly host: Namespace; readonly directory: string },
  command: string,
  pods: readonly { readonly id: string; readonly netns: string }[],
): Promise<number> {
  const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  const configFile = join(directory, "config.json");
  writeFileSync(configFile, JSON.stringify(plugin.config));
  const lines = pods.map(({ id, netns }) => {
    const variables = Object.entries(environment(plugin, command, id, netns)).map(([name, value]) => `${name}=${quoted(value)}`);
    return `{ ${variables.join(" ")} ${plugin.executable} <${configFile} >${directory}/${id}.out 2>&1 || echo ${id} >>${directory}/failed; } &`;
  });
  const script = join(directory, "all.sh");
  writeFileSync(script, `rm -f ${directory}/failed\n${lines.join("\n")}\nwait\n[ ! -e ${directory}/failed ]\n`);
  const started = performance.now();
  const shell = inNetns(host.path, () => spawn("/bin/sh", [script], { stdio: "inherit" }));
  const [code] = (await once(shell, "close")) as [number | null];
  const elapsed = performance.now() - started;
  if (code !== 0) {
    const failed = readFileSync(join(directory, "failed"), "utf8").trim().split("\n");
    throw new Error(`${plugin.executable} ${command} failed ${failed.length} times: ${readFileSync(join(directory, `${failed[0] ?? ""}.out`), "utf8")}`);
  }
  return elapsed;
}

/** Milliseconds of processor time: of children of this process that have ended, and of the agent; in steps of 10 ms, so only sums tell. */
function cpuMs(agentPid: number | undefined): number {
  const ticks = (path: string, fields: readonly [number, number]): number => {
    const rest = readFileSync(path, "latin1").split(") ").at(-1)?.split(" ") ?? [];
    return Number(rest[fields[0]]) + Number(rest[fields[1]]);
  };
  // proc(5): utime and stime are fields 14 and 15, those of waited-for children 16 and 17; the command's end is behind field 2.
  return 10 * (ticks("/proc/self/stat", [13, 14]) + (agentPid === undefined ? 0 : ticks(`/proc/${agentPid}/stat`, [11, 12])));
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

const rounded = (value: number): number => Math.round(value * 100) / 100;

const schema = z.strictObject({
  rounds: z.number().int().min(1).max(10_000).default(40).describe("ADDs one after the other, and DELs"),
  parallel: z.number().int().min(1).max(1_000).default(100).describe("ADDs at once"),
});

export async function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(schema, { argv, usage: { name: "cni" } });
  if (settings === undefined) return 0;
  const { rounds, parallel } = settings.config;
  if (process.getuid?.() !== 0) throw new StartError("it makes network namespaces and interfaces: run it as root");
  if (!existsSync(cniExecutable)) throw new StartError(`${cniExecutable} is not built: node scripts/build-cni.mjs`);
  const reference = referencePlugins();
  if (reference === undefined) throw new StartError("the reference plugins are not there: apt-get install containernetworking-plugins");
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
  const cpu = { sedge: { ADD: 0, DEL: 0, together: 0 }, reference: { ADD: 0, DEL: 0, together: 0 } };
  // nsenter becomes the agent.
  const agentOf = { sedge: agent.pid, reference: undefined };
  try {
    // Taken in turns, so that what else the machine does meets both. Namespaces are made before and removed after: the kernel takes one down over tens of
    // milliseconds, with the lock of all interfaces held, and what is measured next would wait for that.
    const spaces = { sedge: [] as Namespace[], reference: [] as Namespace[] };
    for (let round = 0; round < rounds + WARM_UP; round++) for (const name of NAMES) spaces[name].push(new Namespace("pod"));
    for (const command of ["ADD", "DEL"] as const) {
      for (let round = 0; round < rounds + WARM_UP; round++) {
        for (const name of NAMES) {
          const cpuBefore = cpuMs(agentOf[name]);
          const elapsed = call(plugins[name], host, command, `${name}${round}`, spaces[name][round]?.path ?? "");
          if (round < WARM_UP) continue;
          times[name][command === "ADD" ? "add" : "del"].push(elapsed);
          cpu[name][command] += cpuMs(agentOf[name]) - cpuBefore;
        }
      }
    }
    for (const name of NAMES) for (const space of spaces[name]) space[Symbol.dispose]();
    for (const name of NAMES) {
      const namespaces = Array.from({ length: parallel }, () => new Namespace("pod"));
      const pods = namespaces.map(({ path }, i) => ({ id: `${name}p${i}`, netns: path }));
      const cpuBefore = cpuMs(agentOf[name]);
      together[name] = await callAll(plugins[name], { host, directory }, "ADD", pods);
      cpu[name].together = cpuMs(agentOf[name]) - cpuBefore;
      await callAll(plugins[name], { host, directory }, "DEL", pods);
      for (const namespace of namespaces) namespace[Symbol.dispose]();
    }
  } finally {
    const ended = once(agent, "exit");
    agent.kill("SIGTERM");
    await ended;
    rmSync(directory, { recursive: true, force: true });
  }
  const figures = (values: readonly number[]): object => ({ p50: rounded(quantile(values, 0.5)), p99: rounded(quantile(values, 0.99)) });
  const cpuFigures = (sedge: number, reference: number): object => ({
    sedge: rounded(sedge),
    reference: rounded(reference),
    ratio: rounded(sedge / reference),
  });
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
    cpuMs: {
      add: cpuFigures(cpu.sedge.ADD / rounds, cpu.reference.ADD / rounds),
      del: cpuFigures(cpu.sedge.DEL / rounds, cpu.reference.DEL / rounds),
      parallelAdd: cpuFigures(cpu.sedge.together / parallel, cpu.reference.together / parallel),
    },
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  return 0;
}
