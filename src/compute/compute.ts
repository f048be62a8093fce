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
import { type AnyPolicy, type CalicoNetworkPolicy, type IpPool, keyOf, type NetworkPolicy, type Resource, type ResourceKey } from "../model/resource.ts";
import { allowingProfile } from "../policy/convert-calico-policy.ts";
import { convertPolicy, policyKindOf } from "../policy/convert-policy.ts";
import { AddressSets } from "./address-sets.ts";
import { Addressing } from "./addressing.ts";
import { type PolicyItem, RootState } from "./endpoint.ts";
import { Endpoints } from "./endpoints.ts";
import { describeSetUse, describeSubject } from "./explain.ts";
import { HostEndpoints } from "./host-endpoints.ts";
import { Ledger } from "./ledger.ts";
import { Loans } from "./loans.ts";
import { Namespaces } from "./namespaces.ts";
import { NetworkSets } from "./network-sets.ts";
import { NodeIndex } from "./node-index.ts";
import { NodePools } from "./node-pools.ts";
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

export class Compute {
  readonly #index = new SelectorIndex<PolicyItem>();
  readonly #root = new RootState();
  readonly #nodeIndex = new NodeIndex();
  readonly #services = new Services();
  readonly #tiers = new Tiers();
  readonly #namespaces = new Namespaces({ index: this.#index, onLoggingChange: (item) => this.#stacks.reconsider(item) });
  readonly #sets = new AddressSets({ endpoints: this.#index, nodes: this.#nodeIndex.index, services: this.#services });
  readonly #stacks = new Stacks({ index: this.#index, tiers: this.#tiers });
  readonly #policies = new Policies({ stacks: this.#stacks, sets: this.#sets });
  readonly #addresses = new PodAddresses();
  readonly #addressing = new Addressing();
  readonly #endpoints = new Endpoints({
    index: this.#index,
    namespaces: this.#namespaces,
    stacks: this.#stacks,
    addresses: this.#addresses,
    addressing: this.#addressing,
  });
  readonly #networkSets = new NetworkSets({ index: this.#index, namespaces: this.#namespaces, root: this.#root });
  readonly #hosts = new HostEndpoints({ index: this.#index, stacks: this.#stacks, root: this.#root });
  readonly #nodes = new Nodes();
  readonly #pools = new Pools();
  readonly #usablePools = new UsablePools();
  readonly #loans = new Loans();
  readonly #nodePools = new NodePools();
  readonly #problems = new ProblemList();
  #hasDefaultObject = false;

  /** Takes one event in. Repeated events, and deletions of what is not known, change nothing. */
  apply(event: ClusterEvent): void {
    switch (event.kind) {
      case "upsert":
        this.#upsert(event.resource);
        return;
      case "delete":
        this.#problems.clear(event.key);
        this.#delete(event.key);
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
    this.#sets.commit(ledger, this.#stacks.movedSubjects());
    this.#nodes.commit(ledger);
    this.#pools.commit(ledger);
    this.#loans.commit(ledger);
    this.#nodePools.commit(ledger);
    this.#stacks.settle();
    return { changes: ledger.changes(), problems: this.#problems.list() };
  }

  /** Objects that could not be understood: their last good value is in force, or for a network policy without one, a policy that allows nothing. */
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

  /** Counts of what is held: for metrics, and for tests that nothing is left behind. */
  sizes(): { readonly endpoints: number; readonly selectors: number; readonly labels: number; readonly stacks: number } {
    const { selectors, labels } = this.#index.sizes;
    return { endpoints: this.#endpoints.size, selectors, labels, stacks: this.#stacks.groupCount };
  }

  #upsert(resource: Resource): void {
    switch (resource.kind) {
      case "Node":
        this.#nodes.setNode(resource.name, resource);
        this.#nodeIndex.set(resource);
        this.#addressing.setNode(resource.name, resource);
        this.#loans.setNode(resource.name, true);
        this.#nodePools.setNode(resource.name, resource);
        break;
      case "Namespace":
        this.#namespaces.setNamespace(resource.name, resource);
        this.#addressing.setNamespace(resource.name, resource);
        break;
      case "ServiceAccount":
        this.#namespaces.setServiceAccount(resource.namespace, resource.name, resource.labels);
        break;
      case "Pod":
        this.#endpoints.setPod(resource);
        break;
      case "NetworkPolicy":
      case "CalicoNetworkPolicy":
      case "GlobalNetworkPolicy":
      case "ClusterNetworkPolicy":
      case "Profile":
        if (resource.kind === "Profile") {
          if (resource.name === DEFAULT_ALLOW_PROFILE) this.#hasDefaultObject = true;
          this.#hosts.setProfileLabels(resource.name, resource.labelsToApply);
        }
        this.#setPolicy(resource, []);
        return;
      case "Tier":
        if (this.#tiers.set(resource.name, resource)) this.#stacks.tierChanged(resource.name);
        break;
      case "GlobalNetworkSet":
      case "NetworkSet":
        this.#networkSets.set(resource);
        break;
      case "HostEndpoint":
        this.#hosts.set(resource);
        this.#settleDefaultProfile();
        break;
      case "EndpointSlice":
        this.#services.setSlice(resource, resource);
        break;
      case "StagedGlobalNetworkPolicy":
      case "StagedNetworkPolicy":
      case "StagedKubernetesNetworkPolicy":
        // Kept in the API for people to look at and to compare; never enforced.
        break;
      case "IPPool":
        this.#setPool(resource.name, resource);
        break;
      case "IPReservation":
        this.#pools.setReservation(resource.name, resource);
        break;
      case "IPAMConfiguration":
        this.#pools.setConfiguration(resource.name, resource);
        break;
      case "IPAMBlock":
        this.#nodes.setBlock(resource.name, resource);
        this.#loans.setBlock(resource.name, resource);
        this.#endpoints.addressesChanged(this.#addresses.setBlock(resource.name, resource));
        break;
      case "BlockAffinity":
        this.#nodes.setAffinity(resource.name, resource);
        break;
      default:
        assertNever(resource);
    }
    this.#problems.clear(keyOf(resource));
  }

  #delete(key: ResourceKey): void {
    switch (key.kind) {
      case "Node":
        this.#nodes.setNode(key.name, undefined);
        this.#nodeIndex.remove(key.name);
        this.#addressing.setNode(key.name as NodeName, undefined);
        this.#loans.setNode(key.name as NodeName, false);
        this.#nodePools.setNode(key.name as NodeName, undefined);
        break;
      case "Namespace":
        this.#namespaces.setNamespace(key.name as NamespaceName, undefined);
        this.#addressing.setNamespace(key.name as NamespaceName, undefined);
        break;
      case "ServiceAccount":
        this.#namespaces.setServiceAccount(key.namespace as NamespaceName, key.name, undefined);
        break;
      case "Pod":
        this.#endpoints.removePod(podKey(key.namespace, key.name));
        break;
      case "NetworkPolicy":
      case "CalicoNetworkPolicy":
      case "GlobalNetworkPolicy":
      case "ClusterNetworkPolicy":
      case "Profile":
        this.#policies.remove(policyRecordKey(key));
        if (key.kind === "Profile") this.#hosts.setProfileLabels(key.name, undefined);
        if (key.kind === "Profile" && key.name === DEFAULT_ALLOW_PROFILE) {
          this.#hasDefaultObject = false;
          this.#settleDefaultProfile();
        }
        break;
      case "Tier":
        if (this.#tiers.set(key.name, undefined)) this.#stacks.tierChanged(key.name);
        break;
      case "GlobalNetworkSet":
      case "NetworkSet":
        this.#networkSets.remove(key);
        break;
      case "HostEndpoint":
        this.#hosts.remove(key.name);
        this.#settleDefaultProfile();
        break;
      case "EndpointSlice":
        this.#services.setSlice(key, undefined);
        break;
      case "StagedGlobalNetworkPolicy":
      case "StagedNetworkPolicy":
      case "StagedKubernetesNetworkPolicy":
        break;
      case "IPPool":
        this.#setPool(key.name, undefined);
        break;
      case "IPReservation":
        this.#pools.setReservation(key.name, undefined);
        break;
      case "IPAMConfiguration":
        this.#pools.setConfiguration(key.name, undefined);
        break;
      case "IPAMBlock":
        this.#nodes.setBlock(key.name, undefined);
        this.#loans.setBlock(key.name, undefined);
        this.#endpoints.addressesChanged(this.#addresses.setBlock(key.name, undefined));
        break;
      case "BlockAffinity":
        this.#nodes.setAffinity(key.name, undefined);
        break;
      default:
        assertNever(key.kind);
    }
  }

  #setPool(name: string, pool: IpPool | undefined): void {
    for (const [changed, usable] of this.#usablePools.set(name, pool)) {
      this.#pools.setPool(changed, usable);
      this.#addressing.setPool(changed, usable);
      this.#nodePools.setPool(changed, usable);
    }
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

  /** `problems`: what is known to be wrong with it already. A policy that says what cannot be understood leaves an earlier version of it in force. */
  #setPolicy(policy: AnyPolicy, problems: readonly Problem[]): void {
    const key = keyOf(policy);
    const { intent, isUnderstood, ...converted } = convertPolicy(policy);
    const keepsEarlier = !isUnderstood && this.#policies.has(policyRecordKey(key));
    if (intent !== undefined && !keepsEarlier) this.#policies.set(intent);
    const all = [...problems, ...converted.problems];
    if (all.length === 0) this.#problems.clear(key);
    else
      this.#problems.set(key, all, keepsEarlier ? "earlier" : intent === undefined ? "nothing" : isUnderstood && problems.length === 0 ? "narrowed" : "closed");
  }

  /** What was understood last stays. Without that `closed` is in force; without that too, a namespaced policy closes its namespace. */
  #invalid(key: ResourceKey, problems: readonly Problem[], closed: Resource | undefined): void {
    if (!isPolicyKind(key.kind) || this.#policies.has(policyRecordKey(key))) {
      this.#problems.set(key, problems, "earlier");
      return;
    }
    const standIn = closed ?? closedPolicy(key);
    if (standIn !== undefined && isPolicy(standIn)) this.#setPolicy(standIn, problems);
    else this.#problems.set(key, problems, "nothing");
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
