/**
 * Non-blocking sockets in any network namespace, from one process: what a prober needs and Node's own sockets cannot do.
 *
 * Calls return -1 as `undefined` where "not now" is an answer, and throw SystemCallError otherwise. Synchronous throughout, for the reason in
 * agent/drivers/netlink/libc.ts. Rejected: a helper process in each namespace: a probe then costs two messages, and their order is lost.
 */
import koffi from "koffi";
import { errnoName, inNetns } from "../../agent/drivers/netlink/libc.ts";
import { type IpAddress, ipBytes, ipFromBytes } from "../../src/net/ip.ts";

type Native<Arguments extends readonly unknown[]> = (...args: Arguments) => number;

const library = koffi.load(null);
const native = {
  socket: library.func("int socket(int, int, int)") as Native<[number, number, number]>,
  bind: library.func("int bind(int, const void*, uint32_t)") as Native<[number, Uint8Array, number]>,
  connect: library.func("int connect(int, const void*, uint32_t)") as Native<[number, Uint8Array, number]>,
  listen: library.func("int listen(int, int)") as Native<[number, number]>,
  accept4: library.func("int accept4(int, void*, void*, int)") as Native<[number, Uint8Array, Uint8Array, number]>,
  setsockopt: library.func("int setsockopt(int, int, int, const void*, uint32_t)") as Native<[number, number, number, Uint8Array, number]>,
  getsockopt: library.func("int getsockopt(int, int, int, void*, void*)") as Native<[number, number, number, Uint8Array, Uint8Array]>,
  sendto: library.func("intptr_t sendto(int, const void*, size_t, int, const void*, uint32_t)") as Native<
    [number, Uint8Array, number, number, Uint8Array | null, number]
  >,
  recvfrom: library.func("intptr_t recvfrom(int, void*, size_t, int, void*, void*)") as Native<[number, Uint8Array, number, number, Uint8Array, Uint8Array]>,
  poll: library.func("int poll(void*, uint64_t, int)") as Native<[Uint8Array, number, number]>,
  close: library.func("int close(int)") as Native<[number]>,
};

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_ERROR = 4;
const SO_RCVBUFFORCE = 33;
const SO_LINGER = 13;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const POLLIN = 1;
const NOT_NOW = new Set(["EAGAIN", "EINPROGRESS", "EINTR"]);

export class SocketError extends Error {
  readonly code: string;

  constructor(call: string, code: string, what: string) {
    super(`${call} ${what}: ${code}`);
    this.name = "SocketError";
    this.code = code;
  }
}

export interface Peer {
  readonly address: IpAddress;
  readonly port: number;
}

export interface Datagram {
  readonly from: Peer;
  /** Valid until the next receive. */
  readonly bytes: Buffer;
}

function check(call: string, result: number, what: string): number {
  if (result >= 0) return result;
  throw new SocketError(call, errnoName(koffi.errno()), what);
}

/** A non-blocking socket of the namespace at `netns`. */
export function openSocket(netns: string, family: number, type: number, protocol = 0): number {
  return inNetns(netns, () => openSocketHere(family, type, protocol));
}

/** As `openSocket`, of the namespace that the thread is in: for many at once inside one `inNetns`. */
export function openSocketHere(family: number, type: number, protocol = 0): number {
  const fd = check("socket", native.socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol), `family ${family} type ${type} protocol ${protocol}`);
  if (family === AF_INET6 && type !== SOCK_RAW) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  return fd;
}

export function setOption(fd: number, level: number, option: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value, 0);
  check("setsockopt", native.setsockopt(fd, level, option, bytes, 4), `level ${level} option ${option}`);
}

export function allowReuse(fd: number): void {
  setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

export function setReceiveBuffer(fd: number, bytes: number): void {
  setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes);
}

/** Closing then sends a reset: no port lingers in TIME_WAIT. */
export function resetOnClose(fd: number): void {
  const bytes = Buffer.alloc(8);
  bytes.writeInt32LE(1, 0);
  check("setsockopt", native.setsockopt(fd, SOL_SOCKET, SO_LINGER, bytes, 8), "SO_LINGER");
}

export function bindSocket(fd: number, { address, port }: Peer): void {
  const bytes = socketAddress({ address, port });
  check("bind", native.bind(fd, bytes, bytes.length), `${address} port ${port}`);
}

