/** Several real servers of one cluster, found by their Service's EndpointSlices, over mutual TLS. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { credentials, type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { FanoutSettings } from "../../fanout/server.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NodeName } from "../../src/model/names.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import type { GetObjectStatusResponse, PolicyStatus, RebalanceResponse, ReplicaReport } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { rankServers } from "../../src/wire/rendezvous.ts";
import { IntrospectionServiceClient, SyncServiceClient } from "../../src/wire/service.ts";
import {
  CHANNEL_OPTIONS,
  type FanoutFixture,
  GrpcAgent,
  namespace,
  node,
  pod,
  policy,
  pool,
  serverSlice,
  startFanout,
  upsert,
} from "../fakes/fanout-fixture.ts";

const SERVICE = { namespace: "sedge-system", name: "sedge-fanout" };
const WORLD: readonly ClusterEvent[] = upsert(
  ...["n1", "n2", "n3"].map((name, i) => node(name, i + 1)),
  namespace("shop"),
  pool(),
  ...["n1", "n2", "n3"].map((name) => pod("shop", `web-${name}`, { node: name as NodeName, labels: { app: "web" } })),
  policy("shop", "allow-web", "web"),
);
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 5 });

function unary<T>(call: (done: (error: ServiceError | null, value: T) => void) => unknown): Promise<T> {
  return new Promise((resolve, reject) => call((error, value) => (error === null ? resolve(value) : reject(error))));
}

interface World extends AsyncDisposable {
  readonly servers: readonly FanoutFixture[];
  channel(uri: string): Promise<ReturnType<typeof credentials.createSsl>>;
  agent(server: number, name: string): Promise<GrpcAgent>;
  introspect(server: number, uri: string): Promise<IntrospectionServiceClient>;
}

async function startTier(count: number, settings: Partial<FanoutSettings> = {}): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), "sedge-tier-"));
  const authority = await createCertificateAuthority();
  const { cert, key } = await authority.issue({ commonName: "fanout", uris: ["spiffe://sedge/fanout"] });
  const tls = { ca: join(directory, "ca.pem"), cert: join(directory, "cert.pem"), key: join(directory, "key.pem") };
  await Promise.all([writeFile(tls.ca, authority.cert), writeFile(tls.cert, cert), writeFile(tls.key, key)]);
  const servers: FanoutFixture[] = [];
  for (let i = 0; i < count; i++)
    servers.push(
      await startFanout({ events: WORLD, tls, serverName: `pod-${i}`, settings: { service: SERVICE, movesPerSecond: 1_000, drainMs: 2_000, ...settings } }),
    );
  const slices = servers.map(({ secureAddress }, i) => serverSlice(`s${i}`, [{ pod: `pod-${i}`, address: secureAddress }]));
  for (const { server } of servers) server.sink(upsert(...slices));
  await until(() => expect(servers.map(({ server }) => server.members.ready.length)).toEqual(servers.map(() => count)));
  const channel = async (uri: string): Promise<ReturnType<typeof credentials.createSsl>> => {
    const pair = await authority.issue({ commonName: "x", uris: [uri], validForMs: uri.endsWith("/n3") ? 3 * 86_400_000 : 365 * 86_400_000 });
    return credentials.createSsl(Buffer.from(authority.cert), Buffer.from(pair.key), Buffer.from(pair.cert), { checkServerIdentity: () => undefined });
  };
  const addressOf = (server: number): string => servers[server]?.secureAddress ?? "";
  return {
    servers,
    channel,
    async agent(server, name) {
      const agent = new GrpcAgent({ address: addressOf(server), node: name, credentials: await channel(`spiffe://sedge/node/${name}`) });
      onTestFinished(() => agent[Symbol.dispose]());
      await until(() => expect(agent.isLive).toBe(true));
      return agent;
    },
    async introspect(server, uri) {
      const client = new IntrospectionServiceClient(addressOf(server), await channel(uri), CHANNEL_OPTIONS);
      onTestFinished(() => client.close());
      return client;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map(({ stop }) => stop()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

describe("a tier of servers", () => {
  it("policies: each server tells of its own nodes, any of them of all; a server that is gone is named where its nodes are missed", async () => {
    await using tier = await startTier(2);
    await tier.agent(0, "n1");
    await tier.agent(1, "n2");
    const operator = await tier.introspect(0, "spiffe://sedge/operator");
    const ask = async (): Promise<PolicyStatus | undefined> => {
      const found: PolicyStatus[] = [];
      for await (const status of operator.listPolicyStatus({ kind: "", namespace: "", name: "" }) as AsyncIterable<PolicyStatus>) found.push(status);
      return found[0];
    };
    const absent = { node: "n3", reason: "not connected", connected: false };
    await until(async () => expect(await ask()).toMatchObject({ kind: "NetworkPolicy", name: "allow-web", nodes: 3, nodesProgrammed: 2, lagging: [absent] }));
    await tier.servers[1]?.server.close();
    const unheard = "not connected to a server that answers (pod-1 does not: no answer in 2 s)";
    await until(async () =>
      expect(await ask()).toMatchObject({
        nodesProgrammed: 1,
        lagging: [
          { node: "n2", reason: unheard },
          { node: "n3", reason: unheard },
        ],
      }),
    );
    const asNode = await tier.introspect(0, "spiffe://sedge/node/n1");
    await expect(unary((done) => asNode.getLag({ policy: "" }, done))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
  });

  it("knows together: nodes of each, certificates near their end, an object over all; who does not answer is named", async () => {
    await using tier = await startTier(3);
    const [a, b, c] = tier.servers;
    if (a === undefined || b === undefined || c === undefined) throw new Error("three were started");
    await tier.agent(0, "n1");
    await tier.agent(1, "n2");
    await tier.agent(2, "n3");
    const report = await a.server.tier.collect();
    const heard = report.heard.toSorted((one, other) => one.name.localeCompare(other.name));
    expect(heard.map((replica) => [replica.name, replica.isSelf, replica.report.nodes, replica.report.clusterNodes])).toEqual([
      ["pod-0", true, ["n1"], 3],
      ["pod-1", false, ["n2"], 3],
      ["pod-2", false, ["n3"], 3],
    ]);
    expect([report.unheard, report.unready]).toEqual([[], []]);
    expect(report.heard.flatMap((replica) => replica.report.certificates.map(({ holder }) => holder))).toEqual(["node n3"]);

    const operator = await tier.introspect(0, "spiffe://sedge/operator");
    const request = { kind: "NetworkPolicy", namespace: "shop", name: "allow-web" };
    const ask = (isTier: boolean): Promise<GetObjectStatusResponse> => unary((done) => operator.getObjectStatus({ ...request, tier: isTier }, done));
    await until(async () => expect(await ask(true)).toMatchObject({ nodes: 3, nodesProgrammed: 3, nodesConnected: 3, lagging: [], unheard: [] }));
    expect((await ask(true)).programmedAtUnixUs).toBeGreaterThan(0n);
    expect(await ask(false)).toMatchObject({ nodes: 3, nodesProgrammed: 1, nodesConnected: 1, lagging: [{ node: "n2", connected: false }, { node: "n3" }] });
    expect(await a.server.tier.objectStatuses([request, { ...request, name: "none" }])).toMatchObject([{ nodesProgrammed: 3 }, { resourceVersion: "" }]);

    await b.server.close();
    const after = await a.server.tier.objectStatuses([request]);
    expect(after).toMatchObject([{ nodes: 3, nodesProgrammed: 2, programmedAtUnixUs: 0n, unheard: ["pod-1"] }]);
  });

  it("a node that asks too often is refused by name with when to come again, and counted; its neighbour is served", async () => {
    await using tier = await startTier(1, { identityRates: { streams: { burst: 3, perSecond: 0.01 }, claims: { burst: 2, perSecond: 0.01 } } });
    const [f] = tier.servers;
    const own = await tier.channel("spiffe://sedge/node/n1");
    const streams = Array.from({ length: 5 }, () => new GrpcAgent({ address: f?.secureAddress ?? "", node: "n1", credentials: own }));
    onTestFinished(() => streams.forEach((stream) => stream[Symbol.dispose]()));
    await until(() => expect(streams.filter((stream) => stream.status?.code === status.RESOURCE_EXHAUSTED)).toHaveLength(2));
    const refused = streams.find((stream) => stream.status?.code === status.RESOURCE_EXHAUSTED);
    expect(refused?.status?.details).toContain("node n1");
    expect(Number(refused?.status?.metadata.get("retry-after-ms")[0])).toBeGreaterThan(1_000);
    const claims = new SyncServiceClient(f?.secureAddress ?? "", own, CHANNEL_OPTIONS);
    onTestFinished(() => claims.close());
    const list = (): Promise<unknown> => unary((done) => claims.listBlocks({ node: "n1", takeOver: [] }, done));
    await list();
    await list();
    await expect(list()).rejects.toMatchObject({ code: status.UNAVAILABLE });
    await tier.agent(0, "n2");
    const text = (await f?.registry.metrics()) ?? "";
    expect(text).toMatch(/^sedge_fanout_rate_limited_total\{what="streams"\} 2$/m);
    expect(text).toMatch(/^sedge_fanout_rate_limited_total\{what="claims"\} 1$/m);
  });

  it("another server may read and nothing else; a node may not even read", async () => {
    await using tier = await startTier(1);
    const server = await tier.introspect(0, "spiffe://sedge/fanout");
    expect((await unary<ReplicaReport>((done) => server.getReplicaReport({}, done))).status?.server).toBe("pod-0");
    await expect(unary((done) => server.rebalance({ movesPerSecond: 0, dryRun: true }, done))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await expect(unary((done) => server.setLogLevel({ level: "debug" }, done))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    const own = await tier.introspect(0, "spiffe://sedge/node/n1");
    await expect(unary((done) => own.getReplicaReport({}, done))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await expect(unary((done) => own.listServers({}, done))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    await expect(unary((done) => own.getObjectStatuses({ objects: [] }, done))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
    // A server's certificate is no node's.
    const agent = new GrpcAgent({ address: tier.servers[0]?.secureAddress ?? "", node: "n1", credentials: await tier.channel("spiffe://sedge/fanout") });
    onTestFinished(() => agent[Symbol.dispose]());
    await until(() => expect(agent.status?.code).toBe(status.PERMISSION_DENIED));
  });

  it("agents are told the list in Welcome and when it changes; rebalance names those whose first choice is elsewhere", async () => {
    await using tier = await startTier(2);
    const addresses = tier.servers.map(({ secureAddress }) => secureAddress);
    const firstOf = (name: string): number =>
      addresses.indexOf(
        rankServers(
          name,
          addresses.map((identity) => ({ identity, isNear: false })),
        )[0]?.identity ?? "",
      );
    const [stays = "", goes = ""] = [0, 1].map((server) => Array.from({ length: 100 }, (_, i) => `node-${i}`).find((name) => firstOf(name) === server));
    const agents = [await tier.agent(0, stays), await tier.agent(0, goes)];
    for (const { outputs } of agents)
      expect(outputs.find(({ kind }) => kind === "servers")).toMatchObject({
        servers: { servers: addresses.toSorted().map((address) => ({ addresses: [address] })) },
      });

    const operator = await tier.introspect(0, "spiffe://sedge/operator");
    const rebalance = (dryRun: boolean): Promise<RebalanceResponse> => unary((done) => operator.rebalance({ movesPerSecond: 0, dryRun }, done));
    expect(await rebalance(true)).toEqual({ moving: 1, staying: 1, spanMs: 0n });
    expect(agents.flatMap(({ outputs }) => outputs).some(({ kind }) => kind === "move")).toBe(false);
    expect(await rebalance(false)).toMatchObject({ moving: 1 });
    await until(() =>
      expect(agents[1]?.outputs.find(({ kind }) => kind === "move")).toMatchObject({ move: { targets: [addresses[1]], deadlineMs: 0, afterMs: 0 } }),
    );
    expect(agents[0]?.outputs.some(({ kind }) => kind === "move")).toBe(false);

    // The second server is gone from the Service.
    tier.servers[0]?.server.sink([{ kind: "delete", key: { kind: "EndpointSlice", namespace: SERVICE.namespace, name: "s1" } }]);
    await until(() =>
      expect(agents[0]?.outputs.findLast(({ kind }) => kind === "servers")).toMatchObject({ servers: { servers: [{ addresses: [addresses[0]] }] } }),
    );
  });
});
