/**
 * Limits put on pods that run, changed, mistyped and taken away: from the annotation on the object to the kernel, with real programs and with packets.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { poll } from "../../src/demo/cluster.ts";
import { execOk } from "../../src/runtime/exec.ts";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { Cluster } from "./cluster.ts";
import { annotatePod, type ConnectedPod, connectPod, writeNamespace } from "./cluster-pods.ts";
import { acceptConnections, connectionsOpened, datagramsReceived } from "./limit-probes.ts";
import { whyNoKernel } from "./netns.ts";

const noKernel = whyNoKernel() ?? (hasCniExecutable() ? undefined : "needs dist/cni/sedge-cni: node scripts/build-cni.mjs");
/** A socket's buffer holds them all, however late its reader is. */
const SENT = 80;
/** More than any of the limits lets through at once. */
const FEW = 40;

describe.skipIf(noKernel !== undefined)(`limits of pods that run [${noKernel ?? "kernel"}]`, () => {
  let cluster: Cluster;
  let node = "";
  let web: ConnectedPod;
  let client: ConnectedPod;

  beforeAll(async () => {
    cluster = await Cluster.start();
    [node = ""] = cluster.nodes;
    await writeNamespace(cluster, "qos");
    const connect = (name: string): Promise<ConnectedPod> => connectPod(cluster, { namespace: "qos", name, node, labels: {}, ports: [] });
    [web, client] = [await connect("web"), await connect("client")];
  }, 180_000);

  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
  });

  /** Of the pod `web`; null takes one away. */
  const annotate = (values: Readonly<Record<string, string | null>>): Promise<void> => {
    const annotations = Object.fromEntries(Object.entries(values).map(([name, value]) => [`qos.projectcalico.org/${name}`, value]));
    return annotatePod(cluster, web, annotations);
  };
  const ipv4Of = ({ addresses }: ConnectedPod): string => addresses.find((address) => address.includes(".")) ?? "";
  const onNode = (...argv: readonly string[]): Promise<string> => execOk(["ip", "netns", "exec", cluster.netnsOf(node), ...argv]);
  const queues = (): Promise<string> => onNode("tc", "qdisc", "show");
  const table = (): Promise<string> => cluster.nft(node, "list", "table", "inet", "sedge");
  const until = (what: string, read: () => Promise<string>, pattern: RegExp): Promise<void> => poll(what, 20_000, async () => pattern.test(await read()));
  const untilGone = (what: string, read: () => Promise<string>, pattern: RegExp): Promise<void> => poll(what, 20_000, async () => !pattern.test(await read()));
  const toWeb = (): Promise<number> => datagramsReceived({ from: client.netns, to: web.netns, address: ipv4Of(web), count: SENT });
  const fromWeb = (): Promise<number> => datagramsReceived({ from: web.netns, to: client.netns, address: ipv4Of(client), count: SENT });
  const problems = async (): Promise<string> => (await cluster.server.status()).invalid.map(({ object, problem }) => `${object}: ${problem}`).join();

  it("bandwidth: put on, raised, mistyped (the value before it holds, and it is said where), taken away", async () => {
    expect([await toWeb(), await fromWeb()]).toEqual([SENT, SENT]);
    await annotate({ ingressBandwidth: "80k", ingressBurst: "24k", egressBandwidth: "90k", egressBurst: "24k" });
    await until("a queue to the pod", queues, /tbf 5ed6: dev cali\w+ root .*rate 80Kbit burst 3000b/);
    await until("a queue from the pod", queues, /tbf 5ed6: dev sdgq\w+ root .*rate 90Kbit /);
    for (const passed of [await toWeb(), await fromWeb()]) {
      expect(passed).toBeGreaterThan(0);
      expect(passed).toBeLessThan(FEW);
    }
    await annotate({ ingressBandwidth: "900M", ingressBurst: "9M", egressBandwidth: null, egressBurst: null });
    await until("the queue has another rate", queues, /tbf 5ed6: dev cali\w+ root .*rate 900Mbit/);
    await untilGone("the queue from the pod goes", queues, /dev sdgq/);
    expect([await toWeb(), await fromWeb()]).toEqual([SENT, SENT]);
    await annotate({ ingressBandwidth: "fast" });
    const said = 'qos.projectcalico.org/ingressBandwidth: "fast" is no quantity, for example 10M; "900M" of before stays in force';
    await poll("the server says so, with the pod", 20_000, async () => (await problems()).includes(`Pod qos/web: ${said}`));
    const log = (): readonly string[] => cluster.log(`agent-${node}`).split("\n");
    await poll("the node's log says so", 20_000, () =>
      Promise.resolve(log().some((line) => line.includes("endpoint/qos/web") && line.includes(JSON.stringify(said)))),
    );
    expect(await queues()).toMatch(/tbf 5ed6: dev cali\w+ root .*rate 900Mbit/);
    await annotate({ ingressBandwidth: null, ingressBurst: null });
    await untilGone("no queue is left", queues, /tbf|sdgq/);
    await until("nothing is wrong any more", problems, /^$/);
    expect(await toWeb()).toBe(SENT);
  });

  it("packets and connections: put on, mistyped, taken away; what is open stays open", async () => {
    using _server = await acceptConnections(web.netns);
    const open = (count: number): Promise<number> => connectionsOpened({ from: client.netns, address: ipv4Of(web), count });
    expect(await open(6)).toBe(6);
    await annotate({ ingressPacketRate: "10", ingressPacketBurst: "7" });
    await until("the rule is there", table, /limit rate over 10\/second burst 7 packets .*"ingressPacketRate"/);
    const passed = await toWeb();
    expect(passed).toBeGreaterThan(0);
    expect(passed).toBeLessThan(FEW);
    await annotate({ ingressPacketRate: null, ingressPacketBurst: null, ingressMaxConnections: "2" });
    await until("the other rule is there", table, /ct count over 2 .*"ingressMaxConnections"/);
    expect(await table()).not.toContain("ingressPacketRate");
    expect(await open(6)).toBe(2);
    await annotate({ ingressMaxConnections: "0" });
    await until("the server says so", problems, /ingressMaxConnections: .*is not from 1 to \d+; .*2.* of before stays in force/);
    expect(await open(6)).toBe(2);
    await annotate({ ingressMaxConnections: null });
    await untilGone("no rule is left", table, /limits\/|limit-to|limit-from/);
    expect(await open(6)).toBe(6);
  });

  it("a code point: put on, changed and taken away, as packets outside of all pools carry it", async () => {
    await onNode("nft", "add table inet watch");
    await onNode("nft", "add chain inet watch in { type filter hook input priority 0; }");
    for (const name of ["ef", "af21"]) await onNode("nft", `add counter inet watch ${name}`);
    for (const name of ["ef", "af21"]) await onNode("nft", `add rule inet watch in udp dport 9 ip dscp ${name} counter name ${name}`);
    const [, address = ""] = /inet (\d+\.\d+\.\d+\.\d+)\/.*scope global/.exec(await cluster.ip(node, "-4", "address")) ?? [];
    const seen = async (): Promise<readonly number[]> => {
      await onNode("nft", "reset counters table inet watch");
      await datagramsReceived({ from: web.netns, to: { path: `/run/netns/${cluster.netnsOf(node)}` }, address, count: 3 });
      const text = await onNode("nft", "list counters table inet watch");
      return [...text.matchAll(/packets (\d+)/g)].map(([, count]) => Number(count));
    };
    expect(await seen()).toEqual([0, 0]);
    await annotate({ dscp: "EF" });
    await until("the rule is there", table, /dscp set ef/);
    expect(await seen()).toEqual([3, 0]);
    await annotate({ dscp: "AF21" });
    await until("the rule is another", table, /dscp set af21/);
    expect(await seen()).toEqual([0, 3]);
    await annotate({ dscp: null });
    await untilGone("no rule is left", table, /dscp set/);
    expect(await seen()).toEqual([0, 0]);
    await onNode("nft", "delete table inet watch");
  });
});
