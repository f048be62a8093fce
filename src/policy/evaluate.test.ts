import { describe, expect, it } from "vitest";
import type { Policy, Rule, RuleSide, SetShard, Stack } from "../model/record.ts";
import { parseCidr } from "../net/cidr.ts";
import { parseIp } from "../net/ip.ts";
import { type Decision, evaluate, type Packet } from "./evaluate.ts";
import { setsOfShards } from "./shard-sets.ts";

const ANY: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const rule = (action: Rule["action"], fields: Partial<Rule> = {}): Rule => ({ action, protocol: 0, source: ANY, destination: ANY, origin: 0, ...fields });
const policyOf = (name: string, ingress: readonly Rule[], tier = "default"): Policy => ({
  kind: "policy",
  policyKind: "K",
  namespace: "n",
  name,
  tier,
  ingress,
  egress: [],
});
const packet: Packet = { sourceAddress: parseIp("10.0.0.1"), destinationAddress: parseIp("10.0.0.2"), protocol: 6, destinationPort: 80 };
const shard = (id: string, type: SetShard["type"], members: readonly string[], name = ""): SetShard => ({ kind: "set", id, shard: name, type, members });
const SETS = setsOfShards([
  shard("ten", "address", ["10.0.0.1"], "0"),
  shard("ten", "address", ["fd00::1"], "1"),
  shard("net", "prefix", ["10.0.0.0/24"]),
  shard("web", "address-port", ["10.0.0.2,tcp:80", "10.0.0.2,udp:53"]),
]);

interface Tier {
  readonly name: string;
  readonly defaultAction: "deny" | "pass" | "reject";
  readonly policies: readonly Policy[];
}

function decide(tiers: readonly Tier[], options: { packet?: Packet; noMatchAction?: "allow" | "deny" } = {}): Decision {
  const policies = new Map<string, Policy>(tiers.flatMap((tier) => tier.policies.map((policy) => [`policy/${policy.name}`, policy] as const)));
  const stack: Stack = {
    kind: "stack",
    id: "s",
    tiers: tiers.map(({ name, defaultAction, policies: own }) => ({
      name,
      defaultAction,
      ingress: own.map(({ name: policy }) => `policy/${policy}`),
      egress: [],
    })),
    noMatchAction: options.noMatchAction ?? "allow",
  };
  return evaluate({ stack, policy: (key) => policies.get(key), sets: SETS, direction: "ingress", packet: options.packet ?? packet });
}

const one = (...rules: readonly Rule[]): readonly Tier[] => [{ name: "default", defaultAction: "deny", policies: [policyOf("a", rules)] }];

