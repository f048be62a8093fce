import { describe, expect, it } from "vitest";
import { Keepalive } from "./keepalive.ts";

const LIMITS = { keepaliveMs: 20_000, keepaliveTimeoutMs: 20_000 };

/** A peer that answers each ping a second later, heartbeats at the interval, a sweep every second. */
function run({ heartbeatMs, forMs, answers }: { readonly heartbeatMs: number; readonly forMs: number; readonly answers: boolean }) {
  const keepalive = new Keepalive(0);
  const seen = { withHeartbeat: 0, alone: 0, dead: undefined as number | undefined };
  let answerAt: number | undefined;
  for (let now = 500; now <= forMs && seen.dead === undefined; now += 500) {
    if (answers && answerAt === now) keepalive.heard();
    if (now % heartbeatMs === 0 && keepalive.isEarly(now, LIMITS)) {
      seen.withHeartbeat++;
      answerAt = now + 1_000;
    }
    if (now % 1_000 !== 500) continue;
    const due = keepalive.sweep(now, LIMITS);
    if (due === "ping") {
      seen.alone++;
      answerAt = now + 1_000;
    } else if (due === "dead") seen.dead = now;
  }
  return seen;
}

describe("Keepalive", () => {
  it("every second heartbeat has the ping of an idle peer, none leaves alone", () => {
    expect(run({ heartbeatMs: 10_000, forMs: 200_000, answers: true })).toEqual({ withHeartbeat: 10, alone: 0, dead: undefined });
  });

  it("without a heartbeat in time it leaves alone", () => {
    expect(run({ heartbeatMs: 70_000, forMs: 60_000, answers: true })).toEqual({ withHeartbeat: 0, alone: 2, dead: undefined });
  });

  it.each([10_000, 70_000])("heartbeats every %i ms: who does not answer is dead within the two times and a sweep", (heartbeatMs) => {
    const { dead } = run({ heartbeatMs, forMs: 200_000, answers: false });
    expect(dead).toBeLessThanOrEqual(LIMITS.keepaliveMs + LIMITS.keepaliveTimeoutMs + 1_000);
  });

  it("a peer that was heard since the last sweep is not pinged", () => {
    const keepalive = new Keepalive(0);
    keepalive.heard();
    expect(keepalive.isEarly(30_000, LIMITS)).toBe(false);
    expect(keepalive.sweep(30_000, LIMITS)).toBeUndefined();
    expect(keepalive.isEarly(44_000, LIMITS)).toBe(false);
    expect(keepalive.isEarly(45_000, LIMITS)).toBe(true);
    expect(keepalive.isEarly(45_001, LIMITS)).toBe(false);
  });
});
