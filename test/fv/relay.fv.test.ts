/** Relays between real servers and agents: views, commits, acknowledgements and questions go through them, and a loss of the parent takes nothing away. */
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { DELIVERY_KINDS } from "../../fanout/delivery/delivery.ts";
import type { NodeName } from "../../src/model/names.ts";
import { GrpcAgent, namespace, node, pod, policy, pool, startFanout, startRelay, upsert } from "../fakes/fanout-fixture.ts";

const WORLD = upsert(
  node("n1", 1),
  node("n2", 2),
  node("n3", 3),
  namespace("shop"),
  pool(),
  pod("shop", "web", { node: "n1" as NodeName }),
  pod("shop", "db", { node: "n2" as NodeName }),
  policy("shop", "allow-web", "web"),
);
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 5 });

function agentFor(address: string, name: string, view?: GrpcAgent["view"]): GrpcAgent {
  const agent = new GrpcAgent({ address, node: name, ...(view === undefined ? {} : { view }) });
  onTestFinished(() => agent[Symbol.dispose]());
  return agent;
}

describe.each(DELIVERY_KINDS)("a relay over %s", (delivery) => {
  it("R1 serves the root's bytes under the root's epoch and revisions, first start and change", async () => {
    await using root = await startFanout({ events: WORLD, delivery });
    await using relay = await startRelay({ parents: [root.address], delivery });
    await until(() => expect(relay.server.isInSync).toBe(true));
    const agents = ["n1", "n2"].map((name) => agentFor(relay.address, name));
    await until(() => expect(agents.every(({ isLive }) => isLive)).toBe(true));
    const expectEqual = (): void => {
      for (const { node: name, view } of agents) {
        const id = root.server.table.nodes.idOf(name as NodeName);
        expect([view.digest, view.epoch]).toEqual([root.server.table.viewDigest(id), root.server.epoch]);
        expect([...view.records].map(([key, { hash }]) => [key, hash])).toEqual(
          expect.arrayContaining([...root.server.table.view(id)].map(({ key, hash }) => [key, hash])),
        );
      }
    };
    expectEqual();
    expect(relay.server.table.nodes.findId("n3" as NodeName)).toBeUndefined();
    root.server.sink(upsert(pod("shop", "more", { node: "n2" as NodeName }), node("n9", 9)));
    root.server.engine.settle();
    await until(expectEqual);
    await until(() => expect(agents.map(({ view }) => view.revision)).toEqual([root.server.table.revision, root.server.table.revision]));
    await until(() =>
      expect([...root.server.sessions.everyClient()].map((client) => [client.node?.name, client.isLevel])).toEqual([
        ["n1", true],
        ["n2", true],
      ]),
    );
  });
});
