import { describe, expect, it } from "vitest";
import type { ClusterEvent } from "../src/model/event.ts";
import type { NamespaceName, NodeName } from "../src/model/names.ts";
import type { RecordChange } from "../src/model/record.ts";
import type { Clock } from "../src/runtime/clock.ts";
import { Engine, type RecordComputer } from "./engine.ts";
import { type Commit, Table } from "./table/table.ts";

/** Time that the test and the work move; sleepers wake when the test ticks. */
class TestClock implements Clock {
  time = 0;
  #sleepers: { readonly at: number; readonly wake: () => void }[] = [];

  now(): number {
    return this.time;
  }

  wallTime(): number {
    return this.time;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      this.#sleepers.push({ at: this.time + ms, wake: resolve });
      signal?.addEventListener("abort", () => resolve());
    });
  }

  /** Time passes, and all that it wakes has run. */
  async tick(ms: number): Promise<void> {
    await turn();
    this.time += ms;
    const due = this.#sleepers.filter(({ at }) => at <= this.time);
    this.#sleepers = this.#sleepers.filter(({ at }) => at > this.time);
    for (const { wake } of due) wake();
    await turn();
  }
}

/** One stack record per namespace, for node n1; an applied event takes 1 ms. */
class FakeCompute implements RecordComputer {
  applied: ClusterEvent[] = [];
  readonly #clock: TestClock;
  #changes: RecordChange[] = [];

  constructor(clock: TestClock) {
    this.#clock = clock;
  }

  apply(event: ClusterEvent): void {
    this.#clock.time += 1;
    this.applied.push(event);
    if (event.kind === "upsert") {
      const id = event.resource.name;
      this.#changes.push({
        key: `stack/${id}`,
        value: { kind: "stack", id, tiers: [], noMatchAction: event.resource.resourceVersion === "1" ? "allow" : "deny" },
        isRemoved: false,
        entered: ["n1" as NodeName],
        left: [],
      });
    }
  }

  flush(): ReturnType<RecordComputer["flush"]> {
    const changes = this.#changes;
    this.#changes = [];
    return { changes, problems: [] };
  }
}

const namespace = (name: string, resourceVersion = "1"): ClusterEvent => ({
  kind: "upsert",
  resource: { kind: "Namespace", name: name as NamespaceName, resourceVersion, labels: {} },
});
const IN_SYNC: ClusterEvent = { kind: "status", status: "in-sync" };
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function fixture(): { clock: TestClock; engine: Engine; compute: FakeCompute; commits: Commit[]; table: Table; inSync: number[] } {
  const clock = new TestClock();
  const compute = new FakeCompute(clock);
  const table = new Table({ seed: 1n });
  const commits: Commit[] = [];
  const inSync: number[] = [];
  const engine = new Engine({
    compute,
    table,
    clock,
    onCommit: (commit) => commits.push(commit),
    onInSync: () => inSync.push(table.size),
    sliceMs: 5,
    gapMs: 2,
    deadlineMs: 50,
  });
  return { clock, engine, compute, commits, table, inSync };
}

