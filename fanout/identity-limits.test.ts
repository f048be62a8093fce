import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NodeName } from "../src/model/names.ts";
import { ManualClock } from "../src/runtime/clock.ts";
import type { Identity } from "./identity.ts";
import { IdentityLimits, LIMITED, type Limited } from "./identity-limits.ts";

const node = (name: string): Identity => ({ kind: "node", node: name as NodeName });
const RATES = { streams: { burst: 3, perSecond: 2 }, claims: { burst: 5, perSecond: 10 }, reports: { burst: 8, perSecond: 100 } };

describe("IdentityLimits", () => {
  it.each(LIMITED)("%s: the burst, then a refusal by name with when to come again; then it may come again", async (what) => {
    const clock = new ManualClock();
    const refused: Limited[] = [];
    const limits = new IdentityLimits({ now: () => clock.now(), rates: RATES, onRefused: (one) => refused.push(one) });
    const { burst, perSecond } = RATES[what];
    for (let i = 0; i < burst; i++) expect(limits.refusal(what, node("n1"))).toBeUndefined();
    const refusal = limits.refusal(what, node("n1"));
    expect(refusal).toMatchObject({ problem: what === "streams" ? "too-many-streams" : "too-many-calls", message: expect.stringContaining("node n1") });
    expect(refused).toEqual([what]);
    await clock.advance(refusal?.retryAfterMs ?? 0);
    expect(limits.refusal(what, node("n1"))).toBeUndefined();
    expect(refusal?.retryAfterMs).toBeGreaterThanOrEqual(Math.min(100, 1_000 / perSecond));
  });

  it("one node's misuse is no other's, nor of another kind; operators, servers and the loopback are not limited", () => {
    const limits = new IdentityLimits({ now: () => 0, rates: RATES });
    for (let i = 0; i < 100; i++) limits.refusal("streams", node("bad"));
    expect(limits.refusal("streams", node("bad"))).toBeDefined();
    expect(limits.refusal("streams", node("good"))).toBeUndefined();
    expect(limits.refusal("claims", node("bad"))).toBeUndefined();
    for (const identity of [{ kind: "local" }, { kind: "server" }, { kind: "operator", name: "o" }] as const)
      for (let i = 0; i < 100; i++) expect(limits.refusal("streams", identity)).toBeUndefined();
  });

  it("in any time at most the burst and the rate, however the tries fall", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(800), { minLength: 1, maxLength: 200 }), (gaps) => {
        let now = 0;
        const limits = new IdentityLimits({ now: () => now, rates: RATES });
        let passed = 0;
        for (const gap of gaps) {
          now += gap;
          if (limits.refusal("streams", node("n1")) === undefined) passed++;
        }
        expect(passed).toBeLessThanOrEqual(3 + (now * 2) / 1_000 + 1e-6);
      }),
    );
  });
});
