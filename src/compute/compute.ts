/**
 * Cluster events in; records with their audiences out. Wiring only: each part knows one relation, and passes on what changed.
 *
 *   pods, network sets, host endpoints, and what they inherit ──> selector index ──> stacks (who is subject to what) ──> policies, sets (for which nodes)
 *   blocks ──> addresses ──────────────────────────> members of sets, endpoints, nodes' blocks
 *   nodes, services ───────────────────────────────> members of sets
 *
 * Invariant: the records and audiences that all commits add up to depend on the present cluster only, never on the order of events.
 * `apply` brings the relations up to date, in the order of events; `flush` compares what they mean for the nodes with what the last commit said, so
 * that what came and went in between is nothing.
 */
import { UsablePools } from "../ipam/pool-overlap.ts";
import { assertNever, type ClusterEvent, type Problem } from "../model/event.ts";
import { type NamespaceName, type NodeName, podKey } from "../model/names.ts";
import { brokenRule } from "../model/parse-calico-rule.ts";
import type { RecordChange, RecordKey } from "../model/record.ts";
import {
  type AnyPolicy,
  type CalicoNetworkPolicy,
  type GlobalNetworkSet,
  type IpPool,
  keyOf,
  type NetworkPolicy,
  type NetworkSet,
  type Profile,
  type Resource,
  type ResourceKey,
} from "../model/resource.ts";
import type { IpAddress } from "../net/ip.ts";
import { allowingProfile } from "../policy/convert-calico-policy.ts";
import { convertPolicy, policyKindOf } from "../policy/convert-policy.ts";
import { AddressSets } from "./address-sets.ts";
import { Addressing } from "./addressing.ts";
import { type PolicyItem, RootState } from "./endpoint.ts";
import { Endpoints } from "./endpoints.ts";
import { EveryNode } from "./every-node.ts";
import { describeSetUse, describeSubject } from "./explain.ts";
import { Floating } from "./floating.ts";
import { HostEndpoints } from "./host-endpoints.ts";
import { Ledger } from "./ledger.ts";
import { Loans } from "./loans.ts";
import { Namespaces } from "./namespaces.ts";
import { NetworkSets } from "./network-sets.ts";
import { NodeIndex } from "./node-index.ts";
import { NodePools } from "./node-pools.ts";
import { NodeSettings } from "./node-settings.ts";
import { Nodes, Pools } from "./nodes.ts";
import { PodAddresses } from "./pod-addresses.ts";
import { Policies, policyKey } from "./policies.ts";
import { type ObjectProblems, ProblemList } from "./problems.ts";
import { SelectorIndex } from "./selector-index.ts";
import { Services } from "./services.ts";
import { Stacks } from "./stacks.ts";
import { Tiers } from "./tiers.ts";

/** The profile that is always there: everything is allowed. */
const DEFAULT_ALLOW_PROFILE = "projectcalico-default-allow";

/** What changed since the last flush. */
export interface Commit {
  /** One per record, sorted by key. */
  readonly changes: readonly RecordChange[];
  /** All objects that cannot be understood at present. */
  readonly problems: readonly ObjectProblems[];
}

type OfKind<K, R = Resource> = R extends { readonly kind: infer Own } ? (K extends Own ? R : never) : never;
type ResourceOf = { readonly [K in Resource["kind"]]: OfKind<K> };
/** What each kind's objects change; undefined: the object is gone. */
type Takers = { readonly [K in Resource["kind"]]: (key: ResourceKey, resource: ResourceOf[K] | undefined) => void };

export interface ComputeOptions {
  /** Whether pods get the floating addresses that they ask for, unless FelixConfiguration's floatingIPs says it. Absent: false. */
  readonly floatingIps?: boolean;
}

