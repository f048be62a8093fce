/**
 * From what the kernel has to what it should have, as one transaction. Pure.
 *
 * Order: sets, members, chains, rules, verdict-map members, and then what goes away: nothing is named before it exists, nothing is removed while
 * something names it. Chains are compared by content and rewritten whole when they differ (a chain is one policy or one stack); members of sets
 * and maps are added and removed one by one.
 * Base chains come and go in place too: hooked in before their rules are there, they accept, as there was nothing. No two of ours have one hook and one
 * priority, so the order of the hooks never depends on which came first.
 * Invariant: carried out on `installed`, the result is `desired`. The table is rebuilt only when what a name stands for has another declaration (a base
 * chain's hook, a set's key), which a new version of the program can bring: the kernel cannot change those in place, and deleting and adding a table in
 * one transaction leaves no moment without rules. (A packet that old rules judge in that very moment finds their sets empty and is dropped.)
 */

import type { PlannedSet } from "./address-sets.ts";
import { elementChanges } from "./nft/intervals.ts";
import type { NftChain, NftOperation, NftRule, NftRuleset, NftSet, NftTransaction } from "./nft/ruleset.ts";
import type { UnionChange } from "./prefix-union.ts";

type Installed = NftRuleset | undefined;

/**
 * `installed` undefined: what is there is not known, or is not ours to build on. The table is then replaced whole, whether it exists or not.
 */
export function diffRulesets(installed: Installed, desired: NftRuleset): NftTransaction {
  if (installed === undefined || needsRebuild(installed, desired)) return rebuild(desired);
  const operations: NftOperation[] = [];
  const { table } = desired;
  const late: NftOperation[] = [];
  for (const [name, after] of desired.sets) {
    const { set } = after;
    const before = installed.sets.get(name);
    if (before === undefined) operations.push({ kind: "add-set", table, set });
    const target = set.data === "verdict" ? late : operations;
    if (before !== after) changeElements(target, { table, set }, changesOf(before, after));
  }
  const goneSets = [...installed.sets].filter(([name]) => !desired.sets.has(name));
  // A map that goes holds its chains until its elements are gone.
  for (const [, { set, elements }] of goneSets) if (set.data === "verdict") changeElements(late, { table, set }, { deleted: elements, added: [] });
  const rewritten: [string, readonly NftRule[]][] = [];
  // The very same chains, when only members changed.
  for (const [name, { chain, rules }] of installed.chains === desired.chains ? [] : desired.chains) {
    const before = installed.chains.get(name);
    if (before === undefined) operations.push({ kind: "add-chain", table, chain });
    else if (isSameRules(before.rules, rules)) continue;
    rewritten.push([name, rules]);
  }
  const goneChains = installed.chains === desired.chains ? [] : [...installed.chains.keys()].filter((name) => !desired.chains.has(name));
  for (const [name] of rewritten) if ((installed.chains.get(name)?.rules.length ?? 0) > 0) operations.push({ kind: "flush-chain", table, chain: name });
  for (const [name, rules] of rewritten) for (const rule of rules) operations.push({ kind: "add-rule", table, chain: name, rule });
  operations.push(...late);
  for (const name of goneChains) operations.push({ kind: "flush-chain", table, chain: name });
  for (const name of goneChains) operations.push({ kind: "delete-chain", table, chain: name });
  for (const [name] of goneSets) operations.push({ kind: "delete-set", table, set: name });
  return { operations };
}

/** Works whether the table exists or not: adding it first makes the deletion safe. */
function rebuild(desired: NftRuleset): NftTransaction {
  const { table } = desired;
  const operations: NftOperation[] = [
    { kind: "add-table", table },
    { kind: "delete-table", table },
    { kind: "add-table", table },
  ];
  for (const { set } of desired.sets.values()) operations.push({ kind: "add-set", table, set });
  for (const { set, elements } of desired.sets.values())
    if (set.data !== "verdict" && elements.length > 0) operations.push({ kind: "add-elements", table, set, elements });
  for (const { chain } of desired.chains.values()) operations.push({ kind: "add-chain", table, chain });
  for (const [name, { rules }] of desired.chains) for (const rule of rules) operations.push({ kind: "add-rule", table, chain: name, rule });
  for (const { set, elements } of desired.sets.values())
    if (set.data === "verdict" && elements.length > 0) operations.push({ kind: "add-elements", table, set, elements });
  return { operations };
}

function needsRebuild(installed: NftRuleset, desired: NftRuleset): boolean {
  for (const [name, { chain }] of installed.chains === desired.chains ? [] : desired.chains) {
    const before = installed.chains.get(name);
    if (before !== undefined && !isSameChain(before.chain, chain)) return true;
  }
  for (const [name, { set }] of desired.sets) {
    const before = installed.sets.get(name);
    if (before !== undefined && !isSameSet(before.set, set)) return true;
  }
  return false;
}

function changesOf(before: PlannedSet | undefined, after: PlannedSet): UnionChange {
  const known = before === undefined ? undefined : after.changesSince?.(before);
  return known ?? elementChanges(before?.elements ?? [], after.elements);
}

function changeElements(
  operations: NftOperation[],
  on: Pick<Extract<NftOperation, { kind: "add-elements" }>, "table" | "set">,
  { deleted, added }: UnionChange,
): void {
  if (deleted.length > 0) operations.push({ kind: "delete-elements", ...on, elements: deleted });
  if (added.length > 0) operations.push({ kind: "add-elements", ...on, elements: added });
}

const identities = new WeakMap<NftRule, string>();

/** A rule's content as one string, kept as long as the rule is. */
function ruleIdentity(rule: NftRule): string {
  let identity = identities.get(rule);
  if (identity === undefined) {
    identity = JSON.stringify(rule, sortedKeys);
    identities.set(rule, identity);
  }
  return identity;
}

function isSameRules(a: readonly NftRule[], b: readonly NftRule[]): boolean {
  if (a === b) return true;
  return a.length === b.length && a.every((rule, i) => rule === b[i] || (b[i] !== undefined && ruleIdentity(rule) === ruleIdentity(b[i])));
}

function isSameChain(a: NftChain, b: NftChain): boolean {
  return a === b || JSON.stringify(a, sortedKeys) === JSON.stringify(b, sortedKeys);
}

function isSameSet(a: NftSet, b: NftSet): boolean {
  return a === b || JSON.stringify({ ...a, comment: undefined }, sortedKeys) === JSON.stringify({ ...b, comment: undefined }, sortedKeys);
}

/** Objects by sorted keys, so that the order in which a literal was written does not matter. */
function sortedKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
