/**
 * Policies and stacks as chains.
 *
 * A policy has one chain for each direction, shared by all stacks that name it; a stack's chain jumps to its policies in order and ends in a verdict.
 * `pass` leaves a tier: where a policy passes, its tier has a chain of its own with that policy's rules written out, so that `return` leaves the tier.
 * Profiles are a tier after the last one, whose end goes on.
 * Rejected: mark bits for pass, as iptables needs them: bits are shared with everything else on the node.
 * Invariant: every stack chain ends in a verdict; what is missing or not understood is a drop at its place, and is reported.
 */
import { type Policy, type PolicyList, type RecordKey, type RuleAction, recordKey, type Stack, type StackTier } from "../../src/model/record.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import { chainName, commentText, type Direction, expandLogPrefix, ruleChainName, tierChainName } from "./names.ts";
import type { NftChain, NftRule, NftStatement } from "./nft/ruleset.ts";
import { denyStatements, LOG_DENIED, type RuleVariant, renderRule, type SetFacts, type UsedSet } from "./rule.ts";

export interface PlannedChain {
  readonly chain: NftChain;
  readonly rules: readonly NftRule[];
}

export interface PlannedPolicy {
  readonly rules: readonly NftRule[];
  readonly doesPass: boolean;
  readonly chain: PlannedChain;
  /** Of its rules, which they jump to. */
  readonly ruleChains: readonly PlannedChain[];
  readonly uses: readonly UsedSet[];
  readonly failures: readonly string[];
}

/** Which chain of a policy or stack: they are rendered once for each that anything needs. */
export interface Aspect {
  readonly direction: Direction;
  readonly variant: RuleVariant;
}

/** The rule of a policy that a kernel rule was made of. */
export interface RuleSource {
  readonly policy: RecordKey;
  readonly direction: Direction;
  /** As people count it: the index in the object that a person wrote. */
  readonly rule: number;
  readonly action: RuleAction;
}

const sources = new WeakMap<NftRule, RuleSource>();

/** undefined: the rule is no policy's. */
export function sourceOf(rule: NftRule): RuleSource | undefined {
  return sources.get(rule);
}

function withSource(rule: NftRule, source: RuleSource | undefined): NftRule {
  if (source !== undefined) sources.set(rule, source);
  return rule;
}

interface CachedPolicy {
  readonly planned: PlannedPolicy;
  /** What the rendering depended on besides the policy: the same objects. */
  readonly facts: readonly (readonly [id: string, facts: SetFacts])[];
}

/** What the chain's name ends in; also names the aspect in maps. */
export function aspectName({ direction, variant }: Aspect): string {
  return `${direction}${suffixOf(variant)}`;
}

export function stackChainName(key: RecordKey, { direction, variant }: Aspect): string {
  return chainName(key, direction, suffixOf(variant));
}

function suffixOf({ logsDenied, isUntracked, rejects }: RuleVariant): string {
  return `${isUntracked ? "/untracked" : ""}${logsDenied ? "/logged" : ""}${rejects ? "/rejecting" : ""}`;
}

export interface PolicyContext {
  readonly findSet: (id: string) => SetFacts;
  /** With placeholders; see expandLogPrefix. */
  readonly logPrefix: string;
}

/** Renderings that outlive one plan: of a policy as long as its value and the types of its sets stay. */
export class PolicyCache {
  readonly #byAspect = new Map<string, WeakMap<Policy, CachedPolicy>>();

