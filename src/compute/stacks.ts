/**
 * Which policies apply to which endpoints, without a step for each pair of the two.
 *
 * Policies with one subject selector share a Subject. Endpoints that the same subjects match form a Group, which has one Stack. So 10,000 policies
 * on one selector and 10,000 pods are one subject, one group, one stack.
 * Invariant after `regroup`: a group's audience counts its endpoints per node; a subject's audience counts its groups on each node; a set's counts
 * the subjects, there, of policies that use it. A stack's id depends on the subjects' selectors only, so a policy more or less on known subjects
 * changes the stack and no endpoint.
 */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import type { NodeName } from "../model/names.ts";
import type { RecordKey, Stack, StackTier } from "../model/record.ts";
import type { Selector } from "../selector/selector.ts";
import type { AddressSet, SetUser } from "./address-sets.ts";
import { Audience } from "./audience.ts";
import type { EndpointState } from "./endpoint.ts";
import type { IndexedSelector, MatchListener } from "./label-index.ts";
import type { Ledger } from "./ledger.ts";
import { isSameValue } from "./same-value.ts";
import type { SelectorIndex } from "./selector-index.ts";
import { SmallSet } from "./small-collections.ts";
import { compareTiers, tierDefaultAction } from "./tiers.ts";

/** 128 bits of SHA-256. */
const STACK_ID_BYTES = 16;

/** What a stack needs to know of a policy. */
export interface StackedPolicy {
  readonly key: RecordKey;
  readonly tier: string;
  readonly order: number;
  readonly hasIngress: boolean;
  readonly hasEgress: boolean;
}

/** A selector by which policies name the endpoints that they apply to. */
export class Subject implements MatchListener<EndpointState>, SetUser {
  readonly entry: IndexedSelector<EndpointState>;
  readonly groups = new SmallSet<Group>();
  /** Nodes with an endpoint that it matches, as of the last `regroup`. */
  readonly audience = new Audience();
  readonly uses = new SmallSet<AddressSet>();
  readonly joint = new SmallSet<AddressSet>();
  readonly #policies = new SmallSet<StackedPolicy>();
  readonly #stacks: Stacks;
  #ordered: readonly StackedPolicy[] | undefined;

  constructor(entry: IndexedSelector<EndpointState>, stacks: Stacks) {
    this.entry = entry;
    this.#stacks = stacks;
  }

  get isUsed(): boolean {
    return this.#policies.size > 0;
  }

  policies(): Iterable<StackedPolicy> {
    return this.#policies;
  }

  /** In order of evaluation. */
  ordered(): readonly StackedPolicy[] {
    this.#ordered ??= [...this.#policies].sort(comparePolicies);
    return this.#ordered;
  }

  add(policy: StackedPolicy): void {
    this.#policies.add(policy);
    this.#ordered = undefined;
  }

  remove(policy: StackedPolicy): void {
    this.#policies.delete(policy);
    this.#ordered = undefined;
  }

  matched(endpoint: EndpointState): void {
    this.#stacks.subjectMatched(this, endpoint);
  }

  unmatched(endpoint: EndpointState): void {
    this.#stacks.subjectUnmatched(this, endpoint);
  }

  changing(): void {}

  changed(): void {}
}

/** The endpoints that a certain list of subjects matches. */
export interface Group {
  /** Sequences of the subjects: its identity here. */
  readonly key: string;
  /** By ascending sequence. */
  readonly subjects: readonly Subject[];
  readonly stackId: string;
  /** Record key of its stack. */
  readonly stack: RecordKey;
  readonly audience: Audience;
  /** As last committed. */
  record: Stack | undefined;
}

/** Where an endpoint is counted. */
interface Membership {
  /** By ascending sequence. Replaced, not changed: in between commits it is the group's own list. */
  subjects: readonly Subject[];
  group: Group | undefined;
}

export class Stacks {
  readonly #index: SelectorIndex<EndpointState>;
  readonly #subjects = new Map<string, Subject>();
  readonly #groups = new Map<string, Group>();
  readonly #members = new Map<EndpointState, Membership>();
  readonly #unsettled = new Set<EndpointState>();
  /** Subjects that lost a policy: perhaps their last. */
  readonly #shrunk = new Set<Subject>();
  readonly #dirtyGroups = new Set<Group>();
  readonly #movedSubjects = new Set<Subject>();

  constructor(index: SelectorIndex<EndpointState>) {
    this.#index = index;
  }

  get groupCount(): number {
    return this.#groups.size;
  }

  /** Puts a policy under its subject. */
  addPolicy(selector: Selector, policy: StackedPolicy): Subject {
    const subject = this.#subjects.get(selector.canonical) ?? this.#newSubject(selector);
    subject.add(policy);
    for (const group of subject.groups) this.#dirtyGroups.add(group);
    return subject;
  }

  removePolicy(subject: Subject, policy: StackedPolicy): void {
    subject.remove(policy);
    this.#shrunk.add(subject);
    for (const group of subject.groups) this.#dirtyGroups.add(group);
  }

  subjectMatched(subject: Subject, endpoint: EndpointState): void {
    let member = this.#members.get(endpoint);
    if (member === undefined) {
      member = { subjects: [], group: undefined };
      this.#members.set(endpoint, member);
    }
    member.subjects = member.subjects.toSpliced(position(member.subjects, subject), 0, subject);
    this.#unsettled.add(endpoint);
  }

  subjectUnmatched(subject: Subject, endpoint: EndpointState): void {
    const member = this.#members.get(endpoint);
    if (member === undefined) return;
    const at = position(member.subjects, subject);
    if (member.subjects[at] === subject) member.subjects = member.subjects.toSpliced(at, 1);
    this.#unsettled.add(endpoint);
  }