describe("engine", () => {
  it("commits nothing before the source is in sync, then everything at once, and says so once", () => {
    const { engine, commits, inSync, table } = fixture();
    engine.sink([{ kind: "status", status: "wait-for-datastore" }, namespace("a"), namespace("b")]);
    engine.settle();
    expect([commits.length, table.size, engine.isInSync]).toEqual([0, 0, false]);
    engine.sink([IN_SYNC]);
    engine.settle();
    expect([commits.length, inSync, engine.status]).toEqual([1, [2], "in-sync"]);
    engine.sink([{ kind: "status", status: "resync" }, namespace("c"), IN_SYNC]);
    engine.settle();
    expect([commits.length, inSync.length, engine.isInSync]).toEqual([2, 1, true]);
  });

  it("waits a short gap for more events, and no longer than the deadline", async () => {
    const { clock, engine, commits } = fixture();
    const stop = new AbortController();
    const running = engine.run(stop.signal);
    engine.sink([namespace("a"), IN_SYNC]);
    await clock.tick(2);
    expect(commits).toHaveLength(1);
    engine.sink([namespace("b")]);
    await turn();
    engine.sink([namespace("c")]);
    await clock.tick(2);
    expect(commits).toHaveLength(1);
    await clock.tick(2);
    expect(commits.map(({ touched }) => touched.length)).toEqual([1, 2]);
    // A steady stream: one event before each gap is over.
    const start = clock.time;
    for (let i = 0; commits.length < 3; i++) {
      engine.sink([namespace(`s${i}`)]);
      await clock.tick(1);
      expect(clock.time - start).toBeLessThan(60);
    }
    expect(commits[2]?.touched.length).toBeGreaterThan(5);
    stop.abort();
    await running;
  });

  it("tells how long before its commit the first event came, except of the commit of the whole cluster", async () => {
    const since: (number | undefined)[] = [];
    const clock = new TestClock();
    const engine = new Engine({
      compute: new FakeCompute(clock),
      table: new Table({ seed: 1n }),
      clock,
      onCommit: (_commit, _tookMs, sinceEventMs) => since.push(sinceEventMs),
      onInSync: () => undefined,
    });
    engine.sink([namespace("a")]);
    await clock.tick(500);
    engine.sink([IN_SYNC]);
    engine.settle();
    engine.sink([namespace("b")]);
    await clock.tick(30);
    engine.sink([namespace("c")]);
    await clock.tick(10);
    engine.settle();
    // An event without a record makes no commit, and its time is not the next one's.
    engine.sink([{ kind: "status", status: "resync" }]);
    engine.settle();
    await clock.tick(1_000);
    engine.sink([namespace("d")]);
    engine.settle();
    // The compute here takes 1 ms for an event.
    expect(since).toEqual([undefined, 42, 1]);
  });

  it("yields to the event loop within a long batch", async () => {
    const { engine, compute } = fixture();
    const stop = new AbortController();
    const running = engine.run(stop.signal);
    engine.sink(Array.from({ length: 100 }, (_, i) => namespace(`n${i}`)));
    await Promise.resolve();
    await Promise.resolve();
    expect(compute.applied.length).toBeLessThan(10);
    while (compute.applied.length < 100) await turn();
    stop.abort();
    await running;
  });

  it("a batch that takes longer than the deadline is committed in pieces", async () => {
    const { engine, clock, commits } = fixture();
    const stop = new AbortController();
    const running = engine.run(stop.signal);
    engine.sink([IN_SYNC]);
    await clock.tick(10);
    const start = clock.time;
    engine.sink(Array.from({ length: 300 }, (_, i) => namespace(`n${i}`)));
    for (let tries = 0; commits.flatMap(({ touched }) => touched).length < 300 && tries < 1000; tries++) await clock.tick(clock.time - start > 290 ? 1 : 0);
    expect(commits.length).toBeGreaterThanOrEqual(5);
    expect(Math.max(...commits.map(({ touched }) => touched.length))).toBeLessThan(70);
    stop.abort();
    await running;
  });

  it("remembers which version of an object took effect when", () => {
    const { engine } = fixture();
    const key = { kind: "Namespace", namespace: "", name: "a" } as const;
    engine.sink([namespace("a"), IN_SYNC]);
    engine.settle();
    expect(engine.objects.find(key)).toMatchObject({ resourceVersion: "1", revision: 1n, touched: undefined });
    engine.sink([namespace("a", "2")]);
    engine.settle();
    expect(engine.objects.find(key)).toMatchObject({ resourceVersion: "2", revision: 2n, touched: new Set([0]) });
    engine.sink([namespace("a", "3")]);
    engine.settle();
    expect(engine.objects.find(key)).toMatchObject({ resourceVersion: "3", revision: 2n, touched: new Set() });
    engine.sink([{ kind: "delete", key }]);
    engine.settle();
    expect(engine.objects.find(key)).toBeUndefined();
  });
});
