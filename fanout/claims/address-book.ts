/**
 * Pools, blocks, affinities and nodes as the source and our own writes tell them: what block claims choose from, without a list call.
 *
 * It may lag behind the API. That is safe: every write is a compare-and-swap, and a conflict is answered by reading the object itself.
 */

import { blockCount, blockIndexOf, startIndex } from "../../src/ipam/block.ts";
import { FreeBlocks } from "../../src/ipam/free-blocks.ts";
import { UsablePools } from "../../src/ipam/pool-overlap.ts";
import { isClosed, isSelective } from "../../src/ipam/pool-selection.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NodeName } from "../../src/model/names.ts";
import { DEFAULT_MAX_BLOCKS_PER_HOST, IPAM_CONFIGURATION_NAME } from "../../src/model/parse-ipam-configuration.ts";
import type { BlockAffinity, IpamBlock, IpamConfiguration, IpPool, Labels } from "../../src/model/resource.ts";
import { type Cidr, cidrAddress, cidrContains, cidrContainsCidr, cidrLength, cidrVersion } from "../../src/net/cidr.ts";
import type { IpAddress, IpVersion } from "../../src/net/ip.ts";
import { parseSelector } from "../../src/selector/parse-selector.ts";

function borrowersOf(block: IpamBlock | undefined): ReadonlySet<NodeName> {
  return new Set(block?.allocations.flatMap(({ loan, node }) => (loan === undefined || node === undefined ? [] : node)));
}

const DEFAULT_CONFIGURATION = { strictAffinity: false, maxBlocksPerHost: DEFAULT_MAX_BLOCKS_PER_HOST, autoAllocateBlocks: true };

export class AddressBook {
  readonly #nodes = new Map<NodeName, Labels>();
  readonly #pools = new Map<string, IpPool>();
  readonly #usable = new UsablePools();
  readonly #free = new Map<string, FreeBlocks>();
  readonly #blocks = new Map<string, IpamBlock>();
  readonly #affinities = new Map<string, BlockAffinity>();
  readonly #reservations = new Map<string, readonly Cidr[]>();
  #configuration: IpamConfiguration | undefined;
  readonly #namesByNode = new Map<NodeName, Set<string>>();
  /** Names of blocks out of which a node has, or asks for, addresses. */
  readonly #loansByNode = new Map<NodeName, Set<string>>();
  readonly #watchers = new Map<string, Set<() => void>>();

  apply(event: ClusterEvent): void {
    if (event.kind === "upsert") {
      const { resource } = event;
      if (resource.kind === "Node") this.#nodes.set(resource.name, resource.labels);
      else if (resource.kind === "IPPool") this.#setPool(resource.name, resource);
      else if (resource.kind === "IPReservation") this.#setReservation(resource.name, resource.reservedCidrs);
      else if (resource.kind === "IPAMConfiguration") this.#setConfiguration(resource.name, resource);
      else if (resource.kind === "IPAMBlock") this.setBlock(resource.name, resource);
      else if (resource.kind === "BlockAffinity") this.setAffinity(resource.name, resource);
    } else if (event.kind === "delete") {
      const { kind, name } = event.key;
      if (kind === "Node") this.#nodes.delete(name as NodeName);
      else if (kind === "IPPool") this.#setPool(name, undefined);
      else if (kind === "IPReservation") this.#setReservation(name, undefined);
      else if (kind === "IPAMConfiguration") this.#setConfiguration(name, undefined);
      else if (kind === "IPAMBlock") this.setBlock(name, undefined);
      else if (kind === "BlockAffinity") this.setAffinity(name, undefined);
    }
  }

  hasNode(node: NodeName): boolean {
    return this.#nodes.has(node);
  }

  setBlock(name: string, block: IpamBlock | undefined): void {
    const before = this.#blocks.get(name);
    if (block === undefined) this.#blocks.delete(name);
    else this.#blocks.set(name, block);
    this.#index(name, before?.node, block?.node);
    this.#indexLoans(name, before, block);
    this.#retake(before?.cidr, block?.cidr);
    for (const wake of this.#watchers.get(name) ?? []) wake();
  }

  /** Calls `wake` at each change of the block's object, until the returned function is called. */
  watchBlock(name: string, wake: () => void): () => void {
    const watchers = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, watchers.add(wake));
    return () => {
      watchers.delete(wake);
      if (watchers.size === 0) this.#watchers.delete(name);
    };
  }

  setAffinity(name: string, affinity: BlockAffinity | undefined): void {
    const before = this.#affinities.get(name);
    if (affinity === undefined) this.#affinities.delete(name);
    else this.#affinities.set(name, affinity);
    this.#retake(before?.cidr, affinity?.cidr);
  }

