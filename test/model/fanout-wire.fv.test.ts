/**
 * Random histories of two real servers and agents over gRPC: changes, cuts, stalls, moves between the servers, restarts with another epoch, lost disks, on both
 * deliveries. At each quiet point every agent has the view and the digest that a server which has just started computes from the cluster as it is.
 */
import * as fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { DELIVERY_KINDS, type DeliveryKind } from "../../fanout/delivery/delivery.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NodeName } from "../../src/model/names.ts";
import { describeKey, keyOf, type Resource } from "../../src/model/resource.ts";
import { View } from "../../src/wire/view.ts";
import { type FanoutFixture, GrpcAgent, namespace, node, pod, policy, pool, startFanout, upsert } from "../fakes/fanout-fixture.ts";
import { startTcpProxy, type TcpProxy } from "../fakes/tcp-proxy.ts";

const NODES = ["n1", "n2", "n3"];
const BASE: readonly Resource[] = [node("n1", 1), node("n2", 2), node("n3", 3), namespace("shop"), pool()];

class Cluster {
  readonly objects = new Map<string, Resource>(BASE.map((object) => [describeKey(keyOf(object)), object]));
  readonly delivery: DeliveryKind;
  servers: FanoutFixture[] = [];
  proxies: TcpProxy[] = [];
  readonly views = NODES.map(() => new View());
  readonly agents: (GrpcAgent | undefined)[] = [];
  readonly commits: bigint[][] = NODES.map(() => []);
  #version = 1;

  constructor(delivery: DeliveryKind) {
    this.delivery = delivery;
  }

  async start(): Promise<void> {
    this.servers = [await this.#server(), await this.#server()];
    this.proxies = await Promise.all(this.servers.map((server) => startTcpProxy(targetOf(server))));
  }

  async stop(): Promise<void> {
    for (const agent of this.agents) agent?.[Symbol.dispose]();
    for (const proxy of this.proxies) await proxy[Symbol.asyncDispose]();
    for (const server of this.servers) await server.stop();
  }

  put(make: (version: string) => Resource): void {
    const object = make(String(++this.#version));
    this.objects.set(describeKey(keyOf(object)), object);
    this.#feed(upsert(object));
  }

  remove(name: string): void {
    const object = this.objects.get(name);
    if (object === undefined) return;
    this.objects.delete(name);
    this.#feed([{ kind: "delete", key: keyOf(object) }]);
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
    this.#expectSound(agent);
    this.agents[agent]?.[Symbol.dispose]();
    this.agents[agent] = undefined;
    this.views[agent]?.discard();
  }

  /** Its memory is gone, or is as it was a while ago. */
  lose(agent: number, isWhole: boolean): void {
    this.cut(agent);
    const { seed, epoch, revision, records } = this.views[agent] ?? new View();
    const kept = [...records.values()].slice(1).map(({ bytes }) => bytes);
    this.views[agent] = isWhole ? new View() : View.restore({ seed, epoch, revision, records: kept });
  }

  async restart(server: number): Promise<void> {
    const proxy = this.proxies[server];
    proxy?.resetAll();
    await this.servers[server]?.stop();
    const next = await this.#server();
    this.servers[server] = next;
    proxy?.retarget(targetOf(next));
  }

  async settle(): Promise<void> {
    for (const proxy of this.proxies) proxy.setMode("pass");
    await using fresh = await this.#server();
    for (const [i, name] of NODES.entries()) {
      await vi.waitFor(
        () => {
          const agent = this.agents[i];
          if (agent === undefined || agent.status !== undefined) this.connect(i, i % 2);
          const id = fresh.server.table.nodes.idOf(name as NodeName);
          expect(this.agents[i]?.isLive).toBe(true);
          expect(this.views[i]?.digest).toBe(fresh.server.table.viewDigest(id));
          expect([...(this.views[i]?.records.keys() ?? [])].toSorted()).toEqual([...fresh.server.table.view(id)].map(({ key }) => key).toSorted());
        },
        { timeout: 20_000, interval: 10 },
      );
      this.#expectSound(i);
    }
  }

  /** Ordered and unique within a session; nothing had to be repaired and no end broke the protocol. */
  #expectSound(index: number): void {
    const outputs = this.agents[index]?.outputs ?? [];
    const revisions = outputs.flatMap((output) => (output.kind === "commit" ? [output.delta.revision] : []));
    expect(revisions).toEqual([...new Set(revisions)].toSorted((a, b) => (a < b ? -1 : 1)));
    expect(outputs.filter((output) => output.kind === "repair" || (output.kind === "end" && output.reason !== "closed"))).toEqual([]);
  }

  #feed(events: readonly ClusterEvent[]): void {
    for (const { server } of this.servers) server.sink(events);
  }

  #server(): Promise<FanoutFixture> {
    return startFanout({ events: upsert(...this.objects.values()), delivery: this.delivery, settings: { drainMs: 20, heartbeatIntervalMs: 500 } });
  }
}

