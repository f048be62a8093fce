/** Guards against collapse, by counts: how many messages and bytes a change costs. Times are for real runs. */
import { beforeAll, describe, expect, it } from "vitest";
import { DEFAULT_DELIVERY } from "../../fanout/delivery/delivery.ts";
import type { ScenarioResult } from "./result.ts";
import { runBench } from "./run.ts";
import { SCENARIO_NAMES, type ScenarioName } from "./scenarios.ts";

const AGENTS = 50;
const results = new Map<string, ScenarioResult>();

beforeAll(async () => {
  const all = await runBench({
    delivery: DEFAULT_DELIVERY,
    isTls: false,
    acks: "paced",
    slowShare: 0.1,
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

  it("a storm of first starts: the records that all share are encoded once, not once an agent", () => {
    const { answers, perAgent } = resultOf("storm");
    expect(answers).toMatchObject({ answers: AGENTS, unchanged: 0, full: AGENTS });
    expect(perAgent?.bytesReceived).toBeLessThan((resultOf("start").typha?.bytes ?? 0) / AGENTS);
  });

  it("a server that is killed and started again: all come back by the digest exchange alone", () => {
    const { answers, restart, typha } = resultOf("restart");
    expect(answers).toMatchObject({ answers: AGENTS, unchanged: AGENTS, full: 0, records: 0 });
    expect(restart?.levelAfterServingMs).toBeGreaterThan(0);
    expect(typha?.messages).toBe(AGENTS);
  });

  it("agents that read nothing take nothing from the others, and little memory", () => {
    const { commitToReceiptMs, slow } = resultOf("slow");
    expect(commitToReceiptMs?.count).toBeGreaterThan((slow?.receiptMsWithout.count ?? 0) / 2);
    expect(slow?.mostBytesInFlight).toBeLessThan(AGENTS * 128 * 1024);
  });

  it("the operator's list has every agent", () => {
    expect(resultOf("clients").listClientsMs).toHaveLength(2);
    expect(resultOf("clients").clientsCallMs).toHaveLength(2);
  });

  it("a change costs fewer bytes than Typha would have sent for it", () => {
    for (const name of ["scoped", "churn", "broadcast", "burst", "hot-key"] as const) {
      const { bytes, typha } = resultOf(name);
      expect(bytes?.total).toBeLessThan(typha?.bytes ?? 0);
    }
  });

  it("the baseline sent the same messages", () => {
    const { baselines, deliveries } = resultOf("broadcast");
    const node = baselines["node-sockets"];
    expect(node !== undefined && "receiptMs" in node ? node.receiptMs.count : 0).toBe(deliveries?.messages);
  });
});

describe("bench fanout over mutual TLS, 100 agents", () => {
  // More than are answered at once (64).
  it("start, reconnect and storm end with the server's digest on every agent", async () => {
    const all = await runBench({
      delivery: DEFAULT_DELIVERY,
      isTls: true,
      acks: "each",
      slowShare: 0.1,
      shape: { agents: 100, nodes: 100, podsPerNode: 5, policies: 5, seed: 7 },
      scenarios: ["reconnect", "storm"],
      seconds: 1,
      ratePerSecond: undefined,
      sample: 5,
      hasBaseline: false,
      profile: undefined,
      say: () => undefined,
    });
    expect(all.map(({ scenario, failures }) => [scenario, failures])).toEqual([
      ["start", []],
      ["reconnect", []],
      ["storm", []],
    ]);
  });
});
