/**
 * What the source promises, on a running API server: the same suite judges the embedded API and the real kube-apiserver, so that neither can drift.
 *
 * The source under test sits behind a TCP proxy that resets, refuses and stalls; changes are made on a connection of their own. Each test has its own names and its
 * own source, and looks only at its own objects.
 * Above 500 lines, because the server, the proxy and the admin's client are one start for all tests, and a kube-apiserver takes seconds to start.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ApiClient, type ObjectName } from "../../src/datastore/api-client.ts";
import { API_RESOURCES, type ApiResource } from "../../src/datastore/api-resources.ts";
import { standingSince } from "../../src/datastore/catch-up.ts";
import { clusterUid } from "../../src/datastore/cluster-uid.ts";
import type { ApiConnection } from "../../src/datastore/connection.ts";
import type { JsonObject } from "../../src/datastore/json-object.ts";
import { ClusterSource } from "../../src/datastore/source.ts";
import type { WatchTuning } from "../../src/datastore/watch-kind.ts";
import { AddressWriter } from "../../src/datastore/writer.ts";
import { affinityName, blockName } from "../../src/ipam/block.ts";
import type { ClusterEvent, SyncStatus } from "../../src/model/event.ts";
import { type NodeName, podKey } from "../../src/model/names.ts";
import { keyOf, type Resource, type ResourceKey, type ResourceKind } from "../../src/model/resource.ts";
import { cidrAddressAt, parseCidr } from "../../src/net/cidr.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { startTcpProxy, type TcpProxy } from "../fakes/tcp-proxy.ts";

/** A running API server with the address kinds installed. */
export interface SuiteApi extends AsyncDisposable {
  readonly connection: ApiConnection;
  /** Ends it without warning and starts it again: same state, same port, same credentials. */
  restart(): Promise<void>;
  /** After the next `restart`, versions from before now are answered with 410. */
  compact(): Promise<void>;
}

const BULK_OBJECTS = 20_000;
const BULK_WORKERS = 32;
const FAST: Partial<WatchTuning> = { backoffInitialMs: 10, backoffMaxMs: 200 };

