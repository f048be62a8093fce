/** The process of a relay: the real server with another one above it instead of an API. CPU and memory are this process's alone. */
import { Registry } from "prom-client";
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import { FanoutServer } from "../../fanout/server.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { createLogger } from "../../src/runtime/log.ts";
import { unixUs } from "../fanout/latency.ts";
import { serveCalls } from "../fanout/worker.ts";

const log = createLogger({ level: "warn", program: "bench-relay" });
const IN_SYNC_TIMEOUT_MS = 60_000;
let server: FanoutServer | undefined;

/** Listens, and is in sync with a parent. */
async function start(options: {
  readonly name: string;
  readonly parents: readonly string[];
  readonly delivery: DeliveryKind;
}): Promise<{ readonly port: number }> {
  const started = new FanoutServer({
    serverName: options.name,
    version: "bench",
    listen: [{ host: "127.0.0.1", port: 0, tls: undefined }],
    relay: { parents: options.parents, tls: undefined, isForAll: false, ownQuestions: "about-itself" },
    clock: { ...systemClock, wallTime: () => unixUs() / 1000 },
    log,
    registry: new Registry(),
    settings: { delivery: options.delivery },
  });
  server = started;
  await started.listen();
  started.run(new AbortController().signal).catch((error: unknown) => {
    log.fatal({ err: error }, "the relay failed");
    process.exit(1);
  });
  for (const end = performance.now() + IN_SYNC_TIMEOUT_MS; !started.isInSync; await systemClock.sleep(10))
    if (performance.now() > end) throw new Error("the relay is not in sync with its parent");
  return { port: Number(started.addresses[0]?.address.split(":").at(-1)) };
}

function usage(): { readonly cpuUs: number; readonly clients: number; readonly levelClients: number; readonly rssBytes: number } {
  const { user, system } = process.cpuUsage();
  const clients = [...(server?.sessions.clients ?? [])];
  return { cpuUs: user + system, clients: clients.length, levelClients: clients.filter(({ isLevel }) => isLevel).length, rssBytes: process.memoryUsage.rss() };
}

const methods = { start, usage };
export type RelayMethods = typeof methods;

serveCalls(methods);
