/**
 * The whole of our nftables table, from the view and the pods that are connected here. Pure.
 *
 * Chains of every Endpoint record in the view are there, connected or not: connecting a pod is then a handful of map elements.
 * Invariant: an interface without a usable Endpoint record, stack or policy drops; nothing that is missing is taken for "no policy".
 */
import type { PodKey } from "../../src/model/names.ts";
import type { Policy, RecordKey, RecordValue, Stack } from "../../src/model/record.ts";
import type { EndpointToHostAction } from "../../src/model/stated-settings.ts";
import { type IpAddress, ipVersion } from "../../src/net/ip.ts";
import { listOf } from "../../src/policy/stack-lists.ts";
import { type LargeSetLimits, type PlannedSet, SetRegistry, setIdOf } from "./address-sets.ts";
import { baseChains } from "./base-chains.ts";
import { type FailsafePorts, failsafePorts } from "./failsafe.ts";
import { floatingAddresses, floatingMaps } from "./floating.ts";
import { planHosts } from "./host-chains.ts";
import { limitChain } from "./limit-chains.ts";
import {
  allowedSet,
  DEFAULT_LOG_PREFIX,
  type Direction,
  FROM_ENDPOINT_MAP,
  INTERFACES_SET,
  LIMIT_FROM_MAP,
  LIMIT_TO_MAP,
  natPoolsSet,
  poolsSet,
  TABLE,
  TO_ENDPOINT_MAP,
} from "./names.ts";
import { mergeElements } from "./nft/intervals.ts";
import type { NftElement, NftRuleset, NftSet, NftVerdict } from "./nft/ruleset.ts";
import { ADDRESS_TYPES } from "./nft/values.ts";
import { endpointRecord, type PlannedEndpoint } from "./planned-endpoint.ts";
import { type Aspect, aspectName, isExchangeable, type PlannedChain, type PlannedPolicy, PolicyCache, StackCache, stackChainName } from "./policy-chains.ts";
import type { RuleVariant, UsedSet } from "./rule.ts";

export interface PlanSettings {
  readonly nodeName: string;
  /** Interfaces whose names begin with it are ours: "cali". */
  readonly interfacePrefix: string;
  /** Absent: "accept". */
  readonly endpointToHostAction?: EndpointToHostAction;
  /** Absent: the defaults. */
  readonly failsafePorts?: FailsafePorts;
  /** Of lines of Log rules, with placeholders (see expandLogPrefix). Absent: DEFAULT_LOG_PREFIX. */
  readonly logPrefix?: string;
  /** Of whatever policies deny. Absent: "drop". */
  readonly denyAction?: "drop" | "reject";
}

export interface PlanInput {
  readonly records: ReadonlyMap<RecordKey, RecordValue>;
  /** Records that are in the view and of which no good value is known, with the reason. */
  readonly undecodable: ReadonlyMap<RecordKey, string>;
  readonly endpoints: readonly PlannedEndpoint[];
  readonly settings: PlanSettings;
  /** Keys whose value, or whose problem, may have changed since the last plan with the same cache. Absent: any; all are looked at. */
  readonly changed?: ReadonlySet<RecordKey> | undefined;
  /** Interfaces of the node itself by their addresses: for host endpoints that name none. Absent: not known. */
  readonly interfaceOf?: ReadonlyMap<IpAddress, string>;
}

export interface PlanFailure {
  readonly key: RecordKey;
  readonly reason: string;
}

export interface Plan {
  readonly ruleset: NftRuleset;
  readonly failures: readonly PlanFailure[];
  /** Pods whose Endpoint record was understood: their policy is in the ruleset. */
  readonly withPolicy: ReadonlySet<PodKey>;
  /** Record that a chain or set comes from: whom to blame when the kernel refuses it. For a set its id as "set/<id>/"; "host/": of all host endpoints. */
  readonly origins: ReadonlyMap<string, RecordKey>;
}

const DIRECTIONS: readonly Direction[] = ["ingress", "egress"];
const DEFAULT_FAILSAFE_PORTS = failsafePorts();
const DROP: NftVerdict = { kind: "drop" };
const ACCEPT: NftVerdict = { kind: "accept" };

