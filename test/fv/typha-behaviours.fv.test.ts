/** What Typha's own tests ask of it and no other test of ours shows; the table in docs/protocol.md says which test stands for which behaviour. */
import { connect as connectTcp } from "node:net";
import { credentials, status } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import { AgentMessage } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { RawSyncClient } from "../../src/wire/service.ts";
import {
  CHANNEL_OPTIONS,
  certificates,
  type FanoutFixture,
  GrpcAgent,
  namespace,
  node,
  openStream,
  pod,
  pool,
  startFanout,
  upsert,
} from "../fakes/fanout-fixture.ts";

const WORLD = upsert(node("n1", 1), namespace("shop"), pool());
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 30_000, interval: 5 });

function agentFor(...options: ConstructorParameters<typeof GrpcAgent>): GrpcAgent {
  const agent = new GrpcAgent(...options);
  onTestFinished(() => agent[Symbol.dispose]());
  return agent;
}

const clientsGauge = async (f: FanoutFixture): Promise<number> => Number(/^sedge_fanout_clients (\d+)$/m.exec(await f.registry.metrics())?.[1]);
const podsOf = (agent: GrpcAgent): string[] => [...agent.view.records.keys()].filter((key) => key.startsWith("endpoint/")).toSorted();
const pods = (count: number, from = 0): ReturnType<typeof upsert> =>
  upsert(...Array.from({ length: count }, (_, i) => pod("shop", `p${from + i}`, { node: "n1" as NodeName })));

