/**
 * Addresses for a node out of others' blocks, when no block is left.
 *
 *   1 a free address of the block is marked as asked for, by compare-and-swap
 *   2 the block's node is told by its Loans record; it puts the address away on its own disk and agrees in its next report, or declines
 *   3 the report marks the loan as agreed; only then is the address the borrower's, and routed to it
 *
 * Invariant: before 3 the borrower has nothing, from 2 on the block's node gives the address to nobody; what breaks off leaves at worst an address that
 * nobody uses, which the next call of the borrower finds and takes up, or its node gives back. Rejected: writing the borrower's allocation at once, as Calico
 * does (a block's node allocates from memory, so it could give the same address in the same moment); a direct call from server to node (it may be at another replica).
 * A block that belongs to no node is nobody's memory: its addresses are lent at once.
 */
import { blockAddressCount, blockName } from "../../src/ipam/block.ts";
import { askedAllocation } from "../../src/ipam/loans.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { BlockAllocation, IpamBlock, IpPool } from "../../src/model/resource.ts";
import { type Cidr, cidrAddressAt, cidrContains } from "../../src/net/cidr.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { CallError } from "../status.ts";
import type { AddressBook } from "./address-book.ts";
import type { AddressStore } from "./address-store.ts";

/** An address that the node has from now on. */
export interface BorrowedAddress {
  readonly address: IpAddress;
  /** The block that it is of. */
  readonly of: Cidr;
  readonly pool: IpPool;
  readonly claim: string;
}

export interface BorrowRequest {
  readonly node: NodeName;
  readonly pools: readonly IpPool[];
  readonly wanted: number;
  /** Addresses that the node has on loan already. */
  readonly known: (address: IpAddress) => boolean;
  /** Just this one. */
  readonly address?: IpAddress;
}

export interface BorrowingOptions {
  readonly book: AddressBook;
  readonly store: AddressStore;
  readonly clock: Clock;
  /** Never the same twice, over all servers. */
  readonly newId: () => string;
  /** Node of the pod that the address leads to as a floating one: it is lent to nobody. Absent: none is. */
  readonly floatingNodeOf?: (address: IpAddress) => NodeName | undefined;
  /** How long nodes are waited for in one call (ms). Default 4 s, below the agents' own time for a call. */
  readonly waitMs?: number;
}

interface Question {
  readonly id: string;
  readonly address: IpAddress;
  readonly block: string;
  readonly owner: NodeName | undefined;
  readonly pool: IpPool;
}

/** Most addresses in one call. */
const MAX_WANTED = 16;
const MAX_TRIES = 8;
const DEFAULT_WAIT_MS = 4_000;
/** A node that did not answer is asked last for this long (ms). */
const SILENT_MS = 30_000;
const MAX_SILENT = 1_000;

export class Borrowing {
  readonly #options: BorrowingOptions;
  readonly #silent = new Map<NodeName, number>();

  constructor(options: BorrowingOptions) {
    this.#options = options;
  }

