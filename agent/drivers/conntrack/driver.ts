/**
 * Forgetting connections: a pod whose address goes to another pod, or whose policy now denies what it had open, must not
 * keep flows that "established" would let through.
 *
 * Entries are found by dumping the table of one family and comparing addresses here, because the kernel's own filter
 * (CTA_FILTER) knows exact tuples only and came in Linux 5.8. Cost follows the number of flows on the node.
 */
import { type IpAddress, ipFromBytes } from "../../../src/net/ip.ts";
import { Attributes, listAttributes } from "../netlink/attributes.ts";
import { isNetlinkError } from "../netlink/error.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../netlink/socket.ts";

const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_GET = (NFNL_SUBSYS_CTNETLINK << 8) | 1;
const IPCTNL_MSG_CT_DELETE = (NFNL_SUBSYS_CTNETLINK << 8) | 2;
const NFGENMSG = 4;
const AF_INET = 2;
const AF_INET6 = 10;
const CTA = { tupleOriginal: 1, tupleReply: 2, id: 12, zone: 18 } as const;
const CTA_TUPLE_IP = 1;
const CTA_IP = { v4Source: 1, v4Destination: 2, v6Source: 3, v6Destination: 4 } as const;

export type ConntrackSelection = {
  /** Entries with one of these as source or destination, in either direction (so before and after translation). */
  readonly addresses: ReadonlySet<IpAddress>;
};

export class ConntrackDriver implements Disposable {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** `netns`: path of a network namespace; absent: the process's own. Throws SystemCallError. */
  static open({ netns }: { readonly netns?: string } = {}): ConntrackDriver {
    return new ConntrackDriver(NetlinkSocket.open({ protocol: NETLINK_NETFILTER, netns }));
  }

  /** Delete what the selection names; how many entries went. Those that end by themselves meanwhile are not counted. */
  deleteByAddress({ addresses }: ConntrackSelection): number {
    if (addresses.size === 0) return 0;
    let deleted = 0;
    for (const family of [AF_INET, AF_INET6]) {
      const isWanted = [...addresses].some((address) => address.includes(":") === (family === AF_INET6));
      if (isWanted) deleted += this.#deleteFamily(family, addresses);
    }
    return deleted;
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #deleteFamily(family: number, addresses: ReadonlySet<IpAddress>): number {
    const entries = this.#socket.dump({ type: IPCTNL_MSG_CT_GET, subject: { operation: "list", object: "conntrack entries" } }, (writer) =>
      writer.header([family, 0, 0, 0]),
    );
    let deleted = 0;
    for (const { payload } of entries) {
      const attributes = new Attributes(payload.subarray(NFGENMSG));
      const original = attributes.raw(CTA.tupleOriginal);
      const reply = attributes.raw(CTA.tupleReply);
      if (original === undefined) continue;
      const named = [...tupleAddresses(original), ...(reply === undefined ? [] : tupleAddresses(reply))];
      if (named.some((address) => addresses.has(address)) && this.#deleteEntry(family, attributes, original)) deleted += 1;
    }
    return deleted;
  }

  /** By tuple, and by id so that a new flow with the same tuple is spared. */
  #deleteEntry(family: number, attributes: Attributes, original: Buffer): boolean {
    const id = attributes.raw(CTA.id);
    const zone = attributes.raw(CTA.zone);
    try {
      this.#socket.request(
        { type: IPCTNL_MSG_CT_DELETE, subject: { operation: "delete", object: `conntrack entry ${tupleAddresses(original).join(" -> ")}` } },
        (writer) => {
          writer.header([family, 0, 0, 0]);
          const tuple = writer.beginNest(CTA.tupleOriginal);
          for (const { type, value } of listAttributes(original)) writer.nested(type, value);
          writer.endNest(tuple);
          if (id !== undefined) writer.raw(CTA.id, id);
          if (zone !== undefined) writer.raw(CTA.zone, zone);
        },
      );
      return true;
    } catch (error) {
      if (isNetlinkError(error, "ENOENT")) return false;
      throw error;
    }
  }
}

/** Source and destination. */
function tupleAddresses(tuple: Buffer): IpAddress[] {
  const ip = new Attributes(tuple).nested(CTA_TUPLE_IP);
  if (ip === undefined) return [];
  const source = ip.raw(CTA_IP.v4Source) ?? ip.raw(CTA_IP.v6Source);
  const destination = ip.raw(CTA_IP.v4Destination) ?? ip.raw(CTA_IP.v6Destination);
  return [source, destination].filter((bytes) => bytes !== undefined).map((bytes) => ipFromBytes(bytes));
}
