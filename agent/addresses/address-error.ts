/** Why there is no address, and whether asking again can help. */

/**
 * pool-full: every address of the family's pools is in use. cooling: some were released a moment ago and are not given yet. no-pool: no pool that is
 * enabled exists. unknown-node: the API does not know this node. unavailable: the server cannot be asked now. journal: the disk refuses.
 * bad-request: what the pod's annotations ask for cannot be given.
 */
export type AddressProblem = "bad-request" | "pool-full" | "cooling" | "no-pool" | "unknown-node" | "unavailable" | "journal";

export class AddressError extends Error {
  readonly code: AddressProblem;
  /** True when the same request may succeed later without anyone doing anything. */
  readonly isTransient: boolean;

  constructor(code: AddressProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "AddressError";
    this.code = code;
    this.isTransient = code === "cooling" || code === "unavailable" || code === "journal";
  }
}
