/** An operator's questions as they are asked: the command line against a real server with agents. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { credentials } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NamespaceName, NodeName } from "../../src/model/names.ts";
import type { ClientPage } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { AgentMessage } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { IntrospectionServiceClient, RawSyncClient } from "../../src/wire/service.ts";
import { calicoPolicy, calicoRule, globalPolicy } from "../fakes/calico-objects.ts";
import { CHANNEL_OPTIONS, certificates, GrpcAgent, namespace, node, openStream, pod, policy, pool, startFanout, upsert } from "../fakes/fanout-fixture.ts";
import { sedgeCommand as sedge } from "../fakes/sedge-command.ts";

const POLICY = "policy/KubernetesNetworkPolicy/shop/allow-web";
const WORLD: readonly ClusterEvent[] = upsert(
  node("n1", 1),
  node("n2", 2),
  namespace("shop"),
  namespace("data"),
  pool(),
  pod("shop", "web", { node: "n1" as NodeName }),
  pod("data", "db", { node: "n2" as NodeName }),
  policy("shop", "allow-web", "web"),
);

const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 5 });

function agentFor(address: string, name: string): GrpcAgent {
  const agent = new GrpcAgent({ address, node: name });
  onTestFinished(() => agent[Symbol.dispose]());
  return agent;
}

/** An agent that says hello and never acknowledges. */
function muteAgent(address: string, name: string): void {
  const client = new RawSyncClient(address, credentials.createInsecure(), CHANNEL_OPTIONS);
  const stream = openStream(client);
  stream.on("error", () => undefined).on("data", () => undefined);
  stream.write(
    AgentMessage.encode({
      message: { $case: "hello", value: { node: name, version: "", features: [], epoch: "", revision: 0n, view: undefined, upstream: [] } },
    }).finish(),
  );
  onTestFinished(() => {
    stream.cancel();
    client.close();
  });
}

describe("sedge why", () => {
  it("a policy, and the set in it → down to the pod and the node", async () => {
    await using f = await startFanout({ events: WORLD });
    const n1 = agentFor(f.address, "n1");
    await until(() => expect(n1.isLive).toBe(true));
    const stack = [...n1.view.records.keys()].find((key) => key.startsWith("stack/")) ?? "";
    const policyAnswer = await sedge("why", "n1", POLICY, "--server", f.address);
    expect(policyAnswer).toMatchObject({ code: 0, stderr: "" });
    const lines = policyAnswer.stdout.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^NetworkPolicy shop\/allow-web \(revision \d+, 1 node has it\)$/);
    expect(lines[1]).toMatch(new RegExp(`^ {2}← ${stack}: in tier default; it applies to endpoints with .*namespace == "shop"`));
    expect(lines.slice(2)).toEqual(["    ← pod shop/web: the policies of this pod", "      ← node n1: the pod runs on the node"]);

    const set = [...n1.view.records.keys()].find((key) => key.startsWith("set/"));
    if (set !== undefined)
      expect((await sedge("why", "n1", set, "--server", f.address)).stdout).toMatch(/← NetworkPolicy shop\/allow-web: ingress rule 0 source: endpoints with /);
  });

  it("a policy and a pod by the names that people have for them", async () => {
    await using f = await startFanout({ events: WORLD });
    const n1 = agentFor(f.address, "n1");
    await until(() => expect(n1.isLive).toBe(true));
    for (const name of [["shop/allow-web"], ["policy/shop/allow-web"], ["netpol/allow-web", "-n", "shop"]])
      expect(await sedge("why", "n1", ...name, "--server", f.address), name.join(" ")).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/^NetworkPolicy shop\/allow-web \(/),
      });
    expect((await sedge("why", "n1", "pod/shop/web", "--server", f.address)).stdout).toMatch(/^pod shop\/web \(/);
  });

  it("a record that the node does not have, one that all have, one that there is not", async () => {
    await using f = await startFanout({ events: WORLD });
    expect(await sedge("why", "n2", POLICY, "--server", f.address)).toMatchObject({ code: 1, stdout: expect.stringContaining("is not in the view of n2") });
    expect(await sedge("why", "n2", "pool/p4", "--server", f.address)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("every node has all records of this kind"),
    });
    expect(await sedge("why", "n2", "pool/none", "--server", f.address)).toMatchObject({ code: 1, stderr: expect.stringContaining("there is no record") });
  });
});

