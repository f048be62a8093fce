/** The baseline in Node: writes ready bytes to as many sockets (plain or TLS), and does nothing else. */

import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { createServer as createTlsServer } from "node:tls";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import { unixUs } from "./latency.ts";
import { type PlainMessage, plainMessage } from "./plain-protocol.ts";
import { serveCalls } from "./worker.ts";

const NUMBER_BYTES = 4;
const sockets: Socket[] = [];
let connected = 0;

/** `tls` undefined: plain text. */
async function start({ tls }: { readonly tls: TlsFiles | undefined }): Promise<{ readonly port: number }> {
  const accept = (socket: Socket): void => {
    socket.on("error", () => undefined);
    socket.once("data", (bytes: Buffer) => {
      if (bytes.length < NUMBER_BYTES) throw new Error("an agent's number came in pieces");
      sockets[bytes.readUInt32BE(0)] = socket;
      connected++;
    });
  };
  const server =
    tls === undefined
      ? createServer({ noDelay: true }, accept)
      : createTlsServer(
          { cert: readFileSync(tls.cert), key: readFileSync(tls.key), ca: readFileSync(tls.ca), requestCert: true, minVersion: "TLSv1.3", noDelay: true },
          accept,
        );
  await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0, backlog: 511 }, resolve));
  return { port: (server.address() as AddressInfo).port };
}

async function accepted({ agents }: { readonly agents: number }): Promise<void> {
  for (; ; await sleep(5)) if (connected >= agents) return;
}

/** Sends the messages at their times; returns this process's CPU for it. */
async function replay({ messages }: { readonly messages: readonly PlainMessage[] }): Promise<{ readonly cpuUs: number }> {
  const cpu = process.cpuUsage();
  const began = performance.now();
  for (const { atUs, bytes, recipients } of messages) {
    const waitMs = atUs / 1000 - (performance.now() - began);
    if (waitMs > 1) await sleep(waitMs);
    const message = plainMessage(bytes, unixUs());
    for (const recipient of recipients) sockets[recipient]?.write(message);
  }
  const { user, system } = process.cpuUsage(cpu);
  return { cpuUs: user + system };
}

const methods = { start, accepted, replay };
export type PlainServerMethods = typeof methods;

serveCalls(methods);
