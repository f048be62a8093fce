/**
 * Work that is due, and who waits for it: any number of marks before the wait are one. A condition and its waker live in one class, so that a mark
 * between the look and the wait cannot be lost. One waiter at a time; an emitter was rejected, since it keeps no state between the mark and the wait.
 */
export class Due {
  #isDue: boolean;
  #wake: () => void = () => undefined;

  constructor(isDue = false) {
    this.#isDue = isDue;
  }

  get isDue(): boolean {
    return this.#isDue;
  }

  mark(): void {
    this.#isDue = true;
    this.#wake();
  }

  /** What was marked is being done: marks from here on are of later work. */
  clear(): void {
    this.#isDue = false;
  }

  /** Resolves once something is due, or the signal aborts (look at it). Leaves no listener behind. */
  wait(signal: AbortSignal): Promise<void> {
    if (this.#isDue || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = (): void => {
        signal.removeEventListener("abort", finish);
        this.#wake = () => undefined;
        resolve();
      };
      this.#wake = finish;
      signal.addEventListener("abort", finish, { once: true });
    });
  }
}
