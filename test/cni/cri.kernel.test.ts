/**
 * Pods' sandboxes as the kubelet makes them: containerd's CRI on a node of a real cluster (server, agents, policy), the conflist and the executable as
 * `sedge cni-install` puts them there, portmap beside.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { poll } from "../../src/demo/cluster.ts";
import { exec, execOk } from "../../src/runtime/exec.ts";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { Cluster } from "../kernel/cluster.ts";
import { untilWritten, writePod } from "../kernel/cluster-pods.ts";
import { whyNoKernel } from "../kernel/netns.ts";
import { CriClient } from "./cri-client.ts";
import { makePauseImage } from "./pause-image.ts";

const NODE = "n1";
const OTHER_NODE = "n2";
const NAMESPACE = "cri";
const IMAGE = "sedge.test/pause:1";
const PORT = 8080;
const HOST_PORT = 18_080;
const sedge = new URL("../../bin/sedge.ts", import.meta.url).pathname;
/** Answers every TCP connection with the word given; prints "ready". */
const SERVE = `require("node:net").createServer((s)=>s.end(process.argv[1])).listen(${PORT},"::",()=>console.log("ready"))`;
/** Prints what comes from ADDRESS PORT, or "nothing" after a second and a half. */
const FETCH = `const s=require("node:net").connect({host:process.argv[1],port:+process.argv[2]});let t="";const end=()=>{console.log(t||"nothing");process.exit()};s.on("data",d=>t+=d);s.on("close",end);s.on("error",end);setTimeout(end,1500)`;

function whyNot(): string | undefined {
  const missing = ["containerd", "ctr", "runc", "cc", "iptables"].filter((tool) => spawnSync("which", [tool]).status !== 0);
  if (!existsSync("/usr/lib/cni/portmap")) missing.push("containernetworking-plugins");
  return whyNoKernel() ?? (hasCniExecutable() ? undefined : "needs dist/cni/sedge-cni") ?? (missing.length > 0 ? `needs ${missing.join(", ")}` : undefined);
}
const why = whyNot();

