/**
 * Cuts the DATA of a call into gRPC messages (length-prefixed, gRPC over HTTP2).
 *
 * Invariant: a message that is too long is refused by its prefix, before it is here. What comes whole in one frame and is taken at once is not copied; what
 * waits is (`settle`), because the bytes of a frame are another frame's soon.
 */
import { gunzipSync } from "node:zlib";
import { status } from "@grpc/grpc-js";
import { EMPTY } from "./frames.ts";
import { GrpcError } from "./grpc-error.ts";

export const PREFIX_BYTES = 5;

export class MessageReader {
  readonly #maxBytes: number;
  readonly #isGzip: boolean;
  /** What is not a message yet lies from `#start` to `#end`. */
  #buffer: Buffer = EMPTY;
  #start = 0;
  #end = 0;
  /** False: the buffer is a view of what was read from the socket, and good until `settle`. */
  #isOwn = false;

  readonly #onHeld: (change: number) => void;
  /** What `onHeld` was told in sum. */
  #told = 0;

  /** `onHeld`: bytes of an incomplete message, as they change; see `settle`. */
  constructor({ maxBytes, isGzip, onHeld }: { readonly maxBytes: number; readonly isGzip: boolean; readonly onHeld: (change: number) => void }) {
    this.#maxBytes = maxBytes;
    this.#isGzip = isGzip;
    this.#onHeld = onHeld;
  }

  /** Bytes held. */
  get bytes(): number {
    return this.#end - this.#start;
  }

  /** To be called before the owner of what was pushed returns: keeps what is left, and tells how much that is. Throws what `onHeld` throws. */
  settle(): void {
    if (!this.#isOwn && this.bytes > 0) this.#grow(this.bytes);
    const change = this.bytes - this.#told;
    if (change === 0) return;
    this.#told += change;
    this.#onHeld(change);
  }

  /** The call is over. */
  drop(): void {
    this.#buffer = EMPTY;
    this.#start = 0;
    this.#end = 0;
    this.settle();
  }

  push(data: Buffer): void {
    if (this.bytes === 0) {
      this.#buffer = data;
      this.#start = 0;
      this.#end = data.length;
      this.#isOwn = false;
      return;
    }
    // Doubling keeps a message in frames of one byte from costing the square of its length, and memory near what has come.
    if (!this.#isOwn || this.#end + data.length > this.#buffer.length) this.#grow(2 * (this.bytes + data.length));
    this.#buffer.set(data, this.#end);
    this.#end += data.length;
  }

  /** The next message, undefined when it is not complete; valid until the next `push` or `settle`. Throws GrpcError. */
  next(): Buffer | undefined {
    if (this.bytes < PREFIX_BYTES) return undefined;
    const flag = this.#buffer[this.#start] ?? 0;
    if (flag > 1) throw new GrpcError(status.INTERNAL, `a message begins with ${flag}; it must be 0 or 1`);
    if (flag === 1 && !this.#isGzip) throw new GrpcError(status.INTERNAL, "a compressed message in a call without grpc-encoding");
    const length = this.#buffer.readUInt32BE(this.#start + 1);
    if (length > this.#maxBytes) throw tooLarge(length, this.#maxBytes);
    const begin = this.#start + PREFIX_BYTES;
    const end = begin + length;
    if (end > this.#end) return undefined;
    this.#start = end;
    const message = this.#buffer.subarray(begin, end);
    // Nothing of a chunk is kept alive by a reader that waits for the next one.
    if (end === this.#end) this.#buffer = EMPTY;
    return flag === 1 ? this.#gunzip(message) : message;
  }

  #grow(bytes: number): void {
    const grown = Buffer.allocUnsafeSlow(bytes);
    grown.set(this.#buffer.subarray(this.#start, this.#end));
    this.#end = this.bytes;
    this.#start = 0;
    this.#buffer = grown;
    this.#isOwn = true;
  }

  #gunzip(message: Buffer): Buffer {
    try {
      return gunzipSync(message, { maxOutputLength: this.#maxBytes });
    } catch (error) {
      if (error instanceof RangeError) throw tooLarge(undefined, this.#maxBytes);
      throw new GrpcError(status.INTERNAL, "a message that gzip cannot unpack", { cause: error });
    }
  }
}

function tooLarge(length: number | undefined, maxBytes: number): GrpcError {
  return new GrpcError(status.RESOURCE_EXHAUSTED, `a message of ${length ?? "too many"} bytes; at most ${maxBytes} are taken`);
}
