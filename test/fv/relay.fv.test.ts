/** Relays between real servers and agents: views, commits, acknowledgements, claims and questions go through them; a loss of the parent takes nothing away. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { credentials, Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import { blockName } from "../../src/ipam/block.ts";
import type { NodeName } from "../../src/model/names.ts";
import { ipBytes, parseIp } from "../../src/net/ip.ts";
import { createLogger } from "../../src/runtime/log.ts";
import type { CertificateAuthority } from "../../src/runtime/tls.ts";
import { encodeEndpointReport } from "../../src/wire/agent-protocol.ts";
import { AgentMessage, type ClaimBlockResponse, type EndpointReport } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire } from "../../src/wire/prefix-codec.ts";
import { encodeRelayMessage } from "../../src/wire/relay-protocol.ts";
import { RawSyncClient, SyncServiceClient } from "../../src/wire/service.ts";
import { connectRelay } from "../../src/wire/sync-connection.ts";
import { View } from "../../src/wire/view.ts";
import {
  CHANNEL_OPTIONS,
  certificates,
  type FanoutFixture,
  GrpcAgent,
  namespace,
  node,
  openStream,
  pod,
  policy,
  pool,
  type RelayFixture,
  startFanout,
  startRelay,
  upsert,
} from "../fakes/fanout-fixture.ts";
import { startTcpProxy } from "../fakes/tcp-proxy.ts";

const SEDGE = join(import.meta.dirname, "..", "..", "bin", "sedge.ts");
const WORLD = upsert(
  node("n1", 1),
  node("n2", 2),
  node("n3", 3),
  namespace("shop"),
  pool(),
  pod("shop", "web", { node: "n1" as NodeName }),
  pod("shop", "db", { node: "n2" as NodeName }),
  policy("shop", "allow-web", "web"),
);
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 5 });

function agentFor(address: string, name: string, more: Partial<ConstructorParameters<typeof GrpcAgent>[0]> = {}): GrpcAgent {
  const agent = new GrpcAgent({ address, node: name, ...more });
  onTestFinished(() => agent[Symbol.dispose]());
  return agent;
}

/** Of an agent that names no feature. */
const helloOf = (name: string): Uint8Array =>
  AgentMessage.encode({
    message: { $case: "hello", value: { node: name, version: "older", features: [], epoch: "", revision: 0n, view: undefined, upstream: [] } },
  }).finish();
const inSync = (relay: RelayFixture): Promise<void> => until(() => expect(relay.server.isInSync).toBe(true));
const levelsAt = (root: FanoutFixture): string[] =>
  [...root.server.sessions.everyClient()]
    .map((client) => `${client.node?.name} ${client.isLevel ? "level" : "behind"} ${client.address.split(" via ")[1] ?? "here"}`)
    .toSorted();
const expectRootsView = (root: FanoutFixture, { node: name, view }: GrpcAgent): void =>
  expect([view.digest, view.epoch]).toEqual([root.server.table.viewDigest(root.server.table.nodes.idOf(name as NodeName)), root.server.epoch]);
/** Lines that the relay logged. */
function logLines(): { readonly lines: string[]; readonly log: ReturnType<typeof createLogger> } {
  const lines: string[] = [];
  return { lines, log: createLogger({ level: "warn", program: "relay", destination: { write: (line) => void lines.push(line) } }) };
}

/** Runs `sedge …`; never throws. */
function sedge(...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [SEDGE, ...args], { encoding: "utf8" }, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : 1, stdout, stderr }),
    );
  });
}

