/** Limits of pods in a real kernel: what tc and nft show, and packets that do not get through. And the MTU of pods that are there already. */
import { describe, expect, it } from "vitest";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { acceptConnections, connectionsOpened, datagramsReceived } from "../kernel/limit-probes.ts";
import { canUseNetns, type Netns } from "../kernel/netns.ts";
import { addressesOf, Node } from "./cni-node.ts";

const qos = (values: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [`qos.projectcalico.org/${name}`, value]));
function received(from: Netns, to: Netns, address: string, count: number): Promise<number> {
  return datagramsReceived({ from, to, address, count });
}

describe.skipIf(!canUseNetns() || !hasCniExecutable())("limits of pods", () => {
  it("bandwidth: a token bucket to the pod, one on an ifb device from it; gone with the pod; others' queues stay", async () => {
    const annotations = {
      shaped: qos({ ingressBandwidth: "80k", ingressBurst: "24k", egressBandwidth: "2M", egressBurst: "40k", egressPeakrate: "4M" }),
    };
    await using node = await Node.start({ pools: ["10.65.0.0/24"], policyFor: ["shaped", "free"], annotations });
    const [address = ""] = addressesOf(await node.add("shaped"));
    await node.add("free");
    const queues = await node.host.exec("tc", "qdisc", "show");
    expect(queues).toMatch(/qdisc tbf 5ed6: dev cali\w+ root .*rate 80Kbit burst 3000b lat \d+ms/);
    expect(queues).toMatch(/qdisc tbf 5ed6: dev sdgq\w+ root .*rate 2Mbit burst 5000b peakrate 4Mbit minburst 1532b/);
    const [, hostName = ""] = /dev (cali\w+) root/.exec(queues) ?? [];
    expect(await node.host.exec("tc", "filter", "show", "dev", hostName, "ingress")).toMatch(/mirred \(Egress Redirect to device sdgq\w+\) stolen/);
    const [shaped, free] = [await node.podNetns("shaped"), await node.podNetns("free")];
    const some = await received(free, shaped, address, 300);
    expect(some).toBeGreaterThan(0);
    expect(some).toBeLessThan(60);
    // What the pod sends goes out, through the device.
    expect(await received(shaped, node.host, "192.0.2.1", 3)).toBe(3);
    // The kernel keeps it over a restart of the agent, and the next run knows it for ours.
    await node.killAgent();
    await node.startAgent({ annotations: {} });
    await expect.poll(() => node.host.exec("tc", "qdisc", "show"), { timeout: 10_000 }).not.toContain("tbf");
    await expect.poll(() => node.host.ip("link", "show", "type", "ifb"), { timeout: 10_000 }).toBe("");
    await node.killAgent();
    await node.startAgent();
    await expect.poll(() => node.host.exec("tc", "qdisc", "show"), { timeout: 10_000 }).toMatch(/tbf 5ed6: dev sdgq/);
    expect((await node.call("DEL", "shaped")).code).toBe(0);
    expect(await node.host.ip("link", "show", "type", "ifb")).toBe("");
  });

  it("packets and connections a second, and code points: by rules before policy, also for what is established", async () => {
    const annotations = {
      few: qos({ ingressPacketRate: "10", ingressPacketBurst: "7" }),
      single: qos({ ingressMaxConnections: "2" }),
      marked: qos({ dscp: "EF", egressMaxConnections: "3" }),
    };
    await using node = await Node.start({ pools: ["10.65.0.0/24"], policyFor: ["few", "single", "marked", "free"], annotations });
    const [few = ""] = addressesOf(await node.add("few"));
    const [single = ""] = addressesOf(await node.add("single"));
    await node.add("marked");
    await node.add("free");
    const table = await node.host.exec("nft", "list", "table", "inet", "sedge");
    expect(table).toMatch(/limit rate over 10\/second burst 7 packets counter packets 0 bytes 0 drop comment "ingressPacketRate"/);
    expect(table).toMatch(/ct state new ct count over 2 counter packets 0 bytes 0 drop comment "ingressMaxConnections"/);
    expect(table).toMatch(/ip daddr != @pools-v4 ip dscp set ef comment "dscp"/);
    const free = await node.podNetns("free");
    const some = await received(free, await node.podNetns("few"), few, 200);
    expect(some).toBeGreaterThan(0);
    expect(some).toBeLessThan(60);
    const server = await node.podNetns("single");
    using _accepting = await acceptConnections(server);
    expect(await connectionsOpened({ from: free, address: single, count: 6 })).toBe(2);
    // From outside of all pools the code point is seen; inside it is as the pod sent it.
    await node.host.exec("nft", "add", "table", "inet", "watch");
    await node.host.exec("nft", "add chain inet watch in { type filter hook input priority 0; }");
    await node.host.exec("nft", "add rule inet watch in ip dscp ef counter");
    expect(await received(await node.podNetns("marked"), node.host, "192.0.2.1", 2)).toBe(2);
    expect(await node.host.exec("nft", "list", "chain", "inet", "watch", "in")).toMatch(/ip dscp ef counter packets 2 /);
    // A pod without limits left is a node without the maps.
    for (const pod of ["few", "single", "marked"]) await node.call("DEL", pod);
    await expect.poll(() => node.host.exec("nft", "list", "table", "inet", "sedge"), { timeout: 5_000 }).not.toMatch(/limit-from|limit-to|limits\//);
  });

  it("another MTU of the agent: pods that are there get it at its start, at both ends", async () => {
    await using node = await Node.start({ pools: ["10.65.0.0/24"] });
    await node.add("a");
    const pod = await node.podNetns("a");
    for (const mtu of [1400, 8900]) {
      await node.killAgent();
      await node.startAgent({ mtu });
      await expect.poll(() => pod.ip("link", "show", "dev", "eth0"), { timeout: 10_000 }).toContain(`mtu ${mtu} `);
      expect(await node.host.ip("link")).toMatch(new RegExp(`cali\\w+@.* mtu ${mtu} `));
    }
  });
});
