/**
 * Which policies apply to which endpoints, without a step for each pair of the two.
 *
 * Policies with one subject selector share a Subject. Pods that the same subjects match form a Group, which has one Stack; host endpoints with the same
 * subjects and profiles form one too, with a stack for each place where their packets are judged. So 10,000 policies on one selector and 10,000 pods are
 * one subject, one group, one stack.
 * Invariant after `regroup`: a group's audience counts its endpoints per node; a subject's audience counts its groups on each node; a set's counts
 * the subjects, there, of policies that use it. A stack's id depends on the subjects' selectors only, so a policy more or less on known subjects
 * changes the stack and no endpoint.
 */
import type { NodeName } from "../model/names.ts";
import { type HostEndpoint, type PolicyList, type RecordKey, recordKey, type Stack, type StackTier } from "../model/record.ts";
import type { Selector } from "../selector/selector.ts";
import { hexDigest } from "../selector/text-digest.ts";
import type { AddressSet, SetUser } from "./address-sets.ts";
import { Audience, NO_NODES } from "./audience.ts";
import type { EndpointState, HostEndpointState, PolicyItem } from "./endpoint.ts";
import type { IndexedSelector, MatchListener } from "./label-index.ts";
import type { Ledger } from "./ledger.ts";
import { cutPolicies } from "./policy-lists.ts";
import { isSameValue } from "./same-value.ts";
import type { SelectorIndex } from "./selector-index.ts";
import { compareTexts, SmallSet, sortFew } from "./small-collections.ts";
import { comparePolicies, placeAmong, type StackedPolicy } from "./stacked-policy.ts";
import type { Tiers } from "./tiers.ts";

/** 128 bits of SHA-256. */
const STACK_ID_BYTES = 16;

type PolicyTarget = EndpointState | HostEndpointState;

/** A selector by which policies name the endpoints that they apply to; of policies that are for host endpoints alone, a subject of its own. */
export class Subject implements MatchListener<PolicyItem>, SetUser {
  readonly entry: IndexedSelector<PolicyItem>;
  readonly isForHosts: boolean;
  /** Tells subjects apart in the keys of groups. */
  readonly mark: string;
  readonly groups = new SmallSet<Group>();
  /** Nodes with an endpoint that it matches, as of the last `regroup`. */
  readonly audience = new Audience();
  readonly uses = new SmallSet<AddressSet>();
  readonly joint = new SmallSet<AddressSet>();
  readonly #policies = new SmallSet<StackedPolicy>();
  readonly #stacks: Stacks;
  #ordered: readonly StackedPolicy[] | undefined;

  constructor(options: { readonly entry: IndexedSelector<PolicyItem>; readonly isForHosts: boolean; readonly stacks: Stacks }) {
    this.entry = options.entry;
    this.isForHosts = options.isForHosts;
    this.mark = `${options.isForHosts ? "h" : ""}${options.entry.sequence}`;
    this.#stacks = options.stacks;
  }

  get isUsed(): boolean {
    return this.#policies.size > 0;
  }

  policies(): Iterable<StackedPolicy> {
    return this.#policies;
  }

  /** In order of evaluation. */
  ordered(tiers: Tiers): readonly StackedPolicy[] {
    this.#ordered ??= [...this.#policies].sort((a, b) => comparePolicies(a, b, tiers));
    return this.#ordered;
  }

  /** Tiers have another order. */
  reordered(): void {
    this.#ordered = undefined;
  }

