import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import { podKey } from "../../src/model/names.ts";
import { type RecordKey, type RecordValue, type RuleSide, recordKey } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { canUseNetns, createNetns, type Netns } from "../../test/kernel/netns.ts";
import { reaches, startStream } from "../../test/kernel/prober.ts";
import { NftDriver } from "../drivers/nftables/driver.ts";
import { RtnetlinkDriver } from "../drivers/rtnetlink/driver.ts";
import { diffRulesets } from "../plan/diff.ts";
import { desiredRuleset } from "../plan/ruleset.ts";
import type { LocalEndpoint } from "./local-endpoints.ts";
import { type ProgrammedState, Reconciler } from "./reconciler.ts";

const PREFIX = "sgagent";
const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };

/** A node with two pods and a host behind its uplink. */
class Machine implements AsyncDisposable {
  readonly node: Netns;
  readonly pods: Readonly<Record<"a" | "b", Netns>>;
  readonly world: Netns;
  readonly #stops: (() => Promise<void>)[] = [];

  private constructor(node: Netns, pods: Readonly<Record<"a" | "b", Netns>>, world: Netns) {
    this.node = node;
    this.pods = pods;
    this.world = world;
  }

  static async create(): Promise<Machine> {
    const node = await createNetns(PREFIX);
    const a = await createNetns(PREFIX);
    const b = await createNetns(PREFIX);
    const world = await createNetns(PREFIX);
    await node.sysctl("net.ipv4.ip_forward", "1");
    await node.sysctl("net.ipv6.conf.all.forwarding", "1");
    await node.addVeth("eth0", { netns: world, link: "eth0", addresses: ["192.0.2.2/24"] }, { addresses: ["192.0.2.1/24"] });
    await world.ip("route", "add", "10.65.0.0/16", "via", "192.0.2.1");
    // Proxy ARP answers for what the node has a route to.
    await node.ip("route", "add", "default", "via", "192.0.2.2");
    for (const [i, pod] of [a, b].entries()) {
      const name = i === 0 ? "calia" : "calib";
      await node.addVeth(name, { netns: pod, link: "eth0", addresses: [`10.65.0.${i + 1}/32`, `fd65::${i + 1}/128`] });
      await node.sysctl(`net.ipv4.conf.${name}.proxy_arp`, "1");
      await node.sysctl(`net.ipv4.neigh.${name}.proxy_delay`, "0");
      await pod.ip("route", "add", "169.254.1.1", "dev", "eth0", "scope", "link");
      await pod.ip("route", "add", "default", "via", "169.254.1.1");
      await node.ip("address", "add", "fe80::1/64", "dev", name, "nodad");
      await pod.ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0");
    }
    return new Machine(node, { a, b }, world);
  }

  /** An agent's loop with no memory; `stop` ends it as a crash would, leaving the kernel as it is. */
  start(source: TestSource, endpoints: readonly LocalEndpoint[] = [A, B]): Agent {
    const nft = NftDriver.open({ netns: this.node.path });
    const rtnetlink = RtnetlinkDriver.open({ netns: this.node.path });
    const stop = new AbortController();
    const repaired: string[] = [];
    const states: ProgrammedState[] = [];
    const waiting: ((state: ProgrammedState) => void)[] = [];
    const reconciler = new Reconciler({
      nft,
      rtnetlink,
      source,
      settings: { nodeName: "n1", interfacePrefix: "cali" },
      clock: systemClock,
      log: silentLogger(),
      observer: {
        applied: () => undefined,
        failed: () => undefined,
        repaired: (what) => repaired.push(what),
        programmed: () => undefined,
        podProtected: () => undefined,
      },
      onProgrammed(state) {
        states.push(state);
        for (const resolve of waiting.splice(0)) resolve(state);
      },
      checkIntervalMs: 60_000,
    });
    const running = reconciler.run(stop.signal);
    reconciler.endpoints.restore(endpoints);
    const end = async (): Promise<void> => {
      stop.abort();
      await running;
      nft.close();
      rtnetlink.close();
    };
    this.#stops.push(end);
    return {
      reconciler,
      repaired,
      nextProgrammed: () => new Promise((resolve) => waiting.push(resolve)),
      change: async (values) => {
        const done = new Promise<ProgrammedState>((resolve) => waiting.push(resolve));
        source.set(values);
        reconciler.viewChanged({ committedAtUnixUs: 0n, receivedAt: 0 });
        return done;
      },
      stop: end,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const stop of this.#stops) await stop().catch(() => undefined);
    for (const netns of [this.pods.a, this.pods.b, this.world, this.node]) await netns[Symbol.asyncDispose]();
  }
}

interface Agent {
  readonly reconciler: Reconciler;
  readonly repaired: readonly string[];
  nextProgrammed(): Promise<ProgrammedState>;
  change(values: readonly RecordValue[]): Promise<ProgrammedState>;
  stop(): Promise<void>;
}

class TestSource {
  records = new Map<RecordKey, RecordValue>();
  readonly undecodable = new Map<RecordKey, string>();
  readonly outdated = new Map<RecordKey, string>();
  revision = 0n;
  readonly epoch = "e";
  isComplete = true;