export function describeSource(name: string, startApi: () => Promise<SuiteApi>): void {
  describe(`source on ${name}`, { timeout: 120_000 }, () => {
    let api: SuiteApi;
    let admin: ApiClient;
    let proxy: TcpProxy;
    beforeAll(async () => {
      api = await startApi();
      const { hostname, port } = api.connection.url;
      proxy = await startTcpProxy({ host: hostname, port: Number(port) });
      admin = new ApiClient({ connection: api.connection });
    }, 180_000);
    afterAll(async () => {
      admin.close();
      await proxy[Symbol.asyncDispose]();
      await api[Symbol.asyncDispose]();
    }, 60_000);
    const follow = (tuning: Partial<WatchTuning> = {}, kinds: readonly ResourceKind[] = SUITE_KINDS): Followed =>
      new Followed({ connection: api.connection, proxy, tuning: { ...FAST, ...tuning }, kinds });
    const restart = async (): Promise<void> => {
      await api.restart();
      admin.close(); // drops kept-alive connections to the server that was: a write on one would fail without having been sent
    };
    const namespace = async (of: string): Promise<void> => void (await admin.create(API_RESOURCES.Namespace, { metadata: { name: of, labels: { team: of } } }));

    it("every kind: what is there at first, then additions, changes and deletions", async () => {
      await namespace("kinds");
      const first = await createAll(admin, "first");
      await using followed = follow();
      await followed.until(() => followed.source.status === "in-sync");
      expect(followed.statuses).toEqual(["wait-for-datastore", "in-sync"]);
      for (const key of first) expect(followed.has(key), JSON.stringify(key)).toBe(true);
      const second = await createAll(admin, "second");
      await followed.until(() => second.every((key) => followed.has(key)));
      for (const { kind, ...at } of second)
        await admin.patch(API_RESOURCES[kind], at, changeOf(kind), { type: "merge", ...(kind === "Pod" || kind === "Node" ? { subresource: "status" } : {}) });
      await followed.until(() => second.every((key) => isChanged(followed.get(key))));
      for (const { kind, ...at } of [...first, ...second]) if (kind !== "Namespace") await forceDelete(admin, API_RESOURCES[kind], at);
      const gone = [...first, ...second].filter(({ kind }) => kind !== "Namespace");
      await followed.until(() => gone.every((key) => !followed.has(key)));
      expect(followed.source.counters()).toMatchObject({ streamLists: 7, pagedLists: 0, invalids: 0, reconnectsExpired: 0 });
      expect(followed.source.upstreamAgeMs()).toBeLessThan(120_000);
    });

    it("values are the same whether they come by a list, by a streaming list or by a watch", async () => {
      await namespace("shapes");
      await using live = follow();
      await live.until(() => live.source.status === "in-sync");
      const keys = await createAll(admin, "shapes");
      await admin.create(API_RESOURCES.NetworkPolicy, RICH_POLICY);
      const all = [...keys, { kind: "NetworkPolicy", namespace: "shapes", name: "rich" } as const];
      await live.until(() => all.every((key) => live.has(key)));
      await using streamed = follow();
      await using paged = follow({ useStreamingList: false, pageLimit: 3 });
      for (const other of [streamed, paged]) {
        await other.until(() => other.source.status === "in-sync");
        for (const key of all) expect(other.get(key), JSON.stringify(key)).toEqual(live.get(key));
      }
      expect(live.get({ kind: "NetworkPolicy", namespace: "shapes", name: "rich" })).toMatchObject({
        ingress: [
          {
            peers: [{ kind: "pods" }, { kind: "pods" }, { kind: "ipBlock", except: ["10.1.0.0/16"] }],
            ports: [{ port: "http" }, { port: 80, endPort: 90, protocol: "UDP" }, { port: undefined, protocol: "SCTP" }],
          },
        ],
        egress: [],
        policyTypes: ["Ingress", "Egress"],
      });
      for (const { kind, ...at } of keys) if (kind !== "Namespace") await forceDelete(admin, API_RESOURCES[kind], at);
    });

    it("heartbeats and status noise → no event", async () => {
      await admin.create(API_RESOURCES.Node, { metadata: { name: "quiet" } });
      await using followed = follow();
      await followed.until(() => followed.source.status === "in-sync");
      const before = followed.events.length;
      for (const reason of ["A", "B", "C"])
        await admin.patch(
          API_RESOURCES.Node,
          { name: "quiet" },
          { status: { conditions: [{ type: "Ready", status: "True", reason }] } },
          { type: "merge", subresource: "status" },
        );
      await admin.patch(API_RESOURCES.Node, { name: "quiet" }, { metadata: { labels: { seen: "yes" } } }, { type: "merge" });
      await followed.until(() => followed.events.length > before);
      expect(followed.events.slice(before)).toEqual([
        { kind: "upsert", resource: expect.objectContaining({ name: "quiet", labels: expect.objectContaining({ seen: "yes" }) }) },
      ]);
      await admin.delete(API_RESOURCES.Node, { name: "quiet" });
    });

    it("an object that cannot be understood → invalid with the field, never a deletion; then good again, then gone", async () => {
      const cidr = parseCidr("10.70.0.0/26");
      const at = { name: blockName(cidr) };
      const key = { kind: "IPAMBlock", namespace: "", name: at.name } as const;
      await using followed = follow();
      await admin.create(API_RESOURCES.IPAMBlock, blockObject("10.70.0.0/26"));
      await followed.until(() => followed.has(key));
      await admin.patch(API_RESOURCES.IPAMBlock, at, { spec: { allocations: [7] } }, { type: "merge" });
      await followed.until(() => followed.lastOf(key)?.kind === "invalid");
      expect(followed.lastOf(key)).toMatchObject({ kind: "invalid", problems: [{ field: "spec.allocations[0]" }] });
      await using late = follow();
      await late.until(() => late.source.status === "in-sync");
      expect(late.lastOf(key)).toMatchObject({ kind: "invalid" });
      await admin.patch(API_RESOURCES.IPAMBlock, at, { spec: { allocations: [null] } }, { type: "merge" });
      await followed.until(() => followed.lastOf(key)?.kind === "upsert");
      await admin.delete(API_RESOURCES.IPAMBlock, at);
      await followed.until(() => followed.lastOf(key)?.kind === "delete");
      expect(followed.events.filter((event) => event.kind === "delete" && event.key.name === key.name)).toHaveLength(1);
    });

    it("connections dropped again and again under changes → everything arrives, by resuming and not by listing", async () => {
      await namespace("drops");
      await using followed = follow();
      await followed.until(() => followed.source.status === "in-sync");
      for (let i = 0; i < 30; i++) {
        await admin.create(API_RESOURCES.NetworkPolicy, policyObject("drops", `p${i}`));
        if (i % 3 === 0) proxy.resetAll();
        if (i % 2 === 1) await admin.delete(API_RESOURCES.NetworkPolicy, { namespace: "drops", name: `p${i - 1}` });
      }
      const wanted = Array.from({ length: 30 }, (_, i) => i).filter((i) => i % 2 === 1);
      await followed.until(
        () =>
          followed.countOf("NetworkPolicy", "drops") === wanted.length &&
          wanted.every((i) => followed.has({ kind: "NetworkPolicy", namespace: "drops", name: `p${i}` })),
      );
      expect(followed.source.counters().completedLists).toBe(7);
      expect(followed.source.counters().reconnectsDisconnected).toBeGreaterThan(0);
      expect(followed.statuses).toEqual(["wait-for-datastore", "in-sync"]);
    });

    it("a connection that falls silent → given up and opened anew", async () => {
      await namespace("silent");
      await using followed = follow({ silenceMs: 400 }, ["NetworkPolicy"]);
      await followed.until(() => followed.source.status === "in-sync");
      proxy.setMode("stall");
      await admin.create(API_RESOURCES.NetworkPolicy, policyObject("silent", "p"));
      while (followed.source.counters().reconnectsSilent === 0) await systemClock.sleep(20);
      expect(followed.has({ kind: "NetworkPolicy", namespace: "silent", name: "p" })).toBe(false);
      proxy.setMode("pass");
      await followed.until(() => followed.has({ kind: "NetworkPolicy", namespace: "silent", name: "p" }));
    });

    it("the server is killed and comes back → nothing is lost, nothing is deleted", async () => {
      await namespace("restart");
      await admin.create(API_RESOURCES.NetworkPolicy, policyObject("restart", "before"));
      await using followed = follow();
      await followed.until(() => followed.source.status === "in-sync");
      await restart();
      await admin.create(API_RESOURCES.NetworkPolicy, policyObject("restart", "after"));
      await followed.until(() => followed.has({ kind: "NetworkPolicy", namespace: "restart", name: "after" }) && followed.source.status === "in-sync");
      expect(followed.has({ kind: "NetworkPolicy", namespace: "restart", name: "before" })).toBe(true);
      expect(followed.events.filter((event) => event.kind === "delete")).toEqual([]);
    });

    it("history compacted while out of reach (410) → lists anew: what went away is deleted, what stayed is not told again", async () => {
      await namespace("compact");
      for (const policy of ["stays", "goes"]) await admin.create(API_RESOURCES.NetworkPolicy, policyObject("compact", policy));
      await using followed = follow();
      await followed.until(() => followed.source.status === "in-sync");
      const before = followed.events.length;
      proxy.setMode("refuse");
      proxy.resetAll();
      await admin.delete(API_RESOURCES.NetworkPolicy, { namespace: "compact", name: "goes" });
      await admin.create(API_RESOURCES.NetworkPolicy, policyObject("compact", "comes"));
      await api.compact();
      await restart();
      proxy.setMode("pass");
      await followed.until(
        () =>
          followed.has({ kind: "NetworkPolicy", namespace: "compact", name: "comes" }) &&
          !followed.has({ kind: "NetworkPolicy", namespace: "compact", name: "goes" }),
      );
      await followed.until(() => followed.source.status === "in-sync");
      expect(followed.source.counters().reconnectsExpired).toBeGreaterThan(0);
      const told = followed.events.slice(before).filter((event) => event.kind !== "status");
      expect(told.map((event) => `${event.kind} ${event.kind === "upsert" ? event.resource.name : event.key.name}`).sort()).toEqual([
        "delete goes",
        "upsert comes",
      ]);
      expect(followed.statuses).toContain("resync");
    });

    it("catchUp: a watch that nothing has come to for long is known to have everything, at once; one that is behind is not", async () => {
      await namespace("still");
      await using followed = follow({}, ["Namespace", "Pod"]);
      await followed.until(() => followed.source.status === "in-sync");
      const before = BigInt(followed.source.resourceVersionOf("Pod"));
      const after = await admin.patch(API_RESOURCES.Namespace, { name: "still" }, { metadata: { labels: { seen: "yes" } } }, { type: "merge" });
      const version = BigInt(String((after["metadata"] as JsonObject)["resourceVersion"]));
      expect(version).toBeGreaterThan(before);
      await followed.source.catchUp("Pod");
      expect(BigInt(followed.source.resourceVersionOf("Pod"))).toBeGreaterThanOrEqual(version);
      await followed.source.catchUp("NoSuchKind");
      // A watch that hears nothing: what it missed is not taken for read.
      await followed.until(() => followed.get({ kind: "Namespace", namespace: "", name: "still" }) !== undefined);
      const probe = new ApiClient({ connection: api.connection });
      const from = String(version - 1n);
      const how = { kind: "Namespace", silenceMs: 10_000, signal: AbortSignal.timeout(20_000) } as const;
      expect(await standingSince(probe, { ...how, from })).toEqual({ kind: "moved" });
      const { resourceVersion } = await probe.list(API_RESOURCES.Namespace);
      expect(await standingSince(probe, { ...how, from: resourceVersion })).toMatchObject({ kind: "quiet", isCurrent: true });
      probe.close();
    });

    it("a cluster in which nothing happens → the data is as old as the last question, for every kind", async () => {
      await using followed = follow({ proofIntervalMs: 200 });
      await followed.until(() => followed.source.status === "in-sync");
      // No watch is opened again and no bookmark of the server's own comes in this time: what lowers the age is the proofs.
      const proofs = (): number => followed.source.counters().proofs;
      const since = performance.now();
      while (proofs() < 3 * SUITE_KINDS.length) await systemClock.sleep(20);
      while (followed.source.upstreamAgeMs() > (performance.now() - since) / 2) await systemClock.sleep(20);
      expect(followed.source.counters()).toMatchObject({ watches: 0, streamLists: SUITE_KINDS.length, reconnectsSilent: 0 });
    });

    it("a watch whose connection is frozen: it ages from the first event that it misses, is opened anew, and gets it", async () => {
      await namespace("frozen");
      await using followed = follow({ proofIntervalMs: 300, proofSilenceMs: 2_500, stuckMs: 300 }, ["NetworkPolicy"]);
      await followed.until(() => followed.source.status === "in-sync");
      proxy.freezeOpen();
      const { proofs } = followed.source.counters();
      while (followed.source.counters().proofs < proofs + 3) await systemClock.sleep(20);
      // Nothing is owed: new connections prove it, and the frozen watch is left alone.
      while (followed.source.upstreamAgeMs() > 2_000) await systemClock.sleep(20);
      expect(followed.source.counters().reconnectsSilent).toBe(0);
      await admin.create(API_RESOURCES.NetworkPolicy, policyObject("frozen", "p"));
      const createdAt = performance.now();
      while (!followed.has({ kind: "NetworkPolicy", namespace: "frozen", name: "p" })) {
        const owedMs = performance.now() - createdAt;
        expect(followed.source.upstreamAgeMs()).toBeGreaterThanOrEqual(owedMs);
        await systemClock.sleep(20);
      }
      expect(followed.source.counters()).toMatchObject({ reconnectsSilent: 1, streamLists: 1 });
      proxy.setMode("pass");
    });

    it("cluster uid: the same for every client, kept over a restart", async () => {
      const uid = await clusterUid(admin);
      expect(uid).toMatch(/^[0-9a-f]{8}-/);
      await restart();
      expect(await clusterUid(admin)).toBe(uid);
    });

    it("address writes: one winner, and each way to lose has its name", async () => {
      const writer = new AddressWriter({ client: admin, clock: systemClock });
      const cidr = parseCidr("10.71.0.0/26");
      const node = "n1" as NodeName;
      const block = { kind: "IPAMBlock", name: blockName(cidr), resourceVersion: "", cidr, node, allocations: [], isDeleted: false } as const;
      const created = await writer.create(block);
      expect(created).toMatchObject({ kind: "written", value: { name: block.name, node } });
      if (created.kind !== "written") return;
      expect(await writer.create(block)).toEqual({ kind: "already-exists" });
      const taken = { ...created.value, allocations: [{ address: cidrAddressAt(cidr, 3), handle: "h", pod: podKey("shop", "web"), node }] };
      const updated = await writer.update(taken, created);
      expect(updated).toMatchObject({ kind: "written", value: { allocations: taken.allocations } });
      expect(await writer.update(taken, created)).toEqual({ kind: "conflict" });
      expect(await writer.update(taken)).toEqual({ kind: "conflict" });
      expect(await writer.delete("IPAMBlock", created.value)).toEqual({ kind: "conflict" });
      const read = await writer.read("IPAMBlock", block.name);
      expect(read).toMatchObject({ kind: "found", value: { allocations: taken.allocations } });
      if (read.kind !== "found") return;
      expect(read.object["spec"]).toMatchObject({ sequenceNumber: Number((created.object["spec"] as JsonObject)["sequenceNumber"]) + 1 });
      expect(await writer.delete("IPAMBlock", read.value)).toEqual({ kind: "deleted" });
      expect(await writer.update(read.value, read)).toEqual({ kind: "not-found" });
      expect(await writer.delete("IPAMBlock", read.value)).toEqual({ kind: "not-found" });
      expect(await writer.read("IPAMBlock", block.name)).toEqual({ kind: "not-found" });
    });

    it(`${BULK_OBJECTS} objects: streamed and in pages, complete either way`, { timeout: 400_000 }, async () => {
      await namespace("bulk");
      await createMany(admin, BULK_OBJECTS, (i) => podObject("bulk", `pod-${i}`));
      for (const useStreamingList of [true, false]) {
        await using followed = follow({ useStreamingList }, ["Pod"]);
        await followed.until(() => followed.source.status === "in-sync");
        expect(followed.countOf("Pod", "bulk")).toBe(BULK_OBJECTS);
        const { streamLists, pages, reconnectsExpired } = followed.source.counters();
        expect({ streamLists, reconnectsExpired }).toEqual({ streamLists: useStreamingList ? 1 : 0, reconnectsExpired: 0 });
        expect(pages >= BULK_OBJECTS / 500).toBe(!useStreamingList);
      }
    });
  });
}

