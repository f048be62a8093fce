/**
 * Addresses of pods as the address blocks know them.
 *
 * An address is a pod's from the moment that its block says so, which may be before the pod's status does. Allocations name the pod by namespace
 * and name; one that names another node is of an earlier pod of the same name, and is not used.
 */
import type { NodeName, PodKey } from "../model/names.ts";
import type { BlockAllocation, IpamBlock } from "../model/resource.ts";
import { compareIps, type IpAddress } from "../net/ip.ts";

interface PodAllocation {
  readonly block: string;
  readonly address: IpAddress;
  readonly node: NodeName | undefined;
}

export class PodAddresses {
  readonly #allocations = new Map<PodKey, readonly PodAllocation[]>();
  /** Pods named in a block, as last seen. */
  readonly #blocks = new Map<string, ReadonlyMap<PodKey, readonly PodAllocation[]>>();

  /** A block is new or changed; undefined: it is gone. Returns the pods of which the allocations changed. */
  setBlock(name: string, block: IpamBlock | undefined): readonly PodKey[] {
    const before = this.#blocks.get(name);
    const after = podsOf(name, block === undefined || block.isDeleted ? [] : block.allocations);
    if (after.size === 0) this.#blocks.delete(name);
    else this.#blocks.set(name, after);
    const changed: PodKey[] = [];
    for (const [pod, allocations] of after) {
      if (isSame(before?.get(pod), allocations)) continue;
      this.#replace(pod, name, allocations);
      changed.push(pod);
    }
    for (const pod of before?.keys() ?? []) {
      if (after.has(pod)) continue;
      this.#replace(pod, name, []);
      changed.push(pod);
    }
    return changed;
  }

  /** The pod's addresses, sorted, IPv4 first: of the blocks if they name it, else `reported`. */
  addressesOf(options: { readonly pod: PodKey; readonly node: NodeName; readonly reported: readonly IpAddress[] }): readonly IpAddress[] {
    const allocations = this.#allocations.get(options.pod);
    const allocated = allocations?.filter(({ node }) => node === undefined || node === options.node).map(({ address }) => address) ?? [];
    const addresses = allocated.length > 0 ? allocated : options.reported;
    return addresses.length < 2 ? addresses : [...new Set(addresses)].sort(compareIps);
  }

  #replace(pod: PodKey, block: string, allocations: readonly PodAllocation[]): void {
    const others = (this.#allocations.get(pod) ?? []).filter((allocation) => allocation.block !== block);
    const all = [...others, ...allocations];
    if (all.length === 0) this.#allocations.delete(pod);
    else this.#allocations.set(pod, all);
  }
}

function podsOf(block: string, allocations: readonly BlockAllocation[]): ReadonlyMap<PodKey, readonly PodAllocation[]> {
  const pods = new Map<PodKey, PodAllocation[]>();
  for (const { pod, address, node } of allocations) {
    if (pod === undefined) continue;
    const known = pods.get(pod);
    if (known === undefined) pods.set(pod, [{ block, address, node }]);
    else known.push({ block, address, node });
  }
  return pods;
}

function isSame(a: readonly PodAllocation[] | undefined, b: readonly PodAllocation[]): boolean {
  return a !== undefined && a.length === b.length && a.every((allocation, i) => allocation.address === b[i]?.address && allocation.node === b[i]?.node);
}
