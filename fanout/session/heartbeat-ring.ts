/**
 * Whose heartbeat is due: all of one interval's moments in a ring of slots, and each member in one of them, so that a tick touches those that are due and no other.
 *
 * Invariant: a member comes up once in each turn of the ring, at its own moment; a tick that comes late brings what was missed, each member once.
 * Rejected: a timer for each, and a look at each at every tick: both cost what there is, not what is due.
 */
const SLOTS = 20;

export class HeartbeatRing<Member> {
  /** How often `due` is to be asked (ms). */
  readonly tickMs: number;
  readonly #slots: readonly Set<Member>[] = Array.from({ length: SLOTS }, () => new Set<Member>());
  readonly #beganAt: number;
  /** Ticks until now, and of those the ones that `due` has brought. */
  #brought = 0;

  /** Times are ms of one monotonic clock. */
  constructor({ intervalMs, now }: { readonly intervalMs: number; readonly now: number }) {
    this.tickMs = Math.max(1, intervalMs / SLOTS);
    this.#beganAt = now;
  }

  /** First due at the time, or the tick after it, and then once an interval. The result takes it out. */
  add(member: Member, firstAt: number): () => void {
    const tick = Math.max(this.#brought + 1, Math.ceil((firstAt - this.#beganAt) / this.tickMs));
    const slot = this.#slotOf(tick);
    slot.add(member);
    return () => {
      slot.delete(member);
    };
  }

  /** Members whose moment has come since the call before. */
  *due(now: number): Generator<Member> {
    const reached = Math.floor((now - this.#beganAt) / this.tickMs);
    const first = Math.max(this.#brought + 1, reached - SLOTS + 1);
    this.#brought = Math.max(this.#brought, reached);
    for (let tick = first; tick <= reached; tick++) yield* this.#slotOf(tick);
  }

  #slotOf(tick: number): Set<Member> {
    const slot = this.#slots[tick % SLOTS];
    if (slot === undefined) throw new Error(`no slot for tick ${tick}`);
    return slot;
  }
}
