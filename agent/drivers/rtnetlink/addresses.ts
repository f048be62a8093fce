/** Addresses of interfaces, and permanent neighbours (what a pod's gateway answers to without ARP). */
import { type IpAddress, ipBytes, ipFromBytes, parseIp } from "../../../src/net/ip.ts";
import { Attributes } from "../netlink/attributes.ts";
import { type NetlinkMessage, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "../netlink/message.ts";
import type { NetlinkRequest, NetlinkSocket } from "../netlink/socket.ts";
import { AF_INET, AF_INET6, familyOf, IFA, IFA_F_NODAD, macBytes, macText, NDA, NDTA, NDTPA, NUD_PERMANENT, RT_SCOPE, RTM, u32Bytes } from "./protocol.ts";

export type LinkAddress = {
  readonly linkIndex: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
};

export type Neighbour = {
  readonly linkIndex: number;
  readonly address: IpAddress;
  readonly mac: string;
};

const IFADDRMSG = 8;
const NDMSG = 12;

/** IPv6 without duplicate address detection: the address is ours by allocation. Throws NetlinkError EEXIST when it is there. */
export function addAddress(socket: NetlinkSocket, address: LinkAddress): void {
  const { body, ...message } = addressRequest(address);
  socket.request(message, body);
}

export function addressRequest(address: LinkAddress): NetlinkRequest {
  return {
    type: RTM.newAddress,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    subject: subject("add address", address),
    body(writer) {
      writer.header(ifaddrmsg(address));
      const bytes = ipBytes(parseIp(address.address));
      writer.raw(IFA.local, bytes);
      writer.raw(IFA.address, bytes);
      if (familyOf(address.address) === AF_INET6) writer.u32(IFA.flags, IFA_F_NODAD);
    },
  };
}

/** Throws NetlinkError EADDRNOTAVAIL when it is not there. */
export function deleteAddress(socket: NetlinkSocket, address: LinkAddress): void {
  socket.request({ type: RTM.delAddress, subject: subject("delete address", address) }, (writer) => {
    writer.header(ifaddrmsg(address));
    writer.raw(IFA.local, ipBytes(parseIp(address.address)));
  });
}

/** Both families. */
export function listAddresses(socket: NetlinkSocket): LinkAddress[] {
  const messages = socket.dump({ type: RTM.getAddress, subject: { operation: "list", object: "addresses" } }, (writer) =>
    writer.header([0, 0, 0, 0, 0, 0, 0, 0]),
  );
  return messages.map(decodeAddress).filter((address) => address !== undefined);
}

export function decodeAddress({ payload }: NetlinkMessage): LinkAddress | undefined {
  const attributes = new Attributes(payload.subarray(IFADDRMSG));
  const bytes = attributes.raw(IFA.local) ?? attributes.raw(IFA.address);
  if (bytes === undefined) return undefined;
  return { linkIndex: payload.readUInt32LE(4), address: ipFromBytes(bytes), prefixLength: payload.readUInt8(1) };
}

/** A permanent entry; replaces what is there. */
export function setNeighbour(socket: NetlinkSocket, neighbour: Neighbour): void {
  const { body, ...message } = neighbourRequest(neighbour);
  socket.request(message, body);
}

export function neighbourRequest(neighbour: Neighbour): NetlinkRequest {
  return {
    type: RTM.newNeighbour,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    subject: { operation: "add neighbour", object: `${neighbour.address} at ${neighbour.mac}` },
    body(writer) {
      writer.header(ndmsg(neighbour, NUD_PERMANENT));
      writer.raw(NDA.destination, ipBytes(parseIp(neighbour.address)));
      writer.raw(NDA.address, macBytes(neighbour.mac));
    },
  };
}

/** For ARP requests of 169.254.1.1 on the interface: answered at once (neigh/<name>/proxy_delay 0; the kernel waits up to 0.8 s by itself). */
export function proxyDelayRequest(linkIndex: number, milliseconds: number): NetlinkRequest {
  return {
    type: RTM.setNeighbourTable,
    subject: { operation: "set proxy_delay", object: `index ${linkIndex}` },
    body(writer) {
      writer.header([AF_INET, 0, 0, 0]);
      writer.string(NDTA.name, "arp_cache");
      const parameters = writer.beginNest(NDTA.parameters);
      writer.u32(NDTPA.ifindex, linkIndex);
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(milliseconds));
      writer.raw(NDTPA.proxyDelay, bytes);
      writer.endNest(parameters);
    },
  };
}

/** Throws NetlinkError ENOENT when it is not there. */
export function deleteNeighbour(socket: NetlinkSocket, neighbour: Pick<Neighbour, "linkIndex" | "address">): void {
  socket.request({ type: RTM.delNeighbour, subject: { operation: "delete neighbour", object: neighbour.address } }, (writer) => {
    writer.header(ndmsg(neighbour, 0));
    writer.raw(NDA.destination, ipBytes(parseIp(neighbour.address)));
  });
}

/** Permanent entries of both families; what the kernel learned by itself is left out. */
export function listPermanentNeighbours(socket: NetlinkSocket): Neighbour[] {
  const messages = socket.dump({ type: RTM.getNeighbour, subject: { operation: "list", object: "neighbours" } }, (writer) =>
    writer.header([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
  );
  const found: Neighbour[] = [];
  for (const { payload } of messages) {
    if ((payload.readUInt16LE(8) & NUD_PERMANENT) === 0) continue;
    const attributes = new Attributes(payload.subarray(NDMSG));
    const address = attributes.raw(NDA.destination);
    const mac = attributes.raw(NDA.address);
    if (address !== undefined && mac?.length === 6) found.push({ linkIndex: payload.readInt32LE(4), address: ipFromBytes(address), mac: macText(mac) });
  }
  return found;
}

function subject(operation: string, { address, prefixLength, linkIndex }: LinkAddress): { readonly operation: string; readonly object: string } {
  return { operation, object: `${address}/${prefixLength} on link ${linkIndex}` };
}

/** struct ifaddrmsg. */
function ifaddrmsg({ linkIndex, address, prefixLength }: LinkAddress): number[] {
  return [familyOf(address), prefixLength, 0, RT_SCOPE.universe, ...u32Bytes(linkIndex)];
}

/** struct ndmsg. */
function ndmsg({ linkIndex, address }: Pick<Neighbour, "linkIndex" | "address">, state: number): number[] {
  return [familyOf(address), 0, 0, 0, ...u32Bytes(linkIndex), state & 0xff, state >> 8, 0, 0];
}
