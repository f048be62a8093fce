/** Who lacks which policy, from a real server with agents that acknowledge when the test says so. */
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { Pod, Resource } from "../../src/model/resource.ts";
import { parseIp } from "../../src/net/ip.ts";
import { calicoRule, globalPolicy } from "../../test/fakes/calico-objects.ts";
import { type FanoutFixture, GrpcAgent, namespace, node, pod, policy, startFanout, upsert } from "../../test/fakes/fanout-fixture.ts";
import { recordKeyOf } from "./statuses.ts";

const on = (name: string, index: number, address: string, labels: Pod["labels"] = { app: name }): Resource =>
  pod("shop", name, { node: `n${index}` as NodeName, addresses: [parseIp(address)], labels });
const WORLD: readonly Resource[] = [
  node("n1", 1),
  node("n2", 2),
  namespace("shop"),
  on("web", 1, "10.65.1.1"),
  on("db", 2, "10.65.2.1"),
  policy("shop", "allow-web", "web"),
  globalPolicy("web-only", { selector: "app == 'web'", ingress: [calicoRule("Allow", { source: { selector: "app == 'client'" } })] }),
];

async function start(): Promise<{ readonly f: FanoutFixture; readonly agents: Readonly<Record<"n1" | "n2", GrpcAgent>> }> {
  const f = await startFanout({ events: upsert(...WORLD) });
  const agentOf = (name: string): GrpcAgent => {
    const agent = new GrpcAgent({ address: f.address, node: name });
    onTestFinished(async () => {
      agent[Symbol.dispose]();
      await f.stop();
    });
    return agent;
  };
  const agents = { n1: agentOf("n1"), n2: agentOf("n2") };
  await until(() => expect([...f.server.sessions.clients].filter(({ isLevel }) => isLevel)).toHaveLength(2));
  return { f, agents };
}

const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 10_000, interval: 5 });

/** "GlobalNetworkPolicy web-only 1/1", then a line for each node that lags. */
async function statusOf(f: FanoutFixture, name: string): Promise<readonly string[]> {
  const { policies } = f.server;
  const [status] = policies.statuses(await policies.collect(), ({ name: of }) => of === name);
  if (status === undefined) return ["not known"];
  return [`${status.nodes - status.lagging.length}/${status.nodes}`, ...status.lagging.map((one) => `${one.node}: ${one.reason.replaceAll(/\d+/g, "#")}`)];
}

function change(f: FanoutFixture, ...resources: readonly Resource[]): void {
  f.server.sink(upsert(...resources));
  f.server.engine.settle();
}

/** Acknowledges all that was sent to the agent, when it has come. */
async function acknowledge(f: FanoutFixture, agent: GrpcAgent): Promise<void> {
  const session = [...f.server.sessions.clients].find(({ node: of }) => of?.name === agent.node);
  await until(() => {
    expect(session?.dirtyKeys).toBe(0);
    expect(agent.revision).toBe(session?.acknowledged.sent);
  });
  agent.acknowledge();
}

const SENT = "n1: sent (revision #), not yet in the kernel (which has revision #)";

