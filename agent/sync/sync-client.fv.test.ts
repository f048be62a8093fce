import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { Metadata, Server, ServerCredentials, type ServerDuplexStream, status } from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import type { RecordValue } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import { AgentMessage, Compression } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixToWire } from "../../src/wire/prefix-codec.ts";
import { encodeRecord } from "../../src/wire/record-codec.ts";
import { RawSyncService } from "../../src/wire/service.ts";
import type { TlsFiles } from "../../src/wire/sync-connection.ts";
import { encodeServerMessage, encodeUpdate } from "../../src/wire/update-codec.ts";
import { View, type ViewDelta } from "../../src/wire/view.ts";
import { Acknowledgements } from "./acknowledgements.ts";
import { ClaimCalls } from "./claim-calls.ts";
import { dialer } from "./dial.ts";
import { Freshness } from "./freshness.ts";
import { ReportQueue } from "./report-queue.ts";
import { ServerBook } from "./server-book.ts";
import { SyncClient } from "./sync-client.ts";
import { PACKING_FEATURES } from "./unpack.ts";

const SEED = 5n;
type Message = NonNullable<AgentMessage["message"]>;
type ValueOf<Case extends Message["$case"]> = Extract<Message, { $case: Case }>["value"];
type ServerStream = ServerDuplexStream<Uint8Array, Uint8Array>;

/** One session at a scripted server. */
class ServerSession {
  readonly #stream: ServerStream;
  readonly #messages: Message[] = [];
  #waiting: (() => void)[] = [];
  isOver = false;

  constructor(stream: ServerStream) {
    this.#stream = stream;
    stream.on("data", (bytes: Uint8Array) => {
      const { message } = AgentMessage.decode(bytes);
      if (message !== undefined) this.#messages.push(message);
      this.#notify();
    });
    for (const event of ["end", "cancelled", "error"]) {
      stream.on(event, () => {
        this.isOver = true;
        this.#notify();
      });
    }
  }

