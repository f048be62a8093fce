/** Back-off between tries: exponential, full jitter, capped; a delay that the peer asks for wins when it is longer. */
import type { Clock } from "./clock.ts";

export interface BackoffOptions {
  readonly initialMs: number;
  readonly maxMs: number;
  /** Source of randomness in [0, 1). */
  readonly random?: () => number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #tries = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** Delay before the next try, in ms; grows with each call until `reset`. */
  next(askedMs = 0): number {
    const ceiling = Math.min(this.#options.maxMs, this.#options.initialMs * 2 ** Math.min(this.#tries, 30));
    this.#tries++;
    const random = this.#options.random ?? Math.random;
    const jittered = ceiling / 2 + (ceiling / 2) * random();
    return Math.max(jittered, askedMs + Math.min(askedMs, ceiling) * 0.5 * random());
  }

  get tries(): number {
    return this.#tries;
  }

  reset(): void {
    this.#tries = 0;
  }
}

/** A duration spread by ± the fraction, so that many clients do not move in step. */
export function jittered(ms: number, fraction = 0.1, random: () => number = Math.random): number {
  return ms * (1 - fraction + 2 * fraction * random());
}

/** Calls `attempt` until it returns true or the signal aborts. */
export async function retryUntil(attempt: () => Promise<boolean>, options: { backoff: Backoff; clock: Clock; signal: AbortSignal }): Promise<void> {
  while (!options.signal.aborted && !(await attempt())) await options.clock.sleep(options.backoff.next(), options.signal);
}
