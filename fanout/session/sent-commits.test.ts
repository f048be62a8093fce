import { describe, expect, it } from "vitest";
import { SentCommits } from "./sent-commits.ts";

function fixture() {
  const sent = new SentCommits();
  return {
    sent,
    add: (revision: number, committedAtUnixUs: number): void => sent.add({ revision, committedAtUnixUs, sentAtUnixUs: committedAtUnixUs }),
    acknowledge: (programmed: number, nowUnixUs: number, isMoment = false): number[] => {
      const told: number[] = [];
      sent.acknowledge(programmed, nowUnixUs, isMoment, (seconds) => void told.push(Math.round(seconds * 1e6)));
      return told;
    },
  };
}

describe("sent commits", () => {
  it("an acknowledgement tells how old what it newly covers is, once; the end of an answer has no age", () => {
    const { sent, add, acknowledge } = fixture();
    expect(sent.oldestOpenAtUnixUs).toBe(0);
    add(3, 0);
    add(5, 500);
    add(7, 700);
    expect(acknowledge(2, 900)).toEqual([]);
    expect(acknowledge(5, 901)).toEqual([401]);
    expect(sent.oldestOpenAtUnixUs).toBe(700);
    expect(acknowledge(7, 902)).toEqual([202]);
    expect(acknowledge(7, 903)).toEqual([]);
    expect([1n, 3n, 4n, 5n, 6n, 8n].map((revision) => sent.programmedAt(revision))).toEqual([901, 901, 901, 901, 902, undefined]);
  });

  it("of an agent that says since when its kernel has it, only the newest of what an acknowledgement covers is told", () => {
    const { sent, add, acknowledge } = fixture();
    for (const revision of [3, 5, 7, 9]) add(revision, revision * 100);
    expect(acknowledge(7, 800, true)).toEqual([100]);
    expect(acknowledge(8, 850, true)).toEqual([]);
    expect(sent.oldestOpenAtUnixUs).toBe(900);
    expect([3n, 7n, 9n].map((revision) => sent.programmedAt(revision))).toEqual([800, 800, undefined]);
  });

  it("a receipt tells the seconds since its commit was sent, once; nothing of an answer, nor of a revision that was not sent as such", () => {
    const { sent, add } = fixture();
    add(3, 0);
    add(5, 500);
    add(7, 700);
    add(9, 900);
    expect([3, 4, 7, 7, 8, 9].map((revision) => sent.receive(revision, 1_700))).toEqual([-1, -1, 0.001, -1, -1, 0.0008]);
    for (let i = 10; i <= 100; i++) add(i, i);
    expect([20, 40, 100].map((revision) => sent.receive(revision, 1_100))).toEqual([-1, 0.00106, 0.001]);
    add(101, 1_500);
    // By a clock that was set back.
    expect(sent.receive(101, 1_400)).toBe(0);
  });

  it("keeps the last 64, whatever of them is acknowledged", () => {
    const { sent, add, acknowledge } = fixture();
    for (let i = 1; i <= 100; i++) add(i, i);
    expect(sent.oldestOpenAtUnixUs).toBe(37);
    expect(acknowledge(100, 1000)).toHaveLength(64);
    for (let i = 101; i <= 130; i++) add(i, i);
    expect([100n, 101n].map((revision) => sent.programmedAt(revision))).toEqual([1000, undefined]);
    expect(acknowledge(110, 2000)).toHaveLength(10);
    expect(sent.oldestOpenAtUnixUs).toBe(111);
    expect([0n, 100n, 130n].map((revision) => sent.committedAfter(revision))).toEqual([67, 101, 0]);
    expect([66n, 67n, 110n, 111n].map((revision) => sent.programmedAt(revision))).toEqual([1000, 1000, 2000, undefined]);
  });
});
