/**
 * Time of a CNI ADD and DEL, from the start of the executable to its exit: ours (with an agent that has a journal on disk and makes real interfaces)
 * beside the reference plugins ptp and host-local, in the same run, in namespaces of the bench's own.
 *
 *   sedge bench cni [--rounds 40] [--parallel 100] [--repeats 3]      as root
 *
 * An ADD of ours returns when the pod's routes and policy are in the kernel: the reconcile loop runs, with a view that allows everything.
 * Prints one JSON line: medians and p99 in ms, processor time of one command (the executable's and its children's, and the agent's), and ratios to the
 * reference. Processor time is what a machine that does other things besides still tells. Exit code 1: not root, or no reference plugins (Debian's
 * containernetworking-plugins is installed when it is missing).
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { inNetns } from "../../agent/drivers/netlink/libc.ts";
import { StartError } from "../../src/runtime/start-error.ts";
import { benchSettings } from "../settings.ts";
import { allAtOnce, type Call, oneAfterTheOther, type Plugin, type Took } from "./shell.ts";

const REFERENCE_DIRS = ["/opt/cni/bin", "/usr/lib/cni"];
const cniExecutable = new URL("../../dist/cni/sedge-cni", import.meta.url).pathname;
const AGENT = new URL("../../test/fakes/cni-agent.ts", import.meta.url).pathname;
const WARM_UP = 5;
const NAMES = ["sedge", "reference"] as const;
type Name = (typeof NAMES)[number];
type Measures = Readonly<Record<Name, Took[]>>;

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

function referencePlugins(): string | undefined {
  const find = (): string | undefined => REFERENCE_DIRS.find((dir) => ["ptp", "host-local"].every((name) => existsSync(join(dir, name))));
  if (find() === undefined) {
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    spawnSync("apt-get", ["install", "-y", "-q", "--no-install-recommends", "containernetworking-plugins"], { stdio: ["ignore", 2, 2], env });
  }
  return find();
}

/** Milliseconds of processor time that all threads of a process have had. */
function cpuMsOf(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  // sched-stats.rst: time on the processor in ns is the first field.
  return threads.reduce((sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]) / 1e6, 0);
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

function emptyMeasures(): Measures {
  return { sedge: [], reference: [] };
}

function compared(measures: Measures, what: keyof Took): object {
  const figures = (name: Name): { readonly p50: number; readonly p99: number } => {
    const values = measures[name].map((took) => took[what]);
    return { p50: rounded(quantile(values, 0.5)), p99: rounded(quantile(values, 0.99)) };
  };
  const [sedge, reference] = [figures("sedge"), figures("reference")];
  return { sedge, reference, ratio: rounded(sedge.p50 / reference.p50) };
}

const rounded = (value: number): number => Math.round(value * 100) / 100;

const schema = z.strictObject({
  rounds: z.number().int().min(1).max(10_000).default(40).describe("ADDs one after the other, and DELs"),
  parallel: z.number().int().min(1).max(1_000).default(100).describe("ADDs at once"),
  repeats: z.number().int().min(1).max(100).default(3).describe("how often that many at once"),
});

