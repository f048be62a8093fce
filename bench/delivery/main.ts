/**
 * What carrying alone costs, without sessions, records or acknowledgements: the same 200 bytes to all clients over both deliveries, beside Node's sockets that
 * are only written to, plain and with mutual TLS, and beside a loop of write() in C (plain, where a compiler is). `sedge bench delivery [CLIENTS]`; one JSON
 * line a server, with its ratios to both.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { z } from "zod";
import { FLAG, FRAME, frame, PREFACE, SETTING, settingsFrame, windowUpdateFrame } from "../../fanout/delivery/http2/frames.ts";
import { encodeHeaders } from "../../fanout/delivery/http2/hpack.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import { runBaseline } from "../fanout/baseline.ts";
import { Worker } from "../fanout/worker.ts";
import { benchSettings } from "../settings.ts";
import { BURST, FRAME_BYTES, MESSAGE_BYTES, ROUNDS, SPACING_MS } from "./load.ts";
import type { DeliveryServerMethods, ServerKind } from "./server-process.ts";

const KINDS: readonly ServerKind[] = ["sockets", "http2", "grpc-js"];
const CONNECTING_AT_ONCE = 50;
const HEADER_BYTES = 9;
const WIDE = 2 ** 31 - 1;
const HELLO = Buffer.concat([
  PREFACE,
  settingsFrame([
    [SETTING.enablePush, 0],
    [SETTING.initialWindowSize, WIDE],
  ]),
  windowUpdateFrame(0, WIDE - 65_535),
  frame(
    FRAME.headers,
    FLAG.endHeaders,
    1,
    encodeHeaders([
      [":method", "POST"],
      [":scheme", "http"],
      [":path", "/sedge.sync.v1.SyncService/Sync"],
      [":authority", "bench"],
      ["content-type", "application/grpc"],
      ["te", "trailers"],
    ]),
  ),
]);

const MOST_CLIENTS = 25_000;
const USAGE = {
  name: "delivery",
  words: "[CLIENTS]",
  problemOf: (word: string) =>
    /^[1-9]\d{0,4}$/.test(word) && Number(word) <= MOST_CLIENTS ? undefined : `CLIENTS: ${word} is no number from 1 to ${MOST_CLIENTS}`,
};

export async function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(z.strictObject({}), { argv, usage: USAGE });
  if (settings === undefined) return 0;
  const clients = Number(settings.words.at(-1) ?? 1_000);
  const dir = await mkdtemp(join(tmpdir(), "sedge-bench-"));
  try {
    const authority = await createCertificateAuthority();
    const server = await authority.issue({ commonName: "fanout", hosts: ["localhost"] });
    const client = await authority.issue({ commonName: "n1", uris: ["spiffe://sedge/node/n1"] });
    const files = { ca: join(dir, "ca.pem"), cert: join(dir, "cert.pem"), key: join(dir, "key.pem") };
    await Promise.all([writeFile(files.ca, authority.cert), writeFile(files.cert, server.cert), writeFile(files.key, server.key)]);
    const tlsOptions = { ca: authority.cert, cert: client.cert, key: client.key, servername: "localhost", ALPNProtocols: ["h2"] };
    const c = await measureC(clients);
    for (const tls of [undefined, files]) {
      let nodeUs: number | undefined;
      for (const kind of KINDS) {
        const worker = new Worker<DeliveryServerMethods>(new URL("server-process.ts", import.meta.url), { nodeFlags: ["--expose-gc"] });
        const { port } = await worker.call("start", { kind, tls });
        const sockets = await connectAll(port, {
          clients,
          greeting: kind === "sockets" ? Buffer.from("x") : HELLO,
          tlsOptions: tls === undefined ? undefined : tlsOptions,
        });
        const figures = await worker.call("measure", { clients });
        if (kind === "sockets") nodeUs = figures.usPerDelivery;
        const timesNode = nodeUs === undefined ? {} : { timesNodeSockets: figures.usPerDelivery / nodeUs };
        const timesC = c === undefined || tls !== undefined ? {} : { timesC: figures.usPerDelivery / c.usPerDelivery };
        write(kind, tls !== undefined, { ...figures, ...timesNode, ...timesC });
        for (const socket of sockets) socket.destroy();
        await worker.stop();
      }
    }
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  return 0;
}

function write(server: string, isTls: boolean, figures: Readonly<Record<string, number>>): void {
  const rounded = Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, Math.round(value * 100) / 100]));
  process.stdout.write(`${JSON.stringify({ bench: "delivery", server, isTls, ...rounded })}\n`);
}

/** The same load on the loop in C; undefined without a compiler. */
async function measureC(clients: number): Promise<{ readonly usPerDelivery: number } | undefined> {
  const recipients = Array.from({ length: clients }, (_, index) => index);
  const messages = (count: number): { atUs: number; bytes: number; recipients: number[] }[] =>
    Array.from({ length: ROUNDS * count }, (_, index) => ({
      atUs: Math.floor(index / count) * SPACING_MS * 1000,
      bytes: MESSAGE_BYTES + FRAME_BYTES,
      recipients,
    }));
  const replays = [
    { name: "single", messages: messages(1) },
    { name: "burst", messages: messages(BURST) },
  ];
  const result = await runBaseline("c-write-loop", { agents: clients, isTls: false, replays });
  if ("skipped" in result) {
    process.stderr.write(`C loop: ${result.skipped}\n`);
    return undefined;
  }
  const usOf = (name: string): number => {
    const run = result.runs.get(name);
    if (run === undefined) throw new Error(`the C loop has no run ${name}`);
    return run.cpuUs / run.deliveries;
  };
  const figures = { clients, usPerDelivery: usOf("single"), burstUsPerDelivery: usOf("burst") };
  write("c-write-loop", false, figures);
  return figures;
}

async function connectAll(
  port: number,
  { clients, greeting, tlsOptions }: { clients: number; greeting: Buffer; tlsOptions: ConnectionOptions | undefined },
): Promise<Socket[]> {
  const sockets: Socket[] = [];
  await new Promise<void>((resolve, reject) => {
    let begun = 0;
    const next = (): void => {
      if (begun++ >= clients) return;
      const where = { port, host: "127.0.0.1" };
      const socket = tlsOptions === undefined ? connect(where) : connectTls({ ...where, ...tlsOptions });
      socket.once("error", reject);
      socket.on("data", (chunk: Buffer) => answerPing(socket, chunk));
      socket.once(tlsOptions === undefined ? "connect" : "secureConnect", () => {
        socket.write(greeting);
        if (sockets.push(socket) === clients) resolve();
        next();
      });
    };
    for (let i = 0; i < CONNECTING_AT_ONCE; i++) next();
  });
  return sockets;
}

/** A ping comes alone, so the chunk begins with it. */
function answerPing(socket: Socket, chunk: Buffer): void {
  if (chunk[3] !== FRAME.ping || chunk[4] !== 0 || chunk.length < HEADER_BYTES + 8) return;
  socket.write(frame(FRAME.ping, FLAG.ack, 0, chunk.subarray(HEADER_BYTES, HEADER_BYTES + 8)));
}