/** A source behind the proxy, and what it has told. */
class Followed implements AsyncDisposable {
  readonly source: ClusterSource;
  readonly events: ClusterEvent[] = [];
  readonly statuses: SyncStatus[] = [];
  readonly #view = new Map<string, Resource>();
  readonly #last = new Map<string, ClusterEvent>();
  readonly #client: ApiClient;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #wake = (): void => undefined;
  #failure: unknown;

  constructor({
    connection,
    proxy,
    tuning,
    kinds,
  }: { connection: ApiConnection; proxy: TcpProxy; tuning: Partial<WatchTuning>; kinds: readonly ResourceKind[] | undefined }) {
    const url = new URL(connection.url);
    url.port = String(proxy.port);
    this.#client = new ApiClient({ connection: { ...connection, url } });
    const sink = (events: readonly ClusterEvent[]): void => this.#take(events);
    this.source = new ClusterSource({ client: this.#client, clock: systemClock, log: silentLogger(), sink, tuning, ...(kinds === undefined ? {} : { kinds }) });
    this.#running = this.source.run(this.#stop.signal).catch((error: unknown) => {
      this.#failure = error;
      this.#wake();
    });
  }

  has(key: ResourceKey): boolean {
    return this.#view.has(textOf(key));
  }

  get(key: ResourceKey): Resource | undefined {
    return this.#view.get(textOf(key));
  }

