/**
 * Netlink messages (struct nlmsghdr): writing many into one buffer, splitting what the kernel sends, and its error replies.
 *
 * Source: Linux Documentation/userspace-api/netlink/intro.rst; include/uapi/linux/netlink.h.
 */
import { Attributes, AttributeWriter, align4 } from "./attributes.ts";

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_ECHO = 0x8;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_CAPPED = 0x100;
export const NLM_F_ACK_TLVS = 0x200;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

const MESSAGE_HEADER = 16;
const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;

export type NetlinkMessage = {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  /** Port id of the socket that asked, or that caused a notification; 0 for the kernel itself. */
  readonly portId: number;
  /** Family header and attributes. */
  readonly payload: Buffer;
};

export type MessageHeader = { readonly type: number; readonly flags: number; readonly sequence: number };

/** Writes messages one after the other; `begin`, family header, attributes, `end`. */
export class MessageWriter extends AttributeWriter {
  #start = 0;

  begin({ type, flags, sequence }: MessageHeader): void {
    this.#start = this.reserve(MESSAGE_HEADER);
    this.buffer.writeUInt16LE(type, this.#start + 4);
    this.buffer.writeUInt16LE(flags, this.#start + 6);
    this.buffer.writeUInt32LE(sequence, this.#start + 8);
  }

  /** The family's fixed header, e.g. struct rtmsg or struct nfgenmsg. */
  header(bytes: readonly number[]): void {
    const at = this.reserve(bytes.length);
    for (let index = 0; index < bytes.length; index += 1) this.buffer[at + index] = bytes[index] ?? 0;
  }

  end(): void {
    this.buffer.writeUInt32LE(this.length - this.#start, this.#start);
  }

  /** Bytes of the message being written, header included. */
  get messageLength(): number {
    return this.length - this.#start;
  }
}

/** Split one datagram. A cut-off tail ends the walk. */
export function splitMessages(datagram: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  let at = 0;
  while (at + MESSAGE_HEADER <= datagram.length) {
    const length = datagram.readUInt32LE(at);
    if (length < MESSAGE_HEADER || at + length > datagram.length) break;
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      portId: datagram.readUInt32LE(at + 12),
      payload: datagram.subarray(at + MESSAGE_HEADER, at + length),
    });
    at += align4(length);
  }
  return messages;
}

export type KernelReply = {
  /** 0 is success. */
  readonly errno: number;
  /** The kernel's own words (extended acknowledgement), where it has any. */
  readonly reason?: string;
  /** Offset in the request of the attribute that the kernel objects to. */
  readonly offset?: number;
};

/** The content of an NLMSG_ERROR, or of an NLMSG_DONE that closes a dump. */
export function decodeReply(message: NetlinkMessage): KernelReply {
  const { payload } = message;
  if (payload.length < 4) return { errno: 0 };
  const errno = -payload.readInt32LE(0);
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno };
  let attributesAt = 4;
  if (message.type === NLMSG_ERROR) {
    // The request's header follows, and its whole payload unless the kernel says that it capped it.
    const requestLength = (message.flags & NLM_F_CAPPED) === 0 ? payload.readUInt32LE(4) : MESSAGE_HEADER;
    attributesAt += align4(requestLength);
  }
  const attributes = new Attributes(payload.subarray(attributesAt));
  const reason = attributes.string(NLMSGERR_ATTR_MSG);
  const offset = attributes.u32(NLMSGERR_ATTR_OFFS);
  return { errno, ...(reason === undefined ? {} : { reason }), ...(offset === undefined ? {} : { offset }) };
}
