/**
 * Tiers: their order, and what each does with a packet that none of its policies decides.
 *
 * The built-in ones (`kube-admin`, `default`, `kube-baseline`) exist without a Tier object. A tier of which nothing is known comes last, and denies.
 */
import { BUILT_IN_TIERS } from "../model/parse-tier.ts";
import type { StackTier } from "../model/record.ts";
import type { Tier } from "../model/resource.ts";
import { isSameValue } from "./same-value.ts";

interface TierFacts {
  readonly order: number;
  readonly defaultAction: StackTier["defaultAction"];
}

const ACTIONS = { Deny: "deny", Pass: "pass", Reject: "reject" } as const;

export class Tiers {
  readonly #tiers = new Map<string, TierFacts>();

  /** undefined: its object is gone. True when that is a change. */
  set(name: string, tier: Tier | undefined): boolean {
    const before = this.#facts(name);
    if (tier === undefined) this.#tiers.delete(name);
    else this.#tiers.set(name, { order: tier.order ?? Number.POSITIVE_INFINITY, defaultAction: ACTIONS[tier.defaultAction] });
    return !isSameValue(before, this.#facts(name));
  }

  /** By order, then by name. */
  compare(a: string, b: string): number {
    const orderA = this.#facts(a).order;
    const orderB = this.#facts(b).order;
    if (orderA !== orderB) return orderA < orderB ? -1 : 1;
    return a < b ? -1 : Number(a > b);
  }

  defaultAction(name: string): StackTier["defaultAction"] {
    return this.#facts(name).defaultAction;
  }

  #facts(name: string): TierFacts {
    const known = this.#tiers.get(name);
    if (known !== undefined) return known;
    const builtIn = BUILT_IN_TIERS.get(name);
    return builtIn === undefined ? UNKNOWN : { order: builtIn.order, defaultAction: ACTIONS[builtIn.defaultAction] };
  }
}

/** Named by policies, and not there. A tier with an object and no order is before it only by name: both are last. */
const UNKNOWN: TierFacts = { order: Number.POSITIVE_INFINITY, defaultAction: "deny" };
