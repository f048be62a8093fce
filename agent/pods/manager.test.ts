import { describe, expect, it } from "vitest";
import type { Pool } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { FakeBlockApi } from "../../test/fakes/fake-block-api.ts";
import { MemoryJournalFiles } from "../../test/fakes/memory-journal-files.ts";
import { OpenEndpoints } from "../../test/fakes/open-endpoints.ts";
import { type AttachmentRequest, containerMac, hostInterfaceName } from "../addresses/attachment.ts";
import { Journal } from "../addresses/journal.ts";
import { type AddressManager, createAddressManager } from "../addresses/manager.ts";
import type { UsedAddress } from "../addresses/recovery.ts";
import { EndpointNotProgrammedError } from "../apply/local-endpoints.ts";
import { createPodManager, type PodManager, type PodManagerOptions } from "./manager.ts";
import { UnconnectedPodLinks } from "./unconnected-pod-links.ts";

const POOL: Pool = { kind: "pool", name: "p", cidr: parseCidr("10.65.0.0/24"), natOutgoing: false, disabled: false, blockSize: 28 };

interface World {
  readonly files: MemoryJournalFiles;
  readonly api: FakeBlockApi;
  readonly links: UnconnectedPodLinks;
  readonly endpoints: OpenEndpoints;
  readonly addresses: AddressManager;
  readonly pods: PodManager;
  readonly forgotten: string[];
  readonly clock: ManualClock;
}

async function start(before?: World, over: Pick<PodManagerOptions, "withoutPolicy"> = {}): Promise<World> {
  const files = new MemoryJournalFiles(before?.files.files);
  const api = before?.api ?? new FakeBlockApi({ node: "n1", pools: [POOL] });
  const links = before?.links ?? new UnconnectedPodLinks();
  const endpoints = new OpenEndpoints();
  const forgotten: string[] = [];
  const clock = new ManualClock();
  const common = { clock, log: silentLogger(), interfacePrefix: "cali" };
  const usedAddresses = (): readonly UsedAddress[] =>
    [...links.specs.values()].flatMap(({ hostName, addresses }) => addresses.map((address) => ({ address, interfaceName: hostName })));
  const addresses = createAddressManager({
    ...common,
    journal: await Journal.open({ files, node: "n1" }),
    claims: api,
    reports: api,
    pools: () => api.pools,
    usedAddresses,
    cooldownMs: 0,
  });
  const pods = createPodManager({ ...common, ...over, addresses, links, endpoints, mtu: 1450, forgetConnections: (gone) => forgotten.push(...gone) });
  return { files, api, links, endpoints, addresses, pods, forgotten, clock };
}

function request(containerId: string, pod = "web"): AttachmentRequest {
  return { network: "net", containerId, ifname: "eth0", namespace: "shop", pod, netns: `/run/netns/${containerId}` };
}

/** What is under way comes to its end. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Runs a part until it has said what it says at start. */
async function runBriefly(part: PodManager): Promise<void> {
  const stop = new AbortController();
  const running = part.run(stop.signal);
  await settled();
  stop.abort();
  await running;
}

describe("names", () => {
  it("of the host's end are those that Calico's users know", () => {
    // echo -n shop.web | sha1sum
    expect(hostInterfaceName("cali", request("abc"))).toBe("cali551b05c3e54");
    expect(hostInterfaceName("cali", { namespace: "", pod: "", containerId: "0123456789abcdef", ifname: "eth0" })).toBe("cali0123456789a");
    expect(hostInterfaceName("cali", { ...request("abc"), ifname: "net1" })).not.toBe(hostInterfaceName("cali", request("abc")));
  });

  it("the hardware address is the container's own, local and not a group's", () => {
    const mac = containerMac(request("abc"));
    expect(mac).toBe(containerMac(request("abc")));
    expect(mac).not.toBe(containerMac(request("abd")));
    expect(Number.parseInt(mac.slice(0, 2), 16) & 3).toBe(2);
  });
});

