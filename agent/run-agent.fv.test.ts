import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createLogger, silentLogger } from "../src/runtime/log.ts";
import { type AgentConfig, agentConfigSchema, configProblems } from "./config.ts";
import { runAgent } from "./run-agent.ts";
import type { AgentStatus } from "./status/status.ts";

let directory = "";
const stops: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "sedge-agent-"));
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
  await rm(directory, { recursive: true, force: true });
});

function config(more: Partial<AgentConfig> = {}): AgentConfig {
  return agentConfigSchema.parse({
    nodeName: "n1",
    // Nobody listens there: an agent has to start and stop without a server.
    server: ["127.0.0.1:1"],
    insecure: true,
    dataplane: false,
    stateDir: join(directory, "state"),
    socket: join(directory, "agent.sock"),
    metricsListen: "127.0.0.1:0",
    healthListen: "127.0.0.1:0",
    logLevel: "silent",
    ...more,
  });
}

interface Started {
  readonly metricsPort: number;
  readonly healthPort: number;
  readonly status: () => AgentStatus;
}

function start(settings: AgentConfig, log = silentLogger()): Promise<Started> {
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    const running = runAgent({ config: settings, log, signal: stop.signal, onStarted: resolve });
    running.catch(reject);
    stops.push(async () => {
      stop.abort();
      await running.catch(() => undefined);
    });
  });
}

const text = async (port: number, path: string): Promise<{ status: number; body: string }> => {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return { status: response.status, body: await response.text() };
};

function overSocket(path: string, body?: unknown): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: join(directory, "agent.sock"), path, method: body === undefined ? "GET" : "POST" }, (response) => {
      let answer = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        answer += chunk;
      });
      response.on("end", () => resolve(JSON.parse(answer)));
    });
    call.on("error", reject);
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

describe("runAgent without a server and without a dataplane", () => {
  it("lives, is not ready, says why; metrics and status are served", async () => {
    const agent = await start(config());
    expect((await text(agent.healthPort, "/liveness")).status).toBe(200);
    const readiness = await text(agent.healthPort, "/readiness");
    expect([readiness.status, readiness.body]).toEqual([503, expect.stringContaining("view live=true ready=false")]);
    const metrics = (await text(agent.metricsPort, "/metrics")).body;
    for (const name of ["commit_to_programmed_seconds", "apply_seconds", "view_records", "stale", "drift_repairs_total", "failed_objects"])
      expect(metrics).toContain(`sedge_agent_${name}`);
    let status: unknown;
    while (status === undefined) status = await overSocket("/v1/status").catch(() => undefined);
    expect(status).toMatchObject({ node: "n1", isConnected: false, dataplane: "none", programmedRevision: null, view: { isComplete: false } });
  });

  it("the socket tells the view's hashes, and sets the log level of every part", async () => {
    const lines: string[] = [];
    const log = createLogger({ level: "silent", program: "agent", destination: { write: (line) => void lines.push(line) } });
    await start(config(), log);
    let view: unknown;
    while (view === undefined) view = await overSocket("/v1/view").catch(() => undefined);
    expect(view).toEqual({ isComplete: false, epoch: "", revision: 0, digest: "0000000000000000", hashes: {} });
    expect(lines).toEqual([]);
    expect(await overSocket("/v1/log-level", { level: "trace" })).toEqual({ ok: true, previous: "silent" });
    expect(await overSocket("/v1/log-level", { level: "loud" })).toMatchObject({ ok: false, error: { details: expect.stringContaining('"loud"') } });
    // Nobody listens at the server's address, and the part that tries is a child of the logger.
    while (!lines.some((line) => line.includes('"component":"sync"'))) await new Promise((resolve) => setImmediate(resolve));
  });

  it("a second agent on the same state directory is refused with the reason; after the first has ended it starts", async () => {
    await start(config());
    const second = config({ socket: join(directory, "second.sock") });
    await expect(start(second)).rejects.toThrow(/in use by another agent.*--state-dir/);
    await stops[0]?.();
    expect((await start(second)).status().node).toBe("n1");
  });

  it("garbage in the view's files: it starts with an empty view, and the garbage is kept", async () => {
    const { stateDir } = config();
    await start(config());
    await stops.pop()?.();
    await writeFile(join(stateDir, "view.snapshot"), "garbage");
    await writeFile(join(stateDir, "view.log"), "garbage");
    const agent = await start(config());
    expect(agent.status().view).toMatchObject({ isComplete: false, records: 0 });
    expect(await readdir(stateDir)).toEqual(expect.arrayContaining(["view.snapshot.corrupt-1", "view.log.corrupt-1"]));
  });
});

describe("configProblems", () => {
  it("neither certificates nor --insecure, some of the certificates, or both → what to do", () => {
    expect(configProblems(config())).toEqual([]);
    expect(configProblems(config({ insecure: false, tlsCert: "c", tlsKey: "k", tlsCa: "a" }))).toEqual([]);
    expect(configProblems(config({ insecure: false }))[0]).toContain("all three are needed");
    expect(configProblems(config({ insecure: false, tlsCert: "c" }))[0]).toContain("all three are needed");
    expect(configProblems(config({ tlsCert: "c" }))[0]).toContain("--insecure: leave it out");
  });
});
