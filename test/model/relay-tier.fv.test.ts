/**
 * Random histories of a tier over gRPC: two replicas that watch one cluster, two relays that have both for parents, agents that go from any to any. Replicas lag,
 * stall and restart, relays stall and restart, agents are cut and lose their memory. Whatever happened, no agent moves back in the cluster's history; at each
 * quiet point every agent has the view and the digest that a server which has just started computes, and the replicas know together of every node, once,
 * that its kernel has everything.
 */
import * as fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { DELIVERY_KINDS, type DeliveryKind } from "../../fanout/delivery/delivery.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NodeName } from "../../src/model/names.ts";
import { describeKey, type IpPool, keyOf, type Resource } from "../../src/model/resource.ts";
import { View } from "../../src/wire/view.ts";
import {
  type FanoutFixture,
  GrpcAgent,
  namespace,
  node,
  pod,
  policy,
  pool,
  type RelayFixture,
  startFanout,
  startRelay,
  upsert,
} from "../fakes/fanout-fixture.ts";
import { startTcpProxy, type TcpProxy } from "../fakes/tcp-proxy.ts";

const NODES = ["n1", "n2", "n3", "n4"];
const BASE: readonly Resource[] = [...NODES.map((name, i) => node(name, i + 1)), namespace("shop"), pool()];
const REPLICAS = 2;
const SERVERS = 4;
const FAST = { drainMs: 20, heartbeatIntervalMs: 300, olderLimitMs: 600_000 };

const stepPool = (step: number, resourceVersion: string): IpPool => ({
  ...(pool(`10.${100 + (step >> 8)}.${step & 255}.0/24`) as IpPool),
  name: "step",
  resourceVersion,
});

function stepOf(view: View): number {
  const bytes = view.records.get("pool/step")?.bytes;
  if (bytes === undefined) return 0;
  for (let step = 1; step < 400; step++) if (Buffer.from(bytes).includes(Buffer.from([10, 100 + (step >> 8), step & 255, 0]))) return step;
  throw new Error("the step record is not understood");
}

/** One replica's way to the API, which can lag. */
class Replica {
  fixture: FanoutFixture | undefined;
  isLagging = false;
  /** Not yet delivered. */
  backlog: { readonly events: readonly ClusterEvent[]; readonly version: string }[] = [];
  version = "100";

  feed(events: readonly ClusterEvent[], version: string): void {
    this.backlog.push({ events, version });
    if (!this.isLagging) this.catchUp();
  }

  catchUp(): void {
    for (const { events, version } of this.backlog) {
      this.version = version;
      this.fixture?.server.sink(events);
    }
    this.backlog = [];
  }
}

class Tier {
  readonly objects = new Map<string, Resource>(BASE.map((object) => [describeKey(keyOf(object)), object]));
  readonly delivery: DeliveryKind;
  readonly replicas = Array.from({ length: REPLICAS }, () => new Replica());
  readonly relays: RelayFixture[] = [];
  proxies: TcpProxy[] = [];
  readonly views = NODES.map(() => new View());
  readonly agents: (GrpcAgent | undefined)[] = [];
  readonly newest = NODES.map(() => 0);
  #version = 100;
  #step = 0;

  constructor(delivery: DeliveryKind) {
    this.delivery = delivery;
  }

  async start(): Promise<void> {
    for (const replica of this.replicas) replica.fixture = await this.#replica(replica);
    this.proxies = await Promise.all(this.replicas.map(({ fixture }) => startTcpProxy(targetOf(fixture))));
    for (let i = 0; i < SERVERS - REPLICAS; i++) {
      const relay = await this.#relay(i);
      this.relays.push(relay);
      this.proxies.push(await startTcpProxy(targetOf(relay)));
    }
  }

  async stop(): Promise<void> {
    for (const agent of this.agents) agent?.[Symbol.dispose]();
    for (const proxy of this.proxies) await proxy[Symbol.asyncDispose]();
    await Promise.all([...this.relays, ...this.replicas.flatMap(({ fixture }) => fixture ?? [])].map((server) => server.stop()));
  }