  lastOf(key: ResourceKey): ClusterEvent | undefined {
    return this.#last.get(textOf(key));
  }

  countOf(kind: ResourceKind, namespace: string): number {
    return [...this.#view.values()].filter((one) => one.kind === kind && keyOf(one).namespace === namespace).length;
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#client.close();
  }

  #take(events: readonly ClusterEvent[]): void {
    for (const event of events) {
      this.events.push(event);
      if (event.kind === "status") {
        this.statuses.push(event.status);
        continue;
      }
      const key = textOf(event.kind === "upsert" ? keyOf(event.resource) : event.key);
      this.#last.set(key, event);
      if (event.kind === "upsert") this.#view.set(key, event.resource);
      if (event.kind === "delete") this.#view.delete(key);
    }
    this.#wake();
  }
}

function textOf({ kind, namespace, name }: ResourceKey): string {
  return `${kind} ${namespace}/${name}`;
}

function policyObject(namespace: string, name: string): JsonObject {
  return { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { namespace, name }, spec: { podSelector: {}, policyTypes: ["Ingress"] } };
}

function podObject(namespace: string, name: string): JsonObject {
  const container = { name: "main", image: "registry.example/app:1", ports: [{ name: "http", containerPort: 8080 }], env: [{ name: "A", value: "b" }] };
  return { apiVersion: "v1", kind: "Pod", metadata: { namespace, name, labels: { app: name } }, spec: { nodeName: "n1", containers: [container] } };
}

