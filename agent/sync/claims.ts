/**
 * What the address manager asks of the server: blocks, and that allocations reach the API. The sync client implements both over its connection.
 *
 * Invariant: a report is complete for its block, so that only the newest generation of each block has to arrive; the queue holds one report a block.
 */
import type { Cidr } from "../../src/net/cidr.ts";
import type { IpAddress, IpVersion } from "../../src/net/ip.ts";

/** One address in use. `handle` is "<network>.<container id>". */
export interface ReportedAllocation {
  readonly address: IpAddress;
  readonly handle: string;
  readonly namespace: string;
  readonly pod: string;
}

/** A block whose affinity to this node is confirmed. */
export interface ClaimedBlock {
  readonly cidr: Cidr;
  readonly pool: string;
  readonly allocations: readonly ReportedAllocation[];
}

export interface ClaimClient {
  /** Another block of the family; `full` are those of this node that have no free address, `pools` names pools that it must be of. Rejects with ClaimError. */
  claimBlock(
    request: { readonly ipVersion: IpVersion; readonly full: readonly Cidr[]; readonly pools?: readonly string[] },
    signal?: AbortSignal,
  ): Promise<ClaimedBlock>;
  /** All blocks with an affinity to this node, with what the API knows of their allocations. Rejects with ClaimError. */
  listBlocks(signal?: AbortSignal): Promise<readonly ClaimedBlock[]>;
}

export interface BlockReport {
  readonly block: Cidr;
  /** Grows with each change of the block on this node, also over restarts. */
  readonly generation: number;
  readonly allocations: readonly ReportedAllocation[];
}

export interface ReportClient {
  /** Queues the newest state of a block; sent at once when connected, again after a reconnect, until the server has it. Replaces an older one. */
  report(report: BlockReport): void;
}

/** no-free-block: no pool has one left. unknown-node: the API has no such node. unavailable: try again later. */
export type ClaimProblem = "no-free-block" | "unknown-node" | "unavailable";

export class ClaimError extends Error {
  readonly code: ClaimProblem;

  constructor(code: ClaimProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ClaimError";
    this.code = code;
  }
}
