import { describe, expect, it } from "vitest";
import { ManualClock } from "../../src/runtime/clock.ts";
import { Acknowledgements } from "./acknowledgements.ts";

function fixture(paceMs: number) {
  const clock = new ManualClock();
  const sent: string[] = [];
  const acknowledgements = new Acknowledgements({ coalesceMs: 5, clock });
  acknowledgements.begin(({ receivedRevision, programmedRevision, failed }) => {
    sent.push(`${clock.now()}: ${receivedRevision}/${programmedRevision}${failed.map(({ key }) => ` ${key}`).join("")}`);
  });
  acknowledgements.pace(paceMs);
  const commit = async (revision: bigint, tookMs: number): Promise<void> => {
    acknowledgements.received(revision);
    await clock.advance(tookMs);
    acknowledgements.programmed(revision, []);
  };
  return { clock, sent, acknowledgements, commit };
}

describe("acknowledgements", () => {
  it("tells how long after the receipt of its newest commit it comes: programming, and the pace", async () => {
    const clock = new ManualClock();
    const held: string[] = [];
    const acknowledgements = new Acknowledgements({ coalesceMs: 5, clock });
    acknowledgements.begin(({ receivedRevision, heldUs }) => void held.push(`${receivedRevision}: ${heldUs}`));
    acknowledgements.received(1n);
    await clock.advance(2);
    acknowledgements.programmed(1n, []);
    acknowledgements.pace(100);
    acknowledgements.received(2n);
    await clock.advance(40);
    acknowledgements.received(3n);
    acknowledgements.programmed(3n, []);
    await clock.advance(1_000);
    expect(held).toEqual(["1: 2000", "3: 60000"]);
  });

  it("tells how long its kernel has had the newest commit; nothing before it has any", async () => {
    const clock = new ManualClock();
    const held: string[] = [];
    const acknowledgements = new Acknowledgements({ coalesceMs: 5, clock });
    acknowledgements.begin(({ programmedRevision, programmedHeldUs }) => void held.push(`${programmedRevision}: ${programmedHeldUs}`));
    acknowledgements.received(1n);
    await clock.advance(10);
    acknowledgements.programmed(1n, []);
    acknowledgements.pace(100);
    acknowledgements.received(2n);
    acknowledgements.programmed(2n, []);
    await clock.advance(1_000);
    expect(held).toEqual(["0: undefined", "1: 0", "2: 100000"]);
  });

  it("a shorter pace counts at once for what waits, a longer one does not put it off", async () => {
    const { clock, sent, acknowledgements, commit } = fixture(1_000);
    await commit(1n, 0);
    await commit(2n, 100);
    acknowledgements.pace(50);
    expect(sent).toEqual(["0: 1/1", "100: 2/2"]);
    acknowledgements.pace(1_000);
    await commit(3n, 100);
    acknowledgements.pace(5_000);
    await clock.advance(900);
    acknowledgements.pace(0);
    await clock.advance(10_000);
    expect(sent.slice(2)).toEqual(["1100: 3/3"]);
  });

  it("without a pace: one message for a commit that is programmed at once, two when programming takes longer", async () => {
    const { clock, sent, commit } = fixture(0);
    await commit(1n, 2);
    await clock.advance(100);
    await commit(2n, 20);
    await clock.advance(100);
    expect(sent).toEqual(["2: 1/1", "107: 2/1", "122: 2/2"]);
  });

  it("at a pace: a lone commit is one message at once; of many only the newest, no sooner than the pace", async () => {
    const { clock, sent, commit } = fixture(100);
    await commit(1n, 20);
    for (let revision = 2n; revision <= 20n; revision++) await commit(revision, 10);
    await clock.advance(1_000);
    expect(sent[0]).toBe("20: 1/1");
    expect(sent.at(-1)).toMatch(/: 20\/20$/);
    const times = sent.map((text) => Number(text.split(":")[0]));
    for (const [i, at] of times.entries()) expect(at - (times[i - 1] ?? Number.NEGATIVE_INFINITY)).toBeGreaterThanOrEqual(100);
  });

  it("at a pace: programming that takes longer than the pace is told as received", async () => {
    const { clock, sent, commit } = fixture(100);
    await commit(1n, 250);
    await clock.advance(1_000);
    expect(sent).toEqual(["100: 1/0", "250: 1/1"]);
  });

  it("what fails, and that it no longer does, is told at once", async () => {
    const { clock, sent, acknowledgements, commit } = fixture(1_000);
    await commit(1n, 0);
    acknowledgements.received(2n);
    await clock.advance(10);
    acknowledgements.programmed(2n, [{ key: "policy/x", reason: "why" }]);
    await clock.advance(10);
    acknowledgements.programmed(2n, []);
    expect(sent).toEqual(["0: 1/1", "10: 2/2 policy/x", "20: 2/2"]);
  });

  it("the pace is the present session's, and bounded", async () => {
    const { clock, sent, acknowledgements, commit } = fixture(3_600_000);
    await commit(1n, 0);
    await commit(2n, 0);
    await clock.advance(5_000);
    expect(sent).toEqual(["0: 1/1", "5000: 2/2"]);
    acknowledgements.end();
    acknowledgements.begin(({ receivedRevision }) => void sent.push(String(receivedRevision)));
    await commit(1n, 0);
    await commit(2n, 0);
    expect(sent.slice(2)).toEqual(["1", "2"]);
  });
});
