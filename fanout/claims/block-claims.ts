/**
 * Blocks for nodes, by compare-and-swap on the API: BlockAffinity pending → IPAMBlock → BlockAffinity confirmed.
 *
 * Invariant: the IPAMBlock decides who has a block; an affinity is confirmed only after the block says the same. A claim that breaks off anywhere leaves a
 * pending affinity, with or without its block, and the node's next claim takes it up. Each answer gives the block a new claim, so that what the node asked
 * for in an earlier life and is still under way cannot touch it. Rejected: a lease or a lock object (the block's own version does).
 */
import { affinityName, blockAddressCount, blockName, blockOf } from "../../src/ipam/block.ts";
import { chooseFreeBlock } from "../../src/ipam/free-blocks.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { BlockAffinity, IpamBlock, IpPool } from "../../src/model/resource.ts";
import { type Cidr, cidrContains, cidrVersion, hostCidr } from "../../src/net/cidr.ts";
import type { IpAddress, IpVersion } from "../../src/net/ip.ts";
import { CallError } from "../status.ts";
import type { AddressBook } from "./address-book.ts";
import type { AddressStore } from "./address-store.ts";
import type { BorrowedAddress, Borrowing } from "./borrowing.ts";
import { tooManyConflicts } from "./holdings.ts";
import { Serial } from "./serial.ts";

export interface ClaimRequest {
  readonly node: NodeName;
  readonly version: IpVersion;
  /** Blocks that the node knows to be full. */
  readonly full: readonly Cidr[];
  /** Names of the pools that it may be of; empty: those that are for every pod. */
  readonly pools?: readonly string[];
  /** How many addresses it takes out of others' blocks when there is no block; 0: none. */
  readonly borrow?: number;
  /** The block that has this address, or just the address. */
  readonly address?: IpAddress;
}

export type Claimed =
  | { readonly kind: "block"; readonly block: IpamBlock; readonly pool: IpPool }
  | { readonly kind: "borrowed"; readonly addresses: readonly BorrowedAddress[] };

/** Conflicts in a row on one object after which the claim gives up for now. */
const MAX_TRIES = 8;
/** Blocks that turn out to be somebody's before the claim gives up for now: others claim at the same time, or the watch lags. */
const MAX_BLOCKS_TRIED = 64;

export class BlockClaims {
  readonly #book: AddressBook;
  readonly #store: AddressStore;
  readonly #serial = new Serial<string>();
  readonly #borrowing: Borrowing;
  readonly #newId: () => string;
  readonly #floatingNodeOf: (address: IpAddress) => NodeName | undefined;

  /** `newId`: never the same twice, over all servers. `floatingNodeOf`: node of the pod that the address leads to as a floating one. */
  constructor(options: {
    readonly book: AddressBook;
    readonly store: AddressStore;
    readonly borrowing: Borrowing;
    readonly newId: () => string;
    readonly floatingNodeOf?: (address: IpAddress) => NodeName | undefined;
  }) {
    this.#book = options.book;
    this.#store = options.store;
    this.#borrowing = options.borrowing;
    this.#newId = options.newId;
    this.#floatingNodeOf = options.floatingNodeOf ?? ((): undefined => undefined);
  }

