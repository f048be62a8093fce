import { describe, expect, it } from "vitest";
import type { Endpoint, Policy, RecordValue, Rule, RuleSide, SetShard, Stack } from "../model/record.ts";
import { parseCidr } from "../net/cidr.ts";
import { parseIp } from "../net/ip.ts";
import { ruleText, type TraceEnd, trace, traceRecords } from "./trace.ts";

const ANY: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const rule = (fields: Partial<Rule>): Rule => ({ action: "allow", protocol: 0, source: ANY, destination: ANY, origin: 0, ...fields });
const policy = (name: string, tier: string, ingress: readonly Rule[]): Policy => ({
  kind: "policy",
  policyKind: "GlobalNetworkPolicy",
  namespace: "",
  name,
  tier,
  ingress,
  egress: [],
});
const key = (name: string): string => `policy/GlobalNetworkPolicy//${name}`;
const clients: SetShard = { kind: "set", id: "clients", shard: "", type: "address", members: ["10.0.0.1"] };
const named: SetShard = { kind: "set", id: "http", shard: "", type: "address-port", members: ["10.0.0.2,tcp:8080"] };
const stack: Stack = {
  kind: "stack",
  id: "s",
  noMatchAction: "allow",
  tiers: [
    { name: "first", defaultAction: "pass", ingress: [key("hand-on"), key("never")], egress: [] },
    { name: "last", defaultAction: "deny", ingress: [key("logs"), key("opens")], egress: [] },
  ],
};
const WORLD: readonly RecordValue[] = [
  clients,
  named,
  stack,
  policy("hand-on", "first", [rule({ action: "pass", origin: 4 })]),
  policy("never", "first", [rule({ action: "deny" })]),
  policy("logs", "last", [rule({ action: "log" })]),
  policy("opens", "last", [
    rule({ action: "deny", protocol: 6, destination: { ...ANY, ports: [{ first: 25, last: 25 }] } }),
    rule({ protocol: 6, source: { ...ANY, sets: ["clients"] }, destination: { ...ANY, portSets: ["http"] }, origin: 1 }),
  ]),
];
const endpoint = (pod: string, address: string, stackKey: string): TraceEnd => {
  const addresses = [parseIp(address)];
  const owner: Endpoint = { kind: "endpoint", namespace: "shop", pod, uid: pod, stack: stackKey, addresses };
  return { text: `shop/${pod}`, addresses, owner };
};
const client = endpoint("client", "10.0.0.1", "");
const web = endpoint("web", "10.0.0.2", "stack/s");
const stranger: TraceEnd = { text: "10.9.9.9", addresses: [parseIp("10.9.9.9")], owner: undefined };
const ask = (from: TraceEnd, to: TraceEnd, port: number, values = WORLD, isOwnNode = false) =>
  trace(traceRecords(values), { from, to, protocol: 6, port, isOwnNode });

describe("trace", () => {
  it("names what passed on, what did not match and what decided, with the sets", () => {
    const answer = ask(client, web, 8080);
    expect(answer?.egress).toMatchObject({ verdict: "allow", reason: "no policy applies to pod shop/client", chain: [] });
    expect(answer?.ingress).toEqual({
      end: "shop/web",
      owner: "endpoint/shop/web",
      verdict: "allow",
      reason: "allowed by spec.ingress[1] of GlobalNetworkPolicy opens (tier last)",
      chain: [
        { tier: "first", policy: key("hand-on"), outcome: "pass", rule: "spec.ingress[4]", says: "pass any from anywhere to anywhere", sets: [] },
        { tier: "last", policy: key("logs"), outcome: "no rule matches", hasRules: true },
        {
          tier: "last",
          policy: key("opens"),
          outcome: "allow",
          misses: [{ rule: "spec.ingress[0]", because: "wants destination port 25, and this is 8080" }],
          rule: "spec.ingress[1]",
          says: "allow tcp from set clients to port of set http",
          sets: [
            { id: "clients", member: "10.0.0.1" },
            { id: "http", member: "10.0.0.2,tcp:8080" },
          ],
        },
      ],
    });
  });

  it("the end of a tier decides, and a rule that denies", () => {
    expect(ask(stranger, web, 8080)?.ingress).toMatchObject({
      verdict: "deny",
      reason: `denied at the end of tier last: no ingress rule of GlobalNetworkPolicy logs, GlobalNetworkPolicy opens matches`,
    });
    expect(ask(stranger, web, 8080)?.ingress.chain.at(-1)).toEqual({ tier: "last", policy: "", outcome: "deny" });
    expect(ask(client, web, 25)).toMatchObject({ verdict: "deny", ingress: { chain: [{}, {}, { outcome: "deny", rule: "spec.ingress[0]" }] } });
  });

  it("a policy or a stack that nobody has denies", () => {
    const without = WORLD.filter((value) => !(value.kind === "policy" && value.name === "opens"));
    expect(ask(client, web, 8080, without)?.ingress).toMatchObject({ verdict: "deny", chain: [{}, {}, { outcome: "policy is not known" }] });
    expect(ask(client, web, 8080, [])?.ingress).toMatchObject({ verdict: "deny", reason: "stack/s of pod shop/web is not known to the server" });
  });

  it("itself, its own node, and no common family", () => {
    expect(ask(web, web, 1)?.verdict).toBe("allow");
    expect(ask(stranger, web, 1, WORLD, true)).toMatchObject({ verdict: "allow", ingress: { chain: [] } });
    expect(ask(endpoint("six", "fd00::1", ""), web, 1)).toBeUndefined();
  });

  it("a rule as text", () => {
    const source: RuleSide = { ...ANY, nets: [parseCidr("10.0.0.0/8")], notNets: [parseCidr("10.1.0.0/16")] };
    const destination: RuleSide = { ...ANY, ports: [{ first: 1, last: 5 }], notPorts: [{ first: 3, last: 3 }] };
    expect(ruleText(rule({ action: "reject", name: "why", ipVersion: 4, protocol: 17, source, destination }))).toBe(
      "reject (why) IPv4 udp from net 10.0.0.0/8 and not net 10.1.0.0/16 to port 1-5 and not port 3",
    );
  });
});
