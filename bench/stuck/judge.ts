/**
 * Whether memory is bounded, from samples over time: a line is fitted through the floors of the second half of a run, when caches and heaps have grown to their size,
 * and what it grows by in that half must be small beside the level. A floor is the least that was held in a sixteenth of the run: a leak lifts it, while readers that
 * fall behind on a busy machine and catch up again, whose queues have a bound of their own, do not. A line through all samples takes such a wave for a leak. Pure.
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
  /** Mean of the floors. */
  readonly levelMb: number;
  /** The most that any sample held. */
  readonly mostMb: number;
  readonly samples: number;
}

const FEWEST = 32;
/** Floors of a whole run. */
const FLOORS = 16;
/** What may be grown in the half of a run: so much of the level, or so many MB where the level is low. */
const SHARE = 0.05;
const LEAST_MB = 8;

export function judge(samples: readonly Sample[]): Judgement {
  const floors = floorsOf(samples).slice(FLOORS / 2);
  const n = Math.max(1, floors.length);
  const meanX = floors.reduce((sum, { seconds }) => sum + seconds, 0) / n;
  const meanY = floors.reduce((sum, { mb }) => sum + mb, 0) / n;
  let [products, squares] = [0, 0];
  for (const { seconds, mb } of floors) {
    products += (seconds - meanX) * (mb - meanY);
    squares += (seconds - meanX) ** 2;
  }
  const slope = squares === 0 ? 0 : products / squares;
  const grownMb = (slope * ((samples.at(-1)?.seconds ?? 0) - (samples[0]?.seconds ?? 0))) / 2;
  return {
    isBounded: samples.length < FEWEST ? undefined : grownMb <= Math.max(LEAST_MB, SHARE * meanY),
    mbPerHour: Math.round(slope * 3_600 * 100) / 100,
    grownMb: Math.round(grownMb * 100) / 100,
    levelMb: Math.round(meanY * 10) / 10,
    mostMb: samples.reduce((most, { mb }) => Math.max(most, mb), 0),
    samples: samples.length,
  };
}

/** The sample that held least in each part of the run. */
function floorsOf(samples: readonly Sample[]): readonly Sample[] {
  const floors: Sample[] = [];
  for (let part = 0; part < FLOORS; part++) {
    const within = samples.slice(Math.floor((part * samples.length) / FLOORS), Math.floor(((part + 1) * samples.length) / FLOORS));
    const [first, ...others] = within;
    if (first !== undefined) floors.push(others.reduce((floor, sample) => (sample.mb < floor.mb ? sample : floor), first));
  }
  return floors;
}