describe.skipIf(why !== undefined)(`containerd's CRI [${why ?? "kernel"}]`, () => {
  let cluster: Cluster;
  let containerd: ChildProcess;
  let cri: CriClient;
  let folder = "";
  const servers: ChildProcess[] = [];
  const sandboxes: string[] = [];

  beforeAll(async () => {
    cluster = await Cluster.start();
    folder = join(cluster.dir, "containerd");
    mkdirSync(folder, { recursive: true });
    await cluster.api.patch(
      API_RESOURCES.Namespace,
      { name: NAMESPACE },
      { apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } },
      { type: "apply", fieldManager: "test" },
    );
    const socket = join(folder, "c.sock");
    writeFileSync(join(folder, "config.toml"), config(folder, socket));
    const log = openSync(join(folder, "containerd.log"), "w");
    containerd = spawn("nsenter", [`--net=/run/netns/${cluster.netnsOf(NODE)}`, "containerd", "--config", join(folder, "config.toml"), "--log-level", "warn"], {
      stdio: ["ignore", log, log],
      env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
    });
    await poll("containerd serves", 30_000, () => Promise.resolve(existsSync(socket)));
    await execOk(["ctr", "--address", socket, "-n", "k8s.io", "image", "import", makePauseImage(folder, IMAGE)]);
    cri = new CriClient(socket);
  });

  afterAll(async () => {
    for (const server of servers) server.kill("SIGKILL");
    for (const id of sandboxes) {
      await cri.stopPodSandbox(id).catch(() => undefined);
      await cri.removePodSandbox(id).catch(() => undefined);
    }
    cri?.close();
    if (containerd !== undefined && containerd.exitCode === null) {
      const ended = once(containerd, "exit");
      containerd.kill("SIGTERM");
      await ended;
    }
    await cluster?.[Symbol.asyncDispose]();
  });

  async function sandbox(
    name: string,
    over: { readonly hostPort?: number; readonly attempt?: number; readonly annotations?: Readonly<Record<string, string>> } = {},
  ): Promise<string> {
    const uid = await writePod(cluster, { namespace: NAMESPACE, name, node: NODE, labels: { app: name }, ports: [] });
    const ports = over.hostPort === undefined ? [] : [{ protocol: "TCP" as const, containerPort: PORT, hostPort: over.hostPort }];
    const id = await cri.runPodSandbox({
      name,
      namespace: NAMESPACE,
      uid,
      logDirectory: folder,
      ports,
      attempt: over.attempt ?? 0,
      annotations: over.annotations ?? {},
    });
    sandboxes.push(id);
    return id;
  }

  async function serve(id: string, word: string): Promise<string> {
    const { netns, addresses } = await cri.podSandboxStatus(id);
    const server = spawn("nsenter", [`--net=${netns}`, process.execPath, "-e", SERVE, word], { stdio: ["ignore", "pipe", "inherit"] });
    servers.push(server);
    if (server.stdout !== null) for await (const line of createInterface({ input: server.stdout })) if (line === "ready") break;
    return addresses[0] ?? "";
  }

  async function fetched(netns: string, address: string, port: number): Promise<string> {
    return (await execOk(["nsenter", `--net=${netns}`, process.execPath, "-e", FETCH, address, String(port)])).trim();
  }
  const nodeNetns = (node: string): string => `/run/netns/${cluster.netnsOf(node)}`;

  it("the network is ready when the installer has run, not before", async () => {
    const before = (await cri.conditions()).get("NetworkReady");
    expect(before?.isMet).toBe(false);
    const places = ["--bin-dir", join(folder, "bin"), "--conf-dir", join(folder, "net.d"), "--plugins-from", "/usr/lib/cni"];
    const agent = ["--socket", cluster.socketOf(NODE), "--queue-dir", cluster.queueDirOf(NODE)];
    const chain = ["--chain", "portmap", "--chain", "bandwidth", "--chain", "tuning", "--sysctl", "net.ipv4.tcp_keepalive_time=41"];
    const { code, stderr } = await exec([process.execPath, sedge, "cni-install", ...places, ...agent, ...chain], { timeoutMs: 60_000 });
    expect(code, stderr).toBe(0);
    await poll("NetworkReady", 20_000, async () => (await cri.conditions()).get("NetworkReady")?.isMet === true);
  });

  it("RunPodSandbox: an address, a name in policy, tuning's sysctl and bandwidth's shaping; StopPodSandbox gives all back, twice", async () => {
    const id = await sandbox("web", { annotations: { "kubernetes.io/ingress-bandwidth": "12M" } });
    const status = await cri.podSandboxStatus(id);
    expect(status).toMatchObject({ isReady: true });
    expect(status.addresses[0]).toMatch(/^10\./);
    expect((await execOk(["nsenter", `--net=${status.netns}`, "sysctl", "-n", "net.ipv4.tcp_keepalive_time"])).trim()).toBe("41");
    expect(await cluster.ip(NODE, "route", "show", `${status.addresses[0] ?? ""}/32`)).toMatch(/dev cali/);
    expect(await execOk(["nsenter", `--net=${nodeNetns(NODE)}`, "tc", "qdisc", "show"])).toMatch(/qdisc tbf .*dev cali\w+ .*rate 12Mbit/);
    const address = await serve(id, "web");
    const client = await sandbox("client");
    const clientNetns = (await cri.podSandboxStatus(client)).netns;
    expect(await fetched(clientNetns, address, PORT)).toBe("web");
    await cri.stopPodSandbox(id);
    await cri.stopPodSandbox(id);
    expect(await cluster.ip(NODE, "route", "show", `${address}/32`)).toBe("");
    await cluster.agentUntil(NODE, "one pod is left", ({ localEndpoints }) => localEndpoints === 1);
  });

  it("a sandbox is protected from its first moment: closed by policy, and open where policy opens it", async () => {
    await untilWritten(() =>
      cluster.api.patch(
        API_RESOURCES.NetworkPolicy,
        { namespace: NAMESPACE, name: "from-friend" },
        {
          apiVersion: "networking.k8s.io/v1",
          kind: "NetworkPolicy",
          metadata: { namespace: NAMESPACE, name: "from-friend" },
          spec: {
            podSelector: { matchLabels: { app: "shut" } },
            policyTypes: ["Ingress"],
            ingress: [{ from: [{ podSelector: { matchLabels: { app: "friend" } } }] }],
          },
        },
        { type: "apply", fieldManager: "test" },
      ),
    );
    const shut = await sandbox("shut", { hostPort: HOST_PORT + 1 });
    const address = await serve(shut, "shut");
    const stranger = (await cri.podSandboxStatus(await sandbox("stranger"))).netns;
    const friend = (await cri.podSandboxStatus(await sandbox("friend"))).netns;
    expect(await fetched(stranger, address, PORT)).toBe("nothing");
    expect(await fetched(friend, address, PORT)).toBe("shut");
    // A host port is no way round policy.
    expect(await fetched(nodeNetns(OTHER_NODE), await nodeAddress(NODE), HOST_PORT + 1)).toBe("nothing");
  });

  it("a hostPort by portmap: from another node, from a pod and from the node itself; gone with the sandbox", async () => {
    const id = await sandbox("host-port", { hostPort: HOST_PORT });
    await serve(id, "by-host-port");
    const node = await nodeAddress(NODE);
    expect(await fetched(nodeNetns(OTHER_NODE), node, HOST_PORT)).toBe("by-host-port");
    expect(await fetched(nodeNetns(NODE), node, HOST_PORT)).toBe("by-host-port");
    const client = (await cri.podSandboxStatus(await sandbox("port-client"))).netns;
    expect(await fetched(client, node, HOST_PORT)).toBe("by-host-port");
    await cri.stopPodSandbox(id);
    expect(await fetched(nodeNetns(OTHER_NODE), node, HOST_PORT)).toBe("nothing");
  });

  it("the agent away: RunPodSandbox fails with the reason and leaves nothing; StopPodSandbox succeeds, and the address comes back with the agent", async () => {
    const id = await sandbox("survivor");
    const { localEndpoints: before } = await cluster.agentUntil(NODE, "it knows the pod", () => true);
    await cluster.kill(`agent-${NODE}`);
    await expect(sandbox("too-early")).rejects.toThrow(/agent of this node does not answer/);
    await cri.stopPodSandbox(id);
    cluster.startAgent(NODE);
    await cluster.agentUntil(NODE, "the queued DEL is done", ({ localEndpoints }) => localEndpoints === before - 1);
    const again = await sandbox("too-early", { attempt: 1 });
    expect((await cri.podSandboxStatus(again)).isReady).toBe(true);
  });

  async function nodeAddress(node: string): Promise<string> {
    const links = JSON.parse(await cluster.ip(node, "-j", "-4", "address", "show", "scope", "global")) as { ifname: string; addr_info: { local: string }[] }[];
    return links.find(({ ifname }) => !ifname.startsWith("cali"))?.addr_info[0]?.local ?? "";
  }
});

function config(folder: string, socket: string): string {
  return `version = 2
root = "${folder}/root"
state = "${folder}/state"
[grpc]
  address = "${socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${folder}/bin"
    conf_dir = "${folder}/net.d"
`;
}
