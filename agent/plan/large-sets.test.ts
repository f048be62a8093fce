import { describe, expect, it } from "vitest";
import { largeSetChains } from "./large-sets.ts";
import type { NftMatch, NftRule } from "./nft/ruleset.ts";
import { ruleText } from "./nft/text.ts";

const lookup = (set: string): NftMatch => ({ kind: "lookup", fields: ["ip saddr"], set });
const DECISION: readonly NftRule[] = [{ statements: [{ kind: "log", prefix: "p: " }] }, { statements: [{ kind: "counter" }, { kind: "accept" }] }];
const chains = (...conditions: readonly (readonly [negate: boolean, sets: readonly string[]])[]): Readonly<Record<string, readonly string[]>> =>
  Object.fromEntries(
    largeSetChains(
      "r",
      conditions.map(([negate, sets]) => ({ negate, lookups: sets.map(lookup) })),
      DECISION,
    ).map(({ chain, rules }) => [chain.name, rules.map(ruleText)]),
  );
const DECIDED = ['log prefix "p: "', "counter accept"];

describe("largeSetChains", () => {
  it("one set: whichever lookup finds the packet leads to the decision, which stands there once", () => {
    expect(chains([false, ["a", "b"]])).toEqual({ r: ["ip saddr @a goto r/2", "ip saddr @b goto r/2"], "r/2": DECIDED });
  });

  it("sets that are wanted: one after the other, as many rules as lookups", () => {
    expect(chains([false, ["a", "b"]], [false, ["c"]])).toEqual({
      r: ["ip saddr @a goto r/2", "ip saddr @b goto r/2"],
      "r/2": ["ip saddr @c goto r/3"],
      "r/3": DECIDED,
    });
  });

  it("sets that are not: each lookup leads back, wherever they stand among the conditions", () => {
    expect(chains([true, ["a", "b"]])).toEqual({ r: ["ip saddr @a return", "ip saddr @b return", "goto r/2"], "r/2": DECIDED });
    expect(chains([false, ["c"]], [true, ["a"]])).toEqual({ r: ["ip saddr @a return", "ip saddr @c goto r/2"], "r/2": DECIDED });
  });
});
