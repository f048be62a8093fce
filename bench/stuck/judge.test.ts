import { describe, expect, it } from "vitest";
import { judge, type Sample } from "./judge.ts";

const series = (mb: (second: number) => number, count = 600): Sample[] => Array.from({ length: count }, (_, i) => ({ seconds: i, mb: mb(i) }));

describe("judge", () => {
  it("a level with noise is bounded, also after a rise at the beginning", () => {
    expect(judge(series((second) => 100 + 20 * (1 - Math.exp(-second / 60)) + 3 * Math.sin(second)))).toMatchObject({ isBounded: true });
  });

  it("a steady leak is not", () => {
    const { isBounded, mbPerHour } = judge(series((second) => 100 + second * 0.05));
    expect(isBounded).toBe(false);
    expect(mbPerHour).toBe(180);
  });

  /** Readers that fall behind for some minutes of an hour, again and again. */
  const wave = (second: number): number => 60 * Math.max(0, Math.sin(second / 3)) ** 2;

  it("queues that fill and empty are bounded, also when the last wave is the highest", () => {
    expect(judge(series((second) => 100 + wave(second) * (second / 300)))).toMatchObject({ isBounded: true, levelMb: 100 });
  });

  it("a leak under such waves is not", () => {
    expect(judge(series((second) => 100 + wave(second) + second * 0.05)).isBounded).toBe(false);
  });

  it("a level that falls is bounded", () => {
    expect(judge(series((second) => 200 - second * 0.1)).isBounded).toBe(true);
  });

  it("too few samples say nothing", () => {
    expect(judge(series(() => 1, 31)).isBounded).toBeUndefined();
    expect(judge([])).toMatchObject({ isBounded: undefined, grownMb: 0 });
  });
});
