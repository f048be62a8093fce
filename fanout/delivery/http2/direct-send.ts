/**
 * Bytes straight to a socket's descriptor with send(2), past Node's streams: most of what a delivery costs besides the kernel's own work is the stream's
 * bookkeeping, a request object for each write among it.
 *
 * Invariant: the descriptor is read from the socket's live handle in the same call, so that one which was closed, and may be another connection's by now, is
 * never written; where one is kept for many calls (direct-lane.ts) it is forgotten in the moment in which the socket is destroyed (`onGivenUp`). What the
 * system does not take is the caller's to hand to the stream, which then also hears of the error. Where there is no koffi for the platform, or a handle does not
 * tell its descriptor, everything goes through the stream.
 * Rejected: a ring of io_uring for many sockets (the seccomp profile of container runtimes forbids it).
 */
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import type Koffi from "koffi";

/** Returns how many of the bytes the system took, from the first; 0 when it took none, for whatever reason. */
export type DirectSend = (socket: Socket, bytes: Uint8Array) => number;

/** As `DirectSend`, to a descriptor; that it is the right one is the caller's to see to. */
export type SendTo = (descriptor: number, bytes: Uint8Array) => number;

type NativeSend = (fd: number, bytes: Uint8Array, length: number, flags: number) => number;

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL;

/** To the descriptor that the socket has in the moment of the call. */
export function directSend(sendTo: SendTo): DirectSend {
  return (socket, bytes) => {
    const descriptor = descriptorOf(socket);
    return descriptor === undefined ? 0 : sendTo(descriptor, bytes);
  };
}

/** Undefined: not on this platform. */
export function loadSendTo(): SendTo | undefined {
  const send = process.platform === "linux" ? loadNative() : undefined;
  if (send === undefined) return undefined;
  return (descriptor, bytes) => {
    const sent = send(descriptor, bytes, bytes.length, FLAGS);
    return sent > 0 ? sent : 0;
  };
}

/** Undefined: it has none any more, or does not tell. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as HandleOwner)._handle?.fd ?? -1;
  return fd < 0 ? undefined : fd;
}

/** Calls before the socket's descriptor is closed, in the same turn: `_destroy` is where every end of a stream comes through, and what closes the handle. */
export function onGivenUp(socket: Socket, act: () => void): void {
  const destroy = socket._destroy;
  socket._destroy = (error, done): void => {
    act();
    destroy.call(socket, error, done);
  };
}

/** Node's own field: null when the handle is closed. `fd` is -1 from the moment that its close began. */
interface HandleOwner {
  readonly _handle?: { readonly fd?: number } | null;
}

function loadNative(): NativeSend | undefined {
  try {
    const koffi = createRequire(import.meta.url)("koffi") as typeof Koffi;
    return koffi.load(null).func("intptr_t send(int, const void*, size_t, int)");
  } catch {
    // No build of it for this platform: streams serve as well, at a higher price.
    return undefined;
  }
}
