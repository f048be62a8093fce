/** Scenarios in which something goes wrong, or an operator asks: all agents at once with nothing, a server that dies, agents that do not read, the list of clients. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import { listClients } from "../../src/ctl/clients.ts";
import { ctlSchema } from "../../src/ctl/config.ts";
import { Connection } from "../../src/ctl/connection.ts";
import { typhaSessions } from "../typha/typha.ts";
import { rounded } from "./latency.ts";
import { failuresNow, memoryOf, type Parts, perAgent, startServer } from "./parts.ts";
import type { Measured } from "./result.ts";
import type { Load, Scenario } from "./scenarios.ts";
import { addressOf } from "./server-order.ts";

/** The last of the agents that come back after a dead server have waited up to the cap of their back-off (15 s), and then the line. */
const LEVEL_TIMEOUT_MS = 120_000;
/** Agents that do not read answer no ping either: within this time none is taken for dead (two keepalive times of 20 s). */
const MOST_SLOW_SECONDS = 15;
const MOST_LISTS = 10;
const FEWEST_LISTS = 2;
const CHURN: Load = { kind: "scoped", ratePerSecond: 100, batch: 1, isEachAlone: false, warmUpChanges: 100 };
const POLL_MS = 20;

export async function measureStorm(scenario: Scenario, parts: Parts): Promise<Measured> {
  const { server, agents, shape, port, certificates } = parts;
  await agents.call("disconnect", undefined);
  await server.call("alone", undefined);
  await agents.call("forget", undefined);
  const before = await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const { ms } = await agents.call("connect", { port, isResume: false, isStorm: true });
  await server.call("level", {});
  const after = await server.call("usage", { isCollected: false });
  const received = await agents.call("finish", undefined);
  return {
    ...described(scenario),
    seconds: rounded(ms / 1000),
    coreShare: rounded((after.cpuUs - before.cpuUs) / 1000 / ms),
    memory: memoryOf(after),
    perAgent: perAgent({ cpuUs: after.cpuUs - before.cpuUs, ...received.wire, agents: shape.agents }),
    answers: received.answers,
    typha: typhaSessions(parts.snapshot, shape.agents),
    endedStreams: received.ended,
    // Over TLS those whose turn does not come in time are cut, and come again.
    failures: await failuresNow(parts, received, certificates !== undefined),
  };
}

/** The process is killed, and another one started in its place; agents find it by themselves. */
export async function measureRestart(scenario: Scenario, parts: Parts): Promise<Measured> {
  const { agents, shape, delivery, certificates, port, history } = parts;
  await agents.call("keep", { ports: [port], isConnected: true });
  await agents.call("begin", undefined);
  const killed = performance.now();
  await parts.server.kill();
  const server = startServer();
  parts.server = server;
  await server.call("start", { shape, delivery, port, tls: certificates?.server, history });
  const serving = performance.now();
  const before = await server.call("usage", { isCollected: false });
  await waitUntil(async () => (await server.call("usage", { isCollected: false })).levelClients === shape.agents, "level");
  const level = performance.now();
  const after = await server.call("usage", { isCollected: false });
  const { failedTries } = await agents.call("kept", undefined);
  const received = await agents.call("finish", undefined);
  await agents.call("letGo", undefined);
  const failures = await failuresNow(parts, received, true);
  const { answers, unchanged } = received.answers;
  if (unchanged < shape.agents) failures.push(`${answers - unchanged} answers had more than the digest exchange`);
  return {
    ...described(scenario),
    seconds: rounded((level - killed) / 1000),
    coreShare: rounded((after.cpuUs - before.cpuUs) / 1000 / (level - serving)),
    memory: memoryOf(after),
    perAgent: perAgent({ cpuUs: after.cpuUs - before.cpuUs, ...received.wire, agents: shape.agents }),
    answers: received.answers,
    restart: {
      downMs: Math.round(serving - killed),
      levelAfterServingMs: Math.round(level - serving),
      levelAfterKillMs: Math.round(level - killed),
      failedTries,
    },
    typha: typhaSessions(parts.snapshot, shape.agents),
    failures,
  };
}

