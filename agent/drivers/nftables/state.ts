/**
 * A table as the kernel holds it, and how that differs from a table as desired.
 *
 * Rules are compared by fingerprint (what their expressions do) and comment, not lifted back into statements: a rule that
 * someone else put into our table need not be one that our model can say.
 */
import { elementChanges, mergeElements } from "../../plan/nft/intervals.ts";
import type { NftChain, NftElement, NftRuleset, NftSet, NftTable } from "../../plan/nft/ruleset.ts";
import { ruleFingerprint } from "./lower.ts";

export type NftRuleState = {
  /** For "delete-rule"; changes each time the rule is made. */
  readonly handle: bigint;
  readonly comment: string | undefined;
  /** Equal to `ruleFingerprint(family, rule)` of the rule that it was made from. */
  readonly fingerprint: string;
};

export type NftTableState = {
  readonly table: NftTable;
  /** The kernel's count of commits, of any table, at the time of reading. */
  readonly generation: number;
  readonly chains: ReadonlyMap<string, { readonly chain: NftChain; readonly rules: readonly NftRuleState[] }>;
  /** Elements canonical and sorted. Anonymous sets show only in their rule's fingerprint. */
  readonly sets: ReadonlyMap<string, { readonly set: NftSet; readonly elements: readonly NftElement[] }>;
  /** Sets of a kind that the model cannot express: not ours. */
  readonly unknownSets: readonly string[];
};

export type NftDrift =
  | { readonly kind: "table-missing" }
  | { readonly kind: "chain-missing" | "chain-extra" | "chain-differs" | "rules-differ"; readonly chain: string }
  | { readonly kind: "set-missing" | "set-extra" | "set-differs"; readonly set: string }
  | { readonly kind: "elements-differ"; readonly set: string; readonly missing: readonly NftElement[]; readonly extra: readonly NftElement[] };

/** Empty: the kernel holds exactly what is desired. Elements with a time-out are not missed, they may have run out. */
export function tableDrift(desired: NftRuleset, actual: NftTableState | undefined): NftDrift[] {
  if (actual === undefined) return [{ kind: "table-missing" }];
  const drift: NftDrift[] = [];
  for (const [name, { chain, rules }] of desired.chains) {
    const present = actual.chains.get(name);
    if (present === undefined) {
      drift.push({ kind: "chain-missing", chain: name });
      continue;
    }
    if (chainIdentity(chain) !== chainIdentity(present.chain)) drift.push({ kind: "chain-differs", chain: name });
    const isEqual =
      rules.length === present.rules.length &&
      rules.every((rule, index) => {
        const state = present.rules[index];
        return state !== undefined && state.comment === rule.comment && state.fingerprint === ruleFingerprint(desired.table.family, rule);
      });
    if (!isEqual) drift.push({ kind: "rules-differ", chain: name });
  }
  for (const name of actual.chains.keys()) if (!desired.chains.has(name)) drift.push({ kind: "chain-extra", chain: name });
  for (const [name, { set, elements }] of desired.sets) {
    const present = actual.sets.get(name);
    if (present === undefined) drift.push({ kind: "set-missing", set: name });
    else if (setIdentity(set) !== setIdentity(present.set)) drift.push({ kind: "set-differs", set: name });
    else {
      const { deleted, added } = elementChanges(present.elements, mergeElements(set, elements));
      const missing = added.filter(({ timeoutMs }) => timeoutMs === undefined);
      if (missing.length > 0 || deleted.length > 0) drift.push({ kind: "elements-differ", set: name, missing, extra: deleted });
    }
  }
  for (const name of [...actual.sets.keys(), ...actual.unknownSets]) if (!desired.sets.has(name)) drift.push({ kind: "set-extra", set: name });
  return drift;
}

/** Comments of chains cannot change in place; everything else that makes two chains differ is here. */
function chainIdentity({ base }: NftChain): string {
  return base === undefined ? "regular" : [base.type, base.hook, base.priority, base.policy, base.device ?? ""].join(" ");
}

function setIdentity(set: NftSet): string {
  return [set.key.join(" . "), set.data ?? "", set.intervals === true, set.timeouts === true].join("|");
}
