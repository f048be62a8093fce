/**
 * A node in trouble: state on disk that is damaged, missing, full or read-only, servers that are away, an identity that is not its own. Each time: a clear word
 * in the log, the kernel as it was, pods that keep their addresses, and everything level again afterwards.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { poll } from "../../src/demo/cluster.ts";
import type { NaivePolicy } from "../conformance/naive-network-policy.ts";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { AccountedTraffic } from "./accounted-traffic.ts";
import { portsOf } from "./chaos-world.ts";
import { Cluster } from "./cluster.ts";
import { type ConnectedPod, cniCode, connectPod, disconnectPod, untilWritten, writeNamespace, writeNetworkPolicy } from "./cluster-pods.ts";
import { contentsDifference, kernelProblems, nodeContents } from "./kernel-contents.ts";
import { whyNoKernel } from "./netns.ts";
import { SmallDisk } from "./small-disk.ts";

const noKernel = whyNoKernel() ?? (hasCniExecutable() ? undefined : "needs dist/cni/sedge-cni: node scripts/build-cni.mjs");
/** The node that is in trouble. */
const NODE = "n1";
const AGENT = `agent-${NODE}`;
const STATE_FILES = ["view.snapshot", "view.log", "addresses.snapshot", "addresses.log"] as const;

const NO_DIFFERENCE = contentsDifference("", "");

const DAMAGE: Readonly<Record<string, (path: string) => void>> = {
  garbage: (path) => writeFileSync(path, "this is not what was written here\n".repeat(50)),
  "first half": (path) => truncateSync(path, Math.floor(readFileSync(path).length / 2)),
  "one bit": (path) => {
    const bytes = readFileSync(path);
    bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 4, bytes.length >> 1);
    writeFileSync(path, bytes);
  },
  missing: (path) => rmSync(path),
};

