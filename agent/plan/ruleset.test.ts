import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type RecordValue, type Rule, type RuleSide, recordKey, type SetShard } from "../../src/model/record.ts";
import { cidrOf, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipVersion, parseIp } from "../../src/net/ip.ts";
import { FakeNft } from "../../test/fakes/fake-nft.ts";
import { type InterpretedPacket, interpretHook, translated } from "../../test/fakes/nft-interpreter.ts";
import { A, B, expected, FLOATING, NOTHING, packet, plan, policy, policyNames, recordMap, SETTINGS, stack, world } from "../../test/fakes/plan-worlds.ts";
import { tableDrift } from "../drivers/nftables/state.ts";
import type { LargeSetLimits } from "./address-sets.ts";
import { diffRulesets } from "./diff.ts";
import { TABLE } from "./names.ts";
import type { NftRuleset } from "./nft/ruleset.ts";
import { desiredRuleset, PlanCache } from "./ruleset.ts";

/** Prefixes above which a set is one of large ones: none is, those of two and more, all. */
const LARGE_ABOVE = [2_048, 1, 0];
const MANY = [2_048, 20, 0];

/** As after a restart: the kernel has that, and nothing is remembered. */
function adopting(limits: LargeSetLimits, installed: NftRuleset): PlanCache {
  const cache = new PlanCache(limits);
  cache.sets.adopt(installed.sets.keys());
  return cache;
}

