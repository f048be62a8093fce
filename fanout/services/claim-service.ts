/** The unary calls of SyncService: blocks for the node that the certificate names. */
import { type ServerUnaryCall, type sendUnaryData, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { DatastoreError } from "../../src/datastore/api-error.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { BlockAllocation, IpamBlock } from "../../src/model/resource.ts";
import { type Cidr, cidrAddress, hostCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipBytes, ipFromBytes } from "../../src/net/ip.ts";
import type {
  Allocation,
  Block,
  ClaimBlockRequest,
  ClaimBlockResponse,
  ListBlocksRequest,
  ListBlocksResponse,
  ReleaseBlockRequest,
  ReleaseBlockResponse,
} from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire, prefixToWire } from "../../src/wire/prefix-codec.ts";
import type { AddressBook } from "../claims/address-book.ts";
import type { BlockClaims } from "../claims/block-claims.ts";
import type { Borrowing } from "../claims/borrowing.ts";
import type { Holdings } from "../claims/holdings.ts";
import type { IdentityOfCall } from "../delivery/grpc-delivery.ts";
import type { Identity } from "../identity.ts";
import { CallError, type CallProblem, statusOf } from "../status.ts";

export interface ClaimServiceOptions {
  readonly book: AddressBook;
  readonly claims: BlockClaims;
  readonly borrowing: Borrowing;
  readonly holdings: Holdings;
  /** Throws CallError("wrong-identity") unless the caller may act for the node. */
  readonly requireNode: (identity: Identity, node: string) => void;
  /** Why nothing can be answered now, undefined when it can. */
  readonly refusal: () => CallError | undefined;
  readonly onClaim: (result: "given" | CallProblem) => void;
  /** An error that is ours. */
  readonly onError: (error: unknown) => void;
}

export function claimService(options: ClaimServiceOptions): (identityOf: IdentityOfCall) => UntypedServiceImplementation {
  return (identityOf) => ({
    claimBlock: (call: ServerUnaryCall<ClaimBlockRequest, ClaimBlockResponse>, callback: sendUnaryData<ClaimBlockResponse>) => {
      answer(callback, options, async () => {
        options.requireNode(identityOf(call), call.request.node);
        const response = await claim(call.request, options);
        options.onClaim("given");
        return response;
      }).catch(options.onError);
    },
    listBlocks: (call: ServerUnaryCall<ListBlocksRequest, ListBlocksResponse>, callback: sendUnaryData<ListBlocksResponse>) => {
      answer(callback, { ...options, onClaim: () => undefined }, async () => {
        options.requireNode(identityOf(call), call.request.node);
        throwIf(options.refusal());
        return { blocks: await list(call.request, options) };
      }).catch(options.onError);
    },
    releaseBlock: (call: ServerUnaryCall<ReleaseBlockRequest, ReleaseBlockResponse>, callback: sendUnaryData<ReleaseBlockResponse>) => {
      answer(callback, { ...options, onClaim: () => undefined }, async () => {
        options.requireNode(identityOf(call), call.request.node);
        throwIf(options.refusal());
        return await release(call.request, options);
      }).catch(options.onError);
    },
  });
}

async function claim(request: ClaimBlockRequest, { claims, refusal }: ClaimServiceOptions): Promise<ClaimBlockResponse> {
  throwIf(refusal());
  if (request.ipVersion !== 4 && request.ipVersion !== 6) throw new CallError("broken-message", `ip_version is ${request.ipVersion}; it must be 4 or 6`);
  const full = understood("full", () => request.full.map(prefixFromWire));
  const address = request.address.length === 0 ? undefined : understood("address", () => ipFromBytes(request.address));
  const { borrow, ipVersion: version, node, pools } = request;
  const claimed = await claims.claim({ node: node as NodeName, version, full, pools, borrow, ...(address === undefined ? {} : { address }) });
  if (claimed.kind === "block") return { block: toWire(claimed.block, claimed.pool.name), borrowed: [] };
  return { block: undefined, borrowed: claimed.addresses.map((one) => loanToWire({ ...one, pool: one.pool.name, allocation: undefined })) };
}

