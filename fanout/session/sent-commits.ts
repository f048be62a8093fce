/**
 * When what was sent to one node was committed there and acknowledged: the last 64 commits. For the histograms of sent-to-received and
 * commit-to-kernel, and for "programmed at" of an object. Older ones are forgotten.
 *
 * Times and revisions are numbers, and a commit that went to many is one object for all of them: there are thousands of these, and every one is touched at
 * every commit. (Microseconds since 1970 stay exact until the year 2255.)
 */
const MAX_KEPT = 64;

export interface SentCommit {
  readonly revision: number;
  /** 0: the end of an answer, which has no one time. */
  readonly committedAtUnixUs: number;
  /** When it was given to the transport; of one that went to many, when its message was made. 0: the end of an answer. */
  readonly sentAtUnixUs: number;
}

/** Programmed at: not yet. */
const OPEN = 0;

export class SentCommits {
  /** A ring once it is full. */
  readonly #commits: SentCommit[] = [];
  readonly #programmedAt: number[] = [];
  #oldest = 0;
  /** So many of them, from the oldest, are programmed. */
  #programmed = 0;
  /** So many of them, from the oldest, are received. */
  #received = 0;

  /** Revisions of before do not count any more. */
  clear(): void {
    this.#commits.length = 0;
    this.#programmedAt.length = 0;
    this.#oldest = 0;
    this.#programmed = 0;
    this.#received = 0;
  }

  add(commit: SentCommit): void {
    if (this.#commits.length < MAX_KEPT) {
      this.#commits.push(commit);
      this.#programmedAt.push(OPEN);
      return;
    }
    this.#commits[this.#oldest] = commit;
    this.#programmedAt[this.#oldest] = OPEN;
    this.#oldest = (this.#oldest + 1) % MAX_KEPT;
    this.#programmed = Math.max(0, this.#programmed - 1);
    this.#received = Math.max(0, this.#received - 1);
  }

  /**
   * An Ack says that the agent received the revision at this moment (`receivedAtUnixUs`, by our clock): the seconds from its sending to then. -1: an Ack said
   * so before, or the revision was not sent as one commit. Of several commits that one Ack covers only the newest counts: the agent tells no time of the others.
   */
  receive(received: number, receivedAtUnixUs: number): number {
    let newest: SentCommit | undefined;
    for (; this.#received < this.#commits.length; this.#received++) {
      const commit = this.#commits[this.#place(this.#received)];
      if (commit === undefined || commit.revision > received) break;
      newest = commit;
    }
    if (newest === undefined || newest.revision !== received || newest.sentAtUnixUs === 0) return -1;
    return Math.max(0, receivedAtUnixUs - newest.sentAtUnixUs) / 1e6;
  }

  /**
   * Marks everything up to the revision, which the kernel has had since `atUnixUs`; tells the seconds from commit to then. Of several that became programmed by
   * this only the newest is told, as for `receive`; of an agent that does not say since when (`isMoment` false: `atUnixUs` is the Ack's arrival), each.
   */
  acknowledge(programmed: number, atUnixUs: number, isMoment: boolean, tell: (seconds: number) => void): void {
    for (; this.#programmed < this.#commits.length; this.#programmed++) {
      const place = this.#place(this.#programmed);
      const commit = this.#commits[place];
      if (commit === undefined || commit.revision > programmed) return;
      this.#programmedAt[place] = atUnixUs;
      if (commit.committedAtUnixUs !== 0 && (!isMoment || commit.revision === programmed)) tell((atUnixUs - commit.committedAtUnixUs) / 1e6);
    }
  }

  /** When the oldest commit that was sent and is not programmed was made; 0: there is none, or it has no one time. */
  get oldestOpenAtUnixUs(): number {
    return this.#programmed < this.#commits.length ? (this.#commits[this.#place(this.#programmed)]?.committedAtUnixUs ?? 0) : 0;
  }

  /** When the oldest commit after the revision that was sent was made; 0: there is none, or it has no one time. */
  committedAfter(revision: bigint): number {
    for (let i = 0; i < this.#commits.length; i++) {
      const commit = this.#commits[this.#place(i)];
      if (commit !== undefined && commit.revision > revision) return commit.committedAtUnixUs;
    }
    return 0;
  }

  /** When the revision was acknowledged as programmed (by the first message that held it); undefined: not yet, or nothing was sent for it, or too old. */
  programmedAt(revision: bigint): number | undefined {
    const wanted = Number(revision);
    for (let i = 0; i < this.#commits.length; i++) {
      const place = this.#place(i);
      if ((this.#commits[place]?.revision ?? 0) < wanted) continue;
      const at = this.#programmedAt[place];
      return at === OPEN ? undefined : at;
    }
    return undefined;
  }

  #place(index: number): number {
    return (this.#oldest + index) % MAX_KEPT;
  }
}
