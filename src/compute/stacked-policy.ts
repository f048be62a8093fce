/** A policy as stacks see it, and the order of evaluation: by tier, order, then name. */
import type { RecordKey } from "../model/record.ts";
import type { PolicyStage } from "../policy/intent.ts";
import type { ListPlace } from "./policy-lists.ts";
import type { Tiers } from "./tiers.ts";

/** What a stack needs to know of a policy. */
export interface StackedPolicy {
  readonly key: RecordKey;
  readonly tier: string;
  readonly order: number;
  readonly hasIngress: boolean;
  readonly hasEgress: boolean;
  readonly stage: PolicyStage;
  readonly appliesOnForward: boolean;
  readonly place: ListPlace;
}

export function comparePolicies(a: StackedPolicy, b: StackedPolicy, tiers: Tiers): number {
  if (a.tier !== b.tier) return tiers.compare(a.tier, b.tier);
  if (a.order !== b.order) return a.order < b.order ? -1 : 1;
  return a.key < b.key ? -1 : Number(a.key > b.key);
}

/** Where the policy is, or is to be put, among ordered ones. */
export function placeAmong(ordered: readonly StackedPolicy[], policy: StackedPolicy, tiers: Tiers): number {
  let low = 0;
  let high = ordered.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const other = ordered[middle];
    if (other !== undefined && comparePolicies(other, policy, tiers) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
