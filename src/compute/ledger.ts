/**
 * Collects the changes of one commit, one per record.
 *
 * Each record has one owner (a set, a group, …), which remembers what the last commit said of it and reports only differences.
 */

import type { NodeName } from "../model/names.ts";
import type { RecordChange, RecordKey, RecordValue } from "../model/record.ts";
import { type AudienceDelta, NO_NODES } from "./audience.ts";

export class Ledger {
  readonly #changes: RecordChange[] = [];

  /** The record is new, or has another value. */
  put(key: RecordKey, value: RecordValue, delta: AudienceDelta): void {
    this.#add({ key, value, isRemoved: false, entered: delta.entered, left: delta.left });
  }

  /** The value stays. Nothing is reported when the audience stays too. */
  move(key: RecordKey, delta: AudienceDelta): void {
    if (delta.entered.length > 0 || delta.left.length > 0) this.#add({ key, value: undefined, isRemoved: false, entered: delta.entered, left: delta.left });
  }

  /** The record is gone, for the nodes that had it. */
  remove(key: RecordKey, audience: readonly NodeName[]): void {
    this.#add({ key, value: undefined, isRemoved: true, entered: NO_NODES, left: audience });
  }

  /** All changes, sorted by key. */
  changes(): readonly RecordChange[] {
    const sorted = this.#changes.sort((a, b) => (a.key < b.key ? -1 : 1));
    for (let i = 1; i < sorted.length; i++) {
      if (sorted[i - 1]?.key === sorted[i]?.key) throw new Error(`record ${sorted[i]?.key} changes twice in one commit: it has two owners`);
    }
    return sorted;
  }

  #add(change: RecordChange): void {
    this.#changes.push(change);
  }
}
