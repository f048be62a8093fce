/**
 * Reading, writing and the agent's socket by libc itself, through Bun's FFI: of an executable that lives for 4 ms, loading `node:fs` is 1.4 ms and an event
 * loop with a socket another 0.7 ms, while these nine functions cost 0.3 ms.
 *
 * Invariant: every call blocks until it is done or its time-out is over, so no callback is ever pending. The only file that touches the FFI.
 */

type NativeArgument = "i32" | "u32" | "u64" | "ptr";
interface Ffi {
  dlopen<const Symbols extends Readonly<Record<string, { readonly args: readonly NativeArgument[]; readonly returns: "i32" | "i64_fast" | "ptr" }>>>(
    library: string,
    symbols: Symbols,
  ): { readonly symbols: { readonly [Name in keyof Symbols]: (...args: readonly (number | Uint8Array)[]) => number } };
  readonly read: { i32(pointer: number): number };
}
declare const Bun: { readonly FFI: Ffi };

const libc = Bun.FFI.dlopen("libc.so.6", {
  read: { args: ["i32", "ptr", "u64"], returns: "i64_fast" },
  write: { args: ["i32", "ptr", "u64"], returns: "i64_fast" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
  send: { args: ["i32", "ptr", "u64", "i32"], returns: "i64_fast" },
  close: { args: ["i32"], returns: "i32" },
  __errno_location: { args: [], returns: "ptr" },
}).symbols;

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 0o2000001;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
/** A peer that is gone is an error here, not a signal that ends the process. */
const MSG_NOSIGNAL = 0x4000;
const SUN_PATH_BYTES = 108;
const CHUNK_BYTES = 64 * 1024;
const EINTR = 4;
const ERRNO_NAMES: Readonly<Record<number, string>> = {
  2: "ENOENT",
  5: "EIO",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  20: "ENOTDIR",
  21: "EISDIR",
  28: "ENOSPC",
  32: "EPIPE",
  104: "ECONNRESET",
  111: "ECONNREFUSED",
};

/** A libc call that returned -1. */
export class SystemCallError extends Error {
  /** "ENOENT", …; "errno 71" for one without a name here. */
  readonly code: string;

  constructor(call: string, errno: number) {
    const code = ERRNO_NAMES[errno] ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.name = "SystemCallError";
    this.code = code;
  }
}

/** All of a descriptor, to its end. Throws SystemCallError; RangeError beyond `maxBytes`. */
export function readAll(fd: number, maxBytes: number): string {
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(CHUNK_BYTES);
  let text = "";
  let total = 0;
  for (;;) {
    const length = uninterrupted("read", () => libc.read(fd, chunk, CHUNK_BYTES));
    if (length === 0) return text + decoder.decode();
    total += length;
    if (total > maxBytes) throw new RangeError(`more than ${maxBytes} bytes`);
    text += decoder.decode(chunk.subarray(0, length), { stream: true });
  }
}

/** Throws SystemCallError. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  for (let rest = bytes; rest.length > 0; ) {
    const from = rest;
    rest = rest.subarray(uninterrupted("write", () => libc.write(fd, from, from.length)));
  }
}

/** Connected to the listener at the path; every later call on it ends after `timeoutMs` (EAGAIN). Close it with `close`. Throws SystemCallError, RangeError. */
export function connectUnix(path: string, timeoutMs: number): number {
  const name = new TextEncoder().encode(path);
  if (name.length >= SUN_PATH_BYTES) throw new RangeError(`the socket's path is longer than ${SUN_PATH_BYTES - 1} bytes: ${path}`);
  // struct sockaddr_un: the family, then the path with a zero behind it.
  const address = new Uint8Array(2 + name.length + 1);
  address[0] = AF_UNIX;
  address.set(name, 2);
  const fd = uninterrupted("socket", () => libc.socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0));
  try {
    const limit = new Uint8Array(new BigInt64Array([BigInt(Math.floor(timeoutMs / 1_000)), BigInt((timeoutMs % 1_000) * 1_000)]).buffer);
    for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) uninterrupted("setsockopt", () => libc.setsockopt(fd, SOL_SOCKET, option, limit, limit.length));
    uninterrupted("connect", () => libc.connect(fd, address, address.length));
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** The whole of it on a connected socket. Throws SystemCallError. */
export function sendAll(fd: number, bytes: Uint8Array): void {
  for (let rest = bytes; rest.length > 0; ) {
    const from = rest;
    rest = rest.subarray(uninterrupted("send", () => libc.send(fd, from, from.length, MSG_NOSIGNAL)));
  }
}

export function close(fd: number): void {
  libc.close(fd);
}

function uninterrupted(call: string, action: () => number): number {
  for (;;) {
    const result = action();
    if (result >= 0) return result;
    const errno = Bun.FFI.read.i32(libc.__errno_location());
    if (errno !== EINTR) throw new SystemCallError(call, errno);
  }
}
