/** The sizes are held against what is known of the real Typha (calico#11847: 10,000 pods, 1.17 MB of snappy, 4.65 times smaller than raw). */
import { describe, expect, it } from "vitest";
import { typhaDeltas, typhaSessions, typhaSnapshot } from "./typha.ts";

const SHAPE = { agents: 100, nodes: 100, podsPerNode: 10, policies: 5, seed: 1 };

describe("what Typha would have sent", () => {
  it("a snapshot has every pod, and a pod costs no more than in the published measurement", () => {
    const few = typhaSnapshot({ ...SHAPE, podsPerNode: 5 });
    const many = typhaSnapshot(SHAPE);
    const pods = many.pairs - few.pairs;
    // A few nodes have more than five pods already: those of the policies.
    expect(pods).toBeGreaterThan(480);
    expect(pods).toBeLessThanOrEqual(500);
    const rawPerPod = (many.rawBytes - few.rawBytes) / pods;
    expect(rawPerPod).toBeGreaterThan(300);
    expect(rawPerPod).toBeLessThanOrEqual(544);
    const wirePerPod = (many.wireBytes - few.wireBytes) / pods;
    // Names that are made by counting compress better than a real cluster's: Typha looks better for it.
    expect(wirePerPod).toBeGreaterThan(30);
    expect(wirePerPod).toBeLessThanOrEqual(117);
  });

  it("each session is a whole snapshot", () => {
    const snapshot = typhaSnapshot(SHAPE);
    expect(typhaSessions(snapshot, 7)).toMatchObject({ messages: 7, bytes: 7 * snapshot.wireBytes });
  });

  it("a pod that changes goes to every client; a node three times, for three data sets", () => {
    expect(typhaDeltas({ shape: SHAPE, kind: "scoped", changes: 20, batch: 1 }).messages).toBe(20 * 100);
    expect(typhaDeltas({ shape: SHAPE, kind: "broadcast", changes: 20, batch: 1 }).messages).toBe(20 * 100 * 3);
  });

  it("ten changes at once are cheaper than ten alone, and none is left out", () => {
    const alone = typhaDeltas({ shape: SHAPE, kind: "broadcast", changes: 20, batch: 1 });
    const burst = typhaDeltas({ shape: SHAPE, kind: "broadcast", changes: 20, batch: 10 });
    expect(burst.messages).toBe(alone.messages);
    expect(burst.bytes).toBeLessThan(alone.bytes);
    // Lower than what was measured for one value of 200 bytes: 338.
    expect(alone.bytes / alone.messages).toBeLessThan(500);
  });
});
