/**
 * Who has which label with which value, and which selectors wait for it: the two directions of one index.
 *
 * Labels and values are interned as nodes, so an item's labels are a short array of references, and equal texts are kept once.
 * Inherited labels (a namespace's) are held once, by the parent, however many items inherit them.
 * Invariant: a node is in the index while an item, a parent or a selector refers to it, and is dropped with the last of them.
 * Rejected: a Map of labels per item (100,000 pods would hold 100,000 maps of the same few strings).
 */
import type { Selector } from "../selector/selector.ts";
import { type ReadonlySmallSet, SmallSet } from "./small-collections.ts";

/** One label name. */
export class LabelName<Item> {
  readonly name: string;
  readonly values = new Map<string, LabelValue<Item>>();
  readonly #selectors = new SmallSet<IndexedSelector<Item>>();

  constructor(name: string) {
    this.name = name;
  }

  /** Selectors of which the most selective condition is that this label is there. */
  get selectors(): ReadonlySmallSet<IndexedSelector<Item>> {
    return this.#selectors;
  }

  addSelector(selector: IndexedSelector<Item>): void {
    this.#selectors.add(selector);
  }

  removeSelector(selector: IndexedSelector<Item>): void {
    this.#selectors.delete(selector);
  }
}

/** Never added to. */
const EMPTY = new SmallSet<never>();

/** One value of one label. Most have only one of the three sets: of a name there are a hundred thousand values, each with one item or one parent. */
export class LabelValue<Item> {
  readonly label: LabelName<Item>;
  readonly value: string;
  #items: SmallSet<Item> = EMPTY;
  #parents: SmallSet<LabelParent<Item>> = EMPTY;
  #selectors: SmallSet<IndexedSelector<Item>> = EMPTY;

  constructor(label: LabelName<Item>, value: string) {
    this.label = label;
    this.value = value;
  }

  /** Items with it as a label of their own. */
  get items(): ReadonlySmallSet<Item> {
    return this.#items;
  }

  /** Parents that hand it down. */
  get parents(): ReadonlySmallSet<LabelParent<Item>> {
    return this.#parents;
  }

  /** Selectors of which the most selective condition is this value. */
  get selectors(): ReadonlySmallSet<IndexedSelector<Item>> {
    return this.#selectors;
  }

  addItem(item: Item): void {
    if (this.#items === EMPTY) this.#items = new SmallSet();
    this.#items.add(item);
  }

  addParent(parent: LabelParent<Item>): void {
    if (this.#parents === EMPTY) this.#parents = new SmallSet();
    this.#parents.add(parent);
  }

  addSelector(selector: IndexedSelector<Item>): void {
    if (this.#selectors === EMPTY) this.#selectors = new SmallSet();
    this.#selectors.add(selector);
  }

  removeItem(item: Item): void {
    this.#items.delete(item);
  }

  removeParent(parent: LabelParent<Item>): void {
    this.#parents.delete(parent);
  }

  removeSelector(selector: IndexedSelector<Item>): void {
    this.#selectors.delete(selector);
  }
}

/** Something of which items inherit labels: a namespace. */
export interface LabelParent<Item> {
  labels: readonly LabelValue<Item>[];
  readonly items: SmallSet<Item>;
}

/** Something with labels: an endpoint. Own labels win over inherited ones. */
export interface LabelItem<Item> {
  labels: readonly LabelValue<Item>[];
  readonly parent: LabelParent<Item>;
  readonly matched: SmallSet<IndexedSelector<Item>>;
}

/** Told of each change of what a selector matches, and of changes of items that it matches. */
export interface MatchListener<Item> {
  matched(item: Item): void;
  unmatched(item: Item): void;
  /** The item, which matches, is about to change something other than its labels… */
  changing(item: Item): void;
  /** …and has changed. */
  changed(item: Item): void;
}

export interface IndexedSelector<Item> {
  readonly selector: Selector;
  /** Grows with each registration; tells selectors apart in this process only. */
  readonly sequence: number;
  readonly matches: SmallSet<Item>;
  readonly listeners: SmallSet<MatchListener<Item>>;
  references: number;
  /** Where it waits for items. */
  readonly waits: readonly (LabelValue<Item> | LabelName<Item>)[];
}

export class LabelIndex<Item extends LabelItem<Item>> {
  readonly #names = new Map<string, LabelName<Item>>();

  name(label: string): LabelName<Item> {
    let name = this.#names.get(label);
    if (name === undefined) {
      name = new LabelName(label);
      this.#names.set(label, name);
    }
    return name;
  }

  value(label: string, value: string): LabelValue<Item> {
    const name = this.name(label);
    let node = name.values.get(value);
    if (node === undefined) {
      node = new LabelValue(name, value);
      name.values.set(value, node);
    }
    return node;
  }

  findName(label: string): LabelName<Item> | undefined {
    return this.#names.get(label);
  }

  /** Forgets the node when nothing refers to it. Call after taking something out of it. */
  release(node: LabelValue<Item>): void {
    if (node.items.size > 0 || node.parents.size > 0 || node.selectors.size > 0) return;
    if (node.label.values.get(node.value) === node) node.label.values.delete(node.value);
    this.releaseName(node.label);
  }

  releaseName(name: LabelName<Item>): void {
    if (name.values.size === 0 && name.selectors.size === 0 && this.#names.get(name.name) === name) this.#names.delete(name.name);
  }

  /** Number of label names known: for tests that nothing is left behind. */
  get size(): number {
    return this.#names.size;
  }
}

/** The value that a selector sees: the item's own, else the parent's. */
export function effectiveLabel<Item>(item: LabelItem<Item>, label: string): string | undefined {
  for (const node of item.labels) if (node.label.name === label) return node.value;
  for (const node of item.parent.labels) if (node.label.name === label) return node.value;
  return undefined;
}