  /**
   * A block of the node with room in it: one it has, one whose claim broke off, or a new one; without that, addresses of others' blocks. Throws CallError
   * "unknown-object" (the node), "no-free-block", "api-unavailable".
   */
  async claim(request: ClaimRequest): Promise<Claimed> {
    if (!this.#book.hasNode(request.node))
      throw new CallError("unknown-object", `node ${request.node} does not exist in the cluster: its Node object must be there first`);
    const pools = this.#book.poolsFor(request.node, request.version, request.pools);
    const { autoAllocateBlocks, maxBlocksPerHost, strictAffinity } = this.#book.configuration;
    const owned = this.#book.blocksOf(request.node).filter(({ cidr }) => cidrVersion(cidr) === request.version).length;
    const mayGrow = autoAllocateBlocks && owned < maxBlocksPerHost;
    if (request.address !== undefined) return await this.#claimAddress(request, request.address, { mayGrow, strictAffinity });
    for (const pool of pools) {
      const block = await this.#serial.run(pool.name, () => this.#claimIn(pool, request, mayGrow));
      if (block !== undefined) return { kind: "block", block, pool };
    }
    // At its limit of blocks a node borrows nothing either, as in Calico.
    if ((request.borrow ?? 0) > 0 && !strictAffinity && owned < maxBlocksPerHost && pools.length > 0)
      return { kind: "borrowed", addresses: await this.#borrow(request, pools) };
    if (!mayGrow)
      throw new CallError(
        "no-free-block",
        `node ${request.node} has ${owned} IPv${request.version} blocks and may have no more: ${autoAllocateBlocks ? `IPAMConfiguration default limits it to ${maxBlocksPerHost} (maxBlocksPerHost)` : "IPAMConfiguration default has autoAllocateBlocks false"}`,
        { retryAfterMs: 10_000 },
      );
    const reason =
      pools.length === 0
        ? `no enabled IPv${request.version} pool selects the node`
        : `no free block in ${pools.map(({ name, cidr }) => `${name} (${cidr})`).join(", ")}`;
    throw new CallError("no-free-block", `node ${request.node}: ${reason}; add an IPPool or free addresses`, { retryAfterMs: 10_000 });
  }

  /** The address's block when nobody has it, else the address alone. */
  async #claimAddress(
    request: ClaimRequest,
    address: IpAddress,
    { mayGrow, strictAffinity }: { readonly mayGrow: boolean; readonly strictAffinity: boolean },
  ): Promise<Claimed> {
    const { full, node } = request;
    const pool = this.#book.openPoolOf(address);
    const cidr = pool === undefined ? undefined : blockOf(pool, address);
    if (pool === undefined || cidr === undefined) throw new CallError("no-free-block", `address ${address} is in no enabled IPPool`);
    const floatsAt = this.#floatingNodeOf(address);
    if (floatsAt !== undefined) throw new CallError("no-free-block", `address ${address} is a floating address of a pod on node ${floatsAt}`);
    const holder = this.#book.blocksIn(pool, node).find((block) => cidrContains(block.cidr, address));
    if (holder === undefined || (holder.node === node && !full.includes(holder.cidr))) {
      if (holder === undefined && !mayGrow)
        throw new CallError("no-free-block", `address ${address} is in a block that nobody has, and node ${node} may have no more blocks`);
      const block = await this.#serial.run(pool.name, () => this.#complete(node, cidr));
      if (block !== undefined) return { kind: "block", block, pool };
    }
    if (holder?.node === node)
      throw new CallError("api-unavailable", `block ${holder.cidr} of address ${address} is being given back`, { retryAfterMs: 1_000 });
    if (strictAffinity)
      throw new CallError("no-free-block", `address ${address} is in a block of another node, and IPAMConfiguration default has strictAffinity true`);
    return { kind: "borrowed", addresses: await this.#borrow({ ...request, borrow: 1 }, [pool]) };
  }

  #borrow({ address, borrow = 0, full, node }: ClaimRequest, pools: readonly IpPool[]): Promise<readonly BorrowedAddress[]> {
    const known = new Set(full);
    return this.#borrowing.borrow({
      node,
      pools,
      wanted: borrow,
      known: (one) => known.has(hostCidr(one)),
      ...(address === undefined ? {} : { address }),
    });
  }

  async #claimIn(pool: IpPool, { node, version, full }: ClaimRequest, mayGrow: boolean): Promise<IpamBlock | undefined> {
    const isWanted = (cidr: Cidr): boolean => cidrVersion(cidr) === version && this.#book.poolOf(cidr)?.name === pool.name && !full.includes(cidr);
    for (const block of this.#book.blocksOf(node)) {
      if (!isWanted(block.cidr) || block.allocations.length >= blockAddressCount(block.cidr)) continue;
      const confirmed = await this.#complete(node, block.cidr);
      if (confirmed !== undefined) return confirmed;
    }
    for (const { cidr } of this.#book.pendingOf(node)) {
      if (!isWanted(cidr)) continue;
      const completed = await this.#complete(node, cidr);
      if (completed !== undefined && completed.allocations.length < blockAddressCount(cidr)) return completed;
    }
    if (!mayGrow) return undefined;
    for (let tried = 0; tried < MAX_BLOCKS_TRIED; tried++) {
      const cidr = chooseFreeBlock({ pool, node, taken: this.#book.freeBlocks(pool) });
      if (cidr === undefined) return undefined;
      const claimed = await this.#complete(node, cidr);
      if (claimed !== undefined) return claimed;
    }
    throw new CallError("api-unavailable", `node ${node}: ${MAX_BLOCKS_TRIED} blocks of pool ${pool.name} were taken by others meanwhile`, {
      retryAfterMs: 1000,
    });
  }

  /** Brings a claim to its end from wherever it is: undefined when the block is another node's (the node's affinity is then taken back). */
  async #complete(node: NodeName, cidr: Cidr): Promise<IpamBlock | undefined> {
    const affinity = await this.#ensureAffinity(node, cidr);
    if (affinity === undefined) return undefined;
    const block = await this.#ensureBlock(node, cidr);
    if (block === undefined) {
      await this.#withdraw(affinity);
      return undefined;
    }
    return (await this.#confirm(affinity)) ? block : undefined;
  }

  async #ensureAffinity(node: NodeName, cidr: Cidr): Promise<BlockAffinity | undefined> {
    const name = affinityName(node, cidr);
    const known = this.#book.findAffinity(name);
    if (known !== undefined && known.node === node && known.state === "confirmed" && !known.isDeleted) return known;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const created = await this.#store.create<"BlockAffinity">({
        kind: "BlockAffinity",
        name,
        resourceVersion: "",
        node,
        cidr,
        state: "pending",
        isDeleted: false,
      });
      if (created.kind === "written") {
        this.#book.setAffinity(name, created.value);
        return created.value;
      }
      const read = await this.#store.read("BlockAffinity", name);
      if (read.kind === "not-found") continue;
      if (read.kind === "invalid")
        throw new CallError(
          "api-unavailable",
          `BlockAffinity ${name} cannot be understood: ${read.problems.map(({ field, message }) => `${field}: ${message}`).join("; ")}`,
        );
      this.#book.setAffinity(name, read.value);
      if (read.value.node !== node || read.value.cidr !== cidr || read.value.isDeleted || read.value.state === "pendingDeletion") return undefined;
      return read.value;
    }
    throw tooManyConflicts(`BlockAffinity ${name}`);
  }

  async #ensureBlock(node: NodeName, cidr: Cidr): Promise<IpamBlock | undefined> {
    const name = blockName(cidr);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await this.#store.read("IPAMBlock", name);
      if (read.kind === "invalid")
        throw new CallError(
          "api-unavailable",
          `IPAMBlock ${name} cannot be understood: ${read.problems.map(({ field, message }) => `${field}: ${message}`).join("; ")}`,
        );
      if (read.kind === "found") {
        this.#book.setBlock(name, read.value);
        if (read.value.node !== node || read.value.isDeleted) return undefined;
        const updated = await this.#store.update<"IPAMBlock">({ ...read.value, claim: this.#newId() }, read);
        if (updated.kind !== "written") continue;
        this.#book.setBlock(name, updated.value);
        return updated.value;
      }
      const created = await this.#store.create<"IPAMBlock">({
        kind: "IPAMBlock",
        name,
        resourceVersion: "",
        cidr,
        node,
        allocations: [],
        isDeleted: false,
        claim: this.#newId(),
      });
      if (created.kind === "already-exists") continue;
      this.#book.setBlock(name, created.value);
      return created.value;
    }
    throw tooManyConflicts(`IPAMBlock ${name}`);
  }

  /** False: the affinity is gone, or somebody is taking it away. */
  async #confirm(affinity: BlockAffinity): Promise<boolean> {
    let current = affinity;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      if (current.state === "confirmed") return true;
      if (current.state === "pendingDeletion" || current.isDeleted) return false;
      const updated = await this.#store.update<"BlockAffinity">({ ...current, state: "confirmed" });
      if (updated.kind === "written") {
        this.#book.setAffinity(current.name, updated.value);
        return true;
      }
      const read = await this.#store.read("BlockAffinity", current.name);
      if (read.kind !== "found") {
        this.#book.setAffinity(current.name, undefined);
        return false;
      }
      current = read.value;
    }
    throw tooManyConflicts(`BlockAffinity ${affinity.name}`);
  }

  /** Takes back an affinity whose block another node has. Left behind it would do no harm: it is pending, and the next claim comes here again. */
  async #withdraw(affinity: BlockAffinity): Promise<void> {
    const deleted = await this.#store.delete("BlockAffinity", affinity);
    if (deleted.kind !== "conflict") this.#book.setAffinity(affinity.name, undefined);
  }
}
