import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseCidr } from "../../../src/net/cidr.ts";
import { parseIp } from "../../../src/net/ip.ts";
import { canUseNetns, createNetns, type Netns } from "../../../test/kernel/netns.ts";
import { isNetlinkError } from "../netlink/error.ts";
import { inNetns } from "../netlink/libc.ts";
import { type NetworkChange, RtnetlinkDriver } from "./driver.ts";
import { SEDGE_ROUTE_PROTOCOL } from "./protocol.ts";
import type { RouteChange } from "./routes.ts";

const HOST_MAC = "0a:58:0a:41:00:01";
const POD_MAC = "0a:58:0a:41:00:02";

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return isNetlinkError(error) ? error.code : String(error);
  }
}

describe.skipIf(!canUseNetns())("RtnetlinkDriver", () => {
  let host: Netns;
  let pod: Netns;
  let driver: RtnetlinkDriver;
  let podDriver: RtnetlinkDriver;

  beforeEach(async () => {
    host = await createNetns("sedge-kt");
    pod = await createNetns("sedge-kt");
    driver = RtnetlinkDriver.open({ netns: host.path });
    podDriver = RtnetlinkDriver.open({ netns: pod.path });
    driver.createVeth({ name: "sdg0", mac: HOST_MAC, mtu: 1400, peer: { name: "eth0", mac: POD_MAC, mtu: 1400, netns: pod.path } });
    podDriver.setLink(podDriver.findLink("eth0")?.index ?? -1, { up: true });
  });

  afterEach(async () => {
    driver.close();
    podDriver.close();
    await host[Symbol.asyncDispose]();
    await pod[Symbol.asyncDispose]();
  });

  function hostLink(): number {
    return driver.findLink("sdg0")?.index ?? -1;
  }

  it("createVeth: both ends, with names, MACs and MTU, the peer in the other namespace", () => {
    const local = driver.findLink("sdg0");
    const peer = podDriver.findLink("eth0");
    expect(local).toMatchObject({ name: "sdg0", mac: HOST_MAC, mtu: 1400, isUp: true, hasCarrier: true, kind: "veth", peerIndex: peer?.index });
    expect(peer).toMatchObject({ name: "eth0", mac: POD_MAC, mtu: 1400, isUp: true, kind: "veth", peerIndex: local?.index });
    expect(driver.findLink("eth0")).toBeUndefined();
    expect(
      driver
        .links()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(["lo", "sdg0"]);
  });

  it("createVeth tells the end that it made, as findLink does; findIndex without a link → undefined", () => {
    const made = driver.createVeth({ name: "sdg1", mac: HOST_MAC, mtu: 1300, peer: { name: "eth1", netns: pod.path } });
    const { index, name, mac, mtu, isUp, peerIndex } = driver.findLink("sdg1") ?? {};
    expect(made).toMatchObject({ index, name, mac, mtu, isUp, peerIndex });
    expect(peerIndex).toBe(podDriver.findLink("eth1")?.index);
    expect([driver.findIndex("sdg1"), driver.findIndex("none")]).toEqual([index, undefined]);
    inNetns(host.path, () => {
      using own = RtnetlinkDriver.open();
      expect([own.findIndex("sdg1"), own.findIndex("none")]).toEqual([index, undefined]);
    });
  });

  it("createVeth: a taken name → EEXIST with the object named; deleteLink removes both ends", () => {
    expect(() => driver.createVeth({ name: "sdg0", peer: { name: "other", netns: pod.path } })).toThrow(/add link sdg0 .*EEXIST/);
    driver.deleteLink("sdg0");
    expect(podDriver.findLink("eth0")).toBeUndefined();
    expect(codeOf(() => driver.deleteLink("sdg0"))).toBe("ENODEV");
  });

  it("setLink changes name, MTU, MAC and state", () => {
    driver.setLink(hostLink(), { mtu: 1300, mac: "0a:58:0a:41:00:09" });
    driver.setLink(hostLink(), { up: false });
    driver.setLink(hostLink(), { name: "sdg9" });
    expect(driver.findLink("sdg9")).toMatchObject({ mtu: 1300, mac: "0a:58:0a:41:00:09", isUp: false });
  });

  it("addresses: IPv4 and IPv6 are added, listed, usable at once, and deleted", async () => {
    const linkIndex = podDriver.findLink("eth0")?.index ?? -1;
    const v4 = { linkIndex, address: parseIp("10.65.0.2"), prefixLength: 32 };
    const v6 = { linkIndex, address: parseIp("fd00::2"), prefixLength: 128 };
    podDriver.addAddress(v4);
    podDriver.addAddress(v6);
    expect(podDriver.addresses()).toEqual(expect.arrayContaining([v4, v6]));
    expect(await pod.ip("-6", "address", "show", "dev", "eth0")).not.toMatch(/fd00::2.*tentative/);
    expect(codeOf(() => podDriver.addAddress(v4))).toBe("EEXIST");
    podDriver.deleteAddress(v4);
    expect(podDriver.addresses()).not.toContainEqual(v4);
    expect(codeOf(() => podDriver.deleteAddress(v4))).toBe("EADDRNOTAVAIL");
  });

  it("neighbours: permanent entries of both families", async () => {
    const linkIndex = podDriver.findLink("eth0")?.index ?? -1;
    const entries = ["169.254.1.1", "fe80::1"].map((address) => ({ linkIndex, address: parseIp(address), mac: HOST_MAC }));
    for (const entry of entries) podDriver.setNeighbour(entry);
    expect(podDriver.neighbours()).toEqual(expect.arrayContaining(entries));
    expect(await pod.ip("neighbour", "show", "dev", "eth0")).toMatch(/169\.254\.1\.1 lladdr 0a:58:0a:41:00:01 PERMANENT/);
    for (const entry of entries) podDriver.deleteNeighbour(entry);
    expect(podDriver.neighbours().filter(({ mac }) => mac === HOST_MAC)).toEqual([]);
    expect(codeOf(() => podDriver.deleteNeighbour({ linkIndex, address: parseIp("169.254.1.1") }))).toBe("ENOENT");
  });

  it("routes: what is added is what is listed, and what `ip route` prints", async () => {
    const linkIndex = hostLink();
    await host.ip("address", "add", "192.0.2.1/24", "dev", "sdg0");
    const failures = driver.changeRoutes([
      { kind: "add", route: { destination: parseCidr("10.65.0.2/32"), linkIndex } },
      { kind: "add", route: { destination: parseCidr("10.65.0.0/26"), type: "blackhole" } },
      { kind: "add", route: { destination: parseCidr("10.65.1.0/26"), gateway: parseIp("192.0.2.7"), mtu: 1450, metric: 77 } },
      { kind: "add", route: { destination: parseCidr("10.65.2.0/26"), gateway: parseIp("198.51.100.9"), linkIndex, isOnlink: true } },
      { kind: "add", route: { destination: parseCidr("10.65.3.0/26"), gateway: parseIp("192.0.2.7"), table: 1000, source: parseIp("192.0.2.1") } },
      { kind: "add", route: { destination: parseCidr("fd00::2/128"), linkIndex } },
      { kind: "add", route: { destination: parseCidr("fd00::/122"), type: "blackhole" } },
    ]);
    expect(failures).toEqual([]);
    const text = await host.ip("route", "show", "table", "all", "proto", String(SEDGE_ROUTE_PROTOCOL));
    expect(
      text
        .trim()
        .split("\n")
        .map((line) => line.trim().replace(/ +/g, " "))
        .sort(),
    ).toEqual([
      "10.65.0.2 dev sdg0 scope link",
      "10.65.1.0/26 via 192.0.2.7 dev sdg0 metric 77 mtu 1450",
      "10.65.2.0/26 via 198.51.100.9 dev sdg0 onlink",
      "10.65.3.0/26 via 192.0.2.7 dev sdg0 table 1000 src 192.0.2.1",
      "blackhole 10.65.0.0/26",
      "blackhole fd00::/122 dev lo metric 1024 pref medium",
      "fd00::2 dev sdg0 metric 1024 pref medium",
    ]);
    const routes = driver.routes({ protocol: SEDGE_ROUTE_PROTOCOL });
    expect(routes.map(({ destination, type }) => `${type} ${destination}`).sort()).toEqual([
      "blackhole 10.65.0.0/26",
      "blackhole fd00::/122",
      "unicast 10.65.0.2/32",
      "unicast 10.65.1.0/26",
      "unicast 10.65.2.0/26",
      "unicast 10.65.3.0/26",
      "unicast fd00::2/128",
    ]);
    expect(routes.find(({ destination }) => destination === "10.65.1.0/26")).toMatchObject({
      gateway: "192.0.2.7",
      mtu: 1450,
      metric: 77,
      table: 254,
      linkIndex,
    });
    expect(routes.find(({ destination }) => destination === "10.65.2.0/26")).toMatchObject({ isOnlink: true });
    expect(driver.routes({ table: 1000 })).toMatchObject([{ destination: "10.65.3.0/26", source: "192.0.2.1" }]);
    expect(driver.routes({ table: 1001 })).toEqual([]);
  });

  it("routes: foreign ones are listed without a filter, left out with it, and survive our deletion", async () => {
    const linkIndex = hostLink();
    await host.ip("route", "add", "10.99.0.0/24", "dev", "sdg0");
    const destination = parseCidr("10.99.0.0/24");
    expect(driver.routes({ protocol: SEDGE_ROUTE_PROTOCOL })).toEqual([]);
    expect(driver.routes({ version: 4 }).some((route) => route.destination === destination)).toBe(true);
    const failures = driver.changeRoutes([{ kind: "delete", route: { destination, linkIndex } }]);
    expect(failures.map(({ error }) => error.code)).toEqual(["ESRCH"]);
    expect(await host.ip("route")).toContain("10.99.0.0/24");
  });

  it("changeRoutes: a refused route names itself and does not keep the others out", () => {
    const linkIndex = hostLink();
    const changes: RouteChange[] = [
      { kind: "add", route: { destination: parseCidr("10.65.0.2/32"), linkIndex } },
      { kind: "add", route: { destination: parseCidr("10.65.0.2/32"), linkIndex } },
      { kind: "add", route: { destination: parseCidr("10.65.1.0/26"), gateway: parseIp("203.0.113.1") } },
      { kind: "delete", route: { destination: parseCidr("10.65.9.0/26") } },
      { kind: "replace", route: { destination: parseCidr("10.65.0.2/32"), type: "blackhole" } },
    ];
    const failures = driver.changeRoutes(changes);
    expect(failures.map(({ index, error }) => [index, error.code])).toEqual([
      [1, "EEXIST"],
      [2, "ENETUNREACH"],
      [3, "ESRCH"],
    ]);
    expect(failures[1]?.error.message).toBe("add route 10.65.1.0/26 via 203.0.113.1: ENETUNREACH (Nexthop has invalid gateway)");
    expect(driver.routes({ protocol: SEDGE_ROUTE_PROTOCOL })).toMatchObject([{ destination: "10.65.0.2/32", type: "blackhole" }]);
  });

  it("changeRoutes: more than fit one send", () => {
    const linkIndex = hostLink();
    const routes = Array.from({ length: 1_500 }, (_, index) => ({ destination: parseCidr(`10.${80 + (index >> 8)}.${index & 255}.0/24`), linkIndex }));
    expect(driver.changeRoutes(routes.map((route) => ({ kind: "replace", route })))).toEqual([]);
    expect(driver.routes({ protocol: SEDGE_ROUTE_PROTOCOL })).toHaveLength(1_500);
    expect(driver.changeRoutes(routes.map((route) => ({ kind: "delete", route })))).toEqual([]);
    expect(driver.routes({ protocol: SEDGE_ROUTE_PROTOCOL })).toEqual([]);
  });

  it("watch: foreign changes are reported, our own are not, and the abort ends it", async () => {
    const stop = new AbortController();
    const changes: NetworkChange[] = [];
    let wake: () => void = () => undefined;
    const marker = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const watching = driver.watch((change) => {
      changes.push(change);
      if (change.kind === "route" && change.route.destination === "10.98.0.0/24") wake();
    }, stop.signal);
    driver.changeRoutes([{ kind: "add", route: { destination: parseCidr("10.65.0.2/32"), linkIndex: hostLink() } }]);
    await host.ip("route", "delete", "10.65.0.2/32");
    await host.ip("route", "add", "10.98.0.0/24", "dev", "sdg0");
    await marker;
    stop.abort();
    await watching;
    // The kernel's own IPv6 routes of the new link come and go beside.
    const routes = changes
      .filter((change) => change.kind === "route" && change.route.destination.startsWith("10."))
      .map((change) => (change.kind === "route" ? `${change.isGone ? "-" : "+"}${change.route.destination}` : ""));
    expect(routes).toEqual(["-10.65.0.2/32", "+10.98.0.0/24"]);
  });
});
