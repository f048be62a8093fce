/** The baselines' clients: count messages and read their time of sending. */
import { connect as connectTcp, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import type { AgentTls } from "./certificates.ts";
import { Latency, type LatencyFigures, unixUs } from "./latency.ts";
import { PLAIN_HEADER_BYTES } from "./plain-protocol.ts";
import { serveCalls } from "./worker.ts";

const CONNECTING_AT_ONCE = 128;
const RECEIVE_TIMEOUT_MS = 60_000;
const latency = new Latency();
let messages = 0;

/** `tls` undefined: plain text; otherwise one identity for all. */
async function connect({ port, count, tls }: { readonly port: number; readonly count: number; readonly tls: AgentTls | undefined }): Promise<void> {
  let next = 0;
  let open = 0;
  await new Promise<void>((resolve, reject) => {
    const connectNext = (): void => {
      if (next >= count) return;
      const index = Buffer.alloc(4);
      index.writeUInt32BE(next++);
      const isOpen = (): void => {
        if (++open === count) resolve();
        connectNext();
      };
      const where = { host: "127.0.0.1", port, noDelay: true };
      const socket: Socket = tls === undefined ? connectTcp(where, isOpen) : connectTls({ ...where, ...tls, checkServerIdentity: () => undefined }, isOpen);
      const reader = new Reader();
      socket.on("data", (chunk: Buffer) => reader.take(chunk));
      socket.on("error", reject);
      socket.write(index);
    };
    for (let i = 0; i < CONNECTING_AT_ONCE; i++) connectNext();
  });
}

function begin(): void {
  latency.reset();
  messages = 0;
}

/** Resolves when so many messages have come. */
async function received({ expected }: { readonly expected: number }): Promise<LatencyFigures> {
  const end = performance.now() + RECEIVE_TIMEOUT_MS;
  for (; ; await sleep(5)) {
    if (messages >= expected) return latency.figures();
    if (performance.now() > end) throw new Error(`the baseline delivered ${messages} of ${expected} messages`);
  }
}

class Reader {
  #rest: Buffer | undefined;

  take(chunk: Buffer): void {
    const buffer = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (buffer.length - at >= PLAIN_HEADER_BYTES) {
      const length = buffer.readUInt32BE(at);
      if (buffer.length - at < length) break;
      latency.record(unixUs() - buffer.readDoubleBE(at + 4));
      messages++;
      at += length;
    }
    this.#rest = at === buffer.length ? undefined : buffer.subarray(at);
  }
}

const methods = { connect, begin, received };
export type PlainAgentsMethods = typeof methods;

serveCalls(methods);
