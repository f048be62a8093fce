/**
 * How long the first change waits for others. Short while the server is idle, so that a single change is fast; longer while flushing takes much of the
 * time, so that more changes share a message. The longest window is below the hard limit of 1 s from change to message.
 */
export const FLUSH_WINDOWS_MS = [10, 100, 500] as const;

/** A window is too short when flushing takes more than this share of the time, and longer than needed when it takes less than that one. */
const TOO_BUSY = 0.5;
const IDLE = 0.2;

/** One flush, in ms. */
export interface FlushTimes {
  readonly tookMs: number;
  /** How long after its time it began: the event loop was busy with what the flush before had caused. */
  readonly lateMs: number;
  /** Since the flush before began. */
  readonly sinceMs: number;
}

/**
 * Decides by the share of time, not by how long one flush takes: a change for thousands of clients takes many windows' time to send and is still no
 * reason to hold the next one back when that comes a second later.
 */
export class FlushWindow {
  readonly #windowsMs: readonly number[];
  #index = 0;

  constructor(windowsMs: readonly number[] = FLUSH_WINDOWS_MS) {
    this.#windowsMs = windowsMs;
  }

  get currentMs(): number {
    return this.#windowsMs[this.#index] ?? 0;
  }

  /** Learns from a flush. */
  note({ tookMs, lateMs, sinceMs }: FlushTimes): void {
    const share = (tookMs + lateMs) / Math.max(1, sinceMs);
    if (share > TOO_BUSY && this.#index < this.#windowsMs.length - 1) this.#index++;
    else if (share < IDLE && this.#index > 0) this.#index--;
  }
}