describe("sedge get and watch --node", () => {
  it("a node with a Node object; one that is only connected; one that nothing knows, also after it was asked for", async () => {
    await using f = await startFanout({ events: WORLD });
    const guest = agentFor(f.address, "guest");
    await until(() => expect(guest.isLive).toBe(true));
    const get = (name: string) => sedge("get", "endpoints", "--node", name, "--server", f.address);
    expect(await get("n1")).toMatchObject({ code: 0, stdout: expect.stringContaining("endpoint/shop/web") });
    expect(await get("guest")).toMatchObject({ code: 0, stderr: "" });
    const refusal = { code: 1, stdout: "", stderr: expect.stringContaining('there is no node "n11": sedge get nodes lists them') };
    expect(await get("n11")).toMatchObject(refusal);
    expect(await sedge("watch", "--node", "n11", "--server", f.address)).toMatchObject(refusal);
    expect(await get("n11")).toMatchObject(refusal);
  });
});

describe("sedge wait", () => {
  it("a revision and a policy: in force at once with an agent, told who lacks it with one that does not acknowledge", async () => {
    await using f = await startFanout({ events: WORLD });
    const n1 = agentFor(f.address, "n1");
    await until(() => expect(n1.isLive).toBe(true));
    expect(await sedge("wait", "--revision", "1", "--server", f.address)).toMatchObject({ code: 0, stdout: "in force\n" });
    expect(await sedge("wait", "policy/shop/allow-web", "--for=programmed", "--server", f.address)).toMatchObject({ code: 0 });
    muteAgent(f.address, "n2");
    const late = await sedge("wait", "--revision", "1", "--timeout-ms", "1000", "--server", f.address);
    expect(late).toMatchObject({ code: 1, stderr: expect.stringContaining("n2: has revision 0") });
    expect(await sedge("wait", "--revision", "99", "--timeout-ms", "1000", "--server", f.address)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("the server: it is at revision 1"),
    });
    expect(await sedge("wait", "pod/shop/web", "--server", f.address)).toMatchObject({ code: 0 });
    expect(await sedge("wait", "pod/a/b/c", "--server", f.address)).toMatchObject({ code: 2, stderr: expect.stringContaining("want pod/NAME") });
    expect(await sedge("wait", "pot/web", "--server", f.address)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("pot is no kind that the server watches"),
    });
    expect(await sedge("wait", "gnp/shop/x", "--server", f.address)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("GlobalNetworkPolicy is cluster-wide"),
    });
    const missing = await sedge("wait", "policy/none", "-n", "shop", "--timeout", "50ms", "--server", f.address);
    expect(missing).toMatchObject({
      code: 1,
      stderr: "not in force after 50ms (--timeout gives it longer):\n  no policy none in namespace shop is known to the server\n",
    });
  });

  it("sedge clients tells the lag of those that are behind", async () => {
    await using f = await startFanout({ events: WORLD });
    const n1 = agentFor(f.address, "n1");
    await until(() => expect(n1.isLive).toBe(true));
    muteAgent(f.address, "n2");
    await until(() => expect(f.server.sessions.clients.size).toBe(2));
    f.server.sink(upsert(node("n3", 3)));
    f.server.engine.settle();
    await until(() => expect(n1.view.records.has("node/n3")).toBe(true));
    const { stdout } = await sedge("clients", "-o", "json", "--server", f.address);
    const clients = JSON.parse(stdout) as { node: string; level: boolean; lagCommits: number; lagMs: number }[];
    expect(clients.map(({ node: name, level, lagCommits }) => [name, level, lagCommits])).toEqual([
      ["n1", true, 0],
      ["n2", false, 2],
    ]);
    expect(clients[0]?.lagMs).toBe(0);
  });
});

