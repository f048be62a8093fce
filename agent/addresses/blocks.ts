/**
 * This node's blocks in memory: which address is whose, which is next. No waiting in here: every call answers at once.
 *
 * Invariant: an address belongs to at most one attachment; addresses are taken here before the journal has them and given back after, so that in doubt
 * one is in use. Blocks are tried in the order of their claim, so that later ones can run empty.
 */
import { BlockAllocator } from "../../src/ipam/block-allocator.ts";
import { type Cidr, cidrContains, cidrVersion } from "../../src/net/cidr.ts";
import { type IpAddress, type IpVersion, ipVersion } from "../../src/net/ip.ts";

export interface BlockStatus {
  readonly block: Cidr;
  readonly pool: string;
  readonly used: number;
  readonly free: number;
  /** New addresses are taken from it. */
  readonly isUsable: boolean;
}

export type Taken =
  | { readonly kind: "taken"; readonly address: IpAddress }
  /** `retryAtMs`: when the first address leaves its cooldown. */
  | { readonly kind: "none-free"; readonly retryAtMs: number | undefined };

interface Entry {
  readonly allocator: BlockAllocator;
  readonly pool: string;
}

export class Blocks {
  readonly #entries = new Map<Cidr, Entry>();
  readonly #cooldownMs: () => number;
  readonly #isUsable: (block: Cidr) => boolean;
  readonly #isReserved: (address: IpAddress) => boolean;

  /** `isUsable`: for every pod; `isReserved`: given to nobody who does not ask for it. Both are asked each time. */
  constructor(options: {
    readonly cooldownMs: () => number;
    readonly isUsable: (block: Cidr) => boolean;
    readonly isReserved: (address: IpAddress) => boolean;
  }) {
    this.#cooldownMs = options.cooldownMs;
    this.#isUsable = options.isUsable;
    this.#isReserved = options.isReserved;
  }

  has(block: Cidr): boolean {
    return this.#entries.has(block);
  }

  add(block: Cidr, pool: string): void {
    if (!this.#entries.has(block)) this.#entries.set(block, { allocator: new BlockAllocator({ block, cooldownMs: this.#cooldownMs }), pool });
  }

  delete(block: Cidr): void {
    this.#entries.delete(block);
  }

  clear(): void {
    this.#entries.clear();
  }

  /** New addresses for every pod are taken from it. */
  isUsable(block: Cidr): boolean {
    return this.#isUsable(block);
  }

  /** Blocks of the family, usable or not. */
  ofVersion(version: IpVersion): readonly Cidr[] {
    return [...this.#entries.keys()].filter((block) => cidrVersion(block) === version);
  }

  blockOf(address: IpAddress): Cidr | undefined {
    for (const block of this.#entries.keys()) if (cidrContains(block, address)) return block;
    return undefined;
  }

  ownerOf(address: IpAddress): string | undefined {
    return this.#allocatorOf(address)?.handleOf(address);
  }

  /** `isUsable`: in place of the blocks for every pod. */
  take(version: IpVersion, owner: string, nowMs: number, isUsable: (block: Cidr, pool: string) => boolean = this.#isUsable): Taken {
    let retryAtMs: number | undefined;
    for (const [block, { allocator, pool }] of this.#entries) {
      if (cidrVersion(block) !== version || !isUsable(block, pool)) continue;
      const result = allocator.assign(owner, nowMs, this.#isReserved);
      if (result.kind === "assigned") return { kind: "taken", address: result.address };
      if (result.retryAtMs !== undefined) retryAtMs = Math.min(retryAtMs ?? Number.POSITIVE_INFINITY, result.retryAtMs);
    }
    return { kind: "none-free", retryAtMs };
  }

  /** Just this address, on the conditions of `take` but for its cooldown: for the pod that had it last. False when it cannot be given. */
  takeAgain(address: IpAddress, owner: string, isUsable: (block: Cidr, pool: string) => boolean = this.#isUsable): boolean {
    const block = this.blockOf(address);
    const entry = block === undefined ? undefined : this.#entries.get(block);
    if (block === undefined || entry === undefined || !isUsable(block, entry.pool) || this.#isReserved(address)) return false;
    return entry.allocator.restore(address, owner);
  }

  /** Just this address; false when it is in use, in its cooldown, or in no block. */
  takeAddress(address: IpAddress, owner: string, nowMs: number): boolean {
    return this.#allocatorOf(address)?.take(address, owner, nowMs) ?? false;
  }

  /** False when it is another's, or in no block. */
  restore(address: IpAddress, owner: string): boolean {
    return this.#allocatorOf(address)?.restore(address, owner) ?? false;
  }

  /** `atMs`: time of the release; -Infinity for an address that nobody had. */
  release(address: IpAddress, owner: string, atMs: number): void {
    this.#allocatorOf(address)?.release(address, atMs, owner);
  }

  /** A release of before a restart, in order of release. */
  restoreRelease(address: IpAddress, atMs: number): void {
    this.#allocatorOf(address)?.restoreReleased(address, atMs);
  }

  /** Free addresses of usable blocks, those in cooldown included. */
  freeCount(version: IpVersion): number {
    return this.#sum(version, ({ freeCount }) => freeCount);
  }

  /** All addresses of usable blocks. */
  capacity(version: IpVersion): number {
    return this.#sum(version, ({ freeCount, usedCount }) => freeCount + usedCount);
  }

  usedIn(block: Cidr): ReadonlyMap<IpAddress, string> {
    return new Map(this.#entries.get(block)?.allocator.entries() ?? []);
  }

  status(): readonly BlockStatus[] {
    return [...this.#entries].map(([block, { allocator, pool }]) => ({
      block,
      pool,
      used: allocator.usedCount,
      free: allocator.freeCount,
      isUsable: this.#isUsable(block),
    }));
  }

  #allocatorOf(address: IpAddress): BlockAllocator | undefined {
    const version = ipVersion(address);
    for (const [block, { allocator }] of this.#entries) if (cidrVersion(block) === version && cidrContains(block, address)) return allocator;
    return undefined;
  }

  #sum(version: IpVersion, count: (allocator: BlockAllocator) => number): number {
    let sum = 0;
    for (const [block, { allocator }] of this.#entries) if (cidrVersion(block) === version && this.#isUsable(block)) sum += count(allocator);
    return sum;
  }
}
