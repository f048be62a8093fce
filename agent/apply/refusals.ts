/**
 * Objects that the kernel refused: the rest goes in without them, and what they were before stays in force.
 *
 * A refusal holds for the value that was refused; a new value gets a new chance. Invariant: what takes the place of a refused record is its last value
 * that the kernel took, or nothing, and the planner fails closed on nothing.
 */
import type { RecordKey, RecordValue } from "../../src/model/record.ts";
import { NftTransactionError } from "../drivers/nftables/error.ts";
import { setIdOf } from "../plan/address-sets.ts";
import type { NftOperation } from "../plan/nft/ruleset.ts";
import { operationText } from "../plan/nft/text.ts";
import type { Plan, PlanFailure } from "../plan/ruleset.ts";

/** Kinds that become chains and sets. */
const PROGRAMMED_KINDS: readonly string[] = ["policy", "stack", "set", "host"];

const HOSTS = "host/";
/** What says nothing about the transaction's content. */
const MACHINE_ERRORS: readonly string[] = ["ENOMEM", "ENOBUFS", "EMSGSIZE", "EPERM", "EINTR", "EAGAIN"];

export interface Snapshot {
  readonly isWhole: boolean;
  readonly values: readonly (readonly [key: RecordKey, value: RecordValue | undefined])[];
}

interface Refusal {
  /** Values as refused, by key: one, or all shards of a set. */
  readonly values: ReadonlyMap<RecordKey, RecordValue>;
  readonly reason: string;
}

export class Refusals {
  readonly #refusals = new Map<RecordKey, Refusal>();
  readonly #taken = new Map<RecordKey, RecordValue>();

  /** The records to plan from. The same map when nothing is refused or held back. */
  effective(records: ReadonlyMap<RecordKey, RecordValue>, heldBack: ReadonlySet<RecordKey> = new Set()): ReadonlyMap<RecordKey, RecordValue> {
    for (const [key, { values }] of this.#refusals) if (!isSame(valuesOf(records, key), values)) this.#refusals.delete(key);
    const left = new Set([...this.#refusals.keys(), ...heldBack]);
    if (left.size === 0) return records;
    const effective = new Map(records);
    const groups = new Set<RecordKey>();
    for (const key of left) {
      if (key.endsWith("/")) groups.add(key);
      else {
        const before = this.#taken.get(key);
        if (before === undefined) effective.delete(key);
        else effective.set(key, before);
      }
    }
    if (groups.size === 0) return effective;
    // One pass for all: a set has many shards.
    const isLeft = (key: RecordKey): boolean => groups.has(groupOf(key) ?? "");
    for (const key of records.keys()) if (isLeft(key)) effective.delete(key);
    for (const [key, value] of this.#taken) if (isLeft(key)) effective.set(key, value);
    return effective;
  }

  get failures(): readonly PlanFailure[] {
    return [...this.#refusals].map(([key, { reason }]) => ({ key: key.endsWith("/") ? key.slice(0, -1) : key, reason }));
  }

  /** The records as they are now, for `taken`; of those `changed` since the last time, or undefined: of any. The view goes on while the kernel works. */
  snapshot(records: ReadonlyMap<RecordKey, RecordValue>, changed: ReadonlySet<RecordKey> | undefined): Snapshot {
    const values = [...(changed ?? records.keys())].map((key): readonly [RecordKey, RecordValue | undefined] => [key, records.get(key)]);
    return { isWhole: changed === undefined, values };
  }

  /** The kernel took a plan of these. */
  taken({ isWhole, values }: Snapshot): void {
    if (isWhole) this.#taken.clear();
    for (const [key, value] of values) {
      if (value !== undefined && PROGRAMMED_KINDS.includes(value.kind)) this.#taken.set(key, value);
      else this.#taken.delete(key);
    }
  }

  /** Objects that a transaction is about, without those refused already: sets, policies that use them, stacks that use those. */
  suspects(plan: Plan, transaction: readonly NftOperation[]): readonly (readonly RecordKey[])[] {
    const keys = new Set<RecordKey>();
    for (const operation of transaction) {
      const key = plan.origins.get(objectOf(operation) ?? "");
      if (key !== undefined && !this.#refusals.has(key)) keys.add(key);
    }
    return ["set/", "policy/", "stack/", HOSTS].map((kind) => [...keys].filter((key) => key.startsWith(kind)));
  }

  refuse(key: RecordKey, reason: string, records: ReadonlyMap<RecordKey, RecordValue>): void {
    this.#refusals.set(key, { values: valuesOf(records, key), reason });
  }

  /** Finds whose fault an error is; false when it is no single record's, or one that was refused already. */
  blame(error: unknown, plan: Plan, transaction: readonly NftOperation[], records: ReadonlyMap<RecordKey, RecordValue>): boolean {
    let isNew = false;
    for (const { operation, reason } of accused(error, transaction)) {
      const key = plan.origins.get(objectOf(operation) ?? "");
      if (key === undefined || this.#refusals.has(key)) continue;
      this.refuse(key, reason, records);
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

/** The record, or all of a group. */
function valuesOf(records: ReadonlyMap<RecordKey, RecordValue>, key: RecordKey): ReadonlyMap<RecordKey, RecordValue> {
  if (!key.endsWith("/")) {
    const value = records.get(key);
    return new Map(value === undefined ? [] : [[key, value]]);
  }
  return new Map([...records].filter(([candidate]) => candidate.startsWith(key)));
}

/** "set/<id>/", the name here of all shards of a set; "host/", of all host endpoints, which share their chains. */
function groupOf(key: RecordKey): RecordKey | undefined {
  if (key.startsWith(HOSTS)) return HOSTS;
  const id = setIdOf(key);
  return id === undefined ? undefined : `set/${id}/`;
}

/** Whether the error may be one object's fault, and not the machine's. */
export function mayBeAnObjects(error: unknown): boolean {
  if (error instanceof NftTransactionError) return !error.failures.some(({ code }) => MACHINE_ERRORS.includes(code));
  return error instanceof RangeError || error instanceof TypeError;
}

function isSame(a: ReadonlyMap<RecordKey, RecordValue>, b: ReadonlyMap<RecordKey, RecordValue>): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.get(key) === value);
}
