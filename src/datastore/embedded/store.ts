/**
 * The objects and their history: in memory, one revision for every write, each revision exactly one change.
 *
 * Invariant: replaying the changes after revision R on the state at R gives the state now (the tests hold it to that). A change becomes visible to
 * watches only when it is published; without a journal that is at once, with one when the journal has it on disk.
 * The history is bounded per resource in items and bytes; what is older is gone, and who asks for it must list again.
 * A shared history ring was rejected: busy pods would push out the policies' changes.
 */
import type { JsonObject } from "./json.ts";
import { ensureObject } from "./json.ts";

/** Names one object. `resource` is "<plural>.<group>" ("pods" for the core group), `namespace` is "" for cluster-wide kinds. */
export interface ObjectKey {
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
}

/** One version of one object. Never changed after it is made; `text` is its JSON. */
export interface Entry {
  readonly key: ObjectKey;
  readonly revision: number;
  readonly object: JsonObject;
  readonly text: string;
}

export interface Change {
  readonly revision: number;
  readonly kind: "added" | "modified" | "deleted";
  /** The new version; for a deletion the last one, with the revision of the deletion. */
  readonly entry: Entry;
  readonly previous: Entry | undefined;
}

interface StoreOptions {
  /** Revision of the empty store. Greater than every one that an earlier life gave out, so that an old one is recognised as expired. */
  readonly initialRevision: number;
  /** Changes kept per resource. */
  readonly historyChanges?: number;
  /** Bytes of JSON kept per resource. */
  readonly historyBytes?: number;
  /** Publish each change at once (true), or leave it to whoever calls `publish` (false). */
  readonly publishesAtOnce?: boolean;
}

const DEFAULT_HISTORY_CHANGES = 10_000;
const DEFAULT_HISTORY_BYTES = 32 * 1024 * 1024;

export interface Snapshot {
  readonly revision: number;
  readonly entries: readonly Entry[];
}

interface Shelf {
  readonly entries: Map<string, Entry>;
  /** Keys in the order of a list. */
  readonly order: string[];
  history: Change[];
  historyBytes: number;
  /** Changes up to this revision are forgotten. */
  compactedRevision: number;
  readonly listeners: Set<() => void>;
}

/** Order of a list: namespace, then name, as bytes. */
export function listKey(namespace: string, name: string): string {
  return namespace === "" ? name : `${namespace}/${name}`;
}

