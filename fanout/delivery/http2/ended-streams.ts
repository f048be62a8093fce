/**
 * How streams that are gone ended, for frames of theirs that are still under way: "done" by the peer, which must send nothing more, or "ours", which the peer
 * may not know of yet. The newest are kept; what comes for an older one is an error of the connection, as for one that never was.
 */
export type Ended = "done" | "ours";

const MAX_KEPT = 128;

export class EndedStreams {
  /** Made at the first end: most connections have one stream, and it lasts as long as they do. */
  #ends: Map<number, Ended> | undefined;

  note(streamId: number, how: Ended): void {
    this.#ends ??= new Map();
    this.#ends.set(streamId, how);
    if (this.#ends.size <= MAX_KEPT) return;
    for (const oldest of this.#ends.keys()) {
      this.#ends.delete(oldest);
      return;
    }
  }

  /** Undefined: it has not ended, or long ago. */
  find(streamId: number): Ended | undefined {
    return this.#ends?.get(streamId);
  }
}
