/** Network sets put into the selector index: labels under which prefixes are members of sets. */
import type { NamespaceName } from "../model/names.ts";
import type { GlobalNetworkSet, NetworkSet } from "../model/resource.ts";
import { AccountState, NetworkSetState, netMembers, ownLabels, type PolicyItem, type RootState } from "./endpoint.ts";
import type { Namespaces } from "./namespaces.ts";
import { isSameValue } from "./same-value.ts";
import type { SelectorIndex } from "./selector-index.ts";

/** Account of what is in a namespace and is no pod. */
const NO_ACCOUNT = "";

export class NetworkSets {
  readonly #index: SelectorIndex<PolicyItem>;
  readonly #namespaces: Namespaces;
  readonly #root: RootState;
  /** By "namespace/name", "/name" for cluster-wide ones. */
  readonly #sets = new Map<string, NetworkSetState>();

  constructor(options: { readonly index: SelectorIndex<PolicyItem>; readonly namespaces: Namespaces; readonly root: RootState }) {
    this.#index = options.index;
    this.#namespaces = options.namespaces;
    this.#root = options.root;
  }

  set(set: GlobalNetworkSet | NetworkSet): void {
    const namespace = set.kind === "NetworkSet" ? set.namespace : ("" as NamespaceName);
    const key = `${namespace}/${set.name}`;
    const known = this.#sets.get(key);
    if (known === undefined) {
      const parent = namespace === "" ? this.#root : this.#namespaces.account(namespace, NO_ACCOUNT);
      const state = new NetworkSetState({ parent, nets: set.nets });
      this.#sets.set(key, state);
      this.#index.add(state, ownLabels(set.labels));
      return;
    }
    if (!isSameValue(known.nets, set.nets)) {
      this.#index.change(known, () => {
        known.nets = set.nets;
        known.members = netMembers(set.nets);
      });
    }
    this.#index.relabel(known, ownLabels(set.labels));
  }

  remove(key: { readonly namespace: string; readonly name: string }): void {
    const name = `${key.namespace}/${key.name}`;
    const state = this.#sets.get(name);
    if (state === undefined) return;
    this.#sets.delete(name);
    this.#index.remove(state);
    if (state.parent instanceof AccountState) this.#namespaces.left(state.parent);
  }
}
