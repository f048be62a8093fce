import { describe, expect, it } from "vitest";
import type { Condition } from "./conditions.ts";
import { dated, urgencyOf, type Wanted, type Written } from "./pace.ts";

const ACCEPTED: Condition = { type: "Accepted", status: "True", reason: "Accepted", message: "" };
const REFUSED: Condition = { type: "Accepted", status: "False", reason: "Invalid", message: "spec.selector" };
const IN_FORCE: Condition = { type: "Programmed", status: "True", reason: "Programmed", message: "on 5" };
const LAGS: Condition = { type: "Programmed", status: "False", reason: "NodesLag", message: "on 4 of 5; n1" };
const PACE = { settleMs: 5_000, textMs: 300_000 };
const wanted = (conditions: readonly Condition[], options: Partial<Wanted> = {}): Wanted => ({ conditions, generation: 1, resourceVersion: "5", ...options });
const written = (conditions: readonly Condition[], options: Partial<Written> = {}): Written => ({
  conditions: conditions.map((condition) => ({ ...condition, lastTransitionTime: "2026-01-01T00:00:00Z" })),
  generation: 1,
  resourceVersion: "5",
  at: 0,
  ...options,
});

describe("urgencyOf", () => {
  const both = [ACCEPTED, IN_FORCE];
  it.each<[string, Wanted, Written | undefined, { now?: number; since?: number }, string]>([
    ["the same", wanted(both), written(both), {}, "none"],
    ["nothing is written yet, and it is in force", wanted(both), undefined, {}, "transition"],
    ["nothing is written yet, and nodes lag", wanted([ACCEPTED, LAGS]), undefined, { now: 4_999 }, "later"],
    ["nodes lag for long", wanted([ACCEPTED, LAGS]), written(both), { now: 5_000 }, "transition"],
    ["nodes lag for a moment", wanted([ACCEPTED, LAGS]), written(both), { now: 9_999, since: 5_000 }, "later"],
    ["nodes have caught up", wanted(both), written([ACCEPTED, LAGS]), {}, "transition"],
    ["it is not understood", wanted([REFUSED, LAGS]), written(both), {}, "transition"],
    ["a new generation that is in force", wanted(both, { generation: 2 }), written(both), {}, "transition"],
    ["a new generation that nodes do not have yet", wanted([ACCEPTED, LAGS], { generation: 2 }), written(both), {}, "later"],
    ["another object of the name", wanted(both, { resourceVersion: "9" }), written(both), {}, "transition"],
    ["what a leader before has written, of whichever version", wanted(both), written(both, { resourceVersion: undefined }), {}, "none"],
    ["another text", wanted([ACCEPTED, { ...IN_FORCE, message: "on 6" }]), written(both), { now: 299_999 }, "later"],
    ["another text for long", wanted([ACCEPTED, { ...IN_FORCE, message: "on 6" }]), written(both), { now: 300_000 }, "text"],
  ])("%s", (_name, want, have, { now = 1_000, since = 0 }, expected) => {
    expect(urgencyOf(want, have, { now, since, pace: PACE })).toBe(expected);
  });
});

describe("dated", () => {
  it("a condition keeps its time as long as its status stays, and is given the present one otherwise", () => {
    const now = "2026-02-02T00:00:00Z";
    const times = (conditions: readonly Condition[]) => dated(conditions, written([ACCEPTED, LAGS]), now).map(({ lastTransitionTime }) => lastTransitionTime);
    expect(times([ACCEPTED, { ...LAGS, message: "on 3 of 5" }])).toEqual(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]);
    expect(times([REFUSED, IN_FORCE])).toEqual([now, now]);
  });
});
