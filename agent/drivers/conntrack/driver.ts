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
const CTA_TUPLE_PROTO = 2;
const CTA_PROTO = { number: 1, sourcePort: 2, destinationPort: 3, icmpType: 5, icmpCode: 6, icmpv6Type: 8, icmpv6Code: 9 } as const;
const CTA_IP = { v4Source: 1, v4Destination: 2, v6Source: 3, v6Destination: 4 } as const;

export type ConntrackSelection = {
  /** Entries with one of these as source or destination, in either direction (so before and after translation). */
  readonly addresses: ReadonlySet<IpAddress>;
};

/** One connection as policy sees it: the source before and the destination after translation. */
export type ConntrackFlow = {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
  readonly icmpType: number | undefined;
  readonly icmpCode: number | undefined;
  /** For `deleteFlow`: the entry as the kernel told it. */
  readonly entry: { readonly family: number; readonly attributes: Attributes; readonly original: Buffer };
};

/** What cutting connections needs. */
export type Conntrack = {
  flows(selection: ConntrackSelection): readonly ConntrackFlow[];
  deleteFlow(flow: ConntrackFlow): boolean;
};

export class ConntrackDriver implements Conntrack, Disposable {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** `netns`: path of a network namespace; absent: the process's own. Throws SystemCallError. */
  static open({ netns }: { readonly netns?: string } = {}): ConntrackDriver {
    return new ConntrackDriver(NetlinkSocket.open({ protocol: NETLINK_NETFILTER, netns }));
  }

  /** Delete what the selection names; how many entries went. Those that end by themselves meanwhile are not counted. */
  deleteByAddress(selection: ConntrackSelection): number {
    return this.flows(selection).filter((flow) => this.deleteFlow(flow)).length;
  }

  /** All connections that the selection names. */
  flows({ addresses }: ConntrackSelection): readonly ConntrackFlow[] {
    return [AF_INET, AF_INET6].flatMap((family) => {
      const isWanted = [...addresses].some((address) => address.includes(":") === (family === AF_INET6));
      return isWanted ? this.#flowsOf(family, addresses) : [];
    });
  }

  /** False: it ended by itself. */
  deleteFlow({ entry: { family, attributes, original } }: ConntrackFlow): boolean {
    return this.#deleteEntry(family, attributes, original);
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #flowsOf(family: number, addresses: ReadonlySet<IpAddress>): ConntrackFlow[] {
    const entries = this.#socket.dump({ type: IPCTNL_MSG_CT_GET, subject: { operation: "list", object: "conntrack entries" } }, (writer) =>
      writer.header([family, 0, 0, 0]),
    );
    return entries.flatMap(({ payload }) => {
      const attributes = new Attributes(payload.subarray(NFGENMSG));
      const original = attributes.raw(CTA.tupleOriginal);
      const reply = attributes.raw(CTA.tupleReply);
      if (original === undefined) return [];
      const [source, destination] = tupleAddresses(original);
      const answers = reply === undefined ? [] : tupleAddresses(reply);
      if (source === undefined || destination === undefined || ![source, destination, ...answers].some((address) => addresses.has(address))) return [];
      const sent = new Attributes(original).nested(CTA_TUPLE_PROTO);
      const back = reply === undefined ? undefined : new Attributes(reply).nested(CTA_TUPLE_PROTO);
      return [
        {
          source,
          // Who answers is who it really goes to.
          destination: answers[0] ?? destination,
          protocol: sent?.u8(CTA_PROTO.number) ?? 0,
          sourcePort: sent?.u16Be(CTA_PROTO.sourcePort),
          destinationPort: back?.u16Be(CTA_PROTO.sourcePort) ?? sent?.u16Be(CTA_PROTO.destinationPort),
          icmpType: sent?.u8(CTA_PROTO.icmpType) ?? sent?.u8(CTA_PROTO.icmpv6Type),
          icmpCode: sent?.u8(CTA_PROTO.icmpCode) ?? sent?.u8(CTA_PROTO.icmpv6Code),
          entry: { family, attributes, original },
        },
      ];
    });
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
