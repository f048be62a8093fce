/** Pods as a container runtime connects them: compiled executable, an agent in a namespace of its own, real interfaces and packets. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type CniReply, callCni, hasCniExecutable } from "../fakes/cni-caller.ts";
import { canUseNetns } from "../kernel/netns.ts";
import { addressesOf, answered, Node, startEcho } from "./cni-node.ts";

describe.skipIf(!canUseNetns() || !hasCniExecutable())("pods of a node", () => {
  it("two pods and their host reach each other, both families, with the first packet after ADD", async () => {
    await using node = await Node.start();
    const a = await node.add("a");
    expect(a.json).toMatchObject({ ips: [{ address: "10.65.0.0/32" }, {}] });
    await startEcho(await node.podNetns("a"));
    await startEcho(node.host);
    const b = await node.add("b");
    await startEcho(await node.podNetns("b"));
    expect(await answered(await node.podNetns("b"), addressesOf(a))).toEqual(addressesOf(a));
    expect(await answered(await node.podNetns("a"), addressesOf(b))).toEqual(addressesOf(b));
    expect(await answered(node.host, [...addressesOf(a), ...addressesOf(b)])).toEqual([...addressesOf(a), ...addressesOf(b)].sort());
    const pod = await node.podNetns("a");
    expect((await pod.ip("route")).replaceAll(/\s+$/gm, "")).toBe("default via 169.254.1.1 dev eth0\n169.254.1.1 dev eth0 scope link");
    expect(await pod.ip("-6", "route")).toContain("default via fe80::ecee:eeff:feee:eeee dev eth0");
    expect(await pod.ip("neigh")).toMatch(/169\.254\.1\.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT/);
    expect(await pod.ip("-6", "address", "show", "dev", "eth0")).not.toContain("tentative");
  });

  it("CHECK finds each thing that is taken away; DEL leaves nothing, also without a namespace and twice", async () => {
    await using node = await Node.start();
    const pod = await node.podNetns("a");
    const prevResult = (await node.add("a")).json;
    const check = async (): Promise<string> => {
      const { code, json } = await node.call("CHECK", "a", { prevResult });
      return code === 0 ? "ok" : (json.details ?? "");
    };
    expect(await check()).toBe("ok");
    await pod.ip("route", "del", "default");
    expect(await check()).toContain("route 0.0.0.0/0 via 169.254.1.1 is missing");
    expect((await node.add("a")).json).toEqual(prevResult);
    expect(await check()).toBe("ok");
    await pod.ip("address", "del", "10.65.0.0/32", "dev", "eth0");
    expect(await check()).toContain("address 10.65.0.0 is missing");
    await pod.ip("link", "del", "eth0");
    expect(await check()).toContain("is missing");
    expect((await node.call("DEL", "a", {})).code).toBe(0);
    expect((await callCni(node.directory, { command: "DEL", containerId: "a" })).code).toBe(0);
    expect(await node.hostInterfaces()).toEqual([]);
    await expect.poll(() => node.used()).toEqual([]);
  });

  it("CHECK takes what a plugin behind us changed and told: tuning's hardware address; what nobody told it does not", async () => {
    await using node = await Node.start();
    const pod = await node.podNetns("a");
    const added = (await node.add("a")).json;
    await pod.ip("link", "set", "eth0", "address", "02:11:22:33:44:55");
    const check = (prevResult: object): Promise<CniReply> => node.call("CHECK", "a", { prevResult });
    expect((await check(added)).json).toMatchObject({ code: 105, details: expect.stringContaining("02:11:22:33:44:55") as unknown });
    const interfaces = (added["interfaces"] as { name: string }[]).map((link) => (link.name === "eth0" ? { ...link, mac: "02:11:22:33:44:55" } : link));
    expect((await check({ ...added, interfaces })).code).toBe(0);
  });

  it("refused: no namespace, the host's own, a plain file, an interface of that name; nothing is left", async () => {
    await using node = await Node.start();
    expect((await callCni(node.directory, { command: "ADD", containerId: "a", netns: "/run/netns/sdgcni-none" })).json).toMatchObject({
      code: 4,
      details: expect.stringContaining("does not exist") as unknown,
    });
    expect((await callCni(node.directory, { command: "ADD", containerId: "a", netns: node.host.path })).json).toMatchObject({
      code: 4,
      details: expect.stringContaining("host's own") as unknown,
    });
    // What the agent sees of a namespace whose mount does not reach it.
    const plain = join(node.directory, "plain");
    await writeFile(plain, "");
    expect((await callCni(node.directory, { command: "ADD", containerId: "a", netns: plain })).json).toMatchObject({
      code: 4,
      details: expect.stringMatching(/ordinary file here.*HostToContainer/) as unknown,
    });
    const pod = await node.podNetns("b");
    await pod.addBridge("eth0");
    expect((await node.add("b")).json).toMatchObject({ code: 4, details: expect.stringContaining("eth0 already") as unknown });
    expect(await node.hostInterfaces()).toEqual([]);
    await expect.poll(() => node.used()).toEqual([]);
  });

  it("a pool of 16 addresses and 40 pods at once: 16 connected, 24 told; after one DEL the next ADD succeeds", async () => {
    await using node = await Node.start({ pools: ["10.65.0.0/28"] });
    const ids = Array.from({ length: 40 }, (_, i) => `c${i}`);
    for (const id of ids) await node.podNetns(id);
    const replies = await Promise.all(ids.map((id) => node.add(id)));
    expect(new Set(replies.flatMap(addressesOf)).size).toBe(16);
    expect(replies.filter(({ json }) => json.code === 101)).toHaveLength(24);
    expect(await node.hostInterfaces()).toHaveLength(16);
    const one = ids.find((_, i) => replies[i]?.code === 0) ?? "";
    expect((await node.call("DEL", one)).code).toBe(0);
    expect((await node.call("ADD", "late")).code).toBe(0);
    expect(await node.hostInterfaces()).toHaveLength(16);
  });

  it("GC frees exactly what is not valid", async () => {
    await using node = await Node.start();
    for (const id of ["a", "b", "c"]) await node.add(id);
    expect((await node.call("GC", "a", { "cni.dev/valid-attachments": [{ containerID: "b", ifname: "eth0" }] })).code).toBe(0);
    expect(await node.hostInterfaces()).toHaveLength(1);
    await expect.poll(async () => (await node.used()).length).toBe(2);
  });

  it("a new sandbox of the same pod takes over its name; the old one's DEL is late and harmless", async () => {
    await using node = await Node.start();
    await node.add("old", "web");
    const newer = await node.add("new", "web");
    await startEcho(await node.podNetns("new"));
    expect((await node.call("DEL", "old", {}, "web")).code).toBe(0);
    expect(await answered(node.host, addressesOf(newer))).toEqual(addressesOf(newer));
    expect(await node.hostInterfaces()).toHaveLength(1);
  });

  it("the agent is killed in the middle of ADDs: nothing twice, what the runtime deletes is gone, the rest keeps talking", async () => {
    await using node = await Node.start();
    const first = await node.add("first");
    await startEcho(await node.podNetns("first"));
    const ids = Array.from({ length: 12 }, (_, i) => `c${i}`);
    for (const id of ids) await node.podNetns(id);
    const adding = Promise.all(ids.map((id) => node.add(id)));
    await expect.poll(async () => (await node.hostInterfaces()).length, { interval: 1 }).toBeGreaterThan(2);
    await node.killAgent();
    const replies = await adding;
    expect(await answered(node.host, addressesOf(first))).toEqual(addressesOf(first));
    // As a runtime does: what failed is deleted, with no agent there, and asked for again under the same id.
    const failed = ids.filter((_, i) => replies[i]?.code !== 0);
    for (const i of ids.keys()) if (replies[i]?.code !== 0) expect(replies[i]?.json.code).toBe(11);
    for (const id of failed) expect((await node.call("DEL", id)).code).toBe(0);
    await node.startAgent();
    const again = await Promise.all(failed.map((id) => node.call("ADD", `${id}x`)));
    const given = [first, ...replies, ...again].flatMap(addressesOf);
    expect([given.length, new Set(given).size]).toEqual([26, 26]);
    // The queued DELs are carried out beside the new ADDs.
    await expect.poll(() => node.hostInterfaces()).toHaveLength(13);
    await expect.poll(async () => (await node.used()).toSorted()).toEqual(given.toSorted());
  });

  it("the state directory is garbage: the pods are known from the kernel and the API, no address is given twice", async () => {
    await using node = await Node.start();
    const before = await Promise.all(["a", "b"].map((id) => node.add(id)));
    await expect.poll(async () => (await node.used()).length).toBe(4);
    await node.killAgent();
    for (const name of ["addresses.snapshot", "addresses.log"]) await node.host.exec("sh", "-c", `head -c 3000 /dev/urandom > ${node.directory}/state/${name}`);
    await node.startAgent();
    const after = await Promise.all(["c", "d"].map((id) => node.add(id)));
    const given = [...before, ...after].flatMap(addressesOf);
    expect(new Set(given).size).toBe(8);
    expect((await node.add("a")).json.ips).toEqual(before[0]?.json.ips);
    for (const id of ["a", "b", "c", "d"]) expect((await node.call("DEL", id)).code).toBe(0);
    expect(await node.hostInterfaces()).toEqual([]);
    await expect.poll(() => node.used()).toEqual([]);
  });
});
