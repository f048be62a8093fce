import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RecordValue, Rule } from "../../src/model/record.ts";
import { type Cidr, cidrContains, cidrOf, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, parseIp } from "../../src/net/ip.ts";
import { FakeNft } from "../../test/fakes/fake-nft.ts";
import { A, NOTHING, recordMap, SETTINGS } from "../../test/fakes/plan-worlds.ts";
import { diffRulesets } from "./diff.ts";
import { TABLE } from "./names.ts";
import type { NftOperation, NftRuleset } from "./nft/ruleset.ts";
import { replacedPrefixes } from "./replaced-prefixes.ts";
import { desiredRuleset, PlanCache } from "./ruleset.ts";
import { stagesOf } from "./stages.ts";

const CHAIN = "policy/K/shop/p/ingress/rule-0/v4";

function worldOf(members: readonly string[], addresses: readonly string[] = []): readonly RecordValue[] {
  const rule: Rule = { action: "deny", protocol: 6, source: { ...NOTHING, sets: ["s"] }, destination: NOTHING, origin: 0 };
  return [
    { kind: "policy", policyKind: "K", namespace: "shop", name: "p", tier: "default", ingress: [rule], egress: [] },
    { kind: "stack", id: "x", tiers: [{ name: "default", defaultAction: "deny", ingress: ["policy/K/shop/p"], egress: [] }], noMatchAction: "allow" },
    { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "stack/x", addresses: [] },
    { kind: "set", id: "s", shard: "n", type: "prefix", members },
    { kind: "set", id: "s", shard: "", type: "address", members: addresses },
  ];
}

/** The lookups of the rule in order, by the rules of one state; each in the elements of that state until `turn`, and from then on in those of the next. */
function finds(address: IpAddress, state: NftRuleset, next: NftRuleset, turn: number): boolean {
  const lookups = (state.chains.get(CHAIN)?.rules ?? []).flatMap(({ statements }) => statements.filter((statement) => statement.kind === "lookup"));
  return lookups.some(({ set, prefixLength }, i) => {
    // A set that is deleted keeps its elements for those who look into it.
    const elements = (i >= turn ? next.sets.get(set) : undefined)?.elements ?? state.sets.get(set)?.elements ?? [];
    return elements.some(({ key }) => cidrContains(parseCidr(`${key}/${prefixLength ?? 32}`), address));
  });
}

const host = fc.nat(15).map((i) => parseIp(`10.0.0.${i}`));
const prefix = fc.tuple(host, fc.integer({ min: 27, max: 31 })).map(([address, length]) => cidrOf(address, length) as string);
const members = fc.tuple(fc.uniqueArray(prefix, { minLength: 1, maxLength: 6 }), fc.uniqueArray(host, { maxLength: 3 }));

/** Lengths that are there before and after. */
const ELSEWHERE = [27, 28, 29, 30, 31].map((length) => `10.0.1.0/${length}`);

