/** The unary calls of the address manager, over the connection of the present session. */
import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ipBytes, ipFromBytes } from "../../src/net/ip.ts";
import type {
  Block,
  ClaimBlockRequest,
  ClaimBlockResponse,
  ListBlocksRequest,
  ListBlocksResponse,
  ReleaseBlockRequest,
  ReleaseBlockResponse,
} from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixFromWire, prefixToWire } from "../../src/wire/prefix-codec.ts";
import type { SyncConnection } from "../../src/wire/sync-connection.ts";
import { type ClaimClient, ClaimError, type ClaimedBlock, type ClaimProblem, type ClaimRequest, type Held } from "./claims.ts";

const CALL_TIMEOUT_MS = 10_000;

type UnaryRequest = ClaimBlockRequest | ListBlocksRequest | ReleaseBlockRequest;
type UnaryMethod<Response> = (
  request: UnaryRequest,
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

  async claimBlock({ address, borrow = 0, full, ipVersion, pools = [] }: ClaimRequest, signal?: AbortSignal): Promise<readonly ClaimedBlock[]> {
    const request: ClaimBlockRequest = {
      node: this.#node,
      ipVersion,
      full: full.map(prefixToWire),
      pools: [...pools],
      borrow,
      address: address === undefined ? Buffer.alloc(0) : Buffer.from(ipBytes(address)),
    };
    const { block, borrowed } = await this.#call<ClaimBlockResponse>("claimBlock", request, signal);
    const found = [...(block === undefined ? [] : [block]), ...borrowed].map(fromWire).filter((one) => one !== undefined);
    if (found.length === 0) throw new ClaimError("unavailable", "the server answered ClaimBlock without a block");
    return found;
  }

  async releaseBlock({ cidr, claim, of }: Held & Pick<ClaimedBlock, "claim">, signal?: AbortSignal): Promise<boolean> {
    const request: ReleaseBlockRequest = { node: this.#node, block: prefixToWire(cidr), claim, of: of === undefined ? undefined : prefixToWire(of) };
    return !(await this.#call<ReleaseBlockResponse>("releaseBlock", request, signal)).inUse;
  }

  async listBlocks({ signal, takeOver = [] }: { readonly signal?: AbortSignal; readonly takeOver?: readonly Held[] } = {}): Promise<readonly ClaimedBlock[]> {
    const request: ListBlocksRequest = {
      node: this.#node,
      takeOver: takeOver.map(({ cidr, of }) => ({
        cidr: prefixToWire(cidr),
        of: of === undefined ? undefined : prefixToWire(of),
        pool: "",
        allocations: [],
        claim: "",
        lent: [],
      })),
    };
    const { blocks } = await this.#call<ListBlocksResponse>("listBlocks", request, signal);
    return blocks.map(fromWire).filter((block) => block !== undefined);
  }

  #call<Response>(name: "claimBlock" | "listBlocks" | "releaseBlock", request: UnaryRequest, signal?: AbortSignal): Promise<Response> {
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
        else reject(new ClaimError(problemOf(error), `the fan-out server refuses ${name}: ${error?.details ?? "no answer"}`, { cause: error }));
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

function fromWire({ cidr, pool, allocations, claim, of, lent }: Block): ClaimedBlock | undefined {
  if (cidr === undefined) return undefined;
  return {
    cidr: prefixFromWire(cidr),
    pool,
    allocations: allocations.map(({ address, handle, namespace, pod }) => ({ address: ipFromBytes(address), handle, namespace, pod })),
    claim,
    ...(of === undefined ? {} : { of: prefixFromWire(of) }),
    lent: lent.map(({ address, id }) => ({ address: ipFromBytes(address), id })),
  };
}
