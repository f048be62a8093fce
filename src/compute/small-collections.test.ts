import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compareTexts, SmallMap, SmallSet, sortFew } from "./small-collections.ts";

const steps = fc.array(fc.record({ isAdded: fc.boolean(), key: fc.nat(14), value: fc.nat() }), { maxLength: 80 });

describe("SmallSet", () => {
  it("behaves as a Set, across its bound in both directions", () => {
    fc.assert(
      fc.property(steps, (list) => {
        const small = new SmallSet<number>();
        const set = new Set<number>();
        for (const { isAdded, key } of list) {
          expect(isAdded ? small.add(key) : small.delete(key)).toBe(isAdded ? !set.has(key) : set.has(key));
          if (isAdded) set.add(key);
          else set.delete(key);
          expect(new Set(small)).toEqual(set);
          expect(small.size).toBe(set.size);
          expect(small.has(key)).toBe(set.has(key));
        }
      }),
    );
  });

  it.each([3, 8, 9, 20])("all of %i entries are seen while each is deleted", (count) => {
    const small = new SmallSet<number>();
    for (let i = 0; i < count; i++) small.add(i);
    const seen: number[] = [];
    for (const item of small) {
      seen.push(item);
      small.delete(item);
    }
    expect(seen).toHaveLength(count);
    expect(small.size).toBe(0);
  });
});

describe("SmallMap", () => {
  it("behaves as a Map, across its bound in both directions", () => {
    fc.assert(
      fc.property(steps, (list) => {
        const small = new SmallMap<number, number>();
        const map = new Map<number, number>();
        for (const { isAdded, key, value } of list) {
          if (isAdded) {
            small.set(key, value);
            map.set(key, value);
          } else {
            small.delete(key);
            map.delete(key);
          }
          expect(new Set(small.keys())).toEqual(new Set(map.keys()));
          expect(small.size).toBe(map.size);
          for (let k = 0; k < 15; k++) {
            expect(small.get(k)).toBe(map.get(k));
            expect(small.has(k)).toBe(map.has(k));
          }
        }
      }),
    );
  });
});

describe("sortFew", () => {
  it("= sort, of any length, and leaves equals in their order", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(5), fc.nat()), { maxLength: 20 }), (items) => {
        expect(sortFew([...items], ([a], [b]) => a - b)).toEqual([...items].sort(([a], [b]) => a - b));
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.string()), (texts) => {
        expect(sortFew([...texts], compareTexts)).toEqual([...texts].sort());
      }),
    );
  });
});
