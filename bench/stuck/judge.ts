/**
 * Whether memory is bounded, from samples over time: a line is fitted through the second half of a run, when caches and heaps have grown to their size, and what it
 * grows by in that half must be small beside the level. Pure.
 */
export interface Sample {
  readonly seconds: number;
  readonly mb: number;
}

export interface Judgement {
  /** Undefined: too few samples to say. */
  readonly isBounded: boolean | undefined;
  readonly mbPerHour: number;
  /** By the line, over the second half. */
  readonly grownMb: number;
  readonly levelMb: number;
  readonly samples: number;
}

const FEWEST = 20;
/** What may be grown in the half of a run: so much of the level, or so many MB where the level is low. */
const SHARE = 0.05;
const LEAST_MB = 8;

export function judge(samples: readonly Sample[]): Judgement {
  const last = samples.slice(Math.floor(samples.length / 2));
  const n = Math.max(1, last.length);
  const meanX = last.reduce((sum, { seconds }) => sum + seconds, 0) / n;
  const meanY = last.reduce((sum, { mb }) => sum + mb, 0) / n;
  let [products, squares] = [0, 0];
  for (const { seconds, mb } of last) {
    products += (seconds - meanX) * (mb - meanY);
    squares += (seconds - meanX) ** 2;
  }
  const slope = squares === 0 ? 0 : products / squares;
  const grownMb = slope * ((last.at(-1)?.seconds ?? 0) - (last[0]?.seconds ?? 0));
  return {
    isBounded: samples.length < FEWEST ? undefined : grownMb <= Math.max(LEAST_MB, SHARE * meanY),
    mbPerHour: Math.round(slope * 3_600 * 100) / 100,
    grownMb: Math.round(grownMb * 100) / 100,
    levelMb: Math.round(meanY * 10) / 10,
    samples: samples.length,
  };
}