  tick(): void {
    this.put((version) => stepPool(++this.#step, version));
  }

  put(make: (version: string) => Resource): void {
    const version = String(++this.#version);
    const object = make(version);
    this.objects.set(describeKey(keyOf(object)), object);
    for (const replica of this.replicas) replica.feed(upsert(object), version);
  }

  remove(name: string): void {
    const object = this.objects.get(name);
    if (object === undefined) return;
    this.objects.delete(name);
    const version = String(++this.#version);
    for (const replica of this.replicas) replica.feed([{ kind: "delete", key: keyOf(object) }], version);
  }

  connect(agent: number, server: number): void {
    this.cut(agent);
    const name = NODES[agent];
    const view = this.views[agent];
    const proxy = this.proxies[server];
    if (name === undefined || view === undefined || proxy === undefined) return;
    this.agents[agent] = new GrpcAgent({ address: `127.0.0.1:${proxy.port}`, node: name, view });
  }

  cut(agent: number): void {
    this.check(agent);
    this.agents[agent]?.[Symbol.dispose]();
    this.agents[agent] = undefined;
    this.views[agent]?.discard();
  }

  /** Its memory is gone: it may get any state of the cluster. */
  lose(agent: number): void {
    this.cut(agent);
    this.views[agent] = new View();
    this.newest[agent] = 0;
  }

  async restart(server: number): Promise<void> {
    const proxy = this.proxies[server];
    proxy?.resetAll();
    const replica = this.replicas[server];
    if (replica !== undefined) {
      await replica.fixture?.stop();
      // A new process lists the cluster as it is.
      replica.backlog = [];
      replica.isLagging = false;
      replica.version = String(this.#version);
      replica.fixture = await this.#replica(replica);
      proxy?.retarget(targetOf(replica.fixture));
      return;
    }
    await this.relays[server - REPLICAS]?.stop();
    const relay = await this.#relay(server - REPLICAS);
    this.relays[server - REPLICAS] = relay;
    proxy?.retarget(targetOf(relay));
  }

  async settle(): Promise<void> {
    for (const proxy of this.proxies) proxy.setMode("pass");
    for (const replica of this.replicas) {
      replica.isLagging = false;
      replica.catchUp();
    }
    await using fresh = await startFanout({ events: upsert(...this.objects.values()), delivery: this.delivery });
    for (const [i, name] of NODES.entries()) {
      await vi.waitFor(
        () => {
          this.#reconnect(i);
          const id = fresh.server.table.nodes.idOf(name as NodeName);
          expect(this.agents[i]?.isLive).toBe(true);
          expect(this.views[i]?.digest).toBe(fresh.server.table.viewDigest(id));
          expect([...(this.views[i]?.records.keys() ?? [])].toSorted()).toEqual([...fresh.server.table.view(id)].map(({ key }) => key).toSorted());
        },
        { timeout: 30_000, interval: 25 },
      );
      this.check(i);
    }
    await vi.waitFor(
      () => {
        // A relay that has found another run of the root sends those away that it had not yet a view for, perhaps only now.
        for (const i of NODES.keys()) this.#reconnect(i);
        const clients = this.replicas.flatMap(({ fixture }) => [...(fixture?.server.sessions.everyClient() ?? [])]);
        expect(clients.map((client) => `${client.node?.name} ${client.isLevel}`).toSorted()).toEqual(NODES.map((name) => `${name} true`));
      },
      { timeout: 30_000, interval: 25 },
    );
  }

  #reconnect(agent: number): void {
    const { status } = this.agents[agent] ?? { status: "none" };
    if (status !== undefined) this.connect(agent, (agent * 7) % SERVERS);
  }

  /** Ordered and unique from one Welcome to the next, never back over all of them; nothing had to be repaired and no end broke the protocol. */
  check(index: number): void {
    const outputs = this.agents[index]?.outputs ?? [];
    let last = 0n;
    for (const output of outputs) {
      if (output.kind === "welcome") last = 0n;
      if (output.kind !== "commit") continue;
      expect(output.delta.revision).toBeGreaterThan(last);
      last = output.delta.revision;
    }
    expect(outputs.filter((output) => output.kind === "repair" || (output.kind === "end" && output.reason !== "closed"))).toEqual([]);
    const step = stepOf(this.views[index] ?? new View());
    expect(step, `${NODES[index]} moved back`).toBeGreaterThanOrEqual(this.newest[index] ?? 0);
    this.newest[index] = step;
  }

  #replica(replica: Replica): Promise<FanoutFixture> {
    return startFanout({
      events: upsert(...this.objects.values()),
      delivery: this.delivery,
      settings: FAST,
      upstreamVersions: () => new Map([["IPPool", replica.version]]),
    });
  }

  /** The two have the replicas for parents in different orders. */
  #relay(index: number): Promise<RelayFixture> {
    const parents = this.proxies.slice(0, REPLICAS).map(({ port }) => `127.0.0.1:${port}`);
    return startRelay({
      parents: index === 0 ? parents : parents.toReversed(),
      delivery: this.delivery,
      settings: FAST,
      name: `relay${index}`,
      lingerMs: 400,
    });
  }
}

function targetOf(server: { readonly address: string } | undefined): { readonly host: string; readonly port: number } {
  return { host: "127.0.0.1", port: Number(server?.address.split(":")[1]) };
}

type Step = { readonly name: string; readonly run: (tier: Tier) => void | Promise<void> };
const named = (name: string, run: Step["run"]): Step => ({ name, run });
const agent = fc.nat(NODES.length - 1);
const server = fc.nat(SERVERS - 1);
const replica = fc.nat(REPLICAS - 1);
const podName = fc.constantFrom("a", "b", "c", "d");
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.constant(named("tick", (t) => t.tick())) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(podName, agent)
      .map(([name, n]) => named(`pod ${name} on ${n}`, (t) => t.put((resourceVersion) => pod("shop", name, { node: NODES[n] as NodeName, resourceVersion })))),
  },
  { weight: 2, arbitrary: podName.map((name) => named(`pod ${name} goes`, (t) => t.remove(`Pod shop/${name}`))) },
  {
    weight: 2,
    arbitrary: fc.tuple(podName, podName).map(([name, from]) => named(`policy ${name}`, (t) => t.put((version) => policy("shop", name, from, version)))),
  },
  { weight: 1, arbitrary: podName.map((name) => named(`policy ${name} goes`, (t) => t.remove(`NetworkPolicy shop/${name}`))) },
  { weight: 6, arbitrary: fc.tuple(agent, server).map(([a, s]) => named(`agent ${a} connects to ${s}`, (t) => t.connect(a, s))) },
  { weight: 1, arbitrary: agent.map((a) => named(`agent ${a} is cut`, (t) => t.cut(a))) },
  { weight: 1, arbitrary: agent.map((a) => named(`agent ${a} loses all`, (t) => t.lose(a))) },
  { weight: 1, arbitrary: server.map((s) => named(`server ${s} cuts all`, (t) => t.proxies[s]?.resetAll())) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(server, fc.boolean())
      .map(([s, isStall]) => named(`server ${s} stalls ${isStall}`, (t) => t.proxies[s]?.setMode(isStall ? "stall" : "pass"))),
  },
  {
    weight: 2,
    arbitrary: replica.map((r) =>
      named(`replica ${r} lags`, (t) => {
        const one = t.replicas[r];
        if (one !== undefined) one.isLagging = true;
      }),
    ),
  },
  { weight: 1, arbitrary: server.map((s) => named(`server ${s} restarts`, (t) => t.restart(s))) },
  { weight: 2, arbitrary: fc.constant(named("a moment", () => new Promise((resolve) => setTimeout(resolve, 20)))) },
  { weight: 1, arbitrary: fc.constant(named("quiet", (t) => t.settle())) },
);

describe.each(DELIVERY_KINDS)("replicas, relays and agents over %s", (delivery) => {
  it("R2 at every quiet point each agent has the cluster's view and the replicas know it, whatever happened; never back", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 15, maxLength: 40, size: "max" }), async (steps) => {
        const tier = new Tier(delivery);
        await tier.start();
        try {
          for (const { run } of steps) {
            await run(tier);
            await new Promise((resolve) => setImmediate(resolve));
          }
          await tier.settle();
        } finally {
          await tier.stop();
        }
      }),
      { numRuns: 8, endOnFailure: true },
    );
  }, 240_000);
});
