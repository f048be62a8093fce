/**
 * Which blocks of a pool are free, and the first free one from a given place on, without a walk over the pool.
 *
 * A binary tree over the numbers of blocks, of which only nodes with something taken below exist. A node with as many taken blocks as it has is
 * full, and a search steps over it. Taken prefixes of another size (left by a pool with another block size) count as every block they touch.
 */
import { type Cidr, cidrAddress, cidrContainsCidr, cidrLength, cidrsOverlap } from "../net/cidr.ts";
import { blockAt, blockIndexOf, type PoolShape, startIndex } from "./block.ts";

export class FreeBlocks {
  readonly #pool: PoolShape;
  readonly #depth: number;
  /** Taken blocks below the node "<depth>/<number>", each counted once. */
  readonly #taken = new Map<string, number>();
  /** Taken prefixes of block size or smaller, by number of the block. */
  readonly #prefixes = new Map<bigint, Set<Cidr>>();
  /** Taken prefixes larger than a block, by node. */
  readonly #large = new Map<string, Set<Cidr>>();

  constructor(pool: PoolShape, taken: Iterable<Cidr> = []) {
    this.#pool = pool;
    this.#depth = pool.blockSize - cidrLength(pool.cidr);
    for (const cidr of taken) this.add(cidr);
  }

  /** Marks all blocks that overlap the prefix as taken. Prefixes outside the pool change nothing. */
  add(cidr: Cidr): void {
    if (!cidrsOverlap(this.#pool.cidr, cidr)) return;
    if (cidrLength(cidr) < this.#pool.blockSize) {
      const node = this.#largeNode(cidr);
      this.#large.set(node, (this.#large.get(node) ?? new Set()).add(cidr));
      return;
    }
    const index = this.#indexOf(cidr);
    const prefixes = this.#prefixes.get(index);
    if (prefixes !== undefined) {
      prefixes.add(cidr);
      return;
    }
    this.#prefixes.set(index, new Set([cidr]));
    this.#count(index, 1);
  }

  /** Takes back `add` of the same prefix. */
  delete(cidr: Cidr): void {
    if (!cidrsOverlap(this.#pool.cidr, cidr)) return;
    if (cidrLength(cidr) < this.#pool.blockSize) {
      const node = this.#largeNode(cidr);
      const large = this.#large.get(node);
      if (large?.delete(cidr) === true && large.size === 0) this.#large.delete(node);
      return;
    }
    const index = this.#indexOf(cidr);
    const prefixes = this.#prefixes.get(index);
    if (prefixes?.delete(cidr) !== true || prefixes.size > 0) return;
    this.#prefixes.delete(index);
    this.#count(index, -1);
  }

  /** The first free block from number `start` on, going on at the pool's beginning; undefined when all are taken. */
  firstFrom(start: bigint): Cidr | undefined {
    const index = this.#search(0, 0n, start) ?? this.#search(0, 0n, 0n);
    return index === undefined ? undefined : blockAt(this.#pool, index);
  }

  /** Lowest free number, not below `from`, under a node. */
  #search(depth: number, number: bigint, from: bigint): bigint | undefined {
    const size = 1n << BigInt(this.#depth - depth);
    const first = number * size;
    if (first + size <= from) return undefined;
    const node = `${depth}/${number}`;
    if (this.#large.has(node)) return undefined;
    const taken = this.#taken.get(node) ?? 0;
    if (BigInt(taken) >= size) return undefined;
    if (depth === this.#depth) return first;
    return this.#search(depth + 1, number * 2n, from) ?? this.#search(depth + 1, number * 2n + 1n, from);
  }

  #count(index: bigint, change: 1 | -1): void {
    for (let depth = this.#depth, number = index; depth >= 0; depth--, number >>= 1n) {
      const node = `${depth}/${number}`;
      const taken = (this.#taken.get(node) ?? 0) + change;
      if (taken === 0) this.#taken.delete(node);
      else this.#taken.set(node, taken);
    }
  }

  #indexOf(cidr: Cidr): bigint {
    return blockIndexOf(this.#pool, cidrAddress(cidr)) ?? 0n;
  }

  /** The node of a prefix larger than a block; one as large as the pool or larger is the root. */
  #largeNode(cidr: Cidr): string {
    if (cidrContainsCidr(cidr, this.#pool.cidr)) return "0/0";
    const depth = cidrLength(cidr) - cidrLength(this.#pool.cidr);
    return `${depth}/${this.#indexOf(cidr) >> BigInt(this.#depth - depth)}`;
  }
}

/**
 * The block that the node should claim next: the first one, from the node's own place on, that overlaps nothing taken. undefined: the pool is full.
 * Who chooses often keeps a FreeBlocks and passes that.
 */
export function chooseFreeBlock({
  pool,
  node,
  taken,
}: {
  readonly pool: PoolShape;
  readonly node: string;
  readonly taken: Iterable<Cidr> | FreeBlocks;
}): Cidr | undefined {
  const free = taken instanceof FreeBlocks ? taken : new FreeBlocks(pool, taken);
  return free.firstFrom(startIndex(pool, node));
}
