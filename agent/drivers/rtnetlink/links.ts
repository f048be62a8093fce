/** Network interfaces: veth pairs made straight into another namespace, state, and listing. */
import { Attributes } from "../netlink/attributes.ts";
import { isNetlinkError } from "../netlink/error.ts";
import { close, openNetns } from "../netlink/libc.ts";
import { type MessageWriter, type NetlinkMessage, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL } from "../netlink/message.ts";
import type { NetlinkRequest, NetlinkSocket } from "../netlink/socket.ts";
import {
  AF_INET,
  IFF_LOWER_UP,
  IFF_UP,
  IFLA,
  IFLA_INET_CONF,
  IFLA_INFO,
  IPV4_DEVCONF,
  macBytes,
  macText,
  RTEXT_FILTER_SKIP_STATS,
  RTM,
  u32Bytes,
  VETH_INFO_PEER,
} from "./protocol.ts";

export type Link = {
  readonly index: number;
  readonly name: string;
  readonly mtu: number;
  /** Undefined for links without a hardware address of six bytes. */
  readonly mac: string | undefined;
  /** IFF_* bits. */
  readonly flags: number;
  readonly isUp: boolean;
  /** The other end is up too. */
  readonly hasCarrier: boolean;
  /** "veth", "bridge", …; undefined for physical links and `lo`. */
  readonly kind: string | undefined;
  /** Index of the veth peer, in the peer's namespace. */
  readonly peerIndex: number | undefined;
  /** Index of the bridge that it is a port of. */
  readonly masterIndex: number | undefined;
};

export type VethEnd = {
  /** At most 15 characters. */
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
};

export type VethSpec = VethEnd & {
  readonly peer: VethEnd & {
    /** Path of the namespace where the peer is made; absent: the same. */
    readonly netns?: string;
  };
};

export type LinkChange = {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly mac?: string;
  readonly name?: string;
  /** net.ipv4.conf.<name>, without a file for each. */
  readonly ipv4?: { readonly forwarding?: boolean; readonly proxyArp?: boolean };
};

const IFINFOMSG = 16;
const LINK_SUBJECT = { operation: "list", object: "links" };

/**
 * Both ends in one request. This end is up; the peer stays down until it is set up by a driver of its own namespace: the
 * kernel refuses to open it before the pair is complete (ENOTCONN). Throws NetlinkError EEXIST when a name is taken.
 * The local end as made: told by the kernel in the same exchange (NLM_F_ECHO, since 6.2), else asked for; undefined: gone again.
 */
export function createVeth(socket: NetlinkSocket, { peer, ...local }: VethSpec): Link | undefined {
  const netnsFd = peer.netns === undefined ? undefined : openNetns(peer.netns);
  try {
    const subject = { operation: "add link", object: `${local.name} (veth, peer ${peer.name}${peer.netns === undefined ? "" : ` in ${peer.netns}`})` };
    const [made] = socket.request({ type: RTM.newLink, flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO, subject }, (writer) => {
      writer.header(ifinfomsg(0, IFF_UP, IFF_UP));
      writeEnd(writer, local);
      const info = writer.beginNest(IFLA.info);
      writer.string(IFLA_INFO.kind, "veth");
      const data = writer.beginNest(IFLA_INFO.data);
      const peerNest = writer.beginNest(VETH_INFO_PEER);
      writer.header(ifinfomsg(0, 0, 0));
      writeEnd(writer, peer);
      if (netnsFd !== undefined) writer.u32(IFLA.netnsFd, netnsFd);
      writer.endNest(peerNest);
      writer.endNest(data);
      writer.endNest(info);
    });
    const link = made === undefined ? undefined : decodeLink(made);
    return link?.peerIndex === undefined ? findLink(socket, local.name) : link;
  } finally {
    if (netnsFd !== undefined) close(netnsFd);
  }
}

/** `index` of a link of this namespace. */
export function setLink(socket: NetlinkSocket, index: number, change: LinkChange): void {
  const { body, ...message } = linkRequest(index, change);
  socket.request(message, body);
}

export function linkRequest(index: number, change: LinkChange): NetlinkRequest {
  return {
    type: RTM.setLink,
    subject: { operation: "set link", object: `index ${index} ${JSON.stringify(change)}` },
    body(writer) {
      writer.header(ifinfomsg(index, change.up === true ? IFF_UP : 0, change.up === undefined ? 0 : IFF_UP));
      if (change.name !== undefined) writer.string(IFLA.name, change.name);
      if (change.mac !== undefined) writer.raw(IFLA.address, macBytes(change.mac));
      if (change.mtu !== undefined) writer.u32(IFLA.mtu, change.mtu);
      if (change.ipv4 !== undefined) writeIpv4Conf(writer, change.ipv4);
    },
  };
}