describe("evaluate", () => {
  it("no stack: allowed, no policy applies", () => {
    expect(evaluate({ stack: undefined, policy: () => undefined, sets: SETS, direction: "ingress", packet })).toEqual({
      action: "allow",
      by: { kind: "no-policy" },
    });
  });

  it("a tier without policies in the direction is skipped", () => {
    const tiers: readonly Tier[] = [{ name: "default", defaultAction: "deny", policies: [] }];
    expect(decide(tiers)).toEqual({ action: "allow", by: { kind: "no-match" } });
    expect(decide(tiers, { noMatchAction: "deny" })).toEqual({ action: "deny", by: { kind: "no-match" } });
  });

  it("the end of a tier denies", () => {
    expect(decide(one())).toEqual({ action: "deny", by: { kind: "tier-default", tier: "default", policies: ["policy/a"] } });
  });

  it("the first matching rule decides, log goes on, and names what a person wrote", () => {
    const rules = [rule("log"), rule("deny", { protocol: 17, origin: 1 }), rule("allow", { protocol: 6, origin: 4 }), rule("deny", { origin: 5 })];
    expect(decide(one(...rules))).toEqual({ action: "allow", by: { kind: "rule", tier: "default", policy: "policy/a", rule: 2, origin: 4 } });
    expect(decide(one(rule("log")))).toMatchObject({ action: "deny", by: { kind: "tier-default" } });
  });

  it("policies in order; pass leaves the tier", () => {
    const tiers: readonly Tier[] = [
      { name: "first", defaultAction: "deny", policies: [policyOf("a", [rule("pass", { protocol: 6 })]), policyOf("b", [rule("deny")])] },
      { name: "second", defaultAction: "pass", policies: [policyOf("c", [rule("allow", { protocol: 17 })])] },
      { name: "third", defaultAction: "deny", policies: [policyOf("d", [rule("allow", { protocol: 6 })])] },
    ];
    expect(decide(tiers)).toMatchObject({ action: "allow", by: { policy: "policy/d", tier: "third" } });
    expect(decide(tiers, { packet: { ...packet, protocol: 17 } })).toMatchObject({ action: "deny", by: { policy: "policy/b", tier: "first" } });
  });

  it("a policy that is not there denies", () => {
    const stack: Stack = {
      kind: "stack",
      id: "s",
      tiers: [{ name: "default", defaultAction: "pass", ingress: ["policy/x"], egress: [] }],
      noMatchAction: "allow",
    };
    const decision = evaluate({ stack, policy: () => undefined, sets: SETS, direction: "ingress", packet });
    expect(decision).toEqual({ action: "deny", by: { kind: "missing-policy", tier: "default", policy: "policy/x" } });
  });

  it.each<[string, Partial<Rule>, boolean]>([
    ["protocol", { protocol: 6 }, true],
    ["another protocol", { protocol: 17 }, false],
    ["net", { source: { ...ANY, nets: ["10.0.0.0/24", "11.0.0.0/8"].map(parseCidr) } }, true],
    ["net of the other family", { source: { ...ANY, nets: [parseCidr("::/0")] } }, false],
    ["notNet", { source: { ...ANY, nets: [parseCidr("10.0.0.0/8")], notNets: [parseCidr("10.0.0.0/30")] } }, false],
    ["notNet elsewhere", { source: { ...ANY, notNets: [parseCidr("10.0.1.0/24")] } }, true],
    ["set", { source: { ...ANY, sets: ["ten", "net"] } }, true],
    ["one set misses", { source: { ...ANY, sets: ["ten", "gone"] } }, false],
    ["notSet", { source: { ...ANY, notSets: ["ten"] } }, false],
    ["notSet misses", { destination: { ...ANY, notSets: ["ten"] } }, true],
    ["port range", { destination: { ...ANY, ports: [{ first: 79, last: 81 }] } }, true],
    ["outside the range", { destination: { ...ANY, ports: [{ first: 81, last: 90 }] } }, false],
    ["port set", { destination: { ...ANY, portSets: ["web"] } }, true],
    ["range or set", { destination: { ...ANY, ports: [{ first: 1, last: 1 }], portSets: ["web"] } }, true],
    ["port set of another set", { destination: { ...ANY, portSets: ["gone"] } }, false],
    ["source port unknown", { source: { ...ANY, ports: [{ first: 0, last: 65535 }] } }, false],
  ])("a rule with %s", (_name, fields, matches) => {
    expect(decide(one(rule("allow", fields))).action).toBe(matches ? "allow" : "deny");
  });

  it("a packet without ports matches no rule that states ports", () => {
    const icmp = { ...packet, protocol: 1, destinationPort: undefined };
    expect(decide(one(rule("allow", { destination: { ...ANY, ports: [{ first: 0, last: 65535 }] } })), { packet: icmp }).action).toBe("deny");
    expect(decide(one(rule("allow")), { packet: icmp }).action).toBe("allow");
  });

  const icmp = (protocol: number, icmpType?: number, icmpCode?: number): Packet => ({ ...packet, protocol, destinationPort: undefined, icmpType, icmpCode });
  const six: Packet = { ...packet, sourceAddress: parseIp("fd00::1"), destinationAddress: parseIp("fd00::2") };
  const onPort = (destinationPort: number | undefined, protocol = 6): Packet => ({ ...packet, protocol, destinationPort });
  const to = (fields: Partial<RuleSide>): Partial<Rule> => ({ destination: { ...ANY, ...fields } });
  it.each<readonly [string, Partial<Rule>, Packet, boolean]>([
    ["ipVersion 4, IPv4", { ipVersion: 4 }, packet, true],
    ["ipVersion 4, IPv6", { ipVersion: 4 }, six, false],
    ["ipVersion 6, IPv6", { ipVersion: 6 }, six, true],
    ["notProtocol, that protocol", { notProtocol: 6 }, packet, false],
    ["notProtocol, another", { notProtocol: 17 }, packet, true],
    ["ICMP type", { protocol: 1, icmp: { type: 8 } }, icmp(1, 8, 0), true],
    ["ICMP type, another", { protocol: 1, icmp: { type: 8 } }, icmp(1, 0, 0), false],
    ["ICMP type and code", { protocol: 1, icmp: { type: 3, code: 1 } }, icmp(1, 3, 1), true],
    ["ICMP type and another code", { protocol: 1, icmp: { type: 3, code: 1 } }, icmp(1, 3, 0), false],
    ["ICMP type, packet's not known", { protocol: 1, icmp: { type: 8 } }, icmp(1), false],
    ["not an ICMP type", { protocol: 58, notIcmp: { type: 128 } }, icmp(58, 129), true],
    ["not that ICMP type and code", { protocol: 1, notIcmp: { type: 3, code: 1 } }, icmp(1, 3, 1), false],
    ["not an ICMP type, packet's not known", { protocol: 1, notIcmp: { type: 8 } }, icmp(1), false],
    ["notPorts, in the range", to({ notPorts: [{ first: 80, last: 90 }] }), onPort(85), false],
    ["notPorts, outside", to({ notPorts: [{ first: 80, last: 90 }] }), onPort(91), true],
    ["notPorts, TCP port not known", to({ notPorts: [{ first: 80, last: 90 }] }), onPort(undefined), false],
    ["notPorts, no ports in the protocol", to({ notPorts: [{ first: 80, last: 90 }] }), onPort(undefined, 1), true],
    ["notPortSets, member", to({ notPortSets: ["web"] }), onPort(80), false],
    ["notPortSets, another protocol", to({ notPortSets: ["web"] }), onPort(80, 17), true],
    ["ports but not notPorts", to({ ports: [{ first: 1, last: 100 }], notPorts: [{ first: 80, last: 80 }] }), onPort(80), false],
    ["ports and notPorts elsewhere", to({ ports: [{ first: 1, last: 100 }], notPorts: [{ first: 81, last: 81 }] }), onPort(80), true],
  ])("%s", (_, fields, sent, isAllowed) => {
    expect(decide(one(rule("allow", fields)), { packet: sent }).action).toBe(isAllowed ? "allow" : "deny");
  });

  it("reject denies and says so, as a rule and at the end of a tier", () => {
    expect(decide(one(rule("reject")))).toMatchObject({ action: "deny", isRejected: true, by: { kind: "rule" } });
    const tiers: readonly Tier[] = [{ name: "t", defaultAction: "reject", policies: [policyOf("a", [])] }];
    expect(decide(tiers)).toMatchObject({ action: "deny", isRejected: true, by: { kind: "tier-default" } });
  });

  it("a set has addresses and prefixes: their union", () => {
    const sets = setsOfShards([shard("mix", "address", ["10.0.0.9"]), shard("mix", "prefix", ["10.0.0.0/30"], "n")]);
    expect(["10.0.0.9", "10.0.0.2", "10.0.0.8"].map((address) => sets.hasAddress("mix", parseIp(address)))).toEqual([true, true, false]);
  });

  it("profiles decide after the last tier, in order; one that is missing denies", () => {
    const open = policyOf("open", [rule("allow", { protocol: 6 })], "");
    const stack: Stack = { kind: "stack", id: "s", tiers: [], noMatchAction: "deny", profiles: ["policy/none", "policy/open"] };
    const judge = (policies: Readonly<Record<string, Policy>>, sent = packet): Decision =>
      evaluate({ stack, policy: (key) => policies[key], sets: SETS, direction: "ingress", packet: sent });
    const known = { "policy/none": policyOf("none", [], ""), "policy/open": open };
    expect(judge(known)).toMatchObject({ action: "allow", by: { kind: "rule", tier: "", policy: "policy/open" } });
    expect(judge(known, onPort(53, 17))).toEqual({ action: "deny", by: { kind: "no-match" } });
    expect(judge({ "policy/open": open })).toMatchObject({ action: "deny", by: { kind: "missing-policy" } });
  });
});
