/**
 * The union of many prefixes of one family, as the fewest disjoint prefixes among them, kept up to date change by change.
 *
 * Two prefixes are disjoint or one holds the other, so the union is what no other member holds. One change looks up its holders by length and its
 * parts by order; only many changes at once sort everything anew.
 * Invariant: `elements()` covers exactly the members' addresses, and what `change` returns leads from the union before to the one after.
 * Rejected: merging all members at each change: a list of 100,000 networks would cost tenths of a second for one more.
 */
import { type Cidr, cidrAddress, cidrLength, cidrRange } from "../../src/net/cidr.ts";
import { elementChanges } from "./nft/intervals.ts";
import type { NftElement } from "./nft/ruleset.ts";

export interface UnionChange {
  readonly deleted: readonly NftElement[];
  readonly added: readonly NftElement[];
}

interface Entry {
  /** First address and length as characters: sorts holders before what they hold. */
  readonly order: string;
  /** What the order of everything inside begins with at most. */
  readonly last: string;
  readonly element: NftElement;
  count: number;
}

/** More changes than this share of the members: sorting all is cheaper. */
const BULK_SHARE = 16;

export class PrefixUnion {
  readonly #entries = new Map<string, Entry>();
  readonly #ofLength = new Map<number, number>();
  #sorted: Entry[] = [];

  /** Each as often as it is to be there; a member that is there twice has to go twice. */
  change(removed: readonly Cidr[], added: readonly Cidr[]): UnionChange {
    const changes = removed.length + added.length;
    if (changes * BULK_SHARE > this.#sorted.length) return this.#changeAll(removed, added);
    return netChange([...removed.map((cidr) => this.#remove(entryOf(cidr))), ...added.map((cidr) => this.#add(entryOf(cidr)))]);
  }

  elements(): NftElement[] {
    return outermost(this.#sorted).map(({ element }) => element);
  }

  #changeAll(removed: readonly Cidr[], added: readonly Cidr[]): UnionChange {
    const before = this.elements();
    for (const cidr of removed) this.#count(entryOf(cidr), -1);
    for (const cidr of added) this.#count(entryOf(cidr), 1);
    this.#sorted = [...this.#entries.values()].sort((a, b) => (a.order < b.order ? -1 : 1));
    return elementChanges(before, this.elements());
  }

  #add(entry: Entry): UnionChange {
    if (this.#count(entry, 1) > 1) return { deleted: [], added: [] };
    const at = this.#position(entry.order);
    this.#sorted.splice(at, 0, entry);
    if (this.#isHeld(entry)) return { deleted: [], added: [] };
    return { deleted: this.#inside(entry, at + 1), added: [entry.element] };
  }

  #remove(entry: Entry): UnionChange {
    if (this.#count(entry, -1) !== 0) return { deleted: [], added: [] };
    const at = this.#position(entry.order);
    this.#sorted.splice(at, 1);
    if (this.#isHeld(entry)) return { deleted: [], added: [] };
    return { deleted: [entry.element], added: this.#inside(entry, at) };
  }

  /** The count after; -1: it was not there. */
  #count(entry: Entry, change: 1 | -1): number {
    const known = this.#entries.get(entry.order);
    if (known === undefined && change === -1) return -1;
    const length = lengthOf(entry);
    if (known === undefined) {
      entry.count = 1;
      this.#entries.set(entry.order, entry);
      this.#ofLength.set(length, (this.#ofLength.get(length) ?? 0) + 1);
      return 1;
    }
    known.count += change;
    if (known.count === 0) {
      this.#entries.delete(entry.order);
      this.#ofLength.set(length, (this.#ofLength.get(length) ?? 0) - 1);
    }
    return known.count;
  }

  #isHeld(entry: Entry): boolean {
    const own = lengthOf(entry);
    for (const [length, count] of this.#ofLength) if (length < own && count > 0 && this.#entries.has(holderOrder(entry, length))) return true;
    return false;
  }

  /** The outermost of what lies inside, from a place in the order on. */
  #inside(entry: Entry, from: number): NftElement[] {
    let end = from;
    while (end < this.#sorted.length && (this.#sorted[end]?.order ?? "") <= entry.last) end += 1;
    return outermost(this.#sorted.slice(from, end)).map(({ element }) => element);
  }

  /** First place whose order is not less. */
  #position(order: string): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle]?.order ?? "") < order) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** What is left of changes one after the other: an element that comes and goes again is in none. */
export function netChange(steps: readonly UnionChange[]): UnionChange {
  const deletedByKey = new Map<string, NftElement>();
  const addedByKey = new Map<string, NftElement>();
  for (const { deleted, added } of steps) {
    for (const element of deleted) if (!addedByKey.delete(element.key)) deletedByKey.set(element.key, element);
    for (const element of added) if (!deletedByKey.delete(element.key)) addedByKey.set(element.key, element);
  }
  return { deleted: [...deletedByKey.values()], added: [...addedByKey.values()] };
}

function outermost(sorted: readonly Entry[]): Entry[] {
  const found: Entry[] = [];
  let holder: Entry | undefined;
  for (const entry of sorted) {
    if (holder !== undefined && entry.order <= holder.last) continue;
    found.push(entry);
    holder = entry;
  }
  return found;
}

function entryOf(cidr: Cidr): Entry {
  const { first, last } = cidrRange(cidr);
  const length = cidrLength(cidr);
  const key = length === first.length * 8 ? cidrAddress(cidr) : cidr;
  return { order: String.fromCharCode(...first, length), last: String.fromCharCode(...last, 255), element: { key }, count: 0 };
}

function lengthOf({ order }: Entry): number {
  return order.charCodeAt(order.length - 1);
}

/** Order of the prefix of `length` that holds the entry. */
function holderOrder({ order }: Entry, length: number): string {
  let text = "";
  for (let i = 0; i < order.length - 1; i++) {
    const bits = Math.min(8, Math.max(0, length - i * 8));
    text += String.fromCharCode(order.charCodeAt(i) & (0xff00 >> bits) & 0xff);
  }
  return text + String.fromCharCode(length);
}
