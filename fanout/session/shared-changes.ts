/**
 * What changed for every node since the last flush, once for all sessions: a commit that reaches everybody costs each session one field, and the flush
 * one message that is made once.
 *
 * Invariant: only records that every node has are in here, so what a key is (a value, or gone) is the same for all. A session that has something of its own to
 * send, or no room, takes the keys over (`keys`) and goes its own way.
 */
import type { RecordKey } from "../../src/model/record.ts";
import type { Table } from "../table/table.ts";
import { bytesOfDelta, type CommitMark, type Delta, type FrameCache } from "./frames.ts";
import type { SentCommit } from "./sent-commits.ts";

/** What a session sends for it. */
export interface SharedMessage {
  readonly frames: readonly Uint8Array[];
  readonly sent: SentCommit;
}

export class SharedChanges {
  readonly keys = new Set<RecordKey>();
  /** The first commit in it. */
  readonly since: CommitMark;
  #plain: SharedMessage | undefined;
  #withUpstream: SharedMessage | undefined;
  #delta: Delta | undefined;

  constructor(since: CommitMark) {
    this.since = since;
  }

  add(key: RecordKey): void {
    this.keys.add(key);
  }

  /** The message at the table's present revision, which must not change any more; undefined: it is above `maxBytes`, and has to go in parts. */
  message({
    table,
    frames,
    upstream,
    maxBytes,
  }: {
    readonly table: Table;
    readonly frames: FrameCache;
    /** Of agents with the feature "upstream". */
    readonly upstream: readonly bigint[] | undefined;
    readonly maxBytes: number;
  }): SharedMessage | undefined {
    const made = upstream === undefined ? this.#plain : this.#withUpstream;
    if (made !== undefined) {
      frames.counts.shared++;
      return made;
    }
    this.#delta ??= this.#deltaOf(table);
    if (bytesOfDelta(this.#delta) > maxBytes) return undefined;
    const { revision: since, committedAtUnixUs } = this.since;
    const fields = { revision: table.revision, committedAtUnixUs };
    const message: SharedMessage = {
      frames: frames.frames(this.#delta, upstream === undefined ? fields : { ...fields, upstream: { since, versions: upstream } }),
      sent: { revision: Number(table.revision), committedAtUnixUs: Number(committedAtUnixUs) },
    };
    if (upstream === undefined) this.#plain = message;
    else this.#withUpstream = message;
    return message;
  }

  #deltaOf(table: Table): Delta {
    const upserts = [];
    const removed = [];
    for (const key of this.keys) {
      const entry = table.findEntry(key);
      if (entry === undefined) removed.push(key);
      else upserts.push(entry);
    }
    return { upserts, removed };
  }
}