describe.each(DELIVERY_KINDS)("a relay over %s", (delivery) => {
  it("R1 serves the root's bytes under the root's epoch and revisions, and of nodes that asked alone; the root knows what they have", async () => {
    await using root = await startFanout({ events: WORLD, delivery });
    await using relay = await startRelay({ parents: [root.address], delivery });
    await inSync(relay);
    const agents = ["n1", "n2"].map((name) => agentFor(relay.address, name));
    await until(() => expect(agents.map(({ isLive }) => isLive)).toEqual([true, true]));
    for (const agent of agents) expectRootsView(root, agent);
    expect(relay.server.table.nodes.findId("n3" as NodeName)).toBeUndefined();
    root.server.sink(upsert(pod("shop", "more", { node: "n2" as NodeName }), node("n9", 9)));
    root.server.engine.settle();
    await until(() => {
      for (const agent of agents) expectRootsView(root, agent);
    });
    await until(() => expect(agents.map(({ view }) => view.revision)).toEqual([root.server.table.revision, root.server.table.revision]));
    await until(() => expect(levelsAt(root)).toEqual(["n1 level relay", "n2 level relay"]));
  });

  it("R3 an agent goes from the root to a relay, to a relay below that, and back: not one record is sent again", async () => {
    await using root = await startFanout({ events: WORLD, delivery });
    await using upper = await startRelay({ parents: [root.address], delivery, name: "upper" });
    await using lower = await startRelay({ parents: [upper.address], delivery, name: "lower" });
    await inSync(lower);
    const view = new View();
    let records = 0;
    for (const server of [root, upper, lower, upper, root]) {
      const agent = agentFor(server.address, "n1", { view });
      await until(() => expect(agent.isLive).toBe(true));
      for (const output of agent.outputs) if (output.kind === "commit") records += output.delta.changes.size;
      expect(records).toBe(view.size);
      expectRootsView(root, agent);
      if (server === lower) await until(() => expect(levelsAt(root)).toEqual(["n1 level lower, upper"]));
      agent[Symbol.dispose]();
    }
  });

  it("R4 without its parent a relay serves whom it holds, refuses whom it does not with a retry time, and resumes without a record; the next parent is another epoch in the same stream, but for an agent that does not know of it", async () => {
    await using root = await startFanout({ events: WORLD, delivery });
    await using other = await startFanout({ events: WORLD, delivery });
    const [host = "", port = ""] = root.address.split(":");
    await using proxy = await startTcpProxy({ host, port: Number(port) });
    await using relay = await startRelay({ parents: [`127.0.0.1:${proxy.port}`], delivery, settings: { staleAfterMs: 1_000 } });
    await inSync(relay);
    const first = agentFor(relay.address, "n1");
    await until(() => expect(first.isLive).toBe(true));
    proxy.setMode("refuse");
    proxy.resetAll();
    await until(() => expect(relay.server.upstream?.isLive).toBe(false));
    const held = agentFor(relay.address, "n1");
    const unknown = agentFor(relay.address, "n2");
    await until(() => expect([held.isLive, unknown.status?.code]).toEqual([true, status.UNAVAILABLE]));
    expect(unknown.status?.details).toContain("does not hold the view of n2");
    expect(Number(unknown.status?.metadata.get("retry-after-ms")[0])).toBeGreaterThan(0);
    await until(() => expect(held.outputs.some((output) => output.kind === "heartbeat" && output.heartbeat.stale)).toBe(true));

    root.server.sink(upsert(pod("shop", "more", { node: "n1" as NodeName })));
    root.server.engine.settle();
    proxy.setMode("pass");
    await until(() => expect(held.view.records.has("endpoint/shop/more")).toBe(true));
    expect([held.status, held.view.epoch]).toEqual([undefined, root.server.epoch]);

    other.server.sink(upsert(pod("shop", "more", { node: "n1" as NodeName })));
    other.server.engine.settle();
    const [otherHost = "", otherPort = ""] = other.address.split(":");
    proxy.retarget({ host: otherHost, port: Number(otherPort) });
    const before = held.outputs.length;
    const older = openStream(new RawSyncClient(relay.address, credentials.createInsecure(), CHANNEL_OPTIONS));
    const ended = new Promise<StatusObject>((resolve) => older.on("status", resolve));
    older.on("error", () => undefined);
    older.on("data", () => undefined);
    older.write(helloOf("n2"));
    await until(() => expect(levelsAt(root)).toContain("n2 behind relay"));
    proxy.resetAll();
    await until(() => expect([held.view.epoch, held.isLive]).toEqual([other.server.epoch, true]));
    expect((await ended).details).toContain("another run of the root");
    expectRootsView(other, held);
    expect(held.status).toBeUndefined();
    expect(held.outputs.slice(before).flatMap((output) => (output.kind === "commit" ? [...output.delta.changes.keys()] : []))).toEqual([]);
  });

  it("R5 two parents: the second is taken at once when the first is gone; a relay for all serves nodes that never asked", async () => {
    const first = await startFanout({ events: WORLD, delivery });
    await using second = await startFanout({ events: WORLD, delivery });
    await using relay = await startRelay({ parents: [first.address, second.address], delivery, isForAll: true });
    await inSync(relay);
    await until(() => expect(relay.server.upstream?.heldNodes).toBe(3));
    expect(relay.server.upstream?.parent).toBe(first.address);
    await first.stop();
    await until(() => expect(relay.server.upstream?.parent).toBe(second.address));
    await second.stop();
    await until(() => expect(relay.server.upstream?.isLive).toBe(false));
    const agent = agentFor(relay.address, "n3");
    await until(() => expect(agent.isLive).toBe(true));
    expectRootsView(second, agent);
  });

  it("R12 roots die under churn, one after the other: agents below relays of two levels keep their streams, and are sent nothing that they have", async () => {
    const roots = await Promise.all([0, 1].map(() => startFanout({ events: WORLD, delivery })));
    const proxies = await Promise.all(
      roots.map(({ address }) => startTcpProxy({ host: "127.0.0.1", port: Number(address.slice(address.lastIndexOf(":") + 1)) })),
    );
    onTestFinished(async () => {
      for (const proxy of proxies) await proxy[Symbol.asyncDispose]();
      await Promise.all(roots.map(({ stop }) => stop()));
    });
    await using upper = await startRelay({ parents: proxies.map(({ port }) => `127.0.0.1:${port}`), delivery, name: "upper" });
    await using lower = await startRelay({ parents: [upper.address], delivery, name: "lower" });
    await inSync(lower);
    const agents = [agentFor(upper.address, "n1"), agentFor(lower.address, "n2")];
    await until(() => expect(agents.map(({ isLive }) => isLive)).toEqual([true, true]));
    let commits = 0;
    const commit = (): void => {
      commits++;
      for (const { server } of roots) {
        server.sink(upsert(pod("shop", `churn${commits % 4}`, { node: ["n1", "n2"][commits % 2] as NodeName, labels: { app: "web", turn: `t${commits}` } })));
        server.engine.settle();
      }
    };
    const churn = setInterval(commit, 10);
    onTestFinished(() => clearInterval(churn));
    for (let kill = 0; kill < 6; kill++) {
      const [dies, lives] = [kill % 2, (kill + 1) % 2];
      // Both roots count alike: what was acknowledged to one must not pass for an acknowledgement to the other.
      const marks = agents.map(({ outputs }) => outputs.length);
      proxies[lives]?.setMode("pass");
      proxies[dies]?.setMode("refuse");
      proxies[dies]?.resetAll();
      const root = roots[lives] ?? expect.fail();
      await until(() => expect(agents.map(({ view, isLive }) => [view.epoch, isLive])).toEqual(agents.map(() => [root.server.epoch, true])));
      const at = commits;
      await until(() => expect(commits).toBeGreaterThan(at + 5));
      for (const [i, { outputs, status: ended }] of agents.entries()) {
        expect(ended).toBeUndefined();
        for (const output of outputs.slice(marks[i])) if (output.kind === "commit") expect(output.delta.changes.size).toBeLessThanOrEqual(8);
      }
    }
    clearInterval(churn);
    const root = roots[0] ?? expect.fail();
    await until(() => {
      for (const agent of agents) expectRootsView(root, agent);
      expect(levelsAt(root)).toEqual(["n1 level upper", "n2 level lower, upper"]);
    });
    expect(agents.map(({ outputs }) => outputs.filter(({ kind }) => kind === "welcome").length).every((greetings) => greetings >= 7)).toBe(true);
  }, 60_000);

  it("R6 claims and reports of a relay's nodes reach the API; the result comes back", async () => {
    await using root = await startFanout({ events: WORLD, delivery });
    await using relay = await startRelay({ parents: [root.address], delivery });
    await inSync(relay);
    const agent = agentFor(relay.address, "n1");
    await until(() => expect(agent.isLive).toBe(true));
    const client = new SyncServiceClient(relay.address, credentials.createInsecure(), CHANNEL_OPTIONS);
    onTestFinished(() => client.close());
    const request = { node: "n1", ipVersion: 4, full: [], pools: [], address: Buffer.alloc(0), borrow: 0 };
    const { block } = await new Promise<ClaimBlockResponse>((resolve, reject) =>
      client.claimBlock(request, (error: ServiceError | null, response: ClaimBlockResponse) => (error === null ? resolve(response) : reject(error))),
    );
    const cidr = block?.cidr === undefined ? undefined : prefixFromWire(block.cidr);
    if (cidr === undefined) throw new Error("no block was given");
    const report: EndpointReport = {
      block: block?.cidr,
      generation: 1n,
      allocations: [{ address: Buffer.from(ipBytes(parseIp(cidr.split("/")[0] ?? ""))), handle: "k8s-pod-network.c1", namespace: "shop", pod: "web" }],
      claim: block?.claim ?? "",
      of: undefined,
      lent: [],
      declined: [],
    };
    agent.stream.write(encodeEndpointReport(report));
    await until(() => expect(agent.outputs.flatMap((output) => (output.kind === "report-result" ? [output.result.error] : []))).toEqual([""]));
    expect(root.store.find("IPAMBlock", blockName(cidr))?.allocations).toMatchObject([{ pod: "shop/web", node: "n1" }]);
  });
});

