/**
 * `sedge fanout --workers N`: processes that serve the agents, while the main process watches the API and computes.
 *
 * Each worker is a relay below the main process over a unix socket that only this user can open; all listen on the same port (SO_REUSEPORT), and the kernel
 * spreads connections over them. A worker that ends, or says nothing for too long, is started again with back-off: its agents connect anew, mostly to the
 * others, and resume by digests. Invariant: a worker never outlives the main process by more than its drain.
 * Rejected: worker threads (one crash ends all, one heap limit for all) and `node:cluster` (the main process would accept for all).
 */
import { type ChildProcess, fork } from "node:child_process";
import { AggregatorRegistry, type Counter, type Registry } from "prom-client";
import type { ClusterEvent } from "../../src/model/event.ts";
import { describeKey, keyOf } from "../../src/model/resource.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Report } from "../../src/runtime/health.ts";
import type { Logger, LogLevel } from "../../src/runtime/log.ts";
import { Backoff } from "../../src/runtime/retry.ts";
import { StartError } from "../../src/runtime/start-error.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import type { GrpcListen } from "../delivery/grpc-delivery.ts";
import { registerWorkerMetrics } from "../metrics.ts";
import { type Rebalance, type RebalanceWish, sumOf } from "../tier/rebalancer.ts";
import type { FromWorker, MetricJson, ToWorker, WorkerSettings } from "./messages.ts";

export interface WorkersOptions {
  readonly count: number;
  readonly settings: Omit<WorkerSettings, "worker">;
  readonly clock: Clock;
  readonly log: Logger;
  /** Of the main process. */
  readonly registry: Registry;
  readonly onReport: (report: Report) => void;
}

/** A worker that reports every second and has not for this long hangs. */
const SILENCE_LIMIT_MS = 30_000;
const CHECK_MS = 1_000;
/** A worker that was heard of for longer than this counts as well: when it ends it is started again soon. */
const WELL_AFTER_MS = 30_000;
const ANSWER_TIMEOUT_MS = 2_000;
/** Beyond the drain, until a worker that was asked to stop is killed. */
const STOP_GRACE_MS = 5_000;

type Answer = Extract<FromWorker, { readonly question: number }>;

interface Worker {
  readonly number: number;
  readonly process: ChildProcess;
  heardAt: number;
  report: Report;
}

interface WorkerEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly failure: string | undefined;
  /** From its start until it was heard of for the last time: one that hangs from the start has not lived, however long it took to find out. */
  readonly livedMs: number;
}

