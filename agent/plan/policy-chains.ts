/**
 * Policies and stacks as chains.
 *
 * A policy has one chain for each direction, shared by all stacks that name it; a stack's chain jumps to its policies in order and ends in a verdict.
 * `pass` leaves a tier: where a policy passes, its tier has a chain of its own with that policy's rules written out, so that `return` leaves the tier.
 * Rejected: mark bits for pass, as iptables needs them: bits are shared with everything else on the node.
 * Invariant: every stack chain ends in a verdict; what is missing or not understood is a drop at its place, and is reported.
 */
import type { Policy, RecordKey, SetType, Stack, StackTier } from "../../src/model/record.ts";
import { chainName, type Direction, tierChainName } from "./names.ts";
import type { NftChain, NftRule } from "./nft/ruleset.ts";
import { renderRule, type SetFacts } from "./rule.ts";

export interface PlannedChain {
  readonly chain: NftChain;
  readonly rules: readonly NftRule[];
}

export interface UsedSet {
  readonly id: string;
  readonly type: SetType;
}

export interface PlannedPolicy {
  readonly rules: readonly NftRule[];
  readonly doesPass: boolean;
  readonly chain: PlannedChain;
  readonly uses: readonly UsedSet[];
  readonly failures: readonly string[];
}

interface CachedPolicy {
  readonly planned: PlannedPolicy;
  /** What the rendering depended on besides the policy. */
  readonly facts: ReadonlyMap<string, SetFacts>;
}

/** Renderings that outlive one plan: of a policy as long as its value and the types of its sets stay. */
export class PolicyCache {
  readonly #byDirection: Readonly<Record<Direction, WeakMap<Policy, CachedPolicy>>> = { ingress: new WeakMap(), egress: new WeakMap() };

  planned(key: RecordKey, policy: Policy, direction: Direction, findSet: (id: string) => SetFacts): PlannedPolicy {
    const known = this.#byDirection[direction].get(policy);
    if (known !== undefined && [...known.facts].every(([id, facts]) => isSameFacts(facts, findSet(id)))) return known.planned;
    const facts = new Map<string, SetFacts>();
    const uses = new Map<string, UsedSet>();
    const failures: string[] = [];
    const rules = policy[direction].flatMap((rule) =>
      renderRule(rule, {
        findSet(id) {
          const found = findSet(id);
          facts.set(id, found);
          return found;
        },
        fail: (reason) => failures.push(`${direction} ${reason}`),
        use: (id, type) => uses.set(`${id} ${type}`, { id, type }),
      }),
    );
    const planned: PlannedPolicy = {
      rules,
      doesPass: policy[direction].some((rule) => rule.action === "pass"),
      chain: { chain: { name: chainName(key, direction) }, rules },
      uses: [...uses.values()],
      failures,
    };
    this.#byDirection[direction].set(policy, { planned, facts });
    return planned;
  }
}

export interface StackContext {
  /** undefined: missing or not understood. */
  findPolicy(key: RecordKey): PlannedPolicy | undefined;
  fail(key: RecordKey, reason: string): void;
}

export interface PlannedStack {
  /** The stack's own chain first. */
  readonly chains: readonly PlannedChain[];
  /** Policies whose own chains it jumps to. */
  readonly jumpsTo: readonly RecordKey[];
}

interface CachedStack {
  /** In the order of the stack's lists; the rendering holds as long as these are the same objects. */
  readonly policies: readonly (PlannedPolicy | undefined)[];
  readonly planned: PlannedStack;
  readonly failures: readonly (readonly [key: RecordKey, reason: string])[];
}

/** As PolicyCache, for stacks: the same chains come back as long as neither the stack nor any of its policies changed. */
export class StackCache {
  readonly #byDirection: Readonly<Record<Direction, WeakMap<Stack, CachedStack>>> = { ingress: new WeakMap(), egress: new WeakMap() };

  planned(key: RecordKey, stack: Stack, direction: Direction, context: StackContext): PlannedStack {
    const policies = stack.tiers.flatMap((tier) => tier[direction].map((policy) => context.findPolicy(policy)));
    let known = this.#byDirection[direction].get(stack);
    if (known === undefined || known.policies.length !== policies.length || !known.policies.every((policy, i) => policy === policies[i])) {
      const failures: (readonly [RecordKey, string])[] = [];
      const planned = planStack(key, stack, direction, { findPolicy: context.findPolicy, fail: (policy, reason) => failures.push([policy, reason]) });
      known = { policies, planned, failures };
      this.#byDirection[direction].set(stack, known);
    }
    for (const [policy, reason] of known.failures) context.fail(policy, reason);
    return known.planned;
  }
}

/** Chains of one direction of a stack. */
function planStack(key: RecordKey, stack: Stack, direction: Direction, context: StackContext): PlannedStack {
  const rules: NftRule[] = [];
  const tierChains: PlannedChain[] = [];
  const jumpsTo: RecordKey[] = [];
  for (const [index, tier] of stack.tiers.entries()) {
    if (tier[direction].length === 0) continue;
    const ownChain = tier[direction].some((policy) => context.findPolicy(policy)?.doesPass === true);
    const tierRules = tier[direction].flatMap((policy): readonly NftRule[] => {
      const planned = context.findPolicy(policy);
      if (planned === undefined) {
        context.fail(policy, `named by ${key} and not in the view: ${direction} drops where it stands`);
        return [{ statements: [{ kind: "counter" }, { kind: "drop" }], comment: `missing: ${short(policy)}` }];
      }
      if (planned.doesPass) return planned.rules.map((rule) => ({ ...rule, comment: `${rule.comment ?? ""} of ${short(policy)}` }));
      jumpsTo.push(policy);
      return [{ statements: [{ kind: "jump", chain: planned.chain.chain.name }] }];
    });
    tierRules.push(...defaultRules(tier));
    if (ownChain) {
      const name = tierChainName(key, direction, index);
      tierChains.push({ chain: { name }, rules: tierRules });
      rules.push({ statements: [{ kind: "jump", chain: name }], comment: `tier ${short(tier.name)}` });
    } else rules.push(...tierRules);
  }
  const hasProfiles = (stack.profiles ?? []).length > 0;
  if (hasProfiles) context.fail(key, "its profiles are not rendered: it drops what no tier decides");
  rules.push(
    stack.noMatchAction === "allow" && !hasProfiles
      ? { statements: [{ kind: "accept" }] }
      : { statements: [{ kind: "counter" }, { kind: "drop" }], comment: "no match" },
  );
  return { chains: [{ chain: { name: chainName(key, direction) }, rules }, ...tierChains], jumpsTo };
}

function defaultRules(tier: StackTier): readonly NftRule[] {
  return tier.defaultAction !== "pass" ? [{ statements: [{ kind: "counter" }, { kind: "drop" }], comment: `default of tier ${short(tier.name)}` }] : [];
}

function isSameFacts(a: SetFacts, b: SetFacts): boolean {
  return a.type === b.type && a.isBroken === b.isBroken;
}

/** A comment has at most 128 bytes, and no quotes. */
function short(text: string): string {
  const clean = text.replaceAll(/["\n]/g, "_");
  return clean.length <= 90 ? clean : `${clean.slice(0, 87)}...`;
}
