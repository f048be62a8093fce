/**
 * Nodes with the blocks that are theirs, and address pools: what every node needs for its routes.
 *
 * A block is a node's only when both ends of the claim say so: a confirmed affinity, and the block object's own affinity. While a claim or a release
 * is under way, or two nodes hold affinities to one block, at most the node that the block names is believed.
 */
import { isClosed, isSelective } from "../ipam/pool-selection.ts";
import type { NodeName } from "../model/names.ts";
import { IPAM_CONFIGURATION_NAME } from "../model/parse-ipam-configuration.ts";
import type { NodeEntry, Pool } from "../model/record.ts";
import type { BlockAffinity, IpamBlock, IpamConfiguration, IpPool, IpReservation, Node } from "../model/resource.ts";
import { type Cidr, cidrContainsCidr, compareCidrs } from "../net/cidr.ts";
import { NO_DELTA, NO_NODES } from "./audience.ts";
import type { Ledger } from "./ledger.ts";
import { isSameValue } from "./same-value.ts";

export class Nodes {
  readonly #nodes = new Map<string, Node>();
  readonly #affinities = new Map<string, BlockAffinity>();
  readonly #affinitiesOfNode = new Map<NodeName, Map<string, BlockAffinity>>();
  readonly #blocks = new Map<string, IpamBlock>();
  readonly #blocksOfCidr = new Map<Cidr, Map<string, IpamBlock>>();
  readonly #dirty = new Set<string>();
  readonly #records = new Map<string, NodeEntry>();

  setNode(name: string, node: Node | undefined): void {
    if (node === undefined) this.#nodes.delete(name);
    else this.#nodes.set(name, node);
    this.#dirty.add(name);
  }

