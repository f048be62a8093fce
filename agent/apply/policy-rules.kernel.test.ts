import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { podKey } from "../../src/model/names.ts";
import {
  type HostEndpoint,
  type Policy,
  type RecordKey,
  type RecordValue,
  type Rule,
  type RuleSide,
  recordKey,
  type StackTier,
} from "../../src/model/record.ts";
import { cidrOf, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, parseIp } from "../../src/net/ip.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { createNetns, type Netns, whyNoKernel } from "../../test/kernel/netns.ts";
import { type PacketProbe, PacketProber, type PlaceSpec } from "../../test/kernel/packets.ts";
import { ConntrackDriver } from "../drivers/conntrack/driver.ts";
import { NftDriver } from "../drivers/nftables/driver.ts";
import { failsafePorts } from "../plan/failsafe.ts";
import { desiredRuleset, PlanCache } from "../plan/ruleset.ts";
import { DeniedFlows } from "./denied-flows.ts";
import { KernelTable } from "./kernel-table.ts";
import type { PolicyCount } from "./rule-counters.ts";

const PREFIX = "sgrules";
const PORTS = [22, 5000, 5001];
const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const rule = (part: Partial<Rule>): Rule => ({ action: "allow", protocol: 0, source: NOTHING, destination: NOTHING, origin: 0, ...part });
const port = (number: number): RuleSide => ({ ...NOTHING, ports: [{ first: number, last: number }] });
const fromPort = (number: number): Partial<Rule> => ({ source: port(number) });
const policy = (name: string, ingress: readonly Rule[], egress: readonly Rule[] = []): Policy => ({
  kind: "policy",
  policyKind: "GlobalNetworkPolicy",
  namespace: "",
  name,
  tier: "default",
  ingress,
  egress,
});
const key = (name: string): RecordKey => `policy/GlobalNetworkPolicy//${name}`;
/** Of policies that have rules in that direction. */
const stack = (id: string, noMatchAction: "allow" | "deny", tiers: readonly Partial<StackTier>[] = []): RecordValue => ({
  kind: "stack",
  id,
  noMatchAction,
  tiers: tiers.map((tier) => ({ name: "default", defaultAction: "pass", ingress: [], egress: [], ...tier })),
});
const POD: RecordValue = { kind: "endpoint", namespace: "shop", pod: "b", uid: "", stack: "stack/pod", addresses: [] };
const HOST: HostEndpoint = {
  kind: "host",
  name: "n1",
  interfaceName: "eth0",
  addresses: [],
  stack: "",
  forwardStack: "",
  preDnatStack: "",
  untrackedStack: "",
};
const ENDPOINT = { podKey: podKey("shop", "b"), interfaceName: "calib", addresses: [parseIp("10.65.0.2"), parseIp("fd65::2")] };
const SETTINGS = { nodeName: "n1", interfacePrefix: "cali", failsafePorts: failsafePorts(["tcp:22"], ["tcp:22"]) };

/** A node with one pod, and two hosts on its network. */
class World implements AsyncDisposable {
  readonly prober: PacketProber;
  readonly node: Netns;
  readonly #namespaces: readonly Netns[];
  readonly #nft: NftDriver;
  #table: KernelTable;
  #cache = new PlanCache();

  private constructor(namespaces: readonly Netns[], node: Netns, places: readonly PlaceSpec[]) {
    this.#namespaces = namespaces;
    this.node = node;
    this.prober = new PacketProber(places, PORTS);
    this.#nft = NftDriver.open({ netns: node.path });
    this.#table = new KernelTable(this.#nft);
  }

