import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { elementChanges, mergeElements } from "./intervals.ts";
import type { NftElement, NftSet } from "./ruleset.ts";
import { keyRanges } from "./values.ts";

const prefixes: NftSet = { name: "s", key: ["ipv4_addr"], intervals: true };
const addresses: NftSet = { name: "s", key: ["ipv4_addr"] };
const services: NftSet = { name: "s", key: ["ipv4_addr", "inet_proto", "inet_service"], intervals: true };

const keys = (set: NftSet, ...wanted: readonly string[]): string[] =>
  mergeElements(
    set,
    wanted.map((key) => ({ key })),
  ).map(({ key }) => key);

/** Last bytes that the elements cover, in a /24. */
function covered(elements: readonly NftElement[]): number[] {
  const hosts = new Set<number>();
  for (const { key } of elements) {
    const [range] = keyRanges(prefixes.key, key);
    for (let host = range?.from[3] ?? 0; host <= (range?.to[3] ?? 0); host += 1) hosts.add(host);
  }
  return [...hosts].sort((a, b) => a - b);
}

const member = fc.oneof(
  fc.nat(255).map((host) => ({ key: `10.0.0.${host}` })),
  fc.tuple(fc.nat(255), fc.integer({ min: 24, max: 32 })).map(([host, length]) => ({ key: `10.0.0.${host}/${length}` })),
  fc.tuple(fc.nat(255), fc.nat(255)).map(([a, b]) => ({ key: `10.0.0.${Math.min(a, b)}-10.0.0.${Math.max(a, b)}` })),
);

describe("mergeElements", () => {
  it.each<[string, string[], string[]]>([
    ["a member within another goes", ["10.0.0.5", "10.0.0.0/24"], ["10.0.0.0/24"]],
    ["equal members are one", ["10.0.0.0/24", "10.0.0.0-10.0.0.255"], ["10.0.0.0/24"]],
    ["overlapping ranges join", ["10.0.0.1-10.0.0.5", "10.0.0.4-10.0.0.9"], ["10.0.0.1-10.0.0.9"]],
    ["adjacent members stay apart", ["10.0.0.128/25", "10.0.0.0/25"], ["10.0.0.0/25", "10.0.0.128/25"]],
    ["sorted by number, not by text", ["10.0.0.10", "10.0.0.9"], ["10.0.0.9", "10.0.0.10"]],
    ["host bits are cleared", ["10.0.0.7/24"], ["10.0.0.0/24"]],
    ["everything", ["10.0.0.1", "0.0.0.0/0"], ["0.0.0.0/0"]],
  ])("%s", (_, given, merged) => {
    expect(keys(prefixes, ...given)).toEqual(merged);
  });

  it("covers the same addresses with disjoint, canonical, sorted members, whatever the order", () => {
    fc.assert(
      fc.property(fc.array(member, { maxLength: 20 }), (elements) => {
        const merged = mergeElements(prefixes, elements);
        expect(covered(merged)).toEqual(covered(elements));
        expect(merged.reduce((sum, element) => sum + covered([element]).length, 0)).toBe(covered(elements).length);
        expect(mergeElements(prefixes, merged)).toEqual(merged);
        expect(mergeElements(prefixes, elements.toReversed())).toEqual(merged);
      }),
    );
  });

  it("sets without intervals: one element a key, the first stays", () => {
    expect(mergeElements(addresses, [{ key: "10.0.0.1", comment: "first" }, { key: "10.0.0.1" }, { key: "10.0.0.2" }])).toEqual([
      { key: "10.0.0.1", comment: "first" },
      { key: "10.0.0.2" },
    ]);
  });

  it("concatenations: contained members go, members that overlap in part are refused", () => {
    expect(keys(services, "10.0.0.5 . tcp . 80", "10.0.0.0/24 . tcp . 80-90", "10.0.0.5 . udp . 80")).toEqual([
      "10.0.0.0/24 . tcp . 80-90",
      "10.0.0.5 . udp . 80",
    ]);
    expect(() => keys(services, "10.0.0.0/24 . tcp . 80-90", "10.0.0.0/16 . tcp . 85")).toThrow(/overlap in part/);
  });
});

describe("elementChanges", () => {
  it("applied to what was before, gives what is after, and nothing overlaps on the way", () => {
    fc.assert(
      fc.property(fc.array(member, { maxLength: 12 }), fc.array(member, { maxLength: 12 }), (first, second) => {
        const before = mergeElements(prefixes, first);
        const after = mergeElements(prefixes, second);
        const { deleted, added } = elementChanges(before, after);
        const kept = before.filter((element) => !deleted.includes(element));
        const together = [...kept, ...added];
        expect(mergeElements(prefixes, together)).toEqual(after);
        expect(together.reduce((sum, element) => sum + covered([element]).length, 0)).toBe(covered(together).length);
      }),
    );
  });

  it("a changed verdict or comment is a deletion and an addition", () => {
    const before: NftElement[] = [{ key: "a", data: { kind: "jump", chain: "x" } }, { key: "b" }, { key: "c", comment: "1" }];
    const after: NftElement[] = [{ key: "a", data: { kind: "jump", chain: "y" } }, { key: "b" }, { key: "c", comment: "2" }];
    const { deleted, added } = elementChanges(before, after);
    expect(deleted.map(({ key }) => key)).toEqual(["a", "c"]);
    expect(added.map(({ key }) => key)).toEqual(["a", "c"]);
  });
});
