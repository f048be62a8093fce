/**
 * Which pod a free address was the last of: a pod that comes again, in a new container or after a reboot, has its addresses again. Pure.
 *
 * Invariants: an address has at most one pod; no more than `limit` are kept, and those that were freed first go first. It says nothing about whether an address
 * is free: whoever gives one looks.
 * Rejected: keeping the addresses in use until the pod comes again: one that never does would hold them for ever.
 */
import type { IpAddress } from "../../src/net/ip.ts";

/** Pods of a node, of both families, many times over. */
export const REMEMBERED_LIMIT = 2_048;

export class Remembered {
  readonly #limit: number;
  /** By address, in order of release. */
  readonly #pods = new Map<IpAddress, string>();
  readonly #addresses = new Map<string, Set<IpAddress>>();

  constructor(entries: Iterable<readonly [IpAddress, string]> = [], limit = REMEMBERED_LIMIT) {
    this.#limit = limit;
    for (const [address, pod] of entries) this.set(address, pod);
  }

  get size(): number {
    return this.#pods.size;
  }

  /** `pod`: as `lastingIdOf` names it. */
  set(address: IpAddress, pod: string): void {
    this.delete(address);
    this.#pods.set(address, pod);
    const own = this.#addresses.get(pod);
    if (own === undefined) this.#addresses.set(pod, new Set([address]));
    else own.add(address);
    for (const oldest of this.#pods.keys()) {
      if (this.#pods.size <= this.#limit) return;
      this.delete(oldest);
    }
  }

  delete(address: IpAddress): void {
    const pod = this.#pods.get(address);
    if (pod === undefined) return;
    this.#pods.delete(address);
    const own = this.#addresses.get(pod);
    own?.delete(address);
    if (own?.size === 0) this.#addresses.delete(pod);
  }

  /** Last freed first. */
  of(pod: string): readonly IpAddress[] {
    return [...(this.#addresses.get(pod) ?? [])].reverse();
  }

  /** In order of release. */
  entries(): readonly (readonly [IpAddress, string])[] {
    return [...this.#pods];
  }
}
