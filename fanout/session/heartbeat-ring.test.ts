import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HeartbeatRing } from "./heartbeat-ring.ts";

const INTERVAL_MS = 1000;

describe("HeartbeatRing", () => {
  it("a member is due at its moment, and then once an interval", () => {
    const ring = new HeartbeatRing<string>({ intervalMs: INTERVAL_MS, now: 7 });
    ring.add("a", 7 + 500);
    const at: number[] = [];
    for (let now = 7; now <= 7 + 3000; now += ring.tickMs) for (const _ of ring.due(now)) at.push(now - 7);
    expect(at).toEqual([500, 1500, 2500]);
  });

  it("one that was taken out does not come again", () => {
    const ring = new HeartbeatRing<string>({ intervalMs: INTERVAL_MS, now: 0 });
    const remove = ring.add("a", 500);
    expect([...ring.due(500)]).toEqual(["a"]);
    remove();
    expect([...ring.due(5000)]).toEqual([]);
  });

  it("a tick that is later than an interval brings each member once", () => {
    const ring = new HeartbeatRing<number>({ intervalMs: INTERVAL_MS, now: 0 });
    for (let member = 0; member < 50; member++) ring.add(member, member * 20);
    expect([...ring.due(10_000)].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect([...ring.due(10_000)]).toEqual([]);
  });

  it("whenever it is asked, nobody waits longer than an interval and the steps of asking, and nobody comes twice in a tick's time", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat({ max: 300 }), { minLength: 30, maxLength: 100 }),
        fc.array(fc.nat({ max: INTERVAL_MS }), { maxLength: 10 }),
        (steps, firsts) => {
          const ring = new HeartbeatRing<number>({ intervalMs: INTERVAL_MS, now: 0 });
          const last = new Map<number, number>();
          for (const [member, first] of firsts.entries()) ring.add(member, first);
          const longest = Math.max(...steps);
          let now = 0;
          for (const step of steps) {
            now += step;
            for (const member of ring.due(now)) {
              const before = last.get(member);
              if (before !== undefined) expect(now - before).toBeGreaterThan(0);
              last.set(member, now);
            }
            for (const [member, first] of firsts.entries())
              expect(now - (last.get(member) ?? Math.max(0, first - INTERVAL_MS))).toBeLessThanOrEqual(INTERVAL_MS + longest + ring.tickMs);
          }
        },
      ),
    );
  });
});
