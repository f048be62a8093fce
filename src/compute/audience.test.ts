import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NodeName } from "../model/names.ts";
import { Audience, audienceDifference } from "./audience.ts";

const NAMES = Array.from({ length: 12 }, (_, i) => `node-${i}` as NodeName);
const n1 = "n1" as NodeName;
const n2 = "n2" as NodeName;

describe("Audience", () => {
  it("a node enters with its first reference and leaves with its last", () => {
    const audience = new Audience();
    expect([audience.acquire(n1), audience.acquire(n1), audience.release(n1), audience.release(n1)]).toEqual([true, false, false, true]);
    expect(audience.isEmpty).toBe(true);
  });

  it("coming and going between two commits is nothing", () => {
    const audience = new Audience();
    audience.acquire(n1);
    audience.settle();
    audience.release(n1);
    audience.acquire(n2);
    audience.release(n2);
    audience.acquire(n1);
    expect(audience.delta()).toEqual({ entered: [], left: [] });
  });

  it("a reference too few is a defect, not a silence", () => expect(() => new Audience().release(n1)).toThrow("more often than acquired"));

  it("delta and before say what happened since settle, whatever happened", () => {
    const step = fc.record({
      node: fc.constantFrom(...NAMES),
      kind: fc.constantFrom("acquire", "acquire", "release", "settle"),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const audience = new Audience();
        const counts = new Map<NodeName, number>();
        let before: readonly NodeName[] = [];
        const present = (): readonly NodeName[] =>
          [...counts]
            .filter(([, count]) => count > 0)
            .map(([node]) => node)
            .sort();
        for (const { node, kind } of steps) {
          const count = counts.get(node) ?? 0;
          if (kind === "settle") {
            audience.settle();
            before = present();
          } else if (kind === "acquire") {
            audience.acquire(node);
            counts.set(node, count + 1);
          } else if (count > 0) {
            audience.release(node);
            counts.set(node, count - 1);
          }
          expect(audience.sorted()).toEqual(present());
          expect(audience.before()).toEqual(before);
          expect(audience.delta()).toEqual(audienceDifference(before, present()));
        }
      }),
    );
  });
});