/**
 * What is worth keeping from one plan to the next, of one node: renderings, the members of sets, and the last plan. A change of members, or of the rules
 * of a policy, costs its own size; any other one costs a look at each policy and stack of the node, and the rendering of those that changed.
 */
export class PlanCache {
  readonly policies = new PolicyCache();
  readonly stacks = new StackCache();
  readonly sets: SetRegistry;
  readonly #known = new Map<RecordKey, RecordValue>();
  readonly #undecodable = new Map<RecordKey, string>();
  #last: { readonly plan: Plan; readonly input: PlanInput; readonly policies: PoliciesByAspect } | undefined;

  constructor(limits?: LargeSetLimits) {
    this.sets = new SetRegistry(limits);
  }

  plan(input: PlanInput): Plan {
    const last = this.#last;
    // If anything throws, what is known is not what was planned.
    this.#last = undefined;
    const changes = this.#take(input, last === undefined ? undefined : input.changed);
    if (last !== undefined && !changes.isStructural && isSameSetting(last.input, input)) {
      const withPolicies = this.#withPolicies(last, changes.policies, logPrefixOf(input));
      if (withPolicies !== undefined) {
        const plan = this.#withSets(withPolicies, changes.sets);
        this.#last = { plan, input, policies: last.policies };
        return plan;
      }
    }
    const planner = new Planner(input, this);
    const plan = planner.plan();
    this.#last = { plan, input, policies: planner.policies };
    return plan;
  }

  /** Notes what changed in the view since the last plan. Structural: anything but members of sets and the rules of policies. */
  #take({ records, undecodable }: PlanInput, changed: ReadonlySet<RecordKey> | undefined): Changes {
    const sets = new Set<string>();
    const policies = new Map<RecordKey, Policy>();
    let isStructural = false;
    for (const key of changed ?? this.#differences(records, undecodable)) {
      const value = records.get(key);
      const problem = undecodable.get(key);
      const id = setIdOf(key);
      if (problem !== this.#undecodable.get(key)) isStructural = true;
      const before = this.#known.get(key);
      if (id === undefined && value !== before) {
        if (value?.kind === "policy" && before?.kind === "policy") policies.set(key, value);
        // Nodes are for routes alone.
        else if ((value ?? before)?.kind !== "node") isStructural = true;
      }
      if (id !== undefined) {
        sets.add(id);
        if (this.sets.update(key, id, value?.kind === "set" ? value : undefined, problem !== undefined)) isStructural = true;
      }
      if (value === undefined) this.#known.delete(key);
      else this.#known.set(key, value);
      if (problem === undefined) this.#undecodable.delete(key);
      else this.#undecodable.set(key, problem);
    }
    return { isStructural, sets, policies };
  }

