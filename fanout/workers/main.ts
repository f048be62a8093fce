/**
 * One worker of `sedge fanout --workers`: a relay in a process of its own whose parent is the main process. Only wiring; settings come over the channel.
 *
 * Signals are the main process's to act on (a terminal sends them to all). When the main process is gone the worker drains and ends: it has nobody to tell
 * what its nodes say.
 */
import { Registry } from "prom-client";
import { systemClock } from "../../src/runtime/clock.ts";
import { createLogger, type Logger, setLogLevel } from "../../src/runtime/log.ts";
import { StartError } from "../../src/runtime/start-error.ts";
import { FanoutServer } from "../server.ts";
import type { FromWorker, MetricJson, ToWorker, WorkerSettings } from "./messages.ts";

const stopping = new AbortController();
const registry = new Registry();
let server: FanoutServer | undefined;
let logger: Logger | undefined;
let number = 0;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
process.on("disconnect", () => stopping.abort());
process.on("message", (message: ToWorker) => {
  switch (message.kind) {
    case "start":
      void start(message.settings);
      return;
    case "members":
      for (const event of message.events) server?.members.apply(event);
      return;
    case "stop":
      stopping.abort();
      return;
    case "collect":
      void collect(message.question);
      return;
    case "rebalance":
      if (server !== undefined) send({ kind: "rebalanced", question: message.question, rebalance: server.rebalance(message.wish) });
      return;
    case "log-level":
      logger?.warn({ worker: number, level: message.level }, "an operator changes the log level");
      if (logger !== undefined) setLogLevel(logger, message.level);
      return;
  }
});

async function start({ worker, serverName, version, logLevel, parent, listen, settings }: WorkerSettings): Promise<void> {
  number = worker;
  logger = createLogger({ level: logLevel, program: "fanout" });
  const log = logger.child({ worker });
  try {
    server = new FanoutServer({
      serverName: `${serverName}/${worker}`,
      memberName: serverName,
      version,
      listen,
      relay: { parents: [parent], tls: undefined, isForAll: false, ownQuestions: "none" },
      clock: systemClock,
      log,
      registry,
      settings,
      onReport: (report) => send({ kind: "report", report }),
    });
    await server.listen();
    send({ kind: "listening", ports: server.addresses.map(({ address }) => Number(address.slice(address.lastIndexOf(":") + 1))) });
    await server.run(stopping.signal);
    process.exitCode = process.connected ? 0 : 1;
  } catch (error) {
    if (error instanceof StartError) send({ kind: "failed", message: error.message });
    log.fatal({ err: error }, "stopped by a failure");
    process.exitCode = 1;
  }
  if (process.connected) process.disconnect?.();
}

async function collect(question: number): Promise<void> {
  const metrics = (await registry.getMetricsAsJSON()) as unknown as readonly MetricJson[];
  send({ kind: "metrics", question, metrics });
}

function send(message: FromWorker): void {
  // The main process may just have gone: `disconnect` follows.
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}
