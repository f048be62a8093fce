import * as fc from "fast-check";
import { Histogram, Registry } from "prom-client";
import { describe, expect, it } from "vitest";
import { CountingHistogram } from "./counting-histogram.ts";

describe("CountingHistogram", () => {
  it("writes what a Histogram with the same observations writes", async () => {
    const buckets = [0.01, 0.1, 1];
    const value = fc.oneof(fc.constantFrom(0, 0.01, 0.1, 1), fc.double({ min: 0, max: 3, noNaN: true }));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.record({ value, count: fc.integer({ min: 1, max: 3 }) })), async (observations) => {
        const [ours, theirs] = [new Registry(), new Registry()];
        const counting = new CountingHistogram({ name: "a", help: "b", buckets, registers: [ours] });
        const plain = new Histogram({ name: "a", help: "b", buckets, registers: [theirs] });
        for (const { value, count } of observations) {
          counting.add(value, count);
          for (let i = 0; i < count; i++) plain.observe(value);
        }
        // The order of additions may change the last digits of the sum.
        const text = async (registry: Registry): Promise<string> => (await registry.metrics()).replace(/a_sum .*/, "");
        expect(await text(ours)).toBe(await text(theirs));
        const sum = async (registry: Registry): Promise<number> => Number(/a_sum (.*)/.exec(await registry.metrics())?.[1]);
        expect(await sum(ours)).toBeCloseTo(await sum(theirs), 6);
      }),
    );
  });
});
