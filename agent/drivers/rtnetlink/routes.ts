/**
 * Routes, one or many at a time.
 *
 * Many changes share a send, to save system calls, and each has a result of its own: a route that the kernel refuses
 * does not keep the others out. Ours carry protocol SEDGE_ROUTE_PROTOCOL and are listed by it; the kernel filters.
 */
import { type Cidr, cidrFromBytes, cidrRange, parseCidr } from "../../../src/net/cidr.ts";
import { type IpAddress, ipBytes, ipFromBytes, parseIp } from "../../../src/net/ip.ts";
import { Attributes } from "../netlink/attributes.ts";
import { isNetlinkError, NetlinkError } from "../netlink/error.ts";
import {
  decodeReply,
  MessageWriter,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NLMSG_ERROR,
} from "../netlink/message.ts";
import type { NetlinkRequest, NetlinkSocket } from "../netlink/socket.ts";
import { AF_INET, AF_INET6, familyOf, RT_SCOPE, RT_TABLE_MAIN, RTA, RTAX_MTU, RTM, RTN, RTNH_F_ONLINK, SEDGE_ROUTE_PROTOCOL, u32Bytes } from "./protocol.ts";

export type RouteType = keyof typeof RTN;
export type RouteScope = keyof typeof RT_SCOPE;

export type Route = {
  readonly destination: Cidr;
  readonly type: RouteType;
  /** "link" for a destination that is on the link itself; IPv6 has none and always says "universe". */
  readonly scope: RouteScope;
  readonly gateway: IpAddress | undefined;
  readonly linkIndex: number | undefined;
  readonly source: IpAddress | undefined;
  /** RTPROT_*; ours is SEDGE_ROUTE_PROTOCOL. */
  readonly protocol: number;
  /** 0 is the kernel's default, which IPv6 lists as 1024. */
  readonly metric: number;
  readonly table: number;
  /** The gateway counts as on the link even where no route says so. */
  readonly isOnlink: boolean;
  readonly mtu: number | undefined;
};

/** What a route is made of when it is added; the rest has defaults: unicast, main table, our protocol. */
export type RouteSpec = {
  readonly destination: Cidr;
  readonly type?: RouteType;
  readonly scope?: RouteScope;
  readonly gateway?: IpAddress;
  readonly linkIndex?: number;
  readonly source?: IpAddress;
  readonly protocol?: number;
  readonly metric?: number;
  readonly table?: number;
  readonly isOnlink?: boolean;
  readonly mtu?: number;
};

export type RouteChange =
  /** EEXIST when the destination has a route of the same table and metric. */
  | { readonly kind: "add"; readonly route: RouteSpec }
  /** Add, or take the place of the route with the same destination, table and metric, whoever made that. */
  | { readonly kind: "replace"; readonly route: RouteSpec }
  /** ESRCH when there is none that fits all given fields; only routes of the given protocol (default ours). */
  | { readonly kind: "delete"; readonly route: RouteSpec };

export type RouteFailure = { readonly index: number; readonly change: RouteChange; readonly error: NetlinkError };

export type RouteFilter = {
  /** RTPROT_*; absent: any. */
  readonly protocol?: number;
  readonly table?: number;
  /** Absent: both. */
  readonly version?: 4 | 6;
};

const RTMSG = 12;
/** Acknowledgements wait in the receive buffer until the send is over; this many always fit. */
const CHANGES_PER_SEND = 256;
const TYPE_OF_NUMBER = new Map<number, RouteType>(Object.entries(RTN).map(([name, number]) => [number, name as RouteType]));
const SCOPE_OF_NUMBER = new Map<number, RouteScope>(Object.entries(RT_SCOPE).map(([name, number]) => [number, name as RouteScope]));

/** Carry out all changes in order; the failures, in order, empty when all went in. */
export function changeRoutes(socket: NetlinkSocket, changes: readonly RouteChange[]): RouteFailure[] {
  const failures: RouteFailure[] = [];
  for (let start = 0; start < changes.length; start += CHANGES_PER_SEND) {
    changeChunk(socket, changes.slice(start, start + CHANGES_PER_SEND), start, failures);
  }
  return failures;
}

export function routeRequest(change: RouteChange): NetlinkRequest {
  return {
    type: change.kind === "delete" ? RTM.delRoute : RTM.newRoute,
    flags: change.kind === "add" ? NLM_F_CREATE | NLM_F_EXCL : change.kind === "replace" ? NLM_F_CREATE | NLM_F_REPLACE : 0,
    subject: { operation: `${change.kind} route`, object: routeText(change.route) },
    body: (writer) => writeRoute(writer, change),
  };
}

function changeChunk(socket: NetlinkSocket, changes: readonly RouteChange[], start: number, failures: RouteFailure[]): void {
  const writer = new MessageWriter(changes.length * 96);
  const indexOf = new Map<number, number>();
  for (const [index, change] of changes.entries()) {
    const sequence = socket.nextSequence();
    indexOf.set(sequence, index);
    const { type, flags = 0, body } = routeRequest(change);
    writer.begin({ type, flags: NLM_F_REQUEST | NLM_F_ACK | flags, sequence });
    body(writer);
    writer.end();
  }
  socket.sendDatagram(writer.bytes());
  const subject = { operation: "change routes", object: `${changes.length} routes` };
  while (indexOf.size > 0) {
    for (const reply of socket.receiveDatagram(subject)) {
      const index = indexOf.get(reply.sequence);
      const change = index === undefined ? undefined : changes[index];
      if (reply.type !== NLMSG_ERROR || index === undefined || change === undefined) continue;
      indexOf.delete(reply.sequence);
      const { errno, reason } = decodeReply(reply);
      if (errno === 0) continue;
      failures.push({
        index: start + index,
        change,
        error: new NetlinkError({ operation: `${change.kind} route`, object: routeText(change.route), errno, reason }),
      });
    }
  }
}

