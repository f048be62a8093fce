/**
 * What is wrong with the cluster's addresses, from one reading of nodes, pods, blocks and affinities. Pure: it finds, others decide and act.
 *
 * Invariant: an address that may be a pod's is never among the findings. A pod that exists keeps its address whatever its status says (an agent may be
 * about to report it); an allocation that names neither pod nor node is nobody's to judge. So each finding stands on something that is absent, which
 * whoever acts must ask the API for again.
 */
import { type NodeName, type PodKey, podKey } from "../model/names.ts";
import type { BlockAffinity, BlockAllocation, IpamBlock, IpPool, Pod } from "../model/resource.ts";
import { type Cidr, cidrContainsCidr, cidrsOverlap } from "../net/cidr.ts";
import type { IpAddress } from "../net/ip.ts";
import { isBlockOf } from "./block.ts";

export interface AddressSnapshot {
  readonly nodes: ReadonlySet<NodeName>;
  readonly pods: readonly Pod[];
  readonly pools: readonly IpPool[];
  readonly blocks: readonly IpamBlock[];
  readonly affinities: readonly BlockAffinity[];
}

export type Finding =
  /** The node that has the address is gone. */
  | { readonly kind: "node-gone"; readonly block: string; readonly allocation: BlockAllocation; readonly node: NodeName }
  /** The pod that has the address is gone, or is another one's node's. */
  | { readonly kind: "pod-gone"; readonly block: string; readonly allocation: BlockAllocation; readonly pod: PodKey }
  /** A block without addresses whose node is gone. */
  | { readonly kind: "empty-block"; readonly block: IpamBlock; readonly node: NodeName }
  /** An affinity of a node that is gone, or that is being deleted, to a block that is gone or another's. */
  | { readonly kind: "stale-affinity"; readonly affinity: BlockAffinity }
  /** For people: nothing frees these by itself. */
  | { readonly kind: "duplicate"; readonly address: IpAddress; readonly handles: readonly string[] }
  | { readonly kind: "untracked"; readonly address: IpAddress; readonly pod: PodKey }
  | { readonly kind: "overlap"; readonly block: Cidr; readonly other: Cidr }
  | { readonly kind: "no-pool"; readonly block: Cidr }
  | { readonly kind: "two-owners"; readonly block: Cidr; readonly nodes: readonly NodeName[] };

/** All findings, in order of blocks. */
export function auditAddresses({ nodes, pods, pools, blocks, affinities }: AddressSnapshot): readonly Finding[] {
  const findings: Finding[] = [];
  const podsByKey = new Map(pods.map((pod) => [podKey(pod.namespace, pod.name), pod]));
  const holders = new Map<IpAddress, string[]>();
  const present = blocks.filter(({ isDeleted }) => !isDeleted);
  for (const block of present) {
    for (const allocation of block.allocations) {
      holders.set(allocation.address, [...(holders.get(allocation.address) ?? []), allocation.handle]);
      const finding = findingOf(block, allocation, nodes, podsByKey);
      if (finding !== undefined) findings.push(finding);
    }
    if (block.allocations.length === 0 && block.node !== undefined && !nodes.has(block.node)) findings.push({ kind: "empty-block", block, node: block.node });
    if (!pools.some((pool) => cidrContainsCidr(pool.cidr, block.cidr) && isBlockOf(pool, block.cidr))) findings.push({ kind: "no-pool", block: block.cidr });
  }
  findings.push(...overlaps(present), ...affinityFindings(affinities, present, nodes));
  for (const [address, handles] of holders) if (handles.length > 1) findings.push({ kind: "duplicate", address, handles });
  findings.push(...untracked(pods, pools, holders));
  return findings;
}

function findingOf(block: IpamBlock, allocation: BlockAllocation, nodes: ReadonlySet<NodeName>, pods: ReadonlyMap<PodKey, Pod>): Finding | undefined {
  const node = allocation.node ?? block.node;
  // A question to a node that is gone: nobody will answer it.
  if (allocation.loan?.isAgreed === false && block.node !== undefined && !nodes.has(block.node))
    return { kind: "node-gone", block: block.name, allocation, node: block.node };
  if (allocation.pod === undefined) {
    // A node's own address (tunnel), one that is cooling down, or one on loan: its borrower gives it back.
    return allocation.node !== undefined && !nodes.has(allocation.node)
      ? { kind: "node-gone", block: block.name, allocation, node: allocation.node }
      : undefined;
  }
  const pod = pods.get(allocation.pod);
  // Found by its name on a node that exists: it may have the address, whatever its status says yet.
  if (pod !== undefined && (pod.addresses.includes(allocation.address) || pod.node === undefined || node === undefined || pod.node === node)) return undefined;
  if (node !== undefined && !nodes.has(node)) return { kind: "node-gone", block: block.name, allocation, node };
  return { kind: "pod-gone", block: block.name, allocation, pod: allocation.pod };
}

