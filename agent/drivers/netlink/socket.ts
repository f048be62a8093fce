/**
 * A netlink socket: requests with acknowledgement, dumps, batches, and notifications.
 *
 * The kernel answers netlink requests inside send(2), so the replies are there when it returns and reading them does not
 * block; that is why everything here is synchronous (0.02 ms a request), and why a receive time-out means a bug or a dead
 * kernel, not a slow peer. Notifications arrive through the event loop (`subscribe`), on sockets of their own.
 * Invariant: the socket stays in the network namespace that it was opened in, whatever the thread does later.
 */
import { NetlinkError } from "./error.ts";
import {
  bindNetlink,
  close,
  dropDatagramsWith,
  errnoNumber,
  inNetns,
  netlinkSocket,
  receive,
  SystemCallError,
  send,
  sendAside,
  setSocketOption,
  setSocketTimeout,
  watchReadable,
} from "./libc.ts";
import {
  decodeReply,
  type KernelReply,
  MessageWriter,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  splitMessages,
} from "./message.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

const RECEIVE_TIMEOUT_MS = 5_000;
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024;
/** The kernel never makes a datagram near this; one that is cut off is an error, not a loss. */
const DATAGRAM_BYTES = 1024 * 1024;
/** A dump that is disturbed by changes again and again gives up; the caller's resync comes back to it. */
const DUMP_ATTEMPTS = 16;
/** A request's own bytes plus the kernel's bookkeeping per datagram. */
const SEND_OVERHEAD_BYTES = 64 * 1024;

/** nlmsg_pid in struct nlmsghdr. */
const PORT_ID_OFFSET = 12;
/** So many datagrams are read before other work of the event loop has its turn. */
const DATAGRAMS_PER_TURN = 256;

/** All calls are synchronous, so one buffer serves every socket of the thread. */
const datagramBuffer = Buffer.alloc(DATAGRAM_BYTES);

export type NetlinkSocketOptions = {
  /** NETLINK_ROUTE, NETLINK_NETFILTER. */
  readonly protocol: number;
  /** Path of a network namespace; absent: the thread's own. */
  readonly netns?: string | undefined;
  /** Multicast groups (RTNLGRP_*, NFNLGRP_*) whose notifications `subscribe` delivers. */
  readonly groups?: readonly number[];
  /** Leave out, in the kernel, notifications of what the socket with this port id caused: our own commits are large. */
  readonly ignorePortId?: number;
};

export type RequestSubject = { readonly operation: string; readonly object: string };

/** Writes the body (family header and attributes) of one message. */
export type MessageBody = (writer: MessageWriter) => void;

export type NetlinkRequest = { readonly type: number; readonly flags?: number; readonly subject: RequestSubject; readonly body: MessageBody };

export class NetlinkSocket implements Disposable {
  readonly portId: number;
  readonly #fd: number;
  #sequence = 1;
  #sendBufferBytes = 0;
  #isOpen = true;

  private constructor(fd: number, portId: number) {
    this.#fd = fd;
    this.portId = portId;
  }

