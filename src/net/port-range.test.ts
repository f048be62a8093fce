import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mergePortRanges } from "./port-range.ts";

const range = fc.tuple(fc.nat(40), fc.nat(40)).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));

describe("mergePortRanges", () => {
  it("keeps exactly the ports, in ascending ranges with a gap between", () => {
    fc.assert(
      fc.property(fc.array(range), (ranges) => {
        const merged = mergePortRanges(ranges);
        const holds = (list: typeof ranges, port: number): boolean => list.some(({ first, last }) => first <= port && port <= last);
        for (let port = 0; port <= 41; port++) expect(holds(merged, port)).toBe(holds(ranges, port));
        for (const [i, next] of merged.slice(1).entries()) expect(next.first).toBeGreaterThan((merged[i]?.last ?? 0) + 1);
      }),
    );
  });
});