export class Compute {
  readonly #index = new SelectorIndex<PolicyItem>();
  readonly #root = new RootState();
  readonly #nodeIndex = new NodeIndex();
  readonly #everyNode = new EveryNode();
  readonly #services = new Services();
  readonly #tiers = new Tiers();
  readonly #namespaces = new Namespaces({ index: this.#index, onLoggingChange: (item) => this.#stacks.reconsider(item) });
  readonly #sets = new AddressSets({ endpoints: this.#index, nodes: this.#nodeIndex.index, services: this.#services });
  readonly #stacks = new Stacks({ index: this.#index, tiers: this.#tiers });
  readonly #policies = new Policies({ stacks: this.#stacks, sets: this.#sets, everyNode: this.#everyNode });
  readonly #addresses = new PodAddresses();
  readonly #addressing = new Addressing();
  readonly #floating: Floating;
  readonly #endpoints: Endpoints;
  readonly #networkSets = new NetworkSets({ index: this.#index, namespaces: this.#namespaces, root: this.#root });
  readonly #hosts = new HostEndpoints({ index: this.#index, stacks: this.#stacks, root: this.#root });
  readonly #nodes = new Nodes();
  readonly #pools = new Pools();
  readonly #usablePools = new UsablePools();
  readonly #loans = new Loans();
  readonly #nodePools = new NodePools();
  readonly #problems = new ProblemList();
  readonly #nodeSettings = new NodeSettings({ onProblems: (key, problems) => this.#problems.note(key, "settings", problems) });
  #hasDefaultObject = false;
  readonly #takers: Takers = {
    Node: ({ name }, node) => {
      this.#nodes.setNode(name, node);
      if (node === undefined) this.#nodeIndex.remove(name);
      else this.#nodeIndex.set(node);
      this.#everyNode.set(name as NodeName, node !== undefined);
      this.#addressing.setNode(name as NodeName, node);
      this.#loans.setNode(name as NodeName, node !== undefined);
      this.#nodePools.setNode(name as NodeName, node);
      this.#nodeSettings.setNode(name as NodeName, node);
    },
    Namespace: ({ name }, namespace) => {
      this.#namespaces.setNamespace(name as NamespaceName, namespace);
      this.#addressing.setNamespace(name as NamespaceName, namespace);
    },
    ServiceAccount: ({ namespace, name }, account) => this.#namespaces.setServiceAccount(namespace as NamespaceName, name, account?.labels),
    Pod: ({ namespace, name }, pod) => {
      if (pod === undefined) this.#endpoints.removePod(podKey(namespace, name));
      else this.#endpoints.setPod(pod);
    },
    NetworkPolicy: (key, policy) => this.#takePolicy(key, policy),
    CalicoNetworkPolicy: (key, policy) => this.#takePolicy(key, policy),
    GlobalNetworkPolicy: (key, policy) => this.#takePolicy(key, policy),
    ClusterNetworkPolicy: (key, policy) => this.#takePolicy(key, policy),
    Profile: (key, profile) => this.#takeProfile(key, profile),
    Tier: ({ name }, tier) => {
      if (this.#tiers.set(name, tier)) this.#stacks.tierChanged(name);
    },
    GlobalNetworkSet: (key, set) => this.#takeNetworkSet(key, set),
    NetworkSet: (key, set) => this.#takeNetworkSet(key, set),
    HostEndpoint: ({ name }, host) => {
      if (host === undefined) this.#hosts.remove(name);
      else this.#hosts.set(host);
      this.#settleDefaultProfile();
    },
    EndpointSlice: (key, slice) => this.#services.setSlice(slice ?? key, slice),
    // Kept in the API for people to look at and to compare; never enforced.
    StagedGlobalNetworkPolicy: () => {},
    StagedNetworkPolicy: () => {},
    StagedKubernetesNetworkPolicy: () => {},
    IPPool: ({ name }, pool) => this.#setPool(name, pool),
    IPReservation: ({ name }, reservation) => this.#pools.setReservation(name, reservation),
    IPAMConfiguration: ({ name }, configuration) => this.#pools.setConfiguration(name, configuration),
    IPAMBlock: ({ name }, block) => {
      this.#nodes.setBlock(name, block);
      this.#loans.setBlock(name, block);
      this.#floating.setBlock(name, block);
      this.#endpoints.addressesChanged(this.#addresses.setBlock(name, block));
    },
    BlockAffinity: ({ name }, affinity) => this.#nodes.setAffinity(name, affinity),
    FelixConfiguration: (key, configuration) => {
      this.#nodeSettings.set(key.name, configuration);
      if (key.name === "default") this.#floating.setEnabled(configuration?.floatingIps);
      this.#problems.noteUnused(key, configuration?.unused ?? []);
    },
  };

