import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { podKey } from "../../src/model/names.ts";
import { type RecordValue, type Rule, type RuleSide, recordKey } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { diffRulesets } from "./diff.ts";
import { nftText, transactionText } from "./nft/text.ts";
import { desiredRuleset, type Plan } from "./ruleset.ts";

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
  { kind: "endpoint", namespace: "shop", pod: "open", uid: "", stack: "", addresses: [] },
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
  { kind: "set", id: "s:shop", shard: "", type: "address", members: ["10.65.0.1", "10.65.0.2", "fd65::1"] },
  { kind: "set", id: "n:bad", shard: "", type: "prefix", members: ["10.65.0.0/30", "10.65.0.0/31"] },
  { kind: "set", id: "p:dns", shard: "", type: "address-port", members: ["10.65.0.1,udp:53", "fd65::1,tcp:53"] },
];

function plan(values: readonly RecordValue[]): Plan {
  const pod = (name: string, i: number) => ({
    podKey: podKey("shop", name),
    interfaceName: `cali${name}`,
    addresses: [parseIp(`10.65.0.${i}`), parseIp(`fd65::${i}`)],
  });
  return desiredRuleset({
    records: new Map(values.map((value) => [recordKey(value), value])),
    undecodable: new Map(),
    endpoints: [pod("open", 1), pod("web", 2), pod("new", 3)],
    settings: { nodeName: "n1", interfacePrefix: "cali" },
  });
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
