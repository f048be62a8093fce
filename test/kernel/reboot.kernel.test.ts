/**
 * A node that reboots while its server is away, with real programs, the CNI executable and packets: pods come back with their addresses, of both families, and no
 * packet passes that the last policy denies, from the first moment on; whichever comes first, the DEL of the old sandbox or the ADD of the new one.
 */
import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { inNetns } from "../../agent/drivers/netlink/libc.ts";
import { poll } from "../../src/demo/cluster.ts";
import { parseIp } from "../../src/net/ip.ts";
import { execOk } from "../../src/runtime/exec.ts";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { Cluster, nodeOf } from "./cluster.ts";
import { type ConnectedPod, connectPod, writeNamespace, writeNetworkPolicy } from "./cluster-pods.ts";
import { Connection } from "./connection.ts";
import { whyNoKernel } from "./netns.ts";
import type { PlaceSpec } from "./packets.ts";
import { AF_INET, AF_INET6, bindSocket, closeSocket, openSocketHere, SOCK_DGRAM, sendTo, tryReceive } from "./sockets.ts";

const noKernel = whyNoKernel() ?? (hasCniExecutable() ? undefined : "needs dist/cni/sedge-cni: node scripts/build-cni.mjs");
const NODE = "n1";
const AGENT = `agent-${NODE}`;
const FLOOD_PORT = 9000;
const TCP_PORT = 8080;
const ANY = { 4: parseIp("0.0.0.0"), 6: parseIp("::") } as const;