describe("PodManager", () => {
  it("ADD: address, pair, policy; again: the same; DEL: all gone; again: nothing", async () => {
    const world = await start();
    const { attachment } = await world.pods.add(request("a"));
    expect([...world.links.specs.keys()]).toEqual([attachment.interfaceName]);
    expect(world.endpoints.list()).toMatchObject([
      { podKey: "shop/web", containerId: "a", interfaceName: attachment.interfaceName, addresses: attachment.addresses, mac: attachment.mac },
    ]);
    expect((await world.pods.add(request("a"))).attachment).toEqual(attachment);
    await world.pods.check(request("a"), { addresses: attachment.addresses });
    await world.pods.remove(request("a"));
    await world.pods.remove(request("a"));
    expect([world.links.specs.size, world.endpoints.list(), world.addresses.attachments()]).toEqual([0, [], []]);
    expect(world.forgotten).toEqual(attachment.addresses);
    await expect(world.pods.check(request("a"), { addresses: [] })).rejects.toMatchObject({ code: "unknown-attachment" });
  });

  it("DEL while the disk refuses: disconnected, the address in use until the disk takes it; an ADD of the same container meanwhile has it again", async () => {
    const world = await start();
    const clock = world.clock;
    const { attachment } = await world.pods.add(request("a"));
    const { attachment: other } = await world.pods.add(request("b", "db"));
    const stop = new AbortController();
    const running = world.pods.run(stop.signal);
    world.files.refusal = new Error("ENOSPC");
    await Promise.all([world.pods.remove(request("a")), world.pods.remove(request("b", "db"))]);
    expect([world.links.specs.size, world.endpoints.list(), world.addresses.attachments()]).toEqual([0, [], [attachment, other]]);
    await world.pods.remove(request("a"));
    await settled();
    await clock.advance(5_000);
    await settled();
    expect(world.addresses.attachments()).toHaveLength(2);
    world.files.refusal = undefined;
    expect((await world.pods.add(request("b", "db"))).attachment.addresses).toEqual(other.addresses);
    await clock.advance(5_000);
    await settled();
    expect(world.addresses.attachments()).toEqual([other]);
    stop.abort();
    await running;
  });

  it("an agent that ends before the disk takes a DEL: the next one finds the interface gone", async () => {
    const world = await start();
    await world.pods.add(request("a"));
    world.files.refusal = new Error("ENOSPC");
    await world.pods.remove(request("a"));
    const next = await start(world);
    expect(next.addresses.attachments()).toHaveLength(1);
    await runBriefly(next.pods);
    expect(next.addresses.attachments()).toEqual([]);
  });

  it.each(["link", "policy"])("a failure of the %s leaves nothing", async (where) => {
    const world = await start();
    if (where === "link") {
      world.links.connect = () => {
        throw new Error("no");
      };
    } else world.endpoints.upsert = (endpoint) => Promise.reject(new EndpointNotProgrammedError(endpoint.podKey, "no"));
    await expect(world.pods.add(request("a"))).rejects.toThrow("no");
    expect([world.links.specs.size, world.endpoints.list(), world.addresses.attachments()]).toEqual([0, [], []]);
  });

  it("policy that does not come in time: the pod is connected, closed; an agent that is set to refuse leaves nothing and says come again", async () => {
    const closed = await start();
    closed.endpoints.upsert = () => Promise.resolve({ hasPolicy: false });
    expect(await closed.pods.add(request("a"))).toMatchObject({ hasPolicy: false });
    const world = await start(undefined, { withoutPolicy: "refuse" });
    world.endpoints.upsert = () => Promise.resolve({ hasPolicy: false });
    await expect(world.pods.add(request("a"))).rejects.toMatchObject({ code: "no-policy" });
    expect([world.links.specs.size, world.addresses.attachments()]).toEqual([0, []]);
    // One that is no pod of Kubernetes has no policy to wait for.
    await world.pods.add({ ...request("b"), namespace: "", pod: "" });
    expect(world.links.specs.size).toBe(1);
  });

  it("a new sandbox of the same pod takes over; the late DEL of the old one changes nothing", async () => {
    const world = await start();
    const older = (await world.pods.add(request("a"))).attachment;
    const newer = (await world.pods.add(request("b"))).attachment;
    expect(newer.interfaceName).toBe(older.interfaceName);
    expect(world.addresses.attachments()).toEqual([newer]);
    await world.pods.remove(request("a"));
    expect(world.endpoints.list()).toMatchObject([{ containerId: "b" }]);
    expect(world.links.specs.get(newer.interfaceName)?.addresses).toEqual(newer.addresses);
  });

  it("CHECK names what is missing", async () => {
    const world = await start();
    const { attachment } = await world.pods.add(request("a"));
    await expect(world.pods.check(request("a"), { addresses: ["192.0.2.9"] })).rejects.toThrow("address 192.0.2.9 is not reserved");
    await world.links.disconnect(attachment.interfaceName);
    await expect(world.pods.check(request("a"), { addresses: [] })).rejects.toThrow(`host interface ${attachment.interfaceName} is missing`);
  });

  it("GC goes on behind one that cannot be removed, and names it", async () => {
    const world = await start();
    const stuck = await world.pods.add(request("a", "stuck"));
    await world.pods.add(request("b", "gone"));
    const disconnect = world.links.disconnect.bind(world.links);
    world.links.disconnect = (name) => (name === stuck.attachment.interfaceName ? Promise.reject(new Error("busy")) : disconnect(name));
    expect(await world.pods.collect("net", [])).toEqual({ removed: ["b/eth0"], failures: ["a/eth0: busy"] });
    expect(world.addresses.attachments()).toEqual([stuck.attachment]);
    world.links.disconnect = disconnect;
    expect(await world.pods.collect("net", [])).toEqual({ removed: ["a/eth0"], failures: [] });
    expect(world.addresses.attachments()).toEqual([]);
  });

  it("GC removes what is not valid in this network, and nothing of another", async () => {
    const world = await start();
    for (const id of ["a", "b", "c"]) await world.pods.add(request(id, id));
    await world.pods.add({ ...request("d", "d"), network: "other" });
    const outcome = await world.pods.collect("net", [{ containerId: "b", ifname: "eth0" }]);
    expect(outcome).toEqual({ removed: ["a/eth0", "c/eth0"], failures: [] });
    expect(world.addresses.attachments().map(({ containerId }) => containerId)).toEqual(["b", "d"]);
  });

  it("a restart: pods are told before anything else; one whose interface is gone is released", async () => {
    const before = await start();
    const stays = (await before.pods.add(request("a", "a"))).attachment;
    const goes = (await before.pods.add(request("b", "b"))).attachment;
    await before.links.disconnect(goes.interfaceName);
    const after = await start(before);
    await runBriefly(after.pods);
    expect(after.endpoints.restored).toMatchObject([{ podKey: "shop/a", containerId: "a", interfaceName: stays.interfaceName, addresses: stays.addresses }]);
    expect(after.addresses.attachments()).toEqual([stays]);
  });

  it("a restart without a disk: nothing is told until the API and the kernel have said whose interfaces these are", async () => {
    const before = await start();
    const { attachment } = await before.pods.add(request("a", "a"));
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    before.files.files.clear();
    const after = await start(before);
    after.api.isAway = true;
    await runBriefly(after.pods);
    expect(after.endpoints.restored).toBeUndefined();
    await expect(after.pods.add(request("b", "b"))).rejects.toMatchObject({ code: "unavailable" });
    after.api.isAway = false;
    await after.pods.add(request("b", "b"));
    await runBriefly(after.pods);
    expect(after.endpoints.list()).toMatchObject([{ podKey: "shop/b" }, { podKey: "shop/a", containerId: "a", addresses: attachment.addresses }]);
    await after.pods.remove(request("a", "a"));
    expect(after.addresses.attachments()).toHaveLength(1);
  });

  it("ADD and DEL of one pod at once end in one of both orders, with nothing half", async () => {
    const world = await start();
    await Promise.all([world.pods.add(request("a")), world.pods.remove(request("a")), world.pods.add(request("a")), world.pods.remove(request("a"))]);
    expect([world.links.specs.size, world.endpoints.list().length, world.addresses.attachments().length]).toEqual([0, 0, 0]);
  });
});
