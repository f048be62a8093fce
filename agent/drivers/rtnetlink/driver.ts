/**
 * Links, addresses, routes and neighbours of one network namespace.
 *
 * Invariant: everything acts in the namespace that the driver was opened in, whatever the thread does later; but of a driver that was opened without a path
 * `findIndex`, `removeLink` and `watch` act in that of the thread at the (first) call. Calls are synchronous because the kernel answers within send(2); see
 * netlink/socket.ts. No memory: lists are the kernel's.
 */

import { interfaceIndex } from "../netlink/libc.ts";
import type { NetlinkMessage } from "../netlink/message.ts";
import { NETLINK_ROUTE, type NetlinkRequest, NetlinkSocket } from "../netlink/socket.ts";
import {
  addAddress,
  addressRequest,
  decodeAddress,
  deleteAddress,
  deleteNeighbour,
  type LinkAddress,
  listAddresses,
  listPermanentNeighbours,
  type Neighbour,
  neighbourRequest,
  proxyDelayRequest,
  setNeighbour,
} from "./addresses.ts";
import { LinkRemover } from "./link-remover.ts";
import { createVeth, decodeLink, deleteLink, findLink, type Link, type LinkChange, linkRequest, listLinks, setLink, type VethSpec } from "./links.ts";
import { RTM, RTNLGRP } from "./protocol.ts";
import { changeRoutes, decodeRoute, listRoutes, type Route, type RouteChange, type RouteFailure, type RouteFilter, routeRequest } from "./routes.ts";
import { createIfb, listQdiscs, type Qdisc, receiveDirectly, redirectReceived, type Shape, shapeLink, unshapeLink } from "./shaping.ts";

/** What the agent needs of the kernel's interfaces and routes. */
export type Rtnetlink = {
  /** The end that is here, as made; undefined: gone again. */
  createVeth(spec: VethSpec): Link | undefined;
  setLink(index: number, change: LinkChange): void;
  deleteLink(name: string): void;
  /** As `deleteLink`, without holding up the event loop; of one that is not there: nothing. Rejects with NetlinkError. */
  removeLink(name: string): Promise<void>;
  findLink(name: string): Link | undefined;
  /** Index alone, which costs a tenth and waits for nobody. */
  findIndex(name: string): number | undefined;
  links(): Link[];
  addAddress(address: LinkAddress): void;
  deleteAddress(address: LinkAddress): void;
  addresses(): LinkAddress[];
  changeRoutes(changes: readonly RouteChange[]): RouteFailure[];
  routes(filter?: RouteFilter): Route[];
  setNeighbour(neighbour: Neighbour): void;
  deleteNeighbour(neighbour: Pick<Neighbour, "linkIndex" | "address">): void;
  neighbours(): Neighbour[];
  /** All in one message to the kernel, in order. Throws the first NetlinkError; those behind it were tried all the same. */
  configure(steps: readonly LinkStep[]): void;
  /** Queues; see shaping.ts. */
  createIfb(link: { readonly name: string; readonly mtu: number }): void;
  shape(linkIndex: number, shape: Shape, isChange: boolean): void;
  unshape(linkIndex: number): void;
  redirectReceived(linkIndex: number, toIndex: number): void;
  receiveDirectly(linkIndex: number): void;
  qdiscs(): readonly Qdisc[];
  /** Report changes that this driver did not make itself, until the signal aborts. */
  watch(onChange: (change: NetworkChange) => void, signal: AbortSignal): Promise<void>;
  close(): void;
};

/** What an interface is given when it is set up. */
export type LinkStep =
  | { readonly kind: "link"; readonly linkIndex: number; readonly change: LinkChange }
  | { readonly kind: "address"; readonly address: LinkAddress }
  | { readonly kind: "neighbour"; readonly neighbour: Neighbour }
  | { readonly kind: "proxy-delay"; readonly linkIndex: number; readonly milliseconds: number }
  | { readonly kind: "route"; readonly change: RouteChange };

export type NetworkChange =
  | { readonly kind: "link"; readonly isGone: boolean; readonly link: Link }
  | { readonly kind: "address"; readonly isGone: boolean; readonly address: LinkAddress }
  | { readonly kind: "route"; readonly isGone: boolean; readonly route: Route }
  /** The kernel dropped notifications: list everything anew. */
  | { readonly kind: "lost" };

export class RtnetlinkDriver implements Rtnetlink {
  readonly #socket: NetlinkSocket;
  readonly #netns: string | undefined;
  #remover: LinkRemover | undefined;

  private constructor(socket: NetlinkSocket, netns: string | undefined) {
    this.#socket = socket;
    this.#netns = netns;
  }

