/**
 * The end of objects that are under deletion: each goes once nothing holds it any more: its finalizers, a namespace's contents, a definition's
 * objects. What a cluster leaves to the namespace controller happens here within the request.
 */
import { arrayAt, valueAt } from "./json.ts";
import type { Registry } from "./registry.ts";
import { CRD_RESOURCE } from "./registry.ts";
import type { ResourceType } from "./resource-type.ts";
import { storageName } from "./resource-type.ts";
import type { Entry, ObjectKey, Store } from "./store.ts";

export function isTerminating(entry: Entry): boolean {
  return valueAt(entry.object, "metadata", "deletionTimestamp") !== undefined;
}

interface Held {
  readonly type: ResourceType;
  /** undefined: in all namespaces. */
  readonly namespace: string | undefined;
}

export class Terminator {
  readonly #store: Store;
  readonly #registry: Registry;
  readonly #remove: (type: ResourceType, key: ObjectKey) => void;

  /** `remove` deletes an object as a client would: finalizers hold it. */
  constructor({
    store,
    registry,
    remove,
  }: { readonly store: Store; readonly registry: Registry; readonly remove: (type: ResourceType, key: ObjectKey) => void }) {
    this.#store = store;
    this.#registry = registry;
    this.#remove = remove;
  }

  resumeAll(): void {
    for (const type of this.#registry.stored()) for (const entry of this.#store.list(storageName(type))) if (isTerminating(entry)) this.resume(entry.key);
  }

  /** Goes on with the deletion of an object: deletes what it holds and, when nothing is left, the object. */
  resume(key: ObjectKey): void {
    const contents = this.#contentsOf(key);
    for (const { type, namespace } of contents) {
      for (const entry of this.#store.list(storageName(type), namespace))
        if (!isTerminating(entry) && this.#store.get(entry.key) !== undefined) this.#remove(type, entry.key);
    }
    const entry = this.#store.get(key);
    if (entry === undefined || arrayAt(entry.object, "metadata", "finalizers").length > 0) return;
    if (contents.some(({ type, namespace }) => this.#store.list(storageName(type), namespace).length > 0)) return;
    this.#store.remove(key);
    // It may have been the last thing that its namespace or its definition waited for.
    for (const owner of [
      { resource: "namespaces", namespace: "", name: key.namespace },
      { resource: CRD_RESOURCE, namespace: "", name: key.resource },
    ]) {
      const holder = this.#store.get(owner);
      if (holder !== undefined && isTerminating(holder)) this.resume(owner);
    }
  }

  #contentsOf(key: ObjectKey): readonly Held[] {
    const types = this.#registry.stored();
    if (key.resource === "namespaces") return types.filter((type) => type.isNamespaced).map((type) => ({ type, namespace: key.name }));
    if (key.resource === CRD_RESOURCE) return types.filter((type) => storageName(type) === key.name).map((type) => ({ type, namespace: undefined }));
    return [];
  }
}
