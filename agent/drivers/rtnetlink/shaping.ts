/**
 * Traffic shaping of an interface: a token bucket for what goes out, and one on a device of its own (ifb) for what comes in.
 *
 * What an interface receives cannot be queued there: an ingress qdisc sends it through the ifb device, and it goes on from there as if it had come in now.
 * Source: net/sched/{sch_tbf,sch_ingress,cls_u32,act_mirred}.c; include/uapi/linux/{pkt_sched,pkt_cls}.h; tc-tbf(8).
 * Invariant: our token buckets have a handle of their own, so that those of others (the bandwidth plugin's) are known from ours and never touched.
 */
import { Attributes } from "../netlink/attributes.ts";
import { isNetlinkError } from "../netlink/error.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "../netlink/message.ts";
import type { NetlinkSocket } from "../netlink/socket.ts";
import { IFF_UP, IFLA, IFLA_INFO, RTM, u32Bytes } from "./protocol.ts";

/** A token bucket: bits a second, bytes. */
export interface Shape {
  readonly bitsPerSecond: number;
  readonly burstBytes: number;
  readonly peakBitsPerSecond?: number;
  readonly minBurstBytes?: number;
  /** Of the interface: no bucket is smaller than a packet, or nothing would pass. */
  readonly mtu: number;
}

export interface Qdisc {
  readonly linkIndex: number;
  readonly kind: string;
  readonly handle: number;
  readonly isOurs: boolean;
}

const OUR_HANDLE = 0x5ed6_0000;
const TC_H_ROOT = 0xffff_ffff;
const TC_H_INGRESS = 0xffff_fff1;
const INGRESS_HANDLE = 0xffff_0000;
const TCA = { kind: 1, options: 2 } as const;
const TCA_TBF = { parameters: 1, rate64: 4, peakRate64: 5, burst: 6, peakBurst: 7 } as const;
const TCA_U32 = { selector: 5, action: 7 } as const;
const TCA_ACTION = { kind: 1, options: 2 } as const;
const TCA_MIRRED_PARAMETERS = 2;
const TC_U32_TERMINAL = 1;
const TC_ACT_STOLEN = 4;
const MIRRED_EGRESS_REDIRECT = 1;
const ETH_P_ALL = 0x0003;
const PRIORITY = 1;
const LINKLAYER_ETHERNET = 1;
const TCMSG = 20;
const UINT32 = 0xffff_ffff;
/** Longest time that a packet waits in the queue, as the bandwidth plugin and Calico have it. */
const LATENCY_SECONDS = 0.025;
/** Ethernet header, a VLAN tag and some. */
const FRAME_OVERHEAD_BYTES = 32;

/** Puts it at the root, in the place of an earlier one of ours. Throws NetlinkError EEXIST when somebody else's queue is there. */
export function shapeLink(socket: NetlinkSocket, linkIndex: number, shape: Shape, isChange: boolean): void {
  const subject = { operation: "shape", object: `link ${linkIndex} to ${shape.bitsPerSecond} bit/s` };
  socket.request({ type: RTM.newQdisc, flags: NLM_F_CREATE | (isChange ? NLM_F_REPLACE : NLM_F_EXCL), subject }, (writer) => {
    writer.header(tcmsg(linkIndex, OUR_HANDLE, TC_H_ROOT));
    writer.string(TCA.kind, "tbf");
    const options = writer.beginNest(TCA.options);
    const smallest = shape.mtu + FRAME_OVERHEAD_BYTES;
    const rate = Math.ceil(shape.bitsPerSecond / 8);
    const burst = Math.min(UINT32, Math.max(smallest, shape.burstBytes));
    const peak = shape.peakBitsPerSecond === undefined ? 0 : Math.ceil(shape.peakBitsPerSecond / 8);
    const parameters = Buffer.alloc(36);
    writeRate(parameters, 0, rate);
    if (peak > 0) writeRate(parameters, 12, peak);
    parameters.writeUInt32LE(Math.min(UINT32, Math.ceil(rate * LATENCY_SECONDS) + burst), 24);
    writer.raw(TCA_TBF.parameters, parameters);
    writer.raw(TCA_TBF.rate64, u64(rate));
    writer.u32(TCA_TBF.burst, burst);
    if (peak > 0) {
      writer.raw(TCA_TBF.peakRate64, u64(peak));
      writer.u32(TCA_TBF.peakBurst, Math.max(smallest, shape.minBurstBytes ?? 0));
    }
    writer.endNest(options);
  });
}

/** Of an interface that has none, or is gone: nothing. */
export function unshapeLink(socket: NetlinkSocket, linkIndex: number): void {
  remove(socket, linkIndex, { handle: OUR_HANDLE, parent: TC_H_ROOT });
}