  /** Blocks that belong to the node, sorted by name. */
  blocksOf(node: NodeName): IpamBlock[] {
    const names = [...(this.#namesByNode.get(node) ?? [])].sort();
    return names.flatMap((name) => this.#blocks.get(name) ?? []).filter((block) => block.node === node && !block.isDeleted);
  }

  /** Blocks out of which the node has addresses, or asks for them, sorted by name. */
  lendersOf(node: NodeName): IpamBlock[] {
    return [...(this.#loansByNode.get(node) ?? [])].sort().flatMap((name) => this.#blocks.get(name) ?? []);
  }

  findBlock(name: string): IpamBlock | undefined {
    return this.#blocks.get(name);
  }

  /** Blocks of the pool in the order in which the node looks for a free one. */
  blocksIn(pool: IpPool, node: NodeName): IpamBlock[] {
    const start = startIndex(pool, node);
    const count = blockCount(pool);
    const placed = [...this.#blocks.values()].flatMap((block) => {
      const index = cidrContainsCidr(pool.cidr, block.cidr) ? blockIndexOf(pool, cidrAddress(block.cidr)) : undefined;
      return index === undefined ? [] : { block, place: (index - start + count) % count };
    });
    return placed.sort((a, b) => (a.place < b.place ? -1 : 1)).map(({ block }) => block);
  }

  isReserved(address: IpAddress): boolean {
    for (const reserved of this.#reservations.values()) if (reserved.some((cidr) => cidrContains(cidr, address))) return true;
    return false;
  }

  /** The pool that the address is of, if anyone may have it. */
  openPoolOf(address: IpAddress): IpPool | undefined {
    return [...this.#pools.values()].find((pool) => !isClosed(pool) && cidrContains(pool.cidr, address));
  }

  /** Affinities of the node that are not confirmed: a claim that broke off. */
  pendingOf(node: NodeName): BlockAffinity[] {
    return [...this.#affinities.values()].filter((affinity) => affinity.node === node && affinity.state === "pending" && !affinity.isDeleted);
  }

  findAffinity(name: string): BlockAffinity | undefined {
    return this.#affinities.get(name);
  }

  poolOf(block: Cidr): IpPool | undefined {
    const pools = [...this.#pools.values()].filter((pool) => cidrContainsCidr(pool.cidr, block));
    // Of two that overlap one is closed.
    return pools.find((pool) => !pool.disabled) ?? pools[0];
  }

  /**
   * Pools that the node may take new addresses from: those that are named, in that order, whatever they select; without names those for every pod, sorted
   * by name.
   */
  poolsFor(node: NodeName, version: IpVersion, names: readonly string[] = []): IpPool[] {
    const candidates =
      names.length > 0
        ? names.flatMap((name) => this.#pools.get(name) ?? []).filter((pool) => !isClosed(pool))
        : [...this.#pools.values()]
            .filter((pool) => !pool.disabled && !isSelective(pool) && this.#selects(pool, node))
            .sort((a, b) => (a.name < b.name ? -1 : 1));
    return candidates.filter((pool) => cidrVersion(pool.cidr) === version);
  }

  /** IPAMConfiguration "default", or what holds without it. */
  get configuration(): Pick<IpamConfiguration, "strictAffinity" | "maxBlocksPerHost" | "autoAllocateBlocks"> {
    return this.#configuration ?? DEFAULT_CONFIGURATION;
  }

  /** Blocks of the pool that nobody has. */
  freeBlocks(pool: IpPool): FreeBlocks {
    let free = this.#free.get(pool.name);
    if (free === undefined) {
      free = new FreeBlocks(pool, [...this.#takenPrefixes()]);
      this.#free.set(pool.name, free);
    }
    return free;
  }

  /** Blocks that are reserved as a whole give nobody anything: nobody claims them. */
  *#takenPrefixes(): Generator<Cidr> {
    const seen = new Set<Cidr>();
    for (const reserved of this.#reservations.values())
      yield* reserved.filter((cidr) => [...this.#pools.values()].some((pool) => cidrContainsCidr(pool.cidr, cidr) && cidrLength(cidr) <= pool.blockSize));
    for (const { cidr } of [...this.#blocks.values(), ...this.#affinities.values()]) if (!seen.has(cidr)) yield (seen.add(cidr), cidr);
  }

  #selects(pool: IpPool, node: NodeName): boolean {
    const labels = this.#nodes.get(node) ?? {};
    return parseSelector(pool.nodeSelector).matches((key) => labels[key]);
  }

  #setReservation(name: string, reserved: readonly Cidr[] | undefined): void {
    if (reserved === undefined) this.#reservations.delete(name);
    else this.#reservations.set(name, reserved);
    this.#free.clear();
  }

  #setConfiguration(name: string, configuration: IpamConfiguration | undefined): void {
    if (name === IPAM_CONFIGURATION_NAME) this.#configuration = configuration;
  }

  #setPool(name: string, pool: IpPool | undefined): void {
    for (const [changed, usable] of this.#usable.set(name, pool)) {
      if (usable === undefined) this.#pools.delete(changed);
      else this.#pools.set(changed, usable);
      this.#free.delete(changed);
    }
  }

  #index(name: string, before: NodeName | undefined, after: NodeName | undefined): void {
    if (before === after) return;
    if (before !== undefined) this.#namesByNode.get(before)?.delete(name);
    if (after === undefined) return;
    const names = this.#namesByNode.get(after);
    if (names === undefined) this.#namesByNode.set(after, new Set([name]));
    else names.add(name);
  }

  #indexLoans(name: string, before: IpamBlock | undefined, after: IpamBlock | undefined): void {
    for (const node of borrowersOf(before)) {
      const names = this.#loansByNode.get(node);
      if (names?.delete(name) === true && names.size === 0) this.#loansByNode.delete(node);
    }
    for (const node of borrowersOf(after)) this.#loansByNode.set(node, (this.#loansByNode.get(node) ?? new Set()).add(name));
  }

  /** A block and its affinity take the same prefix; it is free when neither is left. */
  #retake(before: Cidr | undefined, after: Cidr | undefined): void {
    if (before === after) return;
    for (const free of this.#free.values()) {
      if (after !== undefined) free.add(after);
      if (before !== undefined && !this.#isTaken(before)) free.delete(before);
    }
  }

  #isTaken(cidr: Cidr): boolean {
    for (const block of this.#blocks.values()) if (block.cidr === cidr) return true;
    for (const affinity of this.#affinities.values()) if (affinity.cidr === cidr) return true;
    return false;
  }
}
