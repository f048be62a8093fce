/**
 * How long the first change waits for others. Short while the server is idle, so that a single change is fast; longer while flushing takes much of the
 * time, so that more changes share a message. The longest window is below the hard limit of 1 s from change to message.
 */
export const FLUSH_WINDOWS_MS = [10, 100, 500] as const;

/** A window is too short when flushing takes more than this part of it, and longer than needed when flushing would take less than a tenth of it in the next shorter. */
const TOO_BUSY = 0.5;
const IDLE = 0.1;

export class FlushWindow {
  readonly #windowsMs: readonly number[];
  #index = 0;

  constructor(windowsMs: readonly number[] = FLUSH_WINDOWS_MS) {
    this.#windowsMs = windowsMs;
  }

  get currentMs(): number {
    return this.#windowsMs[this.#index] ?? 0;
  }

  /** Learns how long a flush took. */
  note(tookMs: number): void {
    const shorter = this.#windowsMs[this.#index - 1];
    if (tookMs > this.currentMs * TOO_BUSY && this.#index < this.#windowsMs.length - 1) this.#index++;
    else if (shorter !== undefined && tookMs < shorter * IDLE) this.#index--;
  }
}
