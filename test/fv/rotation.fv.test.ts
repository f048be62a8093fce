/**
 * Certificates and authorities that change while agents are connected and commits flow: at a server, at a relay and in workers. The agents are the real client
 * with certificates in files, as an issuer renews them.
 */
import { X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "node:tls";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Acknowledgements } from "../../agent/sync/acknowledgements.ts";
import { dialer } from "../../agent/sync/dial.ts";
import { Freshness } from "../../agent/sync/freshness.ts";
import { ReportQueue } from "../../agent/sync/report-queue.ts";
import { ServerBook } from "../../agent/sync/server-book.ts";
import { SyncClient } from "../../agent/sync/sync-client.ts";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import type { NodeName } from "../../src/model/names.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { type CertificateAuthority, type CertificatePem, createCertificateAuthority } from "../../src/runtime/tls.ts";
import { View } from "../../src/wire/view.ts";
import { FAST, type FanoutFixture, node, pool, startFanout, startRelay, startWorkers, upsert, writePair } from "../fakes/fanout-fixture.ts";
import { startTcpProxy } from "../fakes/tcp-proxy.ts";

const NODES = Array.from({ length: 6 }, (_, i) => `n${i}`);
/** Enough that a view sent anew could not be taken for the changes of a moment. */
const WORLD = upsert(...NODES.map((name, i) => node(name, i + 1)), pool(), ...Array.from({ length: 150 }, (_, i) => node(`far${i}`, i % 250)));
const CHECK_MS = 40;
const SETTINGS = { ...FAST, certificateCheckMs: CHECK_MS };
/** RFC 9113, section 3.4: with SETTINGS that are empty. */
const PREFACE = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]);
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 30_000, interval: 50 });

async function directory(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "sedge-rotation-"));
  onTestFinished(() => rm(made, { recursive: true, force: true }));
  return made;
}

const serving = (authority: CertificateAuthority): Promise<CertificatePem> =>
  authority.issue({ commonName: "fanout", hosts: ["127.0.0.1", "localhost"], uris: ["spiffe://sedge/fanout"] });

/** Serial number of the certificate that whoever accepts shows; the reason when there is no connection. */
function shownAt(address: string, client: CertificatePem, ca: string): Promise<string> {
  const [host = "", port = ""] = address.split(":");
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), servername: "localhost", ca, cert: client.cert, key: client.key, ALPNProtocols: ["h2"] });
    socket.once("secureConnect", () => {
      const { serialNumber } = socket.getPeerCertificate();
      // In TLS 1.3 a server refuses a client's certificate after the client's handshake is over.
      socket.once("data", () => {
        resolve(serialNumber);
        socket.destroy();
      });
      socket.write(PREFACE);
    });
    socket.once("error", (error) => resolve(error.message));
    socket.once("close", () => resolve("closed"));
  });
}

/** A node's agent without a kernel. */
class FileAgent {
  readonly view = new View();
  /** Sizes of the answers to its Hellos. */
  readonly answers: number[] = [];
  readonly ends: string[] = [];
  readonly files: TlsFiles;

  constructor({ name, address, files }: { readonly name: string; readonly address: string; readonly files: TlsFiles }) {
    this.files = files;
    const acknowledgements = new Acknowledgements({ coalesceMs: 1, clock: systemClock });
    const sync = new SyncClient({
      node: name,
      version: "test",
      book: new ServerBook({ node: name, given: [address], order: "listed" }),
      dial: dialer(files),
      view: this.view,
      acknowledgements,
      reports: new ReportQueue({ clock: systemClock, log: silentLogger() }),
      freshness: new Freshness({ clock: systemClock, staleAfterMs: 60_000 }),
      clock: systemClock,
      log: silentLogger(),
      certificateCheckMs: CHECK_MS,
      onCommit: (delta, isAnswer) => {
        if (isAnswer) this.answers.push(delta.changes.size);
        acknowledgements.programmed(delta.revision, []);
        return Promise.resolve();
      },
      onConfirmed: () => undefined,
      onRepair: () => this.ends.push("repair"),
      // Its own leaving, for the connection with the new certificate, is none.
      onSessionEnd: ({ code, detail }) => code === "CANCELLED" || this.ends.push(`${code} ${detail}`),
    });
    const stop = new AbortController();
    const running = sync.run(stop.signal);
    onTestFinished(async () => {
      stop.abort();
      await running;
    });
  }
}

