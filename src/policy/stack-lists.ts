/**
 * Long lists of a stack's policies are cut into records of their own; whoever decides by a stack puts them in again first.
 *
 * Invariant: a list that is not there leaves its key, which is no policy's: the stack then names a policy that nobody has, and that is a denial.
 */
import type { PolicyList, RecordKey, RecordValue, Stack } from "../model/record.ts";

const PREFIX = "policies/";

/** Whether the key, among a tier's, stands for a list. */
export function isListKey(key: RecordKey): boolean {
  return key.startsWith(PREFIX);
}

/** Keys of the stack's lists, each once. */
export function listKeys({ tiers }: Stack): readonly RecordKey[] {
  return tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress].filter(isListKey));
}

/** The list of that key. One without policies is none: a list is never made empty, and a tier without policies would be skipped. */
export function listOf(key: RecordKey, find: (key: RecordKey) => RecordValue | undefined): PolicyList | undefined {
  const value = isListKey(key) ? find(key) : undefined;
  return value?.kind === "policy-list" && value.policies.length > 0 ? value : undefined;
}

/** The stack with the policies of its lists in their place: the same object when it has none. */
export function wholeStack(stack: Stack, find: (key: RecordKey) => RecordValue | undefined): Stack {
  if (listKeys(stack).length === 0) return stack;
  const whole = (keys: readonly RecordKey[]): readonly RecordKey[] => keys.flatMap((key) => listOf(key, find)?.policies ?? [key]);
  return { ...stack, tiers: stack.tiers.map((tier) => ({ ...tier, ingress: whole(tier.ingress), egress: whole(tier.egress) })) };
}
