/**
 * When the status of the cluster is worth a write. Pure.
 *
 * A condition takes its new value when it has been wanted for a while: longer to say that something is wrong (a rolling restart, a node that reboots) than
 * that it is right again. A value that goes back in between is never written, so that the object does not flap. Counts alone are written once a minute.
 */
import type { ClusterCondition, ClusterStatus } from "./cluster-status.ts";

export interface ClusterStatusPace {
  /** ms */
  readonly badForMs: number;
  readonly goodForMs: number;
  readonly countsEveryMs: number;
  /** No two writes are closer than this. */
  readonly leastMs: number;
}

export const CLUSTER_STATUS_PACE: ClusterStatusPace = { badForMs: 15_000, goodForMs: 5_000, countsEveryMs: 60_000, leastMs: 2_000 };

const MAX_SUMMARY = 1_000;

export interface DatedCondition extends ClusterCondition {
  readonly lastTransitionTime: string;
}

export type DatedStatus = Omit<ClusterStatus, "conditions"> & {
  readonly conditions: readonly DatedCondition[];
  /** What is wrong in one line, or that nothing is. */
  readonly summary: string;
};

export class ClusterStatusPacer {
  readonly #pace: ClusterStatusPace;
  #written: DatedStatus | undefined;
  #writtenAt = Number.NEGATIVE_INFINITY;
  /** Since when a condition is wanted otherwise than it is written. */
  readonly #since = new Map<string, { readonly status: string; readonly at: number }>();

  constructor(pace: ClusterStatusPace = CLUSTER_STATUS_PACE) {
    this.#pace = pace;
  }

  /** What is to be written at `now` (monotonic ms); undefined: nothing. `nowText`: the same moment, RFC 3339. */
  due(wanted: ClusterStatus, now: number, nowText: string): DatedStatus | undefined {
    const conditions = wanted.conditions.map((condition) => this.#conditionAt(condition, now, nowText));
    const next: DatedStatus = { ...wanted, conditions, summary: summaryOf(conditions) };
    if (this.#written === undefined) return next;
    if (now - this.#writtenAt < this.#pace.leastMs || JSON.stringify(next) === JSON.stringify(this.#written)) return undefined;
    const isTransition = conditions.some(({ type, status, reason }) => {
      const before = this.#written?.conditions.find((one) => one.type === type);
      return before?.status !== status || before.reason !== reason;
    });
    return isTransition || now - this.#writtenAt >= this.#pace.countsEveryMs ? next : undefined;
  }

  /** It is in the API: written now, or found there. */
  written(status: DatedStatus, now: number): void {
    this.#written = status;
    this.#writtenAt = now;
    for (const { type, status: value } of status.conditions) if (this.#since.get(type)?.status === value) this.#since.delete(type);
  }

  #conditionAt(wanted: ClusterCondition, now: number, nowText: string): DatedCondition {
    const before = this.#written?.conditions.find(({ type }) => type === wanted.type);
    if (before === undefined) return { ...wanted, lastTransitionTime: nowText };
    if (before.status === wanted.status) {
      this.#since.delete(wanted.type);
      return { ...wanted, lastTransitionTime: before.lastTransitionTime };
    }
    const pending = this.#since.get(wanted.type);
    const since = pending?.status === wanted.status ? pending.at : now;
    this.#since.set(wanted.type, { status: wanted.status, at: since });
    const mustLastMs = wanted.status === "True" ? this.#pace.goodForMs : this.#pace.badForMs;
    return now - since >= mustLastMs ? { ...wanted, lastTransitionTime: nowText } : before;
  }
}

/** Of what the conditions say as they are written, not of what has not lasted yet. */
function summaryOf(conditions: readonly ClusterCondition[]): string {
  const told = conditions.filter(({ type, status }) => type !== "Ready" && status !== "True").map(({ message }) => message);
  return told.length === 0 ? "all is well" : told.join("; ").slice(0, MAX_SUMMARY);
}
