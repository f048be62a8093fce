/**
 * What one connection sends: gathers the frames of a tick, and gives them to the system together.
 *
 * Invariant: bytes leave in the order in which they were given. While Node's stream holds any, all that follows goes through it; only when it holds none may
 * bytes go straight to the descriptor (direct-send.ts), and what is not taken there goes to the stream.
 */
import type { Socket } from "node:net";
import type { DirectSend } from "./direct-send.ts";

/** Output up to this is joined into one buffer; above, the system gathers it. */
const MAX_JOINED_BYTES = 16 * 1024;
/** Given to the socket in one tick. */
const MAX_TICK_BYTES = 256 * 1024;
/** So little on its way is not told of when it has left: what a session counts as taken. */
const UNTOLD_BYTES = 4 * 1024;

export interface OutputHost {
  /** Undefined: everything goes through the stream, as it must with TLS. */
  readonly direct: DirectSend | undefined;
  /** Calls `flush` before the tick ends. */
  flushSoon(): void;
  /** The stream has given away bytes that it had kept. */
  readonly onTaken: () => void;
}

export class Output {
  readonly #socket: Socket;
  readonly #host: OutputHost;
  #frames: Uint8Array[] = [];
  #bytes = 0;
  #isFlushDue = false;
  /** The stream may hold bytes. Without a direct way it is always asked. */
  #isStreamUsed: boolean;
  #isOver = false;

  constructor(socket: Socket, host: OutputHost) {
    this.#socket = socket;
    this.#host = host;
    this.#isStreamUsed = host.direct === undefined;
  }

  /** Given and not taken by the system. */
  get bytes(): number {
    return this.#isStreamUsed ? this.#bytes + this.#socket.writableLength : this.#bytes;
  }

  /** No more should be given in this tick, or before the stream has drained. */
  get isFull(): boolean {
    return this.#bytes >= MAX_TICK_BYTES || this.needsDrain;
  }

  /** The stream holds so much that it asked to wait. */
  get needsDrain(): boolean {
    return this.#isStreamUsed && this.#socket.writableNeedDrain;
  }

  /** Leaves before the tick ends. */
  write(bytes: Uint8Array): void {
    if (this.#isOver) return;
    this.#frames.push(bytes);
    this.#bytes += bytes.length;
    if (this.#isFlushDue) return;
    this.#isFlushDue = true;
    this.#host.flushSoon();
  }

  /** Leaves at once when nothing is before it, otherwise as with `write`. */
  writeNow(bytes: Uint8Array): void {
    if (this.#isOver) return;
    if (this.#bytes === 0 && this.#host.direct !== undefined) this.#hand(bytes);
    else this.write(bytes);
  }

  /** Nothing waits, here or in the stream. */
  get isIdle(): boolean {
    return !this.#isOver && this.#bytes === 0 && this.#isStreamEmpty();
  }

  /** Goes next, through the stream: the system has taken what was before it. */
  keep(bytes: Uint8Array): void {
    if (!this.#isOver) this.#toStream(bytes);
  }

  /** Hands over what was gathered; false: there was nothing. */
  flush(): boolean {
    this.#isFlushDue = false;
    const frames = this.#frames;
    const [first] = frames;
    if (this.#isOver || first === undefined) return false;
    const bytes = this.#bytes;
    this.#frames = [];
    this.#bytes = 0;
    if (frames.length === 1) this.#hand(first);
    else if (bytes <= MAX_JOINED_BYTES) this.#hand(Buffer.concat(frames, bytes));
    else {
      const last = frames.pop() ?? first;
      this.#socket.cork();
      for (const frame of frames) this.#socket.write(frame);
      this.#toStream(last);
      this.#socket.uncork();
    }
    return true;
  }

  /** Forgets what it holds. */
  close(): void {
    this.#isOver = true;
    this.#frames = [];
    this.#bytes = 0;
  }

  #hand(bytes: Uint8Array): void {
    const { direct } = this.#host;
    const sent = direct !== undefined && this.#isStreamEmpty() ? direct(this.#socket, bytes) : 0;
    if (sent < bytes.length) this.#toStream(sent === 0 ? bytes : bytes.subarray(sent));
  }

  #isStreamEmpty(): boolean {
    if (!this.#isStreamUsed) return true;
    if (this.#socket.writableLength > 0 || this.#socket.writableEnded) return false;
    this.#isStreamUsed = false;
    return true;
  }

  /** TLS takes bytes later than they are given, and below the high-water mark no "drain" tells when: owners wait for it, but only for more than a little. */
  #toStream(bytes: Uint8Array): void {
    this.#isStreamUsed = true;
    this.#socket.write(bytes, this.#socket.writableLength + bytes.length > UNTOLD_BYTES ? this.#host.onTaken : undefined);
  }
}