describe("who may be a relay", () => {
  const named = (commonName: string, uri: string): Parameters<CertificateAuthority["issue"]>[0] => ({
    commonName,
    hosts: ["127.0.0.1", "localhost"],
    uris: [uri],
  });

  it("R7 a certificate of a relay alone; a node's, an operator's and a server's are refused and see nothing", async () => {
    await using keys = await certificates();
    await using root = await startFanout({ events: WORLD, tls: keys.tls });
    for (const uri of ["spiffe://sedge/node/n1", "spiffe://sedge/operator", "spiffe://sedge/fanout"]) {
      const { lines, log } = logLines();
      await using relay = await startRelay({ parents: [root.secureAddress], parentTls: await keys.files("wrong", named("wrong", uri)), log });
      await until(() => expect(lines.join("")).toContain("is no relay: its certificate needs the URI spiffe://sedge/relay/<name>"));
      expect([relay.server.isInSync, relay.server.table.size]).toEqual([false, 0]);
    }
    const tls = await keys.files("relay", named("relay", "spiffe://sedge/fanout"));
    await using relay = await startRelay({ parents: [root.secureAddress], parentTls: await keys.files("r1", named("r1", "spiffe://sedge/relay/r1")), tls });
    await inSync(relay);
    const own = agentFor(relay.secureAddress, "n1", { credentials: await keys.client({ commonName: "n1" }) });
    const another = agentFor(relay.secureAddress, "n2", { credentials: await keys.client({ commonName: "n1" }) });
    await until(() => expect([own.isLive, another.status?.code]).toEqual([true, status.PERMISSION_DENIED]));
    expect(another.view.records.size).toBe(0);
    await until(() => expect(levelsAt(root)).toEqual(["n1 level relay"]));
  });

  it("R7 a relay claims for the nodes that it serves and for no other", async () => {
    await using keys = await certificates();
    await using root = await startFanout({ events: WORLD, tls: keys.tls });
    const files = await keys.files("r1", named("r1", "spiffe://sedge/relay/r1"));
    await using relay = await startRelay({ parents: [root.secureAddress], parentTls: files });
    await inSync(relay);
    const agent = agentFor(relay.address, "n1");
    await until(() => expect(agent.isLive).toBe(true));
    const asRelay = async (uri: string, name: string): Promise<status> => {
      const client = new SyncServiceClient(root.secureAddress, await keys.client({ commonName: "x", uris: [uri] }), CHANNEL_OPTIONS);
      onTestFinished(() => client.close());
      return new Promise((resolve) => client.listBlocks({ node: name, takeOver: [] }, (error: ServiceError | null) => resolve(error?.code ?? status.OK)));
    };
    expect(await asRelay("spiffe://sedge/relay/r1", "n1")).toBe(status.OK);
    expect(await asRelay("spiffe://sedge/relay/r1", "n2")).toBe(status.PERMISSION_DENIED);
    expect(await asRelay("spiffe://sedge/relay/r2", "n1")).toBe(status.PERMISSION_DENIED);
  });
});

