/** The command as a process: a cluster from an API or from manifests, output and exit codes. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type Answer, serveHttp } from "../../test/fakes/fake-api-http.ts";

const SEDGE = join(import.meta.dirname, "../../bin/sedge.ts");
const pod = (name: string, ip: string): object => ({ metadata: { name, namespace: "shop", labels: { app: name } }, status: { podIPs: [{ ip }] } });
const policy = (spec: object): object => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "p", namespace: "shop" },
  spec: { podSelector: { matchLabels: { app: "web" } }, ...spec },
});
const OPEN = policy({ ingress: [{ ports: [{ port: 80 }] }] });
const CLOSED = policy({});
const PODS = [pod("web", "10.0.0.1"), pod("client", "10.0.0.2")];

/** Lists without custom kinds, items without their kind, as the real server has them. */
const cluster: Answer = (request, response) => {
  const path = new URL(request.url ?? "/", "http://api").pathname;
  if (path.includes("projectcalico.org") || path.includes("policy.networking.k8s.io")) return response.writeHead(404).end("404 page not found\n");
  const items = path.endsWith("/pods") ? PODS : path.endsWith("/networkpolicies") ? [{ ...OPEN, apiVersion: undefined, kind: undefined }] : [];
  return response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ metadata: { resourceVersion: "1" }, items }));
};
const nothing: Answer = (_request, response) => response.writeHead(404).end("404 page not found\n");

describe("sedge policy diff", () => {
  async function run(args: readonly string[], change: object, url = ""): Promise<{ code: number; stdout: string; stderr: string }> {
    const folder = await mkdtemp(join(tmpdir(), "sedge-diff-"));
    try {
      const world = [...PODS.map((one) => ({ apiVersion: "v1", kind: "Pod", ...one })), OPEN];
      const kubeconfig = {
        "current-context": "c",
        contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
        clusters: [{ name: "c", cluster: { server: url } }],
        users: [{ name: "u", user: {} }],
      };
      await Promise.all([
        writeFile(join(folder, "new.json"), JSON.stringify(change)),
        writeFile(join(folder, "world.json"), JSON.stringify(world)),
        writeFile(join(folder, "kubeconfig"), JSON.stringify(kubeconfig)),
      ]);
      return await new Promise((resolve) => {
        execFile(process.execPath, [SEDGE, "policy", "diff", ...args], { cwd: folder }, (error, stdout, stderr) => {
          resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
        });
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  it("the cluster from its API and from manifests: the same answer, 1 with differences and 0 without", async () => {
    await using api = await serveHttp(cluster);
    const live = await run(["-f", "new.json", "--kubeconfig", "kubeconfig", "-o", "json"], CLOSED, api.url);
    expect([live.code, live.stderr]).toEqual([1, ""]);
    expect(JSON.parse(live.stdout)).toMatchObject([
      { from: "shop/client", to: "shop/web", protocol: "TCP", port: { first: 80, last: 80 }, before: "allow", after: "deny" },
    ]);
    expect((await run(["-f", "new.json", "-w", "world.json", "-o", "json"], CLOSED)).stdout).toBe(live.stdout);
    expect((await run(["-f", "new.json", "-w", "world.json"], CLOSED)).stdout).toMatch(
      /^newly denied:\nFROM .*\nshop\/client +shop\/web +80 +TCP +allow -> deny +/,
    );
    expect(await run(["-f", "new.json", "--kubeconfig", "kubeconfig"], OPEN, api.url)).toMatchObject({ code: 0, stdout: "no difference between the pods\n" });
  });

  it("--staged: what promoting a staged policy would change, of the cluster or of the new manifests; a name that there is not", async () => {
    const spec = { selector: "app == 'web'", ingress: [{ action: "Deny" }] };
    const staged = { apiVersion: "projectcalico.org/v3", kind: "StagedNetworkPolicy", metadata: { name: "s", namespace: "shop" }, spec: { order: 1, ...spec } };
    const all = await run(["-f", "new.json", "-w", "world.json", "--staged", "all"], staged);
    expect(all).toMatchObject({ code: 1, stdout: expect.stringMatching(/^newly denied:\nFROM .*\nshop\/client +shop\/web +80 +TCP +allow -> deny +/) });
    expect((await run(["-f", "new.json", "-w", "world.json", "--staged", "snp/shop/s"], staged)).stdout).toBe(all.stdout);
    expect(await run(["-f", "new.json", "-w", "world.json"], staged)).toMatchObject({ code: 0 });
    expect(await run(["-f", "new.json", "-w", "world.json", "--staged", "t"], staged)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("no staged policy has that name; there are: StagedNetworkPolicy shop/s"),
    });
  });

  it("2 when it cannot be said: an address without a cluster, manifests that are wrong, flags that contradict", async () => {
    await using api = await serveHttp(nothing);
    expect(await run(["-f", "new.json", "--kubeconfig", "kubeconfig"], OPEN, api.url)).toMatchObject({ code: 2, stdout: "" });
    expect(await run(["-f", "new.json", "-w", "world.json"], policy({ ingres: [] }))).toMatchObject({ code: 2, stdout: "" });
    expect(await run(["-f", "new.json", "-w", "world.json", "--kubeconfig", "kubeconfig"], OPEN)).toMatchObject({ code: 2, stdout: "" });
    expect(await run(["-w", "world.json"], OPEN)).toMatchObject({ code: 2, stdout: "" });
  });
});
