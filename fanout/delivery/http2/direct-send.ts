/**
 * Bytes straight to a socket's descriptor with send(2), past Node's streams: most of what a delivery costs besides the kernel's own work is the stream's
 * bookkeeping, a request object for each write among it.
 *
 * Invariant: the descriptor is read from the socket's live handle in the same call, so that one which was closed, and may be another connection's by now, is
 * never written. What the system does not take is the caller's to hand to the stream, which then also hears of the error. Where there is no koffi for the
 * platform, or a handle does not tell its descriptor, everything goes through the stream.
 * Rejected: a ring of io_uring for many sockets (the seccomp profile of container runtimes forbids it), and a descriptor that is kept.
 */
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import type Koffi from "koffi";

/** Returns how many of the bytes the system took, from the first; 0 when it took none, for whatever reason. */
export type DirectSend = (socket: Socket, bytes: Uint8Array) => number;

type NativeSend = (fd: number, bytes: Uint8Array, length: number, flags: number) => number;

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL;

/** Undefined: not on this platform. */
export function loadDirectSend(): DirectSend | undefined {
  const send = process.platform === "linux" ? loadNative() : undefined;
  if (send === undefined) return undefined;
  return (socket, bytes) => {
    const fd = (socket as HandleOwner)._handle?.fd ?? -1;
    if (fd < 0) return 0;
    const sent = send(fd, bytes, bytes.length, FLAGS);
    return sent > 0 ? sent : 0;
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
