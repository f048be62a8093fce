import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { podKey } from "../../src/model/names.ts";
import { type Policy, type RecordKey, type RecordValue, type Rule, type RuleSide, recordKey, type SetShard, type Stack } from "../../src/model/record.ts";
import { cidrContains, parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { type Direction, evaluate } from "../../src/policy/evaluate.ts";
import { FakeNft } from "../../test/fakes/fake-nft.ts";
import { type InterpretedPacket, interpretHook } from "../../test/fakes/nft-interpreter.ts";
import { tableDrift } from "../drivers/nftables/state.ts";
import { diffRulesets } from "./diff.ts";
import { TABLE } from "./names.ts";
import type { NftRuleset } from "./nft/ruleset.ts";
import { desiredRuleset, type Plan, PlanCache, type PlannedEndpoint } from "./ruleset.ts";

const SETTINGS = { nodeName: "n1", interfacePrefix: "cali" };
const V4 = ["10.0.0.1", "10.0.0.2", "10.0.0.5", "10.0.1.1", "192.0.2.1"];
const V6 = ["fd00::1", "fd00::2", "fd00::5", "fd00:1::1", "2001:db8::1"];
const A: PlannedEndpoint = { podKey: podKey("shop", "a"), interfaceName: "calia", addresses: [parseIp("10.0.0.1"), parseIp("fd00::1")] };
const B: PlannedEndpoint = { podKey: podKey("shop", "b"), interfaceName: "calib", addresses: [parseIp("10.0.0.2"), parseIp("fd00::2")] };

const address = fc.constantFrom(...V4, ...V6).map(parseIp);
const net = fc.constantFrom("10.0.0.0/24", "10.0.0.0/30", "10.0.0.1/32", "0.0.0.0/0", "fd00::/64", "fd00::1/128", "::/0", "192.0.2.0/24").map(parseCidr);
const addressSet = fc.constantFrom("s1", "s2", "empty");
const range = fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: -1, max: 2 })).map(([first, more]) => ({ first, last: first + more }));
const side: fc.Arbitrary<RuleSide> = fc.record({
  nets: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 2, arbitrary: fc.array(net, { maxLength: 3 }) }),
  notNets: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    {
      weight: 1,
      arbitrary: fc.array(
        net.filter((cidr) => !cidr.endsWith("/0")),
        { maxLength: 2 },
      ),
    },
  ),
  sets: fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(addressSet, { maxLength: 2 }) }),
  notSets: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(addressSet, { maxLength: 1 }) }),
  ports: fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(range, { maxLength: 3 }) }),
  portSets: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: fc.array(fc.constantFrom("p1", "no-ports"), { maxLength: 2 }) }),
});
const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const rule: fc.Arbitrary<Rule> = fc.record({
  action: fc.constantFrom("allow", "allow", "deny", "pass", "log"),
  protocol: fc.constantFrom(0, 6, 17, 132, 1, 58),
  source: fc.oneof(fc.constant(NOTHING), side),
  destination: fc.oneof(fc.constant(NOTHING), side),
  origin: fc.nat(9),
});
const policyNames = ["p1", "p2", "p3"];
const policy = (name: string): fc.Arbitrary<Policy> =>
  fc.record({
    kind: fc.constant("policy" as const),
    policyKind: fc.constant("KubernetesNetworkPolicy"),
    namespace: fc.constant("shop"),
    name: fc.constant(name),
    tier: fc.constant("default"),
    ingress: fc.array(rule, { maxLength: 3 }),
    egress: fc.array(rule, { maxLength: 3 }),
  });
const policyKeys = fc.array(
  fc.constantFrom(...policyNames, "absent").map((name) => `policy/KubernetesNetworkPolicy/shop/${name}`),
  { maxLength: 3 },
);
const stack = (id: string): fc.Arbitrary<Stack> =>
  fc.record({
    kind: fc.constant("stack" as const),
    id: fc.constant(id),
    tiers: fc.array(
      fc.record({
        name: fc.constantFrom("security", "default"),
        defaultAction: fc.constantFrom("deny" as const, "pass" as const),
        ingress: policyKeys,
        egress: policyKeys,
      }),
      { maxLength: 2 },
    ),
    noMatchAction: fc.constantFrom("allow" as const, "deny" as const),
  });
const members = (values: fc.Arbitrary<string>): fc.Arbitrary<string[]> => fc.uniqueArray(values, { maxLength: 4 });
const shards: fc.Arbitrary<SetShard[]> = fc
  .tuple(
    members(address),
    members(address),
    members(net),
    members(
      fc.tuple(address, fc.constantFrom("tcp", "udp", "sctp"), fc.integer({ min: 1, max: 6 })).map(([ip, protocol, port]) => `${ip},${protocol}:${port}`),
    ),
  )
  .map(([s1a, s1b, s2, p1]) => [
    { kind: "set", id: "s1", shard: "0", type: "address", members: s1a.filter((member) => !s1b.includes(member)) },
    { kind: "set", id: "s1", shard: "1", type: "address", members: s1b },
    { kind: "set", id: "s2", shard: "", type: "prefix", members: s2 },
    { kind: "set", id: "p1", shard: "", type: "address-port", members: p1 },
  ]);
