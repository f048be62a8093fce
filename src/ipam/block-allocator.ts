/**
 * Addresses of one block: who has which, and which comes next.
 *
 * Invariant: each address that is not reserved is either assigned to one handle or in the queue of free ones, never both; the queue is in order of release, so that the
 * address longest unused comes first, and an address in cooldown has only such behind it.
 * Time is given by the caller (ms of any clock that does not run backwards).
 */
import { type Cidr, cidrAddressAt, cidrOrdinal } from "../net/cidr.ts";
import type { IpAddress } from "../net/ip.ts";
import { blockAddressCount } from "./block.ts";

export interface BlockAllocatorOptions {
  readonly block: Cidr;
  /** A released address is not given again before this time has passed. A function is asked each time. */
  readonly cooldownMs: number | (() => number);
  /** Addresses never given from this block. */
  readonly reserved?: readonly IpAddress[];
}

export type Assignment =
  | { readonly kind: "assigned"; readonly address: IpAddress }
  /** `retryAtMs`: when the next address leaves its cooldown; undefined when all are in use. */
  | { readonly kind: "none-free"; readonly retryAtMs: number | undefined };

export class BlockAllocator {
  readonly block: Cidr;
  readonly #cooldownMs: () => number;
  readonly #reserved: ReadonlySet<IpAddress>;
  readonly #handles = new Map<IpAddress, string>();
  readonly #addresses = new Map<string, IpAddress>();
  /** Free addresses with the time of their release, in order of release; never used ones first. */
  readonly #free = new Map<IpAddress, number>();

  constructor({ block, cooldownMs, reserved = [] }: BlockAllocatorOptions) {
    this.block = block;
    this.#cooldownMs = typeof cooldownMs === "number" ? () => cooldownMs : cooldownMs;
    this.#reserved = new Set(reserved);
    for (let ordinal = 0; ordinal < blockAddressCount(block); ordinal++) {
      const address = cidrAddressAt(block, ordinal);
      if (!this.#reserved.has(address)) this.#free.set(address, Number.NEGATIVE_INFINITY);
    }
  }

  get usedCount(): number {
    return this.#handles.size;
  }

  /** Free addresses, those in cooldown included. */
  get freeCount(): number {
    return this.#free.size;
  }

  /** What is in use, in no particular order. */
  entries(): IterableIterator<[IpAddress, string]> {
    return this.#handles.entries();
  }

  handleOf(address: IpAddress): string | undefined {
    return this.#handles.get(address);
  }

  addressOf(handle: string): IpAddress | undefined {
    return this.#addresses.get(handle);
  }

  /** Gives the handle an address that is not to be skipped; a handle that has one gets the same again. */
  assign(handle: string, nowMs: number, isSkipped: (address: IpAddress) => boolean = () => false): Assignment {
    const own = this.#addresses.get(handle);
    if (own !== undefined) return { kind: "assigned", address: own };
    const cooldownMs = this.#cooldownMs();
    for (const [address, releasedAtMs] of this.#free) {
      if (isSkipped(address)) continue;
      if (releasedAtMs + cooldownMs > nowMs) return { kind: "none-free", retryAtMs: releasedAtMs + cooldownMs };
      this.#take(address, handle);
      return { kind: "assigned", address };
    }
    return { kind: "none-free", retryAtMs: undefined };
  }

  /** Gives the handle just this address, if it is free and its cooldown is over; reserved ones too. */
  take(address: IpAddress, handle: string, nowMs: number): boolean {
    if (cidrOrdinal(this.block, address) === undefined || this.#handles.has(address) || this.#addresses.has(handle)) return false;
    const releasedAtMs = this.#free.get(address) ?? Number.NEGATIVE_INFINITY;
    if (releasedAtMs + this.#cooldownMs() > nowMs) return false;
    this.#take(address, handle);
    return true;
  }

  /** Records an assignment that was made before (journal, API). False when the address is not of this block, or another handle has it, or the handle another address. */
  restore(address: IpAddress, handle: string): boolean {
    if (cidrOrdinal(this.block, address) === undefined) return false;
    if (this.#handles.get(address) === handle) return true;
    if (this.#handles.has(address) || this.#addresses.has(handle)) return false;
    this.#take(address, handle);
    return true;
  }

  /**
   * Records a release that was made before, so that the queue and the cooldown outlive a restart; call in order of release, times of the same clock.
   * False when the address is in use, reserved or not of this block.
   */
  restoreReleased(address: IpAddress, releasedAtMs: number): boolean {
    if (!this.#free.delete(address)) return false;
    this.#free.set(address, releasedAtMs);
    return true;
  }

  /** Puts the address at the end of the queue. With a handle: only when that handle has it, so that a late release does not free another's. */
  release(address: IpAddress, nowMs: number, handle?: string): boolean {
    const holder = this.#handles.get(address);
    if (holder === undefined || (handle !== undefined && handle !== holder)) return false;
    this.#handles.delete(address);
    this.#addresses.delete(holder);
    if (!this.#reserved.has(address)) this.#free.set(address, nowMs);
    return true;
  }

  #take(address: IpAddress, handle: string): void {
    this.#free.delete(address);
    this.#handles.set(address, handle);
    this.#addresses.set(handle, address);
  }
}
