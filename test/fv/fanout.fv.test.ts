/** A real server and real gRPC clients over loopback, those that misbehave among them. */
import { writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { credentials, type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { startGrpcDelivery } from "../../fanout/delivery/grpc-delivery.ts";
import { startHttp2Delivery } from "../../fanout/delivery/http2/http2-delivery.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NodeName } from "../../src/model/names.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import type { Client, RecordEntry, RecordEvent } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { AgentMessage } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { IntrospectionServiceClient, RawSyncClient, SyncServiceClient } from "../../src/wire/service.ts";
import { CHANNEL_OPTIONS, certificates, GrpcAgent, namespace, node, openStream, pod, policy, pool, startFanout, upsert } from "../fakes/fanout-fixture.ts";

const WORLD: readonly ClusterEvent[] = upsert(
  node("n1", 1),
  node("n2", 2),
  namespace("shop"),
  pool(),
  pod("shop", "web", { node: "n1" as NodeName }),
  pod("shop", "db", { node: "n2" as NodeName }),
  policy("shop", "allow-web", "web"),
);

const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 5 });
const hello = (name: string): Uint8Array =>
  AgentMessage.encode({
    message: { $case: "hello", value: { node: name, version: "", features: [], epoch: "", revision: 0n, view: undefined, upstream: [] } },
  }).finish();

function agentFor(...options: ConstructorParameters<typeof GrpcAgent>): GrpcAgent {
  const agent = new GrpcAgent(...options);
  onTestFinished(() => agent[Symbol.dispose]());
  return agent;
}

function introspect(address: string, channel = credentials.createInsecure()): IntrospectionServiceClient {
  const client = new IntrospectionServiceClient(address, channel, CHANNEL_OPTIONS);
  onTestFinished(() => client.close());
  return client;
}

function claimer(address: string, channel = credentials.createInsecure()): SyncServiceClient {
  const client = new SyncServiceClient(address, channel, CHANNEL_OPTIONS);
  onTestFinished(() => client.close());
  return client;
}

function unary<T>(call: (done: (error: ServiceError | null, value: T) => void) => unknown): Promise<T> {
  return new Promise((resolve, reject) => call((error, value) => (error === null ? resolve(value) : reject(error))));
}

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

/** Opens a stream, writes what is given, and waits for how it ends. */
async function endOf(address: string, ...messages: Uint8Array[]): Promise<{ code: status; details: string; retryAfterMs: string | undefined }> {
  const client = new RawSyncClient(address, credentials.createInsecure(), CHANNEL_OPTIONS);
  onTestFinished(() => client.close());
  const stream = openStream(client);
  stream.on("error", () => undefined);
  stream.on("data", () => undefined);
  const ended = new Promise<{ code: status; details: string; retryAfterMs: string | undefined }>((resolve) => {
    stream.on("status", ({ code, details, metadata }) => resolve({ code, details, retryAfterMs: metadata.get("retry-after-ms").at(0)?.toString() }));
  });
  for (const message of messages) stream.write(message);
  return await ended;
}

