/**
 * kill -9 of the agent at each write of an ADD and of a DEL: journal, interfaces, tables and routes of a real kernel. The points are counted, not guessed: the
 * loop ends when the request gets through. Afterwards, as a runtime does it: DELs until one succeeds, then the pod again. Nothing is left, nothing is double, no pod is half
 * connected, and the pod beside it talks all the time.
 */
import { describe, expect, it } from "vitest";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { canUseNetns } from "../kernel/netns.ts";
import { addressesOf, answered, Node, startEcho } from "./cni-node.ts";

const VICTIM = "victim";
const PODS = ["steady", VICTIM, "next"];
/** A request has no more points than this. */
const MOST = 40;

describe.skipIf(!canUseNetns() || !hasCniExecutable())("kill -9 at every write", () => {
  it("of an ADD", { timeout: 180_000 }, async () => {
    await using node = await Node.start({ policyFor: PODS, victim: VICTIM });
    const steady = addressesOf(await node.add("steady"));
    await startEcho(await node.podNetns("steady"));
    let points = 0;
    for (let at = 1; ; at++) {
      await node.armAgent(at);
      const cut = await node.add(VICTIM);
      if (cut.code === 0) break;
      points++;
      expect(points, "points of an ADD").toBeLessThan(MOST);
      expect(cut.json.code, `point ${at}: the runtime is told to come again`).toBe(11);
      await node.agentEnded();
      expect(await answered(node.host, steady), `point ${at}: the pod beside`).toEqual(steady);
      // Half of the runtimes delete while no agent is there, half once it is back.
      if (at % 2 === 0) expect((await node.call("DEL", VICTIM)).code).toBe(0);
      await node.startAgent();
      if (at % 2 === 1) expect((await node.call("DEL", VICTIM)).code).toBe(0);
      await expectJust(node, steady, `point ${at}, after DEL`);
      const again = await node.add(VICTIM);
      expect(again.code, `point ${at}: ${again.stdout}`).toBe(0);
      await expectJust(node, [...steady, ...addressesOf(again)], `point ${at}, added again`);
      expect((await node.call("CHECK", VICTIM, { prevResult: again.json })).code, `point ${at}: CHECK`).toBe(0);
      expect((await node.call("DEL", VICTIM)).code).toBe(0);
    }
    // Journal, pair, ends, map elements and routes, answer: fewer would mean that something is not counted.
    expect(points).toBeGreaterThan(7);
  });

  it("of an ADD that is only asked for again, under the same id: the same pod, once, and whole", { timeout: 180_000 }, async () => {
    await using node = await Node.start({ policyFor: PODS, victim: VICTIM });
    for (let at = 1; at < MOST; at++) {
      await node.armAgent(at);
      if ((await node.add(VICTIM)).code === 0) break;
      await node.agentEnded();
      await node.startAgent();
      const again = await node.add(VICTIM);
      expect(again.code, `point ${at}: ${again.stdout}`).toBe(0);
      await expectJust(node, addressesOf(again), `point ${at}`);
      expect((await node.call("CHECK", VICTIM, { prevResult: again.json })).code, `point ${at}: CHECK`).toBe(0);
      expect((await node.call("DEL", VICTIM)).code).toBe(0);
      await expectJust(node, [], `point ${at}, deleted`);
    }
  });

  it("of a DEL", { timeout: 180_000 }, async () => {
    await using node = await Node.start({ policyFor: PODS, victim: VICTIM });
    const steady = addressesOf(await node.add("steady"));
    await startEcho(await node.podNetns("steady"));
    let points = 0;
    for (let at = 1; ; at++) {
      expect((await node.add(VICTIM)).code).toBe(0);
      await node.armAgent(at);
      // One whose agent goes is left on disk for the next, and is a success for the runtime.
      expect((await node.call("DEL", VICTIM)).code, `point ${at}`).toBe(0);
      if (await node.isAgentUp()) break;
      points++;
      expect(points, "points of a DEL").toBeLessThan(MOST);
      expect(await answered(node.host, steady), `point ${at}: the pod beside`).toEqual(steady);
      await node.startAgent();
      await expectJust(node, steady, `point ${at}`);
      const next = await node.add("next");
      expect(next.code, next.stdout).toBe(0);
      await expectJust(node, [...steady, ...addressesOf(next)], `point ${at}, another pod`);
      expect((await node.call("DEL", "next")).code).toBe(0);
    }
    expect(points).toBeGreaterThan(4);
  });
});

/** API, kernel's interfaces, routes and our table's maps all have just these addresses. */
async function expectJust(node: Node, addresses: readonly string[], when: string): Promise<void> {
  const wanted = addresses.toSorted();
  await expect.poll(async () => (await node.used()).toSorted(), { message: `${when}: in use by the API`, timeout: 10_000 }).toEqual(wanted);
  await expect.poll(() => node.hostInterfaces(), { message: `${when}: interfaces`, timeout: 10_000 }).toHaveLength(wanted.length / 2);
  await expect.poll(() => node.routedAddresses(), { message: `${when}: routes`, timeout: 10_000 }).toEqual(wanted);
  await expect.poll(() => node.allowedSources(), { message: `${when}: sources in our table`, timeout: 10_000 }).toEqual(wanted);
}