describe("behaviours of Typha", () => {
  it("T2, T7 a client gets what is fed, 1,000 pods among it, and one that joins later the same", async () => {
    await using f = await startFanout({ events: WORLD });
    const first = agentFor({ address: f.address, node: "n1" });
    await until(() => expect(first.isLive).toBe(true));
    f.server.sink(pods(1000));
    await until(() => expect(podsOf(first)).toHaveLength(1000));
    first[Symbol.dispose]();
    const later = agentFor({ address: f.address, node: "n1" });
    await until(() => expect(later.isLive).toBe(true));
    expect(later.view.records).toEqual(first.view.records);
  });

  it("T5, T6 deleting 5,000 of 10,000 objects, one whose name begins another's, or one that is then not understood, touches nothing else", async () => {
    await using f = await startFanout({ events: [...WORLD, ...pods(10_000)] });
    const running = agentFor({ address: f.address, node: "n1" });
    await until(() => expect(podsOf(running)).toHaveLength(10_000));
    f.server.sink(Array.from({ length: 5_000 }, (_, i) => ({ kind: "delete", key: { kind: "Pod", namespace: "shop", name: `p${i}` } })));
    await until(() => expect(podsOf(running)).toHaveLength(5_000));
    const later = agentFor({ address: f.address, node: "n1" });
    await until(() => expect(later.isLive).toBe(true));
    expect(podsOf(later)).toEqual(podsOf(running));
    // "p500" begins "p5000".
    f.server.sink(pods(1, 500));
    f.server.sink([{ kind: "delete", key: { kind: "Pod", namespace: "shop", name: "p500" } }]);
    // Not understood is not gone, unlike Typha's: the last good value stays.
    f.server.sink([
      { kind: "invalid", key: { kind: "Pod", namespace: "shop", name: "p5001" }, resourceVersion: "9", problems: [{ field: "spec", message: "odd" }] },
    ]);
    f.server.sink(pods(1, 20_000));
    await until(() => expect(podsOf(later)).toContain("endpoint/shop/p20000"));
    expect(podsOf(later)).toEqual(expect.arrayContaining(["endpoint/shop/p5000", "endpoint/shop/p5001"]));
    expect(podsOf(later)).toHaveLength(5_001);
  });

  it("T8, T12, T13 100 clients converge, are counted, and when all are killed under churn none is left", async () => {
    await using f = await startFanout({ events: [...WORLD, ...pods(20)] });
    const agents = Array.from({ length: 100 }, (_, i) => agentFor({ address: f.address, node: `n${i + 1}` }));
    await until(() => expect(agents.every(({ isLive }) => isLive)).toBe(true));
    expect(await clientsGauge(f)).toBe(100);
    for (let i = 0; i < 50; i++) f.server.sink([...upsert(node("n1", 1 + (i % 200))), ...pods(1, i)]);
    f.server.engine.settle();
    await until(() =>
      expect(agents.every(({ view, node: name }) => view.digest === f.server.table.viewDigest(f.server.table.nodes.idOf(name as NodeName)))).toBe(true),
    );
    for (const [i, agent] of agents.entries()) {
      if (i % 10 === 0) f.server.sink(pods(1, 100 + i));
      agent[Symbol.dispose]();
    }
    await until(async () => expect([await clientsGauge(f), f.server.sessions.openStreams, f.server.sessions.bytesInFlight]).toEqual([0, 0, 0]));
  });

  it("T14 without clients a stop is at once", async () => {
    const f = await startFanout({ events: WORLD, settings: { drainMs: 600_000 } });
    await f.stop();
    expect(f.server.sessions.openStreams).toBe(0);
  });

  it("T18, T33 connections that say nothing or leave before Hello cost nobody anything", async () => {
    await using f = await startFanout({ events: WORLD });
    const [host, port] = f.address.split(":");
    const silent = Array.from({ length: 20 }, () => connectTcp(Number(port), host));
    onTestFinished(() => {
      for (const socket of silent) socket.destroy();
    });
    const good = agentFor({ address: f.address, node: "n1" });
    await until(() => expect(good.isLive).toBe(true));
    const leaving = new RawSyncClient(f.address, credentials.createInsecure(), CHANNEL_OPTIONS);
    const stream = openStream(leaving);
    stream.on("error", () => undefined);
    stream.cancel();
    leaving.close();
    await until(async () => expect([await clientsGauge(f), f.server.sessions.openStreams]).toEqual([1, 1]));
  });

  it("T22, T23 after a good Hello: an empty message, one of a later version and garbage each end the stream by name", async () => {
    await using f = await startFanout({ events: WORLD });
    const hello = AgentMessage.encode({
      message: { $case: "hello", value: { node: "n7", version: "", features: [], epoch: "", revision: 0n, view: undefined, upstream: [] } },
    }).finish();
    for (const bad of [new Uint8Array(), Buffer.from([0x9a, 0x06, 1, 0x78]), Buffer.from([0xff, 0xff, 0xff])]) {
      const client = new RawSyncClient(f.address, credentials.createInsecure(), CHANNEL_OPTIONS);
      onTestFinished(() => client.close());
      const stream = openStream(client);
      stream.on("error", () => undefined);
      stream.on("data", () => undefined);
      const ended = new Promise<status>((resolve) => stream.on("status", ({ code }) => resolve(code)));
      stream.write(hello);
      stream.write(bad);
      expect(await ended).toBe(status.INVALID_ARGUMENT);
    }
    await until(() => expect(f.server.sessions.openStreams).toBe(0));
  });

  it("T26, T27 a client that blocks inside its first view, or later, is kept however long it takes, and ends with everything", async () => {
    await using f = await startFanout({ events: [...WORLD, ...pods(3_000)], settings: { heartbeatIntervalMs: 100 } });
    const client = agentFor({ address: f.address, node: "n1" });
    client.stream.pause();
    await until(() => expect(f.server.sessions.clients.size).toBe(1));
    // Six heartbeat intervals and more: its place in the line is given up, the session is not.
    await until(() => expect(f.server.sessions.admission.answering).toBe(0));
    f.server.sink(pods(3, 3_000));
    client.stream.resume();
    await until(() => expect(podsOf(client)).toHaveLength(3_003));
    expect([client.status, client.outputs.filter(({ kind }) => kind === "repair")]).toEqual([undefined, []]);
  });

  it("T29, T31 TLS: plain text, a client of another authority, and a server of another authority → no connection", async () => {
    await using pki = await certificates();
    await using f = await startFanout({ events: WORLD, tls: pki.tls });
    const stranger = await createCertificateAuthority("stranger");
    const { cert, key } = await stranger.issue({ commonName: "n1" });
    const good = await pki.client({ commonName: "n1" });
    const own = agentFor({ address: f.secureAddress, node: "n1", credentials: good });
    const others = [
      credentials.createInsecure(),
      credentials.createSsl(Buffer.from(pki.authority.cert), Buffer.from(key), Buffer.from(cert)),
      credentials.createSsl(Buffer.from(stranger.cert), Buffer.from(key), Buffer.from(cert)),
    ].map((one) => agentFor({ address: f.secureAddress, node: "n1", credentials: one }));
    await until(() => expect(own.isLive).toBe(true));
    await until(() => expect(others.map((agent) => agent.status?.code)).toEqual(others.map(() => status.UNAVAILABLE)));
    expect(own.isLive).toBe(true);
  });
});
