/** A histogram of microseconds, and what a result says of it. */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

/** Milliseconds. */
export interface LatencyFigures {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export class Latency {
  readonly #histogram: RecordableHistogram = createHistogram({ figures: 3 });

  record(us: number): void {
    this.#histogram.record(Math.max(1, Math.round(us)));
  }

  reset(): void {
    this.#histogram.reset();
  }

  figures(): LatencyFigures {
    const at = (percent: number): number => rounded(this.#histogram.percentile(percent) / 1000);
    const isEmpty = this.#histogram.count === 0;
    return { count: this.#histogram.count, p50: isEmpty ? 0 : at(50), p99: isEmpty ? 0 : at(99), max: isEmpty ? 0 : rounded(this.#histogram.max / 1000) };
  }
}

/** Microseconds since 1970, finer than Date.now(); the processes of one machine agree on it. */
export function unixUs(): number {
  return (performance.timeOrigin + performance.now()) * 1000;
}

/** To three digits after the point. */
export function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
