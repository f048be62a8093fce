/**
 * WatchKind against an API that fails when the test says so, by a clock that only the test moves.
 *
 * Above 500 lines: examples and random histories follow the kind through one harness (`Followed`).
 */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FakeApi, throttled } from "../../test/fakes/fake-api.ts";
import type { ClusterEvent } from "../model/event.ts";
import { keyOf } from "../model/resource.ts";
import { ManualClock } from "../runtime/clock.ts";
import { silentLogger } from "../runtime/log.ts";
import { ApiUnreachableError } from "./api-error.ts";
import { API_RESOURCES, collectionPath } from "./api-resources.ts";
import type { JsonObject } from "./json-object.ts";
import { zeroCounters } from "./source-counters.ts";
import { DEFAULT_TUNING, WatchKind, type WatchTuning } from "./watch-kind.ts";

const PODS = API_RESOURCES.Pod;
const PATH = collectionPath(PODS);

function pod(name: string, app: string, extra: JsonObject = {}): JsonObject {
  return { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "shop", labels: { app } }, spec: { nodeName: "n1" }, ...extra };
}

/** Labels that are no strings: an object that exists and cannot be understood. */
function badPod(name: string): JsonObject {
  return { ...pod(name, ""), metadata: { name, namespace: "shop", labels: { app: 5 } } };
}

/** One kind followed on a fake API, with what it has told so far. */
class Followed implements AsyncDisposable {
  readonly api: FakeApi;
  readonly clock = new ManualClock();
  readonly counters = zeroCounters();
  readonly events: ClusterEvent[] = [];
  readonly listings: boolean[] = [];
  readonly watch: WatchKind;
  readonly stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(api: FakeApi, tuning: Partial<WatchTuning> = {}) {
    this.api = api;
    this.watch = new WatchKind({
      kind: "Pod",
      client: api,
      clock: this.clock,
      log: silentLogger(),
      tuning: { ...DEFAULT_TUNING, ...tuning },
      counters: this.counters,
      random: () => 0.5,
      onEvents: (events) => this.events.push(...events),
      onListing: (isListed) => this.listings.push(isListed),
    });
    this.#running = this.watch.run(this.stop.signal);
  }

  /** What the events add up to: pods by name with their label, "invalid" for those not understood. */
  get view(): Record<string, string> {
    const view: Record<string, string> = {};
    for (const event of this.events) {
      if (event.kind === "upsert") view[keyOf(event.resource).name] = "labels" in event.resource ? (event.resource.labels["app"] ?? "") : "";
      else if (event.kind === "invalid") view[event.key.name] = "invalid";
      else if (event.kind === "delete") delete view[event.key.name];
    }
    return view;
  }

  /** Lets time and the event loop go on until the condition holds. */
  async until(condition: () => boolean): Promise<void> {
    for (let turns = 0; turns < 2_000; turns++) {
      if (condition()) return;
      await new Promise((resolve) => setImmediate(resolve));
      if (turns % 4 === 3) await this.clock.advance(500);
    }
    throw new Error(`did not settle: ${JSON.stringify({ view: this.view, status: this.watch.status, requests: this.api.requests.slice(-10) })}`);
  }

  /** As the source does it; now and then the silence limit is reached. */
  async prove(): Promise<void> {
    for (let i = 1; !this.stop.signal.aborted; i++) {
      if (i % 9 === 0) this.api.timeOutFrozen();
      await this.watch.catchUp(this.stop.signal);
      await this.clock.sleep(10_000, this.stop.signal);
    }
  }

  async turns(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort();
    await this.clock.advance(0);
    await this.#running;
  }
}

function expectedView(api: FakeApi): Record<string, string> {
  return Object.fromEntries(
    api.objects(PODS).map((object) => {
      const metadata = object["metadata"] as { name: string; labels: { app: unknown } };
      return [metadata.name, typeof metadata.labels.app === "string" ? metadata.labels.app : "invalid"];
    }),
  );
}

