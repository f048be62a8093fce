/**
 * Addresses that nodes have out of others' blocks: where every node routes them, and what a block's own node is asked to lend. Floating addresses are routed
 * the same way, in the same record.
 *
 * Invariant: costs a look at the allocations of a block that changed, and nothing else while nobody borrows. A question that is not agreed is told to the
 * block's node alone. Rejected: the addresses in NodeEntry (an older agent that does not know the field would lose the node's blocks too).
 */
import { type NodeName } from "../model/names.ts";
import { type Borrowed, blockText, type Loan, type Loans as LoansRecord } from "../model/record.ts";
import type { IpamBlock } from "../model/resource.ts";
import { type Cidr } from "../net/cidr.ts";
import { compareIps, type IpAddress } from "../net/ip.ts";
import { NO_DELTA, NO_NODES } from "./audience.ts";
import type { Ledger } from "./ledger.ts";
import { isSameValue } from "./same-value.ts";

interface BlockLoans {
  readonly cidr: Cidr;
  readonly owner: NodeName | undefined;
  readonly loans: readonly Loan[];
  /** Agreed ones, by who has them. */
  readonly borrowed: ReadonlyMap<NodeName, readonly IpAddress[]>;
}

interface Told {
  readonly record: LoansRecord;
  readonly node: NodeName;
}

export class Loans {
  readonly #nodes = new Set<NodeName>();
  readonly #blocks = new Map<string, BlockLoans>();
  readonly #blocksOfBorrower = new Map<NodeName, Set<string>>();
  readonly #dirtyBlocks = new Set<string>();
  readonly #dirtyNodes = new Set<NodeName>();
  readonly #floating = new Map<NodeName, readonly IpAddress[]>();
  readonly #borrowed = new Map<NodeName, Borrowed>();
  /** By record key. */
  readonly #told = new Map<string, Told>();
  readonly #keys = new Map<string, string>();

  setNode(name: NodeName, isThere: boolean): void {
    if (this.#nodes.has(name) === isThere) return;
    if (isThere) this.#nodes.add(name);
    else this.#nodes.delete(name);
    this.#dirtyNodes.add(name);
  }

  /** All that are floating there; empty: none. */
  setFloating(node: NodeName, addresses: readonly IpAddress[]): void {
    if (addresses.length === 0) this.#floating.delete(node);
    else this.#floating.set(node, addresses);
    this.#dirtyNodes.add(node);
  }

  setBlock(name: string, block: IpamBlock | undefined): void {
    const before = this.#blocks.get(name);
    const after = block === undefined || block.isDeleted ? undefined : loansOf(block);
    if (before === undefined && after === undefined) return;
    for (const node of before?.borrowed.keys() ?? []) {
      this.#blocksOfBorrower.get(node)?.delete(name);
      this.#dirtyNodes.add(node);
    }
    if (after === undefined) this.#blocks.delete(name);
    else this.#blocks.set(name, after);
    for (const node of after?.borrowed.keys() ?? []) {
      const blocks = this.#blocksOfBorrower.get(node) ?? new Set();
      this.#blocksOfBorrower.set(node, blocks.add(name));
      this.#dirtyNodes.add(node);
    }
    this.#dirtyBlocks.add(name);
  }

  commit(ledger: Ledger): void {
    for (const node of this.#dirtyNodes) this.#commitBorrower(node, ledger);
    // Two objects of one prefix share a record: only what is left at the end is put.
    const keys = new Set<string>();
    for (const name of this.#dirtyBlocks) {
      const before = this.#keys.get(name);
      if (before !== undefined) keys.add(before);
      const block = this.#blocks.get(name);
      if (block === undefined) this.#keys.delete(name);
      else {
        const key = `loans/${blockText(block.cidr)}`;
        this.#keys.set(name, key);
        keys.add(key);
      }
    }
    for (const key of keys) this.#commitBlock(key, ledger);
    this.#dirtyNodes.clear();
    this.#dirtyBlocks.clear();
  }

  #commitBorrower(node: NodeName, ledger: Ledger): void {
    const before = this.#borrowed.get(node);
    const blocks = this.#blocksOfBorrower.get(node);
    if (blocks?.size === 0) this.#blocksOfBorrower.delete(node);
    const borrowed = [...(blocks ?? [])].flatMap((name) => this.#blocks.get(name)?.borrowed.get(node) ?? []);
    const addresses = [...new Set([...borrowed, ...(this.#floating.get(node) ?? [])])].sort(compareIps);
    if (addresses.length === 0 || !this.#nodes.has(node)) {
      if (this.#borrowed.delete(node)) ledger.remove(`borrowed/${node}`, NO_NODES);
      return;
    }
    const record: Borrowed = { kind: "borrowed", node, addresses };
    if (isSameValue(before, record)) return;
    this.#borrowed.set(node, record);
    ledger.put(`borrowed/${node}`, record, NO_DELTA);
  }

  #commitBlock(key: string, ledger: Ledger): void {
    const before = this.#told.get(key);
    const after = this.#wanted(key);
    if (after === undefined) {
      if (this.#told.delete(key) && before !== undefined) ledger.remove(key, [before.node]);
      return;
    }
    if (before?.node === after.node && isSameValue(before.record, after.record)) return;
    this.#told.set(key, after);
    const delta = before?.node === after.node ? NO_DELTA : { entered: [after.node], left: before === undefined ? NO_NODES : [before.node] };
    ledger.put(key, after.record, delta);
  }

  #wanted(key: string): Told | undefined {
    const names = [...this.#keys].flatMap(([name, other]) => (other === key ? name : [])).sort();
    for (const name of names) {
      const block = this.#blocks.get(name);
      if (block?.owner !== undefined) return { node: block.owner, record: { kind: "loans", block: block.cidr, loans: block.loans } };
    }
    return undefined;
  }
}

/** undefined: none. */
function loansOf(block: IpamBlock): BlockLoans | undefined {
  const lent = block.allocations.filter(({ loan }) => loan !== undefined);
  if (lent.length === 0) return undefined;
  const borrowed = new Map<NodeName, IpAddress[]>();
  for (const { address, loan, node } of lent) {
    if (loan?.isAgreed !== true || node === undefined) continue;
    const addresses = borrowed.get(node);
    if (addresses === undefined) borrowed.set(node, [address]);
    else addresses.push(address);
  }
  const loans = lent.flatMap(({ address, loan }) => (loan === undefined ? [] : { address, id: loan.id, isAgreed: loan.isAgreed }));
  return { cidr: block.cidr, owner: block.node, loans: loans.sort((a, b) => compareIps(a.address, b.address)), borrowed };
}
