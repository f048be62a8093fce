// Our encoders and digests, judged by programs that were written from the .proto files alone; and the judges, judged: each
// must notice a server that breaks a promise. The server here is a script; the real one meets the same clients elsewhere.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Metadata, Server, ServerCredentials, type ServerDuplexStream, status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { RecordValue } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import { addDigest, addTo, bucketOf, seedOf } from "../../src/wire/digest.ts";
import { type EncodedRecord, encodeRecord } from "../../src/wire/record-codec.ts";
import { RawSyncService } from "../../src/wire/service.ts";
import { decodeAgentMessage, statedDigests } from "../../src/wire/session-protocol.ts";
import { encodeServerMessage, encodeUpdate, type RawUpdate } from "../../src/wire/update-codec.ts";
import { foreignClients, runForeignClient } from "./foreign-client.ts";

const SEED = seedOf("3a1f");
const EPOCH = "e1";

function nodeEntry(n: number, address = n): EncodedRecord {
  const value: RecordValue = {
    kind: "node",
    name: `n${n}` as NodeName,
    addresses: [parseIp(`10.0.0.${address}`), parseIp(`fd00::${address}`)],
    blocks: [parseCidr(`10.65.${n}.0/26`)],
  };
  return encodeRecord(value, SEED);
}

const FIRST = Array.from({ length: 40 }, (_, n) => nodeEntry(n));
/** n3 has another address, n7 is gone, n50 is new. */
const CHANGED = [nodeEntry(3, 103), nodeEntry(50)];
const REMOVED = "node/n7";
const SECOND = [...FIRST.filter(({ key }) => key !== REMOVED && key !== "node/n3"), ...CHANGED];

const digestOf = (records: readonly EncodedRecord[]): bigint => records.reduce((sum, { hash }) => addDigest(sum, hash), 0n);
const sorted = (records: readonly EncodedRecord[]): string[] => records.map(({ key }) => key).toSorted();
const update = (fields: Partial<RawUpdate>): Uint8Array =>
  encodeUpdate({ buckets: [], upserts: [], removed: [], commit: false, revision: 0n, digest: undefined, committedAtUnixUs: 0n, ...fields });

interface Fault {
  readonly digestError?: bigint;
  readonly damaged?: boolean;
  readonly wrongBucket?: boolean;
  readonly refused?: boolean;
}

interface ScriptedServer extends AsyncDisposable {
  readonly address: string;
  /** received_revision of each Ack. */
  readonly acks: bigint[];
  /** How many buckets differed, by session. */
  readonly differing: number[];
}

