import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { HostEndpoint, NodeSettings, RecordValue } from "../../src/model/record.ts";
import { parseIp } from "../../src/net/ip.ts";
import type { Direction } from "../../src/policy/evaluate.ts";
import { type InterpretedPacket, interpretHook, type Outcome } from "../../test/fakes/nft-interpreter.ts";
import { A, expectedOfStack, packet, recordMap, SETTINGS, world } from "../../test/fakes/plan-worlds.ts";
import { EffectiveSettings } from "./effective-settings.ts";
import { failsafePorts, parseFailsafePort } from "./failsafe.ts";
import type { NftRuleset } from "./nft/ruleset.ts";
import { desiredRuleset, type Plan, type PlanSettings } from "./ruleset.ts";

const NO_FAILSAFES: PlanSettings = { ...SETTINGS, failsafePorts: failsafePorts([], []) };
const NOTHING: Omit<HostEndpoint, "kind" | "name" | "interfaceName"> = { addresses: [], stack: "", forwardStack: "", preDnatStack: "", untrackedStack: "" };
const TCP: InterpretedPacket = {
  version: 4,
  source: "192.0.2.1",
  destination: "10.0.0.1",
  protocol: 6,
  sourcePort: 40_000,
  destinationPort: 80,
  ctState: "new",
};

const stackKey = fc.constantFrom("", "stack/x", "stack/y", "stack/absent");
const host = (name: string, interfaceName: string): fc.Arbitrary<HostEndpoint> =>
  fc.record({
    kind: fc.constant("host" as const),
    name: fc.constant(name),
    interfaceName: fc.constant(interfaceName),
    addresses: fc.constant([]),
    stack: stackKey,
    forwardStack: stackKey,
    preDnatStack: stackKey,
    untrackedStack: stackKey,
  });
const hosts = fc
  .tuple(fc.option(host("a", "eth0")), fc.option(host("b", "eth1")), fc.option(host("c", "*")), fc.option(host("z", "eth0")))
  .map((all) => all.filter((one) => one !== null));

function plan(values: readonly RecordValue[], settings: PlanSettings = NO_FAILSAFES, interfaces: readonly (readonly [string, string])[] = []): Plan {
  const interfaceOf = new Map(interfaces.map(([address, name]) => [parseIp(address), name]));
  return desiredRuleset({ records: recordMap(values), undecodable: new Map(), endpoints: [A], settings, interfaceOf });
}

/** The host endpoint of an interface, as the specification has it. */
function hostOf(all: readonly HostEndpoint[], interfaceName: string): HostEndpoint | undefined {
  const named = all.find((one) => one.interfaceName === interfaceName);
  return named ?? (interfaceName === "lo" ? undefined : all.find((one) => one.interfaceName === "*"));
}

