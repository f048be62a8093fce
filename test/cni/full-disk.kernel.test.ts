/**
 * The state directory takes nothing more while pods come and go: full, or read-only under a running agent. ADDs are refused with its name, nothing is half connected,
 * DELs end, no address is given twice, and all is level once the disk takes something again.
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { canUseNetns } from "../kernel/netns.ts";
import { canMountImages, FailingDisk, SmallDisk } from "../kernel/small-disk.ts";
import { addressesOf, Node } from "./cni-node.ts";

/** More than the last page of the journal's log holds. */
const MOST = 40;
const canRun = canUseNetns() && hasCniExecutable();

describe.skipIf(!canRun)("a full state directory", () => {
  it("ADD says which directory and leaves nothing; DEL disconnects and succeeds; the address is free when there is room", { timeout: 120_000 }, async () => {
    await using node = await Node.start();
    await node.killAgent();
    const stateDir = join(node.directory, "state");
    await using disk = await SmallDisk.mount(stateDir, 256 * 1024);
    await node.startAgent();
    const connected = await addUntilRefused(node, stateDir, { name: "ENOSPC", begin: () => disk.fill() });
    const before = await node.used();
    expect((await node.call("DEL", "steady")).code).toBe(0);
    expect((await node.call("DEL", "steady")).code).toBe(0);
    const [kept = [], ...others] = [connected.get("steady"), ...connected.values()];
    connected.delete("steady");
    await expectConnected(node, connected);
    // Nobody has it, and nobody gets it, until the disk says so.
    expect((await node.used()).toSorted()).toEqual(before.toSorted());
    expect(others.length).toBeGreaterThan(1);
    expect(existsSync(join(node.directory, "cni-queue"))).toBe(false);
    disk.empty();
    const again = await node.add("again");
    expect(again.code, again.stdout).toBe(0);
    expect(addressesOf(again).filter((address) => kept.includes(address))).toEqual([]);
    connected.set("again", addressesOf(again));
    await expect.poll(async () => (await node.used()).toSorted(), { timeout: 20_000 }).toEqual(routed(connected));
    await expectConnected(node, connected);
    // Once more, and the agent is killed before there is room: the next one finds the interface gone.
    disk.fill();
    expect((await node.call("DEL", "again")).code).toBe(0);
    connected.delete("again");
    await node.killAgent();
    disk.empty();
    await node.startAgent();
    await expect.poll(async () => (await node.used()).toSorted(), { timeout: 20_000 }).toEqual(routed(connected));
    await expectConnected(node, connected);
    // Before the disk is gone.
    await node.killAgent();
  });

  it("no agent, and its queue is on the full disk too: DEL says what is wrong, and is done when there is room", { timeout: 120_000 }, async () => {
    await using node = await Node.start();
    await node.killAgent();
    await using disk = await SmallDisk.mount(join(node.directory, "state"), 256 * 1024);
    await node.startAgent();
    const [address = ""] = addressesOf(await node.add("a"));
    await node.killAgent();
    disk.fill();
    const queueDir = join(node.directory, "state", "cni-queue");
    const refused = await node.call("DEL", "a", { queueDir });
    expect(refused.json).toMatchObject({ code: 5, msg: expect.stringContaining("could not be left for it") as unknown });
    expect(refused.json.details).toContain(queueDir);
    expect(readdirSync(queueDir)).toEqual([]);
    expect(await node.used()).toContain(address);
    disk.empty();
    expect((await node.call("DEL", "a", { queueDir })).code).toBe(0);
    expect(readdirSync(queueDir)).toEqual(["k8s-pod-network.a.eth0.json"]);
    await node.startAgent();
    expect((await node.call("DEL", "a", { queueDir })).code).toBe(0);
    await expect.poll(() => node.used(), { timeout: 20_000 }).toEqual([]);
    expect(await node.hostInterfaces()).toEqual([]);
    await node.killAgent();
  });
});

describe.skipIf(!canRun || !(await canMountImages()))("a state directory that becomes read-only under a running agent", () => {
  it("ADD says which directory and leaves nothing; DEL succeeds; an agent that starts says so; after the repair all is level", {
    timeout: 120_000,
  }, async () => {
    await using node = await Node.start();
    await node.killAgent();
    const stateDir = join(node.directory, "state");
    await using disk = await FailingDisk.mount(stateDir);
    await node.startAgent();
    const connected = await addUntilRefused(node, stateDir, { name: "EROFS", begin: () => disk.fail() });
    expect((await node.call("STATUS", "")).code).toBe(0);
    expect((await node.call("DEL", "steady")).code).toBe(0);
    connected.delete("steady");
    await expectConnected(node, connected);
    await node.killAgent();
    // The CNI executable's queue is elsewhere: a DEL without an agent is left there.
    await node.add("more");
    await disk.repair();
    await node.startAgent();
    await expect.poll(async () => (await node.used()).toSorted(), { timeout: 20_000 }).toEqual(routed(connected));
    const again = await node.add("again");
    expect(again.code, again.stdout).toBe(0);
    connected.set("again", addressesOf(again));
    await expectConnected(node, connected);
    await node.killAgent();
  });
});

type Connected = Map<string, readonly string[]>;

/** One pod that is there before, "steady"; then the disk refuses, and pods are added until one is: what that one is told is looked at. */
async function addUntilRefused(
  node: Node,
  stateDir: string,
  { begin, name }: { readonly name: string; readonly begin: () => Promise<void> | void },
): Promise<Connected> {
  const connected: Connected = new Map([["steady", addressesOf(await node.add("steady"))]]);
  await begin();
  let refused = await node.add("c0");
  for (let i = 0; i < MOST && refused.code === 0; i++) {
    connected.set(`c${i}`, addressesOf(refused));
    refused = await node.add(`c${i + 1}`);
  }
  expect(refused.json).toMatchObject({ code: 5, details: expect.stringMatching(new RegExp(`${stateDir}.*${name}`)) as unknown });
  await expectConnected(node, connected);
  return connected;
}

function routed(connected: Connected): readonly string[] {
  return [...connected.values()].flat().sort();
}

async function expectConnected(node: Node, connected: Connected): Promise<void> {
  expect(await node.routedAddresses()).toEqual(routed(connected));
  expect(await node.hostInterfaces()).toHaveLength(connected.size);
}
