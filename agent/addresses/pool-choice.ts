/**
 * Which pools a pod of this node may have addresses of, of which families, and which addresses of them nobody is given.
 *
 * Asked anew each time: the pools are those of the view, which changes at any moment. Without a view nothing is known, and what is in use goes on as it is.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { AddressRequest, Pool } from "../../src/model/record.ts";
import { type Cidr, cidrContains, cidrContainsCidr, cidrVersion } from "../../src/net/cidr.ts";
import { type IpAddress, type IpVersion, ipVersion } from "../../src/net/ip.ts";
import { AddressError } from "./address-error.ts";

export interface PoolChoiceOptions {
  /** Pools of the node's view; undefined while there is no complete view yet. */
  readonly pools: () => readonly Pool[] | undefined;
  /** Node that the view says has the address by itself: on loan, or floating there. Absent: none is. */
  readonly nodeOf: ((address: IpAddress) => NodeName | undefined) | undefined;
  /** This node has it on loan. */
  readonly isBorrowed: (address: IpAddress) => boolean;
  /** When no pool asks for another. Default 10 s. */
  readonly cooldownMs: number | undefined;
}

const DEFAULT_COOLDOWN_MS = 10_000;

export class PoolChoice {
  readonly #options: PoolChoiceOptions;

  constructor(options: PoolChoiceOptions) {
    this.#options = options;
  }

  /** False: nothing is known of what pods may use. */
  get isKnown(): boolean {
    return this.#options.pools() !== undefined;
  }

  /** Families to give an address of. Throws AddressError. */
  versions(): readonly IpVersion[] {
    const versions = this.tryVersions();
    if (versions.length > 0) return versions;
    if (!this.isKnown) throw new AddressError("unavailable", "the server has not told this node its address pools yet");
    throw new AddressError("no-pool", "there is no enabled IPPool: create one, or set spec.disabled of one to false");
  }

  /** The same; empty when there is none. */
  tryVersions(): readonly IpVersion[] {
    return ([4, 6] as const).filter((version) => this.enabled(version).length > 0);
  }

  /** Families that the pod asks for. Throws AddressError when none of them can be had. */
  wishedVersions(wish: AddressRequest | undefined): readonly IpVersion[] {
    if (wish === undefined) return this.versions();
    const asked = wish.addresses.map(ipVersion);
    if (asked.length > 0) return asked;
    const versions = wish.pools.length === 0 ? this.versions() : ([4, 6] as const).filter((version) => (this.namesOf(version, wish)?.length ?? 0) > 0);
    const wanted = versions.filter((version) => wish.ipVersions.length === 0 || wish.ipVersions.includes(version));
    if (wanted.length === 0)
      throw new AddressError(
        "no-pool",
        "no enabled IPPool can be used for what the pod's annotations ask for (cni.projectcalico.org/ipFamilies, ipv4pools, ipv6pools)",
      );
    return wanted;
  }

  /** Names of the pools that the pod asks for and may have; undefined: those for every pod. */
  namesOf(version: IpVersion, wish: AddressRequest | undefined): readonly string[] | undefined {
    if (wish === undefined || wish.pools.length === 0) return undefined;
    const open = new Set(this.#pools.filter((pool) => isOpen(pool) && cidrVersion(pool.cidr) === version).map(({ name }) => name));
    return wish.pools.filter((name) => open.has(name));
  }

  /** Pools for every pod. */
  enabled(version: IpVersion): readonly Pool[] {
    return this.#pools.filter(({ cidr, disabled }) => !disabled && cidrVersion(cidr) === version);
  }

  named(names: readonly string[]): readonly Pool[] {
    return this.#pools.filter(({ name }) => names.includes(name));
  }

  /** Every pod may have addresses of the block; without a view: whatever block it is. */
  isForEveryPod(block: Cidr): boolean {
    const pools = this.#options.pools();
    return pools === undefined || pools.some(({ cidr, disabled }) => !disabled && cidrContainsCidr(cidr, block));
  }

  /** A pod of this node can be given an address of it, by itself or by naming its pool. */
  mayBeUsed(block: Cidr, poolName: string): boolean {
    return this.#pools.some((pool) => pool.name === poolName && isOpen(pool) && cidrContainsCidr(pool.cidr, block));
  }

  /** The longest that any pool asks for, else our own. */
  cooldownMs(): number {
    const asked = this.#pools.flatMap(({ cooldownSeconds }) => cooldownSeconds ?? []);
    return asked.length === 0 ? (this.#options.cooldownMs ?? DEFAULT_COOLDOWN_MS) : Math.max(...asked) * 1_000;
  }

  /** Given to nobody who does not ask for it. */
  isReserved(address: IpAddress): boolean {
    return this.elsewhere(address) !== undefined || this.#pools.some(({ reserved }) => reserved?.some((cidr) => cidrContains(cidr, address)) === true);
  }

  /** Node that has it by itself; of what this node has borrowed: undefined, that is its own to give. */
  elsewhere(address: IpAddress): NodeName | undefined {
    const node = this.#options.nodeOf?.(address);
    return node === undefined || this.#options.isBorrowed(address) ? undefined : node;
  }

  get #pools(): readonly Pool[] {
    return this.#options.pools() ?? [];
  }
}

function isOpen(pool: Pool): boolean {
  return !pool.disabled || pool.isSelective === true;
}