describe("a tier that is wired wrongly", () => {
  it("R8 relays that are each other's parents, or their own, say so", async () => {
    const { lines, log } = logLines();
    const nowhere = await startFanout();
    const port = Number(nowhere.address.split(":")[1]);
    await nowhere.stop();
    await using a = await startRelay({ parents: [`127.0.0.1:${port}`], name: "a", log });
    await using b = await startRelay({ parents: [a.address], name: "b", log, port });
    await until(() => expect(lines.join("")).toContain("is its own parent, by way of"));
    expect([a.server.isInSync, b.server.isInSync]).toEqual([false, false]);
    const self = await startFanout();
    const selfPort = Number(self.address.split(":")[1]);
    await self.stop();
    const own = logLines();
    await using c = await startRelay({ parents: [`127.0.0.1:${selfPort}`], name: "c", log: own.log, port: selfPort });
    await until(() => expect(own.lines.join("")).toContain("relay c is its own parent, by way of c"));
    expect(c.server.isInSync).toBe(false);
  });

  it("R8 a relay that would be too far from the root is refused by name", async () => {
    await using root = await startFanout({ events: WORLD });
    await using disposables = new AsyncDisposableStack();
    let parent = root.address;
    for (let i = 0; i < 3; i++) {
      const relay = disposables.use(await startRelay({ parents: [parent], name: `r${i}` }));
      await inSync(relay);
      parent = relay.address;
    }
    const { lines, log } = logLines();
    const last = disposables.use(await startRelay({ parents: [parent], name: "last", log }));
    await until(() => expect(lines.join("")).toContain("there are 4 servers from the root to r2"));
    expect(last.server.isInSync).toBe(false);
  });

  it("R8 a parent of another cluster is not taken: what is held stays", async () => {
    await using root = await startFanout({ events: WORLD });
    await using other = await startFanout({ events: WORLD, uid: "another" });
    const [host = "", port = ""] = root.address.split(":");
    await using proxy = await startTcpProxy({ host, port: Number(port) });
    const { lines, log } = logLines();
    await using relay = await startRelay({ parents: [`127.0.0.1:${proxy.port}`], log });
    await inSync(relay);
    const size = relay.server.table.size;
    proxy.retarget({ host, port: Number(other.address.split(":")[1]) });
    proxy.resetAll();
    await until(() => expect(lines.join("")).toContain("the parent serves another cluster"));
    expect([relay.server.table.size, relay.server.epoch]).toEqual([size, root.server.epoch]);
  });

  it("R8 a peer that does not speak the protocol ends in its named status and leaves nothing behind", async () => {
    await using root = await startFanout({ events: WORLD });
    const hello = { name: "x", version: "", features: [], id: "x", below: [], epoch: "", revision: 0n, shared: undefined, upstream: [], nodes: 0 };
    const node1 = { slot: 1, node: "n1", bucketBits: 0, digests: [] };
    const cases: readonly (readonly Uint8Array[])[] = [
      [Buffer.from([0xff, 0xff])],
      [Buffer.alloc(0)],
      [encodeRelayMessage({ $case: "ack", value: { levelRevision: 0n, nodes: [] } })],
      [encodeRelayMessage({ $case: "hello", value: hello }), encodeRelayMessage({ $case: "hello", value: hello })],
      [encodeRelayMessage({ $case: "hello", value: hello }), encodeRelayMessage({ $case: "subscribe", value: { nodes: [node1, node1] } })],
      [encodeRelayMessage({ $case: "hello", value: { ...hello, shared: { hashSeed: 0n, bucketBits: 40, digests: [] } } })],
      [encodeRelayMessage({ $case: "hello", value: { ...hello, nodes: 1_000_000 } })],
    ];
    for (const messages of cases) {
      const client = await connectRelay(root.address, undefined);
      const stream = client.openRelay(new Metadata());
      const ended = new Promise<number>((resolve) => stream.on("status", ({ code }: { code: number }) => resolve(code)));
      stream.on("error", () => undefined).on("data", () => undefined);
      for (const message of messages) stream.write(message);
      expect(await ended).toBe(status.INVALID_ARGUMENT);
      client.close();
    }
    await until(() => expect(root.server.feeds.feeds.size).toBe(0));
    expect(root.server.table.nodes.size).toBe(2);
  });
});

