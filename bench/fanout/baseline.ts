/** The same load on servers that only write: one in Node, and one in C where a compiler is. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import { exec } from "../../src/runtime/exec.ts";
import { makeCertificates } from "./certificates.ts";
import type { LatencyFigures } from "./latency.ts";
import type { PlainAgentsMethods } from "./plain-agents-process.ts";
import type { PlainMessage } from "./plain-protocol.ts";
import type { PlainServerMethods } from "./plain-server-process.ts";
import { Worker } from "./worker.ts";

export type BaselineName = "node-sockets" | "c-write-loop";

export interface BaselineRun {
  readonly deliveries: number;
  readonly cpuUs: number;
  readonly latency: LatencyFigures;
}

/** A load by name of the scenario, and what comes before it for the warm-up. */
export interface Replay {
  readonly name: string;
  readonly messages: readonly PlainMessage[];
}

export type BaselineResult = { readonly runs: ReadonlyMap<string, BaselineRun> } | { readonly skipped: string };

/** Messages to all agents before the first replay. */
const WARM_UP_MESSAGES = 10;
const WARM_UP_BYTES = 200;

/** A server that writes. */
interface Writer {
  readonly port: number;
  /** Resolves when all agents are connected. */
  accepted(agents: number): Promise<void>;
  replay(messages: readonly PlainMessage[]): Promise<{ readonly cpuUs: number }>;
  stop(): Promise<void>;
}

/** Replays each load on the baseline, one after the other on the same connections. */
export async function runBaseline(
  name: BaselineName,
  { agents, replays, isTls }: { readonly agents: number; readonly replays: readonly Replay[]; readonly isTls: boolean },
): Promise<BaselineResult> {
  if (isTls && name === "c-write-loop") return { skipped: "it speaks no TLS" };
  const certificates = isTls ? await makeCertificates(1) : undefined;
  const writer = name === "node-sockets" ? await startNodeWriter(certificates?.server) : await startCWriter(agents);
  if (typeof writer === "string") return { skipped: writer };
  const clients = new Worker<PlainAgentsMethods>(new URL("plain-agents-process.ts", import.meta.url));
  try {
    await clients.call("connect", { port: writer.port, count: agents, tls: certificates?.agents[0] });
    await writer.accepted(agents);
    const all = Array.from({ length: agents }, (_, index) => index);
    const warmUp = Array.from({ length: WARM_UP_MESSAGES }, (_, index) => ({ atUs: index * 100_000, bytes: WARM_UP_BYTES, recipients: all }));
    const runs = new Map<string, BaselineRun>();
    for (const replay of [{ name: "warm-up", messages: warmUp }, ...replays]) {
      const deliveries = replay.messages.reduce((sum, { recipients }) => sum + recipients.length, 0);
      await clients.call("begin", undefined);
      const { cpuUs } = await writer.replay(replay.messages);
      runs.set(replay.name, { deliveries, cpuUs, latency: await clients.call("received", { expected: deliveries }) });
    }
    return { runs };
  } finally {
    await clients.stop();
    await writer.stop();
    certificates?.remove();
  }
}

async function startNodeWriter(tls: TlsFiles | undefined): Promise<Writer> {
  const worker = new Worker<PlainServerMethods>(new URL("plain-server-process.ts", import.meta.url));
  const { port } = await worker.call("start", { tls });
  return {
    port,
    accepted: (agents) => worker.call("accepted", { agents }),
    replay: (messages) => worker.call("replay", { messages }),
    stop: () => worker.stop(),
  };
}

/** A text says why it cannot be. */
async function startCWriter(agents: number): Promise<Writer | string> {
  const directory = await mkdtemp(join(tmpdir(), "sedge-bench-"));
  const program = join(directory, "write-loop");
  const remove = (): Promise<void> => rm(directory, { recursive: true, force: true });
  try {
    const { code, stderr } = await exec(["cc", "-O2", "-o", program, fileURLToPath(new URL("write-loop.c", import.meta.url))]);
    if (code !== 0) throw new Error(stderr);
  } catch (error) {
    await remove();
    return `no C compiler: ${error instanceof Error ? error.message : String(error)}`;
  }
  const child = spawn(program, [String(agents)], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const port = Number(await expectLine(lines, "port"));
  return {
    port,
    async accepted() {
      await expectLine(lines, "ready");
    },
    async replay(messages) {
      const text = messages.map(({ atUs, bytes, recipients }) => `${atUs} ${bytes} ${recipients.length} ${recipients.join(" ")}\n`).join("");
      child.stdin.write(`replay ${messages.length}\n${text}`);
      return { cpuUs: Number(await expectLine(lines, "cpu")) };
    },
    async stop() {
      child.stdin.end();
      await exited(child);
      await remove();
    },
  };
}

async function expectLine(lines: AsyncIterator<string>, word: string): Promise<string> {
  const line = await lines.next();
  const [first, second = ""] = line.done === true ? ["end of output"] : line.value.split(" ");
  if (first !== word) throw new Error(`the C baseline said "${first}" where "${word}" was due`);
  return second;
}

function exited(child: ChildProcess): Promise<void> {
  return child.exitCode === null && child.signalCode === null ? new Promise((resolve) => child.once("exit", () => resolve())) : Promise.resolve();
}
