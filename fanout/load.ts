/**
 * What this server carries of what it can, as one number that an autoscaler can use: 1 is full.
 *
 * It is the larger of two: agents of those that a server is meant to carry, and the share of time in which the event loop was busy over the last half
 * minute. The first is known before agents come and does not tremble; the second finds what the first cannot know, such as very large views.
 */
import { type EventLoopUtilization, performance } from "node:perf_hooks";
import type { Clock } from "../src/runtime/clock.ts";
import type { Part } from "../src/runtime/supervisor.ts";

const SAMPLE_MS = 5_000;
const SAMPLES = 6;

export interface LoadOptions {
  readonly clock: Clock;
  readonly clients: () => number;
  /** Agents that a server is meant to carry. */
  readonly capacity: number;
  readonly utilization?: () => EventLoopUtilization;
}

export class Load implements Part {
  readonly name = "load";
  readonly #options: LoadOptions;
  readonly #samples: EventLoopUtilization[] = [];

  constructor(options: LoadOptions) {
    this.#options = options;
  }

  /** Share of the time that the event loop was busy, over the samples that are kept. */
  get busy(): number {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined) return 0;
    const active = last.active - first.active;
    const total = active + last.idle - first.idle;
    return total <= 0 ? 0 : active / total;
  }

  get ratio(): number {
    const { clients, capacity } = this.#options;
    return Math.max(clients() / capacity, this.busy);
  }

  /** Samples until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#samples.push((this.#options.utilization ?? (() => performance.eventLoopUtilization()))());
      if (this.#samples.length > SAMPLES + 1) this.#samples.shift();
      await this.#options.clock.sleep(SAMPLE_MS, signal);
    }
  }
}