  /** Throws SystemCallError (EPERM without CAP_NET_ADMIN or CAP_SYS_ADMIN, ENOENT for a namespace that is gone). */
  static open({ protocol, netns, groups = [], ignorePortId }: NetlinkSocketOptions): NetlinkSocket {
    const fd = netns === undefined ? netlinkSocket(protocol) : inNetns(netns, () => netlinkSocket(protocol));
    try {
      setSocketTimeout(fd, SOL_SOCKET, SO_RCVTIMEO, RECEIVE_TIMEOUT_MS);
      setSocketOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES);
      setSocketOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
      setSocketOption(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
      if (protocol === NETLINK_ROUTE) setSocketOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
      if (ignorePortId !== undefined) dropDatagramsWith(fd, { offset: PORT_ID_OFFSET, value: ignorePortId });
      const portId = bindNetlink(fd);
      for (const group of groups) setSocketOption(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
      return new NetlinkSocket(fd, portId);
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  nextSequence(): number {
    this.#sequence = this.#sequence >= 0xffff_fff0 ? 1 : this.#sequence + 1;
    return this.#sequence;
  }

  /** One request, acknowledged; the messages that came before the acknowledgement. Throws NetlinkError. */
  request(message: { readonly type: number; readonly flags?: number; readonly subject: RequestSubject }, body: MessageBody): NetlinkMessage[] {
    const sequence = this.nextSequence();
    const writer = new MessageWriter(256);
    writer.begin({ type: message.type, flags: NLM_F_REQUEST | NLM_F_ACK | (message.flags ?? 0), sequence });
    body(writer);
    writer.end();
    this.sendDatagram(writer.bytes());
    return this.#replies(sequence, message.subject);
  }

  /** Many requests in one datagram; the kernel carries out each, in order, whatever became of those before. Throws the first one's NetlinkError. */
  requestAll(requests: readonly NetlinkRequest[]): void {
    if (requests.length === 0) return;
    const writer = new MessageWriter(requests.length * 96);
    const waiting = new Map<number, RequestSubject>();
    for (const { type, flags = 0, subject, body } of requests) {
      const sequence = this.nextSequence();
      waiting.set(sequence, subject);
      writer.begin({ type, flags: NLM_F_REQUEST | NLM_F_ACK | flags, sequence });
      body(writer);
      writer.end();
    }
    this.sendDatagram(writer.bytes());
    let failure: NetlinkError | undefined;
    for (let subject = firstOf(waiting); subject !== undefined; subject = firstOf(waiting)) {
      for (const reply of this.receiveDatagram(subject)) {
        const answered = reply.type === NLMSG_ERROR ? waiting.get(reply.sequence) : undefined;
        if (answered === undefined) continue;
        waiting.delete(reply.sequence);
        const { errno, reason } = decodeReply(reply);
        if (errno !== 0) failure ??= new NetlinkError({ ...answered, errno, reason });
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** As `request`, for one that the kernel works on for long: it is sent on another thread. The socket must be left alone until it settles. */
  async requestAside(message: { readonly type: number; readonly subject: RequestSubject }, body: MessageBody): Promise<void> {
    const sequence = this.nextSequence();
    const writer = new MessageWriter(256);
    writer.begin({ type: message.type, flags: NLM_F_REQUEST | NLM_F_ACK, sequence });
    body(writer);
    writer.end();
    await sendAside(this.#fd, writer.bytes());
    this.#replies(sequence, message.subject);
  }

  #replies(sequence: number, subject: RequestSubject): NetlinkMessage[] {
    const replies: NetlinkMessage[] = [];
    for (;;) {
      for (const reply of this.receiveDatagram(subject)) {
        if (reply.sequence !== sequence) continue;
        if (reply.type === NLMSG_ERROR) {
          throwFailed(decodeReply(reply), subject);
          return replies;
        }
        replies.push(reply);
      }
    }
  }

  /** All objects of a kind. Restarted when the kernel says that it changed meanwhile (NLM_F_DUMP_INTR). */
  dump(message: { readonly type: number; readonly subject: RequestSubject }, body: MessageBody): NetlinkMessage[] {
    for (let attempt = 1; attempt <= DUMP_ATTEMPTS; attempt += 1) {
      const found = this.#dumpOnce(message, body);
      if (found !== undefined) return found;
    }
    throw new NetlinkError({ ...message.subject, errno: errnoNumber("EINTR"), reason: `changed during each of ${DUMP_ATTEMPTS} readings` });
  }

  #dumpOnce({ type, subject }: { readonly type: number; readonly subject: RequestSubject }, body: MessageBody): NetlinkMessage[] | undefined {
    const sequence = this.nextSequence();
    const writer = new MessageWriter(256);
    writer.begin({ type, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence });
    body(writer);
    writer.end();
    this.sendDatagram(writer.bytes());
    const found: NetlinkMessage[] = [];
    let isConsistent = true;
    for (;;) {
      for (const reply of this.receiveDatagram(subject)) {
        if (reply.sequence !== sequence) continue;
        if ((reply.flags & NLM_F_DUMP_INTR) !== 0) isConsistent = false;
        if (reply.type === NLMSG_DONE || reply.type === NLMSG_ERROR) {
          const result = decodeReply(reply);
          if (result.errno === errnoNumber("EINTR")) return undefined;
          throwFailed(result, subject);
          return isConsistent ? found : undefined;
        }
        found.push(reply);
      }
    }
  }

  /** Send one datagram, however large: the send buffer grows with it. */
  sendDatagram(bytes: Uint8Array): void {
    const needed = bytes.length + SEND_OVERHEAD_BYTES;
    if (needed > this.#sendBufferBytes) {
      setSocketOption(this.#fd, SOL_SOCKET, SO_SNDBUFFORCE, needed);
      this.#sendBufferBytes = needed;
    }
    send(this.#fd, bytes);
  }

  /** The messages of the next datagram; throws when none comes in time. */
  receiveDatagram(subject: RequestSubject): NetlinkMessage[] {
    const messages = this.#receive({ wait: true }, subject);
    if (messages === undefined) throw new NetlinkError({ ...subject, errno: errnoNumber("ETIMEDOUT"), reason: "no answer from the kernel" });
    return messages;
  }

  /** The messages of the next datagram, or undefined when there is none now. */
  tryReceiveDatagram(subject: RequestSubject): NetlinkMessage[] | undefined {
    return this.#receive({ wait: false }, subject);
  }

  /**
   * Deliver notifications of the groups until the signal aborts; all that are there at once in one call. "lost" tells that the kernel dropped some because the
   * socket was full: read everything anew. Settles after the abort; rejects when the socket breaks or a callback throws.
   */
  async subscribe(onMessages: (messages: readonly NetlinkMessage[] | "lost") => void, signal: AbortSignal): Promise<void> {
    const subject = { operation: "read notifications", object: "netlink" };
    if (signal.aborted) return;
    await new Promise<void>((resolve, reject) => {
      const stop = (): void => {
        watch.stop();
        signal.removeEventListener("abort", onAbort);
      };
      const onAbort = (): void => {
        stop();
        resolve();
      };
      const watch = watchReadable(this.#fd, () => {
        try {
          const waiting: NetlinkMessage[] = [];
          for (let count = 0; count < DATAGRAMS_PER_TURN; count += 1) {
            const messages = this.#receiveOrLost(subject);
            if (messages === undefined) break;
            if (messages === "lost") onMessages(messages);
            else waiting.push(...messages);
          }
          if (waiting.length > 0) onMessages(waiting);
        } catch (error) {
          stop();
          reject(error);
        }
      });
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  #receiveOrLost(subject: RequestSubject): NetlinkMessage[] | "lost" | undefined {
    try {
      return this.#receive({ wait: false }, subject);
    } catch (error) {
      if (error instanceof SystemCallError && error.code === "ENOBUFS") return "lost";
      throw error;
    }
  }

  #receive(how: { readonly wait: boolean }, subject: RequestSubject): NetlinkMessage[] | undefined {
    const length = receive(this.#fd, datagramBuffer, how);
    if (length === undefined) return undefined;
    if (length > datagramBuffer.length) {
      throw new NetlinkError({ ...subject, errno: errnoNumber("EMSGSIZE"), reason: `the kernel sent ${length} bytes at once` });
    }
    return splitMessages(Buffer.from(datagramBuffer.subarray(0, length)));
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    close(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function firstOf(waiting: ReadonlyMap<number, RequestSubject>): RequestSubject | undefined {
  return waiting.values().next().value;
}

function throwFailed(reply: KernelReply, subject: RequestSubject): void {
  if (reply.errno !== 0) throw new NetlinkError({ ...subject, errno: reply.errno, reason: reply.reason });
}
