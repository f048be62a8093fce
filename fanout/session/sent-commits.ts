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
  #commits: SentCommit[] = [];

  add(revision: bigint, committedAtUnixUs: bigint): void {
    this.#commits.push({ revision, committedAtUnixUs, programmedAtUnixUs: 0n });
    if (this.#commits.length > MAX_KEPT) this.#commits.shift();
  }

  /** Marks everything up to the revision; returns the commit times of what became programmed by this. */
  acknowledge(programmed: bigint, nowUnixUs: bigint): bigint[] {
    const newly: bigint[] = [];
    for (const commit of this.#commits) {
      if (commit.revision > programmed || commit.programmedAtUnixUs !== 0n) continue;
      commit.programmedAtUnixUs = nowUnixUs;
      newly.push(commit.committedAtUnixUs);
    }
    return newly;
  }

  /** When the revision was acknowledged as programmed (by the first message that held it); undefined: not yet, or nothing was sent for it, or too old. */
  programmedAt(revision: bigint): bigint | undefined {
    const commit = this.#commits.find((sent) => sent.revision >= revision);
    return commit === undefined || commit.programmedAtUnixUs === 0n ? undefined : commit.programmedAtUnixUs;
  }
}