describe("sedge policy status", () => {
  it("all policies of every kind, or those of a name; who lacks them and what is not understood", async () => {
    const http = globalPolicy("web", { selector: "app == 'web'", ingress: [calicoRule("Allow", { hasHttp: true })] });
    const staged = {
      kind: "StagedGlobalNetworkPolicy",
      namespace: "" as NamespaceName,
      name: "later",
      resourceVersion: "1",
      stagedAction: "Set",
      policy: http,
    } as const;
    await using f = await startFanout({ events: [...WORLD, ...upsert(http, staged, calicoPolicy("idle", { in: "data", selector: "app == 'nobody'" }))] });
    const n1 = agentFor(f.address, "n1");
    await until(() => expect(n1.isLive).toBe(true));
    const run = (...args: readonly string[]) => sedge("policy", "status", ...args, "--server", f.address);
    const all = await run();
    expect(all).toMatchObject({ code: 0, stderr: "" });
    expect(
      all.stdout
        .trimEnd()
        .split("\n")
        .map((line) => line.replaceAll(/ {2,}/g, " | ")),
    ).toEqual([
      "POLICY | IN FORCE | ACCEPTED | GENERATION",
      "GlobalNetworkPolicy web | 1 of 1 nodes | no | -",
      " | spec.ingress[0].http: needs a layer 7 proxy, and there is none: the rule allows nothing",
      " | so these parts let nothing through, the rest is in force",
      "NetworkPolicy shop/allow-web | 1 of 1 nodes | yes | -",
      "NetworkPolicy.projectcalico.org data/idle | no endpoint | yes | -",
      "StagedGlobalNetworkPolicy later | staged: never | yes | -",
    ]);
    for (const name of ["allow-web", "shop/allow-web", "netpol/shop/allow-web"])
      expect((await run(name)).stdout, name).toContain("NetworkPolicy shop/allow-web  1 of 1 nodes");
    n1[Symbol.dispose]();
    await until(async () => expect((await run("gnp/web")).stdout).toContain("\n  n1: not connected\n"));
    expect(JSON.parse((await run("allow-web", "-n", "shop", "-o", "json")).stdout)).toMatchObject([
      { kind: "NetworkPolicy", nodes: 1, nodesProgrammed: 0, lagging: [{ node: "n1", reason: "not connected", connected: false }] },
    ]);
    expect(await run("allow-web", "-n", "data")).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringContaining("no policy allow-web in namespace data is known"),
    });
    expect(await run("gnp/none")).toMatchObject({ code: 1, stderr: expect.stringContaining("no GlobalNetworkPolicy none is known") });
    expect(await run("np/a/b")).toMatchObject({ code: 2, stderr: expect.stringContaining("np is no kind of policy; known: NetworkPolicy (") });
    expect((await run("-n", "nowhere")).stdout).toBe("no policy in namespace nowhere\n");
  });
});

describe("sedge log-level", () => {
  it("the operator sets the server's; a node may not; a level that there is not is refused", async () => {
    await using certs = await certificates();
    await using f = await startFanout({ events: WORLD, tls: certs.tls });
    expect(await sedge("log-level", "debug", "--server", f.address)).toMatchObject({ code: 0, stdout: "silent → debug\n" });
    expect(await sedge("log-level", "silent", "--server", f.address)).toMatchObject({ code: 0, stdout: "debug → silent\n" });
    const refused = (call: (done: (error: { details: string } | null) => void) => unknown): Promise<string> =>
      new Promise((resolve) => call((error) => resolve(error?.details ?? "allowed")));
    const asOperator = new IntrospectionServiceClient(f.address, credentials.createInsecure(), CHANNEL_OPTIONS);
    onTestFinished(() => asOperator.close());
    expect(await refused((done) => asOperator.setLogLevel({ level: "loud" }, done))).toContain("known: trace, debug");
    const asNode = new IntrospectionServiceClient(f.secureAddress, await certs.client({ commonName: "n1" }), CHANNEL_OPTIONS);
    onTestFinished(() => asNode.close());
    expect(await refused((done) => asNode.setLogLevel({ level: "debug" }, done))).toContain("may not use introspection");
    expect(await refused((done) => asNode.explainRecord({ node: "n1", key: POLICY }, done))).toContain("may not use introspection");
  });
});