function apiWith(...names: string[]): FakeApi {
  const api = new FakeApi();
  for (const name of names) api.put(PODS, pod(name, "web"));
  return api;
}

describe("WatchKind", () => {
  it("streaming list, then changes", async () => {
    const api = apiWith("a", "b");
    await using followed = new Followed(api);
    await followed.until(() => followed.listings.length === 1);
    expect(followed.view).toEqual({ a: "web", b: "web" });
    api.put(PODS, pod("c", "db"));
    api.remove(PODS, { name: "a", namespace: "shop" });
    await followed.until(() => followed.events.length === 4);
    expect(followed.view).toEqual({ b: "web", c: "db" });
    expect(api.requests).toEqual([`WATCH ${PATH} list`]);
  });

  it("no streaming lists → pages, and never asked again", async () => {
    const api = apiWith("a", "b", "c", "d", "e");
    api.canStream = false;
    await using followed = new Followed(api, { pageLimit: 2 });
    await followed.until(() => followed.watch.status.phase === "watching");
    expect(Object.keys(followed.view)).toEqual(["a", "b", "c", "d", "e"]);
    expect(api.requests).toEqual([`WATCH ${PATH} list`, ...Array.from({ length: 3 }, () => `LIST ${PATH} limit=2`), `WATCH ${PATH} from=6`]);
    expect(followed.counters).toMatchObject({ fallbacksToPages: 1, pages: 3, pagedLists: 1 });
  });

  it("heartbeat (a field that nothing reads) → no event, but the version moves", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await followed.until(() => followed.listings.length === 1);
    api.put(PODS, pod("a", "web", { status: { conditions: [{ type: "Ready", lastProbeTime: "now" }] } }));
    await followed.until(() => followed.watch.status.resourceVersion === "3");
    expect(followed.events).toHaveLength(1);
    expect(followed.counters.unchanged).toBe(1);
  });

  it("not understood → invalid, never a deletion; understood again → upsert, even when nothing else changed", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await followed.until(() => followed.listings.length === 1);
    api.put(PODS, badPod("a"));
    await followed.until(() => followed.events.length === 2);
    expect(followed.events[1]).toMatchObject({ kind: "invalid", key: { kind: "Pod", namespace: "shop", name: "a" }, resourceVersion: "3" });
    expect(followed.watch.status).toMatchObject({ objects: 1, invalid: 1 });
    api.put(PODS, pod("a", "web"));
    await followed.until(() => followed.events.length === 3);
    expect(followed.events[2]).toMatchObject({ kind: "upsert" });
    expect(followed.watch.status.invalid).toBe(0);
  });

  it("dropped connection → resumes at the last version, without a list", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await followed.until(() => followed.listings.length === 1);
    api.breakWatches("reset");
    api.remove(PODS, { name: "a", namespace: "shop" });
    api.put(PODS, pod("b", "web"));
    await followed.until(() => followed.view["b"] === "web");
    expect(followed.view).toEqual({ b: "web" });
    expect(followed.counters).toMatchObject({ streamLists: 1, watches: 1, reconnectsDisconnected: 1 });
  });

  it("410 → lists anew; what is gone is told after the list, what stayed is not told again", async () => {
    const api = apiWith("a", "b");
    await using followed = new Followed(api);
    await followed.until(() => followed.listings.length === 1);
    api.breakWatches("reset");
    api.remove(PODS, { name: "a", namespace: "shop" });
    api.put(PODS, pod("c", "web"));
    api.compact();
    await followed.until(() => followed.listings.length === 3);
    expect(followed.events.slice(2)).toEqual([
      { kind: "upsert", resource: expect.objectContaining({ name: "c" }) },
      { kind: "delete", key: { kind: "Pod", namespace: "shop", name: "a" } },
    ]);
    expect(followed.listings).toEqual([true, false, true]);
  });

  it("server in trouble while listing anew → nothing is deleted before a list completes", async () => {
    const api = apiWith("a", "b");
    api.canStream = false;
    await using followed = new Followed(api, { pageLimit: 1 });
    await followed.until(() => followed.watch.status.phase === "watching");
    api.breakWatches("reset");
    api.remove(PODS, { name: "b", namespace: "shop" });
    for (const name of ["c", "d", "e"]) api.put(PODS, pod(name, "web"));
    api.compact();
    const list = api.list.bind(api);
    let pages = 0;
    api.list = async (...call) => {
      pages++;
      if (pages > 2 && pages < 20) throw new ApiUnreachableError("CONNECTION", "LIST", "read ECONNRESET");
      if (pages === 20) expect(followed.events.filter((event) => event.kind === "delete")).toEqual([]);
      return await list(...call);
    };
    await followed.until(() => followed.listings.length === 3);
    expect(pages).toBeGreaterThan(20);
    expect(followed.view).toEqual(expectedView(api));
  });

  it("a page that expires under way → the list starts over", async () => {
    const api = apiWith("a", "b", "c");
    api.canStream = false;
    const list = api.list.bind(api);
    let pages = 0;
    api.list = async (...call) => {
      if (++pages === 2) {
        api.remove(PODS, { name: "a", namespace: "shop" });
        api.compact();
      }
      return await list(...call);
    };
    await using followed = new Followed(api, { pageLimit: 1 });
    await followed.until(() => followed.watch.status.phase === "watching");
    expect(followed.view).toEqual({ b: "web", c: "web" });
    expect(followed.counters).toMatchObject({ pagedLists: 2, reconnectsExpired: 1 });
    expect(api.requests.filter((request) => request.startsWith("LIST")).at(-1)).toBe(`LIST ${PATH} limit=`);
  });

  it.each([429, 503] as const)("%i with Retry-After → not asked again before", async (status) => {
    const api = apiWith("a");
    api.failures.push(throttled(status, 7_000));
    await using followed = new Followed(api);
    await followed.turns(5);
    await followed.clock.advance(6_999);
    await followed.turns(5);
    expect(api.requests).toHaveLength(1);
    await followed.clock.advance(4_000);
    await followed.until(() => followed.listings.length === 1);
  });

  it("404 → listed and empty, asked for again, found when it appears", async () => {
    const api = new FakeApi();
    api.missing.add(PATH);
    await using followed = new Followed(api);
    await followed.until(() => followed.listings.length > 0);
    expect(followed.watch.status).toMatchObject({ phase: "missing", isListed: true, objects: 0 });
    expect(followed.watch.status.problem).toContain("404");
    api.missing.clear();
    api.put(PODS, pod("a", "web"));
    await followed.until(() => followed.view["a"] === "web");
    expect(followed.listings.every(Boolean)).toBe(true);
  });

  it("404 → no age between questions, however rare; then the age of the question that is not answered", async () => {
    const api = new FakeApi();
    api.missing.add(PATH);
    await using followed = new Followed(api);
    let oldest = 0;
    await followed.until(() => {
      oldest = Math.max(oldest, followed.watch.status.ageMs);
      return api.requests.length === 10;
    });
    // Steps of the clock are 500 ms long; questions are 22 s apart at the end.
    expect(oldest).toBeLessThanOrEqual(500);
    const askedAt = followed.clock.now();
    api.failures.push(...Array.from({ length: 30 }, () => new ApiUnreachableError("CONNECTION", "LIST", "connect ECONNREFUSED")));
    await followed.until(() => followed.watch.status.phase === "retrying");
    await followed.clock.advance(10_000);
    expect(followed.watch.status.ageMs).toBeGreaterThanOrEqual(10_000);
    expect(followed.watch.status.ageMs).toBeLessThan(followed.clock.now() - askedAt);
  });

  it("404 for a kind that had objects → none is deleted", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await followed.until(() => followed.listings.length === 1);
    api.missing.add(PATH);
    api.breakWatches("reset");
    await followed.until(() => followed.watch.status.phase === "missing");
    expect(followed.view).toEqual({ a: "web" });
  });

  it("silence in a streaming list → pages", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    api.breakWatches("silent");
    await followed.turns(1);
    api.breakWatches("silent");
    await followed.until(() => followed.listings.length >= 1);
    expect(followed.view).toEqual({ a: "web" });
  });

  it("bookmarks move the version, so that a compaction of what did not concern us costs no list", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await followed.until(() => followed.listings.length === 1);
    api.put(API_RESOURCES.Node, { metadata: { name: "n1" } });
    api.bookmark();
    await followed.until(() => followed.watch.status.resourceVersion === "3");
    api.compact();
    api.breakWatches("reset");
    await followed.until(() => api.requests.length === 2);
    api.put(PODS, pod("b", "web"));
    await followed.until(() => followed.view["b"] === "web");
    expect(followed.counters.streamLists).toBe(1);
  });
});

