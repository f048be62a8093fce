import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { AddressRequest, Pool } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { type AddressWorldChanges, startAddresses } from "../../test/fakes/address-manager.ts";
import type { AttachmentRequest } from "./attachment.ts";
import type { AddressManager } from "./manager.ts";

function pool(name: string, cidr: string, more: Partial<Pool> = {}): Pool {
  return { kind: "pool", name, cidr: parseCidr(cidr), natOutgoing: false, disabled: false, blockSize: cidr.includes(":") ? 124 : 28, ...more };
}

const SELECTIVE = { disabled: true, isSelective: true } as const;
const NOTHING: AddressRequest = { pools: [], addresses: [], ipVersions: [], mac: "", problem: "" };

async function start(pools: readonly Pool[], changes: Pick<AddressWorldChanges, "clock" | "nodeOf"> = {}): Promise<AddressManager> {
  return (await startAddresses(pools, { cooldownMs: 0, ...changes })).manager;
}

function request(containerId: string): AttachmentRequest {
  return { network: "net", containerId, ifname: "eth0", namespace: "shop", pod: containerId, netns: "" };
}

describe("what a pod asks for", () => {
  it("without asking: no pool that is for those who name it", async () => {
    const addresses = await start([pool("gold", "10.1.0.0/24", SELECTIVE), pool("open", "10.2.0.0/24")]);
    expect((await addresses.attach(request("a"))).addresses[0]).toMatch(/^10\.2\./);
  });

  it("pools that it names, and no other", async () => {
    const addresses = await start([pool("gold", "10.1.0.0/24", SELECTIVE), pool("open", "10.2.0.0/24")]);
    await addresses.attach(request("a"));
    expect((await addresses.attach(request("b"), { wish: { ...NOTHING, pools: ["gold"] } })).addresses[0]).toMatch(/^10\.1\./);
    await expect(addresses.attach(request("c"), { wish: { ...NOTHING, pools: ["none"] } })).rejects.toMatchObject({ code: "no-pool" });
  });

  it("one family of two", async () => {
    const addresses = await start([pool("v4", "10.2.0.0/24"), pool("v6", "fd00::/64")]);
    expect((await addresses.attach(request("a"))).addresses).toHaveLength(2);
    expect((await addresses.attach(request("b"), { wish: { ...NOTHING, ipVersions: [6] } })).addresses).toMatchObject([/^fd00::/]);
  });

  it("an address and a hardware address; the same address for nobody else", async () => {
    const addresses = await start([pool("v4", "10.2.0.0/28")]);
    await addresses.attach(request("first"));
    const wish = { ...NOTHING, addresses: [parseIp("10.2.0.9")], mac: "02:00:00:00:00:09" };
    expect(await addresses.attach(request("a"), { wish })).toMatchObject({ addresses: ["10.2.0.9"], mac: "02:00:00:00:00:09" });
    expect(await addresses.attach(request("a"), { wish })).toMatchObject({ addresses: ["10.2.0.9"], mac: "02:00:00:00:00:09" });
    await expect(addresses.attach(request("b"), { wish })).rejects.toMatchObject({ code: "bad-request", message: expect.stringContaining("net.a") as string });
    await expect(addresses.attach(request("c"), { wish: { ...NOTHING, addresses: [parseIp("10.9.0.1")] } })).rejects.toMatchObject({ code: "bad-request" });
  });

  it("what is not understood is told, and no address is given", async () => {
    const addresses = await start([pool("v4", "10.2.0.0/28")]);
    await expect(addresses.attach(request("a"), { wish: { ...NOTHING, problem: "hwAddr is wrong" } })).rejects.toThrow("hwAddr is wrong");
    expect(addresses.attachments()).toEqual([]);
  });

  it("reserved addresses go to who asks only", async () => {
    const addresses = await start([pool("v4", "10.2.0.0/28", { reserved: [parseCidr("10.2.0.0/29")] })]);
    const given = [];
    for (let i = 0; i < 8; i++) given.push((await addresses.attach(request(`p${i}`))).addresses[0]);
    expect(given).toEqual(Array.from({ length: 8 }, (_, i) => `10.2.0.${8 + i}`));
    await expect(addresses.attach(request("more"))).rejects.toMatchObject({ code: "pool-full" });
    expect(await addresses.attach(request("asks"), { wish: { ...NOTHING, addresses: [parseIp("10.2.0.3")] } })).toMatchObject({ addresses: ["10.2.0.3"] });
  });

  it("a floating address, on whatever node, is no pod's own: passed over, and refused to who names it; free again when it is floating no more", async () => {
    const floating = new Map([
      [parseIp("10.2.0.0"), "n2" as NodeName],
      [parseIp("10.2.0.2"), "n1" as NodeName],
    ]);
    const addresses = await start([pool("v4", "10.2.0.0/30", { blockSize: 30 })], { nodeOf: (address) => floating.get(address) });
    expect([await addresses.attach(request("a")), await addresses.attach(request("b"))].map(({ addresses: [one] }) => one)).toEqual(["10.2.0.1", "10.2.0.3"]);
    await expect(addresses.attach(request("c"))).rejects.toMatchObject({ code: "pool-full" });
    const asks = addresses.attach(request("d"), { wish: { ...NOTHING, addresses: [parseIp("10.2.0.0")] } });
    await expect(asks).rejects.toMatchObject({
      code: "bad-request",
      message: expect.stringMatching(/10\.2\.0\.0 .* routed to node n2 .* floating address/) as string,
    });
    floating.clear();
    expect([await addresses.attach(request("c")), await addresses.attach(request("d"))].map(({ addresses: [one] }) => one)).toEqual(["10.2.0.0", "10.2.0.2"]);
  });

  it("the cooldown that a pool asks for", async () => {
    const clock = new ManualClock();
    const addresses = await start([pool("v4", "10.2.0.0/32", { blockSize: 32, cooldownSeconds: 30 })], { clock });
    await addresses.detach(await addresses.attach(request("a")));
    await expect(addresses.attach(request("b"))).rejects.toMatchObject({ code: "cooling" });
    await clock.advance(30_000);
    expect((await addresses.attach(request("b"))).addresses).toEqual(["10.2.0.0"]);
  });
});
