/** A pool smaller than the nodes that want of it: borrowed addresses in three kernels, with real programs, reached from every node and given back. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { poll } from "../../src/demo/cluster.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { Cluster } from "./cluster.ts";
import { type ConnectedPod, connectPod, disconnectPod, untilWritten } from "./cluster-pods.ts";
import { Connection } from "./connection.ts";
import { whyNoKernel } from "./netns.ts";
import type { PlaceSpec } from "./packets.ts";

const noKernel = whyNoKernel() ?? (hasCniExecutable() ? undefined : "needs dist/cni/sedge-cni: node scripts/build-cni.mjs");
const PORT = 8080;
const POOL = { cidr: "10.99.0.0/30", blockSize: 30 };

describe.skipIf(noKernel !== undefined)(`borrowed addresses [${noKernel ?? "kernel"}]`, () => {
  let cluster: Cluster;
  const pods: ConnectedPod[] = [];

  beforeAll(async () => {
    cluster = await Cluster.start();
    const apply = (
      kind: "IPPool" | "Namespace",
      object: Readonly<Record<string, unknown>> & { readonly metadata: { readonly name: string } },
    ): Promise<unknown> =>
      untilWritten(() => cluster.api.patch(API_RESOURCES[kind], object.metadata, { kind, ...object }, { type: "apply", fieldManager: "test" }));
    await apply("IPPool", { apiVersion: "projectcalico.org/v3", metadata: { name: "tiny" }, spec: { ...POOL, assignmentMode: "Manual" } });
    const annotations = { "cni.projectcalico.org/ipv4pools": '["tiny"]' };
    await apply("Namespace", { apiVersion: "v1", metadata: { name: "tiny", annotations } as { name: string } });
  }, 120_000);

  afterAll(async () => {
    await cluster?.[Symbol.asyncDispose]();
  });

  const v4 = ({ addresses }: ConnectedPod): IpAddress => {
    const found = addresses.find((address) => address.startsWith("10.99.0."));
    if (found === undefined) throw new Error(`no address of the pool among ${addresses.join(" ")}`);
    return found;
  };
  const connect = (name: string, node: string): Promise<ConnectedPod> => connectPod(cluster, { namespace: "tiny", name, node, labels: {}, ports: [] });
  const placeOf = (pod: ConnectedPod): PlaceSpec => ({ name: pod.name, netns: pod.netns.path, addresses: [v4(pod)], isUnguarded: true });
  const isReached = (from: ConnectedPod, to: ConnectedPod): Promise<boolean> => {
    using connection = new Connection({ from: placeOf(from), to: placeOf(to), version: 4, protocol: "UDP", port: PORT });
    return Promise.resolve(connection.passes());
  };

  it("four addresses, one block, three nodes: four pods are connected and reach one another over every node", async () => {
    const nodes = [...cluster.nodes, ...cluster.nodes].slice(0, 4);
    for (const [i, node] of nodes.entries()) pods.push(await connect(`p${i}`, node));
    expect(new Set(pods.map(v4)).size).toBe(4);
    const blocks = await cluster.api.list(API_RESOURCES.IPAMBlock);
    expect(blocks.items.filter((item) => JSON.stringify(item).includes('"cidr":"10.99.0.0/30"'))).toHaveLength(1);
    // Routes follow within the time of a commit.
    for (const from of pods) for (const to of pods) if (from !== to) await poll(`${from.name} reaches ${to.name}`, 10_000, () => isReached(from, to));
    const borrowers = pods.filter(({ node }) => node !== ownerOf(blocks.items));
    expect(borrowers.length).toBeGreaterThan(1);
  }, 120_000);

  it("a fifth is refused by name until one ends, wherever that was", async () => {
    const [first = ""] = cluster.nodes;
    await expect(connect("late", first)).rejects.toThrow("tiny (10.99.0.0/30)");
    const gone = pods.pop();
    if (gone === undefined) throw new Error("there are pods");
    await disconnectPod(cluster, gone);
    // After the cooldown, on the same node; a borrowed address stays with its borrower for a while.
    let again: ConnectedPod | undefined;
    await poll("the address is given again", 60_000, async () => {
      again = await connect("again", gone.node).catch(() => undefined);
      return again !== undefined;
    });
    expect(again?.addresses).toContain(v4(gone));
  }, 120_000);

  function ownerOf(items: readonly unknown[]): string {
    const text = items.map((item) => JSON.stringify(item)).find((item) => item.includes('"cidr":"10.99.0.0/30"')) ?? "";
    return /"affinity":"host:([^"]+)"/.exec(text)?.[1] ?? "";
  }
});
