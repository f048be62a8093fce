/**
 * Memory of one server while a tenth of its agents are stuck: `node --expose-gc bench/stuck/main.ts [--agents 1000] [--seconds 60] [--rate 50] [--delivery http2]`.
 *
 * The stuck agents' process is stopped by SIGSTOP, so that their kernels' buffers fill and nothing is read; the others get every change. One JSON line: memory before,
 * while and after, what is in flight and dirty, and whether all were level once the stopped process went on. Exit 1 when a bound did not hold.
 */
import { fork } from "node:child_process";
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { Registry } from "prom-client";
import { DEFAULT_DELIVERY, DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { FanoutServer } from "../../fanout/server.ts";
import { SESSION_LIMITS } from "../../fanout/session/session.ts";
import { Compute } from "../../src/compute/compute.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { createLogger } from "../../src/runtime/log.ts";
import { Cluster } from "../fanout/cluster.ts";

const { values } = parseArgs({
  options: {
    agents: { type: "string", default: "1000" },
    seconds: { type: "string", default: "60" },
    rate: { type: "string", default: "50" },
    delivery: { type: "string", default: DEFAULT_DELIVERY },
  },
});
const agents = Number(values.agents);
const seconds = Number(values.seconds);
const rate = Number(values.rate);
const stuckCount = Math.floor(agents / 10);
/** An agent that has gone on takes what waits for it within this time (ms). */
const LEVEL_TIMEOUT_MS = 60_000;

const refuse = (): Promise<never> => Promise.reject(new Error("the bench has no API"));
const server = new FanoutServer({
  serverName: "bench",
  version: "bench",
  clusterUid: "00000000-0000-4000-8000-000000000000",
  listen: [{ host: "127.0.0.1", port: 0, tls: undefined }],
  compute: new Compute(),
  store: { read: refuse, create: refuse, update: refuse, delete: refuse },
  clock: systemClock,
  log: createLogger({ level: "warn", program: "bench-stuck" }),
  registry: new Registry(),
  // A stopped process answers no ping either: it must not be cut for that here.
  settings: { delivery: DELIVERY_KINDS.find((kind) => kind === values.delivery) ?? DEFAULT_DELIVERY, keepaliveMs: 3_600_000 },
  upstreamAgeMs: () => 0,
});

async function until(isTrue: () => boolean, what: string): Promise<void> {
  for (const end = performance.now() + LEVEL_TIMEOUT_MS; !isTrue(); await systemClock.sleep(20))
    if (performance.now() > end) throw new Error(`not ${what} in time`);
}

function memory(): { readonly rssMb: number; readonly heapMb: number; readonly buffersMb: number } {
  globalThis.gc?.();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return { rssMb: Math.round(rss / 1e6), heapMb: Math.round(heapUsed / 1e6), buffersMb: Math.round(arrayBuffers / 1e6) };
}

await server.listen();
const stopping = new AbortController();
const running = server.run(stopping.signal);
const cluster = new Cluster({ agents, nodes: agents, podsPerNode: 5, policies: Math.min(200, Math.ceil(agents / 5)), seed: 1 });
server.sink([...cluster.initial()]);
await until(() => server.engine.isInSync, "in sync");
const port = Number(server.addresses[0]?.address.split(":").at(-1));
const start = async (first: number, count: number): Promise<ReturnType<typeof fork>> => {
  const child = fork(new URL("agents-process.ts", import.meta.url), [String(port), String(first), String(count)]);
  await new Promise<void>((resolve, reject) =>
    child.on("message", (message: { live?: number; ended?: string }) => (message.live === undefined ? reject(new Error(message.ended)) : resolve())),
  );
  return child;
};
const stuck = await start(0, stuckCount);
const well = await start(stuckCount, agents - stuckCount);
const samples: ReturnType<typeof memory>[] = [memory()];
stuck.kill("SIGSTOP");
let mostInFlight = 0;
let mostDirty = 0;
let worstBehind = 0;
const began = performance.now();
for (let change = 0; performance.now() - began < seconds * 1000; change++) {
  server.sink([...cluster.change(change % 2 === 0 ? "broadcast" : "scoped").events]);
  await systemClock.sleep(1000 / rate);
  mostInFlight = Math.max(mostInFlight, server.sessions.bytesInFlight);
  if (change % rate !== 0) continue;
  samples.push(memory());
  for (const session of server.sessions.clients) mostDirty = Math.max(mostDirty, session.dirtyKeys);
}
await until(() => [...server.sessions.clients].filter((session) => session.isLevel).length >= agents - stuckCount, "level but for the stuck");
worstBehind = [...server.sessions.clients].filter((session) => !session.isLevel).length;
const during = memory();
stuck.kill("SIGCONT");
const resumed = performance.now();
await until(() => [...server.sessions.clients].every((session) => session.isLevel), "level once they went on");
const levelAfterMs = Math.round(performance.now() - resumed);
const after = memory();
const bound = SESSION_LIMITS.maxTotalBytesInFlight + stuckCount * (SESSION_LIMITS.maxBytesInFlight + SESSION_LIMITS.partBytes);
const failures = [
  ...(server.sessions.clients.size === agents ? [] : [`${agents - server.sessions.clients.size} sessions were lost`]),
  ...(mostInFlight <= bound ? [] : [`${mostInFlight} bytes in flight, at most ${bound} are allowed`]),
];
process.stdout.write(
  `${JSON.stringify({
    bench: "stuck",
    machine: { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, loadAverage: Math.round((loadavg()[0] ?? 0) * 10) / 10 },
    delivery: values.delivery,
    agents,
    stuck: stuckCount,
    seconds,
    changesPerSecond: rate,
    memory: { before: samples[0], most: Math.max(...samples.map(({ rssMb }) => rssMb)), during, after },
    rssMbByTime: samples.filter((_, i) => i % Math.ceil(samples.length / 12) === 0).map(({ rssMb }) => rssMb),
    mostInFlightBytes: mostInFlight,
    mostDirtyKeys: mostDirty,
    behindBeforeGoingOn: worstBehind,
    levelAfterMs,
    packed: server.sessions.packed.counts,
    failures,
  })}\n`,
);
well.disconnect();
stuck.disconnect();
stopping.abort();
await running.catch(() => undefined);
process.exit(failures.length === 0 ? 0 : 1);
