/**
 * Membership in large sets of prefixes, each of which is a kernel set for each length, as chains of one policy rule.
 *
 * A chain is left by `return` where the packet does not fit, and goes on to the next by `goto` where it does, so that the last one holds the verdict and its
 * `return`, or its end, leads back to the policy. Invariant: the verdict's rules see a packet once at most, however many lengths it is a member by, and the
 * number of rules is the sum of the lengths, not their product. Chains but the last hold nothing but lookups, so that a length that comes changes no decision
 * (see replaced-prefixes.ts).
 * Within a set the longest length comes first: a packet under way may find the elements of two generations, and where a prefix takes the place of those within
 * it, one or the other is found.
 * Rejected: a rule with the verdict for each length: source and destination multiply, and a packet within two members is logged twice. All lengths in one rule
 * ("!= @a != @b return"): the kernel takes some 24 lookups in a rule, and IPv6 has 129 lengths.
 */
import type { NftChain, NftMatch, NftOperation, NftRule } from "./nft/ruleset.ts";

export interface LargeSetCondition {
  /** A packet that any of them matches is in the set; none: nothing is in it. */
  readonly lookups: readonly NftMatch[];
  /** The rule wants packets that are not in it. */
  readonly negate: boolean;
}

export interface RuleChain {
  readonly chain: NftChain;
  readonly rules: readonly NftRule[];
}

/** One condition, of one way to fulfil it, of no lookup. */
const ALWAYS: readonly (readonly NftMatch[][])[] = [[[]]];

/** Chains that lead a packet which fulfils all conditions to `decision`; the first has the name given, and is to be jumped to. */
export function largeSetChains(name: string, conditions: readonly LargeSetCondition[], decision: readonly NftRule[]): readonly RuleChain[] {
  const unwanted = conditions.filter(({ negate }) => negate).flatMap(({ lookups }) => lookups);
  const wanted = conditions.flatMap(({ negate, lookups }) => (negate ? [] : [lookups.map((lookup) => [lookup])]));
  const chains: { readonly chain: NftChain; readonly rules: readonly NftRule[] }[] = [];
  const chainAt = (index: number): string => (index === 0 ? name : `${name}/${index + 1}`);
  let rules: NftRule[] = unwanted.map((lookup) => ({ statements: [lookup, { kind: "return" }] }));
  for (const lookups of wanted.length === 0 ? ALWAYS : wanted) {
    const next = chainAt(chains.length + 1);
    rules.push(...lookups.map((lookup): NftRule => ({ statements: [...lookup, { kind: "goto", chain: next }] })));
    chains.push({ chain: { name: chainAt(chains.length) }, rules });
    rules = [];
  }
  chains.push({ chain: { name: chainAt(chains.length) }, rules: decision });
  return chains;
}

/** True for what `largeSetChains` makes of lookups: a rule that decides nothing. */
export function isMembershipRule({ rule: { statements } }: Extract<NftOperation, { readonly kind: "add-rule" }>): boolean {
  const [last, ...others] = statements.toReversed();
  return (last?.kind === "goto" || last?.kind === "return") && others.every(({ kind }) => kind === "lookup");
}
