/**
 * What the server is told of our state: the newest only, coalesced, at the pace that the server asks for.
 *
 * Invariants: `programmed` is never ahead of what the kernel has, nor from another epoch than the session's. A state that was already sent is not sent
 * again. Received and programmed of one commit are one message, unless programming takes longer than the pace. What failed, or no longer fails, is told at
 * once. A lone change after a quiet time is told at once as well: the pace is a least distance between two Acks, not a delay of each.
 */
import type { Clock } from "../../src/runtime/clock.ts";
import type { Ack } from "../../src/wire/gen/sedge/sync/v1/sync.ts";

/** What is not in force, and why. */
export interface ObjectFailure {
  readonly key: string;
  readonly reason: string;
}

/** An Ack of at most this many failures: a broken view must not make a message that the server refuses. */
const MAX_FAILURES = 1000;
/** A server cannot make an agent silent. */
const MAX_INTERVAL_MS = 5_000;
const MAX_HELD_US = 2 ** 32 - 1;

export class Acknowledgements {
  readonly #coalesceMs: number;
  readonly #clock: Clock;
  #send: ((ack: Ack) => void) | undefined;
  #intervalMs = 0;
  /** When the next Ack goes out (ms by the clock); undefined: nothing waits. */
  #dueAt: number | undefined;
  #sentAt = Number.NEGATIVE_INFINITY;
  #received = 0n;
  #programmed = 0n;
  #receivedAt = 0;
  #programmedAt = 0;
  #failed: readonly ObjectFailure[] = [];
  #sentFailed = "[]";
  #lastSent = "";

  /** `coalesceMs`: how long a commit that was received waits for its programming, when the server asks for no pace. */
  constructor(options: { readonly coalesceMs: number; readonly clock: Clock }) {
    this.#coalesceMs = options.coalesceMs;
    this.#clock = options.clock;
  }

  /** A session is there. Revisions of the one before do not count: they may be of another epoch. */
  begin(send: (ack: Ack) => void): void {
    this.#send = send;
    this.#received = 0n;
    this.#programmed = 0n;
    this.#intervalMs = 0;
    this.#sentAt = Number.NEGATIVE_INFINITY;
    this.#sentFailed = "[]";
    this.#lastSent = "";
  }

  end(): void {
    this.#send = undefined;
    this.#dueAt = undefined;
  }

  /** The least distance (ms) between two Acks that only tell progress, as the server last asked. A shorter one counts at once for what waits. */
  pace(intervalMs: number): void {
    const before = this.#intervalMs;
    this.#intervalMs = Math.min(intervalMs, MAX_INTERVAL_MS);
    if (this.#intervalMs < before && this.#dueAt !== undefined) this.#schedule();
  }

  received(revision: bigint): void {
    if (revision <= this.#received) return;
    this.#received = revision;
    this.#receivedAt = this.#clock.now();
    this.#schedule();
  }

  programmed(revision: bigint, failed: readonly ObjectFailure[]): void {
    this.#failed = failed;
    if (revision > this.#programmed && revision <= this.#received) {
      this.#programmed = revision;
      this.#programmedAt = this.#clock.now();
    }
    if (this.#send !== undefined && textOf(failed) !== this.#sentFailed) this.flush();
    else this.#schedule();
  }

  /** Sends now what waits. */
  flush(): void {
    this.#dueAt = undefined;
    if (this.#send === undefined || this.#received === 0n) return;
    const failed = textOf(this.#failed);
    const identity = `${this.#received} ${this.#programmed} ${failed}`;
    if (identity === this.#lastSent) return;
    this.#lastSent = identity;
    this.#sentFailed = failed;
    this.#sentAt = this.#clock.now();
    this.#send({
      receivedRevision: this.#received,
      programmedRevision: this.#programmed,
      failed: this.#failed.slice(0, MAX_FAILURES).map(({ key, reason }) => ({ key, reason })),
      heldUs: this.#heldSince(this.#receivedAt),
      programmedHeldUs: this.#programmed === 0n ? undefined : this.#heldSince(this.#programmedAt),
    });
  }

  #heldSince(at: number): number {
    return Math.min(MAX_HELD_US, Math.round((this.#sentAt - at) * 1000));
  }

  #schedule(): void {
    if (this.#send === undefined) return;
    const now = this.#clock.now();
    // When both are the same, nothing is left to come for this revision.
    const dueAt = this.#programmed === this.#received ? Math.max(now, this.#sentAt + this.#intervalMs) : now + Math.max(this.#coalesceMs, this.#intervalMs);
    if (dueAt <= now) {
      this.flush();
      return;
    }
    if (this.#dueAt !== undefined && this.#dueAt <= dueAt) return;
    this.#dueAt = dueAt;
    void this.#clock.sleep(dueAt - now).then(() => {
      if (this.#dueAt === dueAt) this.flush();
    });
  }
}

function textOf(failed: readonly ObjectFailure[]): string {
  return failed.length === 0 ? "[]" : JSON.stringify(failed.slice(0, MAX_FAILURES).map(({ key, reason }) => ({ key, reason })));
}
