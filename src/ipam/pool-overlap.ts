/**
 * Pools that overlap: the oldest is used, a younger one gives no address to anybody while the older one is there, disabled or not.
 *
 * Invariant: who is used depends on the pools that there are and not on the order of events, so that servers agree. Each decides for itself, by the objects; the
 * condition Allocatable, which controllers write, only tells. Where a middle one is refused, the youngest is compared with those that are used.
 */
import type { IpPool } from "../model/resource.ts";
import { cidrsOverlap } from "../net/cidr.ts";

/** Of each pool that is not used: the older one that it overlaps. */
export function refusedPools(pools: Iterable<IpPool>): ReadonlyMap<string, IpPool> {
  const used: IpPool[] = [];
  const refused = new Map<string, IpPool>();
  for (const pool of [...pools].sort(byAge)) {
    const older = used.find(({ cidr }) => cidrsOverlap(cidr, pool.cidr));
    if (older === undefined) used.push(pool);
    else refused.set(pool.name, older);
  }
  return refused;
}

/** Names break ties: the API's times are whole seconds. */
function byAge(a: IpPool, b: IpPool): number {
  const [x, y] = [a.createdAt ?? "", b.createdAt ?? ""];
  if (x !== y) return x < y ? -1 : 1;
  return a.name < b.name ? -1 : 1;
}

/** Pools as they may be used, kept up with events. */
export class UsablePools {
  readonly #pools = new Map<string, IpPool>();
  #refused: ReadonlyMap<string, IpPool> = new Map();

  /** Pools that are others now, refused ones closed; undefined: gone. */
  set(name: string, pool: IpPool | undefined): readonly (readonly [string, IpPool | undefined])[] {
    const before = this.#refused;
    if (pool === undefined) this.#pools.delete(name);
    else this.#pools.set(name, pool);
    this.#refused = refusedPools(this.#pools.values());
    const moved = [...this.#pools.keys()].filter((other) => other !== name && before.has(other) !== this.#refused.has(other));
    return [name, ...moved].map((other) => [other, this.#usable(other)]);
  }

  #usable(name: string): IpPool | undefined {
    const pool = this.#pools.get(name);
    if (pool === undefined || !this.#refused.has(name)) return pool;
    const { isManual: _, ...closed } = pool;
    return { ...closed, disabled: true };
  }
}