interface Place extends AsyncDisposable {
  readonly root: FanoutFixture;
  /** Where agents connect. */
  readonly address: string;
}

/** Who serves the agents, with the certificate in the files. */
const PLACES: Readonly<Record<string, (tls: TlsFiles) => Promise<Place>>> = {
  async server(tls) {
    const root = await startFanout({ events: WORLD, tls, settings: SETTINGS });
    return { root, address: root.secureAddress, [Symbol.asyncDispose]: () => root.stop() };
  },
  async relay(tls) {
    const root = await startFanout({ events: WORLD, settings: SETTINGS });
    const relay = await startRelay({ parents: [root.address], tls, settings: SETTINGS });
    return {
      root,
      address: relay.secureAddress,
      [Symbol.asyncDispose]: async () => {
        await relay.stop();
        await root.stop();
      },
    };
  },
  async workers(tls) {
    const root = await startFanout({ events: WORLD, settings: SETTINGS });
    const workers = startWorkers({ parent: root.address, count: 2, tls, settings: SETTINGS });
    await workers.ready();
    return {
      root,
      address: workers.secureAddress,
      [Symbol.asyncDispose]: async () => {
        await workers.stop();
        await root.stop();
      },
    };
  },
};

/** Commits one after the other until it is disposed of. */
class Churn implements AsyncDisposable {
  commits = 0;
  #isOver = false;
  readonly #running: Promise<void>;

