import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packet, world } from "../../test/fakes/plan-worlds.ts";
import type { Rule, RuleSide } from "../model/record.ts";
import { parseCidr } from "../net/cidr.ts";
import { parseIp } from "../net/ip.ts";
import { type Packet, ruleMatches, type SetLookup } from "../policy/evaluate.ts";
import { setsOfShards } from "../policy/shard-sets.ts";
import { missOf } from "./trace-miss.ts";

const ANY: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const NO_SETS: SetLookup = setsOfShards([]);
const ABOUT = new Map([
  ["s", 'endpoints with app == "client"'],
  ["http", 'named port http of endpoints with app == "web"'],
]);
const TCP: Packet = { sourceAddress: parseIp("10.0.0.1"), destinationAddress: parseIp("10.0.0.2"), protocol: 6, destinationPort: 80 };
const rule = (more: Partial<Rule>): Rule => ({ action: "allow", origin: 2, protocol: 0, source: ANY, destination: ANY, ...more });

describe("missOf", () => {
  it.each<readonly [name: string, rule: Partial<Rule>, because: string | undefined]>([
    ["a rule that matches", {}, undefined],
    ["another protocol", { protocol: 17 }, "wants udp, and this is tcp"],
    ["the other family", { ipVersion: 6 }, "is for IPv6 only"],
    ["a label", { source: { ...ANY, sets: ["s"] } }, 'wants its source among the endpoints with app == "client", and 10.0.0.1 is not'],
    ["a prefix", { destination: { ...ANY, nets: [parseCidr("10.1.0.0/16")] } }, "wants its destination in 10.1.0.0/16, and 10.0.0.2 is not"],
    ["an exclusion", { source: { ...ANY, notNets: [parseCidr("10.0.0.0/8")] } }, "leaves out sources in 10.0.0.0/8, and 10.0.0.1 is one"],
    [
      "a port, by number and by name",
      { protocol: 6, destination: { ...ANY, ports: [{ first: 443, last: 443 }], portSets: ["http"] } },
      'wants destination port 443 or named port http of endpoints with app == "web", and this is 80',
    ],
    [
      "two things",
      { protocol: 6, ipVersion: 6, destination: { ...ANY, ports: [{ first: 1, last: 9 }] } },
      "is for IPv6 only; wants destination port 1-9, and this is 80",
    ],
  ])("%s", (_name, given, because) => {
    const found = missOf(rule(given), { direction: "ingress", packet: TCP, sets: NO_SETS, about: ABOUT });
    expect(found).toEqual(because === undefined ? undefined : { rule: "spec.ingress[2]", because });
  });

  it("any rule, any packet → there is something amiss exactly when it does not match", () => {
    fc.assert(
      fc.property(world, packet, (values, { source, destination, protocol, destinationPort, sourcePort }) => {
        const sets = setsOfShards(values.flatMap((value) => (value.kind === "set" ? [value] : [])));
        const asked: Packet = { protocol, destinationPort, sourcePort, sourceAddress: parseIp(source), destinationAddress: parseIp(destination) };
        for (const value of values) {
          if (value.kind !== "policy") continue;
          for (const written of [...value.ingress, ...value.egress])
            expect(missOf(written, { direction: "ingress", packet: asked, sets, about: ABOUT }) === undefined).toBe(ruleMatches(written, asked, sets));
        }
      }),
      { numRuns: 300 },
    );
  });
});