/** The same churn twice: all agents read; then some read nothing. */
export async function measureSlow(scenario: Scenario, parts: Parts): Promise<Measured> {
  const { server, agents, shape, slowShare, history } = parts;
  const seconds = Math.min(parts.seconds, MOST_SLOW_SECONDS);
  const count = Math.max(1, Math.floor(shape.agents * slowShare));
  await server.call("drive", { load: { ...CHURN, changes: CHURN.warmUpChanges }, seconds: 0 });
  await server.call("usage", { isCollected: true });
  await agents.call("begin", undefined);
  const first = await server.call("drive", { load: CHURN, seconds });
  const without = await agents.call("finish", undefined);
  const memoryWithout = await server.call("usage", { isCollected: true });
  await agents.call("pause", { count });
  await agents.call("begin", undefined);
  const driven = await server.call("drive", { load: CHURN, seconds, nodes: shape.agents - count });
  // The others are level; whoever reads nothing may have had room for all of it in the kernel's buffers.
  const during = await server.call("usage", { isCollected: true });
  const received = await agents.call("finish", undefined);
  history.push({ kind: CHURN.kind, changes: CHURN.warmUpChanges + first.changes + driven.changes });
  const resumed = performance.now();
  await agents.call("resume", undefined);
  await server.call("level", {});
  const levelAfterResumeMs = rounded(performance.now() - resumed);
  const failures = await failuresNow(parts, await agents.call("finish", undefined));
  return {
    ...described(scenario),
    seconds: rounded(driven.elapsedMs / 1000),
    coreShare: rounded(driven.cpuUs / 1000 / driven.elapsedMs),
    load: { changes: driven.changes, ratePerSecond: CHURN.ratePerSecond, commits: driven.commits },
    commitToReceiptMs: received.latency,
    memory: memoryOf(during),
    slow: {
      share: slowShare,
      receiptMsWithout: without.latency,
      mostBytesInFlight: during.bytesInFlight,
      levelAfterResumeMs,
      memoryWithoutMb: rounded(memoryWithout.rssBytes / 1e6),
    },
    failures,
  };
}

/** The operator's command, as a process of its own: from its start to its last line. */
export async function measureClientList(scenario: Scenario, parts: Parts): Promise<Measured> {
  const { server, shape, certificates, port, seconds } = parts;
  const rounds = Math.max(FEWEST_LISTS, Math.min(MOST_LISTS, Math.round(seconds)));
  const before = await server.call("usage", { isCollected: false });
  const began = performance.now();
  const listClientsMs: number[] = [];
  const callMs: number[] = [];
  const failures: string[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    const lines = await runListClients(port, certificates?.operator);
    listClientsMs.push(rounded(performance.now() - start));
    callMs.push(rounded(await callForClients(port, certificates?.operator)));
    if (lines !== shape.agents + 1) failures.push(`sedge clients wrote ${lines} lines for ${shape.agents} agents`);
  }
  const elapsedMs = performance.now() - began;
  const after = await server.call("usage", { isCollected: false });
  return {
    ...described(scenario),
    seconds: rounded(elapsedMs / 1000),
    coreShare: rounded((after.cpuUs - before.cpuUs) / 1000 / elapsedMs),
    listClientsMs: listClientsMs.sort((a, b) => a - b),
    clientsCallMs: callMs.sort((a, b) => a - b),
    failures,
  };
}

/** The same call without the start of a process: from the connection to the last client (ms). */
async function callForClients(port: number, tls: TlsFiles | undefined): Promise<number> {
  const began = performance.now();
  const identity = tls === undefined ? {} : { tlsCert: tls.cert, tlsKey: tls.key, tlsCa: tls.ca };
  const connection = new Connection(ctlSchema.parse({ server: addressOf(port), ...identity }));
  try {
    for await (const { node } of listClients(connection)) if (node === "") throw new Error("a client without a name");
    return performance.now() - began;
  } finally {
    connection.close();
  }
}

/** Lines that it writes. */
function runListClients(port: number, tls: TlsFiles | undefined): Promise<number> {
  const program = fileURLToPath(new URL("../../bin/sedge.ts", import.meta.url));
  const identity = tls === undefined ? [] : ["--tls-cert", tls.cert, "--tls-key", tls.key, "--tls-ca", tls.ca];
  const child = spawn(process.execPath, [program, "clients", "--server", `127.0.0.1:${port}`, ...identity], { stdio: ["ignore", "pipe", "inherit"] });
  let lines = 0;
  child.stdout.on("data", (chunk: Buffer) => {
    for (const byte of chunk) if (byte === 10) lines++;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve(lines) : reject(new Error(`sedge clients ended with ${code}`))));
  });
}

function described({ name, what }: Scenario): Pick<Measured, "scenario" | "what" | "warmUpChanges"> {
  return { scenario: name, what, warmUpChanges: 0 };
}

async function waitUntil(isTrue: () => Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + LEVEL_TIMEOUT_MS;
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error(`not ${what} after ${LEVEL_TIMEOUT_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
