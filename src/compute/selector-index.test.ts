import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseSelector } from "../selector/parse-selector.ts";
import type { Selector } from "../selector/selector.ts";
import { effectiveLabel, type IndexedSelector, type LabelItem, type LabelParent, type LabelValue } from "./label-index.ts";
import { type LabelPair, SelectorIndex } from "./selector-index.ts";
import { SmallSet } from "./small-collections.ts";

class Parent implements LabelParent<Item> {
  labels: readonly LabelValue<Item>[] = [];
  readonly items = new SmallSet<Item>();
}

class Item implements LabelItem<Item> {
  readonly name: string;
  readonly parent: Parent;
  labels: readonly LabelValue<Item>[] = [];
  readonly matched = new SmallSet<IndexedSelector<Item>>();

  constructor(name: string, parent: Parent) {
    this.name = name;
    this.parent = parent;
  }
}

/** Counts how often a selector is tried. */
function counted(selector: Selector, counter: { tests: number }): Selector {
  return {
    canonical: selector.canonical,
    id: selector.id,
    restrictions: selector.restrictions,
    labels: selector.labels,
    matches: (lookup) => {
      counter.tests++;
      return selector.matches(lookup);
    },
  };
}

const TEXTS = [
  "all()",
  "app == 'a'",
  "app != 'a'",
  "app in {'a','b'}",
  "app not in {'a','b'}",
  "has(app)",
  "!has(app)",
  "app == 'a' && tier == 'x'",
  "app == 'a' || tier == 'x'",
  "pcns.team == 'a'",
  "has(pcns.team) && app == 'b'",
  "!has(pcns.team)",
  "pcns.team == 'a' && pcns.team == 'b'",
  "app starts with 'a'",
  "!(app == 'a' && has(tier))",
] as const;

describe("SelectorIndex", () => {
  it("= naive scan, after any history, at both ends, and tells its listeners just what changed", () => {
    const labels = fc
      .dictionary(fc.constantFrom("app", "tier", "pcns.team"), fc.constantFrom("a", "b", "x"), { maxKeys: 3 })
      .map((record): readonly LabelPair[] => Object.entries(record));
    const step = fc.oneof(
      fc.record({ kind: fc.constant("item" as const), item: fc.nat(5), parent: fc.nat(1), labels }),
      fc.record({ kind: fc.constant("remove" as const), item: fc.nat(5) }),
      fc.record({
        kind: fc.constant("parent" as const),
        parent: fc.nat(1),
        labels: labels.map((pairs) => pairs.map(([key, value]): LabelPair => [`pcns.${key}`, value])),
      }),
      fc.record({ kind: fc.constant("acquire" as const), selector: fc.constantFrom(...TEXTS) }),
      fc.record({ kind: fc.constant("release" as const), selector: fc.constantFrom(...TEXTS) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60, size: "max" }), (history) => {
        const index = new SelectorIndex<Item>();
        const parents = [new Parent(), new Parent()];
        const items = new Map<number, Item>();
        const held = new Map<string, { readonly entry: IndexedSelector<Item>; readonly told: Set<Item> }>();
        for (const event of history) {
          if (event.kind === "item") {
            const known = items.get(event.item);
            const parent = parents[event.parent] ?? new Parent();
            if (known !== undefined && known.parent === parent) index.relabel(known, event.labels);
            else {
              if (known !== undefined) index.remove(known);
              const item = new Item(`item-${event.item}`, parent);
              items.set(event.item, item);
              index.add(item, event.labels);
            }
          } else if (event.kind === "remove") {
            const known = items.get(event.item);
            if (known !== undefined) index.remove(known);
            items.delete(event.item);
          } else if (event.kind === "parent") {
            const parent = parents[event.parent];
            if (parent !== undefined) index.relabelParent(parent, event.labels);
          } else if (event.kind === "acquire") {
            if (held.has(event.selector)) continue;
            const entry = index.acquire(parseSelector(event.selector));
            const told = new Set(entry.matches);
            entry.listeners.add({
              matched: (item) => expect(told.size).toBeLessThan(told.add(item).size),
              unmatched: (item) => expect(told.delete(item)).toBe(true),
              changing: () => undefined,
              changed: () => undefined,
            });
            held.set(event.selector, { entry, told });
          } else {
            const known = held.get(event.selector);
            if (known !== undefined) index.release(known.entry);
            held.delete(event.selector);
          }
          for (const { entry, told } of held.values()) {
            const naive = [...items.values()].filter((item) => entry.selector.matches((label) => effectiveLabel(item, label)));
            expect(new Set(entry.matches)).toEqual(new Set(naive));
            expect(told).toEqual(new Set(naive));
          }
          for (const item of items.values()) {
            const naive = [...held.values()].map(({ entry }) => entry).filter((entry) => entry.selector.matches((label) => effectiveLabel(item, label)));
            expect(new Set(item.matched)).toEqual(new Set(naive));
          }
        }
      }),
      { numRuns: 200 },
    );
  });

  it("an event costs nothing for selectors and items that it does not concern", () => {
    const counter = { tests: 0 };
    const index = new SelectorIndex<Item>();
    const parents = Array.from({ length: 20 }, (_, i) => {
      const parent = new Parent();
      index.relabelParent(parent, [
        ["ns", `ns-${i}`],
        ["pcns.team", `team-${i % 2}`],
      ]);
      return parent;
    });
    const items = parents.flatMap((parent, ns) =>
      Array.from({ length: 50 }, (_, i) => {
        const item = new Item(`${ns}/${i}`, parent);
        index.add(item, [
          ["app", `app-${i % 10}`],
          ["part", "of-it"],
        ]);
        return item;
      }),
    );
    const acquire = (text: string): number => {
      counter.tests = 0;
      index.acquire(counted(parseSelector(text), counter));
      return counter.tests;
    };
    // 20 namespaces × 10 apps: each is tried on the 5 pods that match it, of 1,000.
    for (let ns = 0; ns < 20; ns++) for (let app = 0; app < 10; app++) expect(acquire(`ns == 'ns-${ns}' && app == 'app-${app}' && part == 'of-it'`)).toBe(5);
    expect(acquire("pcns.team == 'team-1' && app == 'app-3'")).toBe(100);
    expect(acquire("app == 'nobody'")).toBe(0);

    const [first] = items;
    if (first === undefined) throw new Error("no items");
    counter.tests = 0;
    index.relabel(first, [
      ["app", "app-1"],
      ["part", "of-it"],
    ]);
    expect(counter.tests).toBeLessThanOrEqual(15);
    expect([...first.matched].map(({ selector }) => selector.canonical)).toHaveLength(1);

    counter.tests = 0;
    index.relabel(first, [
      ["app", "app-1"],
      ["part", "of-it"],
      ["unseen", "x"],
    ]);
    expect(counter.tests).toBe(0);

    // A label that one selector looks at: that one, for the 50 pods of the namespace.
    const [parent] = parents;
    if (parent === undefined) throw new Error("no parents");
    counter.tests = 0;
    index.relabelParent(parent, [
      ["ns", "ns-0"],
      ["pcns.team", "team-9"],
    ]);
    expect(counter.tests).toBeLessThanOrEqual(50);
    counter.tests = 0;
    index.relabelParent(parent, [
      ["ns", "ns-0"],
      ["pcns.team", "team-9"],
      ["pcns.unseen", "x"],
    ]);
    expect(counter.tests).toBe(0);
  });
});