function position(order: readonly string[], key: string): number {
  let low = 0;
  let high = order.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((order[middle] ?? "") < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the first change after `revision`. */
function firstAfter(history: readonly Change[], revision: number): number {
  let low = 0;
  let high = history.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((history[middle]?.revision ?? 0) <= revision) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class Store {
  readonly #options: Required<StoreOptions>;
  /** Nothing at or before this can be watched or listed exactly, except through a shelf that says otherwise. */
  #firstRevision: number;
  readonly #shelves = new Map<string, Shelf>();
  readonly #observers = new Set<(change: Change) => void>();
  #revision: number;
  #publishedRevision: number;

  constructor(options: StoreOptions) {
    this.#options = { historyChanges: DEFAULT_HISTORY_CHANGES, historyBytes: DEFAULT_HISTORY_BYTES, publishesAtOnce: true, ...options };
    this.#firstRevision = options.initialRevision;
    this.#revision = options.initialRevision;
    this.#publishedRevision = options.initialRevision;
  }

  /** Revision of the last write. */
  get revision(): number {
    return this.#revision;
  }

  /** Revision up to which watches may see. */
  get publishedRevision(): number {
    return this.#publishedRevision;
  }

  get(key: ObjectKey): Entry | undefined {
    return this.#shelves.get(key.resource)?.entries.get(listKey(key.namespace, key.name));
  }

  /** Objects of a resource in list order; of one namespace, or of all when it is undefined. */
  list(resource: string, namespace?: string): Entry[] {
    const shelf = this.#shelves.get(resource);
    if (shelf === undefined) return [];
    return entriesInOrder(shelf.order, shelf.entries, namespace);
  }

  /** The list as it was at a revision; "expired" when the history no longer reaches there, "future" when it is not yet. */
  listAt(resource: string, revision: number, namespace?: string): Entry[] | "expired" | "future" {
    if (revision > this.#revision) return "future";
    const shelf = this.#shelves.get(resource);
    if (shelf === undefined) return revision < this.#firstRevision ? "expired" : [];
    if (revision < shelf.compactedRevision) return "expired";
    const from = firstAfter(shelf.history, revision);
    if (from === shelf.history.length) return this.list(resource, namespace);
    const entries = new Map(shelf.entries);
    for (let index = shelf.history.length - 1; index >= from; index--) {
      const change = shelf.history[index];
      if (change === undefined) continue;
      const key = listKey(change.entry.key.namespace, change.entry.key.name);
      if (change.previous === undefined) entries.delete(key);
      else entries.set(key, change.previous);
    }
    return entriesInOrder([...entries.keys()].sort(byBytes), entries, namespace);
  }

  /** Published changes of a resource after a revision, at most `limit`; "expired" when some of them are forgotten. */
  changesAfter(resource: string, revision: number, limit = Number.MAX_SAFE_INTEGER): readonly Change[] | "expired" {
    const shelf = this.#shelves.get(resource);
    if (shelf === undefined) return revision < this.#firstRevision ? "expired" : [];
    if (revision < shelf.compactedRevision) return "expired";
    const from = firstAfter(shelf.history, revision);
    const to = firstAfter(shelf.history, this.#publishedRevision);
    return shelf.history.slice(from, Math.min(to, from + limit));
  }

  /** Oldest revision from which a resource can be watched. */
  compactedRevision(resource: string): number {
    return this.#shelves.get(resource)?.compactedRevision ?? this.#firstRevision;
  }

  /** Writes a version of an object; its metadata.resourceVersion becomes the new revision. The object belongs to the store from here on. */
  put(key: ObjectKey, object: JsonObject): Entry {
    const shelf = this.#shelf(key.resource);
    const id = listKey(key.namespace, key.name);
    const previous = shelf.entries.get(id);
    const entry = this.#nextEntry(key, object);
    if (previous === undefined) shelf.order.splice(position(shelf.order, id), 0, id);
    shelf.entries.set(id, entry);
    this.#record(shelf, { revision: entry.revision, kind: previous === undefined ? "added" : "modified", entry, previous });
    return entry;
  }

  /** Takes an object away. Returns its last version with the revision of the deletion; undefined when it was not there. */
  remove(key: ObjectKey): Entry | undefined {
    const shelf = this.#shelf(key.resource);
    const id = listKey(key.namespace, key.name);
    const previous = shelf.entries.get(id);
    if (previous === undefined) return undefined;
    const entry = this.#nextEntry(key, structuredClone(previous.object));
    shelf.entries.delete(id);
    shelf.order.splice(position(shelf.order, id), 1);
    this.#record(shelf, { revision: entry.revision, kind: "deleted", entry, previous });
    return entry;
  }

  /** Lets watches see everything up to a revision. */
  publish(revision: number): void {
    if (revision <= this.#publishedRevision) return;
    this.#publishedRevision = Math.min(revision, this.#revision);
    for (const shelf of this.#shelves.values()) for (const listener of shelf.listeners) listener();
  }

  /** Calls `listener` when changes of the resource may have been published. Returns how to stop. */
  subscribe(resource: string, listener: () => void): () => void {
    const { listeners } = this.#shelf(resource);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /** Calls `observer` with every change as it is made, before it is published: the journal's input. */
  observe(observer: (change: Change) => void): () => void {
    this.#observers.add(observer);
    return () => void this.#observers.delete(observer);
  }

  snapshot(): Snapshot {
    return { revision: this.#revision, entries: [...this.#shelves.keys()].sort(byBytes).flatMap((resource) => this.list(resource)) };
  }

  /** Fills an empty store from a snapshot and the changes after it. Nothing before the snapshot's revision can be watched. */
  restore(snapshot: Snapshot, changes: readonly Pick<Change, "revision" | "kind" | "entry">[]): void {
    if (this.#shelves.size > 0) throw new Error("only an empty store can be restored");
    this.#revision = snapshot.revision;
    this.#firstRevision = snapshot.revision;
    for (const entry of snapshot.entries) this.#load(entry);
    for (const { revision, kind, entry } of changes) {
      if (revision <= this.#revision) throw new Error(`change ${revision} comes after ${this.#revision}: the journal is out of order`);
      const shelf = this.#shelf(entry.key.resource);
      const id = listKey(entry.key.namespace, entry.key.name);
      const previous = shelf.entries.get(id);
      if (kind === "deleted") {
        shelf.entries.delete(id);
        if (previous !== undefined) shelf.order.splice(position(shelf.order, id), 1);
      } else this.#load(entry);
      this.#revision = revision;
      this.#remember(shelf, { revision, kind, entry, previous });
    }
    this.#publishedRevision = this.#revision;
  }

  #load(entry: Entry): void {
    const shelf = this.#shelf(entry.key.resource);
    const id = listKey(entry.key.namespace, entry.key.name);
    if (!shelf.entries.has(id)) shelf.order.splice(position(shelf.order, id), 0, id);
    shelf.entries.set(id, entry);
  }

  #nextEntry(key: ObjectKey, object: JsonObject): Entry {
    const revision = this.#revision + 1;
    ensureObject(object, "metadata")["resourceVersion"] = String(revision);
    return { key, revision, object, text: JSON.stringify(object) };
  }

  #record(shelf: Shelf, change: Change): void {
    this.#revision = change.revision;
    this.#remember(shelf, change);
    for (const observer of this.#observers) observer(change);
    if (this.#options.publishesAtOnce) this.publish(change.revision);
  }

  #remember(shelf: Shelf, change: Change): void {
    shelf.history.push(change);
    shelf.historyBytes += change.entry.text.length;
    const { historyChanges, historyBytes } = this.#options;
    if (shelf.history.length <= historyChanges && shelf.historyBytes <= historyBytes) return;
    // Forget a tenth more than needed: one cut for many writes.
    let drop = 0;
    while (drop < shelf.history.length - 1 && (shelf.history.length - drop > historyChanges * 0.9 || shelf.historyBytes > historyBytes * 0.9)) {
      const forgotten = shelf.history[drop];
      if (forgotten === undefined) break;
      shelf.historyBytes -= forgotten.entry.text.length;
      shelf.compactedRevision = forgotten.revision;
      drop++;
    }
    shelf.history = shelf.history.slice(drop);
  }

  #shelf(resource: string): Shelf {
    const existing = this.#shelves.get(resource);
    if (existing !== undefined) return existing;
    const made: Shelf = { entries: new Map(), order: [], history: [], historyBytes: 0, compactedRevision: this.#firstRevision, listeners: new Set() };
    this.#shelves.set(resource, made);
    return made;
  }
}

function byBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function entriesInOrder(order: readonly string[], entries: ReadonlyMap<string, Entry>, namespace: string | undefined): Entry[] {
  const result: Entry[] = [];
  for (const id of order) {
    const entry = entries.get(id);
    if (entry !== undefined && (namespace === undefined || entry.key.namespace === namespace)) result.push(entry);
  }
  return result;
}
