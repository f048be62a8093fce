/**
 * Policies as records, for the nodes that have an endpoint of their subject.
 *
 * A policy's record depends on the policy alone: peers are named as sets, so that a pod that comes or goes never changes it.
 */
import type { NodeName } from "../model/names.ts";
import type { Policy, RecordKey, Rule, RuleSide } from "../model/record.ts";
import type { IntentRule, IntentSide, PolicyIntent } from "../policy/intent.ts";
import type { AddressSet, AddressSets, SetUser } from "./address-sets.ts";
import { type Audience, audienceDifference, NO_NODES } from "./audience.ts";
import type { EveryNode } from "./every-node.ts";
import type { Ledger } from "./ledger.ts";
import { listPlace } from "./policy-lists.ts";
import { isSameValue } from "./same-value.ts";
import { addressSetUse, nodeSetUse, portSetUse, type SetUse, serviceSetUse } from "./set-source.ts";
import { SmallMap } from "./small-collections.ts";
import type { StackedPolicy } from "./stacked-policy.ts";
import type { Stacks, Subject } from "./stacks.ts";

interface PolicyState {
  readonly record: Policy;
  /** Its place in stacks. The same object as long as that stays. */
  readonly stacked: StackedPolicy;
  /** Canonical text of the subject. */
  readonly subjectText: string;
  readonly sets: readonly AddressSet[];
  /** undefined: it applies in no direction, so to nothing. */
  subject: Subject | undefined;
  /** Every node has it, whether an endpoint there needs it or not. */
  readonly isEverywhere: boolean;
}

/** Shared: most sides of most rules name no set. */
const NO_SETS: readonly string[] = [];
const NO_ADDRESS_SETS: readonly AddressSet[] = [];
const NO_RULES: readonly Rule[] = [];

/** What the last commit said of a policy's record. */
interface Committed {
  readonly record: Policy;
  readonly audience: Audience;
  /** Of one that every node had: the nodes, sorted. */
  readonly nodes: readonly NodeName[] | undefined;
}

/** Held while there is such a policy, or the last commit had one. */
interface PolicyEntry {
  readonly key: RecordKey;
  /** undefined: it is gone. */
  policy: PolicyState | undefined;
  committed: Committed | undefined;
  isDirty: boolean;
}

export class Policies {
  readonly #stacks: Stacks;
  readonly #sets: AddressSets;
  readonly #everyNode: EveryNode;
  readonly #everywhere = new Set<RecordKey>();
  readonly #entries = new Map<RecordKey, PolicyEntry>();
  #dirty: PolicyEntry[] = [];

  constructor(options: { readonly stacks: Stacks; readonly sets: AddressSets; readonly everyNode: EveryNode }) {
    this.#everyNode = options.everyNode;
    this.#stacks = options.stacks;
    this.#sets = options.sets;
  }

  has(key: RecordKey): boolean {
    return this.#entries.get(key)?.policy !== undefined;
  }

  /** Canonical text of the selector of the endpoints that it applies to. */
  subjectOf(key: RecordKey): string | undefined {
    return this.#entries.get(key)?.policy?.subjectText;
  }

