/** A stream of UDP packets between two namespaces, each the first of its connection, and how many arrived. */
import type { ChildProcess } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Netns } from "./netns.ts";

const PEER = fileURLToPath(new URL("udp-peer.ts", import.meta.url));

export interface Counted {
  readonly packets: number;
  readonly longestGapMs: number;
}

export interface Stream {
  sent(): Promise<Counted>;
  received(): Promise<Counted>;
  /** Resolves when `packets` more were sent. */
  untilSent(packets: number): Promise<void>;
}

export interface StreamOptions {
  readonly from: Netns;
  readonly to: Netns;
  readonly address: string;
  readonly port: number;
  readonly intervalMs?: number;
  /** Source address, when it is not to be the kernel's choice. */
  readonly source?: string;
}

/** True when packets of new connections arrive. */
export async function reaches(options: StreamOptions): Promise<boolean> {
  const stream = await startStream({ ...options, intervalMs: 10 });
  await stream.untilSent(12);
  return (await stream.received()).packets > 0;
}

/** Ends with its namespaces. */
export async function startStream({ from, to, address, port, intervalMs = 5, source }: StreamOptions): Promise<Stream> {
  const receiver = await startPeer(to, ["receive", address, String(port)]);
  const sender = await startPeer(from, ["send", address, String(port), String(intervalMs), ...(source === undefined ? [] : [source])]);
  return {
    sent: () => sender.ask(),
    received: () => receiver.ask(),
    async untilSent(packets) {
      const before = (await sender.ask()).packets;
      for (let tries = 0; (await sender.ask()).packets < before + packets; tries++) {
        if (tries > 2_000) throw new Error(`the sender to ${address} port ${port} does not send`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
  };
}

interface Peer {
  ask(): Promise<Counted>;
}

async function startPeer(netns: Netns, args: readonly string[]): Promise<Peer> {
  const child = netns.spawn(process.execPath, [PEER, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = linesOf(child);
  const next = lines[Symbol.asyncIterator]();
  const first = await next.next();
  if (first.value !== "ready") throw new Error(`udp-peer ${args.join(" ")} did not start`);
  return {
    async ask() {
      child.stdin?.write("\n");
      return JSON.parse(String((await next.next()).value)) as Counted;
    },
  };
}

function linesOf(child: ChildProcess): Interface {
  if (child.stdout === null) throw new Error("the process has no stdout");
  return createInterface({ input: child.stdout });
}
