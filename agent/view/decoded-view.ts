/**
 * The view as values: what the planner sees.
 *
 * Invariant: a record that cannot be understood never takes away what was in force: the last value that was understood stays, and the record is
 * counted and reported. Where there never was one, the key is in `undecodable`, and whatever depends on it fails closed. Only a removal removes.
 */
import type { RecordKey, RecordValue } from "../../src/model/record.ts";
import { type DecodedRecord, decodeRecord } from "../../src/wire/record-codec.ts";
import type { View, ViewDelta } from "../../src/wire/view.ts";

/** A commit as values, ready to be applied; and what the store has to write down so that a restart comes to the same values. */
export interface DecodedDelta {
  readonly changes: ReadonlyMap<RecordKey, Pick<DecodedRecord, "value" | "problem"> | undefined>;
  readonly kept: readonly Uint8Array[];
  readonly unkept: readonly RecordKey[];
}

export class DecodedView {
  readonly #records = new Map<RecordKey, RecordValue>();
  readonly #undecodable = new Map<RecordKey, string>();
  readonly #outdated = new Map<RecordKey, string>();

  /** From a store: the view, and the bytes of last good values. */
  static restore(view: View, kept: ReadonlyMap<RecordKey, Uint8Array>): DecodedView {
    const decoded = new DecodedView();
    for (const { key, bytes } of view.records.values()) {
      const lastGood = kept.get(key);
      decoded.#put(key, tryDecode(bytes), () => (lastGood === undefined ? undefined : tryDecode(lastGood).value));
    }
    return decoded;
  }

  /** Values in force, by key. Unchanged records keep their identity from commit to commit. */
  get records(): ReadonlyMap<RecordKey, RecordValue> {
    return this.#records;
  }

  /** In the view, not understood, and never was: with the reason. */
  get undecodable(): ReadonlyMap<RecordKey, string> {
    return this.#undecodable;
  }

  /** In the view and not understood; an earlier value is in force. */
  get outdated(): ReadonlyMap<RecordKey, string> {
    return this.#outdated;
  }

  /** Decodes without changing anything: the commit is written to disk in between. */
  decode(delta: ViewDelta): DecodedDelta {
    const changes = new Map<RecordKey, Pick<DecodedRecord, "value" | "problem"> | undefined>();
    const kept: Uint8Array[] = [];
    const unkept: RecordKey[] = [];
    for (const [key, { before, after }] of delta.changes) {
      const decoded = after === undefined ? undefined : tryDecode(after.bytes);
      changes.set(key, decoded);
      const wasOutdated = this.#outdated.has(key);
      const isOutdated = decoded !== undefined && decoded.value === undefined && this.#records.has(key);
      if (isOutdated && !wasOutdated && before !== undefined) kept.push(before.bytes);
      if (wasOutdated && !isOutdated) unkept.push(key);
    }
    return { changes, kept, unkept };
  }

  apply({ changes }: DecodedDelta): void {
    for (const [key, decoded] of changes) {
      if (decoded !== undefined) {
        this.#put(key, decoded, () => this.#records.get(key));
        continue;
      }
      this.#records.delete(key);
      this.#undecodable.delete(key);
      this.#outdated.delete(key);
    }
  }

  #put(key: RecordKey, { value, problem }: Pick<DecodedRecord, "value" | "problem">, lastGood: () => RecordValue | undefined): void {
    const inForce = value ?? lastGood();
    this.#undecodable.delete(key);
    this.#outdated.delete(key);
    if (inForce === undefined) {
      this.#records.delete(key);
      this.#undecodable.set(key, problem);
      return;
    }
    this.#records.set(key, inForce);
    if (value === undefined) this.#outdated.set(key, `${problem}; the value before it stays in force`);
  }
}

function tryDecode(bytes: Uint8Array): Pick<DecodedRecord, "value" | "problem"> {
  try {
    return decodeRecord(bytes);
  } catch (error) {
    return { value: undefined, problem: error instanceof Error ? error.message : String(error) };
  }
}
