/**
 * Addresses of one block on loan: what a report of the block's node, or of a borrower, makes of the block. Pure.
 *
 *   asked ── the block's node: lent ──> agreed ── the borrower gives it back, or is gone ──> ended
 *     └──── declined, or the block's node has a pod with it, or the question is withdrawn ──> ended
 *
 * Invariants: the block's node decides about an address until it has agreed, the borrower from then on until it has given it back; each writes its decision to
 * its own disk before it tells it. An id is asked once and never comes back, so what a late report says of an ended loan changes nothing.
 */
import type { NodeName } from "../model/names.ts";
import type { BlockAllocation, IpamBlock } from "../model/resource.ts";
import { compareIps, type IpAddress } from "../net/ip.ts";

/** Owner of an address on loan that no pod has. */
export function loanHandle(node: NodeName): string {
  return `sedge-loan-${node}`;
}

export function askedAllocation(loan: {
  readonly address: IpAddress;
  readonly node: NodeName;
  readonly id: string;
  readonly isAgreed: boolean;
}): BlockAllocation {
  const { address, node, id, isAgreed } = loan;
  return { address, handle: loanHandle(node), pod: undefined, node, loan: { id, claim: id, isAgreed } };
}

export interface OwnerReport {
  readonly node: NodeName;
  /** Its pods' addresses, all of them. */
  readonly allocations: readonly BlockAllocation[];
  readonly lent: ReadonlyMap<IpAddress, string>;
  /** Ids. */
  readonly declined: ReadonlySet<string>;
}

export type Merged =
  | { readonly kind: "merged"; readonly allocations: readonly BlockAllocation[]; readonly ended: readonly IpAddress[] }
  | { readonly kind: "refused"; readonly reason: string };

/** What the block should hold by the word of its own node: its pods as reported, loans as agreed or not, all else as it was. */
export function mergeOwnerReport(block: IpamBlock, { node, allocations, lent, declined }: OwnerReport): Merged {
  const own = new Set(allocations.map(({ address }) => address));
  const kept = block.allocations.flatMap((allocation): BlockAllocation[] => {
    const { address, loan, pod } = allocation;
    if (loan === undefined) return pod === undefined || (allocation.node !== undefined && allocation.node !== node) ? [allocation] : [];
    if (loan.isAgreed) return [allocation];
    if (lent.get(address) === loan.id) return [{ ...allocation, loan: { ...loan, isAgreed: true } }];
    return own.has(address) || declined.has(loan.id) ? [] : [allocation];
  });
  const holders = new Map(kept.map((allocation) => [allocation.address, allocation]));
  for (const { address } of allocations) {
    const other = holders.get(address);
    if (other !== undefined)
      return { kind: "refused", reason: `address ${address} is held by ${other.handle} of ${other.node === undefined ? "no node" : `node ${other.node}`}` };
  }
  // Of an address that is on loan under another id that was agreed, the node's own id is out of date: it stays lent.
  const ended = [...lent.keys()].filter((address) => holders.get(address)?.loan?.isAgreed !== true);
  return { kind: "merged", allocations: sorted([...kept, ...allocations]), ended };
}

/** The block with the borrower's pod at the address, or none; undefined: the address is not on loan to this life of the node. */
export function mergeLoanReport(
  block: IpamBlock,
  report: { readonly node: NodeName; readonly address: IpAddress; readonly claim: string; readonly allocation: BlockAllocation | undefined },
): readonly BlockAllocation[] | undefined {
  const { address, allocation, claim, node } = report;
  const found = block.allocations.find((one) => one.address === address);
  if (found?.loan?.isAgreed !== true || found.node !== node || found.loan.claim !== claim) return undefined;
  const after: BlockAllocation =
    allocation === undefined ? { address, handle: loanHandle(node), pod: undefined, node, loan: found.loan } : { ...allocation, loan: found.loan };
  return block.allocations.map((one) => (one === found ? after : one));
}

export function isSameAllocations(a: readonly BlockAllocation[], b: readonly BlockAllocation[]): boolean {
  if (a.length !== b.length) return false;
  const byAddress = new Map(b.map((allocation) => [allocation.address, allocation]));
  return a.every(({ address, handle, loan, node, pod }) => {
    const other = byAddress.get(address);
    return (
      other !== undefined &&
      other.handle === handle &&
      other.pod === pod &&
      other.node === node &&
      other.loan?.id === loan?.id &&
      other.loan?.claim === loan?.claim &&
      other.loan?.isAgreed === loan?.isAgreed
    );
  });
}

function sorted(allocations: readonly BlockAllocation[]): readonly BlockAllocation[] {
  return allocations.toSorted((a, b) => compareIps(a.address, b.address));
}
