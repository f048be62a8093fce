/**
 * When what was sent to one node was committed there and acknowledged: the last 64 commits. For the histogram of commit-to-kernel and for
 * "programmed at" of an object. Older ones are forgotten.
 */
const MAX_KEPT = 64;

interface SentCommit {
  readonly revision: bigint;
  readonly committedAtUnixUs: bigint;
  programmedAtUnixUs: bigint;
}

export class SentCommits {
  readonly #commits: SentCommit[] = [];
  /** Everything before this place is programmed. */
  #open = 0;

  /** `committedAtUnixUs` 0n: the end of an answer, which has no one time. */
  add(revision: bigint, committedAtUnixUs: bigint): void {
    this.#commits.push({ revision, committedAtUnixUs, programmedAtUnixUs: 0n });
    if (this.#commits.length <= MAX_KEPT) return;
    this.#commits.shift();
    this.#open = Math.max(0, this.#open - 1);
  }

  /** Marks everything up to the revision; returns the commit times of what became programmed by this. */
  acknowledge(programmed: bigint, nowUnixUs: bigint): bigint[] {
    const newly: bigint[] = [];
    for (; this.#open < this.#commits.length; this.#open++) {
      const commit = this.#commits[this.#open];
      if (commit === undefined || commit.revision > programmed) break;
      commit.programmedAtUnixUs = nowUnixUs;
      if (commit.committedAtUnixUs !== 0n) newly.push(commit.committedAtUnixUs);
    }
    return newly;
  }

  /** When the oldest commit that was sent and is not programmed was made; 0n: there is none, or it has no one time. */
  get oldestOpenAtUnixUs(): bigint {
    return this.#commits[this.#open]?.committedAtUnixUs ?? 0n;
  }

  /** When the oldest commit after the revision that was sent was made; 0n: there is none, or it has no one time. */
  committedAfter(revision: bigint): bigint {
    return this.#commits.find((sent) => sent.revision > revision)?.committedAtUnixUs ?? 0n;
  }

  /** When the revision was acknowledged as programmed (by the first message that held it); undefined: not yet, or nothing was sent for it, or too old. */
  programmedAt(revision: bigint): bigint | undefined {
    const commit = this.#commits.find((sent) => sent.revision >= revision);
    return commit === undefined || commit.programmedAtUnixUs === 0n ? undefined : commit.programmedAtUnixUs;
  }
}
