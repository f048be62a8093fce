import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { IpPool } from "../model/resource.ts";
import { cidrsOverlap, parseCidr } from "../net/cidr.ts";
import { refusedPools, UsablePools } from "./pool-overlap.ts";

const pool = (name: string, cidr: string, createdAt: string, more: Partial<IpPool> = {}): IpPool => ({
  kind: "IPPool",
  name,
  resourceVersion: "1",
  cidr: parseCidr(cidr),
  blockSize: 26,
  natOutgoing: false,
  disabled: false,
  nodeSelector: "all()",
  createdAt,
  ...more,
});
const T1 = "2026-01-01T00:00:00Z";
const T2 = "2026-01-02T00:00:00Z";
const T3 = "2026-01-03T00:00:00Z";

describe("pools that overlap", () => {
  it.each<[string, readonly IpPool[], Readonly<Record<string, string>>]>([
    ["none do", [pool("a", "10.0.0.0/16", T1), pool("b", "10.1.0.0/16", T2)], {}],
    ["the younger one is refused", [pool("a", "10.0.0.0/16", T2), pool("b", "10.0.1.0/24", T1)], { a: "b" }],
    [
      "a disabled or terminating older one wins too",
      [pool("a", "10.0.0.0/16", T1, { disabled: true, isDeleting: true }), pool("b", "10.0.0.0/16", T2)],
      { b: "a" },
    ],
    ["of one second: by name", [pool("b", "10.0.0.0/16", T1), pool("a", "10.0.0.0/16", T1)], { b: "a" }],
    ["what is refused refuses nobody", [pool("a", "10.0.0.0/24", T1), pool("b", "10.0.0.0/16", T2), pool("c", "10.0.1.0/24", T3)], { b: "a" }],
  ])("%s", (_what, pools, expected) => {
    expect(Object.fromEntries([...refusedPools(pools)].map(([name, { name: older }]) => [name, older]))).toEqual(expected);
  });

  it("UsablePools: in any order of events as from the present pools alone; used ones never overlap", () => {
    const named = fc.record({
      name: fc.constantFrom("a", "b", "c", "d"),
      cidr: fc.constantFrom("10.0.0.0/16", "10.0.0.0/24", "10.0.1.0/24", "10.1.0.0/16"),
      createdAt: fc.constantFrom(T1, T2, T3),
      isGone: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(named, { maxLength: 20 }), (history) => {
        const usable = new UsablePools();
        const told = new Map<string, IpPool>();
        const present = new Map<string, IpPool>();
        for (const { name, cidr, createdAt, isGone } of history) {
          const next = isGone ? undefined : pool(name, cidr, createdAt);
          if (next === undefined) present.delete(name);
          else present.set(name, next);
          for (const [changed, value] of usable.set(name, next)) {
            if (value === undefined) told.delete(changed);
            else told.set(changed, value);
          }
        }
        const refused = refusedPools(present.values());
        expect(new Map([...told].map(([name, { disabled }]) => [name, disabled]))).toEqual(
          new Map([...present.keys()].map((name) => [name, refused.has(name)])),
        );
        const open = [...told.values()].filter(({ disabled }) => !disabled);
        for (const a of open) for (const b of open) expect(a !== b && cidrsOverlap(a.cidr, b.cidr)).toBe(false);
      }),
    );
  });
});