export async function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(schema, { argv, usage: { name: "cni" } });
  if (settings === undefined) return 0;
  const { rounds, parallel, repeats } = settings.config;
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
      JSON.stringify({
        directory,
        pools: ["10.65.0.0/16"],
        blockSize: { v4: 26, v6: 122 },
        hasKernel: true,
        cooldownMs: 0,
        isApiInMemory: true,
        policyFor: [
          ...Array.from({ length: rounds + WARM_UP }, (_, round) => `sedge${round}`),
          ...Array.from({ length: repeats * parallel }, (_, i) => `sedgep${Math.floor(i / parallel)}x${i % parallel}`),
        ],
      }),
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  if (agent.stdout !== null) for await (const line of createInterface({ input: agent.stdout })) if (line === "ready") break;
  const ipam = { type: "host-local", ranges: [[{ subnet: "10.66.0.0/16" }]], routes: [{ dst: "0.0.0.0/0" }], dataDir: join(directory, "host-local") };
  const plugins = {
    sedge: {
      name: "sedge",
      executable: cniExecutable,
      path: "/",
      config: { cniVersion: "1.0.0", name: "bench", type: "sedge-cni", socket: join(directory, "agent.sock"), queueDir: join(directory, "queue") },
    },
    reference: {
      name: "reference",
      executable: join(reference, "ptp"),
      path: reference,
      config: { cniVersion: "1.0.0", name: "reference", type: "ptp", ipMasq: false, mtu: 1500, ipam },
    },
  } as const satisfies Record<Name, Plugin>;
  const place = { directory, host: host.path };
  // nsenter becomes the agent.
  const agentPid = agent.pid ?? 0;
  const measured = { ADD: emptyMeasures(), DEL: emptyMeasures(), together: emptyMeasures() };
  try {
    // First, so that what follows meets an agent that has been at work, as nearly every ADD of a node does.
    for (let repeat = 0; repeat < repeats; repeat++) {
      for (const name of NAMES) {
        const namespaces = Array.from({ length: parallel }, () => new Namespace("pod"));
        const calls = (command: "ADD" | "DEL"): readonly Call[] =>
          namespaces.map(({ path }, i) => ({ plugin: plugins[name], command, id: `${name}p${repeat}x${i}`, netns: path }));
        const agentBefore = cpuMsOf(agentPid);
        const { elapsedMs, cpuMs } = await allAtOnce(place, calls("ADD"));
        const agentCpuMs = name === "sedge" ? cpuMsOf(agentPid) - agentBefore : 0;
        measured.together[name].push({ elapsedMs, cpuMs: (cpuMs + agentCpuMs) / parallel });
        await allAtOnce(place, calls("DEL"));
        for (const namespace of namespaces) namespace[Symbol.dispose]();
      }
    }
    // Taken in turns, so that what else the machine does meets both. Namespaces are made before and removed after: the kernel takes one down over tens of
    // milliseconds, with the lock of all interfaces held, and what is measured next would wait for that.
    const spaces = Array.from({ length: rounds + WARM_UP }, () => ({ sedge: new Namespace("pod"), reference: new Namespace("pod") }));
    for (const command of ["ADD", "DEL"] as const) {
      const calls = spaces.flatMap((pair, round) =>
        NAMES.map((name): Call<Name> => ({ plugin: plugins[name], command, id: `${name}${round}`, netns: pair[name].path })),
      );
      const agentBefore = cpuMsOf(agentPid);
      const took = oneAfterTheOther(place, calls);
      // Of all rounds, the first ones too; the reference has no agent.
      const agentCpuMs = (cpuMsOf(agentPid) - agentBefore) / spaces.length;
      for (const [i, { elapsedMs, cpuMs }] of took.entries()) {
        const name = calls[i]?.plugin.name;
        if (name === undefined || i < WARM_UP * NAMES.length) continue;
        measured[command][name].push({ elapsedMs, cpuMs: cpuMs + (name === "sedge" ? agentCpuMs : 0) });
      }
    }
    for (const pair of spaces) for (const name of NAMES) pair[name][Symbol.dispose]();
  } finally {
    const ended = once(agent, "exit");
    agent.kill("SIGTERM");
    await ended;
    rmSync(directory, { recursive: true, force: true });
  }
  const result = {
    scenario: "cni",
    machine: `${cpus().length} x ${cpus()[0]?.model ?? "?"}`,
    rounds,
    addMs: compared(measured.ADD, "elapsedMs"),
    delMs: compared(measured.DEL, "elapsedMs"),
    parallel: { pods: parallel, repeats, ...compared(measured.together, "elapsedMs") },
    cpuMs: { add: compared(measured.ADD, "cpuMs"), del: compared(measured.DEL, "cpuMs"), parallelAdd: compared(measured.together, "cpuMs") },
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
  return 0;
}
