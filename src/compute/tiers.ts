/**
 * The tiers that are always there, and the order of tiers.
 *
 * Source: Calico's built-in tiers (`kube-admin`, `default`, `kube-baseline`), which exist without a Tier object.
 */

interface TierFacts {
  readonly order: number;
  readonly defaultAction: "deny" | "pass";
}

const BUILT_IN: ReadonlyMap<string, TierFacts> = new Map([
  ["kube-admin", { order: 1_000, defaultAction: "pass" }],
  ["default", { order: 1_000_000, defaultAction: "deny" }],
  ["kube-baseline", { order: 10_000_000, defaultAction: "pass" }],
]);

/** By order, then by name; tiers of which nothing is known come last. */
export function compareTiers(a: string, b: string): number {
  const orderA = BUILT_IN.get(a)?.order ?? Number.POSITIVE_INFINITY;
  const orderB = BUILT_IN.get(b)?.order ?? Number.POSITIVE_INFINITY;
  if (orderA !== orderB) return orderA < orderB ? -1 : 1;
  return a < b ? -1 : Number(a > b);
}

/** What a tier does with a packet that a policy of it applies to and none decides: deny, when nothing else is known. */
export function tierDefaultAction(name: string): "deny" | "pass" {
  return BUILT_IN.get(name)?.defaultAction ?? "deny";
}
