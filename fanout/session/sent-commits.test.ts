import { describe, expect, it } from "vitest";
import { SentCommits } from "./sent-commits.ts";

describe("sent commits", () => {
  it("an acknowledgement tells the commit times of what it newly covers, once; the end of an answer has none", () => {
    const sent = new SentCommits();
    sent.add(3n, 0n);
    sent.add(5n, 500n);
    sent.add(7n, 700n);
    expect(sent.acknowledge(2n, 900n)).toEqual([]);
    expect(sent.acknowledge(5n, 901n)).toEqual([500n]);
    expect(sent.acknowledge(7n, 902n)).toEqual([700n]);
    expect(sent.acknowledge(7n, 903n)).toEqual([]);
    expect([1n, 3n, 4n, 5n, 6n, 8n].map((revision) => sent.programmedAt(revision))).toEqual([901n, 901n, 901n, 901n, 902n, undefined]);
  });

  it("keeps the last 64", () => {
    const sent = new SentCommits();
    for (let i = 1n; i <= 100n; i++) sent.add(i, i);
    expect(sent.acknowledge(100n, 1n)).toHaveLength(64);
  });
});