/** A kind that has been listed, and to which nothing happens. */
async function quiet(followed: Followed): Promise<void> {
  await followed.until(() => followed.listings.length === 1);
  await followed.clock.advance(60_000);
}

describe("WatchKind: whether a silent watch has everything", () => {
  const never = new AbortController().signal;

  it("S18 nothing happened → as old as the question, and as far as the store", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await quiet(followed);
    expect(followed.watch.status.ageMs).toBeGreaterThanOrEqual(60_000);
    api.put(API_RESOURCES.Node, { metadata: { name: "n1" } });
    const list = api.list.bind(api);
    // The answer takes 700 ms: what it proves is how things were when it was asked.
    api.list = async (...call) => {
      await followed.clock.advance(700);
      return await list(...call);
    };
    await followed.watch.catchUp(never);
    expect(followed.watch.status).toMatchObject({ ageMs: 700, resourceVersion: "3", phase: "watching" });
    expect(followed.counters).toMatchObject({ proofs: 1, watches: 0 });
  });

  it("the cache is behind the store → the version moves, the age does not fall", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await quiet(followed);
    api.put(API_RESOURCES.Node, { metadata: { name: "n1" } });
    api.put(API_RESOURCES.Node, { metadata: { name: "n2" } });
    api.cacheVersion = 3;
    await followed.watch.catchUp(never);
    expect(followed.watch.status.resourceVersion).toBe("3");
    expect(followed.watch.status.ageMs).toBeGreaterThanOrEqual(60_000);
  });

  it("no answer, refused, expired → no proof", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await quiet(followed);
    api.failures.push(new ApiUnreachableError("TIMEOUT", "LIST", "no answer"), throttled(429, 1_000));
    await followed.watch.catchUp(never);
    await followed.watch.catchUp(never);
    api.put(API_RESOURCES.Node, { metadata: { name: "n1" } });
    api.compact();
    await followed.watch.catchUp(never);
    expect(followed.watch.status).toMatchObject({ phase: "watching", resourceVersion: "2" });
    expect(followed.watch.status.ageMs).toBeGreaterThanOrEqual(60_000);
  });

  it("S18 a frozen watch: no age while it owes nothing; from the first event that it owes it ages, and is opened anew", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api, { stuckMs: 5_000 });
    await quiet(followed);
    api.breakWatches("frozen");
    await followed.watch.catchUp(never);
    expect(followed.watch.status.ageMs).toBe(0);
    await followed.clock.advance(3_000);
    api.put(PODS, pod("b", "web"));
    const asked = followed.watch.catchUp(never);
    await followed.turns(10);
    await followed.clock.advance(4_900);
    expect(followed.watch.status).toMatchObject({ ageMs: 7_900, phase: "watching" });
    expect(followed.view).toEqual({ a: "web" });
    await followed.clock.advance(100);
    await asked;
    await followed.until(() => followed.view["b"] === "web");
    expect(followed.counters).toMatchObject({ reconnectsSilent: 1, watches: 1, streamLists: 1 });
  });

  it("events that come while it is asked, and a watch that comes back by itself → left alone", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api, { stuckMs: 5_000 });
    await quiet(followed);
    api.breakWatches("frozen");
    api.put(PODS, pod("b", "web"));
    const asked = followed.watch.catchUp(never);
    await followed.turns(5);
    api.breakWatches("reset");
    await followed.until(() => followed.view["b"] === "web");
    await followed.clock.advance(6_000);
    await asked;
    api.put(PODS, pod("c", "web"));
    await followed.until(() => followed.view["c"] === "web");
    expect(followed.counters).toMatchObject({ reconnectsSilent: 0, reconnectsDisconnected: 1, watches: 1 });
  });

  it("asked twice at once → one question", async () => {
    const api = apiWith("a");
    await using followed = new Followed(api);
    await quiet(followed);
    await Promise.all([followed.watch.catchUp(never), followed.watch.catchUp(never)]);
    expect(followed.counters.proofs).toBe(1);
  });
});