  /** The next message of the kind; others before it are skipped. */
  async next<Case extends Message["$case"]>(kind: Case): Promise<ValueOf<Case>> {
    for (;;) {
      const message = this.#messages.shift();
      if (message?.$case === kind) return message.value as ValueOf<Case>;
      if (message === undefined) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async over(): Promise<void> {
    while (!this.isOver) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  send(bytes: Uint8Array): void {
    this.#stream.write(bytes);
  }

  welcome(bucketBits: number, heartbeatIntervalMs = 60_000): void {
    this.send(
      encodeServerMessage({
        $case: "welcome",
        value: {
          server: "s",
          epoch: "e",
          hashSeed: SEED,
          revision: 1n,
          features: [],
          heartbeatIntervalMs,
          bucketBits,
          upstreamKinds: [],
          servers: undefined,
          ackIntervalMs: 0,
        },
      }),
    );
  }

  commit(revision: bigint, values: readonly RecordValue[], digest?: bigint): void {
    this.send(
      encodeUpdate({
        buckets: [],
        upserts: values.map((value) => encodeRecord(value, SEED).bytes),
        removed: [],
        commit: true,
        revision,
        digest,
        committedAtUnixUs: 0n,
      }),
    );
  }

  fail(code: status, retryAfterMs?: number): void {
    const metadata = new Metadata();
    if (retryAfterMs !== undefined) metadata.set("retry-after-ms", String(retryAfterMs));
    this.#stream.emit("error", { code, details: "as scripted", metadata });
  }

  end(): void {
    this.#stream.end();
  }

  #notify(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

class ScriptedServer {
  readonly #server = new Server();
  readonly #sessions: ServerSession[] = [];
  #waiting: (() => void)[] = [];
  address = "";

  static async start(credentials = ServerCredentials.createInsecure()): Promise<ScriptedServer> {
    const scripted = new ScriptedServer();
    scripted.#server.addService(RawSyncService, {
      sync: (stream: ServerStream) => {
        scripted.#sessions.push(new ServerSession(stream));
        for (const resolve of scripted.#waiting.splice(0)) resolve();
      },
      claimBlock: (_call: unknown, done: (error: object) => void) => done({ code: status.RESOURCE_EXHAUSTED, details: "no pool has a free block" }),
      listBlocks: (_call: unknown, done: (error: null, response: object) => void) =>
        done(null, {
          blocks: [
            {
              cidr: prefixToWire(parseCidr("10.0.0.0/26")),
              pool: "p",
              allocations: [{ address: Buffer.from([10, 0, 0, 1]), handle: "h", namespace: "n", pod: "p" }],
              claim: "c1",
              lent: [{ address: Buffer.from([10, 0, 0, 2]), id: "l1" }],
            },
          ],
        }),
    });
    const port = await new Promise<number>((resolve, reject) =>
      scripted.#server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error === null ? resolve(bound) : reject(error))),
    );
    scripted.address = `127.0.0.1:${port}`;
    return scripted;
  }

  async session(): Promise<ServerSession> {
    for (;;) {
      const session = this.#sessions.shift();
      if (session !== undefined) return session;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  stop(): void {
    this.#server.forceShutdown();
  }
}

const pool: RecordValue = { kind: "pool", name: "a", cidr: parseCidr("10.0.0.0/16"), natOutgoing: true, disabled: false, blockSize: 26 };
const POOL_DIGEST = encodeRecord(pool, SEED).hash;
const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function server(): Promise<ScriptedServer> {
  const started = await ScriptedServer.start();
  cleanups.push(() => started.stop());
  return started;
}

function client(servers: readonly string[], tls?: TlsFiles, order: "spread" | "listed" = "listed") {
  const view = new View();
  const commits: { delta: ViewDelta; isAnswer: boolean }[] = [];
  const ends: string[] = [];
  const counted = { repairs: 0, confirmed: 0 };
  const acknowledgements = new Acknowledgements({ coalesceMs: 1, clock: systemClock });
  const reports = new ReportQueue({ clock: systemClock, log: silentLogger() });
  const freshness = new Freshness({ clock: systemClock, staleAfterMs: 60_000 });
  const sync = new SyncClient({
    node: "n1",
    version: "test",
    book: new ServerBook({ node: "n1", given: servers, order }),
    dial: dialer(tls),
    view,
    acknowledgements,
    reports,
    freshness,
    clock: systemClock,
    log: silentLogger(),
    onCommit: (delta, isAnswer) => {
      commits.push({ delta, isAnswer });
      acknowledgements.programmed(delta.revision, [{ key: "policy/x", reason: "why" }]);
      return Promise.resolve();
    },
    onConfirmed: () => void counted.confirmed++,
    onRepair: () => void counted.repairs++,
    onSessionEnd: ({ code }) => void ends.push(code),
  });
  const stop = new AbortController();
  const running = sync.run(stop.signal);
  cleanups.push(async () => {
    stop.abort();
    await running;
  });
  return { view, commits, ends, counted, reports, freshness, sync };
}

/** A session that has given the pool and been acknowledged. */
async function liveSession(at: ScriptedServer, heartbeatIntervalMs?: number): Promise<ServerSession> {
  const session = await at.session();
  const hello = await session.next("hello");
  session.welcome(hello.view?.bucketBits ?? 0, heartbeatIntervalMs);
  session.commit(1n, [pool], POOL_DIGEST);
  await session.next("ack");
  return session;
}

describe("SyncClient", () => {
  it("first start: empty Hello, answer committed and acknowledged with what failed; after a cut the next Hello has the digests", async () => {
    const at = await server();
    const agent = client([at.address]);
    const first = await at.session();
    const hello = await first.next("hello");
    expect([hello.node, hello.view?.digests, hello.revision]).toEqual(["n1", [], 0n]);
    first.welcome(hello.view?.bucketBits ?? 0);
    first.commit(1n, [pool], POOL_DIGEST);
    expect(await first.next("ack")).toMatchObject({ receivedRevision: 1n, programmedRevision: 1n, failed: [{ key: "policy/x", reason: "why" }] });
    expect(agent.commits.map(({ isAnswer }) => isAnswer)).toEqual([true]);
    expect(agent.freshness.report()).toMatchObject({ isConnected: true, isSynced: true, server: "s" });
    first.end();
    const second = await at.session();
    const again = await second.next("hello");
    expect([again.epoch, again.revision, again.view?.hashSeed, again.view?.digests]).toEqual(["e", 1n, SEED, [POOL_DIGEST]]);
  });

  it("a server that is not there, one that refuses with a delay, one that serves → the third", async () => {
    const refusing = await server();
    const serving = await server();
    client(["127.0.0.1:1", refusing.address, serving.address]);
    const refused = await refusing.session();
    await refused.next("hello");
    refused.fail(status.UNAVAILABLE, 20);
    await liveSession(serving);
  });

  it("a heartbeat with another digest → repair is asked, answered, and the view is right again", async () => {
    const at = await server();
    const agent = client([at.address]);
    const session = await liveSession(at);
    const other: RecordValue = { ...pool, name: "b" };
    const digest = BigInt.asUintN(64, POOL_DIGEST + encodeRecord(other, SEED).hash);
    session.send(encodeServerMessage({ $case: "heartbeat", value: { revision: 2n, digest, upstreamAgeMs: 7n, stale: true, ackIntervalMs: 0 } }));
    const repair = await session.next("repair");
    expect(repair.digests).toEqual([POOL_DIGEST]);
    session.commit(2n, [other], digest);
    expect((await session.next("ack")).receivedRevision).toBe(2n);
    expect([agent.view.digest, agent.counted.repairs, agent.freshness.report().isStale]).toEqual([digest, 1, true]);
  });

  for (const [what, misbehave] of [
    ["garbage", (session: ServerSession) => session.send(Buffer.from([0xff, 0xff, 0xff]))],
    ["a second Welcome, which was not agreed on", (session: ServerSession) => session.welcome(0)],
    [
      "a record whose hash is wrong",
      (session: ServerSession) => {
        const bytes = Buffer.from(encodeRecord({ ...pool, name: "b" }, SEED).bytes);
        bytes[5] = (bytes[5] ?? 0) ^ 1;
        session.send(encodeUpdate({ buckets: [], upserts: [bytes], removed: [], commit: true, revision: 3n, digest: undefined, committedAtUnixUs: 0n }));
      },
    ],
    ["an answer that nobody asked for", (session: ServerSession) => session.commit(4n, [], 0n)],
    [
      "a commit without an answer to Hello, packed in a compression that is damaged",
      (session: ServerSession) =>
        session.send(encodeServerMessage({ $case: "packed", value: { compression: Compression.GZIP, size: 10, data: Buffer.from("no gzip") } })),
    ],
    [
      "a packed Update that grows beyond what it says",
      (session: ServerSession) =>
        session.send(encodeServerMessage({ $case: "packed", value: { compression: Compression.GZIP, size: 10, data: gzipSync(Buffer.alloc(1_000_000)) } })),
    ],
    ["a place in a line after the answer", (session: ServerSession) => session.send(encodeServerMessage({ $case: "queued", value: { place: 1, delayMs: 1 } }))],
  ] as const) {
    it(`A10 ${what} → the session ends as a violation, nothing is applied, a new one resumes`, async () => {
      const at = await server();
      const agent = client([at.address]);
      const session = await liveSession(at);
      misbehave(session);
      await session.over();
      const next = await at.session();
      expect((await next.next("hello")).view?.digests).toEqual([POOL_DIGEST]);
      expect([agent.ends, agent.view.size]).toEqual([["VIOLATION"], 1]);
    });
  }

  it("A10 a message above the limit → the session ends with RESOURCE_EXHAUSTED, nothing is applied", async () => {
    const at = await server();
    const agent = client([at.address]);
    const session = await liveSession(at);
    session.send(Buffer.alloc(17 * 1024 * 1024));
    await (await at.session()).next("hello");
    expect([agent.ends, agent.view.size]).toEqual([["RESOURCE_EXHAUSTED"], 1]);
  });

  it("a place in the line → status has it until the view is there", async () => {
    const at = await server();
    const agent = client([at.address]);
    const session = await at.session();
    const hello = await session.next("hello");
    expect(hello.features).toEqual(["line", "upstream", "servers", "again", ...PACKING_FEATURES]);
    session.welcome(hello.view?.bucketBits ?? 0);
    session.send(encodeServerMessage({ $case: "queued", value: { place: 7, delayMs: 900 } }));
    while (agent.freshness.report().waiting === undefined) await new Promise((resolve) => setTimeout(resolve, 2));
    expect(agent.freshness.report()).toMatchObject({ isSynced: false, waiting: { place: 7, delayMs: 900 } });
    session.commit(1n, [pool], POOL_DIGEST);
    await session.next("ack");
    expect(agent.freshness.report()).toMatchObject({ isSynced: true, waiting: undefined });
  });

  it("A10 a server that falls silent → a new session after three heartbeat intervals", async () => {
    const at = await server();
    const agent = client([at.address]);
    const session = await liveSession(at, 100);
    await session.over();
    await (await at.session()).next("hello");
    expect(agent.ends).toEqual(["SILENCE"]);
  });

  it("Move → the session is left for the server that was named", async () => {
    const [old, target] = [await server(), await server()];
    client([old.address]);
    const session = await liveSession(old);
    session.send(encodeServerMessage({ $case: "move", value: { reason: "draining", deadlineMs: 40, targets: [target.address] } }));
    await liveSession(target);
    await session.over();
  });

  it("reports: newest of each block, again after a cut, until confirmed; a refusal that may pass is repeated", async () => {
    const at = await server();
    const agent = client([at.address]);
    const session = await liveSession(at);
    const block = parseCidr("10.0.0.0/26");
    const report = (generation: number): void =>
      agent.reports.report({
        block,
        generation,
        allocations: [{ address: parseIp("10.0.0.1"), handle: "h", namespace: "n", pod: "p" }],
        claim: "",
        lent: [],
        declined: [],
      });
    report(1);
    expect((await session.next("endpointReport")).generation).toBe(1n);
    report(2);
    await session.next("endpointReport");
    session.end();
    const second = await liveSession(at);
    const result = (generation: bigint, error: string): void =>
      second.send(
        encodeServerMessage({ $case: "reportResult", value: { block: prefixToWire(block), generation, error, retry: true, ended: [], superseded: false } }),
      );
    result(1n, "");
    result(2n, "conflict");
    expect((await second.next("endpointReport")).generation).toBe(2n);
    result(2n, "");
    second.commit(2n, []);
    await second.next("ack");
    expect(agent.reports.size).toBe(0);
  });

  it("mutual TLS: certificates are read anew for each session; files that are missing are no end", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sedge-tls-"));
    cleanups.push(() => rm(directory, { recursive: true }));
    const authority = await createCertificateAuthority();
    const own = await authority.issue({ commonName: "fanout", hosts: ["127.0.0.1"] });
    const pair = { private_key: Buffer.from(own.key), cert_chain: Buffer.from(own.cert) };
    const at = await ScriptedServer.start(ServerCredentials.createSsl(Buffer.from(authority.cert), [pair], true));
    cleanups.push(() => at.stop());
    const tls = { cert: join(directory, "cert"), key: join(directory, "key"), ca: join(directory, "ca") };
    const agent = client([at.address], tls);
    while (agent.ends.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(agent.ends[0]).toBe("CONNECT");
    const leaf = await authority.issue({ commonName: "n1" });
    for (const [path, content] of [
      [tls.cert, leaf.cert],
      [tls.key, leaf.key],
      [tls.ca, authority.cert],
    ] as const)
      await writeFile(path, content);
    await liveSession(at);
  });

  it("unary calls: blocks as values; errors as the address manager knows them; without a session unavailable", async () => {
    const at = await server();
    const agent = client([at.address]);
    const claims = new ClaimCalls({ node: "n1", connection: () => agent.sync.connection });
    await liveSession(at);
    expect(await claims.listBlocks()).toEqual([
      {
        cidr: "10.0.0.0/26",
        pool: "p",
        allocations: [{ address: "10.0.0.1", handle: "h", namespace: "n", pod: "p" }],
        claim: "c1",
        lent: [{ address: "10.0.0.2", id: "l1" }],
      },
    ]);
    await expect(claims.claimBlock({ ipVersion: 4, full: [] })).rejects.toMatchObject({ code: "no-free-block" });
    const alone = new ClaimCalls({ node: "n1", connection: () => undefined });
    await expect(alone.listBlocks()).rejects.toMatchObject({ code: "unavailable" });
  });
});
