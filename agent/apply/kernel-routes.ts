/**
 * Our routes: brings them to what is desired, and knows them from others' by their protocol number.
 *
 * Each route stands alone: one that the kernel refuses is reported and does not keep the others out. A route of someone else to the same destination
 * is never replaced (`add`, not `replace`), it is reported. Invariant: `#installed` undefined means that the kernel's list has to be read first.
 */
import { type Cidr, cidrVersion } from "../../src/net/cidr.ts";
import type { Rtnetlink } from "../drivers/rtnetlink/driver.ts";
import type { Link } from "../drivers/rtnetlink/links.ts";
import { RT_TABLE_MAIN, SEDGE_ROUTE_PROTOCOL } from "../drivers/rtnetlink/protocol.ts";
import type { Route, RouteChange, RouteSpec } from "../drivers/rtnetlink/routes.ts";
import { diffRoutes, type PlannedRoute } from "../plan/routes.ts";

/** What this needs of the kernel's links and routes. */
export type RouteDriver = Pick<Rtnetlink, "findIndex" | "links" | "addresses" | "routes" | "changeRoutes" | "watch">;

export interface FailedRoute {
  readonly route: PlannedRoute;
  readonly reason: string;
}

export interface RoutesResult {
  readonly changed: number;
  readonly failed: readonly FailedRoute[];
}

const MOST_ASKED_FOR_ONE_BY_ONE = 256;

export class KernelRoutes {
  readonly #rtnetlink: RouteDriver;
  #installed: Map<Cidr, PlannedRoute> | undefined;
  /** Of the interfaces of the pods' routes in `#installed`, as they were when those were set or read. */
  #indexes = new Map<string, number>();
  #failed: readonly FailedRoute[] = [];
  /** What the last call was given: the same map again is no work. */
  #desired: ReadonlyMap<Cidr, PlannedRoute> | undefined;

  constructor(rtnetlink: RouteDriver) {
    this.#rtnetlink = rtnetlink;
  }

  /** The kernel may have other routes than we think: it takes those of an interface that goes away by itself. */
  doubt(): void {
    this.#installed = undefined;
  }

  /** An interface changed: false only when no route of ours has gone with it. Pods that are connected and removed are no reason to read all routes. */
  mayHaveLost(isGone: boolean, { index, isUp, name }: Pick<Link, "index" | "isUp" | "name">): boolean {
    const known = this.#indexes.get(name);
    return this.#installed === undefined || (known !== undefined && (isGone || !isUp || known !== index));
  }

  /** Routes that were refused last time. */
  get failed(): readonly FailedRoute[] {
    return this.#failed;
  }

  apply(desired: ReadonlyMap<Cidr, PlannedRoute>): RoutesResult {
    if (desired === this.#desired && this.#installed !== undefined && this.#failed.length === 0) return { changed: 0, failed: [] };
    this.#installed ??= this.#read();
    const { removed, added } = diffRoutes(this.#installed, desired);
    const links = this.#linksOf(added);
    for (const [name, index] of links) this.#indexes.set(name, index);
    const failed: FailedRoute[] = [];
    const changes: RouteChange[] = [];
    const routeOf: PlannedRoute[] = [];
    const push = (change: RouteChange, route: PlannedRoute): void => {
      changes.push(change);
      routeOf.push(route);
    };
    for (const route of removed) push({ kind: "delete", route: { destination: route.destination } }, route);
    for (const route of added) {
      const spec = specOf(route, links);
      if (spec === undefined) {
        failed.push({ route, reason: `interface ${route.kind === "pod" ? route.interfaceName : ""} does not exist` });
        continue;
      }
      const isOurs = this.#installed.has(route.destination);
      // IPv6 does not replace a route by one of another kind, it adds to it.
      if (isOurs && cidrVersion(route.destination) === 6) push({ kind: "delete", route: { destination: route.destination } }, route);
      push({ kind: isOurs && cidrVersion(route.destination) === 4 ? "replace" : "add", route: spec }, route);
    }
    const installed = new Map(desired);
    for (const { route } of failed) installed.delete(route.destination);
    for (const { index, change, error } of this.#rtnetlink.changeRoutes(changes)) {
      const route = routeOf[index];
      // Gone by itself, with its interface.
      if (route === undefined || (change.kind === "delete" && error.code === "ESRCH")) continue;
      installed.delete(route.destination);
      failed.push({ route, reason: error.code === "EEXIST" ? `${route.destination} has a route that is not ours` : error.message });
    }
    this.#installed = installed;
    const interfaces = interfacesOf(installed.values());
    for (const name of this.#indexes.keys()) if (!interfaces.has(name)) this.#indexes.delete(name);
    this.#failed = failed;
    this.#desired = desired;
    return { changed: changes.length, failed };
  }

  /** A pod that is connected asks for one interface of the hundreds that a node has. */
  #linksOf(routes: readonly PlannedRoute[]): ReadonlyMap<string, number> {
    const names = interfacesOf(routes);
    if (names.size > MOST_ASKED_FOR_ONE_BY_ONE) return new Map(this.#rtnetlink.links().map(({ name, index }) => [name, index]));
    const links = new Map<string, number>();
    for (const name of names) {
      const index = this.#rtnetlink.findIndex(name);
      if (index !== undefined) links.set(name, index);
    }
    return links;
  }

  #read(): Map<Cidr, PlannedRoute> {
    const names = new Map(this.#rtnetlink.links().map(({ name, index }) => [index, name]));
    this.#indexes = new Map([...names].map(([index, name]) => [name, index]));
    const found = new Map<Cidr, PlannedRoute>();
    for (const route of this.#rtnetlink.routes({ protocol: SEDGE_ROUTE_PROTOCOL, table: RT_TABLE_MAIN })) found.set(route.destination, plannedOf(route, names));
    return found;
  }
}

function interfacesOf(routes: Iterable<PlannedRoute>): ReadonlySet<string> {
  return new Set([...routes].flatMap((route) => (route.kind === "pod" ? [route.interfaceName] : [])));
}

function specOf(route: PlannedRoute, links: ReadonlyMap<string, number>): RouteSpec | undefined {
  const { destination } = route;
  switch (route.kind) {
    case "blackhole":
      return { destination, type: "blackhole" };
    case "node":
      return { destination, gateway: route.via };
    case "pod": {
      const linkIndex = links.get(route.interfaceName);
      return linkIndex === undefined ? undefined : { destination, linkIndex };
    }
  }
}

function plannedOf({ destination, type, gateway, linkIndex }: Route, names: ReadonlyMap<number, string>): PlannedRoute {
  if (type === "blackhole") return { kind: "blackhole", destination };
  if (gateway !== undefined) return { kind: "node", destination, via: gateway };
  return { kind: "pod", destination, interfaceName: names.get(linkIndex ?? 0) ?? "" };
}