describe("sedge with several servers", () => {
  it("status, clients and rebalance ask all of them; one that does not answer is named and makes the exit code 1", async () => {
    await using a = await startFanout({ events: WORLD, serverName: "pod-a" });
    await using b = await startFanout({ events: WORLD, serverName: "pod-b" });
    const agents = [agentFor(a.address, "n1"), agentFor(b.address, "n2")];
    await until(() => expect(agents.map(({ isLive }) => isLive)).toEqual([true, true]));
    const both = `${a.address},${b.address}`;
    const clients = await sedge("clients", "--server", both);
    expect(clients.code).toBe(0);
    const rows = clients.stdout
      .trim()
      .split("\n")
      .map((line) => line.split(/ {2,}/).slice(0, 2));
    expect(rows).toEqual([
      ["NODE", "SERVER"],
      ["n1", a.address],
      ["n2", b.address],
    ]);
    const status = await sedge("status", "--server", `${both},127.0.0.1:1`, "--timeout-ms", "2000");
    expect(status).toMatchObject({ code: 1, stderr: expect.stringContaining("127.0.0.1:1") });
    expect(status.stdout).toMatch(/pod-a[^]*pod-b[^]*2 of 3 servers answer; 2 agents connected/);
    const rebalance = await sedge("rebalance", "--dry-run", "--server", both);
    expect(rebalance).toMatchObject({ code: 0, stdout: expect.stringContaining(`${b.address}: 0 agents would be asked to move`) });
    const one = JSON.parse((await sedge("status", "--server", a.address, "-o", "json")).stdout) as { readonly server: string };
    expect(one.server).toBe("pod-a");
  });
});

describe("sedge diff", () => {
  it("the same; a record that the agent has otherwise, one too many, one too few", async () => {
    await using f = await startFanout({ events: WORLD });
    const n1 = agentFor(f.address, "n1");
    await until(() => expect(n1.isLive).toBe(true));
    const hashes = Object.fromEntries([...n1.view.records].map(([key, { hash }]) => [key, hash.toString(16).padStart(16, "0")]));
    const folder = await mkdtemp(join(tmpdir(), "sedge-diff-"));
    const socket = join(folder, "agent.sock");
    const kernel = { dataplane: "nftables", viewRevision: "7", programmedRevision: "7", kernelError: "", failures: [] as unknown[], drift: [] as unknown[] };
    const agent = createServer((request, response) => response.end(JSON.stringify(request.url === "/v1/view" ? { hashes } : kernel)));
    await new Promise<void>((resolve) => agent.listen(socket, resolve));
    onTestFinished(async () => {
      agent.close();
      await rm(folder, { recursive: true });
    });
    expect(await sedge("diff", "n1", "--socket", socket, "--server", f.address)).toMatchObject({ code: 0, stdout: expect.stringContaining("same view") });
    hashes["pool/p4"] = "0000000000000001";
    hashes["node/n9"] = "0000000000000002";
    delete hashes["endpoint/shop/web"];
    const { code, stdout } = await sedge("diff", "n1", "--socket", socket, "--server", f.address);
    expect(code).toBe(1);
    const cells = (text: string): string[][] =>
      text
        .trimEnd()
        .split("\n")
        .map((line) => line.split(/ {2,}/));
    expect(cells(stdout)).toEqual([
      ["RECORD", "SERVER", "AGENT", "KERNEL"],
      ["pod shop/web", "has it", "-", "-"],
      ["node n9", "-", "has it otherwise", "in force"],
      ["IPPool p4", "has it", "has it otherwise", "in force"],
    ]);
    Object.assign(kernel, { programmedRevision: "6", failures: [{ key: POLICY, reason: "the kernel says ENOENT" }], drift: [{ what: "chain x: not ours" }] });
    const more = cells((await sedge("diff", "n1", "--socket", socket, "--server", f.address)).stdout);
    expect(more).toContainEqual(["NetworkPolicy shop/allow-web", "has it", "the same", "not as the view says: the kernel says ENOENT"]);
    expect(more).toContainEqual(["kernel: chain x: not ours"]);
    expect(more).toContainEqual(["kernel: has revision 6, the agent's view is at 7"]);
    const away = await sedge("diff", "n1", "--socket", join(folder, "none.sock"), "--server", f.address);
    expect(away).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/the server has \d+ records for n1; what its agent and its kernel have is not seen from here/),
    });
  });
});

describe("ListClients", () => {
  it("names every client once, in order", async () => {
    await using f = await startFanout({ events: WORLD });
    const agents = Array.from({ length: 50 }, (_, i) => agentFor(f.address, `n${String(i).padStart(4, "0")}`));
    await until(() => expect(agents.every(({ isLive }) => isLive)).toBe(true));
    const client = new IntrospectionServiceClient(f.address, credentials.createInsecure(), CHANNEL_OPTIONS);
    onTestFinished(() => client.close());
    const names: string[] = [];
    for await (const { clients } of client.listClientPages({}) as AsyncIterable<ClientPage>) names.push(...clients.map(({ node: name }) => name));
    expect(names).toEqual(Array.from({ length: 50 }, (_, i) => `n${String(i).padStart(4, "0")}`));
  });
});