function overlaps(blocks: readonly IpamBlock[]): Finding[] {
  // Sorted by text, prefixes of one range are not always neighbours; blocks of more than one size are rare, so only those are compared.
  const found: Finding[] = [];
  const sizes = new Map<string, IpamBlock[]>();
  for (const block of blocks) {
    const size = `${block.cidr.includes(":") ? 6 : 4}/${block.cidr.slice(block.cidr.indexOf("/") + 1)}`;
    sizes.set(size, [...(sizes.get(size) ?? []), block]);
  }
  const groups = [...sizes.values()];
  for (const [i, group] of groups.entries())
    for (const other of groups.slice(i + 1))
      for (const a of group) for (const b of other) if (cidrsOverlap(a.cidr, b.cidr)) found.push({ kind: "overlap", block: a.cidr, other: b.cidr });
  return found;
}

function affinityFindings(affinities: readonly BlockAffinity[], blocks: readonly IpamBlock[], nodes: ReadonlySet<NodeName>): Finding[] {
  const found: Finding[] = [];
  const owners = new Map(blocks.map((block) => [block.cidr, block.node]));
  const confirmed = new Map<Cidr, NodeName[]>();
  for (const affinity of affinities) {
    const isLeftOver = !nodes.has(affinity.node) || affinity.state === "pendingDeletion";
    if (isLeftOver && owners.get(affinity.cidr) !== affinity.node) found.push({ kind: "stale-affinity", affinity });
    if (affinity.state === "confirmed" && !affinity.isDeleted) confirmed.set(affinity.cidr, [...(confirmed.get(affinity.cidr) ?? []), affinity.node]);
  }
  for (const [block, claimants] of confirmed) if (claimants.length > 1) found.push({ kind: "two-owners", block, nodes: claimants });
  return found;
}

/** Pods that say an address of a pool is theirs, which no block knows. */
function untracked(pods: readonly Pod[], pools: readonly IpPool[], holders: ReadonlyMap<IpAddress, unknown>): Finding[] {
  const found: Finding[] = [];
  for (const pod of pods) {
    if (pod.hostNetwork || pod.isTerminated) continue;
    for (const address of pod.addresses) {
      const prefix = `${address}/${address.includes(":") ? 128 : 32}` as Cidr;
      if (!holders.has(address) && pools.some(({ cidr }) => cidrContainsCidr(cidr, prefix)))
        found.push({ kind: "untracked", address, pod: podKey(pod.namespace, pod.name) });
    }
  }
  return found;
}

/** One line for people. */
export function describeFinding(finding: Finding): string {
  switch (finding.kind) {
    case "node-gone":
      return `${finding.allocation.address} (${finding.allocation.handle}) belongs to node ${finding.node}, which does not exist`;
    case "pod-gone":
      return `${finding.allocation.address} (${finding.allocation.handle}) belongs to pod ${finding.pod}, which does not exist${finding.allocation.node === undefined ? "" : ` on node ${finding.allocation.node}`}`;
    case "empty-block":
      return `block ${finding.block.cidr} is empty and belongs to node ${finding.node}, which does not exist`;
    case "stale-affinity":
      return `BlockAffinity ${finding.affinity.name} is left over: the block ${finding.affinity.cidr} is not of node ${finding.affinity.node} (any more)`;
    case "duplicate":
      return `${finding.address} is held ${finding.handles.length} times: ${finding.handles.join(", ")}`;
    case "untracked":
      return `pod ${finding.pod} has ${finding.address}, which no block knows to be in use`;
    case "overlap":
      return `blocks ${finding.block} and ${finding.other} overlap`;
    case "no-pool":
      return `block ${finding.block} is no block of any IPPool`;
    case "two-owners":
      return `block ${finding.block} has confirmed affinities of ${finding.nodes.join(" and ")}`;
    default:
      return finding satisfies never;
  }
}

/** Key of a finding over readings: the same wrong thing has the same. */
export function findingKey(finding: Finding): string {
  switch (finding.kind) {
    case "node-gone":
    case "pod-gone":
      return `${finding.kind} ${finding.allocation.address} ${finding.allocation.handle}`;
    case "empty-block":
      return `empty-block ${finding.block.name} ${finding.node}`;
    case "stale-affinity":
      return `stale-affinity ${finding.affinity.name}`;
    default:
      return describeFinding(finding);
  }
}
