/**
 * One member more or less of a network set, from the write to the API until a node's kernel has it, by what the members are and how many: `sedge bench
 * set-change`. Needs root (exit code 1 without). One JSON line each; `ratio` is the median to that of the smallest size: flat is 1.
 *
 * API, fan-out server and agent are processes; the set is a selector over GlobalNetworkSets of 500 networks each, of which one object is written for each change.
 * The kernel's own notification tells when it has it. Bytes are those that the server sent to the agent, heartbeats among them.
 */
import { readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { NftDriver } from "../../agent/drivers/nftables/driver.ts";
import { TABLE } from "../../agent/plan/names.ts";
import { StartError } from "../../src/runtime/start-error.ts";
import { benchSettings } from "../settings.ts";
import { BenchCluster } from "./cluster.ts";

const SIZES = [1_000, 10_000, 100_000];
const NETS_AN_OBJECT = 500;
const CHANGES = 100;
const WARM_UP = 10;
/** Behind each change, so that the next is not one with it. */
const REST_MS = 40;
const DEADLINE_MS = 120_000;
const CLOCK_TICK_US = 10_000;

interface Kind {
  readonly name: string;
  readonly net: (i: number) => string;
}

/** A /24 for each. */
const block = (i: number): string => `${11 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
const KINDS: readonly Kind[] = [
  { name: "addresses", net: (i) => `${block(i)}.1/32` },
  { name: "prefixes of eight lengths", net: (i) => `${block(i)}.0/${24 + (i % 8)}` },
];

/** CPU time that a process has used, and what it holds in memory. */
function usage(pid: number): { readonly cpuUs: number; readonly rssMb: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  const [, resident = "0"] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ");
  return { cpuUs: (Number(fields[11]) + Number(fields[12])) * CLOCK_TICK_US, rssMb: Math.round((Number(resident) * 4_096) / 1e6) };
}

/** Resolves when the kernel has so many members in all. */
async function untilHeld(cluster: BenchCluster, count: number): Promise<void> {
  using nft = NftDriver.open({ netns: cluster.netns });
  const began = performance.now();
  for (;;) {
    let held = 0;
    for (const [name, { elements }] of (await nft.readTable(TABLE))?.sets ?? []) if (/^(?:set|nets)\//.test(name)) held += elements.length;
    if (held === count) return;
    if (performance.now() - began > DEADLINE_MS) throw new Error(`the kernel has ${held} members of ${count} after ${DEADLINE_MS} ms`);
    await sleep(REST_MS * 5);
  }
}

async function writeNets(cluster: BenchCluster, number: number, nets: readonly string[]): Promise<void> {
  await cluster.put("GlobalNetworkSet", `nets-${number}`, { list: "denied" }, { nets });
}

interface Spent {
  readonly bytes: number;
  readonly server: ReturnType<typeof usage>;
  readonly agent: ReturnType<typeof usage>;
}

async function spent(cluster: BenchCluster): Promise<Spent> {
  return { bytes: await cluster.bytesSent(), server: usage(cluster.pids.fanout), agent: usage(cluster.pids.agent) };
}

async function measure(cluster: BenchCluster, { net }: Kind): Promise<Readonly<Record<string, number>> & { readonly medianMs: number }> {
  using nft = NftDriver.open({ netns: cluster.netns });
  const stop = new AbortController();
  let heard: () => void = () => undefined;
  const watching = nft.watch(TABLE, () => heard(), stop.signal);
  const nets = Array.from({ length: NETS_AN_OBJECT }, (_, i) => net(i));
  const times: number[] = [];
  let before = await spent(cluster);
  for (let i = 0; i < WARM_UP + CHANGES; i++) {
    if (i === WARM_UP) before = await spent(cluster);
    const isInKernel = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`a change did not reach the kernel within ${DEADLINE_MS} ms`)), DEADLINE_MS);
      heard = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    const began = performance.now();
    await Promise.all([writeNets(cluster, 0, i % 2 === 0 ? nets.slice(1) : nets), isInKernel]);
    if (i >= WARM_UP) times.push(performance.now() - began);
    await sleep(REST_MS);
  }
  const after = await spent(cluster);
  stop.abort();
  await watching;
  times.sort((a, b) => a - b);
  const at = (share: number): number => Math.round((times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0) * 10) / 10;
  return {
    medianMs: at(0.5),
    p99Ms: at(0.99),
    bytes: Math.round((after.bytes - before.bytes) / CHANGES),
    serverCpuUs: Math.round((after.server.cpuUs - before.server.cpuUs) / CHANGES),
    agentCpuUs: Math.round((after.agent.cpuUs - before.agent.cpuUs) / CHANGES),
    serverRssMb: after.server.rssMb,
    agentRssMb: after.agent.rssMb,
  };
}

async function measureAll(kind: Kind, loadAverage: number): Promise<void> {
  await using cluster = await BenchCluster.start();
  const ingress = [{ action: "Deny", source: { selector: "list == 'denied'" } }, { action: "Allow" }];
  await cluster.put("GlobalNetworkPolicy", "denied", {}, { selector: "app == 'web'", types: ["Ingress"], ingress });
  let smallest: number | undefined;
  let written = 0;
  for (const size of SIZES) {
    for (; written < size; written += NETS_AN_OBJECT) {
      const first = written;
      const nets = Array.from({ length: NETS_AN_OBJECT }, (_, i) => kind.net(first + i));
      await writeNets(cluster, first / NETS_AN_OBJECT, nets);
    }
    await untilHeld(cluster, size);
    const result = await measure(cluster, kind);
    smallest ??= result.medianMs;
    const ratio = Math.round((result.medianMs / smallest) * 10) / 10;
    process.stdout.write(`${JSON.stringify({ bench: "set-change", loadAverage, kind: kind.name, size, ...result, ratio })}\n`);
  }
}

export async function main(argv: readonly string[]): Promise<number> {
  if (benchSettings(z.strictObject({}), { argv, usage: { name: "set-change" } }) === undefined) return 0;
  if (process.getuid?.() !== 0) throw new StartError("it makes network namespaces and programs a kernel in them: run it as root");
  const [loadAverage = 0] = loadavg();
  for (const kind of KINDS) await measureAll(kind, loadAverage);
  return 0;
}