describe("desiredRuleset", () => {
  it("any records, any packet → the rules decide as the policy does, in each direction and in both", () => {
    fc.assert(
      fc.property(world, fc.array(packet, { minLength: 8, maxLength: 8 }), fc.constantFrom(...LARGE_ABOVE), (values, packets, largeAbove) => {
        const { ruleset } = plan(values, [A, B], new PlanCache({ largeAbove, smallUpTo: 0 }));
        for (const each of packets) {
          const egress = expected(values, "a", "egress", each);
          const ingress = expected(values, "b", "ingress", each);
          const out = interpretHook(ruleset, "forward", { ...each, iifname: "calia", oifname: "eth0" });
          const into = interpretHook(ruleset, "forward", { ...each, iifname: "eth0", oifname: "calib" });
          const both = interpretHook(ruleset, "forward", { ...each, iifname: "calia", oifname: "calib" });
          const toHost = interpretHook(ruleset, "input", { ...each, iifname: "calia" });
          expect([out, into, both, toHost]).toEqual([egress, ingress, egress === "accept" ? ingress : egress, egress]);
        }
      }),
      { numRuns: 1500 },
    );
  }, 120_000);

  it("with denyAction reject, what policy denies is told to the sender, and nothing else passes or is stopped", () => {
    const outcomes = new Set<string>();
    const ruled = (values: readonly RecordValue[], denyAction: "drop" | "reject"): NftRuleset =>
      desiredRuleset({ records: recordMap(values), undecodable: new Map(), endpoints: [A, B], settings: { ...SETTINGS, denyAction } }).ruleset;
    fc.assert(
      fc.property(world, packet, (values, each) => {
        const [dropping, rejecting] = (["drop", "reject"] as const).map((denyAction) =>
          interpretHook(ruled(values, denyAction), "forward", { ...each, iifname: "eth0", oifname: "calib" }),
        );
        expect(rejecting === "accept").toBe(dropping === "accept");
        outcomes.add(`${dropping} ${rejecting}`);
      }),
      { numRuns: 400 },
    );
    expect([...outcomes].sort()).toEqual(expect.arrayContaining(["accept accept", "drop reject", "reject reject"]));
  });

  it("any world with floating addresses → the destination becomes the pod's own before policy, which decides by that; what a pod sends itself comes from there", () => {
    fc.assert(
      fc.property(world, packet, fc.constantFrom(...FLOATING), (values, each, destination) => {
        const { ruleset } = plan(values);
        const version = ipVersion(destination);
        if (each.version !== version) return;
        // Of two records between two commits the first connected pod has it.
        const holder = [A, B].find(({ podKey }) => {
          const record = recordMap(values).get(`endpoint/${podKey}`);
          return record?.kind === "endpoint" && record.floating?.includes(destination);
        });
        const own = holder?.addresses.find((address) => ipVersion(address) === version);
        for (const hook of ["prerouting", "output"] as const)
          expect(translated(ruleset, hook, { ...each, destination })).toEqual({ ...each, destination: own ?? destination });
        expect(translated(ruleset, "prerouting", each)).toEqual(each);
        if (holder === undefined || own === undefined) return;
        const into = interpretHook(ruleset, "forward", {
          ...translated(ruleset, "prerouting", { ...each, destination }),
          iifname: "eth0",
          oifname: holder.interfaceName,
        });
        expect(into).toBe(expected(values, holder === A ? "a" : "b", "ingress", { ...each, destination: own }));
        const hairpin = translated(ruleset, "postrouting", { ...each, source: own, destination: own });
        const record = recordMap(values).get(`endpoint/${holder.podKey}`);
        expect([hairpin.destination, record?.kind === "endpoint" && record.floating?.includes(hairpin.source as IpAddress)]).toEqual([own, true]);
        expect(translated(ruleset, "postrouting", { ...each, source: "192.0.2.9", destination: own }).source).toBe("192.0.2.9");
      }),
      { numRuns: 500 },
    );
    const { ruleset } = plan([{ kind: "endpoint", namespace: "shop", pod: "a", uid: "u1", stack: "", addresses: [] }]);
    expect([...ruleset.sets.keys(), ...ruleset.chains.keys()].filter((name) => name.startsWith("floating"))).toEqual([]);
  }, 60_000);

  it("any two worlds → the difference, carried out, gives the second; with a cache as without one", async () => {
    const endpoints = fc.subarray([A, B]);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(world, endpoints), { minLength: 2, maxLength: 4 }), fc.constantFrom(...LARGE_ABOVE), async (worlds, largeAbove) => {
        const nft = new FakeNft();
        const limits = { largeAbove, smallUpTo: largeAbove >> 1 };
        const cache = new PlanCache(limits);
        let installed: NftRuleset | undefined;
        for (const [values, present] of worlds) {
          const { ruleset } = plan(values, present, cache);
          await nft.apply(diffRulesets(installed, ruleset));
          installed = ruleset;
          const fresh = plan(values, present, adopting(limits, ruleset)).ruleset;
          expect(tableDrift(fresh, await nft.readTable(TABLE))).toEqual([]);
          expect(diffRulesets(ruleset, fresh).operations).toEqual([]);
        }
      }),
      { numRuns: 200 },
    );
  }, 120_000);

  it("members of sets change, keys given → the plan is that of a cache without memory, and the difference holds the changed members alone", async () => {
    const member = fc.oneof(
      fc.nat(300).map((i) => `10.0.${i >> 8}.${i & 255}`),
      fc.nat(300).map((i) => `fd00::${i.toString(16)}`),
    );
    const prefix = fc.tuple(fc.nat(40), fc.constantFrom(24, 26, 30, 32)).map(([i, length]) => cidrOf(parseIp(`10.1.${i}.${(i * 64) & 255}`), length) as string);
    const shard = (id: string, name: string, type: "address" | "prefix", members: fc.Arbitrary<string>, size: number): fc.Arbitrary<SetShard | undefined> =>
      fc.option(
        fc.uniqueArray(members, { maxLength: size }).map((all) => ({ kind: "set" as const, id, shard: name, type, members: all })),
        { nil: undefined, freq: 8 },
      );
    const anyShard = fc.oneof(
      fc.constantFrom("0", "10", "11").chain((name) => shard("s", name, "address", member, 60).map((value) => [`set/s/${name}`, value] as const)),
      fc.constantFrom("n0", "n1").chain((name) => shard("s", name, "prefix", prefix, 40).map((value) => [`set/s/${name}`, value] as const)),
    );
    const allow: Rule = { action: "allow", protocol: 0, source: { ...NOTHING, sets: ["s"] }, destination: { ...NOTHING, notSets: ["s"] }, origin: 0 };
    const fixed: readonly RecordValue[] = [
      { kind: "policy", policyKind: "K", namespace: "shop", name: "p", tier: "default", ingress: [allow], egress: [] },
      { kind: "stack", id: "x", tiers: [{ name: "default", defaultAction: "deny", ingress: ["policy/K/shop/p"], egress: [] }], noMatchAction: "allow" },
      { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "stack/x", addresses: [] },
    ];
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(anyShard, { maxLength: 3 }), { minLength: 2, maxLength: 12 }), fc.constantFrom(...MANY), async (steps, largeAbove) => {
        const records = recordMap(fixed);
        const limits = { largeAbove, smallUpTo: largeAbove >> 1 };
        const cache = new PlanCache(limits);
        const nft = new FakeNft();
        let installed: NftRuleset | undefined;
        for (const [i, changes] of steps.entries()) {
          for (const [key, value] of changes) {
            if (value === undefined) records.delete(key);
            else records.set(key, value);
          }
          const input = { records, undecodable: new Map(), endpoints: [A], settings: SETTINGS };
          const { ruleset } = desiredRuleset({ ...input, changed: new Set(changes.map(([key]) => key)) }, cache);
          const fresh = desiredRuleset(input, adopting(limits, ruleset)).ruleset;
          // Now and then a state is left out, as when the kernel is busy.
          if (i % 3 === 1) continue;
          await nft.apply(diffRulesets(installed, ruleset));
          installed = ruleset;
          expect(tableDrift(fresh, await nft.readTable(TABLE))).toEqual([]);
          expect(diffRulesets(ruleset, fresh).operations).toEqual([]);
        }
      }),
      { numRuns: 150 },
    );
  }, 120_000);

  it("policies, stacks and endpoints change, keys given → the plan is that of a cache without memory", () => {
    const names = fc.constantFrom(...policyNames);
    const change: fc.Arbitrary<RecordValue> = fc.oneof(
      { weight: 4, arbitrary: names.chain(policy) },
      { weight: 1, arbitrary: stack("x") },
      {
        weight: 1,
        arbitrary: fc
          .constantFrom("stack/x", "stack/y", "")
          .map((key) => ({ kind: "endpoint" as const, namespace: "shop", pod: "a", uid: "", stack: key, addresses: [] })),
      },
    );
    fc.assert(
      fc.property(
        world,
        fc.array(fc.tuple(change, fc.boolean()), { minLength: 1, maxLength: 8 }),
        fc.constantFrom(...LARGE_ABOVE),
        (values, changes, largeAbove) => {
          const records = recordMap(values);
          const limits = { largeAbove, smallUpTo: 0 };
          const cache = new PlanCache(limits);
          const input = { records, undecodable: new Map(), endpoints: [A, B], settings: SETTINGS };
          desiredRuleset(input, cache);
          for (const [value, isRemoved] of changes) {
            const key = recordKey(value);
            if (isRemoved) records.delete(key);
            else records.set(key, value);
            const incremental = desiredRuleset({ ...input, changed: new Set([key]) }, cache);
            const fresh = desiredRuleset(input, adopting(limits, incremental.ruleset));
            expect(diffRulesets(incremental.ruleset, fresh.ruleset).operations).toEqual([]);
            expect(incremental.failures).toEqual(fresh.failures);
            expect([...incremental.origins]).toEqual(expect.arrayContaining([...fresh.origins]));
          }
        },
      ),
      { numRuns: 300 },
    );
  }, 120_000);

  it("an interface of ours that is not known → dropped everywhere; another interface → not ours to judge", () => {
    const { ruleset } = plan([]);
    const base: InterpretedPacket = { version: 4, source: "10.0.0.9", destination: "10.0.0.1", protocol: 6, sourcePort: 1, destinationPort: 1, ctState: "new" };
    for (const hook of ["prerouting", "forward", "input"]) {
      expect(interpretHook(ruleset, hook, { ...base, iifname: "cali9" })).toBe("drop");
      expect(interpretHook(ruleset, hook, { ...base, iifname: "eth0" })).toBe("accept");
    }
    for (const hook of ["forward", "output"]) expect(interpretHook(ruleset, hook, { ...base, oifname: "cali9" })).toBe("drop");
    expect(interpretHook(ruleset, "output", { ...base, oifname: "calia" })).toBe("accept");
  });

  it("sources: a pod's own pass, another's do not; neighbour discovery from link-local and unspecified passes", () => {
    const { ruleset } = plan([]);
    const from = (version: 4 | 6, source: string, more: Partial<InterpretedPacket> = {}): string =>
      interpretHook(ruleset, "prerouting", {
        version,
        source,
        destination: "10.0.0.2",
        protocol: 6,
        sourcePort: 1,
        destinationPort: 1,
        ctState: "new",
        iifname: "calia",
        ...more,
      });
    const discovery = { protocol: 58, icmpType: "nd-neighbor-solicit" };
    expect([from(4, "10.0.0.1"), from(6, "fd00::1"), from(6, "fe80::1", discovery), from(6, "::", discovery)]).toEqual(Array(4).fill("accept"));
    expect([from(4, "10.0.0.2"), from(6, "fd00::2"), from(6, "fe80::1"), from(6, "fd00::2", discovery), from(4, "127.0.0.1")]).toEqual(Array(5).fill("drop"));
  });

  it("established and related pass whatever policy says; invalid does not", () => {
    const denied: RecordValue[] = [
      { kind: "stack", id: "x", tiers: [], noMatchAction: "deny" },
      { kind: "endpoint", namespace: "shop", pod: "a", uid: "u1", stack: "stack/x", addresses: [] },
    ];
    const { ruleset } = plan(denied);
    const base: Omit<InterpretedPacket, "ctState"> = {
      version: 4,
      source: "10.0.0.1",
      destination: "10.0.0.9",
      protocol: 6,
      sourcePort: 1,
      destinationPort: 1,
      iifname: "calia",
      oifname: "eth0",
    };
    expect((["new", "established", "related", "invalid"] as const).map((ctState) => interpretHook(ruleset, "forward", { ...base, ctState }))).toEqual([
      "drop",
      "accept",
      "accept",
      "drop",
    ]);
  });

  it("an invalid packet passes nowhere, but for SCTP where policy allows it", () => {
    const stack = (id: string, noMatchAction: "allow" | "deny"): RecordValue => ({ kind: "stack", id, tiers: [], noMatchAction });
    const endpoint = (pod: string, ofStack: string): RecordValue => ({ kind: "endpoint", namespace: "shop", pod, uid: "", stack: ofStack, addresses: [] });
    const { ruleset } = plan([stack("open", "allow"), stack("closed", "deny"), endpoint("a", "stack/open"), endpoint("b", "stack/closed")]);
    const from = (iifname: string, protocol: number): string =>
      interpretHook(ruleset, "forward", {
        version: 4,
        source: "10.0.0.1",
        destination: "10.0.0.9",
        protocol,
        sourcePort: 1,
        destinationPort: 1,
        iifname,
        oifname: "eth0",
        ctState: "invalid",
      });
    expect([from("calia", 6), from("calia", 17), from("calia", 132), from("calib", 132)]).toEqual(["drop", "drop", "accept", "drop"]);
  });

  it("masquerade: from a pool that wants it to outside all pools, and nothing else", () => {
    const pool = (name: string, cidr: string, natOutgoing: boolean): RecordValue => ({
      kind: "pool",
      name,
      cidr: parseCidr(cidr),
      natOutgoing,
      disabled: false,
      blockSize: 26,
    });
    const { ruleset } = plan([pool("a", "10.0.0.0/16", true), pool("b", "10.1.0.0/16", false), pool("c", "fd00::/64", true)]);
    const outcome = (version: 4 | 6, source: string, destination: string): string =>
      interpretHook(ruleset, "postrouting", { version, source, destination, protocol: 17, sourcePort: 1, destinationPort: 1, ctState: "new" });
    expect([outcome(4, "10.0.0.1", "192.0.2.1"), outcome(6, "fd00::1", "2001:db8::1")]).toEqual(["masquerade", "masquerade"]);
    expect([
      outcome(4, "10.0.0.1", "10.1.0.1"),
      outcome(4, "10.1.0.1", "192.0.2.1"),
      outcome(4, "172.16.0.1", "192.0.2.1"),
      outcome(6, "fd00::1", "fd00::2"),
    ]).toEqual(Array(4).fill("accept"));
  });

  it("a pod made again under the same name: the record of the one before does not count", () => {
    const values: RecordValue[] = [{ kind: "endpoint", namespace: "shop", pod: "a", uid: "old", stack: "", addresses: [] }];
    const again = plan(values, [{ ...A, podUid: "new" }]);
    expect(again.withPolicy.has(A.podKey)).toBe(false);
    expect(
      interpretHook(again.ruleset, "forward", {
        version: 4,
        source: "10.0.0.1",
        destination: "10.0.0.9",
        protocol: 6,
        ctState: "new",
        iifname: "calia",
        oifname: "eth0",
      }),
    ).toBe("drop");
    expect(plan(values, [{ ...A, podUid: "old" }]).withPolicy.has(A.podKey)).toBe(true);
  });

  it("a set with a shard that is not understood: deny and not-in rules drop, allow by membership goes on; reported", () => {
    const side = (part: Partial<RuleSide>): RuleSide => ({ ...NOTHING, ...part });
    const values = (rules: readonly Rule[]): RecordValue[] => [
      { kind: "policy", policyKind: "K", namespace: "shop", name: "p", tier: "default", ingress: [], egress: rules },
      { kind: "stack", id: "x", tiers: [{ name: "default", defaultAction: "deny", ingress: [], egress: ["policy/K/shop/p"] }], noMatchAction: "allow" },
      { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "stack/x", addresses: [] },
      { kind: "set", id: "s", shard: "0", type: "address", members: ["10.0.0.2"] },
    ];
    const verdict = (rules: readonly Rule[]): readonly unknown[] => {
      const { ruleset, failures } = desiredRuleset({
        records: recordMap(values(rules)),
        undecodable: new Map([["set/s/1", "of a later version"]]),
        endpoints: [A],
        settings: SETTINGS,
      });
      const outcome = interpretHook(ruleset, "forward", {
        version: 4,
        source: "10.0.0.1",
        destination: "10.0.0.2",
        protocol: 6,
        sourcePort: 1,
        destinationPort: 80,
        ctState: "new",
        iifname: "calia",
        oifname: "eth0",
      });
      return [outcome, failures.map(({ key }) => key)];
    };
    const allowAll: Rule = { action: "allow", protocol: 0, source: NOTHING, destination: NOTHING, origin: 1 };
    expect(verdict([{ ...allowAll, destination: side({ sets: ["s"] }) }])).toEqual(["accept", ["set/s/1"]]);
    expect(verdict([{ ...allowAll, action: "deny", destination: side({ sets: ["s"], nets: [parseCidr("192.0.2.0/24")] }) }, allowAll])).toEqual([
      "drop",
      ["set/s/1", "policy/K/shop/p"],
    ]);
    expect(verdict([{ ...allowAll, destination: side({ notSets: ["s"] }) }, allowAll])).toEqual(["drop", ["set/s/1", "policy/K/shop/p"]]);
  });
});
