import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Cidr, cidrOf } from "../../src/net/cidr.ts";
import { ipFromBytes } from "../../src/net/ip.ts";
import { mergeElements } from "./nft/intervals.ts";
import type { NftElement } from "./nft/ruleset.ts";
import { PrefixUnion } from "./prefix-union.ts";

const SET = { name: "s", key: ["ipv4_addr" as const], intervals: true };
const SET6 = { ...SET, key: ["ipv6_addr" as const] };
/** Few bits vary, so that prefixes hold each other often. */
const v4 = fc
  .tuple(fc.nat(255), fc.nat(255), fc.constantFrom(0, 8, 15, 16, 17, 20, 24, 30, 31, 32))
  .map(([a, b, length]) => cidrOf(ipFromBytes(Uint8Array.of(10, a & 3, b & 7, b >> 4)), length));
const v6 = fc
  .tuple(fc.nat(3), fc.nat(255), fc.constantFrom(0, 48, 64, 65, 120, 127, 128))
  .map(([a, b, length]) => cidrOf(ipFromBytes(Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, a, 0x80 * (b & 1), 0, 0, 0, 0, 0, 0, b)), length));

function sorted(elements: readonly NftElement[]): readonly string[] {
  return elements.map(({ key }) => key).sort();
}

function check(set: typeof SET | typeof SET6, initial: readonly Cidr[], steps: readonly (readonly [isAdded: boolean, cidr: Cidr])[]): void {
  const union = new PrefixUnion();
  const members = [...initial];
  const kernel = new Set(union.change([], initial).added.map(({ key }) => key));
  for (const [isAdded, cidr] of steps) {
    const at = members.indexOf(cidr);
    if (isAdded) members.push(cidr);
    else if (at !== -1) members.splice(at, 1);
    const { deleted, added } = isAdded ? union.change([], [cidr]) : union.change([cidr], []);
    for (const { key } of deleted) expect(kernel.delete(key)).toBe(true);
    for (const { key } of added) {
      expect(kernel.has(key)).toBe(false);
      kernel.add(key);
    }
    const expected = sorted(
      mergeElements(
        set,
        members.map((key) => ({ key })),
      ),
    );
    expect(sorted(union.elements())).toEqual(expected);
    expect([...kernel].sort()).toEqual(expected);
  }
}

describe("PrefixUnion", () => {
  it("any changes, one by one, of few and of many members → the members that no other holds, and the differences lead there", () => {
    for (const [set, cidr] of [
      [SET, v4],
      [SET6, v6],
    ] as const) {
      fc.assert(
        fc.property(fc.array(cidr, { maxLength: 80 }), fc.array(fc.tuple(fc.boolean(), cidr), { maxLength: 30 }), (initial, steps) => {
          check(set, initial, steps);
        }),
        { numRuns: 150 },
      );
    }
  });

  it("several at once: what goes and comes back is no change", () => {
    const union = new PrefixUnion();
    const many = Array.from({ length: 100 }, (_, i) => cidrOf(ipFromBytes(Uint8Array.of(10, 1, i, 0)), 24));
    union.change([], many);
    const wide = cidrOf(ipFromBytes(Uint8Array.of(10, 1, 0, 0)), 16);
    expect(union.change([], [wide]).deleted).toHaveLength(100);
    expect(union.change([wide], []).added).toHaveLength(100);
    const [one] = many;
    if (one === undefined) throw new Error("no member");
    expect(union.change([one], [one])).toEqual({ deleted: [], added: [] });
  });
});