  static async create(): Promise<World> {
    const namespaces: Netns[] = [];
    const make = async (): Promise<Netns> => {
      const netns = await createNetns(PREFIX);
      namespaces.push(netns);
      await netns.sysctl("net.ipv6.conf.default.accept_dad", "0");
      return netns;
    };
    const fabric = await make();
    await fabric.addBridge("br0");
    const hosts = new Map<string, Netns>();
    for (const [i, name] of ["node", "near", "far"].entries()) {
      const netns = await make();
      hosts.set(name, netns);
      await fabric.addVeth(name, { netns, link: "eth0", addresses: [`192.0.2.${i + 1}/24`, `fd02::${i + 1}/64`] }, { bridge: "br0" });
    }
    const [node, near, far] = ["node", "near", "far"].map((name) => hosts.get(name));
    if (node === undefined || near === undefined || far === undefined) throw new Error("no host");
    await node.sysctl("net.ipv4.ip_forward", "1");
    await node.sysctl("net.ipv6.conf.all.forwarding", "1");
    for (const host of [near, far]) {
      await host.ip("route", "add", "10.65.0.0/16", "via", "192.0.2.1");
      await host.ip("-6", "route", "add", "fd65::/64", "via", "fd02::1");
      // Refusals are counted, not their rate.
      await node.sysctl("net.ipv4.icmp_ratelimit", "0");
      await node.sysctl("net.ipv6.icmp.ratelimit", "0");
    }
    const pod = await make();
    await node.addVeth("calib", { netns: pod, link: "eth0", addresses: ["10.65.0.2/32", "fd65::2/128"] }, { addresses: ["169.254.1.1/32", "fe80::1/64"] });
    await node.ip("route", "add", "10.65.0.2", "dev", "calib");
    await node.ip("-6", "route", "add", "fd65::2", "dev", "calib");
    await pod.ip("route", "add", "169.254.1.1", "dev", "eth0", "scope", "link");
    await pod.ip("route", "add", "default", "via", "169.254.1.1");
    await pod.ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0");
    const at = (name: string, netns: Netns, addresses: readonly string[], isUnguarded: boolean): PlaceSpec => ({
      name,
      netns: netns.path,
      addresses: addresses.map((address): IpAddress => parseIp(address)),
      isUnguarded,
    });
    const world = new World(namespaces, node, [
      at("near", near, ["192.0.2.2", "fd02::2"], true),
      at("far", far, ["192.0.2.3", "fd02::3"], true),
      at("node", node, ["192.0.2.1", "fd02::1"], false),
      at("pod", pod, ["10.65.0.2", "fd65::2"], false),
    ]);
    await world.apply([{ ...POD, stack: "" } as RecordValue]);
    const pairs = [
      ["near", "pod"],
      ["far", "pod"],
      ["near", "node"],
      ["far", "node"],
      ["near", "far"],
    ] as const;
    const probes = pairs.flatMap(([from, to]) => both({ from, to, protocol: "UDP", port: 5000 }));
    if (!world.prober.passesAll(probes)) throw new Error("without policies, not everybody reaches everybody");
    return world;
  }

