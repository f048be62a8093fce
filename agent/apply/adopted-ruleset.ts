/**
 * What the kernel holds, in the planner's terms: so that a start without memory, and a repair, are an ordinary difference.
 *
 * Rules come back from the kernel as fingerprints. A chain whose rules are the desired ones is taken as such; any other gets one placeholder rule,
 * so that the difference rewrites it. undefined: the table has objects that our model cannot name, and is replaced whole.
 */

import { ruleFingerprint } from "../drivers/nftables/lower.ts";
import type { NftTableState } from "../drivers/nftables/state.ts";
import type { NftChain, NftRule, NftRuleset } from "../plan/nft/ruleset.ts";

const OTHER_RULE: NftRule = { statements: [], comment: "other rules" };

export function adoptedRuleset(desired: NftRuleset, actual: NftTableState): NftRuleset | undefined {
  if (actual.unknownSets.length > 0) return undefined;
  const chains = new Map<string, { readonly chain: NftChain; readonly rules: readonly NftRule[] }>();
  for (const [name, { chain, rules }] of actual.chains) {
    const wanted = desired.chains.get(name)?.rules ?? [];
    const isWanted =
      rules.length === wanted.length &&
      wanted.every((rule, index) => rules[index]?.comment === rule.comment && rules[index]?.fingerprint === ruleFingerprint(desired.table.family, rule));
    chains.set(name, { chain, rules: isWanted ? wanted : [OTHER_RULE] });
  }
  return { table: desired.table, chains, sets: actual.sets };
}