function blockObject(cidr: string): JsonObject {
  const spec = { cidr, affinity: "host:n1", allocations: [null], unallocated: [0], attributes: [], sequenceNumber: 1 };
  return { apiVersion: "projectcalico.org/v3", kind: "IPAMBlock", metadata: { name: blockName(parseCidr(cidr)) }, spec };
}

const RICH_POLICY: JsonObject = {
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { namespace: "shapes", name: "rich" },
  spec: {
    podSelector: { matchLabels: { app: "web" }, matchExpressions: [{ key: "tier", operator: "NotIn", values: ["a", "b"] }] },
    policyTypes: ["Ingress", "Egress"],
    ingress: [
      {
        from: [
          { podSelector: {} },
          { namespaceSelector: {}, podSelector: { matchLabels: { empty: "" } } },
          { ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } },
        ],
        ports: [{ port: "http" }, { port: 80, endPort: 90, protocol: "UDP" }, { protocol: "SCTP" }],
      },
    ],
  },
};

/** Kinds that the suite makes objects of and follows; those of policy alone are not different to the source. */
const SUITE_KINDS = ["Namespace", "Node", "Pod", "NetworkPolicy", "IPPool", "IPAMBlock", "BlockAffinity"] as const satisfies readonly ResourceKind[];
type SuiteKind = (typeof SUITE_KINDS)[number];

