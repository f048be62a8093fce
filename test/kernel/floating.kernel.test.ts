/** Floating addresses in three kernels, with real programs: reached from another node, from the pod's node, from a neighbour and from the pod itself. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { poll } from "../../src/demo/cluster.ts";
import { type IpAddress, type IpVersion, parseIp } from "../../src/net/ip.ts";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { Cluster } from "./cluster.ts";
import { annotatePod, type ConnectedPod, connectPod, disconnectPod, writeNamespace, writeNetworkPolicy, writePod } from "./cluster-pods.ts";
import { Connection } from "./connection.ts";
import { whyNoKernel } from "./netns.ts";
import type { PlaceSpec } from "./packets.ts";

const noKernel = whyNoKernel() ?? (hasCniExecutable() ? undefined : "needs dist/cni/sedge-cni: node scripts/build-cni.mjs");
const PORT = 8080;
/** In the cluster's pools, in no block. */
const FLOATING: Readonly<Record<IpVersion, IpAddress>> = { 4: parseIp("10.77.200.1"), 6: parseIp("fd77:0:0:200::1") };

describe.skipIf(noKernel !== undefined)(`floating addresses [${noKernel ?? "kernel"}]`, () => {
  let cluster: Cluster;
  let web: ConnectedPod;
  let neighbour: ConnectedPod;
  let yonder: ConnectedPod;
  const places: Record<string, PlaceSpec> = {};

  beforeAll(async () => {
    cluster = await Cluster.start({ fanoutFlags: ["--floating-ips"] });
    const [n1 = "", n2 = ""] = cluster.nodes;
    await writeNamespace(cluster, "float");
    const connect = (name: string, node: string): Promise<ConnectedPod> =>
      connectPod(cluster, { namespace: "float", name, node, labels: { app: name }, ports: [] });
    [web, neighbour, yonder] = [await connect("web", n1), await connect("neighbour", n1), await connect("yonder", n2)];
    for (const pod of [web, neighbour, yonder]) places[pod.name] = { name: pod.name, netns: pod.netns.path, addresses: pod.addresses, isUnguarded: true };
    for (const node of [n1, n2]) places[node] = { name: node, netns: `/run/netns/${cluster.netnsOf(node)}`, addresses: [], isUnguarded: true };
  }, 120_000);

  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
  });

  const annotate = (name: string, addresses: readonly IpAddress[] | null): Promise<void> =>
    annotatePod(cluster, { namespace: "float", name }, { "cni.projectcalico.org/floatingIPs": addresses === null ? null : JSON.stringify(addresses) });
  const place = (name: string): PlaceSpec => places[name] ?? { name, netns: "", addresses: [], isUnguarded: true };
  /** By UDP: a question to the floating address, and an answer that comes from it. */
  const reaches = (from: string, to: ConnectedPod, version: IpVersion, protocol: "UDP" | "TCP" = "UDP"): boolean => {
    using connection = new Connection({ from: place(from), to: place(to.name), version, protocol, port: PORT, dialled: FLOATING[version], deadlineMs: 400 });
    return connection.passes();
  };
  const dump = async (node: string): Promise<string> =>
    [await cluster.nft(node, "list", "table", "inet", "sedge"), await cluster.ip(node, "route"), await cluster.ip(node, "-6", "route")].join("\n");

  it.each([4, 6] as const)("IPv%s: is reached from a pod of another node, from both nodes, from a neighbour and from the pod itself", async (version) => {
    const [n1 = "", n2 = ""] = cluster.nodes;
    await annotate("web", Object.values(FLOATING));
    await cluster.untilLevel();
    for (const from of ["yonder", n2, "neighbour", n1, "web"]) {
      await poll(`${from} reaches it`, 10_000, () => Promise.resolve(reaches(from, web, version)));
      expect([from, reaches(from, web, version, "TCP")]).toEqual([from, true]);
    }
  });

  it("policy sees the pod's own address: what allows only a neighbour to it lets the neighbour alone to the floating one", async () => {
    const spec = {
      podSelector: { matchLabels: { app: "web" } },
      policyTypes: ["Ingress"],
      ingress: [{ from: [{ podSelector: { matchLabels: { app: "neighbour" } } }] }],
    };
    const metadata = { namespace: "float", name: "p" };
    await writeNetworkPolicy(cluster, { metadata, spec });
    await poll("another node's pod is kept out", 10_000, () => Promise.resolve(!reaches("yonder", web, 4)));
    expect([reaches("neighbour", web, 4), reaches("neighbour", web, 6), reaches("yonder", web, 6, "TCP")]).toEqual([true, true, false]);
    await cluster.api.delete(API_RESOURCES.NetworkPolicy, metadata);
    await poll("it is let in again", 10_000, () => Promise.resolve(reaches("yonder", web, 4)));
  });

  it("is no other pod's own: one that names it is refused with the node that has it, and nothing is left", async () => {
    const [, n2 = ""] = cluster.nodes;
    const spec = { namespace: "float", name: "thief", node: n2, labels: {}, ports: [] };
    const uid = await writePod(cluster, spec);
    await annotatePod(cluster, spec, { "cni.projectcalico.org/ipAddrs": JSON.stringify([FLOATING[4]]) });
    await cluster.untilLevel();
    const netns = await cluster.network.createPodNetns("float", "thief");
    const call = { node: n2, namespace: "float", pod: "thief", uid, containerId: "thief", netns: netns.path };
    const { stdout } = await cluster.cni({ command: "ADD", ...call });
    expect(JSON.parse(stdout)).toMatchObject({
      code: 108,
      details: expect.stringMatching(`${FLOATING[4]} .* routed to node ${cluster.nodes[0]} .*floating`) as unknown,
    });
    await disconnectPod(cluster, { ...spec, uid, containerId: "thief", netns, addresses: [] });
  });

  it("goes from a pod to its neighbour on the same node and back, with the route", async () => {
    const [n1 = ""] = cluster.nodes;
    for (const [from, to] of [
      [web, neighbour],
      [neighbour, web],
    ] as const) {
      await Promise.all([annotate(from.name, null), annotate(to.name, Object.values(FLOATING))]);
      await poll(`${to.name} has it`, 10_000, () => Promise.resolve(reaches("yonder", to, 4) && reaches(n1, to, 6)));
      const [own = ""] = to.addresses.filter((address) => address.includes("."));
      const device = (route: string): string | undefined => /dev (\S+)/.exec(route)?.[1];
      expect(device(await cluster.ip(n1, "route", "show", FLOATING[4]))).toBe(device(await cluster.ip(n1, "route", "show", own)));
    }
  });

  it("another pod that asks for it is told who has it, and gets it when that one no longer asks; then nothing is left of it", async () => {
    const [n1 = "", n2 = ""] = cluster.nodes;
    await annotate("yonder", [FLOATING[4]]);
    await poll("the problem is known", 10_000, async () => (await cluster.server.status()).invalid.length > 0);
    expect(JSON.stringify((await cluster.server.status()).invalid)).toContain("float/web has it, which comes first");
    using open = new Connection({
      from: place("neighbour"),
      to: place("web"),
      version: 4,
      protocol: "UDP",
      port: PORT + 1,
      dialled: FLOATING[4],
      deadlineMs: 400,
    });
    expect(open.passes()).toBe(true);
    await annotate("web", null);
    await poll("the other pod has it", 10_000, () => Promise.resolve(reaches("neighbour", yonder, 4)));
    // What was open leads no longer to the pod that had it.
    expect(open.passes()).toBe(false);
    expect(await dump(n1)).not.toContain(FLOATING[6]);
    await annotate("yonder", null);
    await cluster.untilLevel();
    await poll("nothing is left", 10_000, async () => !`${await dump(n1)}${await dump(n2)}`.match(/floating|10\.77\.200\.1|200::1/));
  });
});