  constructor({ floatingIps = false }: ComputeOptions = {}) {
    this.#floating = new Floating({ isEnabled: floatingIps, onProblems: (key, problems) => this.#problems.note(key, "floating", problems) });
    this.#endpoints = new Endpoints({
      index: this.#index,
      namespaces: this.#namespaces,
      stacks: this.#stacks,
      addresses: this.#addresses,
      addressing: this.#addressing,
      floating: this.#floating,
      onLimitProblems: (key, problems) => this.#problems.note(key, "limits", problems),
      onFloating: (node) => this.#loans.setFloating(node, this.#floating.addressesAt(node)),
    });
  }

  /** Takes one event in. Repeated events, and deletions of what is not known, change nothing. */
  apply(event: ClusterEvent): void {
    switch (event.kind) {
      case "upsert":
        this.#take(event.resource.kind, keyOf(event.resource), event.resource);
        return;
      case "delete":
        this.#take(event.key.kind, event.key, undefined);
        return;
      case "invalid":
        this.#invalid(event.key, event.problems, event.closed);
        return;
      case "status":
        return;
      default:
        assertNever(event);
    }
  }

  /** Everything that changed since the last flush, netted. */
  flush(): Commit {
    const ledger = new Ledger();
    const moved = this.#stacks.regroup();
    this.#endpoints.stacksChanged(moved.filter((item) => item.kind === "pod"));
    this.#hosts.stacksChanged(moved.filter((item) => item.kind === "host"));
    this.#endpoints.commit(ledger);
    this.#hosts.commit(ledger);
    this.#stacks.commit(ledger);
    this.#policies.commit(ledger);
    this.#sets.commit(ledger, this.#everyNode.hasMoved ? [...this.#stacks.movedSubjects(), this.#everyNode] : this.#stacks.movedSubjects());
    this.#nodes.commit(ledger);
    this.#pools.commit(ledger);
    this.#loans.commit(ledger);
    this.#nodePools.commit(ledger);
    this.#nodeSettings.commit(ledger);
    this.#stacks.settle();
    this.#everyNode.settle();
    return { changes: ledger.changes(), problems: this.#problems.list() };
  }

  /** Objects that could not be understood: with what is in force in place of each. */
  problems(): readonly ObjectProblems[] {
    return this.#problems.list();
  }

  /** What no record says: the selector behind a policy ("policy/…") or a set ("set/ID" or a shard of it). undefined: not known, or of another kind. */
  describe(key: RecordKey): string | undefined {
    const [kind, setId = ""] = key.split("/");
    if (kind === "set") {
      const set = this.#sets.find(setId);
      return set === undefined ? undefined : describeSetUse(set.use);
    }
    const subject = this.#policies.subjectOf(key);
    return subject === undefined ? undefined : describeSubject(subject);
  }

  /** Node of the pod that the floating address leads to; undefined: it is nobody's floating address. */
  floatingNodeOf(address: IpAddress): NodeName | undefined {
    return this.#floating.nodeOf(address);
  }

  /** Counts of what is held: for metrics, and for tests that nothing is left behind. */
  sizes(): { readonly endpoints: number; readonly selectors: number; readonly labels: number; readonly stacks: number } {
    const { selectors, labels } = this.#index.sizes;
    return { endpoints: this.#endpoints.size, selectors, labels, stacks: this.#stacks.groupCount };
  }

  #take<K extends Resource["kind"]>(kind: K, key: ResourceKey, resource: ResourceOf[K] | undefined): void {
    this.#problems.clear(key);
    const take: Takers[K] = this.#takers[kind];
    take(key, resource);
  }

  #takePolicy(key: ResourceKey, policy: AnyPolicy | undefined): void {
    if (policy === undefined) this.#policies.remove(policyRecordKey(key));
    else this.#setPolicy(policy);
  }

  #takeProfile(key: ResourceKey, profile: Profile | undefined): void {
    const isDefault = key.name === DEFAULT_ALLOW_PROFILE;
    if (isDefault && profile !== undefined) this.#hasDefaultObject = true;
    this.#hosts.setProfileLabels(key.name, profile?.labelsToApply);
    this.#takePolicy(key, profile);
    if (!isDefault || profile !== undefined) return;
    this.#hasDefaultObject = false;
    this.#settleDefaultProfile();
  }

  #takeNetworkSet(key: ResourceKey, set: GlobalNetworkSet | NetworkSet | undefined): void {
    if (set === undefined) this.#networkSets.remove(key);
    else this.#networkSets.set(set);
  }

  #setPool(name: string, pool: IpPool | undefined): void {
    for (const [changed, usable] of this.#usablePools.set(name, pool)) {
      this.#pools.setPool(changed, usable);
      this.#addressing.setPool(changed, usable);
      this.#nodePools.setPool(changed, usable);
    }
    this.#floating.setPool(name, pool?.cidr);
  }

  /** The built-in profile is there while a host endpoint names it, unless there is an object of its name. */
  #settleDefaultProfile(): void {
    if (this.#hasDefaultObject) return;
    const profile = allowingProfile(DEFAULT_ALLOW_PROFILE);
    const isUsed = this.#hosts.usesProfile(DEFAULT_ALLOW_PROFILE);
    if (isUsed === this.#policies.has(policyKey(profile))) return;
    if (isUsed) this.#policies.set(profile);
    else this.#policies.remove(policyKey(profile));
  }

  /** What is in force is a function of `policy` alone, never of an earlier version of it. */
  #setPolicy(policy: AnyPolicy): void {
    const key = keyOf(policy);
    const { intent, isUnderstood, problems } = convertPolicy(policy);
    if (intent === undefined) this.#policies.remove(policyRecordKey(key));
    else this.#policies.set(intent);
    if (problems.length > 0) this.#problems.set(key, problems, intent === undefined ? "nothing" : isUnderstood ? "narrowed" : "closed");
  }

  /**
   * `closed` is in force, whether an earlier version was understood or not: a server that starts after the change has none, and both must say the same.
   * A namespaced policy of which nothing could be read closes its namespace. Other kinds have a `closed` where a part of them can be left out; where none
   * can, what was understood last stays, since a node or a pod that is not understood is not gone.
   */
  #invalid(key: ResourceKey, problems: readonly Problem[], closed: Resource | undefined): void {
    const standIn = closed ?? closedPolicy(key);
    if (standIn === undefined) {
      if (isPolicyKind(key.kind)) this.#policies.remove(policyRecordKey(key));
      this.#problems.set(key, problems, isPolicyKind(key.kind) ? "nothing" : "earlier");
      return;
    }
    this.#take(standIn.kind, key, standIn);
    const converted = isPolicy(standIn) ? convertPolicy(standIn).problems : [];
    this.#problems.set(key, [...problems, ...converted], isPolicy(standIn) ? "closed" : "narrowed");
  }
}

