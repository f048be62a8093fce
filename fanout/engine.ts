/**
 * Cluster events → compute → commits → sessions.
 *
 * Events are applied in slices of a few ms, between which pings and acknowledgements are served. A commit is made when nothing has come for a short gap,
 * at the latest after a hard deadline. Before the source is in sync nothing is committed, so nothing partial can be served; afterwards a resync changes
 * nothing here (the source deletes only what a complete list says is gone).
 */
import { setImmediate as yieldToEventLoop } from "node:timers/promises";
import type { ObjectProblems } from "../src/compute/problems.ts";
import type { ClusterEvent, SyncStatus } from "../src/model/event.ts";
import type { NodeName } from "../src/model/names.ts";
import type { RecordChange, RecordKey } from "../src/model/record.ts";
import type { IpAddress } from "../src/net/ip.ts";
import type { Clock } from "../src/runtime/clock.ts";
import { Due } from "../src/runtime/due.ts";
import type { Part } from "../src/runtime/supervisor.ts";
import { ObjectLog } from "./object-log.ts";
import type { Commit, Table } from "./table/table.ts";
import type { UpstreamVersions } from "./upstream-versions.ts";

/** What the engine needs of `src/compute`. */
export interface RecordComputer {
  apply(event: ClusterEvent): void;
  /** For people: the selector behind a policy or a set. */
  describe?(key: RecordKey): string | undefined;
  /** Node of the pod that a floating address leads to. */
  floatingNodeOf?(address: IpAddress): NodeName | undefined;
  flush(): { readonly changes: readonly RecordChange[]; readonly problems: readonly ObjectProblems[] };
}

export interface EngineOptions {
  readonly compute: RecordComputer;
  readonly table: Table;
  readonly clock: Clock;
  /** Each commit, in order, right after it was made. `sinceEventMs`: since its first event came from the source; undefined of that of the whole cluster. */
  readonly onCommit: (commit: Commit, tookMs: number, sinceEventMs: number | undefined) => void;
  /** Once: the table holds the whole cluster. */
  readonly onInSync: () => void;
  /** Every event, before compute sees it. */
  readonly onEvent?: (event: ClusterEvent) => void;
  readonly versions?: UpstreamVersions;
  /** Longest stretch without a yield (ms). */
  readonly sliceMs?: number;
  /** A commit waits this long for further events (ms). */
  readonly gapMs?: number;
  /** From the first event to its commit at most this long (ms), however steady the stream is. */
  readonly deadlineMs?: number;
}

/** As the source delivered it, or what is left of it. */
interface Batch {
  readonly events: readonly ClusterEvent[];
  readonly arrivedAt: number;
}

export class Engine implements Part {
  readonly name = "engine";
  readonly objects = new ObjectLog();
  readonly #options: EngineOptions & { readonly sliceMs: number; readonly gapMs: number; readonly deadlineMs: number };
  /** Bounded by what the source reads at once: it holds at most one list of each kind. */
  #queue: Batch[] = [];
  readonly #due = new Due();
  #status: SyncStatus = "wait-for-datastore";
  #isInSync = false;
  #hasUncommitted = false;
  /** When the first event that is not committed came from the source. */
  #firstArrivedAt: number | undefined;
  #problems: readonly ObjectProblems[] = [];

  constructor(options: EngineOptions) {
    this.#options = { sliceMs: 5, gapMs: 2, deadlineMs: 100, ...options };
  }

  /** The source's, as of the last event applied. */
  get status(): SyncStatus {
    return this.#status;
  }

  get isInSync(): boolean {
    return this.#isInSync;
  }

  /** The selector behind a policy's or a set's record, in words; undefined: not known. */
  describe(key: RecordKey): string | undefined {
    return this.#options.compute.describe?.(key);
  }

  /** Objects that cannot be understood, as of the last commit. */
  get problems(): readonly ObjectProblems[] {
    return this.#problems;
  }

