/**
 * What pods ask for in addresses: annotations of pods and namespaces, against the pools and the nodes' labels.
 *
 * Invariant: costs nothing for pods without a wish while no pool selects namespaces. A pod's request is computed when its record is; whoever asks is told
 * which pods to ask about again (`takeChanged`).
 */
import { addressRequestOf, isSelective } from "../ipam/pool-selection.ts";
import type { NamespaceName, NodeName, PodKey } from "../model/names.ts";
import type { AddressRequest } from "../model/record.ts";
import type { IpPool, Labels, Namespace, Node, Pod } from "../model/resource.ts";
import { isSameValue } from "./same-value.ts";

const NO_LABELS: Labels = {};

export class Addressing {
  readonly #pods = new Map<PodKey, Labels>();
  readonly #namespaces = new Map<NamespaceName, { readonly labels: Labels; readonly addressing: Labels }>();
  readonly #nodes = new Map<NodeName, Labels>();
  readonly #pools = new Map<string, IpPool>();
  #hasSelective = false;
  #namespacesWithWish = 0;
  #areAllChanged = false;
  readonly #changedNamespaces = new Set<string>();

  setPod(key: PodKey, pod: Pod | undefined): boolean {
    const before = this.#pods.get(key);
    if (isSameValue(before, pod?.addressing)) return false;
    if (pod?.addressing === undefined) this.#pods.delete(key);
    else this.#pods.set(key, pod.addressing);
    return true;
  }

  setNamespace(name: NamespaceName, namespace: Namespace | undefined): void {
    const before = this.#namespaces.get(name);
    const after = namespace === undefined ? undefined : { labels: namespace.labels, addressing: namespace.addressing ?? NO_LABELS };
    if (isSameValue(before, after)) return;
    this.#namespacesWithWish += Number(hasWish(after)) - Number(hasWish(before));
    if (after === undefined) this.#namespaces.delete(name);
    else this.#namespaces.set(name, after);
    if (this.#hasSelective || hasWish(before) || hasWish(after)) this.#changedNamespaces.add(name);
  }

  setNode(name: NodeName, node: Node | undefined): void {
    if (isSameValue(this.#nodes.get(name), node?.labels)) return;
    if (node === undefined) this.#nodes.delete(name);
    else this.#nodes.set(name, node.labels);
    this.#areAllChanged ||= this.#isNeeded;
  }

  setPool(name: string, pool: IpPool | undefined): void {
    this.#areAllChanged ||= this.#isNeeded;
    if (pool === undefined) this.#pools.delete(name);
    else this.#pools.set(name, pool);
    this.#hasSelective = [...this.#pools.values()].some(isSelective);
    this.#areAllChanged ||= this.#isNeeded;
  }

  requestOf(endpoint: { readonly key: PodKey; readonly namespace: string; readonly node: NodeName }): AddressRequest | undefined {
    const pod = this.#pods.get(endpoint.key);
    if (pod === undefined && !this.#hasSelective && this.#namespacesWithWish === 0) return undefined;
    const namespace = this.#namespaces.get(endpoint.namespace as NamespaceName);
    if (pod === undefined && !this.#hasSelective && !hasWish(namespace)) return undefined;
    return addressRequestOf({
      pod: pod ?? NO_LABELS,
      namespace: namespace ?? { labels: NO_LABELS, addressing: NO_LABELS },
      node: { labels: this.#nodes.get(endpoint.node) ?? NO_LABELS },
      pools: [...this.#pools.values()],
    });
  }

  /** Whose requests may be others since the last call: those of some namespaces, or of all. */
  takeChanged(): "all" | ReadonlySet<string> {
    const changed = this.#areAllChanged ? "all" : new Set(this.#changedNamespaces);
    this.#areAllChanged = false;
    this.#changedNamespaces.clear();
    return changed;
  }

  get #isNeeded(): boolean {
    return this.#hasSelective || this.#pods.size > 0 || this.#namespacesWithWish > 0;
  }
}

function hasWish(namespace: { readonly addressing: Labels } | undefined): boolean {
  return namespace !== undefined && Object.keys(namespace.addressing).length > 0;
}
