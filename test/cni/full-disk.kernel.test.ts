/** The state directory takes nothing more while pods come and go: refused with its name, nothing half connected, DELs end, and level once it does again. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { canUseNetns } from "../kernel/netns.ts";
import { SmallDisk } from "../kernel/small-disk.ts";
import { addressesOf, Node } from "./cni-node.ts";

/** More than the last page of the journal's log holds. */
const MOST = 40;

describe.skipIf(!canUseNetns() || !hasCniExecutable())("a full state directory", () => {
  it("ADD says which directory and leaves nothing, DEL is left on disk and done when there is room", { timeout: 60_000 }, async () => {
    await using node = await Node.start();
    await node.killAgent();
    const stateDir = join(node.directory, "state");
    await using disk = await SmallDisk.mount(stateDir, 256 * 1024);
    await node.startAgent();
    const connected = new Map([["steady", addressesOf(await node.add("steady"))]]);
    disk.fill();
    let refused = await node.add("c0");
    for (let i = 0; i < MOST && refused.code === 0; i++) {
      connected.set(`c${i}`, addressesOf(refused));
      refused = await node.add(`c${i + 1}`);
    }
    expect(refused.json).toMatchObject({ code: 5, details: expect.stringMatching(new RegExp(`${stateDir}.*ENOSPC`)) as unknown });
    const routed = (): readonly string[] => [...connected.values()].flat().sort();
    expect(await node.routedAddresses()).toEqual(routed());
    expect(await node.hostInterfaces()).toHaveLength(connected.size);
    expect((await node.call("DEL", "steady")).code).toBe(0);
    connected.delete("steady");
    expect(await node.routedAddresses()).toEqual(routed());
    expect(await node.hostInterfaces()).toHaveLength(connected.size);
    const queue = join(node.directory, "cni-queue");
    expect(readdirSync(queue)).toEqual(["k8s-pod-network.steady.eth0.json"]);
    disk.empty();
    await expect.poll(() => readdirSync(queue), { timeout: 15_000 }).toEqual([]);
    const again = await node.add("again");
    expect(again.code, again.stdout).toBe(0);
    connected.set("again", addressesOf(again));
    await expect.poll(async () => (await node.used()).toSorted(), { timeout: 10_000 }).toEqual(routed());
    expect(await node.routedAddresses()).toEqual(routed());
    // Before the disk is gone.
    await node.killAgent();
  });
});
