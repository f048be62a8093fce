/**
 * When a policy's conditions are worth a write. Pure.
 *
 * A transition is written at once when it is good news or something that a person has to mend; that nodes lag is written when it has lasted, because every
 * change is behind somewhere for some milliseconds. A text that changes while everything else stays is written seldom: pods come and go, and with them
 * the nodes that a policy concerns.
 */
import type { Condition } from "./conditions.ts";

export interface Wanted {
  readonly conditions: readonly Condition[];
  readonly generation: number;
  /** Of the policy as the server has it: another one can be another object of the name. */
  readonly resourceVersion: string;
}

export interface WrittenCondition extends Condition {
  readonly lastTransitionTime: string;
}

export interface Written {
  readonly conditions: readonly WrittenCondition[];
  readonly generation: number;
  /** undefined: read from the object, so it is of whichever there is. */
  readonly resourceVersion: string | undefined;
  /** Monotonic ms. */
  readonly at: number;
}

export interface Pace {
  /** That nodes lag, or that it is not known, must have lasted this long (ms). */
  readonly settleMs: number;
  /** A text alone is written again after this long (ms). */
  readonly textMs: number;
}

export const DEFAULT_PACE: Pace = { settleMs: 5_000, textMs: 300_000 };

/** "later": it may be worth one when it lasts. `since`: when the conditions became other than what is written, ms by the same clock. */
export function urgencyOf(
  wanted: Wanted,
  written: Written | undefined,
  { now, since, pace }: { readonly now: number; readonly since: number; readonly pace: Pace },
): "transition" | "text" | "later" | "none" {
  const isOther = wanted.resourceVersion !== written?.resourceVersion && written?.resourceVersion !== undefined;
  if (written === undefined || isOther || written.generation !== wanted.generation || !isAlike(wanted.conditions, written.conditions, ["status", "reason"])) {
    const isOnlyLate = wanted.conditions.every((condition) => condition.status === "True" || isLate(condition) || isWritten(condition, written));
    const mustLast = isOnlyLate && wanted.conditions.some(isLate);
    return !mustLast || now - since >= pace.settleMs ? "transition" : "later";
  }
  if (isAlike(wanted.conditions, written.conditions, ["message"])) return "none";
  return now - written.at >= pace.textMs ? "text" : "later";
}

/** With the time at which each condition got the status that it has. */
export function dated(conditions: readonly Condition[], written: Written | undefined, nowText: string): readonly WrittenCondition[] {
  return conditions.map((condition) => {
    const before = written?.conditions.find(({ type }) => type === condition.type);
    return { ...condition, lastTransitionTime: before?.status === condition.status ? before.lastTransitionTime : nowText };
  });
}

/** It passes by itself when the nodes have caught up. */
function isLate({ reason }: Condition): boolean {
  return reason === "NodesLag" || reason === "NotKnown";
}

function isWritten(condition: Condition, written: Written | undefined): boolean {
  return isAlike([condition], written?.conditions.filter(({ type }) => type === condition.type) ?? [], ["status", "reason"]);
}

function isAlike(a: readonly Condition[], b: readonly Condition[], fields: readonly ("status" | "reason" | "message")[]): boolean {
  return (
    a.length === b.length &&
    a.every((condition) => b.some((other) => other.type === condition.type && fields.every((field) => other[field] === condition[field])))
  );
}