describe.each(DELIVERY_KINDS)("over %s", (delivery) => {
  describe("fan-out server over gRPC", () => {
    it("brings a view, then a change, to the nodes that it concerns, and knows what is in force where", async () => {
      await using f = await startFanout({ delivery, events: WORLD });
      const agents = ["n1", "n2", "n3"].map((name) => agentFor({ address: f.address, node: name }));
      const [n1, n2, n3] = agents;
      await until(() => expect(agents.map(({ isLive }) => isLive)).toEqual([true, true, true]));
      expect([...(n1?.view.records.keys() ?? [])].filter((key) => !key.startsWith("set/") && !key.startsWith("stack/")).toSorted()).toEqual([
        "endpoint/shop/web",
        "node/n1",
        "node/n2",
        "policy/KubernetesNetworkPolicy/shop/allow-web",
        "pool/p4",
      ]);
      expect([...(n3?.view.records.keys() ?? [])].toSorted()).toEqual(["node/n1", "node/n2", "pool/p4"]);
      const before = n3?.bytesReceived;
      f.server.sink(upsert(policy("shop", "allow-web", "db", "2")));
      await until(() => expect([n1?.view.revision, n2?.view.revision]).toEqual([2n, 2n]));
      const client = introspect(f.address);
      const objectStatus = (): ReturnType<typeof unary<{ nodes: number; nodesProgrammed: number; resourceVersion: string; programmedAtUnixUs: bigint }>> =>
        unary((done) => client.getObjectStatus({ kind: "NetworkPolicy", namespace: "shop", name: "allow-web" }, done));
      await until(async () => expect(await objectStatus()).toMatchObject({ resourceVersion: "2", revision: 2n, nodes: 2, nodesProgrammed: 2, lagging: [] }));
      expect((await objectStatus()).programmedAtUnixUs).toBeGreaterThan(0n);
      expect(n3?.outputs.filter(({ kind }) => kind === "commit")).toHaveLength(1);
      expect(n3?.bytesReceived).toBeGreaterThanOrEqual(before ?? 0);
      n2?.[Symbol.dispose]();
      await until(async () =>
        expect(await objectStatus()).toMatchObject({ nodesProgrammed: 1, programmedAtUnixUs: 0n, lagging: [{ node: "n2", reason: "not connected" }] }),
      );
      await expect(unary((done) => client.getObjectStatus({ kind: "NetworkPolicy", namespace: "shop", name: "none" }, done))).rejects.toMatchObject({
        code: status.NOT_FOUND,
      });
      await expect(unary((done) => client.getObjectStatus({ kind: "Cow", namespace: "", name: "none" }, done))).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
      });
    });

    it("S12 two servers that see the same cluster in another order agree to the byte, and a move between them costs one empty answer", async () => {
      await using a = await startFanout({ delivery, events: WORLD });
      await using b = await startFanout({ delivery, events: WORLD.toReversed() });
      const records = async (address: string): Promise<readonly unknown[]> =>
        (await all<RecordEntry>(introspect(address).listRecords({ node: "", keyPrefix: "" }))).map(({ record, audience, allNodes }) => ({
          record,
          audience,
          allNodes,
        }));
      const ofA = await records(a.address);
      expect(ofA.length).toBeGreaterThan(6);
      expect(await records(b.address)).toEqual(ofA);
      const first = agentFor({ address: a.address, node: "n1" });
      await until(() => expect(first.isLive).toBe(true));
      first[Symbol.dispose]();
      await until(() => expect(first.status).toBeDefined());
      const second = agentFor({ address: b.address, node: "n1", view: first.view });
      await until(() => expect(second.isLive).toBe(true));
      const answer = second.outputs.find((output) => output.kind === "commit");
      expect(answer).toMatchObject({ isAnswer: true, delta: { isDigestRight: true, revision: 1n } });
      expect(answer?.kind === "commit" ? answer.delta.changes.size : -1).toBe(0);
      expect(second.bytesReceived).toBeLessThan(400);
    });

    it("watch: the records, synced, then changes and removals of one node's view", async () => {
      await using f = await startFanout({ delivery, events: WORLD });
      const events: RecordEvent[] = [];
      const call = introspect(f.address).watchRecords({ node: "n1", keyPrefix: "endpoint/" });
      call.on("data", (event: RecordEvent) => events.push(event));
      call.on("error", () => undefined);
      await until(() => expect(events.map(({ upsert: entry, synced }) => entry?.record?.key ?? synced)).toEqual(["endpoint/shop/web", true]));
      f.server.sink([{ kind: "delete", key: { kind: "Pod", namespace: "shop", name: "web" } }]);
      await until(() => expect(events.at(-1)).toMatchObject({ removed: "endpoint/shop/web", revision: 2n }));
      call.cancel();
    });

    it("clients, status and metrics tell the same", async () => {
      await using f = await startFanout({ delivery, events: WORLD });
      const agent = agentFor({ address: f.address, node: "n1" });
      await until(() => expect(agent.isLive).toBe(true));
      const client = introspect(f.address);
      await until(async () =>
        expect(await all<Client>(client.listClients({}))).toMatchObject([{ node: "n1", level: true, programmedRevision: 1n, viewRecords: agent.view.size }]),
      );
      expect(await unary((done) => client.getStatus({}, done))).toMatchObject({
        server: "test",
        clusterUid: "cluster",
        revision: 1n,
        syncStatus: "in-sync",
        clients: 1,
        clientsLevel: 1,
        upstreamAgeMs: 3n,
        recordsByKind: { node: 2, pool: 1, endpoint: 2 },
      });
      const text = await f.registry.metrics();
      expect(text).toMatch(/^sedge_fanout_clients 1$/m);
      expect(text).toMatch(/^sedge_fanout_records\{kind="endpoint"\} 2$/m);
      // Neither the whole cluster nor a whole view is a change on its way; each step of one is counted once.
      const STEPS = ["event_to_commit", "commit_to_sent", "sent_to_received", "commit_to_programmed"];
      const counts = async (): Promise<string[]> => {
        const metrics = await f.registry.metrics();
        return STEPS.map((step) => new RegExp(`^sedge_fanout_${step}_seconds_count (.*)$`, "m").exec(metrics)?.[1] ?? "none");
      };
      expect(await counts()).toEqual(["0", "0", "0", "0"]);
      f.server.sink([{ kind: "delete", key: { kind: "Pod", namespace: "shop", name: "web" } }]);
      await until(async () => expect(await counts()).toEqual(["1", "1", "1", "1"]));
    });
  });

  describe("peers that misbehave", () => {
    it("S7 garbage, nothing known, Ack first → INVALID_ARGUMENT; no Hello in time → INVALID_ARGUMENT; oversized → RESOURCE_EXHAUSTED", async () => {
      await using f = await startFanout({ delivery, events: WORLD });
      expect(await endOf(f.address, Buffer.from([0xff, 0xff, 0xff]))).toMatchObject({ code: status.INVALID_ARGUMENT, details: "not an AgentMessage" });
      expect(await endOf(f.address, new Uint8Array())).toMatchObject({ code: status.INVALID_ARGUMENT });
      expect(await endOf(f.address, hello("n1"), hello("n1"))).toMatchObject({ code: status.INVALID_ARGUMENT, details: "hello is not allowed while live" });
      expect(await endOf(f.address)).toMatchObject({ code: status.INVALID_ARGUMENT, details: "no Hello in time" });
      expect(await endOf(f.address, new Uint8Array(2 * 1024 * 1024))).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
      await until(() => expect(f.server.sessions.openStreams).toBe(0));
    });

    it("before the cluster is known → UNAVAILABLE with a delay, for streams and claims", async () => {
      await using f = await startFanout({ delivery });
      expect(await endOf(f.address, hello("n1"))).toMatchObject({ code: status.UNAVAILABLE, retryAfterMs: "1000" });
      await expect(
        unary((done) => claimer(f.address).claimBlock({ node: "n1", ipVersion: 4, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done)),
      ).rejects.toMatchObject({
        code: status.UNAVAILABLE,
      });
    });

    it("a second session of a node → the first ends with ABORTED", async () => {
      await using f = await startFanout({ delivery, events: WORLD });
      const first = agentFor({ address: f.address, node: "n1" });
      await until(() => expect(first.isLive).toBe(true));
      const second = agentFor({ address: f.address, node: "n1" });
      await until(() => expect(first.status?.code).toBe(status.ABORTED));
      await until(() => expect(second.isLive).toBe(true));
    });

    it("S7 a peer that is gone without a word is noticed by ping", async () => {
      await using f = await startFanout({ delivery, events: WORLD, settings: { keepaliveMs: 1000, keepaliveTimeoutMs: 500 } });
      await using proxy = await startProxy(f.address);
      const agent = agentFor({ address: proxy.address, node: "n1" });
      await until(() => expect(agent.isLive).toBe(true));
      proxy.freeze();
      await until(() => expect(f.server.sessions.openStreams).toBe(0));
    });

    it("S3 a slow reader holds a bounded number of bytes and delays nobody; it ends with the newest value", async () => {
      await using f = await startFanout({ delivery, events: WORLD });
      await using proxy = await startProxy(f.address);
      const slow = agentFor({ address: proxy.address, node: "n1" });
      const fast = agentFor({ address: f.address, node: "n2" });
      await until(() => expect(fast.isLive).toBe(true));
      await until(() => expect(slow.isLive).toBe(true));
      proxy.freeze();
      const session = [...f.server.sessions.clients].find((one) => one.node?.name === "n1");
      let revision = 1n;
      let mostBytes = 0;
      for (let round = 0; round < 60; round++) {
        // About 100 kB of records for everybody.
        f.server.sink(
          upsert(
            ...Array.from({ length: 40 }, (_, i) =>
              pod("shop", `p${i}-${"x".repeat(200)}`, { node: (i % 2 === 0 ? "n1" : "n2") as NodeName, uid: `${round}-${"u".repeat(4000)}` }),
            ),
          ),
        );
        f.server.engine.settle();
        revision++;
        await until(() => expect(fast.view.revision).toBe(revision));
        mostBytes = Math.max(mostBytes, session?.stream.bytesInFlight ?? 0);
      }
      expect(mostBytes).toBeGreaterThan(100 * 1024);
      expect(mostBytes).toBeLessThan(170 * 1024);
      expect(session?.dirtyKeys).toBe(20);
      proxy.thaw();
      await until(() => expect(slow.view.digest).toBe(f.server.table.viewDigest(f.server.table.nodes.idOf("n1" as NodeName))));
      expect(slow.outputs.filter(({ kind }) => kind === "commit").length).toBeLessThan(20);
    });

    it("stopping: clients are asked to move, those that stay end with UNAVAILABLE, new ones are refused", async () => {
      const f = await startFanout({ delivery, events: WORLD, settings: { drainMs: 200 } });
      const agent = agentFor({ address: f.address, node: "n1" });
      await until(() => expect(agent.isLive).toBe(true));
      await f.stop();
      await until(() => expect(agent.status).toMatchObject({ code: status.UNAVAILABLE, details: "the server is stopping" }));
      expect(agent.outputs.find(({ kind }) => kind === "move")).toMatchObject({ move: { deadlineMs: 200 } });
    });
  });

  describe("identity", () => {
    it("a node sees, claims and reports for itself only; introspection is the operator's; without a certificate there is no connection", async () => {
      await using pki = await certificates();
      await using f = await startFanout({ delivery, events: WORLD, tls: pki.tls });
      const n1 = await pki.client({ commonName: "x", uris: ["spiffe://sedge/node/n1"] });
      const operator = await pki.client({ commonName: "sedge-operator" });
      const own = agentFor({ address: f.secureAddress, node: "n1", credentials: n1 });
      const other = agentFor({ address: f.secureAddress, node: "n2", credentials: n1 });
      await until(() => expect([own.isLive, own.status]).toEqual([true, undefined]));
      await until(() => expect(other.status?.code).toBe(status.PERMISSION_DENIED));
      const nodeClaims = claimer(f.secureAddress, n1);
      expect(
        await unary((done) => nodeClaims.claimBlock({ node: "n1", ipVersion: 4, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done)),
      ).toMatchObject({
        block: { pool: "p4", allocations: [] },
      });
      await expect(
        unary((done) => nodeClaims.claimBlock({ node: "n2", ipVersion: 4, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done)),
      ).rejects.toMatchObject({
        code: status.PERMISSION_DENIED,
      });
      await expect(unary((done) => nodeClaims.listBlocks({ node: "n2", takeOver: [] }, done))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
      await expect(unary((done) => introspect(f.secureAddress, n1).getStatus({}, done))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
      await expect(all(introspect(f.secureAddress, n1).listRecords({ node: "", keyPrefix: "" }))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
      await expect(all(introspect(f.secureAddress, n1).watchRecords({ node: "", keyPrefix: "" }))).rejects.toMatchObject({ code: status.PERMISSION_DENIED });
      expect(await unary((done) => introspect(f.secureAddress, operator).getStatus({}, done))).toMatchObject({ clients: 1 });
      await expect(
        unary((done) =>
          claimer(f.secureAddress, operator).claimBlock({ node: "n1", ipVersion: 4, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done),
        ),
      ).rejects.toMatchObject({
        code: status.PERMISSION_DENIED,
      });
      const anonymous = credentials.createSsl(Buffer.from(pki.authority.cert));
      await expect(
        unary((done) => introspect(f.secureAddress, anonymous).getStatus({}, { deadline: Date.now() + 5_000 } as never, done)),
      ).rejects.toMatchObject({
        code: status.UNAVAILABLE,
      });
    });

    it("a rotated certificate is used without a restart; files that do not fit together change nothing", async () => {
      await using pki = await certificates();
      await using f = await startFanout({ delivery, events: WORLD, tls: pki.tls });
      const next = await createCertificateAuthority("next");
      const { cert, key } = await next.issue({ commonName: "fanout", hosts: ["localhost"] });
      const client = await next.issue({ commonName: "sedge-operator" });
      const ofNext = credentials.createSsl(Buffer.from(next.cert), Buffer.from(client.key), Buffer.from(client.cert));
      const ofFirst = await pki.client({ commonName: "sedge-operator" });
      const ask = (channel: ReturnType<typeof credentials.createSsl>): Promise<unknown> =>
        unary((done) => introspect(f.secureAddress, channel).getStatus({}, done));
      await writeFile(pki.tls.cert, cert);
      f.server.reloadCertificates();
      await expect(ask(ofFirst)).resolves.toMatchObject({ server: "test" });
      await Promise.all([writeFile(pki.tls.key, key), writeFile(pki.tls.ca, next.cert)]);
      f.server.reloadCertificates();
      await expect(ask(ofNext)).resolves.toMatchObject({ server: "test" });
      await expect(ask(ofFirst)).rejects.toMatchObject({ code: status.UNAVAILABLE });
    });

    it("the plaintext listener is refused on any other address than loopback", async () => {
      const start = delivery === "http2" ? startHttp2Delivery : startGrpcDelivery;
      await expect(
        start({
          listen: [{ host: "0.0.0.0", port: 0, tls: undefined }],
          accept: () => {
            throw new Error("never");
          },
          unary: () => ({}),
          services: [],
          keepaliveMs: 1000,
          keepaliveTimeoutMs: 1000,
          onStreamError: () => undefined,
        }),
      ).rejects.toThrow("loopback");
    });
  });

  describe("addresses", () => {
    it("claim, report, list: what a node reports is what it is told after it lost its disk", async () => {
      await using f = await startFanout({ delivery, events: WORLD });
      const client = claimer(f.address);
      const { block } = await unary<{ block: { cidr: { address: Buffer; length: number } | undefined } | undefined }>((done) =>
        client.claimBlock({ node: "n1", ipVersion: 4, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done),
      );
      const prefix = block?.cidr;
      const agent = agentFor({ address: f.address, node: "n1" });
      await until(() => expect(agent.isLive).toBe(true));
      const address = Buffer.from(prefix?.address ?? []);
      address[3] = (address[3] ?? 0) + 5;
      const allocation = { address, handle: "net.c1", namespace: "shop", pod: "web" };
      agent.stream.write(
        AgentMessage.encode({
          message: {
            $case: "endpointReport",
            value: { block: prefix, generation: 1n, allocations: [allocation], claim: "", of: undefined, lent: [], declined: [] },
          },
        }).finish(),
      );
      await until(() =>
        expect(agent.outputs.find(({ kind }) => kind === "report-result")).toMatchObject({ result: { generation: 1n, error: "", retry: false } }),
      );
      expect(await unary((done) => client.listBlocks({ node: "n1", takeOver: [] }, done))).toEqual({
        blocks: [{ cidr: prefix, pool: "p4", allocations: [allocation], claim: expect.stringMatching(/./) as string, of: undefined, lent: [] }],
      });
      await expect(
        unary((done) => client.claimBlock({ node: "n9", ipVersion: 4, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done)),
      ).rejects.toMatchObject({
        code: status.NOT_FOUND,
      });
      await expect(
        unary((done) => client.claimBlock({ node: "n1", ipVersion: 5, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done)),
      ).rejects.toMatchObject({
        code: status.INVALID_ARGUMENT,
      });
      await expect(
        unary((done) => client.claimBlock({ node: "n1", ipVersion: 6, full: [], pools: [], borrow: 0, address: Buffer.alloc(0) }, done)),
      ).rejects.toMatchObject({
        code: status.RESOURCE_EXHAUSTED,
      });
    });
  });
});

/** A TCP proxy that can stop forwarding without closing. */
async function startProxy(target: string): Promise<{ readonly address: string; freeze(): void; thaw(): void } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const pairs: (readonly [Socket, Socket])[] = [];
  const [host, port] = target.split(":");
  let isClosed = false;
  const server = createServer((inner) => {
    // A client that connects anew while the proxy closes.
    if (isClosed) {
      inner.destroy();
      return;
    }
    const outer = connect(Number(port), host);
    for (const socket of [inner, outer]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    pairs.push([inner, outer]);
    inner.pipe(outer).pipe(inner);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const bound = server.address();
  return {
    address: `127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`,
    freeze: () => {
      for (const socket of sockets) {
        socket.unpipe();
        socket.pause();
      }
    },
    thaw: () => {
      for (const [inner, outer] of pairs) inner.pipe(outer).pipe(inner);
    },
    [Symbol.asyncDispose]: async () => {
      isClosed = true;
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