  set(intent: PolicyIntent): void {
    const key = policyKey(intent);
    let entry = this.#entries.get(key);
    const before = entry?.policy;
    const uses = new SmallMap<string, SetUse>();
    const record = policyRecord(intent, uses);
    const stacked: StackedPolicy = {
      key,
      tier: intent.tier,
      order: intent.order ?? Number.POSITIVE_INFINITY,
      hasIngress: intent.ingress !== undefined,
      hasEgress: intent.egress !== undefined,
      stage: intent.stage ?? "normal",
      appliesOnForward: intent.appliesOnForward ?? false,
      place: before?.stacked.place ?? listPlace(key),
    };
    const isPlaceKept = before !== undefined && before.subjectText === intent.subject.canonical && isSameValue(before.stacked, stacked);
    const isEverywhere = intent.isEverywhere ?? false;
    if (isPlaceKept && before.isEverywhere === isEverywhere && isSameValue(before.record, record)) return;
    const sets = uses.size === 0 ? NO_ADDRESS_SETS : [...uses.values()].map((use) => this.#sets.acquire(use));
    const state: PolicyState = {
      record,
      sets,
      subjectText: intent.subject.canonical,
      stacked: isPlaceKept ? before.stacked : stacked,
      subject: undefined,
      isEverywhere,
    };
    if (isPlaceKept) state.subject = before.subject;
    else if (stacked.hasIngress || stacked.hasEgress) state.subject = this.#stacks.addPolicy(intent.subject, stacked);
    for (const user of this.#usersOf(state)) for (const set of sets) set.addUser(user);
    if (isEverywhere) this.#everywhere.add(key);
    else this.#everywhere.delete(key);
    if (entry === undefined) {
      entry = { key, policy: state, committed: undefined, isDirty: false };
      this.#entries.set(key, entry);
    } else entry.policy = state;
    this.#markDirty(entry);
    if (before === undefined) return;
    this.#dropUses(before);
    if (!isPlaceKept) this.#dropPlace(before);
  }

  remove(key: RecordKey): void {
    const entry = this.#entries.get(key);
    const before = entry?.policy;
    if (entry === undefined || before === undefined) return;
    entry.policy = undefined;
    this.#everywhere.delete(key);
    this.#dropUses(before);
    this.#dropPlace(before);
    this.#markDirty(entry);
  }

  commit(ledger: Ledger): void {
    for (const subject of this.#stacks.movedSubjects()) for (const policy of subject.policies()) this.#markDirty(this.#entries.get(policy.key));
    if (this.#everyNode.hasMoved) for (const key of this.#everywhere) this.#markDirty(this.#entries.get(key));
    for (const entry of this.#dirty) {
      entry.isDirty = false;
      this.#commitOne(entry, ledger);
      if (entry.policy === undefined) this.#entries.delete(entry.key);
    }
    this.#dirty = [];
  }

  #markDirty(entry: PolicyEntry | undefined): void {
    if (entry === undefined || entry.isDirty) return;
    entry.isDirty = true;
    this.#dirty.push(entry);
  }

  #commitOne(entry: PolicyEntry, ledger: Ledger): void {
    const { key, policy, committed: before } = entry;
    const audience = policy?.subject?.audience;
    const everywhere = policy?.isEverywhere === true && audience !== undefined ? union(audience.sorted(), this.#everyNode.audience.sorted()) : undefined;
    if (policy === undefined || audience === undefined || everywhere?.length === 0 || (everywhere === undefined && audience.isEmpty)) {
      if (before === undefined) return;
      entry.committed = undefined;
      ledger.remove(key, before.nodes ?? before.audience.before());
      return;
    }
    entry.committed = { record: policy.record, audience, nodes: everywhere };
    if (before === undefined) {
      ledger.put(key, policy.record, { entered: everywhere ?? audience.sorted(), left: NO_NODES });
      return;
    }
    const isPlain = everywhere === undefined && before.nodes === undefined && before.audience === audience;
    const delta = isPlain ? audience.delta() : audienceDifference(before.nodes ?? before.audience.before(), everywhere ?? audience.sorted());
    if (before.record === policy.record || isSameValue(before.record, policy.record)) ledger.move(key, delta);
    else ledger.put(key, policy.record, delta);
  }

  #dropPlace(policy: PolicyState): void {
    if (policy.subject !== undefined) this.#stacks.removePolicy(policy.subject, policy.stacked);
  }

  /** For whose nodes its sets are. One that applies to nothing is nobody's. */
  #usersOf({ subject, isEverywhere }: PolicyState): readonly SetUser[] {
    if (subject === undefined) return [];
    return isEverywhere ? [subject, this.#everyNode] : [subject];
  }

  #dropUses(policy: PolicyState): void {
    for (const set of policy.sets) {
      for (const user of this.#usersOf(policy)) set.removeUser(user);
      this.#sets.release(set);
    }
  }
}

/** Of two sorted lists, sorted. */
function union(a: readonly NodeName[], b: readonly NodeName[]): readonly NodeName[] {
  return a.length === 0 ? b : [...new Set([...a, ...b])].sort();
}

export function policyKey(policy: { readonly policyKind: string; readonly namespace: string; readonly name: string }): RecordKey {
  return `policy/${policy.policyKind}/${policy.namespace}/${policy.name}`;
}

/** The record of an intent; the sets that it names are put into `uses` by id. */
export function policyRecord(intent: PolicyIntent, uses: SmallMap<string, SetUse>): Policy {
  const { policyKind, namespace, name, tier } = intent;
  return { kind: "policy", policyKind, namespace, name, tier, ingress: ruleRecords(intent.ingress, uses), egress: ruleRecords(intent.egress, uses) };
}

function ruleRecords(rules: readonly IntentRule[] | undefined, uses: SmallMap<string, SetUse>): readonly Rule[] {
  return rules === undefined || rules.length === 0 ? NO_RULES : rules.map((rule) => ruleRecord(rule, uses));
}

function ruleRecord(rule: IntentRule, uses: SmallMap<string, SetUse>): Rule {
  const { protocol } = rule;
  return { ...rule, source: sideRecord(rule.source, protocol, uses), destination: sideRecord(rule.destination, protocol, uses) };
}

function sideRecord(side: IntentSide, protocol: number, uses: SmallMap<string, SetUse>): RuleSide {
  const { nets, notNets, ports, selector, notSelector, nodes, service, namedPorts, notPorts, notNamedPorts = NO_SETS, includesSets = false } = side;
  const hasPortSets = namedPorts.length > 0 || notNamedPorts.length > 0;
  if (notSelector === undefined && nodes === undefined && service === undefined && !hasPortSets) {
    const sets = selector === undefined ? NO_SETS : [noted(addressSetUse(selector, { includesSets }), uses)];
    const plain = { nets, notNets, sets, notSets: NO_SETS, ports, portSets: NO_SETS };
    return notPorts === undefined ? plain : { ...plain, notPorts };
  }
  const portSetsOf = (names: readonly string[]): string[] => names.map((port) => noted(portSetUse({ selector, port, protocol, includesSets }), uses));
  const sets: string[] = [];
  if (selector !== undefined) sets.push(noted(addressSetUse(selector, { includesSets }), uses));
  if (nodes !== undefined) sets.push(noted(nodeSetUse(nodes), uses));
  const portSets = portSetsOf(namedPorts);
  if (service !== undefined) (service.hasPorts ? portSets : sets).push(noted(serviceSetUse(service), uses));
  const notPortSets = portSetsOf(notNamedPorts);
  return {
    nets,
    notNets,
    sets: sets.slice(),
    notSets: notSelector === undefined ? NO_SETS : [noted(addressSetUse(notSelector, { includesSets }), uses)],
    ports,
    portSets: portSets.length === 0 ? NO_SETS : portSets,
    ...(notPorts === undefined ? {} : { notPorts }),
    ...(notPortSets.length === 0 ? {} : { notPortSets }),
  };
}

/** The set's id, put into `uses`. */
function noted(use: SetUse, uses: SmallMap<string, SetUse>): string {
  uses.set(use.id, use);
  return use.id;
}
