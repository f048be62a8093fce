/**
 * Namespaces and service accounts, as what pods and network sets inherit labels from.
 *
 * Invariant: an account is held while something is in it, a namespace while its object or an account of it is there. A change of a namespace's or an
 * account's labels is a change for its own members only.
 */
import type { NamespaceName } from "../model/names.ts";
import type { Labels, Namespace } from "../model/resource.ts";
import { AccountState, inheritedLabels, NamespaceState, type PolicyItem } from "./endpoint.ts";
import type { SelectorIndex } from "./selector-index.ts";

export class Namespaces {
  readonly #index: SelectorIndex<PolicyItem>;
  readonly #onLoggingChange: (item: PolicyItem) => void;
  readonly #namespaces = new Map<NamespaceName, NamespaceState>();
  /** Labels of ServiceAccount objects, by "namespace/name". */
  readonly #accountLabels = new Map<string, Labels>();

  /** `onLoggingChange`: what is denied to this item is logged now, or is not any more. */
  constructor(options: { readonly index: SelectorIndex<PolicyItem>; readonly onLoggingChange: (item: PolicyItem) => void }) {
    this.#index = options.index;
    this.#onLoggingChange = options.onLoggingChange;
  }

  /** undefined: the object is gone. */
  setNamespace(name: NamespaceName, object: Namespace | undefined): void {
    const namespace = object === undefined ? this.#namespaces.get(name) : this.#namespace(name);
    if (namespace === undefined) return;
    const logsDenied = object?.logsDenied ?? false;
    const isLoggingChange = logsDenied !== namespace.logsDenied;
    namespace.labels = object?.labels;
    namespace.logsDenied = logsDenied;
    for (const account of namespace.accounts.values()) {
      this.#relabel(account);
      if (isLoggingChange) for (const item of account.items) this.#onLoggingChange(item);
    }
    this.#forget(namespace);
  }

  /** undefined: the object is gone. */
  setServiceAccount(namespace: NamespaceName, name: string, labels: Labels | undefined): void {
    const key = `${namespace}/${name}`;
    if (labels === undefined) this.#accountLabels.delete(key);
    else this.#accountLabels.set(key, labels);
    const account = this.#namespaces.get(namespace)?.accounts.get(name);
    if (account !== undefined) this.#relabel(account);
  }

  /** For something that is about to be put into the index. */
  account(name: NamespaceName, account: string): AccountState {
    const namespace = this.#namespace(name);
    let state = namespace.accounts.get(account);
    if (state === undefined) {
      state = new AccountState(namespace, account);
      namespace.accounts.set(account, state);
      this.#relabel(state);
    }
    return state;
  }

  /** After something has been taken out of the index. */
  left(account: AccountState): void {
    if (account.items.size > 0) return;
    this.#index.removeParent(account);
    account.namespace.accounts.delete(account.account);
    this.#forget(account.namespace);
  }

  #namespace(name: NamespaceName): NamespaceState {
    let namespace = this.#namespaces.get(name);
    if (namespace === undefined) {
      namespace = new NamespaceState(name);
      this.#namespaces.set(name, namespace);
    }
    return namespace;
  }

  #relabel(account: AccountState): void {
    const labels = account.account === "" ? undefined : this.#accountLabels.get(`${account.namespace.name}/${account.account}`);
    this.#index.relabelParent(account, inheritedLabels(account, labels));
  }

  #forget(namespace: NamespaceState): void {
    if (namespace.labels === undefined && namespace.accounts.size === 0) this.#namespaces.delete(namespace.name);
  }
}