  /** Where the source delivers. */
  readonly sink = (events: readonly ClusterEvent[]): void => {
    this.#queue.push({ events, arrivedAt: this.#options.clock.now() });
    this.#due.mark();
  };

  async run(signal: AbortSignal): Promise<void> {
    const { clock, gapMs, deadlineMs } = this.#options;
    while (!signal.aborted) {
      await this.#due.wait(signal);
      if (this.#queue.length === 0) {
        this.#due.clear();
        continue;
      }
      const start = clock.now();
      while (!signal.aborted && clock.now() - start < deadlineMs) {
        await this.#applyQueued(start + deadlineMs);
        if (clock.now() - start >= deadlineMs) break;
        if (gapMs > 0) await clock.sleep(gapMs, signal);
        if (this.#queue.length === 0) break;
      }
      this.commit();
    }
  }

  /** Applies what is queued and commits at once. For tests and for who drives the engine by hand. */
  settle(): void {
    for (let batch = this.#queue.shift(); batch !== undefined; batch = this.#queue.shift())
      for (const event of batch.events) this.#apply(event, batch.arrivedAt);
    this.commit();
  }

  /** Makes what was applied one revision. Does nothing before the source is in sync. */
  commit(): void {
    if (!this.#isInSync) return;
    const { compute, table, clock, onCommit } = this.#options;
    const start = clock.now();
    const { changes, problems } = compute.flush();
    this.#problems = problems;
    const nowUnixUs = BigInt(Math.round(clock.wallTime() * 1000));
    const commit = table.commit(changes, nowUnixUs);
    this.objects.settle({ commit, revision: table.revision, nowUnixUs });
    this.#hasUncommitted = false;
    this.#settleVersions();
    const now = clock.now();
    const sinceEventMs = this.#firstArrivedAt === undefined ? undefined : now - this.#firstArrivedAt;
    this.#firstArrivedAt = undefined;
    if (commit !== undefined) onCommit(commit, now - start, sinceEventMs);
  }

  /** Brings the versions up to where the source's watches stand, when nothing of theirs is still to be committed. */
  refreshVersions(): void {
    if (this.#isInSync && !this.#hasUncommitted && this.#queue.length === 0) this.#settleVersions();
  }

  #settleVersions(): void {
    const { versions, table } = this.#options;
    versions?.settle({ revision: table.revision, isDrained: this.#queue.length === 0, isListed: this.#status === "in-sync" });
  }

  /** Until nothing is left or the deadline has passed, which can be in the middle of a batch: its rest then comes first at the next call. */
  async #applyQueued(deadline: number): Promise<void> {
    const { clock, sliceMs } = this.#options;
    let sliceEnd = clock.now() + sliceMs;
    for (let batch = this.#queue.shift(); batch !== undefined; batch = this.#queue.shift()) {
      const { events, arrivedAt } = batch;
      for (const [i, event] of events.entries()) {
        this.#apply(event, arrivedAt);
        const now = clock.now();
        if (now < sliceEnd) continue;
        if (now >= deadline) {
          if (i + 1 < events.length) this.#queue.unshift({ events: events.slice(i + 1), arrivedAt });
          return;
        }
        await yieldToEventLoop();
        sliceEnd = clock.now() + sliceMs;
      }
      if (clock.now() >= deadline) return;
    }
  }

  #apply(event: ClusterEvent, arrivedAt: number): void {
    this.#hasUncommitted = true;
    if (this.#isInSync) this.#firstArrivedAt ??= arrivedAt;
    this.#options.onEvent?.(event);
    this.#options.versions?.note(event);
    this.#options.compute.apply(event);
    this.objects.note(event);
    if (event.kind !== "status") return;
    this.#status = event.status;
    if (event.status !== "in-sync" || this.#isInSync) return;
    this.#isInSync = true;
    this.commit();
    this.#options.onInSync();
  }
}