function targetOf(server: FanoutFixture): { readonly host: string; readonly port: number } {
  return { host: "127.0.0.1", port: Number(server.address.split(":")[1]) };
}

type Step = { readonly name: string; readonly run: (cluster: Cluster) => void | Promise<void> };
const named = (name: string, run: Step["run"]): Step => ({ name, run });
const agent = fc.nat(NODES.length - 1);
const server = fc.nat(1);
const podName = fc.constantFrom("a", "b", "c", "d");
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(podName, agent)
      .map(([name, n]) => named(`pod ${name} on ${n}`, (c) => c.put((resourceVersion) => pod("shop", name, { node: NODES[n] as NodeName, resourceVersion })))),
  },
  { weight: 2, arbitrary: podName.map((name) => named(`pod ${name} goes`, (c) => c.remove(`Pod shop/${name}`))) },
  {
    weight: 2,
    arbitrary: fc.tuple(podName, podName).map(([name, from]) => named(`policy ${name}`, (c) => c.put((version) => policy("shop", name, from, version)))),
  },
  { weight: 1, arbitrary: podName.map((name) => named(`policy ${name} goes`, (c) => c.remove(`NetworkPolicy shop/${name}`))) },
  { weight: 4, arbitrary: fc.tuple(agent, server).map(([a, s]) => named(`agent ${a} connects to ${s}`, (c) => c.connect(a, s))) },
  { weight: 1, arbitrary: agent.map((a) => named(`agent ${a} is cut`, (c) => c.cut(a))) },
  {
    weight: 1,
    arbitrary: fc.tuple(agent, fc.boolean()).map(([a, isWhole]) => named(`agent ${a} loses ${isWhole ? "all" : "some"}`, (c) => c.lose(a, isWhole))),
  },
  { weight: 1, arbitrary: server.map((s) => named(`server ${s} cuts all`, (c) => c.proxies[s]?.resetAll())) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(server, fc.boolean())
      .map(([s, isStall]) => named(`server ${s} stalls ${isStall}`, (c) => c.proxies[s]?.setMode(isStall ? "stall" : "pass"))),
  },
  { weight: 1, arbitrary: server.map((s) => named(`server ${s} restarts`, (c) => c.restart(s))) },
  { weight: 1, arbitrary: fc.constant(named("quiet", (c) => c.settle())) },
);

describe.each(DELIVERY_KINDS)("servers and agents over %s", (delivery) => {
  it("S1 at every quiet point each agent has the cluster's view, whatever happened on the wire", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40, size: "max" }), async (steps) => {
        const cluster = new Cluster(delivery);
        await cluster.start();
        try {
          for (const { run } of steps) {
            await run(cluster);
            await new Promise((resolve) => setImmediate(resolve));
          }
          await cluster.settle();
        } finally {
          await cluster.stop();
        }
      }),
      { numRuns: 10, endOnFailure: true },
    );
  }, 120_000);
});