  setAffinity(name: string, affinity: BlockAffinity | undefined): void {
    const before = this.#affinities.get(name);
    if (before !== undefined) {
      removeNested(this.#affinitiesOfNode, before.node, name);
      this.#dirty.add(before.node);
    }
    if (affinity === undefined) this.#affinities.delete(name);
    else {
      this.#affinities.set(name, affinity);
      addNested(this.#affinitiesOfNode, affinity.node, name, affinity);
      this.#dirty.add(affinity.node);
    }
  }

  setBlock(name: string, block: IpamBlock | undefined): void {
    const before = this.#blocks.get(name);
    if (block !== undefined) this.#blocks.set(name, block);
    if (before !== undefined && block !== undefined && before.cidr === block.cidr && before.node === block.node && before.isDeleted === block.isDeleted) return;
    if (before !== undefined) {
      removeNested(this.#blocksOfCidr, before.cidr, name);
      this.#blockMoved(before.cidr, before);
    }
    if (block === undefined) this.#blocks.delete(name);
    else {
      addNested(this.#blocksOfCidr, block.cidr, name, block);
      this.#blockMoved(block.cidr, block);
    }
  }

  commit(ledger: Ledger): void {
    for (const name of this.#dirty) {
      const node = this.#nodes.get(name);
      const before = this.#records.get(name);
      if (node === undefined) {
        if (before === undefined) continue;
        this.#records.delete(name);
        ledger.remove(`node/${name}`, NO_NODES);
        continue;
      }
      const record: NodeEntry = { kind: "node", name: node.name, addresses: node.addresses, blocks: this.#blocksOf(node.name) };
      if (isSameValue(before, record)) continue;
      this.#records.set(name, record);
      ledger.put(`node/${name}`, record, NO_DELTA);
    }
    this.#dirty.clear();
  }

  /** Nodes of which the routes may depend on the block: its own, and those of other block objects of the prefix. */
  #blockMoved(cidr: Cidr, block: IpamBlock): void {
    if (block.node !== undefined) this.#dirty.add(block.node);
    for (const other of this.#blocksOfCidr.get(cidr)?.values() ?? []) if (other.node !== undefined) this.#dirty.add(other.node);
  }

  #blocksOf(node: NodeName): readonly Cidr[] {
    const blocks = new Set<Cidr>();
    for (const affinity of this.#affinitiesOfNode.get(node)?.values() ?? []) {
      if (affinity.state === "confirmed" && !affinity.isDeleted && this.#isOwnedBy(affinity.cidr, node)) blocks.add(affinity.cidr);
    }
    return [...blocks].sort(compareCidrs);
  }

  /** Every block object of the prefix that is not being deleted names the node, and there is one. */
  #isOwnedBy(cidr: Cidr, node: NodeName): boolean {
    let isOwned = false;
    for (const block of this.#blocksOfCidr.get(cidr)?.values() ?? []) {
      if (block.isDeleted) continue;
      if (block.node !== node) return false;
      isOwned = true;
    }
    return isOwned;
  }
}

export class Pools {
  readonly #pools = new Map<string, IpPool>();
  readonly #dirty = new Set<string>();
  readonly #records = new Map<string, Pool>();
  readonly #reservations = new Map<string, readonly Cidr[]>();
  #cooldownSeconds: number | undefined;

  setPool(name: string, pool: IpPool | undefined): void {
    if (pool === undefined) this.#pools.delete(name);
    else this.#pools.set(name, pool);
    this.#dirty.add(name);
  }

  setReservation(name: string, reservation: IpReservation | undefined): void {
    if (reservation === undefined) this.#reservations.delete(name);
    else this.#reservations.set(name, reservation.reservedCidrs);
    this.#allDirty();
  }

  setConfiguration(name: string, configuration: IpamConfiguration | undefined): void {
    if (name !== IPAM_CONFIGURATION_NAME) return;
    this.#cooldownSeconds = configuration?.ipCooldownSeconds;
    this.#allDirty();
  }

  commit(ledger: Ledger): void {
    for (const name of this.#dirty) {
      const pool = this.#pools.get(name);
      const before = this.#records.get(name);
      if (pool === undefined) {
        if (before === undefined) continue;
        this.#records.delete(name);
        ledger.remove(`pool/${name}`, NO_NODES);
        continue;
      }
      const record = this.#recordOf(pool);
      if (isSameValue(before, record)) continue;
      this.#records.set(name, record);
      ledger.put(`pool/${name}`, record, NO_DELTA);
    }
    this.#dirty.clear();
  }

  #recordOf(pool: IpPool): Pool {
    const { name, cidr, natOutgoing, disabled, blockSize } = pool;
    const selective = isSelective(pool);
    const reserved = [...new Set([...this.#reservations.values()].flat().flatMap((prefix) => within(cidr, prefix) ?? []))].sort(compareCidrs);
    // 0 is "not set" on the wire; a second is the shortest that can be asked for.
    const cooldownSeconds = this.#cooldownSeconds === undefined ? undefined : Math.max(1, this.#cooldownSeconds);
    return {
      kind: "pool",
      name,
      cidr,
      natOutgoing,
      disabled: disabled || selective,
      blockSize,
      ...(selective && !isClosed(pool) ? { isSelective: true } : {}),
      ...(reserved.length > 0 ? { reserved } : {}),
      ...(cooldownSeconds === undefined ? {} : { cooldownSeconds }),
    };
  }

  #allDirty(): void {
    for (const name of this.#pools.keys()) this.#dirty.add(name);
  }
}

/** The part of the prefix that is in the pool. */
function within(pool: Cidr, cidr: Cidr): Cidr | undefined {
  if (cidrContainsCidr(pool, cidr)) return cidr;
  return cidrContainsCidr(cidr, pool) ? pool : undefined;
}

function addNested<K, V>(maps: Map<K, Map<string, V>>, key: K, name: string, value: V): void {
  const inner = maps.get(key);
  if (inner === undefined) maps.set(key, new Map([[name, value]]));
  else inner.set(name, value);
}

function removeNested<K, V>(maps: Map<K, Map<string, V>>, key: K, name: string): void {
  const inner = maps.get(key);
  inner?.delete(name);
  if (inner?.size === 0) maps.delete(key);
}
