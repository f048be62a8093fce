/** Records that are not in force as they say, as the server and the log are told of them. */
import type { RecordKey } from "../../src/model/record.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { PlanFailure } from "../plan/ruleset.ts";

/** In one pass; the rest is a number. */
const MAX_LOGGED_FAILURES = 10;

/** One entry a record, with all that is wrong with it. */
export function oneEach(failures: readonly PlanFailure[]): readonly PlanFailure[] {
  const reasons = new Map<RecordKey, string[]>();
  for (const { key, reason } of failures) {
    const known = reasons.get(key);
    if (known === undefined) reasons.set(key, [reason]);
    else if (!known.includes(reason)) known.push(reason);
  }
  return [...reasons].map(([key, all]) => ({ key, reason: all.join("; ") }));
}

/** Each once, when it is new or another: the server has them in every Ack. */
export function logFailures(log: Logger, before: readonly PlanFailure[], failures: readonly PlanFailure[]): void {
  if (failures.length === 0 && before.length === 0) return;
  const known = new Map(before.map(({ key, reason }) => [key, reason]));
  const fresh = failures.filter(({ key, reason }) => known.get(key) !== reason);
  for (const { key, reason } of fresh.slice(0, MAX_LOGGED_FAILURES)) log.warn({ key, reason }, "a record is not in force as it says");
  if (fresh.length > MAX_LOGGED_FAILURES) log.warn({ more: fresh.length - MAX_LOGGED_FAILURES }, "further records are not in force as they say");
}
