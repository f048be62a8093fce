// What the embedded API alone promises: survival of kill -9, bounds, whole namespaces deleted, a directory that is not to be trusted.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { connect } from "node:tls";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiClient, at, type Body, type Json, textAt } from "../../../test/apiserver/api-client.ts";
import { type EmbeddedApi, type EmbeddedApiOptions, startEmbeddedApi } from "./start.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
const POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
const POOLS = "/apis/projectcalico.org/v3/ippools";
const policy = (name: string, more: Body = {}): Body => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name, ...more },
  spec: { podSelector: {} },
});
const names = (list: Body): Json[] => (at(list, "items") as Json[]).map((item) => at(item, "metadata", "name") ?? null);

let directory = "";
const closing: (() => Promise<void> | void)[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "sedge-embedded-"));
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  rmSync(directory, { recursive: true, force: true });
});

async function start(options: EmbeddedApiOptions = {}): Promise<{ api: EmbeddedApi; client: ApiClient }> {
  const api = await startEmbeddedApi(options);
  closing.push(() => api.close());
  const path = join(directory, `kubeconfig-${closing.length}`);
  writeFileSync(path, api.kubeconfig);
  const client = new ApiClient(path);
  closing.push(() => client.close());
  return { api, client };
}

interface Running {
  readonly process: ChildProcess;
  readonly client: ApiClient;
  /** First line of the log that says what. */
  readonly kubeconfig: string;
}

async function startProcess(...args: readonly string[]): Promise<Running> {
  const kubeconfig = join(directory, "kubeconfig");
  const child = spawn(process.execPath, [MAIN, "--listen", "127.0.0.1:0", "--kubeconfig-out", kubeconfig, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  closing.push(() => void child.kill("SIGKILL"));
  for await (const line of createInterface({ input: child.stderr ?? process.stdin })) {
    if (!line.includes('"serving"')) continue;
    const client = new ApiClient(kubeconfig);
    closing.push(() => client.close());
    return { process: child, client, kubeconfig };
  }
  throw new Error("the embedded API did not start");
}

describe("sedge api", () => {
  it("kill -9 under load: everything that was answered is there again, and a watch resumes where it was", async () => {
    const data = join(directory, "data");
    const first = await startProcess("--data-dir", data);
    const from = textAt((await first.client.ask("GET", POLICIES)).body, "metadata", "resourceVersion");
    const answered: string[] = [];
    let isKilled = false;
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let index = 0; !isKilled; index++) {
        const name = `p-${writer}-${index}`;
        const answer = await first.client.ask("POST", POLICIES, { body: policy(name) }).catch(() => undefined);
        if (answer?.code === 201) answered.push(name);
        if (answered.length >= 200 && !isKilled) {
          isKilled = true;
          first.process.kill("SIGKILL");
        }
      }
    });
    await Promise.all(writers);
    const token = readFileSync(join(data, "token"), "utf8");
    const second = await startProcess("--data-dir", data);
    expect(readFileSync(join(data, "token"), "utf8")).toBe(token);
    const there = new Set(names((await second.client.ask("GET", POLICIES)).body));
    expect(answered.filter((name) => !there.has(name))).toEqual([]);
    const watch = await second.client.watch(`${POLICIES}?watch=true&resourceVersion=${from}`);
    const seen = new Set<Json | undefined>();
    while (seen.size < there.size) {
      const event = await watch.next();
      expect(event?.type).toBe("ADDED");
      seen.add(at(event?.object, "metadata", "name"));
    }
    watch.close();
    expect(seen).toEqual(there);
  });

  it("SIGTERM ends it with 0; the kubeconfig is for its owner only", async () => {
    const { process: child, client, kubeconfig } = await startProcess();
    expect(statSync(kubeconfig).mode & 0o777).toBe(0o600);
    const watch = await client.watch(`${POLICIES}?watch=true`);
    child.kill("SIGTERM");
    expect(await watch.next()).toBeUndefined();
    const [code] = (await once(child, "exit")) as [number | null];
    expect(code).toBe(0);
  });

  it("a directory with something else in it: exit 1, the file is named and untouched", async () => {
    const data = join(directory, "data");
    const first = await startEmbeddedApi({ dataDir: data });
    await first.close();
    writeFileSync(join(data, "notes.txt"), "mine");
    const child = spawn(process.execPath, [MAIN, "--listen", "127.0.0.1:0", "--data-dir", data], { stdio: ["ignore", "ignore", "pipe"] });
    let text = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    const [code] = (await once(child, "close")) as [number | null];
    expect([code, text]).toEqual([1, expect.stringContaining(`${join(data, "notes.txt")} is not a file of the embedded API`)]);
    expect(existsSync(join(data, "notes.txt"))).toBe(true);
  });

  it("two on one directory: the second is refused and says who has it", async () => {
    const data = join(directory, "data");
    const { process: child } = await startProcess("--data-dir", data);
    await expect(startEmbeddedApi({ dataDir: data })).rejects.toThrow(`${data} is in use by process ${child.pid}`);
  });

  it("a killed process whose parent has not waited for it does not hold the data directory", async () => {
    const data = join(directory, "data");
    await (await startEmbeddedApi({ dataDir: data })).close();
    // A parent whose thread is blocked never waits for its child.
    const script =
      'const { pid } = require("node:child_process").spawn("sleep", ["1000"]); require("node:fs").writeSync(1, String(pid)); for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);';
    const parent = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "ignore"] });
    closing.push(() => void parent.kill("SIGKILL"));
    const [chunk] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(chunk.toString("utf8"));
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    writeFileSync(join(data, "lock"), `${pid} ${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}\n`);
    await expect(startEmbeddedApi({ dataDir: data })).rejects.toThrow(`${data} is in use by process ${pid}`);
    process.kill(pid, "SIGKILL");
    await vi.waitFor(() => expect(readFileSync(`/proc/${pid}/stat`, "utf8")).toContain(") Z "));
    await (await startEmbeddedApi({ dataDir: data })).close();
  });
});