export function listenOn(fd: number): void {
  check("listen", native.listen(fd, 4096), `descriptor ${fd}`);
}

/** undefined: under way (or done, for UDP); otherwise why the own kernel refuses. */
export function connectSocket(fd: number, to: Peer): string | undefined {
  const bytes = socketAddress(to);
  if (native.connect(fd, bytes, bytes.length) >= 0) return undefined;
  const code = errnoName(koffi.errno());
  return NOT_NOW.has(code) ? undefined : code;
}

const nameBuffer = Buffer.alloc(28);
const nameLength = Buffer.alloc(4);

export function tryAccept(fd: number): { readonly fd: number; readonly peer: Peer } | undefined {
  nameLength.writeUInt32LE(nameBuffer.length, 0);
  const accepted = native.accept4(fd, nameBuffer, nameLength, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (accepted < 0) {
    const code = errnoName(koffi.errno());
    if (code === "EAGAIN" || code === "EINTR" || code === "ECONNABORTED") return undefined;
    throw new SocketError("accept", code, `descriptor ${fd}`);
  }
  return { fd: accepted, peer: peerOf(nameBuffer) };
}

/** undefined: sent; otherwise why the own kernel refuses (a pending ICMP error shows here too). */
export function sendTo(fd: number, bytes: Uint8Array, to?: Peer): string | undefined {
  const name = to === undefined ? null : socketAddress(to);
  if (native.sendto(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, name, name === null ? 0 : name.length) >= 0) return undefined;
  return errnoName(koffi.errno());
}

const dataBuffer = Buffer.alloc(65_536);

/** undefined: nothing there; a text: the socket's error. */
export function tryReceive(fd: number): Datagram | string | undefined {
  nameLength.writeUInt32LE(nameBuffer.length, 0);
  const length = native.recvfrom(fd, dataBuffer, dataBuffer.length, MSG_DONTWAIT, nameBuffer, nameLength);
  if (length < 0) {
    const code = errnoName(koffi.errno());
    return NOT_NOW.has(code) ? undefined : code;
  }
  return { from: nameLength.readUInt32LE(0) === 0 ? NO_PEER : peerOf(nameBuffer), bytes: dataBuffer.subarray(0, length) };
}

const NO_PEER: Peer = { address: "0.0.0.0" as IpAddress, port: 0 };

/** SO_ERROR: "" for none. */
export function takeError(fd: number): string {
  const value = Buffer.alloc(4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(4, 0);
  check("getsockopt", native.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, length), "SO_ERROR");
  const errno = value.readInt32LE(0);
  return errno === 0 ? "" : errnoName(errno);
}

/** Descriptors of one poll(2), kept from call to call. */
export class PollList {
  readonly #entries: Buffer;
  readonly #fds: readonly number[];

  constructor(fds: readonly number[], events = POLLIN) {
    this.#fds = fds;
    this.#entries = Buffer.alloc(fds.length * 8);
    for (const [i, fd] of fds.entries()) {
      this.#entries.writeInt32LE(fd, i * 8);
      this.#entries.writeInt16LE(events, i * 8 + 4);
    }
  }

  /** Indexes of those with something to read, an error or room to write, after at most `timeoutMs`. */
  wait(timeoutMs: number): readonly number[] {
    if (native.poll(this.#entries, this.#fds.length, timeoutMs) <= 0) return [];
    const ready: number[] = [];
    for (let i = 0; i < this.#fds.length; i++) if (this.#entries.readInt16LE(i * 8 + 6) !== 0) ready.push(i);
    return ready;
  }
}

export const POLLOUT = 4;

export function closeSocket(fd: number): void {
  check("close", native.close(fd), `descriptor ${fd}`);
}

function socketAddress({ address, port }: Peer): Buffer {
  const isV6 = address.includes(":");
  const bytes = Buffer.alloc(isV6 ? 28 : 16);
  bytes.writeUInt16LE(isV6 ? AF_INET6 : AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ipBytes(address), isV6 ? 8 : 4);
  return bytes;
}

function peerOf(name: Buffer): Peer {
  const isV6 = name.readUInt16LE(0) === AF_INET6;
  return { port: name.readUInt16BE(2), address: ipFromBytes(isV6 ? name.subarray(8, 24) : name.subarray(4, 8)) };
}