type Command =
  | { readonly kind: "put" | "bad" | "remove"; readonly name: string; readonly app: string }
  | { readonly kind: "break"; readonly how: "ended" | "reset" | "silent" | "frozen" }
  | { readonly kind: "prove" | "compact" | "bookmark" | "duplicate" | "throttle" | "unreachable" | "turn" | "time" };

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom("put" as const, "put" as const, "bad" as const, "remove" as const),
      name: fc.constantFrom("a", "b", "c", "d", "e"),
      app: fc.constantFrom("x", "y", "z"),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("break" as const),
      how: fc.constantFrom("ended" as const, "reset" as const, "silent" as const, "frozen" as const),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        "prove" as const,
        "compact" as const,
        "bookmark" as const,
        "duplicate" as const,
        "throttle" as const,
        "unreachable" as const,
        "turn" as const,
        "time" as const,
      ),
    }),
  },
);

async function carryOut(one: Command, followed: Followed): Promise<void> {
  const { api } = followed;
  switch (one.kind) {
    case "put":
      return api.put(PODS, pod(one.name, one.app));
    case "bad":
      return api.put(PODS, badPod(one.name));
    case "remove":
      return api.remove(PODS, { name: one.name, namespace: "shop" });
    case "break":
      return api.breakWatches(one.how);
    case "prove":
      return void followed.watch.catchUp(followed.stop.signal);
    case "compact":
      return api.compact();
    case "bookmark":
      return api.bookmark();
    case "duplicate":
      return api.duplicateLast();
    case "throttle":
      return void api.failures.push(throttled(429, 1_000));
    case "unreachable":
      return void api.failures.push(new ApiUnreachableError("CONNECTION", "GET", "connect ECONNREFUSED"));
    case "turn":
      return await followed.turns(2);
    case "time":
      return await followed.clock.advance(700);
  }
}

