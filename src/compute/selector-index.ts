/**
 * Which items match which selectors, kept up to date by looking only at pairs that can have changed.
 *
 * A selector waits under its most selective condition: the label value with the fewest selectors already waiting (which spreads ten thousand
 * selectors of one shape evenly), else a label that must be there, else the list that every item tries. A new or changed item tries the selectors
 * that wait under its labels; a new selector tries the items under its rarest condition; a namespace's change tries the selectors that look at a
 * changed label, for that namespace's items.
 * Invariant: between calls, `selector.matches` holds exactly the items of which the effective labels satisfy the selector, and `item.matched` is
 * the same relation from the other end. Where a selector waits never changes what it matches.
 * Rejected: testing every pair (10^9 for 100,000 pods and 10,000 selectors).
 */
import type { Selector } from "../selector/selector.ts";
import { effectiveLabel, type IndexedSelector, LabelIndex, type LabelItem, type LabelName, type LabelParent, LabelValue } from "./label-index.ts";
import { SmallSet } from "./small-collections.ts";

/** Looking at an item's parent, in tests of a selector on it. */
const COST_OF_PARENT_CHECK = 1 / 16;

export type LabelPair = readonly [label: string, value: string];

export class SelectorIndex<Item extends LabelItem<Item>> {
  readonly #labels = new LabelIndex<Item>();
  readonly #selectors = new Map<string, IndexedSelector<Item>>();
  /** Selectors without any condition to wait under. */
  readonly #scanned = new Set<IndexedSelector<Item>>();
  /** Selectors by label that they look at. */
  readonly #lookers = new Map<string, Set<IndexedSelector<Item>>>();
  readonly #items = new Set<Item>();
  #sequence = 0;
  #current: Item | undefined;
  readonly #lookup = (label: string): string | undefined => (this.#current === undefined ? undefined : effectiveLabel(this.#current, label));