  /** How many operations the kernel took. */
  async apply(values: readonly RecordValue[]): Promise<number> {
    const records = new Map(values.map((value) => [recordKey(value), value]));
    const { ruleset, failures } = desiredRuleset({ records, undecodable: new Map(), endpoints: [ENDPOINT], settings: SETTINGS }, this.#cache);
    expect(failures).toEqual([]);
    return (await this.#table.apply(ruleset)).operations;
  }

  /** As an agent that begins without memory, at a table that an earlier one has left. */
  async restart(): Promise<void> {
    this.#table = new KernelTable(this.#nft);
    this.#cache = new PlanCache();
    this.#cache.sets.adopt(await this.#table.setNames());
  }

  counts(): Promise<readonly PolicyCount[]> {
    return this.#table.counts();
  }

  /** "allow", "deny" or "refused", of both families if they agree. */
  verdict(from: string, to: string, protocol: PacketProbe["protocol"], number = 0): string {
    const outcomes = this.prober.probe(both({ from, to, protocol, port: number }));
    return [...new Set(outcomes.map(({ verdict, detail }) => (verdict === "refused" ? `refused: ${detail.replace(/ from .*/, "")}` : verdict)))].join(" and ");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.prober[Symbol.dispose]();
    this.#nft.close();
    for (const netns of this.#namespaces) await netns[Symbol.asyncDispose]();
  }
}

function both(probe: Omit<PacketProbe, "version">): readonly PacketProbe[] {
  return [
    { ...probe, version: 4 },
    { ...probe, version: 6 },
  ];
}

describe.skipIf(whyNoKernel() !== undefined)("rules as packets meet them", () => {
  let world: World;
  beforeAll(async () => {
    world = await World.create();
  }, 60_000);
  afterAll(async () => {
    await world[Symbol.asyncDispose]();
  });
  const toPod = (ingress: readonly Rule[]): readonly RecordValue[] => [POD, policy("p", ingress), stack("pod", "deny", [{ ingress: [key("p")] }])];

  it("ICMP by type, of both families; another type is not meant", async () => {
    await world.apply(toPod([rule({ protocol: 1, icmp: { type: 8 } }), rule({ protocol: 58, icmp: { type: 128, code: 0 } })]));
    expect([world.verdict("near", "pod", "ICMP"), world.verdict("near", "pod", "UDP", 5000)]).toEqual(["allow", "deny"]);
    await world.apply(toPod([rule({ protocol: 1, notIcmp: { type: 8, code: 0 } }), rule({ protocol: 58, notIcmp: { type: 128 } })]));
    expect(world.verdict("near", "pod", "ICMP")).toBe("deny");
    await world.apply(toPod([rule({ protocol: 1, notIcmp: { type: 3 } }), rule({ protocol: 58, notIcmp: { type: 128, code: 7 } })]));
    expect(world.verdict("near", "pod", "ICMP")).toBe("allow");
  });

  it("negated protocols and ports, one IP version", async () => {
    const not5000: RuleSide = { ...NOTHING, notPorts: [{ first: 5000, last: 5000 }] };
    await world.apply(toPod([rule({ notProtocol: 6, destination: not5000 })]));
    expect((["TCP", "UDP", "SCTP"] as const).flatMap((protocol) => [5000, 5001].map((number) => world.verdict("near", "pod", protocol, number)))).toEqual([
      "deny",
      "deny",
      "deny",
      "allow",
      "deny",
      "allow",
    ]);
    expect(world.verdict("near", "pod", "ICMP")).toBe("allow");
    await world.apply(toPod([rule({ ipVersion: 6 })]));
    const [v4, v6] = world.prober.probe(both({ from: "near", to: "pod", protocol: "TCP", port: 5000 }));
    expect([v4?.verdict, v6?.verdict]).toEqual(["deny", "allow"]);
  });

  it("reject: TCP is reset, all else is told that it is prohibited; at the end of a tier as well", async () => {
    const refusals = (): readonly string[] => [world.verdict("near", "pod", "TCP", 5000), world.verdict("near", "pod", "UDP", 5000)];
    await world.apply(toPod([rule({ action: "reject" })]));
    const [tcp, udp] = refusals();
    expect(tcp).toContain("refused");
    expect(tcp).not.toContain("ICMP");
    expect([udp?.includes("type 3 code 13"), udp?.includes("type 1 code 1")]).toEqual([true, true]);
    await world.apply([POD, policy("none", []), stack("pod", "allow", [{ ingress: [key("none")], defaultAction: "reject" }])]);
    expect(refusals()).toEqual([tcp, udp]);
    await world.apply(toPod([rule({ action: "deny" })]));
    expect(refusals()).toEqual(["deny", "deny"]);
  });

  it("counters: each rule's packets, kept when the policy is written anew", async () => {
    const count = async (number: number): Promise<number | undefined> => (await world.counts()).find(({ rule: origin }) => origin === number)?.packets;
    const rules = [rule({ protocol: 17, origin: 0 }), rule({ action: "deny", protocol: 6, origin: 1 })];
    await world.apply([POD, policy("counted", rules), stack("pod", "deny", [{ ingress: [key("counted")] }])]);
    for (let i = 0; i < 5; i++) world.verdict("near", "pod", "UDP", 5000);
    world.verdict("near", "pod", "TCP", 5000);
    expect(await count(0)).toBe(10);
    expect(await count(1)).toBeGreaterThanOrEqual(2);
    for (let i = 0; i < 5; i++) world.verdict("near", "pod", "UDP", 5000);
    const denied = (await count(1)) ?? 0;
    await world.apply([POD, policy("counted", [...rules, rule({ protocol: 1, origin: 2 })]), stack("pod", "deny", [{ ingress: [key("counted")] }])]);
    world.verdict("near", "pod", "UDP", 5000);
    expect(await count(0)).toBe(22);
    expect(await count(1)).toBeGreaterThanOrEqual(denied);
    const [first] = await world.counts();
    expect(first).toMatchObject({ policy: key("counted"), direction: "ingress", action: "allow" });
    await world.apply([POD, stack("pod", "allow")]);
    expect(await world.counts()).toEqual([]);
  });

  it("connections that policy denies now are cut, those that it allows are not", async () => {
    await world.apply(toPod([rule({ protocol: 17 })]));
    expect([world.verdict("near", "pod", "UDP", 5000), world.verdict("far", "pod", "UDP", 5001)]).toEqual(["allow", "allow"]);
    const rules = [rule({ protocol: 17, destination: port(5001) })];
    await world.apply(toPod(rules));
    using conntrack = ConntrackDriver.open({ netns: world.node.path });
    const addresses = new Set(ENDPOINT.addresses);
    const ports = (): readonly number[] =>
      [...new Set(conntrack.flows({ addresses }).map(({ destinationPort }) => destinationPort ?? 0))].sort((a, b) => a - b);
    expect(ports()).toEqual(expect.arrayContaining([5000, 5001]));
    const denied = new DeniedFlows({
      conntrack,
      source: { records: new Map(toPod(rules).map((value) => [recordKey(value), value])), undecodable: new Map(), outdated: new Map() },
      endpoints: () => [{ ...ENDPOINT, mac: "", containerId: "" }],
      hostAddresses: () => new Set(),
      clock: systemClock,
      log: silentLogger(),
      onCut: () => undefined,
    });
    expect(denied.cut()).toBeGreaterThanOrEqual(2);
    const left = ports();
    expect([left.includes(5000), left.includes(5001)]).toEqual([false, true]);
  });

  it("log denies: the node's kernel takes the rule, and the packet is denied all the same", async () => {
    await world.apply([POD, policy("p", [rule({ action: "deny" })]), { ...stack("pod", "deny", [{ ingress: [key("p")] }]), logDenied: true } as RecordValue]);
    expect(world.verdict("near", "pod", "TCP", 5000)).toBe("deny");
    expect(await world.node.exec("nft", "list", "chain", "inet", "sedge", "policy/GlobalNetworkPolicy//p/ingress/logged")).toContain("log prefix");
  });

  const OPEN: RecordValue = { ...POD, stack: "" };

  it("a host endpoint: the host's own traffic by its stack, failsafe ports always, pods of the node and forwarding untouched", async () => {
    await world.apply([
      OPEN,
      policy("h", [rule({ protocol: 17, destination: port(5000) })]),
      stack("host", "deny", [{ ingress: [key("h")] }]),
      { ...HOST, stack: "stack/host" },
    ]);
    expect([world.verdict("near", "node", "UDP", 5000), world.verdict("near", "node", "UDP", 5001)]).toEqual(["allow", "deny"]);
    expect([world.verdict("near", "node", "TCP", 22), world.verdict("near", "node", "TCP", 5000)]).toEqual(["allow", "deny"]);
    expect([world.verdict("node", "near", "TCP", 22), world.verdict("node", "near", "TCP", 5000)]).toEqual(["allow", "deny"]);
    expect([world.verdict("near", "pod", "TCP", 5000), world.verdict("node", "pod", "TCP", 5000), world.verdict("pod", "near", "UDP", 5000)]).toEqual(
      Array(3).fill("allow"),
    );
  });

  it("every interface: what is forwarded, by the forward stack; what comes in, by the one before NAT", async () => {
    const fromFar: RuleSide = { ...NOTHING, nets: [parseCidr("192.0.2.3/32"), parseCidr("fd02::3/128")] };
    await world.apply([
      OPEN,
      policy("forward", [rule({ action: "deny", protocol: 17 })], [rule({ action: "deny", protocol: 6 })]),
      policy("early", [rule({ action: "deny", source: fromFar })]),
      stack("forward", "allow", [{ ingress: [key("forward")], egress: [key("forward")] }]),
      stack("early", "allow", [{ ingress: [key("early")] }]),
      { ...HOST, interfaceName: "*", forwardStack: "stack/forward", preDnatStack: "stack/early" },
    ]);
    expect([world.verdict("near", "pod", "UDP", 5000), world.verdict("near", "pod", "TCP", 5000)]).toEqual(["deny", "allow"]);
    expect([world.verdict("pod", "near", "UDP", 5000), world.verdict("pod", "near", "TCP", 5000)]).toEqual(["allow", "deny"]);
    expect([world.verdict("near", "node", "UDP", 5000), world.verdict("node", "pod", "TCP", 5000)]).toEqual(["allow", "allow"]);
    expect([world.verdict("far", "node", "UDP", 5000), world.verdict("far", "pod", "TCP", 5000), world.verdict("far", "node", "TCP", 22)]).toEqual([
      "deny",
      "deny",
      "allow",
    ]);
  });

  /** Prefixes of seven lengths, in which nobody here is; enough for a large set. */
  const crowd = (count: number): readonly string[] =>
    Array.from({ length: count }, (_, i) =>
      i % 2 === 0 ? `10.${128 + (i >> 8)}.${i & 255}.0/${24 + (i % 8)}` : `2001:db8:${i.toString(16)}::/${[48, 56, 64][i % 3]}`,
    );
  const MANY = crowd(2_100);
  const netSet = (id: string, members: readonly string[]): RecordValue => ({ kind: "set", id, shard: "n", type: "prefix", members });
  const inSet = (...sets: readonly string[]): RuleSide => ({ ...NOTHING, sets });
  const notInSet = (...notSets: readonly string[]): RuleSide => ({ ...NOTHING, notSets });
  const verdicts = (): readonly string[] => [world.verdict("near", "pod", "UDP", 5000), world.verdict("far", "pod", "UDP", 5000)];
  const kernelSets = async (): Promise<readonly string[]> =>
    [...(await world.node.exec("nft", "list", "sets", "table", "inet", "sedge")).matchAll(/set (nets\/\S+) /g)].map(([, name = ""]) => name);
  const HOSTS_NET = ["192.0.2.0/24", "fd02::/64"];
  const NEAR_NET = ["192.0.2.2/31", "fd02::2/128", "192.0.2.2/32"];

  it("large sets: source and destination in one rule; of overlapping members each counts by itself; everything", async () => {
    const rules = [rule({ protocol: 17, source: inSet("n:from"), destination: inSet("n:to") })];
    const to = netSet("n:to", [...MANY, "10.65.0.0/16", "fd65::2/127"]);
    const from = async (...members: readonly string[]): Promise<readonly string[]> => {
      await world.apply([...toPod(rules), netSet("n:from", [...MANY, ...members]), to]);
      return verdicts();
    };
    expect(await from(...HOSTS_NET, ...NEAR_NET)).toEqual(["allow", "allow"]);
    expect(world.verdict("near", "pod", "TCP", 5000)).toBe("deny");
    expect(await from("192.0.2.2/32", "fd02::2/127")).toEqual(["allow", "deny and allow"]);
    expect(await from(...HOSTS_NET)).toEqual(["allow", "allow"]);
    expect(await from()).toEqual(["deny", "deny"]);
    expect(await from("0.0.0.0/0", "::/0")).toEqual(["allow", "allow"]);
    expect(await world.node.exec("nft", "list", "sets", "table", "inet", "sedge")).not.toMatch(/set nets[^}]*flags interval/);
  });

  it("large sets: every length of IPv6 and of IPv4", async () => {
    for (const { version, bits, source } of [
      { version: 4, bits: 32, source: "192.0.2.2" },
      { version: 6, bits: 128, source: "fd02::2" },
    ] as const) {
      for (let length = 0; length <= bits; length += version === 4 ? 1 : 9) {
        const member = cidrOf(parseIp(source), length);
        await world.apply([...toPod([rule({ ipVersion: version, protocol: 17, source: inSet("n:from") })]), netSet("n:from", [...MANY, member])]);
        const [passed] = world.prober.probe([{ from: "near", to: "pod", version, protocol: "UDP", port: 5000 }]);
        expect([member, passed?.verdict]).toEqual([member, "allow"]);
      }
    }
    await world.apply([
      ...toPod([rule({ protocol: 17, source: inSet("n:from") })]),
      netSet("n:from", [...MANY, ...Array.from({ length: 127 }, (_, length) => cidrOf(parseIp("fd02::2:0"), length + 2) as string)]),
    ]);
    // Of so many lengths, those up to that of the members' own bits hold the others too.
    expect(verdicts()).toEqual(["deny and allow", "deny and allow"]);
  });

  it("large sets: negated, alone, twice and with another; a pass by one leaves the tier", async () => {
    const sets = (near: readonly string[], all: readonly string[]): readonly RecordValue[] => [
      netSet("n:near", [...MANY, ...near]),
      netSet("n:all", [...MANY, ...all]),
      netSet("n:small", HOSTS_NET),
    ];
    const nobody = sets([], []);
    const near = sets(NEAR_NET.slice(1), HOSTS_NET);
    const verdictsOf = async (rules: readonly Rule[], values: readonly RecordValue[]): Promise<readonly string[]> => {
      await world.apply([...toPod(rules), ...values]);
      return verdicts();
    };
    const outside = [rule({ source: notInSet("n:near") })];
    expect([await verdictsOf(outside, nobody), await verdictsOf(outside, near)]).toEqual([
      ["allow", "allow"],
      ["deny", "allow"],
    ]);
    const both = [rule({ source: { ...notInSet("n:near", "n:small"), sets: ["n:all"] } })];
    expect([await verdictsOf(both, nobody), await verdictsOf(both, near)]).toEqual([
      ["deny", "deny"],
      ["deny", "deny"],
    ]);
    const within = [rule({ source: { ...notInSet("n:near"), sets: ["n:all", "n:small"] } })];
    expect(await verdictsOf(within, near)).toEqual(["deny", "allow"]);
    const pass = [rule({ action: "pass", source: inSet("n:near") }), rule({ action: "deny", source: inSet("n:all") })];
    await world.apply([
      POD,
      policy("p", pass),
      policy("next", [rule({ source: inSet("n:all") })]),
      stack("pod", "deny", [{ ingress: [key("p")] }, { name: "next", ingress: [key("next")] }]),
      ...near,
    ]);
    expect(verdicts()).toEqual(["allow", "deny"]);
  });

  it("large sets: counted once by their rule; reject by protocol", async () => {
    const sets = [netSet("n:from", [...MANY, ...HOSTS_NET, ...NEAR_NET])];
    await world.apply([
      ...toPod([rule({ action: "log", protocol: 17, source: inSet("n:from") }), rule({ protocol: 17, source: inSet("n:from"), origin: 1 })]),
      ...sets,
    ]);
    for (let i = 0; i < 3; i++) world.verdict("near", "pod", "UDP", 5000);
    expect((await world.counts()).find(({ rule: origin }) => origin === 1)?.packets).toBe(6);
    await world.apply([...toPod([rule({ action: "reject", source: inSet("n:from") })]), ...sets]);
    expect([world.verdict("near", "pod", "TCP", 5000), world.verdict("near", "pod", "UDP", 5000)]).toEqual([
      expect.stringContaining("refused"),
      expect.stringContaining("type 3 code 13"),
    ]);
  });

  it("large sets: of host endpoints before NAT and untracked", async () => {
    const denied = policy("early", [rule({ action: "deny", source: inSet("n:from") })]);
    for (const hook of ["preDnatStack", "untrackedStack"] as const) {
      const values = [OPEN, denied, stack("early", "allow", [{ ingress: [key("early")] }]), { ...HOST, [hook]: "stack/early" }];
      await world.apply([...values, netSet("n:from", [...MANY, "192.0.2.3/32", "fd02::3/128"])]);
      expect([world.verdict("near", "node", "UDP", 5000), world.verdict("far", "node", "UDP", 5000), world.verdict("far", "node", "TCP", 22)]).toEqual([
        "allow",
        "deny",
        "allow",
      ]);
    }
  });

  it("a set that grows beyond the limit and shrinks: one form, then the other, with a rest between; a start without memory writes nothing; drift is repaired", async () => {
    const rules = [rule({ protocol: 17, source: inSet("n:from") })];
    const of = (count: number): readonly RecordValue[] => [...toPod(rules), netSet("n:from", [...crowd(count), "192.0.2.2/31", "fd02::2/128"])];
    const forms: (readonly string[])[] = [];
    await world.apply([OPEN]);
    for (const count of [1_500, 2_100, 1_500, 1_000, 1_500]) {
      expect(await world.apply(of(count))).toBeGreaterThan(0);
      expect(verdicts()).toEqual(["allow", "allow and deny"]);
      const sets = await kernelSets();
      forms.push(sets.some((name) => name.endsWith("/31")) ? ["by length"] : sets);
      await world.restart();
      expect(await world.apply(of(count))).toBe(0);
    }
    const intervals = ["nets/n.from/v4", "nets/n.from/v6"];
    expect(forms).toEqual([intervals, ["by length"], ["by length"], intervals, intervals]);
    await world.apply(of(2_100));
    await world.node.exec("nft", "delete", "element", "inet", "sedge", "nets/n.from/v4/31", "{ 192.0.2.2 }");
    await world.node.exec("nft", "flush", "chain", "inet", "sedge", `policy/GlobalNetworkPolicy//p/ingress/rule-0/v6`);
    expect(verdicts()).toEqual(["deny", "deny"]);
    await world.restart();
    expect(await world.apply(of(2_100))).toBeGreaterThan(0);
    expect(verdicts()).toEqual(["allow", "allow and deny"]);
  });

  it("untracked: what is allowed has no connection, and needs a rule for its answers", async () => {
    const raw = (egress: readonly Rule[]): readonly RecordValue[] => [
      OPEN,
      policy("raw", [rule({ protocol: 17, destination: port(5000) })], egress),
      stack("raw", "allow", [{ ingress: [key("raw")], egress: [key("raw")] }]),
      stack("host", "deny"),
      { ...HOST, stack: "stack/host", untrackedStack: "stack/raw" },
    ];
    await world.apply(raw([rule({ protocol: 17, ...fromPort(5000) })]));
    expect([world.verdict("near", "node", "UDP", 5000), world.verdict("near", "node", "UDP", 5001)]).toEqual(["allow", "deny"]);
    await world.apply(raw([]));
    expect(world.verdict("near", "node", "UDP", 5000)).toBe("arrived, no answer");
  });
});
