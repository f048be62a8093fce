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
  /** Names this holding of the block; "" from a server that does not know claims. */
  readonly claim: string;
  /** `cidr` is one address, borrowed out of this block of another node. */
  readonly of?: Cidr;
  /** Addresses of the block on loan to other nodes: not this node's to give. */
  readonly lent: readonly Lent[];
}

export interface Lent {
  readonly address: IpAddress;
  readonly id: string;
}

/** Names a block, or with `of` a borrowed address. */
export type Held = Pick<ClaimedBlock, "cidr" | "of">;

export interface ClaimClient {
  /** Another block of the family, or when there is none up to `borrow` addresses of others' blocks. Rejects with ClaimError. */
  claimBlock(request: ClaimRequest, signal?: AbortSignal): Promise<readonly ClaimedBlock[]>;
  /**
   * All blocks with an affinity to this node and all addresses that it borrowed, with what the API knows of their allocations; it may lag behind. With `takeOver`
   * those alone, as they are, under new claims, and without those that are not this node's. Rejects with ClaimError.
   */
  listBlocks(options?: { readonly signal?: AbortSignal; readonly takeOver?: readonly Held[] }): Promise<readonly ClaimedBlock[]>;
  /** Gives back what this node has forgotten for good. False: it has allocations and stays this node's. Rejects with ClaimError. */
  releaseBlock(block: Held & Pick<ClaimedBlock, "claim">, signal?: AbortSignal): Promise<boolean>;
}

export interface ClaimRequest {
  readonly ipVersion: IpVersion;
  /** Blocks of this node that have no free address, or that it is giving back. */
  readonly full: readonly Cidr[];
  /** Names pools that it must be of. */
  readonly pools?: readonly string[];
  /** Default 0: none. */
  readonly borrow?: number;
  /** The block that has this address, or just the address. */
  readonly address?: IpAddress;
}

export interface BlockReport {
  readonly block: Cidr;
  /** Grows with each change of the block on this node, also over restarts. */
  readonly generation: number;
  readonly allocations: readonly ReportedAllocation[];
  readonly claim: string;
  /** `block` is an address that is borrowed out of this block. */
  readonly of?: Cidr;
  /** All addresses of the block that this node has lent. */
  readonly lent: readonly Lent[];
  /** Ids of loans that it does not agree to. */
  readonly declined: readonly string[];
}

/** What the server says to a report: newest only. */
export interface ReportAnswer {
  readonly block: Cidr;
  /** Of `lent`: on loan to nobody any more. */
  readonly ended: readonly IpAddress[];
  /** The block has another claim: nothing was written. */
  readonly isSuperseded: boolean;
}

export interface ReportClient {
  /** Queues the newest state of a block; sent at once when connected, again after a reconnect, until the server has it. Replaces an older one. */
  report(report: BlockReport): void;
  /** Who is told the answers. */
  listen(listener: (answer: ReportAnswer) => void): void;
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