  /** `netns`: path of a network namespace; absent: the process's own. Throws SystemCallError. */
  static open({ netns }: { readonly netns?: string } = {}): RtnetlinkDriver {
    return new RtnetlinkDriver(NetlinkSocket.open({ protocol: NETLINK_ROUTE, netns }), netns);
  }

  createVeth(spec: VethSpec): Link | undefined {
    return createVeth(this.#socket, spec);
  }

  setLink(index: number, change: LinkChange): void {
    setLink(this.#socket, index, change);
  }

  deleteLink(name: string): void {
    deleteLink(this.#socket, name);
  }

  removeLink(name: string): Promise<void> {
    this.#remover ??= LinkRemover.open({ netns: this.#netns });
    return this.#remover.remove(name);
  }

  findLink(name: string): Link | undefined {
    return findLink(this.#socket, name);
  }

  findIndex(name: string): number | undefined {
    return this.#netns === undefined ? interfaceIndex(name) : this.findLink(name)?.index;
  }

  links(): Link[] {
    return listLinks(this.#socket);
  }

  addAddress(address: LinkAddress): void {
    addAddress(this.#socket, address);
  }

  deleteAddress(address: LinkAddress): void {
    deleteAddress(this.#socket, address);
  }

  addresses(): LinkAddress[] {
    return listAddresses(this.#socket);
  }

  changeRoutes(changes: readonly RouteChange[]): RouteFailure[] {
    return changeRoutes(this.#socket, changes);
  }

  routes(filter: RouteFilter = {}): Route[] {
    return listRoutes(this.#socket, filter);
  }

  setNeighbour(neighbour: Neighbour): void {
    setNeighbour(this.#socket, neighbour);
  }

  deleteNeighbour(neighbour: Pick<Neighbour, "linkIndex" | "address">): void {
    deleteNeighbour(this.#socket, neighbour);
  }

  neighbours(): Neighbour[] {
    return listPermanentNeighbours(this.#socket);
  }

  configure(steps: readonly LinkStep[]): void {
    this.#socket.requestAll(steps.map(requestOf));
  }

  createIfb(link: { readonly name: string; readonly mtu: number }): void {
    createIfb(this.#socket, link);
  }

  shape(linkIndex: number, shape: Shape, isChange: boolean): void {
    shapeLink(this.#socket, linkIndex, shape, isChange);
  }

  unshape(linkIndex: number): void {
    unshapeLink(this.#socket, linkIndex);
  }

  redirectReceived(linkIndex: number, toIndex: number): void {
    redirectReceived(this.#socket, linkIndex, toIndex);
  }

  receiveDirectly(linkIndex: number): void {
    receiveDirectly(this.#socket, linkIndex);
  }

  qdiscs(): readonly Qdisc[] {
    return listQdiscs(this.#socket);
  }

  async watch(onChange: (change: NetworkChange) => void, signal: AbortSignal): Promise<void> {
    const groups = [RTNLGRP.link, RTNLGRP.ipv4Address, RTNLGRP.ipv6Address, RTNLGRP.ipv4Route, RTNLGRP.ipv6Route];
    using events = NetlinkSocket.open({ protocol: NETLINK_ROUTE, netns: this.#netns, groups, ignorePortId: this.#socket.portId });
    await events.subscribe((messages) => {
      if (messages === "lost") return onChange({ kind: "lost" });
      for (const message of messages) {
        const change = decodeChange(message);
        if (change !== undefined) onChange(change);
      }
    }, signal);
  }

  close(): void {
    this.#remover?.close();
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function requestOf(step: LinkStep): NetlinkRequest {
  switch (step.kind) {
    case "link":
      return linkRequest(step.linkIndex, step.change);
    case "address":
      return addressRequest(step.address);
    case "neighbour":
      return neighbourRequest(step.neighbour);
    case "proxy-delay":
      return proxyDelayRequest(step.linkIndex, step.milliseconds);
    case "route":
      return routeRequest(step.change);
    default:
      return step satisfies never;
  }
}

function decodeChange(message: NetlinkMessage): NetworkChange | undefined {
  switch (message.type) {
    case RTM.newLink:
    case RTM.delLink:
      return { kind: "link", isGone: message.type === RTM.delLink, link: decodeLink(message) };
    case RTM.newAddress:
    case RTM.delAddress: {
      const address = decodeAddress(message);
      return address === undefined ? undefined : { kind: "address", isGone: message.type === RTM.delAddress, address };
    }
    case RTM.newRoute:
    case RTM.delRoute: {
      const route = decodeRoute(message);
      return route === undefined ? undefined : { kind: "route", isGone: message.type === RTM.delRoute, route };
    }
    default:
      return undefined;
  }
}