/** Answers Hello with the view at revision 1, the first Ack with the change to revision 2 and a heartbeat. A later session finds it at revision 2. */
async function scriptedServer(credentials: ServerCredentials, fault: Fault = {}): Promise<ScriptedServer> {
  const acks: bigint[] = [];
  const differing: number[] = [];
  const server = new Server();
  let revision = 1n;
  const answerHello = (stream: ServerDuplexStream<Uint8Array, Uint8Array>, bits: number, stated: BigUint64Array): void => {
    const records = revision === 1n ? FIRST : SECOND;
    const digests = new BigUint64Array(2 ** bits);
    for (const { key, hash } of records) addTo(digests, bucketOf(key, SEED, bits), hash);
    const indexes = [...digests.keys()].filter((index) => digests[index] !== stated[index]);
    differing.push(indexes.length);
    stream.write(
      encodeServerMessage({
        $case: "welcome",
        value: {
          server: "scripted",
          epoch: EPOCH,
          hashSeed: SEED,
          revision,
          features: [],
          heartbeatIntervalMs: 1000,
          bucketBits: bits,
          upstreamKinds: [],
          servers: undefined,
          ackIntervalMs: 0,
        },
      }),
    );
    const shift = fault.wrongBucket === true ? 1 : 0;
    for (const index of indexes) {
      const content = records.filter(({ key }) => bucketOf(key, SEED, bits) === index).map(({ bytes }) => (fault.damaged === true ? damaged(bytes) : bytes));
      stream.write(update({ buckets: [{ index: (index + shift) % 2 ** bits, records: content }] }));
    }
    stream.write(update({ commit: true, revision, digest: addDigest(digestOf(records), fault.digestError ?? 0n) }));
  };
  server.addService(RawSyncService, {
    claimBlock: (_call: unknown, done: (error: Error) => void) => done(new Error("not scripted")),
    listBlocks: (_call: unknown, done: (error: Error) => void) => done(new Error("not scripted")),
    sync: (stream: ServerDuplexStream<Uint8Array, Uint8Array>) => {
      if (fault.refused === true) {
        const metadata = new Metadata();
        metadata.set("retry-after-ms", "1500");
        stream.emit("error", { code: status.RESOURCE_EXHAUSTED, details: "not admitted now", metadata });
        return;
      }
      stream.on("error", () => undefined); // the client left
      stream.on("end", () => stream.end());
      stream.on("data", (bytes: Uint8Array) => {
        const message = decodeAgentMessage(bytes);
        if (message.$case === "hello") {
          const { bits, digests } = statedDigests(message.value.view);
          answerHello(stream, bits, message.value.view?.hashSeed === SEED ? digests : new BigUint64Array(2 ** bits));
        } else if (message.$case === "ack") {
          acks.push(message.value.receivedRevision);
          if (revision !== 1n) return;
          revision = 2n;
          stream.write(
            encodeServerMessage({ $case: "heartbeat", value: { revision: 1n, digest: digestOf(FIRST), upstreamAgeMs: 5n, stale: false, ackIntervalMs: 0 } }),
          );
          stream.write(update({ upserts: CHANGED.map((record) => record.bytes), removed: [REMOVED], commit: true, revision, digest: digestOf(SECOND) }));
        }
      });
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return { address: `127.0.0.1:${port}`, acks, differing, [Symbol.asyncDispose]: async () => server.forceShutdown() };
}

/** One bit of the name inside the value, under a hash that was right before. */
function damaged(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const at = bytes.length - 10;
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

for (const client of foreignClients()) {
  describe.skipIf(client.command === undefined)(`${client.name} client${client.command === undefined ? ` (${client.reason})` : ""}`, () => {
    it("follows the view through a live commit, acknowledges it, and a second session with its digests needs no record", async () => {
      await using server = await scriptedServer(ServerCredentials.createInsecure());
      const first = await runForeignClient(client, { address: server.address, node: "n1", commits: 1 });
      expect(first).toMatchObject({ exitCode: 0, end: { keys: sorted(SECOND) } });
      expect(first.lines.map(({ kind }) => kind)).toEqual([
        "welcome",
        ...Array.from({ length: (server.differing[0] ?? 0) + 1 }, () => "update"),
        "heartbeat",
        "update",
        "end",
      ]);
      expect(first.lines.filter(({ inSync }) => inSync)).toMatchObject([{ records: FIRST.length }]);
      expect(server.differing[0]).toBeGreaterThan(8);
      expect(server.acks[0]).toBe(1n);

      const both = await runForeignClient(client, { address: server.address, node: "n1", sessions: 2 });
      expect(both).toMatchObject({ exitCode: 0, end: { keys: sorted(SECOND) } });
      expect(server.differing.slice(1)).toEqual([server.differing[0], 0]);
    });

    it.each<[string, Fault, string]>([
      ["another digest", { digestError: 1n }, "digest"],
      ["a damaged record", { damaged: true }, "hash"],
      ["records in another bucket", { wrongBucket: true }, "bucket"],
    ])("notices %s", async (_name, fault, named) => {
      await using server = await scriptedServer(ServerCredentials.createInsecure(), fault);
      const run = await runForeignClient(client, { address: server.address, node: "n1" });
      expect(run.exitCode).toBe(3);
      expect(run.end.error).toContain(named);
    });

    it("reports a refusal with its code and when to come again", async () => {
      await using server = await scriptedServer(ServerCredentials.createInsecure(), { refused: true });
      const run = await runForeignClient(client, { address: server.address, node: "n1" });
      expect(run).toMatchObject({ exitCode: 1, end: { error: "not admitted now", retryAfterMs: "1500" } });
      expect(run.end.code?.replace("_", "").toLowerCase()).toBe("resourceexhausted");
    });

    describe("mTLS", () => {
      let dir = "";
      beforeAll(async () => {
        dir = await mkdtemp(join(tmpdir(), "sedge-foreign-"));
      });
      afterAll(() => rm(dir, { recursive: true, force: true }));

      it("with certificates of one authority", async () => {
        const authority = await createCertificateAuthority();
        const serverPair = await authority.issue({ commonName: "fanout", hosts: ["127.0.0.1"] });
        const nodePair = await authority.issue({ commonName: "n1", uris: ["spiffe://sedge/node/n1"] });
        const tls = { ca: join(dir, "ca.pem"), cert: join(dir, "node.pem"), key: join(dir, "node.key") };
        await Promise.all([writeFile(tls.ca, authority.cert), writeFile(tls.cert, nodePair.cert), writeFile(tls.key, nodePair.key)]);
        const credentials = ServerCredentials.createSsl(
          Buffer.from(authority.cert),
          [{ cert_chain: Buffer.from(serverPair.cert), private_key: Buffer.from(serverPair.key) }],
          true,
        );
        await using server = await scriptedServer(credentials);
        const run = await runForeignClient(client, { address: server.address, node: "n1", tls });
        expect(run).toMatchObject({ exitCode: 0, end: { keys: sorted(FIRST) } });
        const plain = await runForeignClient(client, { address: server.address, node: "n1", timeoutSeconds: 5 });
        expect(plain.exitCode).toBe(1);
      });
    });
  });
}