  /** Record key of the endpoint's stack as of the last `regroup`, "" when no policy applies. */
  stackOf(endpoint: EndpointState): RecordKey {
    const group = this.#members.get(endpoint)?.group;
    return group === undefined ? "" : group.stack;
  }

  /** Brings groups and audiences in line with what matches. Returns the endpoints that have another stack now. */
  regroup(): readonly EndpointState[] {
    for (const subject of this.#shrunk) if (!subject.isUsed) this.#forget(subject);
    this.#shrunk.clear();
    const moved: EndpointState[] = [];
    for (const endpoint of this.#unsettled) {
      const member = this.#members.get(endpoint);
      if (member === undefined) continue;
      const before = member.group;
      const after = member.subjects.length === 0 ? undefined : this.#groupOf(member.subjects);
      if (member.subjects.length === 0) this.#members.delete(endpoint);
      if (after !== undefined) member.subjects = after.subjects;
      if (before === after) continue;
      member.group = after;
      if (after !== undefined) this.#enter(after, endpoint.node);
      if (before !== undefined) this.#leave(before, endpoint.node);
      moved.push(endpoint);
    }
    this.#unsettled.clear();
    return moved;
  }

  commit(ledger: Ledger): void {
    for (const group of this.#dirtyGroups) {
      const key = group.stack;
      if (group.audience.isEmpty) {
        if (group.record !== undefined) ledger.remove(key, group.audience.before());
        this.#groups.delete(group.key);
        for (const subject of group.subjects) subject.groups.delete(group);
      } else {
        const record = stackRecord(group);
        if (isSameValue(group.record, record)) ledger.move(key, group.audience.delta());
        else ledger.put(key, record, group.audience.delta());
        group.record = record;
      }
      group.audience.settle();
    }
    this.#dirtyGroups.clear();
  }

  /** Subjects of which the audience changed since the last `settle`. */
  movedSubjects(): ReadonlySet<Subject> {
    return this.#movedSubjects;
  }

  /** Ends a commit: subjects' present audiences are what the next one compares with. */
  settle(): void {
    for (const subject of this.#movedSubjects) subject.audience.settle();
    this.#movedSubjects.clear();
  }

  #newSubject(selector: Selector): Subject {
    const entry = this.#index.acquire(selector);
    const subject = new Subject(entry, this);
    this.#subjects.set(selector.canonical, subject);
    entry.listeners.add(subject);
    for (const endpoint of entry.matches) this.subjectMatched(subject, endpoint);
    return subject;
  }

  #forget(subject: Subject): void {
    for (const endpoint of subject.entry.matches) this.subjectUnmatched(subject, endpoint);
    subject.entry.listeners.delete(subject);
    this.#subjects.delete(subject.entry.selector.canonical);
    this.#index.release(subject.entry);
  }

  #groupOf(subjects: readonly Subject[]): Group {
    const key = subjects.map(({ entry }) => entry.sequence).join(",");
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    const id = stackId(subjects);
    const group: Group = { key, subjects, stackId: id, stack: `stack/${id}`, audience: new Audience(), record: undefined };
    this.#groups.set(key, group);
    for (const subject of subjects) subject.groups.add(group);
    return group;
  }

  #enter(group: Group, node: NodeName): void {
    if (!group.audience.acquire(node)) return;
    this.#dirtyGroups.add(group);
    for (const subject of group.subjects) {
      if (!subject.audience.acquire(node)) continue;
      this.#movedSubjects.add(subject);
      for (const set of subject.joint) set.nodeEntered(node);
    }
  }

  #leave(group: Group, node: NodeName): void {
    if (!group.audience.release(node)) return;
    this.#dirtyGroups.add(group);
    for (const subject of group.subjects) {
      if (!subject.audience.release(node)) continue;
      this.#movedSubjects.add(subject);
      for (const set of subject.joint) set.nodeLeft(node);
    }
  }
}

/** Of the canonical texts: the subjects' own ids, each a hash, are then never needed. */
function stackId(subjects: readonly Subject[]): string {
  const texts = subjects.map(({ entry }) => entry.selector.canonical).sort();
  return bytesToHex(sha256(utf8ToBytes(texts.join("\n"))).subarray(0, STACK_ID_BYTES));
}

function stackRecord(group: Group): Stack {
  const [first] = group.subjects;
  const policies =
    group.subjects.length === 1 && first !== undefined ? first.ordered() : group.subjects.flatMap((subject) => subject.ordered()).sort(comparePolicies);
  const tiers: StackTier[] = [];
  for (let start = 0; start < policies.length; ) {
    const name = policies[start]?.tier ?? "";
    const ingress: RecordKey[] = [];
    const egress: RecordKey[] = [];
    let end = start;
    for (let policy = policies[end]; policy?.tier === name; policy = policies[++end]) {
      if (policy.hasIngress) ingress.push(policy.key);
      if (policy.hasEgress) egress.push(policy.key);
    }
    tiers.push({ name, defaultAction: tierDefaultAction(name), ingress, egress });
    start = end;
  }
  return { kind: "stack", id: group.stackId, tiers, noMatchAction: "allow" };
}

function comparePolicies(a: StackedPolicy, b: StackedPolicy): number {
  if (a.tier !== b.tier) return compareTiers(a.tier, b.tier);
  if (a.order !== b.order) return a.order < b.order ? -1 : 1;
  return a.key < b.key ? -1 : Number(a.key > b.key);
}

/** Where the subject is, or is to be put, in a list by ascending sequence. */
function position(subjects: readonly Subject[], subject: Subject): number {
  let low = 0;
  let high = subjects.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((subjects[middle]?.entry.sequence ?? 0) < subject.entry.sequence) low = middle + 1;
    else high = middle;
  }
  return low;
}