  constructor({ server }: FanoutFixture) {
    const run = async (): Promise<void> => {
      while (!this.#isOver) {
        server.sink(upsert(node(`churn${this.commits % 20}`, (this.commits % 200) + 1)));
        server.engine.settle();
        this.commits++;
        await sleep(20);
      }
    };
    this.#running = run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }
}

describe("everything is rotated while commits flow", () => {
  it.each(Object.keys(PLACES))(
    "%s: certificate, both authorities, the agents' certificates, the old authority out: no session is dropped, no view is sent again",
    async (kind) => {
      const dir = await directory();
      const [old, next] = [await createCertificateAuthority("a"), await createCertificateAuthority("b")];
      const ca = join(dir, "ca.pem");
      const filesOf = (name: string): TlsFiles => ({ ca, cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) });
      const tls = filesOf("server");
      const nodeOf = (authority: CertificateAuthority, name: string): Promise<CertificatePem> =>
        authority.issue({ commonName: "any", uris: [`spiffe://sedge/node/${name}`] });
      await writeFile(ca, old.cert);
      await writePair(tls, await serving(old));
      await using place = await (PLACES[kind] ?? expect.fail(kind))(tls);
      const { root, address } = place;
      const agents = await Promise.all(
        NODES.map(async (name) => {
          const files = filesOf(name);
          await writePair(files, await nodeOf(old, name));
          return new FileAgent({ name, address, files });
        }),
      );
      const sessions = (): number[] => agents.map(({ answers }) => answers.length);
      const isServed = async (serial: Promise<string> | string, client: CertificatePem, trusted: string): Promise<void> => {
        const wanted = await serial;
        // A port that is shared: each of the processes behind it.
        await until(async () => expect(new Set(await Promise.all(NODES.map(() => shownAt(address, client, trusted))))).toEqual(new Set([wanted])));
      };
      const both = `${old.cert}\n${next.cert}`;
      const [oldClient, newClient] = [await nodeOf(old, "probe"), await nodeOf(next, "probe")];
      await until(() => expect(sessions()).toEqual(NODES.map(() => 1)));
      const fullView = agents[0]?.view.size ?? 0;
      expect(fullView).toBeGreaterThan(150);
      let commits = 0;
      {
        await using churn = new Churn(root);
        const second = await serving(old);
        await writePair(tls, second);
        await isServed(serialOf(second), oldClient, old.cert);

        await writeFile(ca, both);
        await until(async () => expect(await shownAt(address, newClient, both)).toBe(serialOf(second)));
        await isServed(serialOf(second), newClient, both);
        expect([sessions(), agents.map(({ ends }) => ends)]).toEqual([NODES.map(() => 1), NODES.map(() => [])]);

        await Promise.all(agents.map(async ({ files }, i) => writePair(files, await nodeOf(next, NODES[i] ?? ""))));
        await until(() => expect(sessions()).toEqual(NODES.map(() => 2)));

        const third = await serving(next);
        await writePair(tls, third);
        await writeFile(ca, next.cert);
        await isServed(serialOf(third), newClient, next.cert);
        await until(async () => expect(await shownAt(address, oldClient, next.cert)).not.toBe(serialOf(third)));
        ({ commits } = churn);
        await until(() => expect(churn.commits).toBeGreaterThan(commits + 10));
      }
      const { table } = root.server;
      await until(() => expect(agents.map(({ view }) => view.digest)).toEqual(NODES.map((name) => table.viewDigest(table.nodes.idOf(name as NodeName)))));
      expect([sessions(), agents.map(({ ends }) => ends)]).toEqual([NODES.map(() => 2), NODES.map(() => [])]);
      // What had changed while an agent went from one connection to the next, at most.
      expect(Math.max(...agents.map(({ answers }) => answers[1] ?? fullView))).toBeLessThanOrEqual(20);
    },
    90_000,
  );

  it("between a relay and its parent: neither end's rotation drops the stream; when it breaks, the new certificate opens the next", async () => {
    const dir = await directory();
    const [old, next] = [await createCertificateAuthority("a"), await createCertificateAuthority("b")];
    const filesOf = (name: string): TlsFiles => ({ ca: join(dir, "ca.pem"), cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) });
    const [rootFiles, relayFiles] = [filesOf("root"), filesOf("relay")];
    const relayOf = (authority: CertificateAuthority): Promise<CertificatePem> =>
      authority.issue({ commonName: "r", uris: ["spiffe://sedge/relay/r"], hosts: ["localhost"] });
    await writeFile(rootFiles.ca, old.cert);
    await Promise.all([writePair(rootFiles, await serving(old)), writePair(relayFiles, await relayOf(old))]);
    await using root = await startFanout({ events: WORLD, tls: rootFiles, settings: SETTINGS });
    const [host = "", port = ""] = root.secureAddress.split(":");
    await using proxy = await startTcpProxy({ host, port: Number(port) });
    await using relay = await startRelay({ parents: [`127.0.0.1:${proxy.port}`], parentTls: relayFiles, isForAll: true, settings: SETTINGS });
    await until(() => expect(relay.server.upstream?.isLive).toBe(true));
    const [stream] = root.server.feeds.feeds;
    await using churn = new Churn(root);
    await Promise.all([writeFile(rootFiles.ca, next.cert), writePair(rootFiles, await serving(next)), writePair(relayFiles, await relayOf(next))]);
    const probe = await next.issue({ commonName: "probe" });
    await until(async () => expect(await shownAt(root.secureAddress, probe, next.cert)).toMatch(/^[0-9A-F]+$/));
    const { commits } = churn;
    await until(() => expect(churn.commits).toBeGreaterThan(commits + 10));
    expect([...root.server.feeds.feeds]).toEqual([stream]);
    proxy.resetAll();
    await until(() =>
      expect([root.server.feeds.feeds.size, [...root.server.feeds.feeds][0] === stream, relay.server.upstream?.isLive]).toEqual([1, false, true]),
    );
  }, 60_000);
});

function serialOf({ cert }: CertificatePem): string {
  return new X509Certificate(cert).serialNumber;
}