async function list({ node, takeOver }: ListBlocksRequest, { book, borrowing, holdings }: ClaimServiceOptions): Promise<Block[]> {
  const name = node as NodeName;
  const poolOf = (block: Cidr): string => book.poolOf(block)?.name ?? "";
  if (takeOver.length === 0) {
    const loans = book.lendersOf(name).flatMap((block) =>
      block.allocations.flatMap((allocation) => {
        const { address, loan, node: borrower } = allocation;
        return loan?.isAgreed === true && borrower === name
          ? [loanToWire({ address, of: block.cidr, pool: poolOf(block.cidr), claim: loan.claim, allocation })]
          : [];
      }),
    );
    return [...book.blocksOf(name).map((block) => toWire(block, poolOf(block.cidr))), ...loans];
  }
  const taken: Block[] = [];
  for (const { cidr, of } of takeOver) {
    const [block, lender] = understood("take_over", () => [requiredPrefix(cidr), of === undefined ? undefined : prefixFromWire(of)] as const);
    if (lender === undefined) {
      const found = await holdings.takeOver(name, block);
      if (found !== undefined) taken.push(toWire(found, poolOf(found.cidr)));
      continue;
    }
    const address = cidrAddress(block);
    const renewed = await borrowing.renew({ node: name, of: lender, address });
    if (renewed !== undefined) taken.push(loanToWire({ address, of: lender, pool: poolOf(lender), ...renewed }));
  }
  return taken;
}

async function release({ block, claim, node, of }: ReleaseBlockRequest, { borrowing, holdings }: ClaimServiceOptions): Promise<ReleaseBlockResponse> {
  const name = node as NodeName;
  const [cidr, lender] = understood("block", () => [requiredPrefix(block), of === undefined ? undefined : prefixFromWire(of)] as const);
  if (lender === undefined) return { inUse: (await holdings.release({ node: name, cidr, claim })) === "in-use" };
  await borrowing.giveBack({ node: name, of: lender, address: cidrAddress(cidr), claim });
  return { inUse: false };
}

function requiredPrefix(prefix: Block["cidr"]): Cidr {
  if (prefix === undefined) throw new Error("no prefix is given");
  return prefixFromWire(prefix);
}

function understood<T>(field: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new CallError("broken-message", `${field}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function toWire(block: IpamBlock, pool: string): Block {
  return {
    cidr: prefixToWire(block.cidr),
    pool,
    allocations: block.allocations.filter(({ loan }) => loan === undefined).map(allocationToWire),
    claim: block.claim ?? "",
    of: undefined,
    lent: block.allocations.flatMap(({ address, loan }) => (loan?.isAgreed === true ? [{ address: Buffer.from(ipBytes(address)), id: loan.id }] : [])),
  };
}

function loanToWire(loan: {
  readonly address: IpAddress;
  readonly of: Cidr;
  readonly pool: string;
  readonly claim: string;
  readonly allocation: BlockAllocation | undefined;
}): Block {
  const { address, allocation, claim, of, pool } = loan;
  const allocations = allocation?.pod === undefined ? [] : [allocationToWire(allocation)];
  return { cidr: prefixToWire(hostCidr(address)), pool, allocations, claim, of: prefixToWire(of), lent: [] };
}

function allocationToWire({ address, handle, pod: key }: BlockAllocation): Allocation {
  const pod: string = key ?? "";
  const slash = pod.indexOf("/");
  return { address: Buffer.from(ipBytes(address)), handle, namespace: pod.slice(0, Math.max(0, slash)), pod: pod.slice(slash + 1) };
}

function throwIf(error: CallError | undefined): void {
  if (error !== undefined) throw error;
}

async function answer<T>(
  callback: sendUnaryData<T>,
  { onClaim, onError }: Pick<ClaimServiceOptions, "onClaim" | "onError">,
  act: () => Promise<T>,
): Promise<void> {
  let response: T;
  try {
    response = await act();
  } catch (error) {
    const known = asCallError(error);
    if (known === undefined) onError(error);
    onClaim(known?.problem ?? "internal");
    callback(statusOf(known ?? error));
    return;
  }
  callback(null, response);
}

function asCallError(error: unknown): CallError | undefined {
  if (error instanceof CallError) return error;
  return error instanceof DatastoreError ? new CallError("api-unavailable", `the API: ${error.message}`, { cause: error }) : undefined;
}
