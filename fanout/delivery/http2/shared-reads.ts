/**
 * What comes in on a listener's sockets, read into one buffer for all of them: thousands of agents send a few bytes each, and a buffer of 64 KiB for each
 * read, cut to size and collected afterwards, costs more than what is done with the bytes.
 *
 * Invariant: the bytes are the receiver's only until it returns; what is to stay is copied. Sound because the event loop reads one socket at a time, and hands the
 * bytes over before it reads the next.
 * It is the option `onread` of net.Socket, which net.Server and TLSSocket do not offer for the sockets that they make, so it is set where that option would have
 * set it. Where a runtime does not know these fields, the bytes come as 'data'.
 */
import { Socket } from "node:net";

/** Called for each piece, in order. */
export type OnBytes = (bytes: Buffer) => void;

const BUFFER_BYTES = 64 * 1024;
const [BUFFER, CALLBACK] = fieldsOfOnread();

/** Node's own: the handle's reads go into the buffer. */
interface HandleOwner {
  readonly _handle?: { readonly useUserBuffer?: (buffer: Buffer) => void } | null;
}

export class SharedReads {
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);

  /** From now on all that comes goes to `onBytes`; what the stream has read before goes first. */
  attach(socket: Socket, onBytes: OnBytes): void {
    const handle = (socket as HandleOwner)._handle;
    if (BUFFER === undefined || CALLBACK === undefined || typeof handle?.useUserBuffer !== "function") {
      socket.on("data", onBytes);
      return;
    }
    const buffer = this.#buffer;
    handle.useUserBuffer(buffer);
    Object.assign(socket, {
      [BUFFER]: buffer,
      [CALLBACK]: (length: number) => {
        onBytes(buffer.subarray(0, length));
        return true;
      },
    });
    const early: unknown = socket.read();
    // So that the end of the stream is seen.
    socket.resume();
    if (early instanceof Buffer) onBytes(early);
  }
}

/** Undefined: a runtime that keeps the option elsewhere. */
function fieldsOfOnread(): readonly [symbol, symbol] | readonly [undefined, undefined] {
  const found = new Map(Object.getOwnPropertySymbols(new Socket()).map((symbol) => [symbol.description, symbol]));
  const [buffer, callback] = [found.get("kBuffer"), found.get("kBufferCb")];
  return buffer === undefined || callback === undefined ? [undefined, undefined] : [buffer, callback];
}
