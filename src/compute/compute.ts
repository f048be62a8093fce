/**
 * Cluster events in; records with their audiences out. Wiring only: each part knows one relation, and passes on what changed.
 *
 *   pods, namespaces ──> selector index ──> stacks (who is subject to what) ──> policies, sets (for which nodes)
 *   blocks ──> addresses ──────────────────────────> members of sets, endpoints, nodes' blocks
 *
 * Invariant: the records and audiences that all commits add up to depend on the present cluster only, never on the order of events.
 * `apply` brings the relations up to date, in the order of events; `flush` compares what they mean for the nodes with what the last commit said, so
 * that what came and went in between is nothing.
 */
import { assertNever, type ClusterEvent, type Problem } from "../model/event.ts";
import { type NamespaceName, podKey } from "../model/names.ts";
import type { RecordChange } from "../model/record.ts";
import { keyOf, type NetworkPolicy, type Resource, type ResourceKey } from "../model/resource.ts";
import { convertNetworkPolicy, NETWORK_POLICY_KIND } from "../policy/convert-network-policy.ts";
import type { PolicyIntent } from "../policy/intent.ts";
import { AddressSets } from "./address-sets.ts";
import type { EndpointState } from "./endpoint.ts";
import { Endpoints } from "./endpoints.ts";
import { Ledger } from "./ledger.ts";
import { Nodes, Pools } from "./nodes.ts";
import { PodAddresses } from "./pod-addresses.ts";
import { Policies, policyKey } from "./policies.ts";
import { type ObjectProblems, ProblemList } from "./problems.ts";
import { SelectorIndex } from "./selector-index.ts";
import { Stacks } from "./stacks.ts";

/** What changed since the last flush. */
export interface Commit {
  /** One per record, sorted by key. */
  readonly changes: readonly RecordChange[];
  /** All objects that cannot be understood at present. */
  readonly problems: readonly ObjectProblems[];
}

export class Compute {
  readonly #index = new SelectorIndex<EndpointState>();
  readonly #sets = new AddressSets(this.#index);
  readonly #stacks = new Stacks(this.#index);
  readonly #policies = new Policies({ stacks: this.#stacks, sets: this.#sets });
  readonly #addresses = new PodAddresses();
  readonly #endpoints = new Endpoints({ index: this.#index, stacks: this.#stacks, addresses: this.#addresses });
  readonly #nodes = new Nodes();
  readonly #pools = new Pools();
  readonly #problems = new ProblemList();

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
        this.#invalid(event.key, event.problems);
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
    this.#endpoints.stacksChanged(this.#stacks.regroup());
    this.#endpoints.commit(ledger);
    this.#stacks.commit(ledger);
    this.#policies.commit(ledger);
    this.#sets.commit(ledger, this.#stacks.movedSubjects());
    this.#nodes.commit(ledger);
    this.#pools.commit(ledger);
    this.#stacks.settle();
    return { changes: ledger.changes(), problems: this.#problems.list() };
  }

  /** Objects that could not be understood: their last good value is in force, or for a network policy without one, a policy that allows nothing. */
  problems(): readonly ObjectProblems[] {
    return this.#problems.list();
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
        break;
      case "Namespace":
        this.#endpoints.setNamespace(resource.name, resource);
        break;
      case "Pod":
        this.#endpoints.setPod(resource);
        break;
      case "NetworkPolicy":
        if (!this.#setPolicy(resource)) return;
        break;
      case "IPPool":
        this.#pools.setPool(resource.name, resource);
        break;
      case "IPAMBlock":
        this.#nodes.setBlock(resource.name, resource);
        this.#endpoints.addressesChanged(this.#addresses.setBlock(resource.name, resource));
        break;
      case "BlockAffinity":
        this.#nodes.setAffinity(resource.name, resource);
        break;
      default:
        break;
    }
    this.#problems.clear(keyOf(resource));
  }

  #delete(key: ResourceKey): void {
    switch (key.kind) {
      case "Node":
        this.#nodes.setNode(key.name, undefined);
        break;
      case "Namespace":
        this.#endpoints.setNamespace(key.name as NamespaceName, undefined);
        break;
      case "Pod":
        this.#endpoints.removePod(podKey(key.namespace, key.name));
        break;
      case "NetworkPolicy":
        this.#policies.remove(policyRecordKey(key));
        break;
      case "IPPool":
        this.#pools.setPool(key.name, undefined);
        break;
      case "IPAMBlock":
        this.#nodes.setBlock(key.name, undefined);
        this.#endpoints.addressesChanged(this.#addresses.setBlock(key.name, undefined));
        break;
      case "BlockAffinity":
        this.#nodes.setAffinity(key.name, undefined);
        break;
      default:
        break;
    }
  }

  /** False when the policy says what no object can have (a label name that is none): it is then as one that could not be read. */
  #setPolicy(policy: NetworkPolicy): boolean {
    let intent: PolicyIntent;
    try {
      intent = convertNetworkPolicy(policy);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#invalid(keyOf(policy), [{ field: "spec", message: error.message }]);
      return false;
    }
    this.#policies.set(intent);
    return true;
  }

  /** What was understood last stays. A policy that never was: nothing is allowed to or from any pod that it could be meant for. */
  #invalid(key: ResourceKey, problems: readonly Problem[]): void {
    this.#problems.set(key, problems);
    if (key.kind === "NetworkPolicy" && !this.#policies.has(policyRecordKey(key))) this.#policies.set(convertNetworkPolicy(closedPolicy(key)));
  }
}

function policyRecordKey(key: ResourceKey): string {
  return policyKey({ policyKind: NETWORK_POLICY_KIND, namespace: key.namespace, name: key.name });
}

/** Selects every pod of the namespace, both ways, and allows nothing. */
function closedPolicy(key: ResourceKey): NetworkPolicy {
  return {
    kind: "NetworkPolicy",
    namespace: key.namespace as NamespaceName,
    name: key.name,
    resourceVersion: "",
    podSelector: { matchLabels: {}, matchExpressions: [] },
    policyTypes: ["Ingress", "Egress"],
    ingress: [],
    egress: [],
  };
}