function writeIpv4Conf(writer: MessageWriter, { forwarding, proxyArp }: NonNullable<LinkChange["ipv4"]>): void {
  const families = writer.beginNest(IFLA.afSpec);
  const family = writer.beginNest(AF_INET);
  const conf = writer.beginNest(IFLA_INET_CONF);
  if (forwarding !== undefined) writer.u32(IPV4_DEVCONF.forwarding, forwarding ? 1 : 0);
  if (proxyArp !== undefined) writer.u32(IPV4_DEVCONF.proxyArp, proxyArp ? 1 : 0);
  writer.endNest(conf);
  writer.endNest(family);
  writer.endNest(families);
}

/** Deleting one end of a veth pair deletes both. Throws NetlinkError ENODEV when there is none. */
export function deleteLink(socket: NetlinkSocket, name: string): void {
  socket.request({ type: RTM.delLink, subject: { operation: "delete link", object: name } }, (writer) => {
    writer.header(ifinfomsg(0, 0, 0));
    writer.string(IFLA.name, name);
  });
}

/** Puts a link into a group (IFLA_GROUP). Throws NetlinkError ENODEV when there is none. */
export function groupLink(socket: NetlinkSocket, name: string, group: number): void {
  socket.request({ type: RTM.setLink, subject: { operation: "group link", object: name } }, (writer) => {
    writer.header(ifinfomsg(0, 0, 0));
    writer.string(IFLA.name, name);
    writer.u32(IFLA.group, group);
  });
}

/** Deletes all links of a group in one step of the kernel's, on another thread: 20 ms for one as for a hundred. */
export function deleteLinkGroup(socket: NetlinkSocket, group: number): Promise<void> {
  return socket.requestAside({ type: RTM.delLink, subject: { operation: "delete links", object: `group ${group}` } }, (writer) => {
    writer.header(ifinfomsg(0, 0, 0));
    writer.u32(IFLA.group, group);
  });
}

export function findLink(socket: NetlinkSocket, name: string): Link | undefined {
  try {
    const [reply] = socket.request({ type: RTM.getLink, subject: { operation: "get link", object: name } }, (writer) => {
      writer.header(ifinfomsg(0, 0, 0));
      writer.string(IFLA.name, name);
      writer.u32(IFLA.extMask, RTEXT_FILTER_SKIP_STATS);
    });
    return reply === undefined ? undefined : decodeLink(reply);
  } catch (error) {
    if (isNetlinkError(error, "ENODEV")) return undefined;
    throw error;
  }
}

export function listLinks(socket: NetlinkSocket): Link[] {
  const messages = socket.dump({ type: RTM.getLink, subject: LINK_SUBJECT }, (writer) => {
    writer.header(ifinfomsg(0, 0, 0));
    writer.u32(IFLA.extMask, RTEXT_FILTER_SKIP_STATS);
  });
  return messages.map(decodeLink);
}

export function decodeLink(message: NetlinkMessage): Link {
  const { payload } = message;
  const attributes = new Attributes(payload.subarray(IFINFOMSG));
  const flags = payload.readUInt32LE(8);
  const kind = attributes.nested(IFLA.info)?.string(IFLA_INFO.kind);
  const mac = attributes.raw(IFLA.address);
  return {
    index: payload.readInt32LE(4),
    name: attributes.string(IFLA.name) ?? "",
    mtu: attributes.u32(IFLA.mtu) ?? 0,
    mac: mac?.length === 6 ? macText(mac) : undefined,
    flags,
    isUp: (flags & IFF_UP) !== 0,
    hasCarrier: (flags & IFF_LOWER_UP) !== 0,
    kind,
    peerIndex: kind === "veth" ? attributes.u32(IFLA.link) : undefined,
    masterIndex: attributes.u32(IFLA.master),
  };
}

/** One queue each: the kernel's default is one for each processor, which doubles the time to make and remove a pair on two, and a pair has no use for them. */
function writeEnd(writer: MessageWriter, { name, mac, mtu }: VethEnd): void {
  writer.string(IFLA.name, name);
  if (mac !== undefined) writer.raw(IFLA.address, macBytes(mac));
  if (mtu !== undefined) writer.u32(IFLA.mtu, mtu);
  writer.u32(IFLA.txQueues, 1);
  writer.u32(IFLA.rxQueues, 1);
}

/** struct ifinfomsg. */
function ifinfomsg(index: number, flags: number, change: number): number[] {
  return [0, 0, 0, 0, ...u32Bytes(index), ...u32Bytes(flags), ...u32Bytes(change)];
}