describe("an operator's questions through a relay", () => {
  it("R9 clients, wait, why, policy status and get are answered at the root and at the relay alike", async () => {
    await using root = await startFanout({ events: WORLD });
    await using relay = await startRelay({ parents: [root.address] });
    await inSync(relay);
    const n1 = agentFor(relay.address, "n1");
    const n2 = agentFor(root.address, "n2");
    await until(() => expect([n1.isLive, n2.isLive]).toEqual([true, true]));
    const key = "policy/KubernetesNetworkPolicy/shop/allow-web";
    const check = async (server: string): Promise<void> => {
      const [policyWait, revisionWait, why, get, policyStatus] = await Promise.all([
        sedge("wait", "policy/shop/allow-web", "--server", server),
        sedge("wait", "--revision", "1", "--server", server),
        sedge("why", "n1", key, "--server", server),
        sedge("get", "endpoints", "--node", "n2", "--server", server),
        sedge("policy", "status", "shop/allow-web", "--server", server),
      ]);
      expect([policyWait.code, revisionWait.code, policyStatus.code]).toEqual([0, 0, 0]);
      expect(why.stdout).toContain("← pod shop/web: the policies of this pod");
      expect(get.stdout).toContain("endpoint/shop/db");
    };
    await Promise.all([root.address, relay.address].map(check));
    const clientsOf = async (server: string): Promise<unknown> => {
      const { stdout } = await sedge("clients", "-o", "json", "--server", server);
      return (JSON.parse(stdout) as { node: string; level: boolean; address: string }[]).map(({ node: name, level, address }) => [
        name,
        level,
        address.includes(" via relay"),
      ]);
    };
    expect(await clientsOf(root.address)).toEqual([
      ["n1", true, true],
      ["n2", true, false],
    ]);
    expect(await clientsOf(relay.address)).toEqual([["n1", true, false]]);
  });

  it("R9 a node behind a relay whose kernel refuses, and one that does not acknowledge, are named with the reason at the root", async () => {
    await using root = await startFanout({ events: WORLD });
    await using relay = await startRelay({ parents: [root.address] });
    await inSync(relay);
    const key = "policy/KubernetesNetworkPolicy/shop/allow-web";
    const n1 = agentFor(relay.address, "n1");
    n1.failed = [{ key, reason: "set is full" }];
    const n2 = agentFor(relay.address, "n2", { isSilent: true });
    await until(() => expect([n1.isLive, n2.isLive]).toEqual([true, true]));
    const late = await until(async () => {
      const answer = await sedge("wait", "policy/shop/allow-web", "--timeout-ms", "1500", "--server", root.address);
      expect(answer.stderr).toContain("set is full");
      return answer;
    });
    expect(late.code).toBe(1);
    expect(late.stderr).toContain("n2");
    await until(() => expect(levelsAt(root)).toEqual(["n1 behind relay", "n2 behind relay"]));
  });
});
