/**
 * Memory of one server while a tenth of its agents are stuck: `sedge bench stuck [--agents 1000] [--minutes 10 | --seconds N] [--rate 50] [--delivery http2] [--out DIR]`.
 *
 * The stuck agents' process is stopped by SIGSTOP, so that their kernels' buffers fill and nothing is read; the others get every change. One JSON line: memory before,
 * while and after, what is in flight and dirty, and whether all were level once the stopped process went on; beside it a graph of the memory. Exit 1 when a bound
 * did not hold, or when what the process holds still grew in the second half of the run.
 */
import { fork } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Registry } from "prom-client";
import { z } from "zod";
import { DEFAULT_DELIVERY, DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { FanoutServer } from "../../fanout/server.ts";
import { SESSION_LIMITS } from "../../fanout/session/session.ts";
import { Compute } from "../../src/compute/compute.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { createLogger } from "../../src/runtime/log.ts";
import { Cluster } from "../fanout/cluster.ts";
import { commitOf, machine } from "../fanout/result.ts";
import { drawLines, page } from "../fanout/svg.ts";
import { benchSettings } from "../settings.ts";
import { judge } from "./judge.ts";

const MOST_SAMPLES = 600;
/** An agent that has gone on takes what waits for it within this time (ms). */
const LEVEL_TIMEOUT_MS = 60_000;

const schema = z.strictObject({
  agents: z.number().int().min(10).max(25_000).default(1_000).describe("Simulated agents; a tenth of them are stuck"),
  minutes: z.number().min(0.01).max(1_440).default(10).describe("How long they are stuck"),
  seconds: z.number().min(1).max(86_400).optional().describe("The same in seconds; --minutes does not count then"),
  rate: z.number().min(0.1).max(10_000).default(50).describe("Changes per second, every second one for all agents"),
  delivery: z
    .enum(DELIVERY_KINDS)
    .default(DEFAULT_DELIVERY)
    .describe(`What carries the record stream: ${DELIVERY_KINDS.join(" or ")}`),
  out: z.string().min(1).default("bench/results").describe("Directory of the line and the graph"),
});

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

async function until(isTrue: () => boolean, what: string): Promise<void> {
  for (const end = performance.now() + LEVEL_TIMEOUT_MS; !isTrue(); await systemClock.sleep(20))
    if (performance.now() > end) throw new Error(`not ${what} in time`);
}

function memory(): { readonly rssMb: number; readonly heapMb: number; readonly buffersMb: number } {
  collectGarbage();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return { rssMb: Math.round(rss / 1e6), heapMb: Math.round(heapUsed / 1e6), buffersMb: Math.round(arrayBuffers / 1e6) };
}

export async function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(schema, { argv, usage: { name: "stuck" } });
  if (settings === undefined) return 0;
  const { agents, rate, delivery, out, minutes } = settings.config;
  const { seconds = minutes * 60 } = settings.config;
  // Often enough for a line through a short run; garbage is collected for each, which costs the server time.
  const sampleMs = Math.max(500, (seconds * 1_000) / MOST_SAMPLES);
  const stuckCount = Math.floor(agents / 10);

  const machineBefore = machine();
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
    settings: { delivery, keepaliveMs: 3_600_000 },
    upstreamAgeMs: () => 0,
  });

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
  const samples: (ReturnType<typeof memory> & { readonly seconds: number })[] = [{ seconds: 0, ...memory() }];
  stuck.kill("SIGSTOP");
  let mostInFlight = 0;
  let mostDirty = 0;
  const began = performance.now();
  for (let change = 0; performance.now() - began < seconds * 1000; change++) {
    server.sink([...cluster.change(change % 2 === 0 ? "broadcast" : "scoped").events]);
    await systemClock.sleep(1000 / rate);
    mostInFlight = Math.max(mostInFlight, server.sessions.bytesInFlight);
    const elapsed = performance.now() - began;
    if (elapsed < samples.length * sampleMs) continue;
    samples.push({ seconds: elapsed / 1_000, ...memory() });
    for (const session of server.sessions.clients) mostDirty = Math.max(mostDirty, session.dirtyKeys);
  }
  await until(() => [...server.sessions.clients].filter((session) => session.isLevel).length >= agents - stuckCount, "level but for the stuck");
  const behindBeforeGoingOn = [...server.sessions.clients].filter((session) => !session.isLevel).length;
  const during = memory();
  stuck.kill("SIGCONT");
  const resumed = performance.now();
  await until(() => [...server.sessions.clients].every((session) => session.isLevel), "level once they went on");
  const levelAfterMs = Math.round(performance.now() - resumed);
  const after = memory();
  const bound = SESSION_LIMITS.maxTotalBytesInFlight + stuckCount * (SESSION_LIMITS.maxBytesInFlight + SESSION_LIMITS.partBytes);
  const held = judge(samples.map(({ seconds: at, heapMb, buffersMb }) => ({ seconds: at, mb: heapMb + buffersMb })));
  const failures = [
    ...(held.isBounded === false ? [`the floor of what the process holds grew by ${held.grownMb} MB in the second half of the run`] : []),
    ...(server.sessions.clients.size === agents ? [] : [`${agents - server.sessions.clients.size} sessions were lost`]),
    ...(mostInFlight <= bound ? [] : [`${mostInFlight} bytes in flight, at most ${bound} are allowed`]),
  ];
  const line = `${JSON.stringify({
    bench: "stuck",
    commit: commitOf(),
    machine: machineBefore,
    delivery,
    agents,
    stuck: stuckCount,
    seconds,
    changesPerSecond: rate,
    memory: { before: samples[0], most: Math.max(...samples.map(({ rssMb }) => rssMb)), during, after },
    held,
    samples: samples.map(({ seconds: at, rssMb, heapMb, buffersMb }) => [Math.round(at), rssMb, heapMb, buffersMb]),
    mostInFlightBytes: mostInFlight,
    mostDirtyKeys: mostDirty,
    behindBeforeGoingOn,
    levelAfterMs,
    packed: server.sessions.packed.counts,
    failures,
  })}\n`;
  process.stdout.write(line);
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, `stuck-${agents}.jsonl`), line);
  const drawn = drawLines(
    {
      title: `Memory of a server with ${agents} agents of which ${stuckCount} read nothing, ${rate} changes a second (MB)`,
      xUnit: "min",
      lines: [
        { name: "resident", color: "#1f6f8b", points: samples.map(({ seconds: at, rssMb }) => ({ x: at / 60, y: rssMb })) },
        {
          name: "held (heap, buffers)",
          color: "#d9a441",
          points: samples.map(({ seconds: at, heapMb, buffersMb }) => ({ x: at / 60, y: heapMb + buffersMb })),
        },
      ],
    },
    30,
  );
  writeFileSync(join(out, `stuck-${agents}.svg`), page([drawn.svg], drawn.end + 10));
  well.disconnect();
  stuck.disconnect();
  stopping.abort();
  await running.catch(() => undefined);
  return failures.length === 0 ? 0 : 1;
}
