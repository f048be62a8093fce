/** Time as an input, so that tests drive it. Durations use the monotonic clock (ms); wall time only for what people read. */
import { setTimeout as sleepFor } from "node:timers/promises";

export interface Clock {
  /** Monotonic milliseconds, fractional. */
  now(): number;
  /** Milliseconds since 1970. */
  wallTime(): number;
  /** Resolves after `ms`, or at once when the signal aborts (it never rejects for an abort: look at the signal). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  wallTime: () => Date.now(),
  async sleep(ms, signal) {
    try {
      await sleepFor(ms, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  },
};

/** A clock that moves when the test says so. */
export class ManualClock implements Clock {
  #now = 0;
  /** Sorted by time; of the same time, in the order in which they began. */
  readonly #sleepers: { readonly at: number; wake: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  wallTime(): number {
    return 1_700_000_000_000 + this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      const sleeper = { at: this.#now + ms, wake: resolve };
      this.#sleepers.splice(this.#placeAfter(sleeper.at), 0, sleeper);
      const onAbort = (): void => {
        const place = this.#sleepers.indexOf(sleeper);
        if (place >= 0) this.#sleepers.splice(place, 1);
        resolve();
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      sleeper.wake = () => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      };
    });
  }

  /** Moves time and wakes sleepers in order. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (let next = this.#sleepers[0]; next !== undefined && next.at <= end; next = this.#sleepers[0]) {
      this.#sleepers.shift();
      this.#now = Math.max(this.#now, next.at);
      next.wake();
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#now = end;
  }

  /** Where one that wakes at the time stands: behind those that are there. */
  #placeAfter(at: number): number {
    let [low, high] = [0, this.#sleepers.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sleepers[middle]?.at ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
