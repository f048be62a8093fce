import { describe, expect, it } from "vitest";
import type { LagReport } from "./lag.ts";
import { type ConcernedNodes, type TierAnswers, TierLag } from "./tier-lag.ts";

const report = (server: string, options: Partial<LagReport> = {}): LagReport => ({
  server,
  isInSync: true,
  reached: new Map([["GlobalNetworkPolicy", 10n]]),
  connected: [],
  lagging: [],
  ...options,
});
const NODES = ["n1", "n2", "n10"];
const concerned = (...names: readonly string[]): ConcernedNodes => ({ size: names.length, has: (name) => names.includes(name), names: () => names });
const everywhere = concerned(...NODES);
const tier = (reports: readonly LagReport[], unanswered: TierAnswers["unanswered"] = []): TierLag => new TierLag({ reports, unanswered }, NODES);

describe("TierLag", () => {
  it("each server has some of the nodes: what none has is not connected, in the order in which people count", () => {
    const lag = tier([report("a", { connected: ["n1"] }), report("b", { connected: [] })]);
    expect(lag.laggingOf("policy/x//p", everywhere)).toEqual([
      { node: "n2", reason: "not connected", isConnected: false },
      { node: "n10", reason: "not connected", isConnected: false },
    ]);
    expect(lag.laggingOf("policy/x//p", concerned("n1"))).toEqual([]);
    expect(tier([report("a", { connected: ["n1", "n10"] }), report("b", { connected: ["n2"] })]).laggingOf("policy/x//p", everywhere)).toEqual([]);
  });

  it("a node lags for the policies that it lacks, for all when nothing is known of it, and with the kernel's words when it refused one", () => {
    const lagging = [
      { node: "n1", reason: "not yet sent", policies: ["policy/x//p", "policy/x//q"], failures: [{ policy: "policy/x//q", reason: "no room" }] },
      { node: "n2", reason: "waits for its view", policies: undefined, failures: [] },
    ];
    const lag = tier([report("a", { connected: NODES, lagging })]);
    const waits = { node: "n2", reason: "waits for its view", isConnected: true };
    expect(lag.laggingOf("policy/x//p", everywhere)).toEqual([{ node: "n1", reason: "not yet sent", isConnected: true }, waits]);
    expect(lag.laggingOf("policy/x//q", everywhere)).toEqual([{ node: "n1", reason: "no room", isConnected: true }, waits]);
    expect(lag.laggingOf("policy/x//r", everywhere)).toEqual([waits]);
    expect(lag.laggingOf("policy/x//r", concerned("n1"))).toEqual([]);
  });

  it("a server that does not answer is named where its nodes are missed", () => {
    const lag = tier([report("a", { connected: ["n1", "n10"] })], [{ server: "b", reason: "no answer in 2 s" }]);
    expect(lag.laggingOf("policy/x//p", everywhere)).toEqual([
      { node: "n2", reason: "not connected to a server that answers (b does not: no answer in 2 s)", isConnected: false },
    ]);
  });

  it("as long as a server has not come as far as the object, nobody can say who lacks it", () => {
    const behind = report("b", { reached: new Map([["GlobalNetworkPolicy", 9n]]) });
    expect(tier([report("a"), behind]).blindness("GlobalNetworkPolicy", 9n)).toBeUndefined();
    expect(tier([report("a"), behind]).blindness("GlobalNetworkPolicy", 10n)).toBe("server b has not seen this version yet");
    expect(tier([report("a"), report("b", { isInSync: false })]).blindness("Tier", 0n)).toBe("server b does not have the whole cluster yet");
    // Of a kind whose version a server does not know nothing is concluded.
    expect(tier([report("a", { reached: new Map() })]).blindness("GlobalNetworkPolicy", 10n)).toBeUndefined();
  });
});