  planned(key: RecordKey, policy: Policy, aspect: Aspect, { findSet, logPrefix }: PolicyContext): PlannedPolicy {
    const cache = cacheOf(this.#byAspect, `${aspectName(aspect)} ${logPrefix}`);
    const known = cache.get(policy);
    if (known !== undefined && known.facts.every(([id, facts]) => facts === findSet(id))) return known.planned;
    const { direction, variant } = aspect;
    const facts = new Map<string, SetFacts>();
    const uses = new Map<string, UsedSet>();
    const failures: string[] = [];
    const name = chainName(key, direction, suffixOf(variant));
    const ruleChains: PlannedChain[] = [];
    const context = {
      findSet(id: string): SetFacts {
        const found = findSet(id);
        facts.set(id, found);
        return found;
      },
      fail: (reason: string): void => void failures.push(`${direction} ${reason}`),
      use: (used: UsedSet): void => void uses.set(`${used.id} ${used.type} ${used.isByLength}`, used),
      logPrefix: expandLogPrefix(logPrefix, policy),
    };
    const rules = policy[direction].flatMap((rule, index) => {
      const ofRule = { ...context, chainName: (narrowedTo: string | undefined, version: IpVersion): string => ruleChainName(name, index, narrowedTo, version) };
      const rendered = renderRule(rule, ofRule, variant);
      const source: RuleSource = { policy: key, direction, rule: rule.origin, action: rule.action };
      for (const { chain, rules: inside } of rendered.chains) ruleChains.push({ chain, rules: inside.map((each) => withSource(each, source)) });
      return rendered.rules.map((each) => withSource(each, source));
    });
    const planned: PlannedPolicy = {
      rules,
      doesPass: policy[direction].some((rule) => rule.action === "pass"),
      chain: { chain: { name }, rules },
      ruleChains,
      uses: [...uses.values()],
      failures,
    };
    cache.set(policy, { planned, facts: [...facts] });
    return planned;
  }
}

export interface StackContext {
  /** undefined: missing or not understood. */
  findPolicy(key: RecordKey): PlannedPolicy | undefined;
  /** The list that a key among a tier's stands for; undefined when it is no list's, or the list is missing or not understood. */
  findList(key: RecordKey): PolicyList | undefined;
  fail(key: RecordKey, reason: string): void;
}

export interface PlannedStack {
  /** The stack's own chain first. */
  readonly chains: readonly PlannedChain[];
  /** Policies whose own chains it jumps to. */
  readonly jumpsTo: readonly RecordKey[];
  /** Policies whose rules are written out in its chains. */
  readonly writesOut: readonly RecordKey[];
}

interface CachedStack {
  /** Its lists, in order. */
  readonly lists: readonly (PolicyList | undefined)[];
  /** Of its policies, in the order of the stack's lists, what is in its own chains; the rendering holds as long as these are the same. */
  readonly policies: readonly (PlannedPolicy | string | undefined)[];
  readonly planned: PlannedStack;
  readonly failures: readonly (readonly [key: RecordKey, reason: string])[];
}

/** As PolicyCache, for stacks: the same chains come back as long as neither the stack nor any of its policies changed. */
export class StackCache {
  readonly #byAspect = new Map<string, WeakMap<Stack, CachedStack>>();
  readonly #lists = new Map<string, WeakMap<PolicyList, CachedList>>();

