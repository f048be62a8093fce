/**
 * Objects that the kernel refused: the rest goes in without them, and what they were before stays in force.
 *
 * A refusal holds for the value that was refused; a new value gets a new chance. Invariant: what takes the place of a refused record is its last value
 * that the kernel took, or nothing, and the planner fails closed on nothing.
 */
import type { RecordKey, RecordValue } from "../../src/model/record.ts";
import { NftTransactionError } from "../drivers/nftables/error.ts";
import type { NftOperation } from "../plan/nft/ruleset.ts";
import { operationText } from "../plan/nft/text.ts";
import type { Plan, PlanFailure } from "../plan/ruleset.ts";

/** Kinds that become chains and sets. */
const PROGRAMMED_KINDS: readonly string[] = ["policy", "stack", "set"];

interface Refusal {
  /** Values as refused, by key: one, or all shards of a set. */
  readonly values: ReadonlyMap<RecordKey, RecordValue>;
  readonly reason: string;
}

export class Refusals {
  readonly #refusals = new Map<RecordKey, Refusal>();
  #taken: ReadonlyMap<RecordKey, RecordValue> = new Map();

  /** The records to plan from. The same map when nothing is refused. */
  effective(records: ReadonlyMap<RecordKey, RecordValue>): ReadonlyMap<RecordKey, RecordValue> {
    for (const [key, { values }] of this.#refusals) if (!isSame(valuesOf(records, key), values)) this.#refusals.delete(key);
    if (this.#refusals.size === 0) return records;
    const effective = new Map(records);
    for (const [refused, { values }] of this.#refusals) {
      for (const key of values.keys()) effective.delete(key);
      for (const [key, value] of valuesOf(this.#taken, refused)) effective.set(key, value);
    }
    return effective;
  }

  get failures(): readonly PlanFailure[] {
    return [...this.#refusals].map(([key, { reason }]) => ({ key: key.endsWith("/") ? key.slice(0, -1) : key, reason }));
  }

  /** The kernel took a plan of these records. */
  taken(records: ReadonlyMap<RecordKey, RecordValue>): void {
    this.#taken = new Map([...records].filter(([, { kind }]) => PROGRAMMED_KINDS.includes(kind)));
  }

  /** Finds whose fault an error is; false when it is no single record's, or one that was refused already. */
  blame(error: unknown, plan: Plan, transaction: readonly NftOperation[], records: ReadonlyMap<RecordKey, RecordValue>): boolean {
    let isNew = false;
    for (const { operation, reason } of accused(error, transaction)) {
      const key = plan.origins.get(objectOf(operation) ?? "");
      if (key === undefined || this.#refusals.has(key)) continue;
      this.#refusals.set(key, { values: valuesOf(records, key), reason });
      isNew = true;
    }
    return isNew;
  }
}

function accused(error: unknown, transaction: readonly NftOperation[]): readonly { readonly operation: NftOperation; readonly reason: string }[] {
  if (error instanceof NftTransactionError) {
    return error.failures.flatMap(({ operation, code, reason, element }) =>
      operation === undefined
        ? []
        : [
            {
              operation,
              reason: `the kernel refuses it: ${code}${reason === undefined ? "" : ` (${reason})`}${element === undefined ? "" : ` at ${element}`}`,
            },
          ],
    );
  }
  if (!(error instanceof RangeError || error instanceof TypeError)) return [];
  // The encoder does not say which operation it could not write; the text form fails at the same values.
  return transaction.flatMap((operation) => {
    try {
      operationText(operation);
      return [];
    } catch (cause) {
      return [{ operation, reason: cause instanceof Error ? cause.message : String(cause) }];
    }
  });
}

/** Chain or set that an operation is about. */
function objectOf(operation: NftOperation): string | undefined {
  switch (operation.kind) {
    case "add-chain":
      return operation.chain.name;
    case "delete-chain":
    case "flush-chain":
    case "add-rule":
    case "delete-rule":
      return operation.chain;
    case "add-set":
    case "add-elements":
    case "delete-elements":
      return operation.set.name;
    case "delete-set":
    case "flush-set":
      return operation.set;
    default:
      return undefined;
  }
}

/** The record, or for "set/<id>/" all of its shards. */
function valuesOf(records: ReadonlyMap<RecordKey, RecordValue>, key: RecordKey): ReadonlyMap<RecordKey, RecordValue> {
  if (!key.startsWith("set/")) {
    const value = records.get(key);
    return new Map(value === undefined ? [] : [[key, value]]);
  }
  return new Map([...records].filter(([candidate]) => candidate.startsWith(key)));
}

function isSame(a: ReadonlyMap<RecordKey, RecordValue>, b: ReadonlyMap<RecordKey, RecordValue>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value);
}