/** Sends all that the interface receives through the device of the other index. */
export function redirectReceived(socket: NetlinkSocket, linkIndex: number, toIndex: number): void {
  const object = `what link ${linkIndex} receives to link ${toIndex}`;
  const queue = { type: RTM.newQdisc, flags: NLM_F_CREATE | NLM_F_EXCL, subject: { operation: "redirect", object } };
  socket.request(queue, (writer) => {
    writer.header(tcmsg(linkIndex, INGRESS_HANDLE, TC_H_INGRESS));
    writer.string(TCA.kind, "ingress");
  });
  socket.request({ type: RTM.newFilter, flags: NLM_F_CREATE | NLM_F_EXCL, subject: { operation: "redirect", object } }, (writer) => {
    writer.header(tcmsg(linkIndex, 0, INGRESS_HANDLE, ((PRIORITY << 16) | swapped(ETH_P_ALL)) >>> 0));
    writer.string(TCA.kind, "u32");
    const options = writer.beginNest(TCA.options);
    // struct tc_u32_sel with one key that matches everything.
    const selector = Buffer.alloc(16 + 16);
    selector.writeUInt8(TC_U32_TERMINAL, 0);
    selector.writeUInt8(1, 2);
    writer.raw(TCA_U32.selector, selector);
    const actions = writer.beginNest(TCA_U32.action);
    const action = writer.beginNest(1);
    writer.string(TCA_ACTION.kind, "mirred");
    const actionOptions = writer.beginNest(TCA_ACTION.options);
    const redirect = Buffer.alloc(28);
    redirect.writeInt32LE(TC_ACT_STOLEN, 8);
    redirect.writeInt32LE(MIRRED_EGRESS_REDIRECT, 20);
    redirect.writeUInt32LE(toIndex, 24);
    writer.raw(TCA_MIRRED_PARAMETERS, redirect);
    writer.endNest(actionOptions);
    writer.endNest(action);
    writer.endNest(actions);
    writer.endNest(options);
  });
}

/** With its filters; of an interface that has none, or is gone: nothing. */
export function receiveDirectly(socket: NetlinkSocket, linkIndex: number): void {
  remove(socket, linkIndex, { handle: INGRESS_HANDLE, parent: TC_H_INGRESS });
}

/** A device that what is redirected to it leaves by where it came from; up. Throws NetlinkError EEXIST, EOPNOTSUPP without the kernel's ifb. */
export function createIfb(socket: NetlinkSocket, { name, mtu }: { readonly name: string; readonly mtu: number }): void {
  const subject = { operation: "add link", object: `${name} (ifb)` };
  socket.request({ type: RTM.newLink, flags: NLM_F_CREATE | NLM_F_EXCL, subject }, (writer) => {
    writer.header([0, 0, 0, 0, ...u32Bytes(0), ...u32Bytes(IFF_UP), ...u32Bytes(IFF_UP)]);
    writer.string(IFLA.name, name);
    writer.u32(IFLA.mtu, mtu);
    writer.u32(IFLA.txQueues, 1);
    writer.u32(IFLA.rxQueues, 1);
    const info = writer.beginNest(IFLA.info);
    writer.string(IFLA_INFO.kind, "ifb");
    writer.endNest(info);
  });
}

export function listQdiscs(socket: NetlinkSocket): readonly Qdisc[] {
  const messages = socket.dump({ type: RTM.getQdisc, subject: { operation: "list", object: "queues" } }, (writer) => writer.header(tcmsg(0, 0, 0)));
  return messages.map(({ payload }) => {
    const handle = payload.readUInt32LE(8);
    const kind = new Attributes(payload.subarray(TCMSG)).string(TCA.kind) ?? "";
    return { linkIndex: payload.readInt32LE(4), kind, handle, isOurs: kind === "tbf" && handle === OUR_HANDLE };
  });
}

function remove(socket: NetlinkSocket, linkIndex: number, { handle, parent }: { readonly handle: number; readonly parent: number }): void {
  try {
    socket.request({ type: RTM.delQdisc, subject: { operation: "remove", object: `queue of link ${linkIndex}` } }, (writer) =>
      writer.header(tcmsg(linkIndex, handle, parent)),
    );
  } catch (error) {
    // EINVAL: another queue, or none, is in that place.
    if (!["ENOENT", "ENODEV", "EINVAL"].some((code) => isNetlinkError(error, code))) throw error;
  }
}

/** struct tcmsg. */
function tcmsg(linkIndex: number, handle: number, parent: number, info = 0): number[] {
  return [0, 0, 0, 0, ...u32Bytes(linkIndex), ...u32Bytes(handle), ...u32Bytes(parent), ...u32Bytes(info)];
}

/** struct tc_ratespec; the rate itself is in an attribute of 64 bits. */
function writeRate(into: Buffer, at: number, bytesPerSecond: number): void {
  into.writeUInt8(LINKLAYER_ETHERNET, at + 1);
  into.writeUInt32LE(Math.min(UINT32, bytesPerSecond), at + 8);
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** The kernel wants the protocol in network order. */
function swapped(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}
