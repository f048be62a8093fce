import { describe, expect, it } from "vitest";
import type { IpPool, Labels } from "../model/resource.ts";
import { parseCidr } from "../net/cidr.ts";
import { type AddressingFacts, addressRequestOf, automaticPools } from "./pool-selection.ts";

function pool(name: string, cidr: string, more: Partial<IpPool> = {}): IpPool {
  return {
    kind: "IPPool",
    name,
    resourceVersion: "1",
    cidr: parseCidr(cidr),
    blockSize: cidr.includes(":") ? 122 : 26,
    natOutgoing: false,
    disabled: false,
    nodeSelector: "all()",
    ...more,
  };
}

const POOLS: readonly IpPool[] = [
  pool("b-v4", "10.1.0.0/16"),
  pool("a-v4", "10.0.0.0/16"),
  pool("disabled", "10.2.0.0/16", { disabled: true }),
  pool("manual", "10.3.0.0/16", { disabled: true, isManual: true }),
  pool("east", "10.4.0.0/16", { nodeSelector: "zone == 'east'" }),
  pool("gold", "10.5.0.0/16", { namespaceSelector: "tier == 'gold'" }),
  pool("v6", "fd00::/64"),
];

function facts({ pod = {}, namespace = {}, labels = {}, node = {} }: { pod?: Labels; namespace?: Labels; labels?: Labels; node?: Labels }): AddressingFacts {
  return { pod, namespace: { labels, addressing: namespace }, node: { labels: node }, pools: POOLS };
}

describe("pools without asking", () => {
  it.each<[string, Labels, Labels, readonly string[]]>([
    ["enabled ones, by name", {}, {}, ["a-v4", "b-v4", "v6"]],
    ["those that select the node", { zone: "east" }, {}, ["a-v4", "b-v4", "east", "v6"]],
    ["those that select the namespace", {}, { tier: "gold" }, ["a-v4", "b-v4", "gold", "v6"]],
    ["both", { zone: "east" }, { tier: "gold" }, ["a-v4", "b-v4", "east", "gold", "v6"]],
    ["neither", { zone: "west" }, { tier: "tin" }, ["a-v4", "b-v4", "v6"]],
  ])("%s", (_what, node, labels, expected) => {
    expect(automaticPools(facts({ node, labels })).map(({ name }) => name)).toEqual(expected);
  });
});

describe("a pod's request", () => {
  const NOTHING = { pools: [], addresses: [], ipVersions: [], mac: "", problem: "" };
  it.each<[string, Parameters<typeof facts>[0], object | undefined]>([
    ["nothing of its own", {}, undefined],
    ["a namespace that a pool selects", { labels: { tier: "gold" } }, { ...NOTHING, pools: ["a-v4", "b-v4", "gold", "v6"] }],
    ["a pool by name; the other family stays automatic", { pod: { ipv4pools: '["b-v4"]' } }, { ...NOTHING, pools: ["b-v4", "v6"] }],
    ["a pool by prefix, in the order that is written", { pod: { ipv4pools: '["10.3.0.0/16", "a-v4"]' } }, { ...NOTHING, pools: ["manual", "a-v4", "v6"] }],
    ["a pool that does not select the node", { pod: { ipv4pools: '["east"]' } }, { ...NOTHING, pools: ["east", "v6"] }],
    ["a pool that does not select the namespace", { pod: { ipv4pools: '["gold"]' } }, { ...NOTHING, pools: ["gold", "v6"] }],
    ["a pool of IPv6", { pod: { ipv6pools: '["fd00::/64"]' } }, { ...NOTHING, pools: ["v6", "a-v4", "b-v4"] }],
    ["pools of both families", { pod: { ipv4pools: '["b-v4"]', ipv6pools: '["v6"]' } }, { ...NOTHING, pools: ["b-v4", "v6"] }],
    [
      "the namespace's pools of one family, the pod's of the other",
      { namespace: { ipv6pools: '["v6"]' }, pod: { ipv4pools: '["b-v4"]' } },
      { ...NOTHING, pools: ["b-v4", "v6"] },
    ],
    ["the namespace's", { namespace: { ipv4pools: '["a-v4"]' } }, { ...NOTHING, pools: ["a-v4", "v6"] }],
    ["the pod's over the namespace's", { namespace: { ipv4pools: '["a-v4"]' }, pod: { ipv4pools: '["b-v4"]' } }, { ...NOTHING, pools: ["b-v4", "v6"] }],
    ["an address", { pod: { ipAddrs: '["10.0.0.9"]' } }, { ...NOTHING, addresses: ["10.0.0.9"] }],
    ["both families' addresses", { pod: { ipAddrs: '["fd00::9", "10.3.0.9"]' } }, { ...NOTHING, addresses: ["10.3.0.9", "fd00::9"] }],
    ["an address of a pod's alone: the namespace's is not read", { namespace: { ipAddrs: '["10.0.0.9"]', hwAddr: "02:00:00:00:00:01" } }, undefined],
    ["the namespace's family", { namespace: { ipFamilies: '["IPv4"]' } }, { ...NOTHING, ipVersions: [4] }],
    ["the pod's family over the namespace's", { namespace: { ipFamilies: '["IPv4"]' }, pod: { ipFamilies: '["ipv6"]' } }, { ...NOTHING, ipVersions: [6] }],
    ["one family", { pod: { ipFamilies: '["IPv6"]' } }, { ...NOTHING, ipVersions: [6] }],
    ["a hardware address", { pod: { hwAddr: "02:AB:00:00:00:01" } }, { ...NOTHING, mac: "02:ab:00:00:00:01" }],
  ])("%s", (_what, given, expected) => {
    expect(addressRequestOf(facts(given))).toEqual(expected);
  });

  it.each<[Labels, string]>([
    [{ ipAddrs: "10.0.0.9" }, "write a JSON list"],
    [{ ipAddrs: '["10.0.0.300"]' }, "is not an address"],
    [{ ipAddrs: '["192.0.2.1"]' }, "is in no enabled IPPool"],
    [{ ipAddrs: '["10.2.0.1"]' }, "is in no enabled IPPool"],
    [{ ipAddrs: '["10.0.0.1","10.0.0.2"]' }, "more than one address of a family"],
    [{ ipAddrs: "[]" }, "write a JSON list"],
    [{ ipAddrs: "[1]" }, "write a JSON list"],
    [{ ipv6pools: "v6" }, "write a JSON list"],
    [{ ipv6pools: '["a-v4"]' }, "is of the other family"],
    [{ ipv4pools: '["none"]' }, "there is no IPPool"],
    [{ ipv4pools: '["disabled"]' }, "is disabled"],
    [{ ipv4pools: '["v6"]' }, "is of the other family"],
    [{ ipFamilies: '["IPv5"]' }, "neither IPv4 nor IPv6"],
    [{ hwAddr: "01:00:00:00:00:01" }, "no hardware address"],
  ])("%j is a problem that is named", (pod, expected) => {
    expect(addressRequestOf(facts({ pod }))?.problem).toContain(expected);
  });
});