  constructor(values: readonly RecordValue[], isComplete = true) {
    this.set(values);
    this.isComplete = isComplete;
  }

  set(values: readonly RecordValue[]): void {
    this.records = new Map(values.map((value) => [recordKey(value), value]));
    this.revision++;
    this.isComplete = true;
  }
}

const endpoint = (name: string, i: number): LocalEndpoint => ({
  podKey: podKey("shop", name),
  interfaceName: `cali${name}`,
  addresses: [parseIp(`10.65.0.${i}`), parseIp(`fd65::${i}`)],
  mac: "ee:ee:ee:ee:ee:ee",
  containerId: name,
});
const A = endpoint("a", 1);
const B = endpoint("b", 2);
const NODE: RecordValue = {
  kind: "node",
  name: "n1" as NodeName,
  addresses: [parseIp("192.0.2.1")],
  blocks: [parseCidr("10.65.0.0/26"), parseCidr("fd65::/122")],
};
const OTHER: RecordValue = { kind: "node", name: "n2" as NodeName, addresses: [parseIp("192.0.2.2")], blocks: [parseCidr("10.65.1.0/26")] };
const pod = (name: string, stack: string): RecordValue => ({ kind: "endpoint", namespace: "shop", pod: name, uid: "", stack, addresses: [] });
/** b accepts UDP 5000 from a and nothing else. */
const GUARDED: readonly RecordValue[] = [
  NODE,
  OTHER,
  pod("a", ""),
  pod("b", "stack/x"),
  { kind: "stack", id: "x", tiers: [{ name: "default", defaultAction: "deny", ingress: ["policy/K/shop/p"], egress: [] }], noMatchAction: "allow" },
  {
    kind: "policy",
    policyKind: "K",
    namespace: "shop",
    name: "p",
    tier: "default",
    egress: [],
    ingress: [
      { action: "allow", protocol: 17, source: { ...NOTHING, sets: ["s"] }, destination: { ...NOTHING, ports: [{ first: 5000, last: 5000 }] }, origin: 0 },
    ],
  },
  { kind: "set", id: "s", shard: "", type: "address", members: ["10.65.0.1", "fd65::1"] },
];
const OPEN: readonly RecordValue[] = [NODE, OTHER, pod("a", ""), pod("b", "")];

async function eventually(what: string, check: () => Promise<boolean>, timeoutMs = 5_000): Promise<number> {
  const began = performance.now();
  while (!(await check())) {
    if (performance.now() - began > timeoutMs) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return performance.now() - began;
}

describe.skipIf(!canUseNetns())("Reconciler on a kernel", () => {
  let machine: Machine;
  beforeEach(async () => {
    machine = await Machine.create();
  });
  afterEach(async () => {
    await machine[Symbol.asyncDispose]();
  });

  let port = 6_000;
  const ADDRESSES = { a: ["10.65.0.1", "fd65::1"], b: ["10.65.0.2", "fd65::2"], world: ["192.0.2.2"], node: ["192.0.2.1"] } as const;
  const whose = (address: string): Netns =>
    ADDRESSES.a.includes(address as "10.65.0.1")
      ? machine.pods.a
      : ADDRESSES.b.includes(address as "10.65.0.2")
        ? machine.pods.b
        : address === "192.0.2.1"
          ? machine.node
          : machine.world;
  const canSend = (from: Netns, address: string, source?: string): Promise<boolean> =>
    reaches({ from, to: whose(address), address, port: port++, ...(source === undefined ? {} : { source }) });
  const table = (): Promise<string> => machine.node.exec("nft", "list", "table", "inet", "sedge");
  const stripped = (text: string): string => text.replaceAll(/packets \d+ bytes \d+/g, "");
  const ourRoutes = async (): Promise<string> =>
    (await machine.node.ip("route", "show", "proto", "94")) + (await machine.node.ip("-6", "route", "show", "proto", "94"));

  it("pods are routed and reach each other in both families; routes as the view says; an unknown interface is silent", async () => {
    const agent = machine.start(new TestSource(OPEN));
    await agent.nextProgrammed();
    expect([await canSend(machine.pods.a, "10.65.0.2"), await canSend(machine.pods.a, "fd65::2"), await canSend(machine.world, "10.65.0.1")]).toEqual([
      true,
      true,
      true,
    ]);
    const routes = await ourRoutes();
    for (const route of [
      "10.65.0.1 dev calia",
      "10.65.0.2 dev calib",
      "blackhole 10.65.0.0/26",
      "10.65.1.0/26 via 192.0.2.2",
      "fd65::1 dev calia",
      "blackhole fd65::/122",
    ])
      expect(routes).toContain(route);
    await agent.reconciler.endpoints.remove(B.podKey, "b");
    expect(await ourRoutes()).not.toContain("10.65.0.2");
    await machine.node.ip("route", "add", "10.65.0.2", "dev", "calib");
    expect([await canSend(machine.pods.a, "10.65.0.2"), await canSend(machine.node, "10.65.0.2"), await canSend(machine.pods.b, "192.0.2.2")]).toEqual([
      false,
      false,
      false,
    ]);
  });

  it("a forged source is dropped", async () => {
    await machine.start(new TestSource(OPEN)).nextProgrammed();
    await machine.pods.a.ip("address", "add", "10.65.0.77/32", "dev", "eth0");
    expect([await canSend(machine.pods.a, "192.0.2.2"), await canSend(machine.pods.a, "192.0.2.2", "10.65.0.77")]).toEqual([true, false]);
    expect(await table()).toMatch(/counter packets [1-9]\d* bytes \d+ drop comment "source is not the pod's own"/);
  });

  it("no complete view: without a table everything of ours drops at once; with one it stays as it is", async () => {
    const source = new TestSource(GUARDED, false);
    const agent = machine.start(source);
    await eventually("the table is there", async () => (await machine.node.tryExec("nft", "list", "table", "inet", "sedge")).code === 0);
    await machine.node.ip("route", "add", "10.65.0.2", "dev", "calib");
    expect(await canSend(machine.pods.a, "10.65.0.2")).toBe(false);
    await agent.stop();
    const before = stripped(await table());
    const second = machine.start(new TestSource([], false));
    await expect(second.reconciler.endpoints.upsert(A, { signal: AbortSignal.timeout(300) })).rejects.toThrow(/shop\/a/);
    expect(stripped(await table())).toBe(before);
  });

  it("restart with no memory, same state → nothing is written; another state → no gap, no litter, foreign objects survive", async () => {
    await machine.node.exec("nft", "add", "table", "inet", "foreign");
    await machine.node.exec("nft", "add", "chain", "inet", "foreign", "c");
    await machine.node.ip("route", "add", "203.0.113.0/24", "via", "192.0.2.2");
    const first = machine.start(new TestSource(GUARDED));
    await first.nextProgrammed();
    const allowed = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5000 });
    const denied = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5001 });
    await allowed.untilSent(20);
    await first.stop();
    const before = await machine.node.exec("nft", "-a", "list", "ruleset");

    const second = machine.start(new TestSource(GUARDED));
    await second.nextProgrammed();
    expect(stripped(await machine.node.exec("nft", "-a", "list", "ruleset"))).toBe(stripped(before));
    await second.stop();

    for (let i = 0; i < 5; i++) {
      // Litter of a run that never was: a chain and a set more, a rule changed, a route of ours to nowhere.
      await machine.node.exec("nft", "add", "chain", "inet", "sedge", "litter");
      await machine.node.exec("nft", "add", "set", "inet", "sedge", "litter", "{ type ipv4_addr; }");
      await machine.node.exec("nft", "insert", "rule", "inet", "sedge", "stack/x/ingress", "udp", "dport", "7", "accept");
      await machine.node.ip("route", "replace", "10.65.9.0/26", "via", "192.0.2.2", "proto", "94");
      const again = machine.start(new TestSource(GUARDED));
      await again.nextProgrammed();
      await allowed.untilSent(10);
      await again.stop();
    }
    const listed = await table();
    expect(listed).not.toContain("litter");
    expect(listed).not.toContain("dport 7 ");
    expect(await ourRoutes()).not.toContain("10.65.9.0");
    expect(await machine.node.exec("nft", "list", "tables")).toContain("foreign");
    expect(await machine.node.ip("route")).toContain("203.0.113.0/24");
    await denied.untilSent(10);
    expect((await denied.received()).packets).toBe(0);
    await eventually("all that was sent arrives", async () => (await allowed.received()).packets >= (await allowed.sent()).packets - 2);
    expect((await allowed.received()).longestGapMs).toBeLessThan(1_000);
  });

  it("the table replaced whole, again and again, as after an upgrade → no denied packet passes, and nearly every allowed one does", async () => {
    const agent = machine.start(new TestSource(GUARDED));
    await agent.nextProgrammed();
    const allowed = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5000, intervalMs: 1 });
    const denied = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5001, intervalMs: 1 });
    await allowed.untilSent(10);
    await agent.stop();
    const source = new TestSource(GUARDED);
    const { ruleset } = desiredRuleset({
      records: source.records,
      undecodable: source.undecodable,
      endpoints: [A, B],
      settings: { nodeName: "n1", interfacePrefix: "cali" },
    });
    using nft = NftDriver.open({ netns: machine.node.path });
    const sentBefore = (await allowed.sent()).packets;
    for (let i = 0; i < 300; i++) {
      await nft.apply(diffRulesets(undefined, ruleset));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await denied.untilSent(10);
    expect((await denied.received()).packets).toBe(0);
    const sent = (await allowed.sent()).packets;
    expect(sent).toBeGreaterThan(sentBefore + 50);
    // A packet that old rules judge in the very moment of the commit finds the old sets empty, and is dropped: closed, not open.
    expect((await allowed.received()).packets).toBeGreaterThan(sent * 0.8);
  });

  it("policies, sets and pods change all the time → flows that they do not concern lose nothing, denied ones stay denied", async () => {
    const agent = machine.start(new TestSource(GUARDED));
    await agent.nextProgrammed();
    const allowed = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5000, intervalMs: 1 });
    const denied = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5001, intervalMs: 1 });
    await allowed.untilSent(10);
    for (let i = 0; i < 150; i++) {
      const others = Array.from({ length: 10 }, (_, k) => `10.66.${i % 7}.${k}`);
      await agent.change([
        ...GUARDED.map((value) => {
          if (value.kind === "set") return { ...value, members: [...value.members, ...others] };
          if (value.kind !== "policy") return value;
          const more = {
            action: "allow" as const,
            protocol: 6,
            source: NOTHING,
            destination: { ...NOTHING, ports: [{ first: 100 + i, last: 200 + i }] },
            origin: 1,
          };
          return i % 2 === 0 ? { ...value, ingress: [...value.ingress, more] } : value;
        }),
        pod(`c${i % 3}`, i % 2 === 0 ? "" : "stack/x"),
      ]);
      if (i % 10 === 0) void agent.reconciler.endpoints.upsert(endpoint(`c${i % 3}`, 10 + (i % 3))).catch(() => undefined);
    }
    await denied.untilSent(10);
    expect((await denied.received()).packets).toBe(0);
    await eventually("all that was sent arrives", async () => (await allowed.received()).packets >= (await allowed.sent()).packets - 2);
  });

  it("host endpoints come and go, with their hooks → flows of pods lose nothing, denied ones stay denied", async () => {
    const agent = machine.start(new TestSource(GUARDED));
    await agent.nextProgrammed();
    const allowed = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5000, intervalMs: 1 });
    const denied = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5001, intervalMs: 1 });
    await allowed.untilSent(10);
    const stacks = { stack: "stack/x", forwardStack: "", preDnatStack: "", untrackedStack: "" };
    const hosts = ["eth0", "*"].map((interfaceName, i): RecordValue => ({ kind: "host", name: `h${i}`, interfaceName, addresses: [], ...stacks }));
    for (let i = 0; i < 100; i++) await agent.change(i % 2 === 0 ? [...GUARDED, ...hosts] : GUARDED);
    await denied.untilSent(10);
    expect((await denied.received()).packets).toBe(0);
    await eventually("all that was sent arrives", async () => (await allowed.received()).packets >= (await allowed.sent()).packets - 2);
  });

  it("changes by others → repaired within a second, whatever was damaged", async () => {
    const agent = machine.start(new TestSource(GUARDED));
    await agent.nextProgrammed();
    const before = stripped(await table());
    const isBack = async (): Promise<boolean> => stripped((await machine.node.tryExec("nft", "list", "table", "inet", "sedge")).stdout) === before;
    for (const damage of [
      ["flush", "chain", "inet", "sedge", "from-pod"],
      ["delete", "element", "inet", "sedge", "from-endpoint", "{", '"calia"', "}"],
      ["add", "element", "inet", "sedge", "set/s/v4", "{", "10.65.0.9", "}"],
      ["flush", "table", "inet", "sedge"],
      ["delete", "table", "inet", "sedge"],
      ["flush", "ruleset"],
    ]) {
      await machine.node.exec("nft", ...damage);
      expect(await eventually(damage.join(" "), isBack)).toBeLessThan(1_000);
    }
    const routes = await ourRoutes();
    await machine.node.ip("route", "delete", "10.65.0.1");
    await machine.node.ip("route", "flush", "proto", "94");
    await eventually("routes are back", async () => (await ourRoutes()) === routes);
    // The kernel takes the routes of an interface that goes down, and tells only that it went.
    await machine.node.ip("link", "set", "calib", "down");
    await machine.node.ip("link", "set", "calib", "up");
    await eventually("routes of an interface that was down are back", async () => (await ourRoutes()) === routes);
    await machine.node.ip("link", "delete", "calib");
    await machine.node.addVeth("calib", { netns: machine.pods.b, link: "eth0", addresses: ["10.65.0.2/32"] });
    await eventually("routes of an interface that was replaced are back", async () => (await ourRoutes()) === routes);
    expect(agent.repaired).toContain("table");
    expect(agent.repaired).toContain("routes");
  });

  it("policy and set changes reach the kernel; a pod without a record is closed until it comes", async () => {
    const agent = machine.start(new TestSource([NODE, pod("b", "")]), [B]);
    await agent.nextProgrammed();
    const connecting = agent.reconciler.endpoints.upsert(A, { waitForPolicyMs: 10_000 });
    await eventually("the interface is known", async () => (await table()).includes('"calia" : drop'));
    expect(await canSend(machine.pods.a, "10.65.0.2")).toBe(false);
    await agent.change(OPEN);
    expect(await connecting).toEqual({ hasPolicy: true });
    expect(await canSend(machine.pods.a, "10.65.0.2")).toBe(true);
    await agent.change(GUARDED);
    expect(await canSend(machine.pods.a, "10.65.0.2")).toBe(false);
    const stream = await startStream({ from: machine.pods.a, to: machine.pods.b, address: "10.65.0.2", port: 5000 });
    await eventually("set membership lets it through", async () => (await stream.received()).packets > 3);
    await agent.change(GUARDED.map((value) => (value.kind === "set" ? { ...value, members: [] } : value)));
    const { packets } = await stream.received();
    await stream.untilSent(20);
    // One may have been on its way.
    expect((await stream.received()).packets).toBeLessThanOrEqual(packets + 1);
  });

  it("a route to a destination that someone else routes is not taken over, and reported", async () => {
    await machine.node.ip("route", "add", "10.65.1.0/26", "dev", "eth0");
    const state = await machine.start(new TestSource(OPEN)).nextProgrammed();
    expect(state.failures).toEqual([{ key: "node/n2", reason: expect.stringContaining("not ours") as string }]);
    expect(await machine.node.ip("route")).toContain("10.65.1.0/26 dev eth0");
  });
});
