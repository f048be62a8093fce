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
  /** Of all frames. */
  readonly bytes: number;
  readonly revision: bigint;
  readonly sent: SentCommit;
}

/** What a message is made of. */
export interface SharedMaking {
  readonly table: Table;
  readonly frames: FrameCache;
  readonly limits: { readonly partBytes: number };
  upstreamSince(revision: bigint): readonly bigint[];
  /** Microseconds since 1970. */
  wallTimeUs(): number;
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

  /**
   * The message at the table's present revision, which must not change any more; undefined: it is above `limits.partBytes`, and has to go in parts.
   * `hasUpstream`: for agents with the feature "upstream".
   */
  message(hasUpstream: boolean, making: SharedMaking): SharedMessage | undefined {
    const made = hasUpstream ? this.#withUpstream : this.#plain;
    if (made !== undefined) {
      making.frames.counts.shared++;
      return made;
    }
    const { table, frames, limits } = making;
    this.#delta ??= this.#deltaOf(table);
    if (bytesOfDelta(this.#delta) > limits.partBytes) return undefined;
    const { revision: since, committedAtUnixUs } = this.since;
    const { revision } = table;
    const fields = { revision, committedAtUnixUs };
    const upstream = hasUpstream ? { upstream: { since, versions: making.upstreamSince(since) } } : {};
    const ready = frames.frames(this.#delta, { ...fields, ...upstream });
    const message: SharedMessage = {
      frames: ready,
      bytes: ready.reduce((sum, frame) => sum + frame.length, 0),
      revision,
      sent: { revision: Number(revision), committedAtUnixUs: Number(committedAtUnixUs), sentAtUnixUs: making.wallTimeUs() },
    };
    if (hasUpstream) this.#withUpstream = message;
    else this.#plain = message;
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
