// The API server of the tests keeps its own promises: the ones that other tests build on.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { findGoTool, type KubeApiserver, kubeApiserverAvailable, startKubeApiserver } from "./start.ts";

const START_TIMEOUT_MS = 120_000;
const unavailable = kubeApiserverAvailable();

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One GET as the administrator. A watch is read to its end. */
async function get(server: KubeApiserver, path: string): Promise<Answer> {
  const config = parse(await readFile(server.kubeconfig, "utf8"));
  const ca = Buffer.from(config.clusters[0].cluster["certificate-authority-data"], "base64");
  return new Promise((resolve, reject) => {
    const call = request(`${server.url}${path}`, { ca, agent: false, headers: { authorization: `Bearer ${config.users[0].user.token}` } }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      response.on("error", reject);
    });
    call.on("error", reject).end();
  });
}

async function listVersion(server: KubeApiserver): Promise<string> {
  return JSON.parse((await get(server, "/api/v1/namespaces")).body).metadata.resourceVersion;
}

const watch = (version: string): string => `/api/v1/namespaces?watch=true&timeoutSeconds=1&resourceVersion=${version}`;
const GONE = '"code":410';

describe.skipIf(unavailable !== undefined)(`startKubeApiserver${unavailable === undefined ? "" : ` (${unavailable})`}`, () => {
  it("SIGKILL and a second start on the same directory → same kubeconfig, same objects, versions from before are gone", {
    timeout: START_TIMEOUT_MS,
  }, async () => {
    const dir = await mkdtemp(join(tmpdir(), "sedge-apiserver-test-"));
    try {
      const first = await startKubeApiserver({ dir });
      const kubeconfig = await readFile(first.kubeconfig, "utf8");
      const before = await listVersion(first);
      expect((await get(first, "/api/v1/namespaces/default")).status).toBe(200);
      expect((await get(first, watch(before))).body).not.toContain(GONE);
      await first.compact(); // moves etcd's revision, so that `before` is really older than the second run
      await first.kill();

      await using second = await startKubeApiserver({ dir });
      expect(second.url).toBe(first.url);
      expect(await readFile(second.kubeconfig, "utf8")).toBe(kubeconfig);
      expect((await get(second, watch(before))).body).toContain(GONE);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });

  it("compact without a watch cache → 410 for every version from before, not for later ones", { timeout: START_TIMEOUT_MS }, async () => {
    await using server = await startKubeApiserver({ extraArgs: ["--watch-cache=false"] });
    const before = await listVersion(server);
    expect((await get(server, watch(before))).body).not.toContain(GONE);
    await server.compact();
    expect((await get(server, watch(before))).body).toContain(GONE);
    expect((await get(server, watch(await listVersion(server)))).body).not.toContain(GONE);
  });

  it("stop → the temporary directory is gone, an open watch has ended in order", { timeout: START_TIMEOUT_MS }, async () => {
    const server = await startKubeApiserver();
    const open = get(server, `/api/v1/namespaces?watch=true&resourceVersion=0`);
    await get(server, "/readyz");
    await server.stop();
    expect((await open).status).toBe(200);
    await expect(stat(server.dir)).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("an unknown flag → rejects and names it", { timeout: START_TIMEOUT_MS }, async () => {
    await expect(startKubeApiserver({ extraArgs: ["--no-such-flag"] })).rejects.toThrow("--no-such-flag");
  });

  it("aborted while starting → rejects with the reason", { timeout: START_TIMEOUT_MS }, async () => {
    const abort = new AbortController();
    const started = startKubeApiserver({ signal: abort.signal });
    abort.abort(new Error("enough"));
    await expect(started).rejects.toThrow("enough");
  });

  it.skipIf(findGoTool("kubectl") === undefined)("kubectl reads the kubeconfig", { timeout: START_TIMEOUT_MS }, async () => {
    await using server = await startKubeApiserver();
    const { stdout } = await promisify(execFile)(findGoTool("kubectl") ?? "kubectl", ["--kubeconfig", server.kubeconfig, "get", "namespaces", "-o", "name"]);
    expect(stdout.trim().split("\n")).toContain("namespace/default");
  });
});
