/** Guards against collapse, by counts: who resumed, who was sent records, what Typha would have sent. Times are for real runs. */
import { describe, expect, it } from "vitest";
import { DEFAULT_DELIVERY } from "../../fanout/delivery/delivery.ts";
import type { TierOptions } from "./parts.ts";
import { runTier } from "./run.ts";

const AGENTS = 45;
const OPTIONS: TierOptions = {
  agents: AGENTS,
  podsPerNode: 3,
  policies: 5,
  connected: 25,
  movesPerSecond: 1_000,
  drainMs: 1_000,
  settleMs: 100,
  delivery: DEFAULT_DELIVERY,
  sample: 5,
  seed: 3,
  say: () => undefined,
};

describe(`bench tier, ${AGENTS} agents`, () => {
  it("three servers are replaced one after the other: every agent resumes, none by a full view", async () => {
    const { failures, answers, typha, bytesReceived, levelAfterMs } = await runTier("rolling-restart", OPTIONS);
    expect(failures).toEqual([]);
    expect(answers.answers).toBeGreaterThanOrEqual(AGENTS);
    expect(answers.full).toBe(0);
    expect(levelAfterMs).toHaveLength(3);
    expect(typha.messages).toBeGreaterThanOrEqual(AGENTS);
    expect(bytesReceived).toBeLessThan(typha.bytes);
  });

  it("a storm of handshakes: all get in, and nobody who was there is cut", async () => {
    const { failures, answers, handshakes } = await runTier("handshakes", OPTIONS);
    expect(failures).toEqual([]);
    expect(answers).toMatchObject({ answers: AGENTS, full: AGENTS });
    expect(handshakes).toMatchObject({ count: AGENTS });
  });

  it("four relays: the root knows of every agent, a relay that dies and the way to the root cost nobody a full view", async () => {
    const { failures, answers, relay } = await runTier("relay", OPTIONS);
    expect(failures).toEqual([]);
    expect(answers).toMatchObject({ answers: AGENTS, full: 0 });
    expect(relay?.viaRelays.deliveries).toBeGreaterThan(0);
    expect(relay?.direct.deliveries).toBeGreaterThan(0);
  });

  it("agents that belong elsewhere move there by the digest exchange alone", async () => {
    const { failures, answers, moves, typha } = await runTier("rebalance", OPTIONS);
    expect(failures).toEqual([]);
    expect(answers.answers).toBe(moves?.asked);
    expect(answers).toMatchObject({ unchanged: answers.answers, records: 0 });
    expect(moves?.perServer[0]).toBe(AGENTS - (moves?.asked ?? 0));
    expect(typha.messages).toBe(moves?.asked);
  });
});
