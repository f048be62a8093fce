/** When the last commits were made, so that a lag in revisions can be told in time. A ring: what is older than all of it is older than its oldest. */
import type { Commit } from "../table/table.ts";

const MAX_KEPT = 4_096;

export class CommitTimes {
  readonly #times: bigint[] = [];
  #last = 0n;

  add({ revision, committedAtUnixUs }: Commit): void {
    this.#times[Number(revision % BigInt(MAX_KEPT))] = committedAtUnixUs;
    this.#last = revision;
  }

  /** Microseconds since 1970 of the first commit after the revision (of the oldest kept, when that is forgotten); 0n: there is none. */
  after(revision: bigint): bigint {
    if (revision >= this.#last) return 0n;
    const oldest = this.#last - BigInt(Math.min(this.#times.length, MAX_KEPT)) + 1n;
    const wanted = revision + 1n > oldest ? revision + 1n : oldest;
    return this.#times[Number(wanted % BigInt(MAX_KEPT))] ?? 0n;
  }
}
