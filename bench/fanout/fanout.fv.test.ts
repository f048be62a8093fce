/** Guards against collapse, by counts: how many messages and bytes a change costs. Times are for real runs. */
import { beforeAll, describe, expect, it } from "vitest";
import { DEFAULT_DELIVERY } from "../../fanout/delivery/delivery.ts";
import { runBench, type ScenarioResult } from "./run.ts";
import { SCENARIO_NAMES, type ScenarioName } from "./scenarios.ts";

const AGENTS = 50;
const results = new Map<string, ScenarioResult>();

beforeAll(async () => {
  const all = await runBench({
    delivery: DEFAULT_DELIVERY,
    shape: { agents: AGENTS, nodes: AGENTS, podsPerNode: 5, policies: 5, seed: 7 },
    scenarios: SCENARIO_NAMES,
    seconds: 1,
    ratePerSecond: undefined,
    sample: 5,
    hasBaseline: true,
    profile: undefined,
    say: () => undefined,
  });
  for (const result of all) results.set(result.scenario, result);
}, 120_000);

function resultOf(name: ScenarioName | "start"): ScenarioResult {
  const result = results.get(name);
  if (result === undefined) throw new Error(`no result of ${name}`);
  return result;
}

describe("bench fanout, 50 agents", () => {
  it("every scenario ran, every view has the server's digest, no stream ended, nothing was repaired", () => {
    expect([...results.keys()]).toEqual(["start", ...SCENARIO_NAMES]);
    expect([...results.values()].flatMap(({ scenario, failures }) => failures.map((failure) => `${scenario}: ${failure}`))).toEqual([]);
  });

  it("a change that concerns 20 nodes costs 20 deliveries", () => {
    const { deliveries, load } = resultOf("scoped");
    expect(load?.changes).toBe(20);
    expect(deliveries).toMatchObject({ messages: 400, perChange: 20 });
  });

  it("churn and broadcast never cost more than each change alone would", () => {
    for (const name of ["churn", "broadcast", "burst"] as const) {
      const { deliveries } = resultOf(name);
      expect(deliveries?.messages).toBeGreaterThan(0);
      expect(deliveries?.perChange).toBeLessThanOrEqual(deliveries?.expectedPerChange ?? 0);
    }
  });

  it("ten changes at once share a message", () => {
    const { deliveries, load } = resultOf("burst");
    expect(deliveries?.messages).toBeLessThanOrEqual(((load?.changes ?? 0) / 10) * AGENTS);
  });

  it("a delivery of one small change is below 300 bytes", () => {
    expect(resultOf("scoped").bytes?.perDelivery).toBeLessThan(300);
    expect(resultOf("broadcast").bytes?.perDelivery).toBeLessThan(300);
  });

  it("10,000 changes of one record are coalesced", () => {
    const { deliveries, load } = resultOf("hot-key");
    expect(load?.changes).toBe(10_000);
    // A flush window of 10 ms or more, in a second or a little longer: an agent cannot get more than a hundred or so.
    expect(deliveries?.mostOfOneAgent).toBeLessThan(200);
    expect(deliveries?.mostBytesOfOneAgent).toBeLessThan(20_000);
  });

  it("an agent that comes back unchanged costs a few hundred bytes, not its view", () => {
    const { perAgent } = resultOf("reconnect");
    expect(perAgent?.bytesReceived).toBeLessThan(1_000);
    expect(resultOf("start").perAgent?.bytesReceived).toBeGreaterThan(4_000);
  });

  it("the baseline sent the same messages", () => {
    const { baselines, deliveries } = resultOf("broadcast");
    const node = baselines["node-sockets"];
    expect(node !== undefined && "receiptMs" in node ? node.receiptMs.count : 0).toBe(deliveries?.messages);
  });
});