describe("startEmbeddedApi", () => {
  it("restart on a directory keeps certificate authority, token and objects", async () => {
    const data = join(directory, "data");
    const first = await startEmbeddedApi({ dataDir: data });
    const { port } = new URL(first.url);
    await first.close();
    const second = await startEmbeddedApi({ dataDir: data, port: Number(port) });
    expect(second.kubeconfig).toBe(first.kubeconfig);
    expect(second.store.revision).toBe(first.store.revision);
    await second.close();
  });

  it("odd paths are a Status, and the server lives on", async () => {
    const { client } = await start();
    for (const path of [
      "//",
      "//x/y",
      "/api/v1/%zz",
      "/api/v1/namespaces//pods",
      "/apis/a/b/c/d/e/f/g",
      "/api/v1/pods/x",
      "/api/v1/namespaces/default/pods/x/log",
      "/?=&&=",
    ]) {
      const { code, body } = await client.ask("GET", `https://x${path}`.slice("https://x".length).replace(/^\/\//, "/%2F"));
      expect([path, code === 200 || body["kind"] === "Status"]).toEqual([path, true]);
    }
  });

  it("nobody without a token gets in, open paths apart", async () => {
    const { client } = await start();
    for (const path of ["/api", "/apis", "/api/v1/pods", "/openapi/v3", "/"]) {
      expect([path, (await client.ask("GET", path, { token: "" })).body]).toEqual([
        path,
        expect.objectContaining({ kind: "Status", code: 401, reason: "Unauthorized" }),
      ]);
    }
    for (const path of ["/healthz", "/readyz", "/livez", "/version"]) expect([path, (await client.ask("GET", path, { token: "" })).code]).toEqual([path, 200]);
  });

  it("deleting a namespace deletes what is in it; finalizers are waited for; nothing new comes in", async () => {
    const { client } = await start();
    await client.ask("POST", "/api/v1/namespaces", { body: { metadata: { name: "gone" } } });
    const inside = POLICIES.replace("default", "gone");
    await client.ask("POST", inside, { body: policy("free") });
    await client.ask("POST", inside, { body: policy("held", { finalizers: ["sedge.network/test"] }) });
    expect((await client.ask("DELETE", "/api/v1/namespaces/gone")).body).toMatchObject({ status: { phase: "Terminating" } });
    expect(names((await client.ask("GET", inside)).body)).toEqual(["held"]);
    expect((await client.ask("POST", inside, { body: policy("late") })).body).toMatchObject({
      code: 403,
      details: { causes: [{ reason: "NamespaceTerminating" }] },
    });
    await client.ask("PATCH", `${inside}/held`, { type: "application/merge-patch+json", body: { metadata: { finalizers: null } } });
    expect((await client.ask("GET", "/api/v1/namespaces/gone")).code).toBe(404);
    expect((await client.ask("DELETE", "/api/v1/namespaces/kube-system")).code).toBe(403);
  });

  it("a watch whose place in the history is gone gets 410 Expired, and so does an exact list", async () => {
    const { client } = await start({ historyChanges: 10 });
    const from = textAt((await client.ask("GET", POOLS)).body, "metadata", "resourceVersion");
    for (let index = 0; index < 30; index++)
      await client.ask("POST", POOLS, {
        body: { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name: `p${index}` }, spec: { cidr: `10.${index}.0.0/16` } },
      });
    for (const version of [from, "1"]) {
      const watch = await client.watch(`${POOLS}?watch=true&resourceVersion=${version}`);
      const event = await watch.next();
      expect([event?.type, at(event?.object, "code"), at(event?.object, "reason")]).toEqual(["ERROR", 410, "Expired"]);
      expect(await watch.next()).toBeUndefined();
    }
    expect((await client.ask("GET", `${POOLS}?resourceVersion=${from}&resourceVersionMatch=Exact`)).body).toMatchObject({ code: 410, reason: "Expired" });
  });

  it("an idle watch gets bookmarks that move with writes to other kinds", async () => {
    const { client, api } = await start({ bookmarkIntervalMs: 20 });
    const watch = await client.watch(`${POOLS}?watch=true&allowWatchBookmarks=true`);
    await client.ask("POST", POLICIES, { body: policy("elsewhere") });
    const wanted = String(api.store.revision);
    for (
      let event = await watch.next({ withBookmarks: true });
      at(event?.object, "metadata", "resourceVersion") !== wanted;
      event = await watch.next({ withBookmarks: true })
    )
      expect(event).toMatchObject({ type: "BOOKMARK", object: { kind: "IPPool" } });
    watch.close();
  });

  it("a client that does not read is cut off, and costs the others nothing", async () => {
    const { client, api } = await start({ stalledMs: 200 });
    const filler = "x".repeat(200_000);
    const url = new URL(api.url);
    const stuck = connect({ host: url.hostname, port: Number(url.port), ca: api.certificateAuthority });
    closing.push(() => void stuck.destroy());
    await once(stuck, "secureConnect");
    stuck.pause();
    stuck.write(`GET ${POLICIES}?watch=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${api.token}\r\n\r\n`);
    const reader = await client.watch(`${POLICIES}?watch=true`);
    // Far more than a socket holds.
    for (let index = 0; index < 100; index++) await client.ask("POST", POLICIES, { body: policy(`big-${index}`, { annotations: { filler } }) });
    for (let index = 0; index < 100; index++) expect(at((await reader.next())?.object, "metadata", "name")).toBe(`big-${index}`);
    reader.close();
    stuck.on("error", () => undefined);
    const closed = once(stuck, "close");
    stuck.resume();
    await closed;
  });

  it("a body that is too large, not JSON, of a foreign type, or a half of protobuf: a Status each", async () => {
    const { client } = await start();
    expect((await client.ask("POST", POLICIES, { body: policy("x", { annotations: { a: "x".repeat(9_000_000) } }) })).body).toMatchObject({
      code: 413,
      reason: "RequestEntityTooLarge",
    });
    expect((await client.ask("POST", POLICIES, { type: "text/plain", body: policy("x") })).body).toMatchObject({ code: 415, reason: "UnsupportedMediaType" });
    expect((await client.ask("POST", POLICIES, { type: "application/vnd.kubernetes.protobuf", body: policy("x") })).body).toMatchObject({
      code: 400,
      reason: "BadRequest",
    });
    expect((await client.ask("PATCH", `${POLICIES}/x`, { type: "application/json", body: {} })).body).toMatchObject({ code: 415 });
    expect((await client.ask("PUT", POLICIES, { body: policy("x") })).body).toMatchObject({ code: 405, reason: "MethodNotAllowed" });
  });

  it("a client certificate of its own CA is as good as the token", async () => {
    const data = join(directory, "data");
    const { api } = await start({ dataDir: data });
    const { loadCertificateAuthority } = await import("../../runtime/tls.ts");
    const authority = await loadCertificateAuthority({ cert: readFileSync(join(data, "ca.crt"), "utf8"), key: readFileSync(join(data, "ca.key"), "utf8") });
    const { cert, key } = await authority.issue({ commonName: "admin" });
    const code = await new Promise<number | undefined>((resolve, reject) => {
      httpsRequest(new URL("/api/v1/nodes", api.url), { ca: api.certificateAuthority, cert, key, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on("error", reject)
        .end();
    });
    expect(code).toBe(200);
  });

  it("a field named __proto__ in a request reaches no prototype", async () => {
    const { client, api } = await start();
    await client.ask("POST", POLICIES, { body: policy("p") });
    const patch = JSON.parse('{"metadata":{"annotations":{"__proto__":"x"}},"__proto__":{"polluted":true}}') as Json;
    await client.ask("PATCH", `${POLICIES}/p`, { type: "application/merge-patch+json", body: patch });
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
    expect(api.store.list("networkpolicies.networking.k8s.io")).toHaveLength(1);
  });
});