  /** At least one address. Throws CallError "no-free-block" (none can be had), "api-unavailable" (who has some did not answer). */
  async borrow(request: BorrowRequest): Promise<readonly BorrowedAddress[]> {
    const { clock, waitMs = DEFAULT_WAIT_MS } = this.#options;
    const deadline = clock.now() + waitMs;
    const wanted = Math.min(MAX_WANTED, Math.max(1, request.wanted));
    const tried = new Set<IpAddress>();
    const { found, open } = await this.#takeUp(request, wanted);
    const silent = new Set<NodeName>();
    while (found.length < wanted && (found.length === 0 || tried.size === 0)) {
      const asked = open.length > 0 ? open.splice(0) : await this.#ask(request, wanted - found.length, tried);
      if (asked.length === 0) break;
      for (const { address } of asked) tried.add(address);
      const answers = await Promise.all(asked.map((question) => this.#answer(question, request.node, deadline)));
      for (const [i, answer] of answers.entries()) {
        if (answer.kind === "lent") found.push(answer.borrowed);
        const owner = asked[i]?.owner;
        if (answer.kind === "silent" && owner !== undefined) silent.add(owner);
      }
      if (clock.now() >= deadline) break;
    }
    this.#noteSilent(silent);
    if (found.length > 0) return found;
    const { address, node, pools } = request;
    if (silent.size > 0)
      throw new CallError("api-unavailable", `node ${node}: ${[...silent].join(", ")} was asked for an address and has not answered yet`, {
        retryAfterMs: 1_000,
      });
    if (address !== undefined) throw new CallError("no-free-block", `node ${node}: address ${address} is in use, or its node does not give it away now`);
    throw new CallError(
      "no-free-block",
      `node ${node}: no free block in ${pools.map(({ name, cidr }) => `${name} (${cidr})`).join(", ")}, and no other node has a free address to lend; add an IPPool or free addresses`,
      { retryAfterMs: 10_000 },
    );
  }

  /** What an earlier call of the node began: what was lent and nobody told it, and questions that are open. */
  async #takeUp(request: BorrowRequest, wanted: number): Promise<{ readonly found: BorrowedAddress[]; readonly open: Question[] }> {
    const { book } = this.#options;
    const found: BorrowedAddress[] = [];
    const open: Question[] = [];
    for (const block of book.lendersOf(request.node)) {
      const pool = request.pools.find((one) => one.name === book.poolOf(block.cidr)?.name);
      if (pool === undefined) continue;
      for (const { address, loan, node } of block.allocations) {
        if (found.length >= wanted || loan === undefined || node !== request.node || request.known(address)) continue;
        if (request.address !== undefined && address !== request.address) continue;
        if (!loan.isAgreed) open.push({ id: loan.id, address, block: block.name, owner: block.node, pool });
        const renewed = loan.isAgreed ? await this.renew({ node, of: block.cidr, address }) : undefined;
        if (renewed !== undefined) found.push({ address, of: block.cidr, pool, claim: renewed.claim });
      }
    }
    return { found, open };
  }

  /** Marks up to `count` addresses as asked for. */
  async #ask(request: BorrowRequest, count: number, tried: ReadonlySet<IpAddress>): Promise<readonly Question[]> {
    const { book, floatingNodeOf } = this.#options;
    const questions: Question[] = [];
    const candidates = request.pools.flatMap((pool) => book.blocksIn(pool, request.node).map((block) => ({ pool, block })));
    const isSilent = ({ block }: { readonly block: IpamBlock }): boolean => block.node !== undefined && this.#isSilent(block.node);
    for (const { pool, block } of [...candidates.filter((one) => !isSilent(one)), ...candidates.filter(isSilent)]) {
      if (questions.length >= count) break;
      const isPossible = (address: IpAddress): boolean =>
        !tried.has(address) &&
        floatingNodeOf?.(address) === undefined &&
        (request.address === undefined ? !book.isReserved(address) : request.address === address);
      if (!this.#canLend(block, request.node) || freeAddresses(block, 1, isPossible).length === 0) continue;
      questions.push(...(await this.#askIn(block.name, { node: request.node, pool, count: count - questions.length, isPossible })));
    }
    return questions;
  }

  #canLend(block: IpamBlock, borrower: NodeName): boolean {
    return !block.isDeleted && block.node !== borrower && (block.node === undefined || this.#options.book.hasNode(block.node));
  }

  async #askIn(
    name: string,
    options: { readonly node: NodeName; readonly pool: IpPool; readonly count: number; readonly isPossible: (address: IpAddress) => boolean },
  ): Promise<readonly Question[]> {
    const { count, isPossible, node, pool } = options;
    const { book, newId, store } = this.#options;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await store.read("IPAMBlock", name);
      if (read.kind !== "found" || !this.#canLend(read.value, node)) return [];
      const owner = read.value.node;
      const asked = freeAddresses(read.value, count, isPossible).map((address) => ({ address, id: newId(), node, isAgreed: owner === undefined }));
      if (asked.length === 0) return [];
      const allocations = [...read.value.allocations, ...asked.map(askedAllocation)];
      const updated = await store.update<"IPAMBlock">({ ...read.value, allocations }, read);
      if (updated.kind !== "written") continue;
      book.setBlock(name, updated.value);
      return asked.map(({ address, id }) => ({ address, id, block: name, owner, pool }));
    }
    return [];
  }

  /** Waits for the block's node. What is not answered in time is withdrawn, unless it is agreed to in that moment. */
  async #answer(
    question: Question,
    node: NodeName,
    deadline: number,
  ): Promise<{ readonly kind: "lent"; readonly borrowed: BorrowedAddress } | { readonly kind: "declined" | "silent" }> {
    const { book, clock, store } = this.#options;
    const isOpen = (): boolean => loanOf(book.findBlock(question.block), question)?.loan?.isAgreed === false;
    while (isOpen() && clock.now() < deadline) await this.#nextChange(question.block, deadline - clock.now());
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await store.read("IPAMBlock", question.block);
      if (read.kind !== "found") return { kind: "declined" };
      book.setBlock(question.block, read.value);
      const allocation = loanOf(read.value, question);
      if (allocation?.loan === undefined || allocation.node !== node) return { kind: "declined" };
      if (allocation.loan.isAgreed)
        return { kind: "lent", borrowed: { address: question.address, of: read.value.cidr, pool: question.pool, claim: allocation.loan.claim } };
      const allocations = read.value.allocations.filter((one) => one !== allocation);
      const updated = await store.update<"IPAMBlock">({ ...read.value, allocations }, read);
      if (updated.kind !== "written") continue;
      book.setBlock(question.block, updated.value);
      return { kind: "silent" };
    }
    return { kind: "silent" };
  }