  /** Policies whose own chains are all that changes; undefined: there are others. */
  #withPolicies(
    { plan, policies: byAspect }: { readonly plan: Plan; readonly policies: PoliciesByAspect },
    policies: ReadonlyMap<RecordKey, Policy>,
    logPrefix: string,
  ): Plan | undefined {
    if (policies.size === 0) return plan;
    const replaced: (readonly [aspect: Map<RecordKey, PlannedPolicy>, key: RecordKey, planned: PlannedPolicy])[] = [];
    for (const { aspect, planned: ofAspect } of byAspect.values()) {
      for (const [key, policy] of policies) {
        const before = ofAspect.get(key);
        if (before === undefined) continue;
        const planned = this.policies.planned(key, policy, aspect, { findSet: (id) => this.sets.facts(id), logPrefix });
        if (!isExchangeable(before, planned)) return undefined;
        replaced.push([ofAspect, key, planned]);
      }
    }
    const chains = new Map(plan.ruleset.chains);
    const origins = new Map(plan.origins);
    for (const [ofAspect, key, planned] of replaced) {
      for (const { chain } of ofAspect.get(key)?.ruleChains ?? []) chains.delete(chain.name);
      ofAspect.set(key, planned);
      for (const chain of [planned.chain, ...planned.ruleChains]) {
        chains.set(chain.chain.name, chain);
        origins.set(chain.chain.name, key);
      }
    }
    return { ...plan, origins, ruleset: { ...plan.ruleset, chains } };
  }

  #differences(records: PlanInput["records"], undecodable: PlanInput["undecodable"]): RecordKey[] {
    const keys = new Set<RecordKey>();
    for (const [key, value] of records) if (this.#known.get(key) !== value) keys.add(key);
    for (const key of this.#known.keys()) if (!records.has(key)) keys.add(key);
    for (const [key, problem] of undecodable) if (this.#undecodable.get(key) !== problem) keys.add(key);
    for (const key of this.#undecodable.keys()) if (!undecodable.has(key)) keys.add(key);
    return [...keys];
  }

  #withSets(plan: Plan, ids: ReadonlySet<string>): Plan {
    const changed: PlannedSet[] = [];
    for (const id of ids) {
      for (const state of this.sets.states(id)) {
        const before = plan.ruleset.sets.get(state.set.name);
        if (before !== undefined && before !== state) changed.push(state);
      }
    }
    if (changed.length === 0) return plan;
    const sets = new Map(plan.ruleset.sets);
    for (const state of changed) sets.set(state.set.name, state);
    return { ...plan, ruleset: { ...plan.ruleset, sets } };
  }
}

interface Changes {
  readonly isStructural: boolean;
  /** Ids of sets with a shard that changed. */
  readonly sets: ReadonlySet<string>;
  /** Policies that were there before. */
  readonly policies: ReadonlyMap<RecordKey, Policy>;
}

type PoliciesByAspect = Map<string, { readonly aspect: Aspect; readonly planned: Map<RecordKey, PlannedPolicy> }>;

export function desiredRuleset(input: PlanInput, cache: PlanCache = new PlanCache()): Plan {
  return cache.plan(input);
}

function isSameSetting(a: PlanInput, b: PlanInput): boolean {
  return (
    a.settings === b.settings &&
    a.interfaceOf === b.interfaceOf &&
    a.endpoints.length === b.endpoints.length &&
    a.endpoints.every((endpoint, i) => endpoint === b.endpoints[i])
  );
}

function logPrefixOf({ settings }: PlanInput): string {
  return settings.logPrefix ?? DEFAULT_LOG_PREFIX;
}

class Planner {
  readonly #input: PlanInput;
  readonly #cache: PlanCache;
  readonly #chains = new Map<string, PlannedChain>();
  readonly #sets = new Map<string, PlannedSet>();
  readonly #failures = new Map<RecordKey, string>();
  readonly #origins = new Map<string, RecordKey>();
  readonly #withPolicy = new Set<PodKey>();
  readonly policies: PoliciesByAspect = new Map();

  constructor(input: PlanInput, cache: PlanCache) {
    this.#input = input;
    this.#cache = cache;
  }

  plan(): Plan {
    const { settings, undecodable } = this.#input;
    for (const [key, reason] of undecodable) this.#fail(key, reason);
    this.#planPools();
    const stacks = new Set<RecordKey>();
    for (const value of this.#input.records.values()) if (value.kind === "endpoint" && value.stack !== "") stacks.add(value.stack);
    for (const key of stacks) this.#planStack(key);
    const hasHosts = this.#planHosts();
    for (const planned of this.#endpointSets()) this.#sets.set(planned.set.name, planned);
    const hasLimits = this.#planLimits();
    const floating = floatingMaps(floatingAddresses(this.#input.records, this.#input.endpoints));
    for (const planned of floating) this.#sets.set(planned.set.name, planned);
    const { interfacePrefix, endpointToHostAction = "accept" } = settings;
    for (const chain of baseChains({ interfacePrefix, endpointToHostAction, hasHosts, hasLimits, hasFloating: floating.length > 0 }))
      this.#chains.set(chain.chain.name, chain);
    this.#cache.sets.retain(this.#sets);
    return {
      ruleset: { table: TABLE, chains: this.#chains, sets: this.#sets },
      failures: [...this.#failures].map(([key, reason]) => ({ key, reason })),
      withPolicy: this.#withPolicy,
      origins: this.#origins,
    };
  }

  #fail(key: RecordKey, reason: string): void {
    if (!this.#failures.has(key)) this.#failures.set(key, reason);
  }

  #planStack(key: RecordKey): void {
    const stack = this.#input.records.get(key);
    if (stack?.kind !== "stack") return;
    for (const direction of DIRECTIONS) this.#planAspect(key, stack, { direction, variant: this.#variant(stack, false) });
  }

  #variant(stack: Stack, isUntracked: boolean): RuleVariant {
    return { logsDenied: stack.logDenied === true, isUntracked, rejects: this.#input.settings.denyAction === "reject" };
  }

  /** The name of the stack's own chain. */
  #planAspect(key: RecordKey, stack: Stack, aspect: Aspect): string | undefined {
    const { chains, jumpsTo, writesOut } = this.#cache.stacks.planned(key, stack, aspect, {
      findPolicy: (policy) => this.#findPolicy(policy, aspect),
      findList: (list) => listOf(list, (entry) => this.#input.records.get(entry)),
      fail: (policy, reason) => this.#fail(policy, reason),
    });
    for (const policy of jumpsTo) {
      const planned = this.#findPolicy(policy, aspect);
      if (planned !== undefined) for (const chain of [planned.chain, ...planned.ruleChains]) this.#addChain(policy, chain);
    }
    for (const policy of writesOut) for (const chain of this.#findPolicy(policy, aspect)?.ruleChains ?? []) this.#addChain(policy, chain);
    for (const chain of chains) this.#addChain(key, chain);
    return chains[0]?.chain.name;
  }

  #findPolicy(key: RecordKey, aspect: Aspect): PlannedPolicy | undefined {
    const name = aspectName(aspect);
    const { planned: ofAspect } = this.policies.get(name) ?? { planned: new Map<RecordKey, PlannedPolicy>() };
    if (!this.policies.has(name)) this.policies.set(name, { aspect, planned: ofAspect });
    const known = ofAspect.get(key);
    if (known !== undefined) return known;
    const policy = this.#input.records.get(key);
    if (policy?.kind !== "policy") return undefined;
    const planned = this.#cache.policies.planned(key, policy, aspect, { findSet: (id) => this.#cache.sets.facts(id), logPrefix: logPrefixOf(this.#input) });
    for (const used of planned.uses) this.#useSet(used);
    for (const reason of planned.failures) this.#fail(key, reason);
    ofAspect.set(key, planned);
    return planned;
  }

  /** False when there is none. */
  #planHosts(): boolean {
    const { records, settings, interfaceOf = new Map<IpAddress, string>() } = this.#input;
    const hosts = [...records.values()].filter((value) => value.kind === "host");
    const { chains, sets } = planHosts({
      hosts,
      interfacePrefix: settings.interfacePrefix,
      failsafePorts: settings.failsafePorts ?? DEFAULT_FAILSAFE_PORTS,
      interfaceOf,
      stackVerdict: (key, direction, isUntracked) => {
        const stack = records.get(key);
        if (stack?.kind !== "stack") return undefined;
        const chain = this.#planAspect(key, stack, { direction, variant: this.#variant(stack, isUntracked) });
        return chain === undefined ? undefined : { kind: "goto", chain };
      },
      fail: (key, reason) => this.#fail(key, reason),
    });
    for (const chain of chains) this.#addChain("host/", chain);
    for (const set of sets) {
      this.#sets.set(set.set.name, set);
      this.#origins.set(set.set.name, "host/");
    }
    return hosts.length > 0;
  }

  /** False when no pod has any. What is not understood is reported with the pod's record, and limits nothing. */
  #planLimits(): boolean {
    const maps: Readonly<Record<Direction, NftElement[]>> = { egress: [], ingress: [] };
    for (const endpoint of this.#input.endpoints) {
      const { podKey, interfaceName } = endpoint;
      const limits = endpointRecord(this.#input.records, endpoint)?.limits;
      if (limits === undefined) continue;
      if (limits.problems.length > 0) this.#fail(`endpoint/${podKey}`, limits.problems.join("; "));
      for (const direction of DIRECTIONS) {
        const planned = limitChain(interfaceName, direction, limits);
        if (planned === undefined) continue;
        this.#addChain(`endpoint/${podKey}`, planned);
        maps[direction].push({ key: interfaceName, data: { kind: "jump", chain: planned.chain.name } });
      }
    }
    if (maps.egress.length + maps.ingress.length === 0) return false;
    for (const [name, elements] of [
      [LIMIT_FROM_MAP, maps.egress],
      [LIMIT_TO_MAP, maps.ingress],
    ] as const)
      this.#sets.set(name, { set: { name, key: ["ifname"], data: "verdict" }, elements });
    return true;
  }

  #useSet(used: UsedSet): void {
    for (const planned of this.#cache.sets.planned(used)) {
      this.#sets.set(planned.set.name, planned);
      this.#origins.set(planned.set.name, `set/${used.id}/`);
    }
  }

  #addChain(key: RecordKey, chain: PlannedChain): void {
    this.#chains.set(chain.chain.name, chain);
    this.#origins.set(chain.chain.name, key);
  }

  #planPools(): void {
    for (const version of [4, 6] as const) {
      const all: NftElement[] = [];
      const withNat: NftElement[] = [];
      for (const value of this.#input.records.values()) {
        if (value.kind !== "pool" || value.cidr.includes(":") !== (version === 6)) continue;
        all.push({ key: value.cidr });
        if (value.natOutgoing) withNat.push({ key: value.cidr });
      }
      for (const [name, elements] of [
        [poolsSet(version), all],
        [natPoolsSet(version), withNat],
      ] as const) {
        const set: NftSet = { name, key: [ADDRESS_TYPES[version]], intervals: true };
        this.#sets.set(name, { set, elements: mergeElements(set, elements) });
      }
    }
  }

  #endpointSets(): readonly PlannedSet[] {
    const interfaces: NftElement[] = [];
    const allowed: Record<4 | 6, NftElement[]> = { 4: [], 6: [] };
    const from: NftElement[] = [];
    const to: NftElement[] = [];
    for (const endpoint of this.#input.endpoints) {
      const { interfaceName } = endpoint;
      interfaces.push({ key: interfaceName });
      for (const address of endpoint.addresses) allowed[ipVersion(address)].push({ key: `${interfaceName} . ${address}` });
      from.push({ key: interfaceName, data: this.#verdict(endpoint, "egress") });
      to.push({ key: interfaceName, data: this.#verdict(endpoint, "ingress") });
    }
    return [
      { set: { name: INTERFACES_SET, key: ["ifname"] }, elements: interfaces },
      { set: { name: allowedSet(4), key: ["ifname", "ipv4_addr"] }, elements: allowed[4] },
      { set: { name: allowedSet(6), key: ["ifname", "ipv6_addr"] }, elements: allowed[6] },
      { set: { name: FROM_ENDPOINT_MAP, key: ["ifname"], data: "verdict" }, elements: from },
      { set: { name: TO_ENDPOINT_MAP, key: ["ifname"], data: "verdict" }, elements: to },
    ];
  }

  #verdict(endpoint: PlannedEndpoint, direction: Direction): NftVerdict {
    const { podKey } = endpoint;
    const record = endpointRecord(this.#input.records, endpoint);
    if (record === undefined) return DROP;
    if (record.stack === "") {
      this.#withPolicy.add(podKey);
      return ACCEPT;
    }
    const stack = this.#input.records.get(record.stack);
    const name = stack?.kind === "stack" ? stackChainName(record.stack, { direction, variant: this.#variant(stack, false) }) : undefined;
    if (name === undefined || !this.#chains.has(name)) {
      this.#fail(record.stack, `named by endpoint/${podKey} and not in the view: the pod's traffic is dropped`);
      return DROP;
    }
    this.#withPolicy.add(podKey);
    return { kind: "goto", chain: name };
  }
}