describe.skipIf(noKernel !== undefined)(`a node in trouble [${noKernel ?? "kernel"}]`, () => {
  let cluster: Cluster;
  let traffic: AccountedTraffic;
  const pods: ConnectedPod[] = [];
  const failures: string[] = [];

  beforeAll(async () => {
    cluster = await Cluster.start();
    await writeNamespace(cluster, "a");
    traffic = new AccountedTraffic({ tcpPorts: [8080], udpPorts: [9000], packetsPerSecond: 200, maxFlows: 8, onFailure: (what) => failures.push(what) });
    for (const [i, node] of [NODE, NODE, "n2"].entries()) {
      const pod = await connectPod(cluster, { namespace: "a", name: `pod-${i}`, node, labels: { app: i === 0 ? "x" : "y" }, ports: portsOf("x") });
      pods.push(pod);
      traffic.addPod({ id: pod.name, netns: pod.netns.path, addresses: pod.addresses });
    }
    // pod-0 takes UDP only: TCP to it is what must never pass.
    await setPolicy("udp-only", {
      podSelector: { matchLabels: { app: "x" } },
      policyTypes: ["Ingress"],
      ingress: [{ ports: [{ protocol: "UDP", port: 9000 }] }],
    });
    await expectLevel();
    judgeAll();
    traffic.start();
    await traffic.untilAllProbed();
  });

  afterAll(async () => {
    traffic?.stop();
    await cluster?.[Symbol.asyncDispose]();
  });

  /** A test that failed leaves nothing to the next. */
  afterEach(async () => {
    if (!cluster.isUp("api")) await cluster.startApi();
    if (!cluster.isUp("fanout")) cluster.startFanout();
    if (!cluster.isUp(AGENT)) cluster.startAgent(NODE);
    await expectLevel();
    judgeAll();
    failures.splice(0);
  });

  function judgeAll(): void {
    traffic.judge(({ to, protocol }) => (to === "pod-0" && protocol === "TCP" ? "deny" : "allow"));
  }

  function setPolicy(name: string, spec: NaivePolicy["spec"]): Promise<void> {
    return writeNetworkPolicy(cluster, { metadata: { namespace: "a", name }, spec });
  }

  /** Changes nothing for any packet, is there to be seen in the kernel, and is larger than a page of a disk. */
  async function setHarmlessPolicy(name: string): Promise<void> {
    const ports = Array.from({ length: 600 }, (_, i) => ({ protocol: "TCP", port: 10_000 + 7 * i }));
    await setPolicy(name, { podSelector: { matchLabels: { app: "y" } }, policyTypes: ["Ingress"], ingress: [{}, { ports }] });
  }

  async function deletePolicy(name: string): Promise<void> {
    await untilWritten(() => cluster.api.delete(API_RESOURCES.NetworkPolicy, { namespace: "a", name }));
  }

  /** Everyone has everything, the node's agent included, and the kernels hold what they should. */
  async function expectLevel(): Promise<void> {
    await cluster.untilLevel();
    await cluster.agentUntil(
      NODE,
      "is level",
      (status) => status.isSynced && status.programmedRevision === status.view.revision && status.unconfirmedReports === 0,
    );
    let problems: readonly string[] = ["not looked at"];
    const names = ["a/udp-only", ...harmless.map((name) => `a/${name}`)];
    await poll("the kernels hold what they should", 15_000, async () => {
      problems = await kernelProblems(
        cluster,
        pods.map((pod) => ({ ...pod, name: `a/${pod.name}` })),
        names,
      );
      return problems.length === 0;
    }).catch(() => undefined);
    expect(problems).toEqual([]);
  }

  const harmless: string[] = [];

  /** No packet was judged wrong since the last look, and every lane has been looked at. */
  async function expectRightPackets(): Promise<void> {
    await traffic.untilAllProbed();
    expect(failures.splice(0)).toEqual([]);
  }

  async function restart(): Promise<void> {
    await cluster.kill(AGENT);
    cluster.startAgent(NODE);
  }

  /** The part of the log that was written since `before`. */
  function newLog(before: string): string {
    return cluster.log(AGENT).slice(before.length);
  }

  it.each(STATE_FILES)("%s is damaged in each way: said in the log, the kernel as it was, level again", async (file) => {
    const path = join(cluster.stateDirOf(NODE), file);
    await expectLevel();
    const before = await nodeContents(cluster, NODE);
    for (const [how, damage] of Object.entries(DAMAGE)) {
      const log = cluster.log(AGENT);
      await cluster.kill(AGENT);
      const bytes = readFileSync(path);
      damage(path);
      const isDamaged = existsSync(path) && !readFileSync(path).equals(bytes);
      cluster.startAgent(NODE);
      await cluster.agentUntil(
        NODE,
        `is level, ${file} with ${how}`,
        ({ isSynced, programmedRevision, view }) => isSynced && programmedRevision === view.revision,
      );
      expect({ how, isNamed: newLog(log).includes(path) }).toEqual({ how, isNamed: isDamaged });
      expect(contentsDifference(before, await nodeContents(cluster, NODE)), how).toBe(NO_DIFFERENCE);
    }
    // What was set aside is there for a person to look at, and does not come back as a problem.
    const log = cluster.log(AGENT);
    await restart();
    await expectLevel();
    expect(newLog(log)).not.toContain(`${path}:`);
    expect(readdirSync(cluster.stateDirOf(NODE)).filter((name) => name.startsWith(`${file}.corrupt`))).not.toEqual([]);
    await expectRightPackets();
  });

  it("a state file that cannot be read (a directory in its place) stops the agent with its name; the kernel stays", async () => {
    const before = await nodeContents(cluster, NODE);
    await cluster.kill(AGENT);
    const path = join(cluster.stateDirOf(NODE), "view.log");
    rmSync(path);
    mkdirSync(path);
    const log = cluster.log(AGENT);
    cluster.startAgent(NODE);
    expect(await cluster.ended(AGENT)).toBe(1);
    expect(newLog(log)).toContain(path);
    expect(contentsDifference(before, await nodeContents(cluster, NODE))).toBe(NO_DIFFERENCE);
    await expectRightPackets();
    rmSync(path, { recursive: true });
    cluster.startAgent(NODE);
    await expectLevel();
    await expectRightPackets();
  });

  it("boots into its last policy with no server in reach", async () => {
    await expectLevel();
    const before = await nodeContents(cluster, NODE);
    await cluster.kill(AGENT);
    await cluster.kill("fanout");
    traffic.judge(() => "open");
    await cluster.nft(NODE, "delete", "table", "inet", "sedge");
    for (const family of ["-4", "-6"]) await cluster.ip(NODE, family, "route", "flush", "table", "main", "proto", "94");
    cluster.startAgent(NODE);
    await poll("the last policy is in force again", 10_000, async () => (await nodeContents(cluster, NODE)) === before).catch(async () =>
      expect.fail(contentsDifference(before, await nodeContents(cluster, NODE))),
    );
    judgeAll();
    await expectRightPackets();
    // Pods come and go: addresses of own blocks need no server; what is not known about a new pod's policy keeps it closed.
    expect((await cluster.agentStatus(NODE))?.isConnected).toBe(false);
    cluster.startFanout();
    await expectLevel();
    await expectRightPackets();
  });

  it("boots closed with neither state nor server, and opens when there is one", async () => {
    await cluster.kill(AGENT);
    await cluster.kill("fanout");
    rmSync(cluster.stateDirOf(NODE), { recursive: true });
    traffic.judge(() => "open");
    traffic.endFlows();
    await cluster.nft(NODE, "delete", "table", "inet", "sedge");
    for (const family of ["-4", "-6"]) await cluster.ip(NODE, family, "route", "flush", "table", "main", "proto", "94");
    cluster.startAgent(NODE);
    await poll("what is ours drops", 10_000, async () => (await nodeContents(cluster, NODE)).includes("table inet sedge"));
    traffic.judge(({ to, protocol }) => (to === "pod-0" && protocol === "TCP" ? "deny" : "open"));
    await expectRightPackets();
    const { pod, netns } = { pod: "stranger", netns: pods[0]?.netns.path ?? "" };
    const { stdout } = await cluster.cni({ command: "ADD", node: NODE, namespace: "a", pod, uid: "", containerId: "stranger", netns });
    expect(cniCode(stdout), stdout).toBe(11);
    cluster.startFanout();
    await expectLevel();
    judgeAll();
    await expectRightPackets();
  });

  // The embedded API is silent about what does not change for up to 10 s.
  it("a server that is away for long makes the data stale, and nothing else", async () => {
    await cluster.kill(AGENT);
    cluster.startAgent(NODE, { extra: ["--stale-after-ms", "12000"] });
    await expectLevel();
    const before = await nodeContents(cluster, NODE);
    await cluster.kill("fanout");
    await cluster.agentUntil(NODE, "says that its data is stale", ({ isStale, isConnected }) => isStale && !isConnected);
    expect(contentsDifference(before, await nodeContents(cluster, NODE))).toBe(NO_DIFFERENCE);
    await expectRightPackets();
    cluster.startFanout();
    await cluster.agentUntil(NODE, "has fresh data", ({ isStale, isSynced }) => !isStale && isSynced);
    await expectLevel();
    await restart();
    await expectLevel();
  });

  it("an API that is away makes the data stale at every agent, and nothing else", async () => {
    await cluster.kill("api");
    await cluster.kill("fanout");
    cluster.startFanout();
    await poll("the agent is without a server", 10_000, async () => (await cluster.agentStatus(NODE))?.isConnected === false);
    await expectRightPackets();
    await cluster.startApi();
    await expectLevel();
    await expectRightPackets();
  });

  it("a second agent on the same state directory is refused, and the first does not notice", async () => {
    const before = await cluster.agentStatus(NODE);
    cluster.startAgent(NODE, { name: "second", socket: join(cluster.dir, "second.sock") });
    expect(await cluster.ended("second")).toBe(1);
    expect(cluster.log("second")).toMatch(/in use by another agent/);
    expect(cluster.log("second")).toContain(cluster.stateDirOf(NODE));
    expect((await cluster.agentStatus(NODE))?.view.digest).toBe(before?.view.digest);
    cluster.startAgent(NODE, { name: "second", stateDir: join(cluster.dir, "second-state") });
    expect(await cluster.ended("second")).toBe(1);
    expect(cluster.log("second")).toMatch(/served by another agent/);
    await expectLevel();
    await expectRightPackets();
  });

  it("another node's certificate: refused with names at both ends; the last state stays in force", async () => {
    const before = await nodeContents(cluster, NODE);
    const [agentLog, serverLog] = [cluster.log(AGENT), cluster.log("fanout")];
    await cluster.kill(AGENT);
    cluster.startAgent(NODE, { certificateOf: "n2" });
    await poll("both ends say so", 10_000, () =>
      Promise.resolve(
        /PERMISSION_DENIED/.test(newLog(agentLog)) &&
          /n2/.test(cluster.log("fanout").slice(serverLog.length)) &&
          /n1/.test(cluster.log("fanout").slice(serverLog.length)),
      ),
    ).catch((error: unknown) => expect.fail(`${String(error)}\nagent: ${newLog(agentLog)}\nserver: ${cluster.log("fanout").slice(serverLog.length)}`));
    expect(contentsDifference(before, await nodeContents(cluster, NODE))).toBe(NO_DIFFERENCE);
    await expectRightPackets();
    await restart();
    await expectLevel();
  });

  it("a state directory of another node stops the agent with both names", async () => {
    await cluster.kill(AGENT);
    const foreign = join(cluster.dir, "foreign-state");
    cpSync(cluster.stateDirOf("n2"), foreign, { recursive: true, filter: (source) => !source.endsWith(".lock") });
    const log = cluster.log(AGENT);
    cluster.startAgent(NODE, { stateDir: foreign });
    expect(await cluster.ended(AGENT)).toBe(1);
    expect(newLog(log)).toMatch(/"?n2"?.*this agent is.*n1/);
    cluster.startAgent(NODE);
    await expectLevel();
    await expectRightPackets();
  });

  it("a queued DEL that is garbage is set aside by name, and those behind it are done", async () => {
    await cluster.kill(AGENT);
    const log = cluster.log(AGENT);
    mkdirSync(cluster.queueDirOf(NODE), { recursive: true });
    writeFileSync(join(cluster.queueDirOf(NODE), "0.json"), "{ not JSON");
    writeFileSync(join(cluster.queueDirOf(NODE), "1.json"), '{"version":1}');
    writeFileSync(join(cluster.queueDirOf(NODE), "2.json"), "[]");
    const extra = await (async () => {
      cluster.startAgent(NODE);
      const pod = await connectPod(cluster, { namespace: "a", name: "short", node: NODE, labels: { app: "y" }, ports: [] });
      await cluster.kill(AGENT);
      return pod;
    })();
    await disconnectPod(cluster, extra);
    expect(readdirSync(cluster.queueDirOf(NODE)).filter((name) => name.endsWith(".json"))).toHaveLength(1);
    cluster.startAgent(NODE);
    await expectLevel();
    await poll("the queue is empty", 10_000, () => Promise.resolve(readdirSync(cluster.queueDirOf(NODE)).every((name) => name.endsWith(".corrupt"))));
    for (const name of ["0.json", "1.json", "2.json"]) expect(newLog(log)).toContain(join(cluster.queueDirOf(NODE), name));
    await expectRightPackets();
  });

  it("a full disk: policy still reaches the kernel, ADD says what to do, and nothing is wrong afterwards", async () => {
    await cluster.kill(AGENT);
    await using disk = await SmallDisk.mount(join(cluster.dir, "small"), 512 * 1024);
    const stateDir = join(disk.path, "state");
    cpSync(cluster.stateDirOf(NODE), stateDir, { recursive: true, filter: (source) => !source.endsWith(".lock") });
    const log = cluster.log(AGENT);
    cluster.startAgent(NODE, { stateDir });
    await expectLevel();
    disk.fill();
    harmless.push("while-full");
    await setHarmlessPolicy("while-full");
    await expectLevel();
    await expectRightPackets();
    expect(newLog(log)).toContain("the view cannot be written to disk");
    // What is written in advance may have room left: the next that needs a page has none.
    let stdout = "";
    for (let tries = 0; tries < 40 && !stdout.includes("disk"); tries++) {
      const pod = `one-more-${tries}`;
      ({ stdout } = await cluster.cni({ command: "ADD", node: NODE, namespace: "a", pod, uid: "", containerId: pod, netns: "/run/netns/there-is-none" }));
    }
    expect(stdout).toMatch(/disk/);
    await cluster.kill(AGENT);
    cluster.startAgent(NODE, { stateDir });
    expect(await cluster.ended(AGENT)).toBe(1);
    expect(newLog(log)).toMatch(new RegExp(`${stateDir}.*no space left|no space left.*${stateDir}`));
    await expectRightPackets();
    disk.empty();
    cluster.startAgent(NODE, { stateDir });
    await expectLevel();
    await expectRightPackets();
    await disk.setReadOnly(false);
    await cluster.kill(AGENT);
    await disk.setReadOnly(true);
    cluster.startAgent(NODE, { stateDir });
    expect(await cluster.ended(AGENT)).toBe(1);
    expect(newLog(log)).toMatch(new RegExp(`${stateDir}.*read-only|read-only.*${stateDir}`));
    await expectRightPackets();
    cluster.startAgent(NODE);
    await deletePolicy("while-full");
    harmless.splice(0);
    await expectLevel();
    await expectRightPackets();
  });
});
