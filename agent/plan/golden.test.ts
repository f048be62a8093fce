import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { podKey } from "../../src/model/names.ts";
import { type RecordKey, type RecordValue, type Rule, type RuleSide, recordKey } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import type { LargeSetLimits } from "./address-sets.ts";
import { diffRulesets } from "./diff.ts";
import { nftText, transactionText } from "./nft/text.ts";
import { desiredRuleset, type Plan, PlanCache } from "./ruleset.ts";

const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const rule = (part: Partial<Rule>): Rule => ({ action: "allow", protocol: 0, source: NOTHING, destination: NOTHING, origin: 0, ...part });
const policy = (name: string, ingress: readonly Rule[], egress: readonly Rule[] = []): RecordValue => ({
  kind: "policy",
  policyKind: "KubernetesNetworkPolicy",
  namespace: "shop",
  name,
  tier: "default",
  ingress,
  egress,
});
const key = (name: string): string => `policy/KubernetesNetworkPolicy/shop/${name}`;
const side = (part: Partial<RuleSide>): RuleSide => ({ ...NOTHING, ...part });

/** One of everything that the planner can say. */
const WORLD: readonly RecordValue[] = [
  { kind: "pool", name: "v4", cidr: parseCidr("10.65.0.0/16"), natOutgoing: true, disabled: false, blockSize: 26 },
  { kind: "pool", name: "v6", cidr: parseCidr("fd65::/48"), natOutgoing: false, disabled: true, blockSize: 122 },
  {
    kind: "endpoint",
    namespace: "shop",
    pod: "open",
    uid: "",
    stack: "",
    addresses: [],
    floating: ["10.65.9.1", "10.65.9.2", "fd65::9:1"].map(parseIp),
  },
  { kind: "endpoint", namespace: "shop", pod: "web", uid: "", stack: "stack/1", addresses: [] },
  {
    kind: "stack",
    id: "1",
    noMatchAction: "allow",
    tiers: [
      { name: "security", defaultAction: "pass", ingress: [key("passes")], egress: [] },
      { name: "default", defaultAction: "deny", ingress: [key("from-shop"), key("absent")], egress: [key("to-world")] },
    ],
  },
  policy("passes", [
    rule({ action: "log", protocol: 6 }),
    rule({ action: "pass", source: side({ nets: [parseCidr("10.65.0.0/24")] }), origin: 1 }),
    rule({ action: "deny", protocol: 1, origin: 2 }),
  ]),
  policy("from-shop", [
    rule({
      protocol: 6,
      source: side({ sets: ["s:shop"] }),
      destination: side({
        ports: [
          { first: 80, last: 80 },
          { first: 8000, last: 8010 },
          { first: 8005, last: 8020 },
        ],
      }),
    }),
    rule({
      protocol: 17,
      source: side({ sets: ["s:shop"], notSets: ["n:bad"] }),
      destination: side({ portSets: ["p:dns"], ports: [{ first: 53, last: 53 }] }),
      origin: 1,
    }),
  ]),
  policy(
    "to-world",
    [],
    [
      rule({
        protocol: 132,
        destination: side({
          nets: [parseCidr("0.0.0.0/0")],
          notNets: [parseCidr("10.0.0.0/8"), parseCidr("10.1.0.0/16"), parseCidr("192.168.0.0/16")],
          ports: [{ first: 9, last: 9 }],
        }),
      }),
      rule({ destination: side({ nets: [parseCidr("2001:db8::/32"), parseCidr("192.0.2.0/24")] }), origin: 1 }),
      rule({ destination: side({ ports: [{ first: 123, last: 123 }] }), origin: 2 }),
    ],
  ),
  { kind: "endpoint", namespace: "shop", pod: "strict", uid: "", stack: "stack/2", addresses: [] },
  {
    kind: "stack",
    id: "2",
    noMatchAction: "deny",
    tiers: [{ name: "platform", defaultAction: "reject", ingress: [key("corners")], egress: [] }],
    profiles: [key("profile")],
    logDenied: true,
  },
  policy("profile", [rule({ action: "deny", notProtocol: 6 })], [rule({})]),
  policy("corners", [
    rule({ protocol: 1, icmp: { type: 8 }, name: 'ping "all"' }),
    rule({ protocol: 58, icmp: { type: 1, code: 3 }, notIcmp: { type: 128 }, origin: 1 }),
    rule({ protocol: 1, notIcmp: { type: 3, code: 1 }, origin: 2 }),
    rule({ action: "reject", destination: side({ notPorts: [{ first: 80, last: 90 }] }), origin: 3 }),
    rule({ action: "reject", ipVersion: 6, origin: 4 }),
    rule({
      protocol: 17,
      source: side({ notPortSets: ["p:dns"] }),
      destination: side({
        notPorts: [
          { first: 1, last: 1 },
          { first: 3, last: 5 },
        ],
      }),
      origin: 5,
    }),
    rule({ action: "deny", source: side({ sets: ["m:both"], notSets: ["n:bad", "m:both"] }), origin: 6 }),
    rule({ action: "log", protocol: 47, logPrefix: "gre", origin: 7 }),
    rule({ notProtocol: 132, destination: side({ ports: [{ first: 443, last: 443 }] }), origin: 8 }),
    rule({
      action: "reject",
      source: side({ sets: ["n:large"], notSets: ["n:bad"] }),
      destination: side({ sets: ["m:both"], notSets: ["n:large"], ports: [{ first: 80, last: 80 }] }),
      origin: 9,
    }),
  ]),
  { kind: "set", id: "n:large", shard: "0", type: "prefix", members: ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"] },
  { kind: "set", id: "n:large", shard: "1", type: "prefix", members: ["10.2.3.4/32", "fd00::/8", "fd01:2:3:4::/63"] },
  { kind: "set", id: "m:both", shard: "", type: "address", members: ["10.65.0.7"] },
  { kind: "set", id: "m:both", shard: "n", type: "prefix", members: ["10.66.0.0/16", "10.66.1.0/24", "fd66::/64"] },
  {
    kind: "host",
    name: "n1-eth0",
    interfaceName: "eth0",
    addresses: [],
    stack: "stack/1",
    forwardStack: "",
    preDnatStack: "stack/3",
    untrackedStack: "stack/3",
  },
  { kind: "host", name: "n1-all", interfaceName: "*", addresses: [], stack: "stack/1", forwardStack: "stack/3", preDnatStack: "", untrackedStack: "" },
  { kind: "stack", id: "3", noMatchAction: "allow", tiers: [{ name: "default", defaultAction: "pass", ingress: [key("from-shop")], egress: [] }] },
  { kind: "set", id: "s:shop", shard: "", type: "address", members: ["10.65.0.1", "10.65.0.2", "fd65::1"] },
  { kind: "set", id: "n:bad", shard: "", type: "prefix", members: ["10.65.0.0/30", "10.65.0.0/31"] },
  { kind: "set", id: "p:dns", shard: "", type: "address-port", members: ["10.65.0.1,udp:53", "fd65::1,tcp:53"] },
];

/** As those of thousands of prefixes are held. */
const SIX_ARE_MANY: LargeSetLimits = { largeAbove: 6, smallUpTo: 6 };

function plan(values: readonly RecordValue[]): Plan {
  const pod = (name: string, i: number) => ({
    podKey: podKey("shop", name),
    interfaceName: `cali${name}`,
    addresses: [parseIp(`10.65.0.${i}`), parseIp(`fd65::${i}`)],
  });
  const input = {
    records: new Map(values.map((value) => [recordKey(value), value])),
    undecodable: new Map<RecordKey, string>(),
    endpoints: [pod("open", 1), pod("web", 2), pod("new", 3), pod("strict", 4)],
    settings: { nodeName: "n1", interfacePrefix: "cali" },
  };
  return desiredRuleset(input, new PlanCache(SIX_ARE_MANY));
}

/** With GOLDEN_UPDATE=1 the file is written anew, to be reviewed like code. */
function expectGolden(name: string, text: string): void {
  const path = fileURLToPath(new URL(`../../test/golden/${name}`, import.meta.url));
  if (process.env["GOLDEN_UPDATE"] === "1") writeFileSync(path, text);
  expect(text).toBe(readFileSync(path, "utf8"));
}

describe("golden", () => {
  it("the whole table", () => {
    expectGolden("agent-table.nft", nftText(plan(WORLD).ruleset));
  });

  it("one rule and one member changed, one policy gone", () => {
    const changed = WORLD.filter((value) => recordKey(value) !== key("to-world")).map((value): RecordValue => {
      if (value.kind === "stack") return { ...value, tiers: value.tiers.map((tier) => ({ ...tier, egress: [] })) };
      if (recordKey(value) === key("from-shop"))
        return policy("from-shop", [rule({ protocol: 6, source: side({ sets: ["s:shop"] }), destination: side({ ports: [{ first: 443, last: 443 }] }) })]);
      return value.kind === "set" && value.id === "s:shop" ? { ...value, members: ["10.65.0.2", "10.65.0.9", "fd65::1"] } : value;
    });
    expectGolden("agent-changes.nft", transactionText(diffRulesets(plan(WORLD).ruleset, plan(changed).ruleset)));
  });
});