describe("PolicyStatuses", () => {
  it("a policy concerns the nodes with an endpoint of it; it is in force where the kernel has it", async () => {
    const { f } = await start();
    expect(await statusOf(f, "allow-web")).toEqual(["2/2"]);
    expect(await statusOf(f, "web-only")).toEqual(["1/1"]);
    expect(await statusOf(f, "nonesuch")).toEqual(["not known"]);
  });

  it("a member that joins a set of the policy: not in force until the node has the set", async () => {
    const { f, agents } = await start();
    agents.n1.isSilent = true;
    change(f, on("client", 2, "10.65.2.2"));
    await until(async () => expect(await statusOf(f, "web-only")).toEqual(["0/1", SENT]));
    await acknowledge(f, agents.n1);
    await until(async () => expect(await statusOf(f, "web-only")).toEqual(["1/1"]));
  });

  it("a label by which a policy comes to a pod of a node that has the policy already: not in force until the endpoint is there", async () => {
    const { f, agents } = await start();
    change(f, on("late", 1, "10.65.1.2", { app: "none" }));
    await until(async () => expect(await statusOf(f, "web-only")).toEqual(["1/1"]));
    agents.n1.isSilent = true;
    change(f, on("late", 1, "10.65.1.2", { app: "web" }));
    await until(async () => expect(await statusOf(f, "web-only")).toEqual(["0/1", SENT]));
    await until(async () => expect(await statusOf(f, "allow-web")).toEqual(["1/2", SENT]));
    agents.n1.isSilent = false;
    await acknowledge(f, agents.n1);
    await until(async () => expect(await statusOf(f, "web-only")).toEqual(["1/1"]));
  });

  it("under steady change, with something always on its way, a policy is in force when what belongs to it was acknowledged", async () => {
    const { f, agents } = await start();
    agents.n1.isSilent = true;
    change(f, on("client", 2, "10.65.2.2"));
    await until(async () => expect(await statusOf(f, "web-only")).toEqual(["0/1", SENT]));
    const received = agents.n1.bytesReceived;
    for (let i = 3; i < 6; i++) {
      change(f, node(`n${i}`, i));
      await acknowledge(f, agents.n1);
      change(f, node(`n${i}`, i + 100));
    }
    expect(agents.n1.bytesReceived).toBeGreaterThan(received);
    await until(async () => expect(await statusOf(f, "web-only")).toEqual(["1/1"]));
    await until(() => expect([...f.server.sessions.clients].filter(({ isLevel }) => isLevel)).toHaveLength(1));
  });

  it("what has nothing to do with the policy leaves it in force on a node that lags", async () => {
    const { f, agents } = await start();
    agents.n1.isSilent = true;
    change(f, node("n3", 3));
    await until(() => expect([...f.server.sessions.clients].filter(({ isLevel }) => isLevel)).toHaveLength(1));
    expect(await statusOf(f, "allow-web")).toEqual(["2/2"]);
  });

  it("a set that the kernel refuses: its words, at the policies that use it", async () => {
    const { f, agents } = await start();
    const set = [...agents.n1.view.records.keys()].find((key) => key.startsWith("set/")) ?? "";
    expect(set).not.toBe("");
    agents.n1.failed = [{ key: set, reason: "no room" }];
    agents.n1.acknowledge();
    await until(async () =>
      expect((await Promise.all([statusOf(f, "allow-web"), statusOf(f, "web-only")])).flat().join()).toContain(`n1: ${set.replaceAll(/\d+/g, "#")}: no room`),
    );
    agents.n1.failed = [{ key: recordKeyOf({ kind: "GlobalNetworkPolicy", namespace: "", name: "web-only" }), reason: "bad rule" }];
    agents.n1.acknowledge();
    await until(async () => expect(await statusOf(f, "web-only")).toEqual(["0/1", "n1: bad rule"]));
    expect(await statusOf(f, "allow-web")).toEqual(["2/2"]);
  });

  it("a node that is not connected lacks everything; one that comes back silent is not known to have anything", async () => {
    const { f, agents } = await start();
    agents.n2[Symbol.dispose]();
    await until(async () => expect(await statusOf(f, "allow-web")).toEqual(["1/2", "n2: not connected"]));
    const again = new GrpcAgent({ address: f.address, node: "n2", view: agents.n2.view, isSilent: true });
    onTestFinished(() => again[Symbol.dispose]());
    await until(async () => expect(await statusOf(f, "allow-web")).toEqual(["1/2", "n2: its view is sent, the kernel does not have it yet"]));
    await acknowledge(f, again);
    await until(async () => expect(await statusOf(f, "allow-web")).toEqual(["2/2"]));
  });
});