/** Both families unless told otherwise. Cached and cloned routes are left out. */
export function listRoutes(socket: NetlinkSocket, filter: RouteFilter = {}): Route[] {
  const families = filter.version === undefined ? [AF_INET, AF_INET6] : [filter.version === 4 ? AF_INET : AF_INET6];
  return families.flatMap((family) => listFamily(socket, family, filter));
}

function listFamily(socket: NetlinkSocket, family: number, { protocol = 0, table }: RouteFilter): Route[] {
  const subject = { operation: "list", object: `routes${protocol === 0 ? "" : ` of protocol ${protocol}`}` };
  try {
    const messages = socket.dump({ type: RTM.getRoute, subject }, (writer) => {
      writer.header([family, 0, 0, 0, 0, protocol, 0, 0, 0, 0, 0, 0]);
      if (table !== undefined) writer.u32(RTA.table, table);
    });
    const routes = messages.map(decodeRoute).filter((route) => route !== undefined);
    // The kernel filters only where it knows strict dumps; this costs nothing where it did.
    return routes.filter((route) => (protocol === 0 || route.protocol === protocol) && (table === undefined || route.table === table));
  } catch (error) {
    // A table that never had a route does not exist.
    if (isNetlinkError(error, "ENOENT")) return [];
    throw error;
  }
}

/** Undefined for what is no plain route of ours: unknown type, or several next hops. */
export function decodeRoute({ payload }: NetlinkMessage): Route | undefined {
  const attributes = new Attributes(payload.subarray(RTMSG));
  const family = payload.readUInt8(0);
  const type = TYPE_OF_NUMBER.get(payload.readUInt8(7));
  if (type === undefined || attributes.has(RTA.multipath) || (family !== AF_INET && family !== AF_INET6)) return undefined;
  const destination = attributes.raw(RTA.destination) ?? new Uint8Array(family === AF_INET ? 4 : 16);
  const gateway = attributes.raw(RTA.gateway);
  const source = attributes.raw(RTA.preferredSource);
  return {
    destination: cidrFromBytes(destination, payload.readUInt8(1)),
    type,
    scope: SCOPE_OF_NUMBER.get(payload.readUInt8(6)) ?? "universe",
    gateway: gateway === undefined ? undefined : ipFromBytes(gateway),
    linkIndex: attributes.u32(RTA.oif),
    source: source === undefined ? undefined : ipFromBytes(source),
    protocol: payload.readUInt8(5),
    metric: attributes.u32(RTA.priority) ?? 0,
    table: attributes.u32(RTA.table) ?? payload.readUInt8(4),
    isOnlink: (payload.readUInt32LE(8) & RTNH_F_ONLINK) !== 0,
    mtu: attributes.nested(RTA.metrics)?.u32(RTAX_MTU),
  };
}

function writeRoute(writer: MessageWriter, { kind, route }: RouteChange): void {
  const { destination, type = "unicast", scope = defaultScope(route), table = RT_TABLE_MAIN, protocol = SEDGE_ROUTE_PROTOCOL } = route;
  const { first } = cidrRange(parseCidr(destination));
  const length = Number(destination.slice(destination.indexOf("/") + 1));
  const scopeNumber = kind === "delete" && route.scope === undefined ? RT_SCOPE.nowhere : RT_SCOPE[scope];
  const typeNumber = kind === "delete" && route.type === undefined ? 0 : RTN[type];
  writer.header([
    familyOf(destination),
    length,
    0,
    0,
    table < 256 ? table : 0,
    protocol,
    scopeNumber,
    typeNumber,
    ...u32Bytes(route.isOnlink === true ? RTNH_F_ONLINK : 0),
  ]);
  writer.raw(RTA.destination, first);
  writer.u32(RTA.table, table);
  if (route.gateway !== undefined) writer.raw(RTA.gateway, ipBytes(parseIp(route.gateway)));
  if (route.linkIndex !== undefined) writer.u32(RTA.oif, route.linkIndex);
  if (route.metric !== undefined && route.metric !== 0) writer.u32(RTA.priority, route.metric);
  if (route.source !== undefined) writer.raw(RTA.preferredSource, ipBytes(parseIp(route.source)));
  if (route.mtu !== undefined) {
    const metrics = writer.beginNest(RTA.metrics);
    writer.u32(RTAX_MTU, route.mtu);
    writer.endNest(metrics);
  }
}

/** As `ip route`: a unicast route without gateway is on the link. */
function defaultScope({ destination, type = "unicast", gateway }: RouteSpec): RouteScope {
  if (familyOf(destination) === AF_INET6) return "universe";
  if (type === "local") return "host";
  return type === "unicast" && gateway === undefined ? "link" : "universe";
}

/** For errors and logs, in the words of `ip route`. */
export function routeText(route: RouteSpec): string {
  const parts: string[] = route.type === undefined || route.type === "unicast" ? [route.destination] : [route.type, route.destination];
  if (route.gateway !== undefined) parts.push(`via ${route.gateway}`);
  if (route.linkIndex !== undefined) parts.push(`dev index ${route.linkIndex}`);
  if (route.table !== undefined && route.table !== RT_TABLE_MAIN) parts.push(`table ${route.table}`);
  if (route.metric !== undefined) parts.push(`metric ${route.metric}`);
  return parts.join(" ");
}