  /** Gives an agreed loan a new claim: what an earlier life of the borrower asked for is void. undefined: it is not on loan to the node. */
  async renew(loan: {
    readonly node: NodeName;
    readonly of: Cidr;
    readonly address: IpAddress;
  }): Promise<{ readonly claim: string; readonly allocation: BlockAllocation } | undefined> {
    const claim = this.#options.newId();
    const changed = await this.#change(loan, (allocation) =>
      allocation.loan === undefined ? [allocation] : [{ ...allocation, loan: { ...allocation.loan, claim } }],
    );
    return changed === undefined ? undefined : { claim, allocation: changed };
  }

  /** Ends the loan; one that is not there, or has another claim by now, is none of the caller's. */
  async giveBack(loan: { readonly node: NodeName; readonly of: Cidr; readonly address: IpAddress; readonly claim: string }): Promise<void> {
    await this.#change(loan, ({ loan: found, ...allocation }) => (found !== undefined && found.claim !== loan.claim ? [{ ...allocation, loan: found }] : []));
  }

  /** Compare-and-swap of an agreed loan of the node; the allocation as it was. Throws CallError "api-unavailable". */
  async #change(
    { address, node, of }: { readonly node: NodeName; readonly of: Cidr; readonly address: IpAddress },
    change: (allocation: BlockAllocation) => readonly BlockAllocation[],
  ): Promise<BlockAllocation | undefined> {
    const { book, store } = this.#options;
    const name = blockName(of);
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const read = await store.read("IPAMBlock", name);
      if (read.kind === "not-found") return undefined;
      if (read.kind === "invalid") throw new CallError("api-unavailable", `IPAMBlock ${name} cannot be understood: it is not changed`);
      const found = read.value.allocations.find((one) => one.address === address);
      if (found?.loan?.isAgreed !== true || found.node !== node) return undefined;
      const after = change(found);
      if (after.length === 1 && after[0]?.loan?.claim === found.loan.claim) return found;
      const updated = await store.update<"IPAMBlock">(
        { ...read.value, allocations: read.value.allocations.flatMap((one) => (one === found ? after : one)) },
        read,
      );
      if (updated.kind !== "written") continue;
      book.setBlock(name, updated.value);
      return found;
    }
    throw new CallError("api-unavailable", `IPAMBlock ${name} changes faster than it can be written`, { retryAfterMs: 1_000 });
  }

  async #nextChange(block: string, ms: number): Promise<void> {
    const { book, clock } = this.#options;
    const stop = new AbortController();
    const unwatch = book.watchBlock(block, () => stop.abort());
    await clock.sleep(ms, stop.signal);
    unwatch();
  }

  #isSilent(node: NodeName): boolean {
    return (this.#silent.get(node) ?? 0) > this.#options.clock.now();
  }

  #noteSilent(nodes: ReadonlySet<NodeName>): void {
    if (this.#silent.size + nodes.size > MAX_SILENT) this.#silent.clear();
    for (const node of nodes) this.#silent.set(node, this.#options.clock.now() + SILENT_MS);
  }
}

/** Free addresses, from the last: the block's own node begins with the first. */
function freeAddresses(block: IpamBlock, count: number, isPossible: (address: IpAddress) => boolean): readonly IpAddress[] {
  const used = new Set(block.allocations.map(({ address }) => address));
  const found: IpAddress[] = [];
  for (let ordinal = blockAddressCount(block.cidr) - 1; ordinal >= 0 && found.length < count; ordinal--) {
    const address = cidrAddressAt(block.cidr, ordinal);
    if (!used.has(address) && cidrContains(block.cidr, address) && isPossible(address)) found.push(address);
  }
  return found;
}

function loanOf(block: IpamBlock | undefined, { address, id }: Question): BlockAllocation | undefined {
  return block?.allocations.find((allocation) => allocation.address === address && allocation.loan?.id === id);
}