/** One object of each, the namespaced ones in the test's own namespace; returns their keys. */
async function createAll(client: ApiClient, label: "first" | "second" | "shapes"): Promise<ResourceKey[]> {
  const namespace = label === "shapes" ? "shapes" : "kinds";
  const third = { first: 80, second: 81, shapes: 82 }[label];
  const cidr = parseCidr(`10.${third}.0.0/26`);
  const affinity = affinityName("n1", cidr);
  const objects: Readonly<Record<SuiteKind, JsonObject>> = {
    Namespace: { apiVersion: "v1", kind: "Namespace", metadata: { name: `ns-${label}` } },
    Node: { apiVersion: "v1", kind: "Node", metadata: { name: `node-${label}` } },
    Pod: podObject(namespace, label),
    NetworkPolicy: policyObject(namespace, label),
    IPPool: { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name: `pool-${label}` }, spec: { cidr: `10.${third}.0.0/16`, blockSize: 26 } },
    IPAMBlock: blockObject(cidr),
    BlockAffinity: {
      apiVersion: "projectcalico.org/v3",
      kind: "BlockAffinity",
      metadata: { name: affinity },
      spec: { state: "pending", node: "n1", type: "host", cidr },
    },
  };
  const keys: ResourceKey[] = [];
  for (const [kind, object] of Object.entries(objects) as [SuiteKind, JsonObject][]) {
    await client.create(API_RESOURCES[kind], object);
    const metadata = object["metadata"] as { name: string; namespace?: string };
    keys.push({ kind, namespace: metadata.namespace ?? "", name: metadata.name });
  }
  return keys;
}