  /** Selectors known, items known, label names known. */
  get sizes(): { readonly selectors: number; readonly items: number; readonly labels: number } {
    return { selectors: this.#selectors.size, items: this.#items.size, labels: this.#labels.size };
  }

  /** The one entry of all selectors with this canonical text, referenced once more. Its `matches` are complete on return. */
  acquire(selector: Selector): IndexedSelector<Item> {
    const known = this.#selectors.get(selector.canonical);
    if (known !== undefined) {
      known.references++;
      return known;
    }
    const { restrictions } = selector;
    const waits = this.#placeFor(restrictions);
    const entry: IndexedSelector<Item> = {
      selector,
      sequence: ++this.#sequence,
      matches: new SmallSet(),
      listeners: new SmallSet(),
      references: 1,
      waits: waits ?? [],
    };
    this.#selectors.set(selector.canonical, entry);
    if (waits === undefined) this.#scanned.add(entry);
    else for (const node of waits) node.addSelector(entry);
    for (const label of selector.labels) lookersOf(this.#lookers, label).add(entry);
    for (const item of this.#candidates(restrictions)) if (!item.matched.has(entry) && this.#test(entry, item)) this.#match(entry, item);
    return entry;
  }

  /** Gives one reference back; with the last, the selector is forgotten (its listeners are not told). */
  release(entry: IndexedSelector<Item>): void {
    if (--entry.references > 0) return;
    this.#selectors.delete(entry.selector.canonical);
    this.#scanned.delete(entry);
    for (const node of entry.waits) {
      node.removeSelector(entry);
      if (node instanceof LabelValue) this.#labels.release(node);
      else this.#labels.releaseName(node);
    }
    for (const label of entry.selector.labels) {
      const lookers = this.#lookers.get(label);
      lookers?.delete(entry);
      if (lookers?.size === 0) this.#lookers.delete(label);
    }
    for (const item of entry.matches) item.matched.delete(entry);
  }

  /** Takes an item in. Its `labels` must be empty and its parent's complete. */
  add(item: Item, labels: readonly LabelPair[]): void {
    this.#items.add(item);
    item.parent.items.add(item);
    item.labels = labels.map(([label, value]) => this.#hold(item, label, value));
    this.#tryWaiting(item, undefined);
  }

  /** Takes an item out; every selector that it matched tells its listeners. */
  remove(item: Item): void {
    for (const entry of item.matched) this.#unmatch(entry, item);
    for (const node of item.labels) this.#drop(item, node);
    item.labels = [];
    item.parent.items.delete(item);
    this.#items.delete(item);
  }

  /** Changes an item's own labels. */
  relabel(item: Item, labels: readonly LabelPair[]): void {
    const before = item.labels;
    const after = labels.map(([label, value]) => this.#hold(item, label, value));
    item.labels = after;
    const changed = new Set<string>();
    for (const node of before) {
      if (after.includes(node)) continue;
      changed.add(node.label.name);
      this.#drop(item, node);
    }
    for (const node of after) if (!before.includes(node)) changed.add(node.label.name);
    if (changed.size > 0) this.#reconsider(item, changed, this.#lookersOfAny(changed));
  }

  /** Changes what a parent hands down: only selectors that look at a changed label are tried, for this parent's items. */
  relabelParent(parent: LabelParent<Item>, labels: readonly LabelPair[]): void {
    const before = parent.labels;
    const after = labels.map(([label, value]) => this.#labels.value(label, value));
    for (const node of after) node.addParent(parent);
    parent.labels = after;
    for (const node of before) {
      if (after.includes(node)) continue;
      node.removeParent(parent);
      this.#labels.release(node);
    }
    if (parent.items.size === 0) return;
    const changed = new Set<string>();
    for (const node of after) if (!before.includes(node)) changed.add(node.label.name);
    for (const node of before) if (!after.includes(node)) changed.add(node.label.name);
    if (changed.size === 0) return;
    const lookers = this.#lookersOfAny(changed);
    if (lookers.size > 0) for (const item of parent.items) this.#reconsider(item, changed, lookers);
  }

  /** Forgets a parent without items. */
  removeParent(parent: LabelParent<Item>): void {
    this.relabelParent(parent, []);
  }

  /** Tells the listeners of every selector that the item matches, before (`changing`) and after (`changed`) `change` runs. */
  change(item: Item, change: () => void): void {
    for (const entry of item.matched) for (const listener of entry.listeners) listener.changing(item);
    change();
    for (const entry of item.matched) for (const listener of entry.listeners) listener.changed(item);
  }

  #hold(item: Item, label: string, value: string): LabelValue<Item> {
    const node = this.#labels.value(label, value);
    node.addItem(item);
    return node;
  }

  #drop(item: Item, node: LabelValue<Item>): void {
    node.removeItem(item);
    this.#labels.release(node);
  }

  /** Where a selector is to wait; undefined: nowhere but the list that all items try. A condition that nothing can satisfy: no place at all. */
  #placeFor(restrictions: Selector["restrictions"]): readonly (LabelValue<Item> | LabelName<Item>)[] | undefined {
    let bestLabel: string | undefined;
    let bestValues: readonly string[] = [];
    let bestCost = Number.POSITIVE_INFINITY;
    let present: string | undefined;
    for (const [label, restriction] of restrictions) {
      if (restriction.values === undefined) {
        if (restriction.mustBePresent === true) present ??= label;
        continue;
      }
      const name = this.#labels.findName(label);
      let cost = 0;
      for (const value of restriction.values) cost += 1 + (name?.values.get(value)?.selectors.size ?? 0);
      if (cost >= bestCost) continue;
      bestLabel = label;
      bestValues = restriction.values;
      bestCost = cost;
    }
    if (bestLabel !== undefined) {
      const label = bestLabel;
      return bestValues.map((value) => this.#labels.value(label, value));
    }
    return present === undefined ? undefined : [this.#labels.name(present)];
  }

  /** Items among which all that match the selector are; an item may come twice. */
  #candidates(restrictions: Selector["restrictions"]): Iterable<Item> {
    const choices: (readonly LabelValue<Item>[])[] = [];
    let parent: LabelParent<Item> | undefined;
    for (const [label, restriction] of restrictions) {
      if (restriction.values === undefined && restriction.mustBePresent !== true) continue;
      const name = this.#labels.findName(label);
      const nodes = name === undefined ? [] : nodesFor(name, restriction.values);
      choices.push(nodes);
      parent ??= onlyParent(nodes);
    }
    let best: readonly LabelValue<Item>[] | undefined;
    let bestCost = Number.POSITIVE_INFINITY;
    for (const nodes of choices) {
      const weight = parent === undefined || onlyParent(nodes) === parent ? 1 : COST_OF_PARENT_CHECK;
      const cost = weight * countItems(nodes, bestCost / weight);
      if (cost >= bestCost) continue;
      best = nodes;
      bestCost = cost;
    }
    return best === undefined ? this.#items : itemsOf(best, parent);
  }

  /** Tries what waits under the item's labels; with `lookers`, only those. */
  #tryWaiting(item: Item, lookers: ReadonlySet<IndexedSelector<Item>> | undefined): void {
    this.#tryUnder(item.labels, item, lookers);
    this.#tryUnder(item.parent.labels, item, lookers);
    if (this.#scanned.size > 0) this.#tryAll(this.#scanned, item, lookers);
  }

  #tryUnder(nodes: readonly LabelValue<Item>[], item: Item, lookers: ReadonlySet<IndexedSelector<Item>> | undefined): void {
    for (const { selectors, label } of nodes) {
      if (selectors.size > 0) this.#tryAll(selectors, item, lookers);
      if (label.selectors.size > 0) this.#tryAll(label.selectors, item, lookers);
    }
  }

  #tryAll(entries: Iterable<IndexedSelector<Item>>, item: Item, lookers: ReadonlySet<IndexedSelector<Item>> | undefined): void {
    for (const entry of entries) {
      if (lookers !== undefined && !lookers.has(entry)) continue;
      if (!item.matched.has(entry) && this.#test(entry, item)) this.#match(entry, item);
    }
  }

  /** After a change of these labels: `lookers` are the selectors that look at one of them. */
  #reconsider(item: Item, changed: ReadonlySet<string>, lookers: ReadonlySet<IndexedSelector<Item>>): void {
    for (const entry of item.matched) if (looksAt(entry.selector, changed) && !this.#test(entry, item)) this.#unmatch(entry, item);
    if (lookers.size <= this.#waitingCount(item)) this.#tryAll(lookers, item, undefined);
    else this.#tryWaiting(item, lookers);
  }

  #waitingCount(item: Item): number {
    let count = this.#scanned.size;
    for (const node of item.labels) count += node.selectors.size + node.label.selectors.size;
    for (const node of item.parent.labels) count += node.selectors.size + node.label.selectors.size;
    return count;
  }

  #lookersOfAny(labels: ReadonlySet<string>): ReadonlySet<IndexedSelector<Item>> {
    if (labels.size === 1) for (const label of labels) return this.#lookers.get(label) ?? new Set();
    const all = new Set<IndexedSelector<Item>>();
    for (const label of labels) for (const entry of this.#lookers.get(label) ?? []) all.add(entry);
    return all;
  }

  #test(entry: IndexedSelector<Item>, item: Item): boolean {
    this.#current = item;
    return entry.selector.matches(this.#lookup);
  }

  #match(entry: IndexedSelector<Item>, item: Item): void {
    entry.matches.add(item);
    item.matched.add(entry);
    for (const listener of entry.listeners) listener.matched(item);
  }

  #unmatch(entry: IndexedSelector<Item>, item: Item): void {
    entry.matches.delete(item);
    item.matched.delete(entry);
    for (const listener of entry.listeners) listener.unmatched(item);
  }
}

function lookersOf<Item>(lookers: Map<string, Set<IndexedSelector<Item>>>, label: string): Set<IndexedSelector<Item>> {
  let set = lookers.get(label);
  if (set === undefined) {
    set = new Set();
    lookers.set(label, set);
  }
  return set;
}

function looksAt(selector: Selector, labels: ReadonlySet<string>): boolean {
  return selector.labels.some((label) => labels.has(label));
}

function nodesFor<Item>(name: LabelName<Item>, values: readonly string[] | undefined): readonly LabelValue<Item>[] {
  if (values === undefined) return [...name.values.values()];
  if (values.length === 1) {
    const node = name.values.get(values[0] ?? "");
    return node === undefined ? [] : [node];
  }
  const nodes: LabelValue<Item>[] = [];
  for (const value of values) {
    const node = name.values.get(value);
    if (node !== undefined) nodes.push(node);
  }
  return nodes;
}

/** Items under the nodes, own or inherited; counting stops above `limit`. */
function countItems<Item>(nodes: readonly LabelValue<Item>[], limit: number): number {
  let count = 0;
  for (const node of nodes) {
    count += node.items.size;
    if (count > limit) return count;
    if (node.parents.size === 0) continue;
    for (const parent of node.parents) {
      count += parent.items.size;
      if (count > limit) return count;
    }
  }
  return count;
}

/** The one parent of all items under the nodes; undefined when there are several, or items that have the label as their own. */
function onlyParent<Item>(nodes: readonly LabelValue<Item>[]): LabelParent<Item> | undefined {
  const [node] = nodes;
  if (node === undefined || nodes.length > 1 || node.items.size > 0 || node.parents.size !== 1) return undefined;
  for (const parent of node.parents) return parent;
  return undefined;
}

/** Items under the nodes; with `parent`, only its items (a namespaced selector must not cost a test for each pod of other namespaces). */
function itemsOf<Item extends LabelItem<Item>>(nodes: readonly LabelValue<Item>[], parent: LabelParent<Item> | undefined): readonly Item[] {
  const found: Item[] = [];
  for (const node of nodes) {
    for (const item of node.items) if (parent === undefined || item.parent === parent) found.push(item);
    for (const handing of node.parents) if (parent === undefined || handing === parent) for (const item of handing.items) found.push(item);
  }
  return found;
}
