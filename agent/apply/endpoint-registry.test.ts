import { beforeEach, describe, expect, it } from "vitest";
import { podKey } from "../../src/model/names.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { EndpointRegistry } from "./endpoint-registry.ts";
import type { LocalEndpoint } from "./local-endpoints.ts";

const KEY = podKey("shop", "web");
const ENDPOINT: LocalEndpoint = { podKey: KEY, interfaceName: "cali1", addresses: [], mac: "02:00:00:00:00:01", containerId: "a" };
const NOBODY: ReadonlySet<typeof KEY> = new Set();

describe("time until a pod is protected", () => {
  let clock: ManualClock;
  let seconds: number[];
  let registry: EndpointRegistry;
  beforeEach(() => {
    clock = new ManualClock();
    seconds = [];
    registry = new EndpointRegistry({ clock, onChange: () => undefined, deadlineMs: 10_000, onProtected: (value) => seconds.push(value) });
    registry.restore([]);
  });
  const settle = (
    over: { readonly sequence?: number; readonly withPolicy?: ReadonlySet<typeof KEY>; readonly failed?: ReadonlyMap<typeof KEY, string> } = {},
  ): void => registry.settle({ sequence: registry.sequence, withPolicy: new Set([KEY]), failed: new Map(), ...over });

  it("from the beginning of its ADD to the apply that has its policy, once", async () => {
    const since = clock.now();
    await clock.advance(20);
    const added = registry.upsert(ENDPOINT, { since });
    await clock.advance(30);
    settle();
    expect(await added).toEqual({ hasPolicy: true });
    settle();
    expect(seconds).toEqual([0.05]);
  });

  it("an apply that began before, one without its policy and one that refuses its route do not count; one that comes after its ADD does", async () => {
    const before = registry.sequence;
    const added = registry.upsert(ENDPOINT);
    settle({ sequence: before });
    expect(seconds).toEqual([]);
    settle({ withPolicy: NOBODY });
    expect(await added).toEqual({ hasPolicy: false });
    settle({ failed: new Map([[KEY, "no route"]]) });
    expect(seconds).toEqual([]);
    await clock.advance(4_000);
    settle();
    expect(seconds).toEqual([4]);
  });

  it("a pod that goes before is not counted", async () => {
    const added = registry.upsert(ENDPOINT);
    settle({ withPolicy: NOBODY });
    await added;
    const removed = registry.remove(KEY, "a");
    settle();
    await removed;
    expect(seconds).toEqual([]);
  });
});