describe("WatchKind: any history", () => {
  it("with drops, 410s, duplicates, refusals and objects not understood: ends at the server's state, and deletes only what was deleted there", {
    timeout: 60_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { maxLength: 40 }), fc.boolean(), fc.integer({ min: 1, max: 3 }), async (commands, canStream, pageLimit) => {
        const api = apiWith("a", "b");
        api.canStream = canStream;
        await using followed = new Followed(api, { pageLimit });
        for (const one of commands) await carryOut(one, followed);
        api.failures.length = 0;
        const wanted = expectedView(api);
        const proving = followed.prove();
        await followed.until(() => JSON.stringify(sorted(followed.view)) === JSON.stringify(sorted(wanted)) && followed.watch.status.phase === "watching");
        followed.stop.abort();
        await proving;
        for (const event of followed.events) if (event.kind === "delete") expect(api.everDeleted).toContain(`${PATH} shop/${event.key.name}`);
        // Nothing is told twice: two upserts of a key in a row differ in more than their version.
        const last = new Map<string, string>();
        for (const event of followed.events) {
          if (event.kind === "status") continue;
          const name = event.kind === "upsert" ? keyOf(event.resource).name : event.key.name;
          const text = event.kind === "upsert" ? JSON.stringify({ ...event.resource, resourceVersion: "" }) : event.kind;
          expect(text).not.toBe(last.get(name));
          last.set(name, text);
        }
      }),
      { numRuns: 300 },
    );
  });
});

function sorted(view: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(view).sort(([a], [b]) => (a < b ? -1 : 1));
}
