/**
 * Plans for pools that are in use: one after another (migrate), and one cut into several (split). Pure: from one reading of the cluster to what is to be done and why
 * it cannot be; the same reading after a step gives the steps that are left, so a change that broke off goes on where it was.
 */
import { type PodKey, podKey } from "../model/names.ts";
import type { IpPool, Namespace, Pod } from "../model/resource.ts";
import { type Cidr, cidrContains, cidrContainsCidr, cidrLength, cidrsOverlap, cidrVersion } from "../net/cidr.ts";
import type { IpAddress } from "../net/ip.ts";
import type { AddressSnapshot } from "./audit.ts";
import { blockAddressCount, blockAt, blockCount, blockName } from "./block.ts";
import { isClosed } from "./pool-selection.ts";

export interface Migration {
  /** Why it cannot begin, or go on; empty: it can. */
  readonly problems: readonly string[];
  /** What a person should know; nothing stops because of it. */
  readonly warnings: readonly string[];
  readonly isDisableNeeded: boolean;
  /** Pods that still have an address of the old pool; each has to be made again by whoever made it. */
  readonly pods: readonly Pod[];
  /** Addresses of the old pool in use that are no known pod's: tunnels, leaks, pods that are ending. */
  readonly others: readonly IpAddress[];
  readonly blocksLeft: number;
}

export function planMigration(facts: {
  readonly from: IpPool;
  readonly to: IpPool;
  readonly snapshot: AddressSnapshot;
  readonly namespaces: readonly Namespace[];
}): Migration {
  const { from, namespaces, snapshot, to } = facts;
  const problems: string[] = [];
  const warnings: string[] = [];
  if (from.name === to.name) problems.push("both are the same pool");
  else if (cidrVersion(from.cidr) !== cidrVersion(to.cidr))
    problems.push(`${from.name} (${from.cidr}) and ${to.name} (${to.cidr}) are of two address families`);
  else if (cidrsOverlap(from.cidr, to.cidr))
    problems.push(
      `${to.name} (${to.cidr}) overlaps ${from.name} (${from.cidr}): no pod can have an address of it while the older one is there. Choose another range, or use sedge ipam split`,
    );
  if (isClosed(to)) problems.push(`${to.name} gives no addresses: it is disabled, being deleted, or not for workloads`);
  const blocks = snapshot.blocks.filter(({ cidr, isDeleted }) => !isDeleted && cidrContainsCidr(from.cidr, cidr));
  const used = blocks.flatMap(({ allocations }) =>
    allocations.filter(({ pod, loan }) => pod !== undefined || loan === undefined).map(({ address }) => address),
  );
  const pods = snapshot.pods.filter((pod) => !pod.hostNetwork && !pod.isTerminated && pod.addresses.some((address) => cidrContains(from.cidr, address)));
  const podAddresses = new Set(pods.flatMap(({ addresses }) => addresses));
  const free = freeIn(to, snapshot);
  if (free < BigInt(used.length)) problems.push(`${to.name} has ${free} free addresses, ${from.name} has ${used.length} in use`);
  for (const pod of pods)
    if (namesPool(pod.addressing, from))
      warnings.push(`pod ${keyOf(pod)} asks for ${from.name} by annotation: made again it gets no address before that is changed`);
  for (const { addressing, name } of namespaces)
    if (namesPool(addressing, from)) warnings.push(`namespace ${name} asks for ${from.name} by annotation: its new pods get no address before that is changed`);
  if (to.nodeSelector !== "all()" && to.nodeSelector !== from.nodeSelector) warnings.push(`${to.name} is for nodes with ${to.nodeSelector} only`);
  if (to.namespaceSelector !== from.namespaceSelector)
    warnings.push(`${to.name} is for namespaces with ${to.namespaceSelector ?? "all()"}, ${from.name} for ${from.namespaceSelector ?? "all()"}`);
  if (to.natOutgoing !== from.natOutgoing) warnings.push(`natOutgoing differs: ${from.name} ${from.natOutgoing}, ${to.name} ${to.natOutgoing}`);
  return {
    problems,
    warnings,
    isDisableNeeded: !isClosed(from),
    pods,
    others: used.filter((address) => !podAddresses.has(address)),
    blocksLeft: blocks.length,
  };
}

function freeIn(pool: IpPool, { blocks }: AddressSnapshot): bigint {
  const size = BigInt(blockAddressCount(blockAt(pool, 0n)));
  const used = blocks.filter(({ cidr }) => cidrContainsCidr(pool.cidr, cidr)).reduce((sum, { allocations }) => sum + allocations.length, 0);
  return blockCount(pool) * size - BigInt(used);
}

function namesPool(addressing: Readonly<Record<string, string>> | undefined, pool: IpPool): boolean {
  const names: unknown = parsed(addressing?.[`ipv${cidrVersion(pool.cidr)}pools`]);
  return Array.isArray(names) && names.some((name) => name === pool.name || name === pool.cidr);
}

function parsed(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

function keyOf({ name, namespace }: Pod): PodKey {
  return podKey(namespace, name);
}

export interface Split {
  readonly problems: readonly string[];
  /** The pools that take the old one's place, in order of addresses; names as calicoctl gives them. */
  readonly parts: readonly { readonly name: string; readonly cidr: Cidr; readonly isThere: boolean }[];
}

/** `count`: a power of two. */
export function planSplit({
  count,
  pool,
  snapshot,
}: {
  readonly pool: IpPool;
  readonly count: number;
  readonly snapshot: Pick<AddressSnapshot, "pools" | "blocks">;
}): Split {
  if (!Number.isInteger(count) || count < 2 || (count & (count - 1)) !== 0)
    return { problems: [`${count} is not 2, 4, 8, …: a pool is cut into equal parts`], parts: [] };
  const length = cidrLength(pool.cidr) + Math.log2(count);
  if (length > pool.blockSize)
    return {
      problems: [
        `a part would be a /${length}, smaller than a block of ${pool.name} (/${pool.blockSize}): at most ${2 ** (pool.blockSize - cidrLength(pool.cidr))} parts`,
      ],
      parts: [],
    };
  const problems: string[] = [];
  const parts = Array.from({ length: count }, (_, i) => blockAt({ cidr: pool.cidr, blockSize: length }, BigInt(i))).map((cidr) => {
    const name = `split-${blockName(cidr)}`;
    const present = snapshot.pools.find((other) => other.name === name);
    if (present !== undefined && present.cidr !== cidr) problems.push(`IPPool ${name} is there and has ${present.cidr}, not ${cidr}`);
    return { name, cidr, isThere: present !== undefined };
  });
  for (const other of snapshot.pools)
    if (other.name !== pool.name && cidrsOverlap(other.cidr, pool.cidr) && !parts.some(({ name }) => name === other.name))
      problems.push(`IPPool ${other.name} (${other.cidr}) overlaps ${pool.name}`);
  for (const { cidr } of snapshot.blocks)
    if (cidrsOverlap(cidr, pool.cidr) && cidrLength(cidr) < length) problems.push(`block ${cidr} is larger than a part (/${length})`);
  return { problems, parts };
}
