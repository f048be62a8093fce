import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { valueAt } from "./json.ts";
import type { Entry } from "./store.ts";
import { Store } from "./store.ts";
import { eventOf } from "./watch.ts";

const isIn = (entry: Entry): boolean => valueAt(entry.object, "colour") === "green";

const step = fc.record({ name: fc.constantFrom("a", "b", "c"), colour: fc.constantFrom("green", "red", undefined) });

describe("eventOf", () => {
  it("events under a filter, from any revision, lead from the filtered list then to the filtered list now", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.nat(30), (steps, cut) => {
        const store = new Store({ initialRevision: 0 });
        for (const { name, colour } of steps) {
          const key = { resource: "things", namespace: "", name };
          if (colour === undefined) store.remove(key);
          else store.put(key, { metadata: { name }, colour });
        }
        const revision = Math.min(cut, store.revision);
        const then = store.listAt("things", revision);
        const changes = store.changesAfter("things", revision);
        if (typeof then === "string" || changes === "expired") throw new Error("nothing is forgotten in this run");
        const state = new Map(then.filter(isIn).map((entry) => [entry.key.name, entry.text]));
        for (const change of changes) {
          const event = eventOf(change, isIn);
          if (event === undefined) continue;
          const { name } = event.entry.key;
          // Each kind of event is told only when it is true of what the client has.
          expect([event.type, state.has(name)]).toEqual([event.type, event.type !== "ADDED"]);
          expect(valueAt(event.entry.object, "metadata", "resourceVersion")).toBe(String(change.revision));
          if (event.type === "DELETED") state.delete(name);
          else state.set(name, event.entry.text);
        }
        expect(state).toEqual(
          new Map(
            store
              .list("things")
              .filter(isIn)
              .map((entry) => [entry.key.name, entry.text]),
          ),
        );
      }),
    );
  });
});
