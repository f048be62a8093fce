/** Which records changed for a relay's nodes since which revision, oldest first, until every node's kernel has them. Bounded by what the nodes have. */
import type { RecordKey } from "../../src/model/record.ts";

export class ChangedKeys {
  /** In the order of the revisions. */
  readonly #revisions = new Map<RecordKey, bigint>();

  note(key: RecordKey, revision: bigint): void {
    this.#revisions.delete(key);
    this.#revisions.set(key, revision);
  }

  /** Keys whose last change is newer. */
  after(revision: bigint): RecordKey[] {
    const keys: RecordKey[] = [];
    for (const [key, changed] of this.#revisions) if (changed > revision) keys.push(key);
    return keys;
  }

  /** Every node has what changed up to here. */
  forget(revision: bigint): void {
    for (const [key, changed] of this.#revisions) {
      if (changed > revision) return;
      this.#revisions.delete(key);
    }
  }
}
