/**
 * A set, a map and a sort for places where there are a great many of them and nearly all hold a few entries.
 *
 * Up to 8 entries they are plain arrays, copied at each change, searched from the front; beyond, a Set or Map; a lone entry of a set is in no array.
 * (An empty Set takes about 150 bytes; a cluster of 100,000 pods would hold a million of them.)
 * Iteration sees every entry that is there from its start to its end; entries may be added and deleted meanwhile.
 */

const FEW = 8;
const NOTHING: readonly never[] = [];
/** Never changed: a value is only put in place of another. */
const NO_VALUES: never[] = [];

/** A SmallSet for who only looks. */
export type ReadonlySmallSet<T> = Pick<SmallSet<T>, "size" | "has" | typeof Symbol.iterator>;

/** Of anything but undefined. */
export class SmallSet<T> implements Iterable<T> {
  /** The only entry: most sets never have two. */
  #only: T | undefined;
  #items: readonly T[] | Set<T> = NOTHING;

  get size(): number {
    if (this.#only !== undefined) return 1;
    return this.#items instanceof Set ? this.#items.size : this.#items.length;
  }

  has(item: T): boolean {
    if (this.#only !== undefined) return this.#only === item;
    return this.#items instanceof Set ? this.#items.has(item) : this.#items.includes(item);
  }

  /** True when it was not there. */
  add(item: T): boolean {
    const items = this.#items;
    if (items instanceof Set) {
      const { size } = items;
      return items.add(item).size > size;
    }
    if (this.#only === item || items.includes(item)) return false;
    if (this.#only !== undefined) {
      this.#items = [this.#only, item];
      this.#only = undefined;
    } else if (items.length === 0) this.#only = item;
    else this.#items = items.length < FEW ? withLast(items, item) : new Set(items).add(item);
    return true;
  }

  /** True when it was there. */
  delete(item: T): boolean {
    if (this.#only !== undefined) {
      if (this.#only !== item) return false;
      this.#only = undefined;
      return true;
    }
    const items = this.#items;
    if (items instanceof Set) {
      const wasThere = items.delete(item);
      // Half of the bound, so that one entry that comes and goes does not rebuild it each time.
      if (items.size <= FEW / 2) this.#items = [...items];
      return wasThere;
    }
    const at = items.indexOf(item);
    if (at < 0) return false;
    if (items.length === 2) {
      this.#only = items[1 - at];
      this.#items = NOTHING;
    } else this.#items = items.toSpliced(at, 1);
    return true;
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#only === undefined ? this.#items[Symbol.iterator]() : [this.#only][Symbol.iterator]();
  }
}

export class SmallMap<K, V> {
  #keys: readonly K[] = NOTHING;
  /** Changed in place: an iteration sees a value as it is when its turn comes. */
  #values: V[] = NO_VALUES;
  #map: Map<K, V> | undefined;

  get size(): number {
    return this.#map === undefined ? this.#keys.length : this.#map.size;
  }

  has(key: K): boolean {
    return this.#map === undefined ? this.#keys.includes(key) : this.#map.has(key);
  }

  get(key: K): V | undefined {
    if (this.#map !== undefined) return this.#map.get(key);
    const at = this.#keys.indexOf(key);
    return at < 0 ? undefined : this.#values[at];
  }

  set(key: K, value: V): void {
    if (this.#map !== undefined) {
      this.#map.set(key, value);
      return;
    }
    const at = this.#keys.indexOf(key);
    if (at >= 0) this.#values[at] = value;
    else if (this.#keys.length < FEW) {
      this.#keys = withLast(this.#keys, key);
      this.#values = withLast(this.#values, value);
    } else {
      const map = new Map<K, V>();
      for (const [i, known] of this.#keys.entries()) map.set(known, this.#values[i] as V);
      this.#map = map.set(key, value);
      this.#keys = NOTHING;
      this.#values = NO_VALUES;
    }
  }

  /** True when it was there. */
  delete(key: K): boolean {
    const map = this.#map;
    if (map !== undefined) {
      const wasThere = map.delete(key);
      if (map.size > FEW / 2) return wasThere;
      this.#keys = [...map.keys()];
      this.#values = [...map.values()];
      this.#map = undefined;
      return wasThere;
    }
    const at = this.#keys.indexOf(key);
    if (at < 0) return false;
    this.#keys = this.#keys.toSpliced(at, 1);
    this.#values = this.#values.toSpliced(at, 1);
    return true;
  }

  keys(): Iterable<K> {
    return this.#map === undefined ? this.#keys : this.#map.keys();
  }

  values(): Iterable<V> {
    return this.#map === undefined ? this.#values : this.#map.values();
  }
}

/** Sorts in place, and returns it. V8's own sort takes 1.5 KB of working memory each time, whatever the length. */
export function sortFew<T>(items: T[], compare: (a: T, b: T) => number): T[] {
  if (items.length > FEW) return items.sort(compare);
  for (let i = 1; i < items.length; i++) {
    const item = items[i] as T;
    let at = i;
    for (; at > 0 && compare(items[at - 1] as T, item) > 0; at--) items[at] = items[at - 1] as T;
    items[at] = item;
  }
  return items;
}

/** Order of strings by code units, as sort() without a comparison has it. */
export function compareTexts(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** A copy with one more entry. Not `[...items, item]`: V8 gives an array that grows room for 17 entries. */
function withLast<T>(items: readonly T[], item: T): T[] {
  switch (items.length) {
    case 0:
      return [item];
    case 1:
      return [items[0] as T, item];
    default:
      return items.toSpliced(items.length, 0, item);
  }
}
