/** Why a pod gets no address, for its owner: which pools, how full, and what to do. */
import type { Pool } from "../../src/model/record.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import { ClaimError } from "../sync/claims.ts";
import { AddressError } from "./address-error.ts";

/** What was found when no address was free and no block could be claimed. */
export interface NothingFree {
  readonly version: IpVersion;
  /** Why no block could be claimed. */
  readonly cause: unknown;
  /** Until the first address leaves its cooldown (ms); undefined: none is in it. */
  readonly retryInMs: number | undefined;
  /** That the address would have been of. */
  readonly pools: readonly Pool[];
  /** Addresses of this node's blocks. */
  readonly capacity: number;
}

export function nothingFree({ capacity, cause, pools, retryInMs, version }: NothingFree): AddressError {
  if (cause instanceof AddressError) return cause;
  const code = cause instanceof ClaimError ? cause.code : "unavailable";
  const reason = cause instanceof Error ? cause.message : String(cause);
  if (code === "unknown-node") return new AddressError("unknown-node", `this node cannot have addresses: ${reason}`, { cause });
  if (code === "unavailable")
    return new AddressError("unavailable", `no IPv${version} address is free in this node's blocks, and the next block cannot be claimed now: ${reason}`, {
      cause,
    });
  const list = pools.map(({ name, cidr }) => `${name} (${cidr})`).join(", ") || "none";
  if (retryInMs !== undefined) {
    const seconds = Math.max(1, Math.ceil(retryInMs / 1_000));
    return new AddressError(
      "cooling",
      `every free IPv${version} address of this node was released a moment ago and is given again in ${seconds} s; the pools have no further block: ${list}`,
      { cause },
    );
  }
  return new AddressError(
    "pool-full",
    `the IPv${version} pools are full: ${list}; this node has ${capacity} addresses of them, all in use, and no block is free. Add an IPPool or free addresses (sedge ipam show --show-blocks lists who has which)`,
    { cause },
  );
}

export function notTrusted(cause?: unknown): AddressError {
  return new AddressError(
    "unavailable",
    "which addresses are in use on this node is not known yet: the server has to be asked and cannot be reached now",
    cause === undefined ? undefined : { cause },
  );
}