export class Workers implements Part {
  readonly name = "workers";
  readonly #options: WorkersOptions;
  readonly #workers = new Map<number, Worker>();
  readonly #questions = new Map<number, (answer: Answer) => void>();
  /** As an operator has set it: workers that start later have it too. */
  #logLevel: LogLevel | undefined;
  readonly #restarts: Counter;
  #listen: readonly GrpcListen[];
  /** By object: what a worker that starts has to know of the servers of the cluster. */
  readonly #members = new Map<string, ClusterEvent>();
  #news: ClusterEvent[] = [];
  #question = 0;
  #isStopping = false;

  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#listen = options.settings.listen;
    this.#restarts = registerWorkerMetrics(options.registry, () => [...this.#workers.values()].filter(({ report }) => report.ready).length);
  }

  /** Where agents connect, once the first worker listens. */
  get listen(): readonly GrpcListen[] {
    return this.#listen;
  }

  /** Process ids by worker, for tests and logs. */
  get pids(): ReadonlyMap<number, number | undefined> {
    return new Map([...this.#workers].map(([number, { process }]) => [number, process.pid]));
  }

  /** An event of the cluster: workers learn what they tell agents of the servers that there are. */
  note(event: ClusterEvent): void {
    const { service } = this.#options.settings.settings;
    if (service === undefined || event.kind === "status" || event.kind === "invalid") return;
    const key = event.kind === "upsert" ? keyOf(event.resource) : event.key;
    if (key.kind !== "Node" && (key.kind !== "EndpointSlice" || key.namespace !== service.namespace)) return;
    if (event.kind === "upsert") this.#members.set(describeKey(key), event);
    else this.#members.delete(describeKey(key));
    if (this.#news.push(event) === 1) setImmediate(() => this.#tellNews());
  }

  async run(signal: AbortSignal): Promise<void> {
    this.#report();
    const controllers = new AbortController();
    const keeping: Promise<void>[] = [];
    const failed: { error?: unknown } = {};
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
      const fail = (error: unknown): void => {
        failed.error ??= error;
        resolve();
      };
      // The first tells which port it was, when any would do.
      const first = this.#keep(1, controllers.signal, () => {
        for (let number = 2; number <= this.#options.count; number++) keeping.push(this.#keep(number, controllers.signal).catch(fail));
      });
      keeping.push(first.catch(fail));
      keeping.push(this.#watch(controllers.signal));
    });
    await stopped;
    this.#isStopping = true;
    this.#report();
    for (const worker of this.#workers.values()) send(worker.process, { kind: "stop" });
    controllers.abort();
    await Promise.all(keeping);
    if (failed.error !== undefined) throw failed.error;
  }

  /** The main process's metrics, and each worker's with the label `worker`. A worker that does not answer in time is left out. */
  async metrics(): Promise<string> {
    const own = (await this.#options.registry.getMetricsAsJSON()) as unknown as readonly MetricJson[];
    const others = await Promise.all([...this.#workers.values()].map((worker) => this.#collect(worker)));
    return AggregatorRegistry.aggregate([own, ...others]).metrics();
  }

  /** All workers ask their agents; one that does not answer in time is left out. */
  async rebalance({ movesPerSecond, isDryRun }: RebalanceWish): Promise<Rebalance> {
    // Together they are one server.
    const wish = { movesPerSecond: movesPerSecond === undefined ? undefined : Math.max(1, movesPerSecond / this.#options.count), isDryRun };
    const answers = await Promise.all([...this.#workers.values()].map((worker) => this.#ask(worker, (question) => ({ kind: "rebalance", question, wish }))));
    return sumOf([{ moving: 0, staying: 0, spanMs: 0 }, ...answers.flatMap((answer) => (answer?.kind === "rebalanced" ? [answer.rebalance] : []))]);
  }

  setLogLevel(level: LogLevel): void {
    this.#logLevel = level;
    for (const { process } of this.#workers.values()) send(process, { kind: "log-level", level });
  }

  get contentType(): string {
    return this.#options.registry.contentType;
  }

  /** Runs one worker after the other until the signal aborts. Rejects with StartError when the first cannot start at all. */
  async #keep(number: number, signal: AbortSignal, onListening?: () => void): Promise<void> {
    const { clock, log } = this.#options;
    const backoff = new Backoff({ initialMs: 200, maxMs: 15_000 });
    let wasListening = false;
    while (!signal.aborted) {
      const {
        code,
        signal: killedBy,
        failure,
        livedMs,
      } = await this.#runOne(number, signal, () => {
        if (!wasListening) onListening?.();
        wasListening = true;
      });
      if (signal.aborted) return;
      if (failure !== undefined && !wasListening) throw new StartError(failure);
      if (livedMs > WELL_AFTER_MS) backoff.reset();
      const delayMs = backoff.next();
      log.warn({ worker: number, code, signal: killedBy, reason: failure, delayMs: Math.round(delayMs) }, "a worker ended: starting it again");
      this.#restarts.inc();
      await clock.sleep(delayMs, signal);
    }
  }

  #runOne(number: number, signal: AbortSignal, onListening: () => void): Promise<WorkerEnd> {
    const { clock, log, settings } = this.#options;
    const child = fork(new URL("./main.ts", import.meta.url), [], { stdio: ["ignore", "inherit", "inherit", "ipc"], serialization: "advanced" });
    const startedAt = clock.now();
    const worker: Worker = { number, process: child, heardAt: startedAt, report: { live: true, ready: false, detail: "starting" } };
    this.#workers.set(number, worker);
    let failure: string | undefined;
    child.on("message", (message: FromWorker) => {
      worker.heardAt = clock.now();
      switch (message.kind) {
        case "listening":
          this.#listen = this.#listen.map((listen, i) => ({ ...listen, port: message.ports[i] ?? listen.port }));
          log.info({ worker: number, pid: child.pid, ports: message.ports }, "a worker listens");
          onListening();
          return;
        case "report":
          worker.report = message.report;
          this.#report();
          return;
        case "metrics":
        case "rebalanced":
          this.#questions.get(message.question)?.(message);
          return;
        case "failed":
          failure = message.message;
          return;
      }
    });
    send(child, { kind: "start", settings: { ...settings, logLevel: this.#logLevel ?? settings.logLevel, worker: number, listen: this.#listen } });
    if (this.#members.size > 0) send(child, { kind: "members", events: [...this.#members.values()] });
    return new Promise((resolve) => {
      const kill = new AbortController();
      const drainMs = settings.settings.drainMs ?? 0;
      const onAbort = (): void => {
        send(child, { kind: "stop" });
        void clock.sleep(drainMs + STOP_GRACE_MS, kill.signal).then(() => {
          if (!kill.signal.aborted) child.kill("SIGKILL");
        });
      };
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort, { once: true });
      let isOver = false;
      const end = (code: number | null, killedBy: NodeJS.Signals | null): void => {
        if (isOver) return;
        isOver = true;
        kill.abort();
        signal.removeEventListener("abort", onAbort);
        this.#workers.delete(number);
        this.#report();
        resolve({ code, signal: killedBy, failure, livedMs: worker.heardAt - startedAt });
      };
      child.on("error", (error) => {
        failure ??= error.message;
        if (child.pid === undefined) end(null, null);
      });
      child.on("exit", end);
    });
  }

  /** Ends workers that hang: they are started again as any that ends. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(CHECK_MS, signal);
      for (const { number, process, heardAt } of this.#workers.values()) {
        if (signal.aborted || clock.now() - heardAt < SILENCE_LIMIT_MS) continue;
        log.error({ worker: number, pid: process.pid }, "a worker hangs: it is ended");
        process.kill("SIGKILL");
      }
    }
  }

  async #collect(worker: Worker): Promise<readonly MetricJson[]> {
    const answer = await this.#ask(worker, (question) => ({ kind: "collect", question }));
    const metrics = answer?.kind === "metrics" ? answer.metrics : [];
    return metrics.map((metric) => ({
      ...metric,
      values: metric.values.map((value) => ({ ...value, labels: { ...value.labels, worker: String(worker.number) } })),
    }));
  }

  /** undefined: no answer in time. */
  async #ask({ process }: Worker, message: (question: number) => ToWorker): Promise<Answer | undefined> {
    const question = ++this.#question;
    const answered = new AbortController();
    try {
      return await new Promise((resolve) => {
        this.#questions.set(question, resolve);
        send(process, message(question));
        void this.#options.clock.sleep(ANSWER_TIMEOUT_MS, answered.signal).then(() => resolve(undefined));
      });
    } finally {
      answered.abort();
      this.#questions.delete(question);
    }
  }

  #tellNews(): void {
    const events = this.#news;
    this.#news = [];
    for (const { process } of this.#workers.values()) send(process, { kind: "members", events });
  }

  #report(): void {
    const { count, onReport } = this.#options;
    const ready = [...this.#workers.values()].filter(({ report }) => report.ready).length;
    onReport({ live: true, ready: ready > 0 && !this.#isStopping, detail: this.#isStopping ? "draining" : `${ready} of ${count} workers serve` });
  }
}

function send(child: ChildProcess, message: ToWorker): void {
  if (child.connected) child.send(message, () => undefined);
}
