/** The unary calls of the address manager, over the connection of the present session. */
import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ipFromBytes } from "../../src/net/ip.ts";
import type { Block, ClaimBlockRequest, ClaimBlockResponse, ListBlocksRequest, ListBlocksResponse } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire, prefixToWire } from "../../src/wire/record-codec.ts";
import { type ClaimClient, ClaimError, type ClaimedBlock, type ClaimProblem } from "./claims.ts";
import type { SyncConnection } from "./connection.ts";

const CALL_TIMEOUT_MS = 10_000;

type UnaryMethod<Response> = (
  request: ClaimBlockRequest | ListBlocksRequest,
  metadata: Metadata,
  options: { deadline: number },
  callback: (error: ServiceError | null, response?: Response) => void,
) => { cancel(): void };

export class ClaimCalls implements ClaimClient {
  readonly #node: string;
  readonly #connection: () => SyncConnection | undefined;

  constructor(options: { readonly node: string; readonly connection: () => SyncConnection | undefined }) {
    this.#node = options.node;
    this.#connection = options.connection;
  }

  async claimBlock({ ipVersion, full, pools = [] }: Parameters<ClaimClient["claimBlock"]>[0], signal?: AbortSignal): Promise<ClaimedBlock> {
    const request: ClaimBlockRequest = { node: this.#node, ipVersion, full: full.map(prefixToWire), pools: [...pools] };
    const response = await this.#call<ClaimBlockResponse>("claimBlock", request, signal);
    const block = response.block === undefined ? undefined : fromWire(response.block);
    if (block === undefined) throw new ClaimError("unavailable", "the server answered ClaimBlock without a block");
    return block;
  }

  async listBlocks(signal?: AbortSignal): Promise<readonly ClaimedBlock[]> {
    const request: ListBlocksRequest = { node: this.#node };
    const { blocks } = await this.#call<ListBlocksResponse>("listBlocks", request, signal);
    return blocks.map(fromWire).filter((block) => block !== undefined);
  }

  #call<Response>(name: "claimBlock" | "listBlocks", request: ClaimBlockRequest | ListBlocksRequest, signal?: AbortSignal): Promise<Response> {
    return new Promise((resolve, reject) => {
      const connection = this.#connection();
      const method = connection?.[name] as UnaryMethod<Response> | undefined;
      if (connection === undefined || method === undefined) {
        reject(new ClaimError("unavailable", "there is no connection to a fan-out server now"));
        return;
      }
      const call = method.call(connection, request, new Metadata(), { deadline: Date.now() + CALL_TIMEOUT_MS }, (error, response) => {
        signal?.removeEventListener("abort", onAbort);
        if (error === null && response !== undefined) resolve(response);
        else reject(new ClaimError(problemOf(error), `the fan-out server did not give a block: ${error?.details ?? "no answer"}`, { cause: error }));
      });
      const onAbort = (): void => call.cancel();
      signal?.addEventListener("abort", onAbort, { once: true });
    });
  }
}

function problemOf(error: ServiceError | null): ClaimProblem {
  if (error?.code === status.RESOURCE_EXHAUSTED) return "no-free-block";
  return error?.code === status.NOT_FOUND ? "unknown-node" : "unavailable";
}

function fromWire({ cidr, pool, allocations }: Block): ClaimedBlock | undefined {
  if (cidr === undefined) return undefined;
  return {
    cidr: prefixFromWire(cidr),
    pool,
    allocations: allocations.map(({ address, handle, namespace, pod }) => ({ address: ipFromBytes(address), handle, namespace, pod })),
  };
}
