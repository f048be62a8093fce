/** The unary calls of SyncService: blocks for the node that the certificate names. */
import { type ServerUnaryCall, type sendUnaryData, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { DatastoreError } from "../../src/datastore/api-error.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { IpamBlock } from "../../src/model/resource.ts";
import { ipBytes } from "../../src/net/ip.ts";
import type { Block, ClaimBlockRequest, ClaimBlockResponse, ListBlocksRequest, ListBlocksResponse } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire, prefixToWire } from "../../src/wire/record-codec.ts";
import type { AddressBook } from "../claims/address-book.ts";
import type { BlockClaims } from "../claims/block-claims.ts";
import type { IdentityOfCall } from "../delivery/grpc-delivery.ts";
import { requireNode } from "../identity.ts";
import { CallError, type CallProblem, statusOf } from "../status.ts";

export interface ClaimServiceOptions {
  readonly book: AddressBook;
  readonly claims: BlockClaims;
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
        requireNode(identityOf(call), call.request.node);
        const response = await claim(call.request, options);
        options.onClaim("given");
        return response;
      }).catch(options.onError);
    },
    listBlocks: (call: ServerUnaryCall<ListBlocksRequest, ListBlocksResponse>, callback: sendUnaryData<ListBlocksResponse>) => {
      answer(callback, { ...options, onClaim: () => undefined }, async () => {
        requireNode(identityOf(call), call.request.node);
        throwIf(options.refusal());
        const blocks = options.book.blocksOf(call.request.node as NodeName);
        return { blocks: blocks.map((block) => toWire(block, options.book.poolOf(block.cidr)?.name ?? "")) };
      }).catch(options.onError);
    },
  });
}

async function claim(request: ClaimBlockRequest, { claims, refusal }: ClaimServiceOptions): Promise<ClaimBlockResponse> {
  throwIf(refusal());
  if (request.ipVersion !== 4 && request.ipVersion !== 6) throw new CallError("broken-message", `ip_version is ${request.ipVersion}; it must be 4 or 6`);
  let full;
  try {
    full = request.full.map(prefixFromWire);
  } catch (error) {
    throw new CallError("broken-message", `full: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
  const { block, pool } = await claims.claim({ node: request.node as NodeName, version: request.ipVersion, full, pools: request.pools });
  return { block: toWire(block, pool.name) };
}

function toWire(block: IpamBlock, pool: string): Block {
  return {
    cidr: prefixToWire(block.cidr),
    pool,
    allocations: block.allocations.map(({ address, handle, pod = "" }) => {
      const slash = pod.indexOf("/");
      return { address: Buffer.from(ipBytes(address)), handle, namespace: pod.slice(0, Math.max(0, slash)), pod: pod.slice(slash + 1) };
    }),
  };
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