describe("host endpoints", () => {
  it("any host endpoints, any packet → at each hook the stack for it decides", () => {
    fc.assert(
      fc.property(world, hosts, fc.array(packet, { minLength: 4, maxLength: 4 }), fc.constantFrom("eth0", "eth1", "eth2", "lo"), (values, all, packets, on) => {
        const everything = [...values, ...all];
        const { ruleset } = plan(everything);
        const one = hostOf(all, on);
        for (const each of packets) {
          const says = (field: "stack" | "forwardStack" | "preDnatStack" | "untrackedStack", direction: Direction): Outcome =>
            one === undefined ? "accept" : expectedOfStack(everything, one[field], direction, each);
          const at = (hook: string, more: Partial<InterpretedPacket>): Outcome => interpretHook(ruleset, hook, { ...each, ...more });
          const allowed = (outcome: Outcome): Outcome => (outcome === "notrack" ? "accept" : outcome);
          const untracked = says("untrackedStack", "ingress");
          expect(allowed(at("prerouting", { iifname: on }))).toBe(untracked === "accept" ? says("preDnatStack", "ingress") : untracked);
          expect(at("input", { iifname: on })).toBe(says("stack", "ingress"));
          expect(at("forward", { iifname: on, oifname: "other0x" })).toBe(joined(says("forwardStack", "ingress"), otherEgress(everything, all, each)));
          const untrackedOut = says("untrackedStack", "egress");
          expect(allowed(at("output", { oifname: on }))).toBe(untrackedOut === "accept" ? says("stack", "egress") : untrackedOut);
        }
      }),
      { numRuns: 400 },
    );
  }, 120_000);

  function joined(first: Outcome, second: Outcome): Outcome {
    return first === "accept" ? second : first;
  }

  /** What the wildcard says of a packet that leaves by an interface without an own host endpoint. */
  function otherEgress(values: readonly RecordValue[], all: readonly HostEndpoint[], each: InterpretedPacket): Outcome {
    const wildcard = hostOf(all, "other0x");
    return wildcard === undefined ? "accept" : expectedOfStack(values, wildcard.forwardStack, "egress", each);
  }

  const DENY: RecordValue = { kind: "stack", id: "deny", tiers: [], noMatchAction: "deny" };
  const DENIED: HostEndpoint = { ...NOTHING, kind: "host", name: "all", interfaceName: "*", stack: "stack/deny", forwardStack: "stack/deny" };
  const at = (ruleset: NftRuleset, hook: string, more: Partial<InterpretedPacket>): Outcome => interpretHook(ruleset, hook, { ...TCP, ...more });

  it("a host that denies everything: failsafe ports pass both ways, forwarding has none; pods of the node are reached", () => {
    const { ruleset } = plan([DENY, DENIED], SETTINGS);
    expect(at(ruleset, "input", { iifname: "eth0", destinationPort: 22 })).toBe("accept");
    expect(at(ruleset, "input", { iifname: "eth0", destinationPort: 80 })).toBe("drop");
    expect(at(ruleset, "output", { oifname: "eth0", destinationPort: 6443 })).toBe("accept");
    expect(at(ruleset, "output", { oifname: "eth0", destinationPort: 443 })).toBe("drop");
    expect(at(ruleset, "forward", { iifname: "eth0", oifname: "eth1", destinationPort: 22 })).toBe("drop");
    expect(at(ruleset, "output", { oifname: A.interfaceName })).toBe("accept");
    expect(at(ruleset, "input", { iifname: "lo" })).toBe("accept");
    expect(at(ruleset, "input", { iifname: "eth0", ctState: "established" })).toBe("accept");
    expect(at(ruleset, "input", { iifname: "eth0", ctState: "untracked" })).toBe("accept");
  });

  it("what the cluster states for the node holds in place of the agent's own, each part by itself", () => {
    const effective = new EffectiveSettings({ ...SETTINGS, failsafePorts: failsafePorts(["tcp:22"], ["udp:53"]), endpointToHostAction: "accept" });
    const records = (...values: readonly RecordValue[]) => recordMap([DENY, DENIED, ...values]);
    const own = effective.of(records());
    const stated: NodeSettings = { kind: "node-settings", node: SETTINGS.nodeName as NodeName, failsafeInbound: [{ protocol: "tcp", port: 2222 }] };
    const changed = effective.of(records(stated));
    expect(effective.of(records(stated))).toBe(changed);
    const passes = (settings: PlanSettings, port: number): Outcome =>
      at(plan([DENY, DENIED], settings).ruleset, "input", { iifname: "eth0", destinationPort: port });
    expect([22, 2222].map((port) => passes(own, port))).toEqual(["accept", "drop"]);
    expect([22, 2222].map((port) => passes(changed, port))).toEqual(["drop", "accept"]);
    expect(changed).toMatchObject({ endpointToHostAction: "accept", failsafePorts: { outbound: [{ protocol: "udp", port: 53 }] } });
    const all = { ...stated, failsafeInbound: [], failsafeOutbound: [], endpointToHostAction: "drop", logPrefix: "x", denyAction: "reject" } as const;
    expect(effective.of(records(all))).toMatchObject({
      failsafePorts: { inbound: [], outbound: [] },
      endpointToHostAction: "drop",
      logPrefix: "x",
      denyAction: "reject",
    });
    expect(effective.of(records({ ...all, node: "n-other" as NodeName }))).toEqual(own);
  });

  it("a failsafe port with a net is for that net alone; answers pass where nothing is tracked", () => {
    const denied: HostEndpoint = { ...NOTHING, kind: "host", name: "a", interfaceName: "eth0", stack: "stack/deny", untrackedStack: "stack/deny" };
    const { ruleset } = plan([DENY, denied], { ...SETTINGS, failsafePorts: failsafePorts(["tcp:192.0.2.0/24:22"], ["udp:53"]) });
    expect(at(ruleset, "input", { iifname: "eth0", destinationPort: 22 })).toBe("accept");
    expect(at(ruleset, "input", { iifname: "eth0", destinationPort: 22, source: "198.51.100.1" })).toBe("drop");
    const answer = { protocol: 17, sourcePort: 53, destinationPort: 40_000, iifname: "eth0" };
    expect(at(ruleset, "prerouting", answer)).toBe("accept");
    expect(at(ruleset, "prerouting", { ...answer, sourcePort: 54 })).toBe("drop");
    expect(at(ruleset, "output", { sourcePort: 22, destination: "192.0.2.9", oifname: "eth0", ctState: "untracked" })).toBe("accept");
  });

  it("what an untracked stack allows is not tracked; what none decides is", () => {
    const only: RecordValue = {
      kind: "policy",
      policyKind: "GlobalNetworkPolicy",
      namespace: "",
      name: "dns",
      tier: "default",
      ingress: [{ action: "allow", protocol: 17, source: side(), destination: { ...side(), ports: [{ first: 53, last: 53 }] }, origin: 0 }],
      egress: [],
    };
    const stack: RecordValue = {
      kind: "stack",
      id: "raw",
      tiers: [{ name: "default", defaultAction: "pass", ingress: ["policy/GlobalNetworkPolicy//dns"], egress: [] }],
      noMatchAction: "allow",
    };
    const { ruleset } = plan([only, stack, { ...NOTHING, kind: "host", name: "a", interfaceName: "eth0", untrackedStack: "stack/raw" }]);
    expect(at(ruleset, "prerouting", { iifname: "eth0", protocol: 17, destinationPort: 53 })).toBe("notrack");
    expect(at(ruleset, "prerouting", { iifname: "eth0", protocol: 17, destinationPort: 54 })).toBe("accept");
    expect(at(ruleset, "prerouting", { iifname: "eth1", protocol: 17, destinationPort: 53 })).toBe("accept");
  });

  it("expectedIPs name the interface that has one of them; of two host endpoints the first by name counts; both problems are reported", () => {
    const byAddress = (name: string, address: string, stack: string): HostEndpoint => ({
      ...NOTHING,
      kind: "host",
      name,
      interfaceName: "",
      addresses: [parseIp(address)],
      stack,
    });
    const { ruleset, failures } = plan(
      [DENY, byAddress("b", "192.0.2.7", ""), byAddress("a", "192.0.2.7", "stack/deny"), byAddress("c", "192.0.2.8", "stack/deny")],
      NO_FAILSAFES,
      [["192.0.2.7", "eth3"]],
    );
    expect([at(ruleset, "input", { iifname: "eth3" }), at(ruleset, "input", { iifname: "eth0" })]).toEqual(["drop", "accept"]);
    expect(failures.map(({ key }) => key)).toEqual(["host/b", "host/c"]);
  });

  it("an interface name that cannot be one → reported, and the rest is in force", () => {
    const { ruleset, failures } = plan([DENY, DENIED, { ...NOTHING, kind: "host", name: "long", interfaceName: "an-interface-name-too-long" }]);
    expect(failures.map(({ key }) => key)).toEqual(["host/long"]);
    expect(at(ruleset, "input", { iifname: "eth0" })).toBe("drop");
  });

  it("no two base chains have one hook and one priority: their order does not depend on which came first", () => {
    const all: RecordValue = { kind: "host", name: "h", interfaceName: "*", ...NOTHING };
    const places = [...plan([all]).ruleset.chains.values()].flatMap(({ chain: { base } }) => (base === undefined ? [] : [`${base.hook} ${base.priority}`]));
    expect(places.length).toBeGreaterThan(8);
    expect(new Set(places).size).toBe(places.length);
  });

  it("without host endpoints there are no chains for them", () => {
    expect([...plan([]).ruleset.chains.keys()].filter((name) => name.startsWith("host-"))).toEqual([]);
  });

  function side() {
    return { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
  }
});

describe("pods and their host", () => {
  it("drop: policy that allows is not asked; neighbour discovery and listener reports pass all the same", () => {
    const open: RecordValue = { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "", addresses: [] };
    const toHost = (action: "accept" | "return" | "drop", more: Partial<InterpretedPacket> = {}): Outcome =>
      interpretHook(plan([open], { ...SETTINGS, endpointToHostAction: action }).ruleset, "input", { ...TCP, iifname: A.interfaceName, ...more });
    expect([toHost("accept"), toHost("return"), toHost("drop")]).toEqual(["accept", "accept", "drop"]);
    const icmp = (icmpType: number): Outcome => toHost("drop", { version: 6, source: "fd00::1", destination: "fd00::9", protocol: 58, icmpType });
    expect([130, 131, 132, 133, 135, 136].map(icmp)).toEqual(Array(6).fill("accept"));
    expect([128, 134, 137].map(icmp)).toEqual(Array(3).fill("drop"));
  });
});

describe("parseFailsafePort", () => {
  it("port, with a net of either family; anything else is none", () => {
    expect(parseFailsafePort("tcp:22")).toEqual({ protocol: "tcp", port: 22 });
    expect(parseFailsafePort("udp:10.0.0.0/8:53")).toEqual({ protocol: "udp", port: 53, net: "10.0.0.0/8" });
    expect(parseFailsafePort("tcp:[fd00::/8]:22")).toEqual({ protocol: "tcp", port: 22, net: "fd00::/8" });
    expect(["tcp", "22", "icmp:1", "tcp:70000", "tcp:10.0.0.0/40:22", "tcp:22:"].map(parseFailsafePort)).toEqual(Array(6).fill(undefined));
  });
});
