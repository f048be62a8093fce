/**
 * What the server is told of our state: the newest only, coalesced.
 *
 * Invariant: `programmed` is never ahead of what the kernel has, nor from another epoch than the session's. A state that was already sent is not sent
 * again. Received and programmed within a few milliseconds are one message.
 */
import type { Ack } from "../../src/wire/gen/sedge/sync/v1/sync.ts";

/** What is not in force, and why. */
export interface ObjectFailure {
  readonly key: string;
  readonly reason: string;
}

/** An Ack of at most this many failures: a broken view must not make a message that the server refuses. */
const MAX_FAILURES = 1000;

export class Acknowledgements {
  readonly #coalesceMs: number;
  #send: ((ack: Ack) => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #received = 0n;
  #programmed = 0n;
  #failed: readonly ObjectFailure[] = [];
  #lastSent = "";

  constructor(options: { readonly coalesceMs: number }) {
    this.#coalesceMs = options.coalesceMs;
  }

  /** A session is there. Revisions of the one before do not count: they may be of another epoch. */
  begin(send: (ack: Ack) => void): void {
    this.#send = send;
    this.#received = 0n;
    this.#programmed = 0n;
    this.#lastSent = "";
  }

  end(): void {
    this.#send = undefined;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  received(revision: bigint): void {
    if (revision <= this.#received) return;
    this.#received = revision;
    this.#schedule();
  }

  programmed(revision: bigint, failed: readonly ObjectFailure[]): void {
    this.#failed = failed;
    if (revision > this.#programmed && revision <= this.#received) this.#programmed = revision;
    this.#schedule();
  }

  /** Sends now what waits. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#send === undefined || this.#received === 0n) return;
    const failed = this.#failed.slice(0, MAX_FAILURES).map(({ key, reason }) => ({ key, reason }));
    const ack: Ack = { receivedRevision: this.#received, programmedRevision: this.#programmed, failed };
    const identity = `${this.#received} ${this.#programmed} ${JSON.stringify(failed)}`;
    if (identity === this.#lastSent) return;
    this.#lastSent = identity;
    this.#send(ack);
  }

  #schedule(): void {
    if (this.#send === undefined) return;
    // Nothing is left to come for this revision.
    if (this.#programmed === this.#received) return this.flush();
    this.#timer ??= setTimeout(() => this.flush(), this.#coalesceMs);
  }
}
