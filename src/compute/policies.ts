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
import type { StackedPolicy, Stacks, Subject } from "./stacks.ts";

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

/** What the last commit said of a policy's record. */
interface Committed {
  readonly record: Policy;
  readonly audience: Audience;
  /** Of one that every node had: the nodes, sorted. */
  readonly nodes: readonly NodeName[] | undefined;
}

export class Policies {
  readonly #stacks: Stacks;
  readonly #sets: AddressSets;
  readonly #everyNode: EveryNode;
  readonly #everywhere = new Set<RecordKey>();
  readonly #policies = new Map<RecordKey, PolicyState>();
  readonly #committed = new Map<RecordKey, Committed>();
  readonly #dirty = new Set<RecordKey>();

  constructor(options: { readonly stacks: Stacks; readonly sets: AddressSets; readonly everyNode: EveryNode }) {
    this.#everyNode = options.everyNode;
    this.#stacks = options.stacks;
    this.#sets = options.sets;
  }

  has(key: RecordKey): boolean {
    return this.#policies.has(key);
  }

  /** Canonical text of the selector of the endpoints that it applies to. */
  subjectOf(key: RecordKey): string | undefined {
    return this.#policies.get(key)?.subjectText;
  }

  set(intent: PolicyIntent): void {
    const key = policyKey(intent);
    const before = this.#policies.get(key);
    const uses = new Map<string, SetUse>();
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
    const sets = [...uses.values()].map((use) => this.#sets.acquire(use));
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
    this.#policies.set(key, state);
    this.#dirty.add(key);
    if (before === undefined) return;
    this.#dropUses(before);
    if (!isPlaceKept) this.#dropPlace(before);
  }

  remove(key: RecordKey): void {
    const before = this.#policies.get(key);
    if (before === undefined) return;
    this.#policies.delete(key);
    this.#everywhere.delete(key);
    this.#dropUses(before);
    this.#dropPlace(before);
    this.#dirty.add(key);
  }

  commit(ledger: Ledger): void {
    for (const subject of this.#stacks.movedSubjects()) for (const policy of subject.policies()) this.#dirty.add(policy.key);
    if (this.#everyNode.hasMoved) for (const key of this.#everywhere) this.#dirty.add(key);
    for (const key of this.#dirty) this.#commitOne(key, ledger);
    this.#dirty.clear();
  }

  #commitOne(key: RecordKey, ledger: Ledger): void {
    const before = this.#committed.get(key);
    const policy = this.#policies.get(key);
    const audience = policy?.subject?.audience;
    const everywhere = policy?.isEverywhere === true && audience !== undefined ? union(audience.sorted(), this.#everyNode.audience.sorted()) : undefined;
    if (policy === undefined || audience === undefined || everywhere?.length === 0 || (everywhere === undefined && audience.isEmpty)) {
      if (before === undefined) return;
      this.#committed.delete(key);
      ledger.remove(key, before.nodes ?? before.audience.before());
      return;
    }
    this.#committed.set(key, { record: policy.record, audience, nodes: everywhere });
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
export function policyRecord(intent: PolicyIntent, uses: Map<string, SetUse>): Policy {
  const { policyKind, namespace, name, tier } = intent;
  const rules = (list: readonly IntentRule[] | undefined): readonly Rule[] => (list ?? []).map((rule) => ruleRecord(rule, uses));
  return { kind: "policy", policyKind, namespace, name, tier, ingress: rules(intent.ingress), egress: rules(intent.egress) };
}

function ruleRecord(rule: IntentRule, uses: Map<string, SetUse>): Rule {
  const { protocol } = rule;
  return { ...rule, source: sideRecord(rule.source, protocol, uses), destination: sideRecord(rule.destination, protocol, uses) };
}

function sideRecord(side: IntentSide, protocol: number, uses: Map<string, SetUse>): RuleSide {
  const { nets, notNets, ports, selector, notSelector, nodes, service, namedPorts, notPorts, notNamedPorts = NO_SETS, includesSets = false } = side;
  const isPlain = selector === undefined && notSelector === undefined && nodes === undefined && service === undefined;
  if (isPlain && namedPorts.length === 0 && notNamedPorts.length === 0) {
    const plain = { nets, notNets, sets: NO_SETS, notSets: NO_SETS, ports, portSets: NO_SETS };
    return notPorts === undefined ? plain : { ...plain, notPorts };
  }
  const named = (use: SetUse): string => {
    uses.set(use.id, use);
    return use.id;
  };
  const portSetsOf = (names: readonly string[]): string[] => names.map((port) => named(portSetUse({ selector, port, protocol, includesSets })));
  const sets: string[] = [];
  if (selector !== undefined) sets.push(named(addressSetUse(selector, { includesSets })));
  if (nodes !== undefined) sets.push(named(nodeSetUse(nodes)));
  const portSets = portSetsOf(namedPorts);
  if (service !== undefined) (service.hasPorts ? portSets : sets).push(named(serviceSetUse(service)));
  const notPortSets = portSetsOf(notNamedPorts);
  return {
    nets,
    notNets,
    sets: sets.slice(),
    notSets: notSelector === undefined ? NO_SETS : [named(addressSetUse(notSelector, { includesSets }))],
    ports,
    portSets: portSets.length === 0 ? NO_SETS : portSets,
    ...(notPorts === undefined ? {} : { notPorts }),
    ...(notPortSets.length === 0 ? {} : { notPortSets }),
  };
}
