import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Change, Entry } from "./store.ts";
import { listKey, Store } from "./store.ts";

const START = 100;

type Step = { readonly verb: "put" | "remove"; readonly resource: string; readonly namespace: string; readonly name: string; readonly value: number };

const step: fc.Arbitrary<Step> = fc.record({
  verb: fc.constantFrom("put", "put", "remove"),
  resource: fc.constantFrom("pods", "nodes"),
  namespace: fc.constantFrom("a", "b"),
  name: fc.constantFrom("x", "y", "z"),
  value: fc.nat(5),
});

function run(store: Store, steps: readonly Step[]): void {
  for (const { verb, resource, namespace, name, value } of steps) {
    const key = { resource, namespace, name };
    if (verb === "put") store.put(key, { metadata: { name, namespace }, value });
    else store.remove(key);
  }
}

function asMap(entries: readonly Entry[]): Map<string, string> {
  return new Map(entries.map((entry) => [listKey(entry.key.namespace, entry.key.name), entry.text]));
}

function replay(from: readonly Entry[], changes: readonly Change[]): Map<string, string> {
  const state = asMap(from);
  for (const { kind, entry } of changes) {
    const key = listKey(entry.key.namespace, entry.key.name);
    if (kind === "deleted") state.delete(key);
    else state.set(key, entry.text);
  }
  return state;
}

describe("Store", () => {
  it("list at any revision + the changes after it = the list now", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.nat(40), (steps, cut) => {
        const store = new Store({ initialRevision: START });
        run(store, steps);
        const revision = Math.min(START + cut, store.revision);
        for (const resource of ["pods", "nodes"]) {
          const then = store.listAt(resource, revision);
          const changes = store.changesAfter(resource, revision);
          if (typeof then === "string" || changes === "expired") throw new Error("nothing is forgotten in this run");
          expect(replay(then, changes)).toEqual(asMap(store.list(resource)));
        }
      }),
    );
  });

  it("a list at a revision is the list that was shown then, in the same order", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.array(step, { maxLength: 30 }), (before, after) => {
        const store = new Store({ initialRevision: START });
        run(store, before);
        const { revision } = store;
        const shown = store.list("pods").map((entry) => entry.text);
        run(store, after);
        const again = store.listAt("pods", revision);
        expect(typeof again === "string" ? again : again.map((entry) => entry.text)).toEqual(shown);
      }),
    );
  });

  it("a bounded history answers rightly or says that it has expired, never with a gap", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 60 }), fc.nat(60), (steps, cut) => {
        const bounded = new Store({ initialRevision: START, historyChanges: 5 });
        const whole = new Store({ initialRevision: START });
        run(bounded, steps);
        run(whole, steps);
        const revision = START + cut;
        const changes = bounded.changesAfter("pods", revision);
        if (changes !== "expired") expect(changes).toEqual(whole.changesAfter("pods", revision));
        else expect(revision).toBeLessThan(bounded.compactedRevision("pods"));
      }),
    );
  });

  it("restore: snapshot + journal = the store that wrote them, history included", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.array(step, { maxLength: 30 }), (before, after) => {
        const store = new Store({ initialRevision: START });
        run(store, before);
        const snapshot = store.snapshot();
        const journal: Change[] = [];
        store.observe((change) => journal.push(change));
        run(store, after);
        const restored = new Store({ initialRevision: 1 });
        restored.restore(snapshot, journal);
        expect(restored.snapshot()).toEqual(store.snapshot());
        expect(restored.changesAfter("pods", snapshot.revision)).toEqual(store.changesAfter("pods", snapshot.revision));
      }),
    );
  });

  it("a change is invisible to watches until it is published", () => {
    const store = new Store({ initialRevision: START, publishesAtOnce: false });
    store.put({ resource: "pods", namespace: "a", name: "x" }, { metadata: {} });
    expect(store.changesAfter("pods", START)).toEqual([]);
    store.publish(store.revision);
    expect(store.changesAfter("pods", START)).toHaveLength(1);
  });

  it("an older life's revision is expired, also for a resource that was never written", () => {
    const store = new Store({ initialRevision: START });
    expect(store.changesAfter("pods", START - 1)).toBe("expired");
    expect(store.listAt("pods", START - 1)).toBe("expired");
    expect(store.listAt("pods", START + 1)).toBe("future");
  });
});