describe.skipIf(noKernel !== undefined)(`a node that reboots [${noKernel ?? "kernel"}]`, () => {
  let cluster: Cluster;
  /** Of the node that reboots, by name. */
  const here = new Map<string, ConnectedPod>();
  let friend: ConnectedPod;
  let stranger: ConnectedPod;
  let reboots = 0;

  beforeAll(async () => {
    cluster = await Cluster.start();
    await writeNamespace(cluster, "a");
    const connect = (name: string, node: string, app: string): Promise<ConnectedPod> =>
      connectPod(cluster, { namespace: "a", name, node, labels: { app }, ports: [] });
    for (const app of ["web", "client", "other"]) here.set(app, await connect(app, NODE, app));
    [friend, stranger] = [await connect("friend", "n2", "client"), await connect("stranger", "n2", "other")];
    const spec = {
      podSelector: { matchLabels: { app: "web" } },
      policyTypes: ["Ingress"],
      ingress: [{ from: [{ podSelector: { matchLabels: { app: "client" } } }] }],
    };
    await writeNetworkPolicy(cluster, { metadata: { namespace: "a", name: "clients-only" }, spec });
    await cluster.untilLevel();
    await poll("policy is in force", 10_000, () => Promise.resolve(isReached(friend, "web", 4) && !isReached(stranger, "web", 6)));
  }, 120_000);

  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
  });

  function pod(name: string): ConnectedPod {
    const found = here.get(name);
    if (found === undefined) throw new Error(`no pod ${name}`);
    return found;
  }

  const place = ({ addresses, name, netns }: ConnectedPod): PlaceSpec => ({ name, netns: netns.path, addresses, isUnguarded: true });
  function isReached(from: ConnectedPod, to: string, version: 4 | 6): boolean {
    using connection = new Connection({ from: place(from), to: place(pod(to)), version, protocol: "TCP", port: TCP_PORT, deadlineMs: 300 });
    return connection.passes();
  }

  /** Kernel state and /run are gone, of pods and of the node; the state directory stays. The network card is the same. */
  async function reboot(): Promise<void> {
    await cluster.kill("fanout");
    await cluster.kill(AGENT);
    const [eth0] = JSON.parse(await cluster.ip(NODE, "-j", "link", "show", "eth0")) as { address: string }[];
    const bridge = await bridgeAddress();
    for (const { netns } of here.values()) await execOk(["ip", "netns", "delete", netns.name]);
    await execOk(["ip", "-n", cluster.network.fabric, "link", "delete", NODE]);
    await execOk(["ip", "netns", "delete", cluster.netnsOf(NODE)]);
    await cluster.network.createNode(nodeOf(NODE));
    await cluster.ip(NODE, "link", "set", "eth0", "address", eth0?.address ?? "");
    rmSync(cluster.socketOf(NODE), { force: true });
    rmSync(cluster.queueDirOf(NODE), { recursive: true, force: true });
    expect(await cluster.nft(NODE, "list", "ruleset")).toBe("");
    // Otherwise the other nodes would not reach the server that starts again, until they ask for its address anew.
    expect(await bridgeAddress()).toBe(bridge);
    cluster.startAgent(NODE);
  }

  async function bridgeAddress(): Promise<string | undefined> {
    const [bridge] = JSON.parse(await execOk(["ip", "-n", cluster.network.fabric, "-j", "link", "show", "br0"])) as { address: string }[];
    return bridge?.address;
  }

  /** Both pods of the other node send to the addresses, with a new port for each packet, until it is disposed. */
  function flood({ addresses }: ConnectedPod): Disposable & { readonly sent: () => number } {
    let sent = 0;
    const timer = setInterval(() => {
      for (const from of [friend, stranger])
        for (const address of addresses) {
          const fd = inNetns(from.netns.path, () => openSocketHere(address.includes(":") ? AF_INET6 : AF_INET, SOCK_DGRAM));
          sendTo(fd, Buffer.from(from.name), { address, port: FLOOD_PORT });
          closeSocket(fd);
          sent++;
        }
    }, 2);
    return { sent: () => sent, [Symbol.dispose]: () => clearInterval(timer) };
  }

  async function deleteOld({ containerId, name, namespace, node, uid }: ConnectedPod): Promise<void> {
    // The old sandbox's namespace is gone, and the runtime knows.
    const { code, stdout } = await cluster.cni({ command: "DEL", node, namespace, pod: name, uid, containerId, netns: "" });
    expect([code, stdout]).toEqual([0, ""]);
  }

  it.each([
    { order: "DEL of the old sandbox, then ADD of the new one", isDeletedFirst: true },
    { order: "ADD of the new sandbox, then DEL of the old one", isDeletedFirst: false },
  ])("$order: the same addresses, and policy before traffic", async ({ isDeletedFirst }) => {
    if (!cluster.isUp("fanout")) {
      cluster.startFanout();
      await cluster.untilLevel();
    }
    const before = new Map(here);
    await reboot();
    using flooding = flood(pod("web"));
    using arrived = new Arrivals();
    const tag = `again-${++reboots}`;
    for (const old of before.values()) {
      if (isDeletedFirst) await deleteOld(old);
      const again = await connectPod(cluster, old, { tag, onNetns: (path) => (old.name === "web" ? arrived.listen(path) : undefined) });
      here.set(old.name, again);
      expect([old.name, again.uid, again.addresses]).toEqual([old.name, old.uid, old.addresses]);
      if (!isDeletedFirst) await deleteOld(old);
    }
    const sentBefore = flooding.sent();
    await poll("who may send is heard, of both families", 10_000, () => Promise.resolve(arrived.senders().length >= 2 && flooding.sent() > sentBefore + 400));
    expect(arrived.senders()).toEqual(["friend/4", "friend/6"]);
    for (const version of [4, 6] as const) {
      const reached = [pod("client"), pod("other"), friend, stranger].filter((from) => isReached(from, "web", version)).map(({ name }) => name);
      expect([version, ...reached]).toEqual([version, "client", "friend"]);
    }
    expect((await cluster.agentStatus(NODE))?.isConnected).toBe(false);
  });
});

/** Who was heard on the port since the sockets were there, before the pod had an interface. */
class Arrivals implements Disposable {
  readonly #sockets: { readonly fd: number; readonly version: 4 | 6 }[] = [];
  readonly #senders = new Set<string>();

  listen(netns: string): void {
    for (const version of [4, 6] as const) {
      const fd = inNetns(netns, () => {
        const socket = openSocketHere(version === 4 ? AF_INET : AF_INET6, SOCK_DGRAM);
        bindSocket(socket, { address: ANY[version], port: FLOOD_PORT });
        return socket;
      });
      this.#sockets.push({ fd, version });
    }
  }

  /** "<sender>/<family>". */
  senders(): readonly string[] {
    for (const { fd, version } of this.#sockets)
      for (let found = tryReceive(fd); typeof found === "object"; found = tryReceive(fd)) this.#senders.add(`${found.bytes.toString()}/${version}`);
    return [...this.#senders].sort();
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.#sockets) closeSocket(fd);
  }
}