  planned(key: RecordKey, stack: Stack, aspect: Aspect, context: StackContext): PlannedStack {
    const cache = cacheOf(this.#byAspect, aspectName(aspect));
    const lists = stackKeys(stack, aspect.direction).map((entry) => context.findList(entry));
    const policies = stackPolicies(stack, aspect.direction, context).map((policy) => {
      const planned = context.findPolicy(policy);
      return planned === undefined || planned.doesPass ? planned : planned.chain.chain.name;
    });
    let known = cache.get(stack);
    if (known === undefined || !isSameList(known.lists, lists) || !isSameList(known.policies, policies)) {
      const failures: (readonly [RecordKey, string])[] = [];
      const inner: StackContext = { ...context, fail: (policy, reason) => failures.push([policy, reason]) };
      const planned = planStack(key, stack, aspect, inner, cacheOf(this.#lists, aspectName(aspect)));
      known = { lists, policies, planned, failures };
      cache.set(stack, known);
    }
    for (const [policy, reason] of known.failures) context.fail(policy, reason);
    return known.planned;
  }
}

/** True when the one can take the other's place without a look at anything else: only the policy's own chains differ. */
export function isExchangeable(a: PlannedPolicy, b: PlannedPolicy): boolean {
  return (
    !a.doesPass &&
    !b.doesPass &&
    a.failures.length + b.failures.length === 0 &&
    a.uses.length === b.uses.length &&
    a.uses.every(({ id, type, isByLength }, i) => id === b.uses[i]?.id && type === b.uses[i].type && isByLength === b.uses[i].isByLength)
  );
}

/** The chain of a list, as long as its policies are named by these chains. */
interface CachedList {
  readonly names: readonly string[];
  readonly chain: PlannedChain;
}

/** All that a stack names in one direction, in order: policies, and lists of them. */
function stackKeys({ tiers, profiles = [] }: Stack, direction: Direction): readonly RecordKey[] {
  return [...tiers.flatMap((tier) => tier[direction]), ...profiles];
}

/** As `stackKeys`, with the policies of lists in their place. */
function stackPolicies(stack: Stack, direction: Direction, context: StackContext): readonly RecordKey[] {
  return stackKeys(stack, direction).flatMap((key) => context.findList(key)?.policies ?? key);
}

function isSameList<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}

/**
 * Chains of one aspect of a stack. A list has a chain of its own, so that one policy among ten thousand rewrites some 64 rules; where a policy of the tier
 * passes, all is written out in the tier's chain, which `return` has to leave.
 */
function planStack(
  key: RecordKey,
  stack: Stack,
  { direction, variant }: Aspect,
  context: StackContext,
  listCache: WeakMap<PolicyList, CachedList>,
): PlannedStack {
  const suffix = suffixOf(variant);
  const rules: NftRule[] = [];
  const tierChains: PlannedChain[] = [];
  const listChains: PlannedChain[] = [];
  const jumpsTo: RecordKey[] = [];
  const writesOut: RecordKey[] = [];
  const denied = (comment: string, action: "deny" | "reject"): readonly NftRule[] => denyRules(action, variant.logsDenied, commentText(comment));
  const end = (comment: string, action: "deny" | "reject"): readonly NftRule[] => denied(comment, variant.rejects ? "reject" : action);
  const addTier = ({ keys, last, index, comment }: PlannedTier): void => {
    const doesPass = keys.some((entry) => (context.findList(entry)?.policies ?? [entry]).some((policy) => context.findPolicy(policy)?.doesPass === true));
    const policyRules = (policy: RecordKey): readonly NftRule[] => {
      const planned = context.findPolicy(policy);
      if (planned === undefined) {
        context.fail(policy, `named by ${key} and not in the view: ${direction} drops where it stands`);
        return denied(`missing: ${policy}`, "deny");
      }
      if (planned.doesPass) {
        writesOut.push(policy);
        return planned.rules.map((rule) => withSource({ ...rule, comment: commentText(`${rule.comment ?? ""} of ${policy}`) }, sourceOf(rule)));
      }
      jumpsTo.push(policy);
      return [{ statements: [{ kind: "jump", chain: planned.chain.chain.name }] }];
    };
    const listRules = (list: PolicyList): readonly NftRule[] => {
      const names = list.policies.map((policy) => context.findPolicy(policy)?.chain.chain.name);
      if (doesPass || !isComplete(names)) return list.policies.flatMap(policyRules);
      const { chain } = listChain(list, names, { name: chainName(recordKey(list), direction, suffix), cache: listCache });
      for (const policy of list.policies) jumpsTo.push(policy);
      listChains.push(chain);
      return [{ statements: [{ kind: "jump", chain: chain.chain.name }] }];
    };
    const tierRules = keys.flatMap((entry): readonly NftRule[] => {
      const list = context.findList(entry);
      return list === undefined ? policyRules(entry) : listRules(list);
    });
    tierRules.push(...last);
    if (doesPass) {
      const name = tierChainName(key, direction, suffix, index);
      tierChains.push({ chain: { name }, rules: tierRules });
      rules.push({ statements: [{ kind: "jump", chain: name }], comment: commentText(comment) });
    } else rules.push(...tierRules);
  };
  for (const [index, tier] of stack.tiers.entries()) {
    if (tier[direction].length === 0) continue;
    const last = tier.defaultAction === "pass" ? [] : end(`default of tier ${tier.name}`, tier.defaultAction);
    addTier({ keys: tier[direction], last, index, comment: `tier ${tier.name}` });
  }
  const { profiles = [] } = stack;
  if (profiles.length > 0) addTier({ keys: profiles, last: [], index: "profiles", comment: "profiles" });
  rules.push(...(stack.noMatchAction === "allow" ? [{ statements: [{ kind: "accept" }] } satisfies NftRule] : end("no match", "deny")));
  return { chains: [{ chain: { name: chainName(key, direction, suffix) }, rules }, ...tierChains, ...listChains], jumpsTo, writesOut };
}

/** The same chain as long as the list and its policies' chains stay. */
function listChain(
  list: PolicyList,
  names: readonly string[],
  { name, cache }: { readonly name: string; readonly cache: WeakMap<PolicyList, CachedList> },
): CachedList {
  const known = cache.get(list);
  if (known !== undefined && isSameList(known.names, names)) return known;
  const made: CachedList = { names, chain: { chain: { name }, rules: names.map((chain) => ({ statements: [{ kind: "jump", chain }] })) } };
  cache.set(list, made);
  return made;
}

function isComplete<T>(list: readonly (T | undefined)[]): list is readonly T[] {
  return !list.includes(undefined);
}

interface PlannedTier {
  readonly keys: StackTier["ingress"];
  readonly last: readonly NftRule[];
  readonly index: number | "profiles";
  readonly comment: string;
}

/** Denies whatever comes here. */
function denyRules(action: "deny" | "reject", logs: boolean, comment: string): readonly NftRule[] {
  const rule = (...statements: readonly NftStatement[]): NftRule => ({ statements, comment });
  const log = logs ? [rule(...LOG_DENIED)] : [];
  if (action === "deny") return [...log, rule(...denyStatements("deny", 0))];
  return [...log, rule({ kind: "match", field: "meta l4proto", value: "tcp" }, ...denyStatements("reject", 6)), rule(...denyStatements("reject", 0))];
}

function cacheOf<K extends object, V>(caches: Map<string, WeakMap<K, V>>, name: string): WeakMap<K, V> {
  const cache = caches.get(name) ?? new WeakMap<K, V>();
  caches.set(name, cache);
  return cache;
}