describe("replacedPrefixes", () => {
  it("any change of a large set, a packet across any of its commits: one that is a member before and after is found, one that is neither is not", async () => {
    await fc.assert(
      fc.asyncProperty(members, members, fc.subarray(ELSEWHERE), async (before, after, others) => {
        const cache = new PlanCache({ largeAbove: 0, smallUpTo: 0 });
        const plan = ([prefixes, addresses]: readonly [readonly string[], readonly string[]]): NftRuleset =>
          desiredRuleset(
            { records: recordMap(worldOf([...prefixes, ...others], addresses)), undecodable: new Map(), endpoints: [A], settings: SETTINGS },
            cache,
          ).ruleset;
        const nft = new FakeNft();
        const first = plan(before);
        await nft.apply(diffRulesets(undefined, first));
        const states = [nft.ruleset(TABLE)];
        for (const stage of stagesOf(diffRulesets(first, plan(after)))) {
          await nft.apply(stage);
          states.push(nft.ruleset(TABLE));
        }
        const isMember = (address: IpAddress, [prefixes, addresses]: readonly [readonly string[], readonly string[]]): boolean =>
          addresses.includes(address) || prefixes.some((cidr) => cidrContains(cidr as Cidr, address));
        const wrong: string[] = [];
        for (let i = 0; i < 16; i++) {
          const address = parseIp(`10.0.0.${i}`);
          const [was, is] = [isMember(address, before), isMember(address, after)];
          if (was !== is) continue;
          for (const [index, state] of states.entries()) {
            const next = states[index + 1] ?? state;
            if (state === undefined || next === undefined) throw new Error("no table");
            for (let turn = 0; turn <= 8; turn++)
              if (finds(address, state, next, turn) !== was) wrong.push(`${address} in commit ${index} from lookup ${turn} on`);
          }
        }
        expect(wrong).toEqual([]);
      }),
      { numRuns: 200 },
    );
  }, 60_000);

  const set = (name: string, intervals = false): { readonly table: typeof TABLE; readonly set: { name: string; key: ["ipv4_addr"]; intervals?: true } } => ({
    table: TABLE,
    set: { name, key: ["ipv4_addr"], ...(intervals ? { intervals: true } : {}) },
  });
  const add = (name: string, ...keys: readonly string[]): NftOperation => ({ kind: "add-elements", ...set(name), elements: keys.map((key) => ({ key })) });
  const remove = (name: string, ...keys: readonly string[]): NftOperation => ({
    kind: "delete-elements",
    ...set(name),
    elements: keys.map((key) => ({ key })),
  });
  const decision: NftOperation = { kind: "add-rule", table: TABLE, chain: "c", rule: { statements: [{ kind: "accept" }] } };

  it("a narrower member comes first, alone", () => {
    const wide = remove("nets/s/v4/8", "10.0.0.0", "11.0.0.0");
    expect(replacedPrefixes([wide, add("nets/s/v4/16", "10.1.0.0", "12.1.0.0"), decision])).toEqual({
      early: [add("nets/s/v4/16", "10.1.0.0")],
      operations: [wide, add("nets/s/v4/16", "12.1.0.0"), decision],
      late: [],
    });
  });

  it("of a length that is new: the wider one goes last, unless something is decided anew; the narrower one goes last in any case", () => {
    const narrower = [remove("nets/s/v4/8", "10.0.0.0"), { kind: "add-set", ...set("nets/s/v4/16") } as const, add("nets/s/v4/16", "10.1.0.0")];
    expect(replacedPrefixes(narrower)).toEqual({ early: [], operations: narrower.slice(1), late: narrower.slice(0, 1) });
    expect(replacedPrefixes([...narrower, decision])).toEqual({ early: [], operations: [...narrower, decision], late: [] });
    const wider = [remove("nets/s/v4/16", "10.1.0.0"), { kind: "add-set", ...set("nets/s/v4/8") } as const, add("nets/s/v4/8", "10.0.0.0"), decision];
    expect(replacedPrefixes(wider)).toEqual({ early: [], operations: wider.slice(1), late: wider.slice(0, 1) });
  });

  it.each<[string, readonly NftOperation[]]>([
    ["members of other sets, or of the other family", [remove("nets/s/v4/8", "10.0.0.0"), add("nets/t/v4/16", "10.1.0.0")]],
    ["members that do not meet", [remove("nets/s/v4/8", "10.0.0.0"), add("nets/s/v4/16", "11.1.0.0")]],
    [
      "one interval set",
      [
        { kind: "delete-elements", ...set("nets/s/v4", true), elements: [{ key: "10.0.0.0/8" }] },
        { kind: "add-elements", ...set("nets/s/v4", true), elements: [{ key: "10.1.0.0/16" }] },
      ],
    ],
    ["sets of another kind", [remove("pools-v4", "10.0.0.0"), add("pools-v4", "10.0.0.1")]],
  ])("unchanged: %s", (_what, operations) => {
    expect(replacedPrefixes(operations)).toEqual({ early: [], operations, late: [] });
  });
});