const POLICY_KINDS = [
  "NetworkPolicy",
  "CalicoNetworkPolicy",
  "GlobalNetworkPolicy",
  "ClusterNetworkPolicy",
  "Profile",
] as const satisfies readonly AnyPolicy["kind"][];

function isPolicyKind(kind: ResourceKey["kind"]): kind is AnyPolicy["kind"] {
  return (POLICY_KINDS as readonly string[]).includes(kind);
}

function isPolicy(resource: Resource): resource is AnyPolicy {
  return isPolicyKind(resource.kind);
}

function policyRecordKey(key: ResourceKey): string {
  return policyKey({ policyKind: policyKindOf(key.kind), namespace: key.namespace, name: key.name });
}

/** Selects every pod of the namespace, both ways, and allows nothing; undefined for a cluster-wide kind, which would cut off everything. */
function closedPolicy(key: ResourceKey): NetworkPolicy | CalicoNetworkPolicy | undefined {
  const head = { namespace: key.namespace as NamespaceName, name: key.name, resourceVersion: "" };
  if (key.kind === "NetworkPolicy")
    return { kind: key.kind, ...head, podSelector: { matchLabels: {}, matchExpressions: [] }, policyTypes: ["Ingress", "Egress"], ingress: [], egress: [] };
  if (key.kind !== "CalicoNetworkPolicy") return undefined;
  const deny = brokenRule("Deny");
  return {
    kind: key.kind,
    ...head,
    tier: "default",
    order: undefined,
    selector: "",
    serviceAccountSelector: "",
    types: ["Ingress", "Egress"],
    ingress: [deny],
    egress: [deny],
  };
}