function changeOf(kind: ResourceKind): JsonObject {
  const changes: Readonly<Partial<Record<ResourceKind, JsonObject>>> = {
    Namespace: { metadata: { labels: { changed: "yes" } } },
    Node: { status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] } },
    Pod: { status: { phase: "Running", podIP: "10.0.0.9", podIPs: [{ ip: "10.0.0.9" }] } },
    NetworkPolicy: { spec: { policyTypes: ["Ingress", "Egress"] } },
    IPPool: { spec: { disabled: true } },
    IPAMBlock: { spec: { allocations: [0], attributes: [{ handle_id: "h", secondary: { namespace: "kinds", pod: "x", node: "n1" } }], unallocated: [] } },
    BlockAffinity: { spec: { state: "confirmed" } },
  };
  const change = changes[kind];
  if (change === undefined) throw new Error(`no change of ${kind} is known here`);
  return change;
}

function isChanged(resource: Resource | undefined): boolean {
  switch (resource?.kind) {
    case undefined:
      return false;
    case "Namespace":
      return resource.labels["changed"] === "yes";
    case "Node":
    case "Pod":
      return resource.addresses.length === 1;
    case "NetworkPolicy":
      return resource.policyTypes.length === 2;
    case "IPPool":
      return resource.disabled;
    case "IPAMBlock":
      return resource.allocations[0]?.pod === podKey("kinds", "x");
    case "BlockAffinity":
      return resource.state === "confirmed";
    default:
      return false;
  }
}

/** Pods with a node are deleted by its kubelet, which is not there: no grace period. */
async function forceDelete(client: ApiClient, resource: ApiResource, { name, namespace }: ObjectName): Promise<void> {
  if (resource.kind !== "Pod") return void (await client.delete(resource, { name, namespace }));
  await client.requestJson("DELETE", `/api/v1/namespaces/${namespace}/pods/${name}`, { query: { gracePeriodSeconds: 0 } });
}

async function createMany(client: ApiClient, count: number, objectAt: (i: number) => JsonObject): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < count; i = next++) await client.create(API_RESOURCES.Pod, objectAt(i));
  };
  await Promise.all(Array.from({ length: BULK_WORKERS }, worker));
}
