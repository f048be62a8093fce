/** The process of the server: a delivery with sessions that say nothing, or (as the baseline) sockets that are only written to. */
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createServer as createTlsServer } from "node:tls";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import { type GrpcDeliveryOptions, startGrpcDelivery } from "../../fanout/delivery/grpc-delivery.ts";
import { startHttp2Delivery } from "../../fanout/delivery/http2/http2-delivery.ts";
import { serveCalls } from "../fanout/worker.ts";
import { BURST, FRAME_BYTES, MESSAGE_BYTES, ROUNDS, SPACING_MS } from "./load.ts";

export type ServerKind = "sockets" | "http2" | "grpc-js";

export interface DeliveryFigures {
  readonly clients: number;
  /** Of the server's process, us of CPU: one message to all, spaced. */
  readonly usPerDelivery: number;
  /** Ten messages to all in one tick. */
  readonly burstUsPerDelivery: number;
  readonly kbPerClient: number;
  readonly idleCpuMsPerSecond: number;
}

const WARM_UP_ROUNDS = 5;
const IDLE_MS = 5_000;
const BACKLOG = 4096;
const outputs: { send(bytes: Uint8Array, isUrgent: boolean): void }[] = [];
let messageBytes = MESSAGE_BYTES;
let rssBefore = 0;

async function start({ kind, tls }: { readonly kind: ServerKind; readonly tls: TlsFiles | undefined }): Promise<{ readonly port: number }> {
  const port = kind === "sockets" ? await startSockets(tls) : await startDelivery(kind, tls);
  globalThis.gc?.();
  rssBefore = process.memoryUsage().rss;
  return { port };
}

async function measure({ clients }: { readonly clients: number }): Promise<DeliveryFigures> {
  while (outputs.length < clients) await sleep(20);
  await sleep(1000);
  globalThis.gc?.();
  const { rss } = process.memoryUsage();
  await rounds(WARM_UP_ROUNDS, 1);
  const single = await rounds(ROUNDS, 1);
  const burst = await rounds(ROUNDS, BURST);
  const before = process.cpuUsage();
  await sleep(IDLE_MS);
  const idle = process.cpuUsage(before);
  return {
    clients,
    usPerDelivery: single / ROUNDS / clients,
    burstUsPerDelivery: burst / ROUNDS / BURST / clients,
    kbPerClient: (rss - rssBefore) / 1000 / clients,
    idleCpuMsPerSecond: (idle.user + idle.system) / IDLE_MS,
  };
}

/** CPU in us. */
async function rounds(count: number, messages: number): Promise<number> {
  const before = process.cpuUsage();
  for (let round = 0; round < count; round++) {
    for (let n = 0; n < messages; n++) {
      const message = Buffer.alloc(messageBytes, n);
      // As sessions do: a lone message does not wait for others of its tick.
      for (const output of outputs) output.send(message, messages === 1);
    }
    await sleep(SPACING_MS);
  }
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

async function startSockets(tls: TlsFiles | undefined): Promise<number> {
  messageBytes += FRAME_BYTES;
  const accept = (socket: Socket): void => {
    socket.on("error", () => undefined);
    socket.resume();
    outputs.push({ send: (bytes) => void socket.write(bytes) });
  };
  const server =
    tls === undefined
      ? createServer({ noDelay: true }, accept)
      : createTlsServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key), ca: readFileSync(tls.ca), requestCert: true, noDelay: true }, accept);
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0, backlog: BACKLOG }, resolve));
  return (server.address() as AddressInfo).port;
}

async function startDelivery(kind: "http2" | "grpc-js", tls: TlsFiles | undefined): Promise<number> {
  const options: GrpcDeliveryOptions = {
    listen: [{ host: "127.0.0.1", port: 0, tls }],
    accept: (stream) => {
      outputs.push(stream);
      return { onMessage: () => undefined, onDrain: () => undefined, onClosed: () => undefined };
    },
    unary: () => ({}),
    services: [],
    keepaliveMs: 20_000,
    keepaliveTimeoutMs: 20_000,
    onStreamError: (error) => process.stderr.write(`${String(error)}\n`),
  };
  const delivery = kind === "http2" ? await startHttp2Delivery(options) : await startGrpcDelivery(options);
  return Number(delivery.addresses[0]?.address.split(":").at(-1));
}

const methods = { start, measure };
export type DeliveryServerMethods = typeof methods;

serveCalls(methods);