  /** Sorted again only when nobody has looked since: among ten thousand, one more is put in its place. */
  add(policy: StackedPolicy, tiers: Tiers): void {
    if (!this.#policies.add(policy) || this.#ordered === undefined) return;
    this.#ordered = this.#ordered.toSpliced(placeAmong(this.#ordered, policy, tiers), 0, policy);
  }

  remove(policy: StackedPolicy, tiers: Tiers): void {
    if (!this.#policies.delete(policy) || this.#ordered === undefined) return;
    const at = placeAmong(this.#ordered, policy, tiers);
    this.#ordered = this.#ordered[at] === policy ? this.#ordered.toSpliced(at, 1) : undefined;
  }

  matched(item: PolicyItem): void {
    if (this.appliesTo(item)) this.#stacks.subjectMatched(this, item);
  }

  unmatched(item: PolicyItem): void {
    if (this.appliesTo(item)) this.#stacks.subjectUnmatched(this, item);
  }

  appliesTo(item: PolicyItem): item is PolicyTarget {
    return item.kind === "host" || (item.kind === "pod" && !this.isForHosts);
  }

  changing(): void {}

  changed(): void {}
}

/** Where packets of a group's endpoints are judged. */
type Section = "pod" | keyof HostStacks;
type HostStacks = Pick<HostEndpoint, "stack" | "forwardStack" | "preDnatStack" | "untrackedStack">;

const HOST_SECTIONS: readonly (keyof HostStacks)[] = ["stack", "forwardStack", "preDnatStack", "untrackedStack"];

/** The endpoints that a certain list of subjects matches. */
export interface Group {
  /** Sequences of the subjects, and the profiles: its identity here. */
  readonly key: string;
  /** By ascending sequence. */
  readonly subjects: readonly Subject[];
  /** Of host endpoints, in order. */
  readonly profiles: readonly string[];
  readonly logsDenied: boolean;
  readonly stacks: readonly GroupStack[];
  readonly audience: Audience;
}

interface GroupStack {
  readonly section: Section;
  readonly id: string;
  /** Record key. */
  readonly key: RecordKey;
  /** As last committed. */
  record: Stack | undefined;
  /** As last committed, by key. */
  lists: ReadonlyMap<RecordKey, PolicyList>;
}

/** Where an endpoint is counted. Kept on the endpoint: a Map of all of them would be asked at each step. */
class Membership {
  /** By ascending sequence. Replaced, not changed: in between commits it is the group's own list. */
  subjects: readonly Subject[];
  group: Group | undefined = undefined;

  constructor(subjects: readonly Subject[]) {
    this.subjects = subjects;
  }
}

function membershipOf({ membership }: PolicyTarget): Membership | undefined {
  return membership instanceof Membership ? membership : undefined;
}

export class Stacks {
  readonly #index: SelectorIndex<PolicyItem>;
  readonly #tiers: Tiers;
  /** Subjects that have, or had, a policy in the tier. */
  readonly #subjectsOfTier = new Map<string, Set<Subject>>();
  readonly #groups = new Map<string, Group>();
  /** Host endpoints have a group even when nothing matches them: what nothing allows is denied. */
  readonly #hosts = new Set<HostEndpointState>();
  readonly #unsettled = new Set<PolicyTarget>();
  /** Subjects that lost a policy: perhaps their last. */
  readonly #shrunk = new Set<Subject>();
  readonly #dirtyGroups = new Set<Group>();
  readonly #movedSubjects = new Set<Subject>();

  constructor(options: { readonly index: SelectorIndex<PolicyItem>; readonly tiers: Tiers }) {
    this.#index = options.index;
    this.#tiers = options.tiers;
  }

  get groupCount(): number {
    return this.#groups.size;
  }

  /** Puts a policy under its subject. */
  addPolicy(selector: Selector, policy: StackedPolicy): Subject {
    const isForHosts = policy.stage !== "normal";
    const entry = this.#index.acquire(selector);
    let subject = subjectOf(entry, isForHosts);
    // One reference for each subject, not for each policy.
    if (subject === undefined) subject = this.#newSubject(entry, isForHosts);
    else this.#index.release(entry);
    subject.add(policy, this.#tiers);
    let inTier = this.#subjectsOfTier.get(policy.tier);
    if (inTier === undefined) {
      inTier = new Set();
      this.#subjectsOfTier.set(policy.tier, inTier);
    }
    inTier.add(subject);
    for (const group of subject.groups) this.#dirtyGroups.add(group);
    return subject;
  }

  removePolicy(subject: Subject, policy: StackedPolicy): void {
    subject.remove(policy, this.#tiers);
    this.#shrunk.add(subject);
    for (const group of subject.groups) this.#dirtyGroups.add(group);
  }

  /** The tier's place or action is another one now. */
  tierChanged(name: string): void {
    for (const subject of this.#subjectsOfTier.get(name) ?? []) {
      subject.reordered();
      for (const group of subject.groups) this.#dirtyGroups.add(group);
    }
  }

  addHost(host: HostEndpointState): void {
    this.#hosts.add(host);
    host.membership ??= new Membership(NO_SUBJECTS);
    this.#unsettled.add(host);
  }

  /** Call after it has left the index. */
  removeHost(host: HostEndpointState): void {
    this.#hosts.delete(host);
    this.#unsettled.add(host);
  }

  /** Something other than what matches it has changed: its profiles, or whether its denials are logged. */
  reconsider(item: PolicyItem): void {
    if (item.kind !== "network-set" && item.membership !== undefined) this.#unsettled.add(item);
  }

  subjectMatched(subject: Subject, endpoint: PolicyTarget): void {
    const membership = membershipOf(endpoint);
    if (membership === undefined) endpoint.membership = new Membership([subject]);
    else membership.subjects = membership.subjects.toSpliced(position(membership.subjects, subject), 0, subject);
    this.#unsettled.add(endpoint);
  }

  subjectUnmatched(subject: Subject, endpoint: PolicyTarget): void {
    const member = membershipOf(endpoint);
    if (member === undefined) return;
    const at = position(member.subjects, subject);
    if (member.subjects[at] === subject) member.subjects = member.subjects.toSpliced(at, 1);
    this.#unsettled.add(endpoint);
  }

  /** Record key of the pod's stack as of the last `regroup`, "" when no policy applies. */
  stackOf(endpoint: EndpointState): RecordKey {
    return membershipOf(endpoint)?.group?.stacks[0]?.key ?? "";
  }

  /** Record keys of the host endpoint's stacks as of the last `regroup`. */
  hostStacks(host: HostEndpointState): HostStacks {
    const keys: Record<keyof HostStacks, RecordKey> = { stack: "", forwardStack: "", preDnatStack: "", untrackedStack: "" };
    for (const { section, key } of membershipOf(host)?.group?.stacks ?? []) if (section !== "pod") keys[section] = key;
    return keys;
  }

  /** Brings groups and audiences in line with what matches. Returns the endpoints that have another group now. */
  regroup(): readonly PolicyTarget[] {
    for (const subject of this.#shrunk) if (!subject.isUsed) this.#forget(subject);
    this.#shrunk.clear();
    const moved: PolicyTarget[] = [];
    for (const endpoint of this.#unsettled) {
      const member = membershipOf(endpoint);
      if (member === undefined) continue;
      const before = member.group;
      const isGone = endpoint.kind === "host" ? !this.#hosts.has(endpoint) : member.subjects.length === 0;
      const after = isGone ? undefined : this.#groupOf(member.subjects, endpoint);
      if (isGone) endpoint.membership = undefined;
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
      for (const stack of group.stacks) {
        if (group.audience.isEmpty) {
          if (stack.record !== undefined) for (const key of [stack.key, ...stack.lists.keys()]) ledger.remove(key, group.audience.before());
          continue;
        }
        const { record, lists } = stackRecords(group, stack, this.#tiers);
        if (isSameValue(stack.record, record)) ledger.move(stack.key, group.audience.delta());
        else ledger.put(stack.key, record, group.audience.delta());
        commitLists(ledger, group.audience, stack, lists);
        stack.record = record;
        stack.lists = lists;
      }
      if (group.audience.isEmpty) {
        this.#groups.delete(group.key);
        for (const subject of group.subjects) subject.groups.delete(group);
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

  #newSubject(entry: IndexedSelector<PolicyItem>, isForHosts: boolean): Subject {
    const subject = new Subject({ entry, isForHosts, stacks: this });
    entry.listeners.add(subject);
    for (const item of entry.matches) subject.matched(item);
    return subject;
  }

  #forget(subject: Subject): void {
    for (const item of subject.entry.matches) subject.unmatched(item);
    subject.entry.listeners.delete(subject);
    for (const [tier, subjects] of this.#subjectsOfTier) {
      subjects.delete(subject);
      if (subjects.size === 0) this.#subjectsOfTier.delete(tier);
    }
    this.#index.release(subject.entry);
  }

  #groupOf(subjects: readonly Subject[], endpoint: PolicyTarget): Group {
    const profiles = endpoint.kind === "host" ? endpoint.profiles : NO_PROFILES;
    let sequences = "";
    for (const { mark } of subjects) sequences = sequences === "" ? mark : `${sequences},${mark}`;
    const logsDenied = endpoint.kind === "pod" && endpoint.parent.namespace.logsDenied;
    const key = endpoint.kind === "host" ? `host ${profiles.join(",")} ${sequences}` : logsDenied ? `log ${sequences}` : sequences;
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    const sections: readonly Section[] = endpoint.kind === "host" ? HOST_SECTIONS : POD_SECTIONS;
    const stacks = sections.map((section): GroupStack => {
      const id = stackId(subjects, section === "pod" ? (logsDenied ? "log\n" : "") : `${section}\n${profiles.join(",")}\n`);
      return { section, id, key: `stack/${id}`, record: undefined, lists: NO_LISTS };
    });
    const group: Group = { key, subjects, profiles, logsDenied, stacks, audience: new Audience() };
    this.#groups.set(key, group);
    for (const subject of subjects) subject.groups.add(group);
    this.#dirtyGroups.add(group);
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

const NO_POLICIES: StackedPolicy[] = [];
const NO_SUBJECTS: readonly Subject[] = [];
const NO_PROFILES: readonly string[] = [];
const POD_SECTIONS: readonly Section[] = ["pod"];

/** The subject of the selector. It listens there as long as there is one, among the few sets of the selector. */
function subjectOf(entry: IndexedSelector<PolicyItem>, isForHosts: boolean): Subject | undefined {
  for (const listener of entry.listeners) if (listener instanceof Subject && listener.isForHosts === isForHosts) return listener;
  return undefined;
}

function subjectKey(selector: Selector, isForHosts: boolean): string {
  return isForHosts ? `h ${selector.canonical}` : selector.canonical;
}

/** Of the canonical texts: the subjects' own ids, each a hash, are then never needed. */
function stackId(subjects: readonly Subject[], place: string): string {
  const texts = sortFew(
    subjects.map(({ entry, isForHosts }) => subjectKey(entry.selector, isForHosts)),
    compareTexts,
  );
  return hexDigest(place + texts.join("\n"), STACK_ID_BYTES);
}

const NO_LISTS: ReadonlyMap<RecordKey, PolicyList> = new Map();

function commitLists(ledger: Ledger, audience: Audience, { lists: before }: GroupStack, after: ReadonlyMap<RecordKey, PolicyList>): void {
  for (const key of before.keys()) if (!after.has(key)) ledger.remove(key, audience.before());
  for (const [key, list] of after) {
    const known = before.get(key);
    if (known === undefined) ledger.put(key, list, { entered: audience.sorted(), left: NO_NODES });
    else if (isSameValue(known.policies, list.policies)) ledger.move(key, audience.delta());
    else ledger.put(key, list, audience.delta());
  }
}

function stackRecords(
  { subjects, profiles: names, logsDenied }: Group,
  { section, id }: GroupStack,
  tiers: Tiers,
): { readonly record: Stack; readonly lists: ReadonlyMap<RecordKey, PolicyList> } {
  const all = orderedPolicies(subjects, tiers);
  const policies = section === "pod" ? all : all.filter((policy) => isOfSection(policy, section));
  const list: StackTier[] = [];
  let lists: Map<RecordKey, PolicyList> | undefined;
  const put = (part: PolicyList): void => {
    lists ??= new Map();
    lists.set(recordKey(part), part);
  };
  for (let start = 0; start < policies.length; ) {
    const name = policies[start]?.tier ?? "";
    const ingress: StackedPolicy[] = [];
    const egress: StackedPolicy[] = [];
    let end = start;
    for (let policy = policies[end]; policy?.tier === name; policy = policies[++end]) {
      if (policy.hasIngress) ingress.push(policy);
      if (policy.hasEgress) egress.push(policy);
    }
    // Before connection tracking and before NAT, policies only decide what they name.
    const endsOpen = section === "preDnatStack" || section === "untrackedStack";
    list.push({
      name,
      defaultAction: endsOpen ? "pass" : tiers.defaultAction(name),
      ingress: cutPolicies(ingress, { stack: id, direction: "ingress", tier: name, put }),
      egress: cutPolicies(egress, { stack: id, direction: "egress", tier: name, put }),
    });
    start = end;
  }
  const isHostsOwn = section === "stack";
  const profiles = isHostsOwn && names.length > 0 ? { profiles: names.map((name) => `policy/Profile//${name}`) } : {};
  const record: Stack = {
    kind: "stack",
    id,
    tiers: list.slice(),
    noMatchAction: isHostsOwn ? "deny" : "allow",
    ...profiles,
    ...(logsDenied ? { logDenied: true as const } : {}),
  };
  return { record, lists: lists ?? NO_LISTS };
}

/** Of all the subjects. Not to be changed: with one subject, it is its own list. */
function orderedPolicies(subjects: readonly Subject[], tiers: Tiers): readonly StackedPolicy[] {
  const [first] = subjects;
  if (subjects.length === 1 && first !== undefined) return first.ordered(tiers);
  const all = NO_POLICIES.concat(...subjects.map((subject) => subject.ordered(tiers)));
  return sortFew(all, (a, b) => comparePolicies(a, b, tiers));
}

function isOfSection({ stage, appliesOnForward }: StackedPolicy, section: keyof HostStacks): boolean {
  switch (section) {
    case "stack":
      return stage === "normal";
    case "forwardStack":
      return stage === "normal" && appliesOnForward;
    case "preDnatStack":
      return stage === "preDnat";
    case "untrackedStack":
      return stage === "untracked";
  }
}

/** Where the subject is, or is to be put, in a list by ascending sequence. */
function position(subjects: readonly Subject[], subject: Subject): number {
  let low = 0;
  let high = subjects.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (rank(subjects[middle]) < rank(subject)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Two subjects can share a selector: one for all, one for hosts. */
function rank(subject: Subject | undefined): number {
  return subject === undefined ? 0 : 2 * subject.entry.sequence + Number(subject.isForHosts);
}
