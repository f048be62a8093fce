import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findCulprit } from "./bisect.ts";

describe("findCulprit", () => {
  it("one of any number → found by the logarithm of it", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 5_000 }), fc.nat(), async (size, seed) => {
        const suspects = Array.from({ length: size }, (_, i) => i);
        const culprit = seed % size;
        let trials = 0;
        const found = await findCulprit([suspects], async (heldBack) => {
          trials += 1;
          return heldBack.has(culprit);
        });
        expect(found).toBe(culprit);
        expect(trials).toBeLessThanOrEqual(1 + Math.ceil(Math.log2(size)));
      }),
      { numRuns: 100 },
    );
  });

  it("several → one of them; nobody's fault, or nothing suspected → none", async () => {
    const bad = new Set([3, 70]);
    const found = await findCulprit([Array.from({ length: 50 }, (_, i) => i), [], Array.from({ length: 50 }, (_, i) => 50 + i)], async (heldBack) =>
      [...bad].every((key) => heldBack.has(key)),
    );
    expect(bad.has(found ?? -1)).toBe(true);
    expect(await findCulprit([[1, 2], [3]], async () => false)).toBeUndefined();
    expect(await findCulprit([], async () => true)).toBeUndefined();
  });

  it("what is hidden while its user is held back → it is found, and not its user", async () => {
    const user = 9;
    const goesIn = async (heldBack: ReadonlySet<number>): Promise<boolean> => heldBack.has(user) || heldBack.has(2);
    expect(await findCulprit([[1, 2, 3], [user]], goesIn)).toBe(2);
  });
});