const world: fc.Arbitrary<readonly RecordValue[]> = fc
  .tuple(
    fc.tuple(...policyNames.map(policy)),
    stack("x"),
    stack("y"),
    shards,
    fc.constantFrom("stack/x", "stack/y", "", "stack/absent"),
    fc.constantFrom("stack/x", "stack/y", ""),
  )
  .map(([policies, x, y, sets, stackOfA, stackOfB]) => [
    ...policies,
    x,
    y,
    ...sets,
    { kind: "endpoint", namespace: "shop", pod: "a", uid: "u1", stack: stackOfA, addresses: [] },
    { kind: "endpoint", namespace: "shop", pod: "b", uid: "u2", stack: stackOfB, addresses: [] },
  ]);
const packet = fc
  .tuple(fc.boolean(), fc.nat(4), fc.nat(4), fc.constantFrom(6, 17, 132, 1, 58), fc.integer({ min: 1, max: 7 }), fc.integer({ min: 1, max: 7 }))
  .map(([isV4, s, d, protocol, sourcePort, destinationPort]): InterpretedPacket => {
    const hasPorts = protocol === 6 || protocol === 17 || protocol === 132;
    const list = isV4 ? V4 : V6;
    return {
      version: isV4 ? 4 : 6,
      source: list[s] ?? "",
      destination: list[d] ?? "",
      protocol,
      ctState: "new",
      ...(hasPorts ? { sourcePort, destinationPort } : {}),
    };
  });

function recordMap(values: readonly RecordValue[]): Map<RecordKey, RecordValue> {
  return new Map(values.map((value) => [recordKey(value), value]));
}

function plan(values: readonly RecordValue[], endpoints: readonly PlannedEndpoint[] = [A, B], cache?: PlanCache): Plan {
  return desiredRuleset({ records: recordMap(values), undecodable: new Map(), endpoints, settings: SETTINGS }, cache);
}

/** What the policy says, by the evaluator of the same records. */
function expected(
  values: readonly RecordValue[],
  pod: string,
  direction: Direction,
  { source, destination, protocol, sourcePort, destinationPort }: InterpretedPacket,
): "allow" | "deny" {
  const records = recordMap(values);
  const endpoint = records.get(`endpoint/shop/${pod}`);
  if (endpoint?.kind !== "endpoint") return "deny";
  const found = endpoint.stack === "" ? undefined : records.get(endpoint.stack);
  if (endpoint.stack !== "" && found === undefined) return "deny";
  const sets = values.filter((value) => value.kind === "set");
  return evaluate({
    stack: found?.kind === "stack" ? found : undefined,
    policy(key) {
      const value = records.get(key);
      return value?.kind === "policy" ? value : undefined;
    },
    sets: {
      hasAddress: (id, ip) =>
        sets.some((set) => set.id === id && set.members.some((member) => (set.type === "prefix" ? cidrContains(parseCidr(member), ip) : member === ip))),
      hasAddressPort: (id, ip, number, port) =>
        sets.some((set) => set.id === id && set.members.includes(`${ip},${{ 6: "tcp", 17: "udp", 132: "sctp" }[number] ?? ""}:${port}`)),
    },
    direction,
    packet: { sourceAddress: parseIp(source), destinationAddress: parseIp(destination), protocol, sourcePort, destinationPort },
  }).action;
}

describe("desiredRuleset", () => {
  it("any records, any packet → the rules decide as the policy does, in each direction and in both", () => {
    fc.assert(
      fc.property(world, fc.array(packet, { minLength: 8, maxLength: 8 }), (values, packets) => {
        const { ruleset } = plan(values);
        for (const each of packets) {
          const egress = expected(values, "a", "egress", each);
          const ingress = expected(values, "b", "ingress", each);
          const out = interpretHook(ruleset, "forward", { ...each, iifname: "calia", oifname: "eth0" });
          const into = interpretHook(ruleset, "forward", { ...each, iifname: "eth0", oifname: "calib" });
          const both = interpretHook(ruleset, "forward", { ...each, iifname: "calia", oifname: "calib" });
          const toHost = interpretHook(ruleset, "input", { ...each, iifname: "calia" });
          expect([out, into, both, toHost]).toEqual([
            egress === "allow" ? "accept" : "drop",
            ingress === "allow" ? "accept" : "drop",
            egress === "allow" && ingress === "allow" ? "accept" : "drop",
            egress === "allow" ? "accept" : "drop",
          ]);
        }
      }),
      { numRuns: 1500 },
    );
  }, 120_000);

  it("any two worlds → the difference, carried out, gives the second; with a cache as without one", async () => {
    const endpoints = fc.subarray([A, B]);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(world, endpoints), { minLength: 2, maxLength: 4 }), async (worlds) => {
        const nft = new FakeNft();
        const cache = new PlanCache();
        let installed: NftRuleset | undefined;
        for (const [values, present] of worlds) {
          const { ruleset } = plan(values, present, cache);
          await nft.apply(diffRulesets(installed, ruleset));
          installed = ruleset;
          const fresh = plan(values, present).ruleset;
          expect(tableDrift(fresh, await nft.readTable(TABLE))).toEqual([]);
          expect(diffRulesets(ruleset, fresh).operations).toEqual([]);
        }
      }),
      { numRuns: 200 },
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
