/**
 * The routes that are ours, from the view and the connected pods. Pure.
 *
 *   own block         blackhole, so that an address nobody has is not sent to the default gateway and back (not for blocks of one address)
 *   local pod         the address on its interface
 *   others' block     via the first address of that node in the block's family
 *   floating address  of a local pod: on the pod's interface, for the node's own packets (those of others are translated before routing)
 *   borrowed address  via the node that has it, whosever block it is of, or floating there; on that node itself blackhole until a pod has it
 *
 * Invariant: one route for each prefix. Where two nodes state the same block, neither is routed and both are reported: a wrong guess would send
 * packets to a pod that is not theirs; the same for an address that two borrow. A pod's own route always wins over a block of one address.
 */
import type { Borrowed, NodeEntry, RecordKey, RecordValue } from "../../src/model/record.ts";
import { type Cidr, cidrLength, cidrVersion, hostCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipBits, ipVersion } from "../../src/net/ip.ts";
import type { FloatingAddress } from "./floating.ts";
import type { PlannedEndpoint } from "./planned-endpoint.ts";
import type { PlanFailure } from "./ruleset.ts";

export type PlannedRoute =
  | { readonly kind: "pod"; readonly destination: Cidr; readonly interfaceName: string }
  | { readonly kind: "node"; readonly destination: Cidr; readonly via: IpAddress }
  | { readonly kind: "blackhole"; readonly destination: Cidr };

export interface RoutePlan {
  readonly routes: ReadonlyMap<Cidr, PlannedRoute>;
  readonly failures: readonly PlanFailure[];
}

export function desiredRoutes(input: {
  readonly records: ReadonlyMap<RecordKey, RecordValue>;
  readonly endpoints: readonly PlannedEndpoint[];
  /** Of the endpoints. Absent: none. */
  readonly floating?: readonly FloatingAddress[];
  readonly nodeName: string;
}): RoutePlan {
  const routes = new Map<Cidr, PlannedRoute>();
  const failures: PlanFailure[] = [];
  const owners = new Map<Cidr, RecordKey>();
  const contested = new Set<Cidr>();
  for (const [key, value] of input.records) {
    if (value.kind !== "node") continue;
    for (const block of value.blocks) {
      const owner = owners.get(block);
      if (owner === undefined) owners.set(block, key);
      else {
        contested.add(block);
        for (const claimant of [owner, key])
          failures.push({ key: claimant, reason: `block ${block} is stated by ${owner} and by ${key}; it is routed to neither until one gives it up` });
      }
    }
  }
  for (const value of input.records.values()) if (value.kind === "node") addBlocks(value, { ...input, routes, failures, contested });
  addBorrowed(input, routes, failures);
  for (const { interfaceName, address } of input.floating ?? []) routes.set(hostCidr(address), { kind: "pod", destination: hostCidr(address), interfaceName });
  for (const { interfaceName, addresses } of input.endpoints) {
    for (const address of addresses) routes.set(hostCidr(address), { kind: "pod", destination: hostCidr(address), interfaceName });
  }
  return { routes, failures };
}

function addBlocks(
  node: NodeEntry,
  {
    nodeName,
    routes,
    failures,
    contested,
  }: { readonly nodeName: string; readonly routes: Map<Cidr, PlannedRoute>; readonly failures: PlanFailure[]; readonly contested: ReadonlySet<Cidr> },
): void {
  const isOwn = node.name === nodeName;
  for (const block of node.blocks) {
    const version = cidrVersion(block);
    if (isOwn) {
      // Also when contested: what is not a pod of ours goes nowhere from here.
      if (cidrLength(block) < ipBits(version)) routes.set(block, { kind: "blackhole", destination: block });
      continue;
    }
    if (contested.has(block)) continue;
    const via = node.addresses.find((address) => ipVersion(address) === version);
    if (via === undefined) failures.push({ key: `node/${node.name}`, reason: `block ${block} cannot be routed: the node has no IPv${version} address` });
    else routes.set(block, { kind: "node", destination: block, via });
  }
}

/** Host routes: they win over the block's. */
function addBorrowed(
  { records, nodeName }: { readonly records: ReadonlyMap<RecordKey, RecordValue>; readonly nodeName: string },
  routes: Map<Cidr, PlannedRoute>,
  failures: PlanFailure[],
): void {
  const holders = new Map<Cidr, Borrowed[]>();
  for (const value of records.values()) {
    if (value.kind !== "borrowed") continue;
    for (const address of value.addresses) {
      const destination = hostCidr(address);
      holders.set(destination, [...(holders.get(destination) ?? []), value]);
    }
  }
  for (const [destination, [holder, ...others]] of holders) {
    if (holder === undefined) continue;
    if (others.length > 0) {
      for (const { node } of [holder, ...others])
        failures.push({ key: `borrowed/${node}`, reason: `${destination} is stated by more than one node; it is routed to none until one gives it up` });
      continue;
    }
    if (holder.node === nodeName) {
      routes.set(destination, { kind: "blackhole", destination });
      continue;
    }
    const node = records.get(`node/${holder.node}`);
    const via = node?.kind === "node" ? node.addresses.find((address) => ipVersion(address) === cidrVersion(destination)) : undefined;
    if (via === undefined)
      failures.push({ key: `borrowed/${holder.node}`, reason: `${destination} cannot be routed: the node has no IPv${cidrVersion(destination)} address` });
    else routes.set(destination, { kind: "node", destination, via });
  }
}

export interface RouteChanges {
  readonly removed: readonly PlannedRoute[];
  readonly added: readonly PlannedRoute[];
}

/** A prefix whose route differs is only in `added`: the driver replaces it, so that there is no moment without it. */
export function diffRoutes(installed: ReadonlyMap<Cidr, PlannedRoute>, desired: ReadonlyMap<Cidr, PlannedRoute>): RouteChanges {
  return {
    removed: [...installed.values()].filter(({ destination }) => !desired.has(destination)),
    added: [...desired.values()].filter((route) => !isSameRoute(route, installed.get(route.destination))),
  };
}

export function isSameRoute(a: PlannedRoute, b: PlannedRoute | undefined): boolean {
  if (b === undefined || a.destination !== b.destination) return false;
  if (a === b) return true;
  switch (a.kind) {
    case "pod":
      return b.kind === "pod" && a.interfaceName === b.interfaceName;
    case "node":
      return b.kind === "node" && a.via === b.via;
    case "blackhole":
      return b.kind === "blackhole";
  }
}
