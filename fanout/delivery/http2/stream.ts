/**
 * One HTTP/2 stream as the server has it: its two halves, its two windows, and what waits for the peer's window.
 *
 * Invariant: what is given to a stream leaves it in order, and never more than both windows allow. A short message that fits goes to the socket as a shared
 * frame; others are cut to the windows. States of RFC 9113 section 5.1: in the connection's map with `isRemoteClosed` false is open, true is half-closed (remote);
 * out of the map is closed. Half-closed (local) does not last: once the response is sent, the rest of a request is refused (RST_STREAM with NO_ERROR).
 */
import type { Lane } from "../delivery.ts";
import { DEFAULT_MAX_FRAME, EMPTY, FLAG, FRAME, frame, HEADER_BYTES, writeFrameHeader } from "./frames.ts";
import { PREFIX_BYTES } from "./message-reader.ts";
import { MAX_SHARED_BYTES, messagePrefix } from "./shared-frames.ts";

/** Below this a copy costs less than a buffer of its own. */
const MIN_UNCOPIED_BYTES = 512;

/** What is above a stream hears. Never called again after `onClosed`. */
export interface StreamSink {
  /** DATA without padding; false: keep the window closed until `stream.release()`. */
  onData(payload: Buffer): boolean;
  /** The peer ended its half. */
  onEnd(): void;
  /** Bytes that were given to the stream have left it. */
  onDrain(): void;
  /** The stream is over: reset by either side, or lost with its connection. Not called when it ended by `finish`. */
  onClosed(): void;
}

/** What a stream needs of its connection. */
export interface StreamHost {
  readonly bytesInFlight: number;
  /** DATA bytes that the connection's window and the socket have room for now. */
  readonly room: number;
  /** Bytes to the socket, in order, before the end of this tick; `dataBytes` of them count for the windows. */
  write(bytes: Uint8Array, dataBytes: number): void;
  /** As `write`, but now, when nothing that was written in this tick has to go before it. */
  writeNow(bytes: Uint8Array, dataBytes: number): void;
  /** A stream begins (1) or ceases (-1) to have bytes queued. */
  waiting(change: 1 | -1): void;
  /** Undefined: the connection has none, or another stream has it. */
  laneOf(stream: Http2Stream): Lane | undefined;
  /** A PING, when one should leave with what is sent now; it is due then. */
  duePing(): Buffer | undefined;
  shared(message: Uint8Array, streamId: number): Buffer;
  headers(streamId: number, block: Buffer, isLast: boolean): void;
  /** The stream has sent its last frame. */
  finished(stream: Http2Stream): void;
  reset(stream: Http2Stream, code: number): void;
  credit(stream: Http2Stream): void;
  readonly now: () => number;
}

export class Http2Stream {
  readonly id: number;
  readonly #host: StreamHost;
  sink: StreamSink | undefined;
  /** What we may send. */
  sendWindow: number;
  /** What the peer may send, and what it sent that it has no credit for yet. */
  receiveWindow: number;
  unreturned = 0;
  isRemoteClosed = false;
  /** DATA that content-length still announces. */
  remaining: number | undefined;
  /** A peer may leave it blocked for as long as it answers pings. */
  isPatient = false;
  /** When the queue stopped moving (monotonic ms), undefined: it is empty. */
  blockedSince: number | undefined;
  isStallCounted = false;
  isOver = false;
  /** Called once, when the stream is over by whatever way. */
  onOver: (() => void) | undefined;
  #hasHeaders = false;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Trailers, or EMPTY for END_STREAM on DATA. Undefined: not ended. */
  #ending: Buffer | undefined;

  constructor(options: { readonly id: number; readonly host: StreamHost; readonly sendWindow: number; readonly receiveWindow: number }) {
    this.id = options.id;
    this.#host = options.host;
    this.sendWindow = options.sendWindow;
    this.receiveWindow = options.receiveWindow;
  }

  /** Given to the stream and not yet taken by the system. */
  get bytesInFlight(): number {
    return this.#queuedBytes + this.#host.bytesInFlight;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  get hasHeaders(): boolean {
    return this.#hasHeaders;
  }

  /** See PeerStream.lane. */
  get lane(): Lane | undefined {
    return this.#host.laneOf(this);
  }

  /** Has said its headers, and nothing of it waits. */
  get isClear(): boolean {
    return this.#hasHeaders && this.#queuedBytes === 0 && this.#ending === undefined && !this.isOver;
  }

  get isEnding(): boolean {
    return this.#ending !== undefined;
  }

  respond(block: Buffer): void {
    this.#hasHeaders = true;
    this.#host.headers(this.id, block, false);
  }

  /** One gRPC message. Its bytes must not change afterwards. `isUrgent`: do not wait for the end of the tick. */
  send(message: Uint8Array, isUrgent = false): void {
    const total = PREFIX_BYTES + message.length;
    // Asked first: it settles the lane, and with it the stream's window.
    const { room } = this.#host;
    if (total <= MAX_SHARED_BYTES && this.#queuedBytes === 0 && total <= this.sendWindow && total <= room) {
      this.sendWindow -= total;
      const bytes = this.#host.shared(message, this.id);
      if (isUrgent) this.#host.writeNow(bytes, total);
      else this.#host.write(bytes, total);
      return;
    }
    this.#enqueue(total, messagePrefix(message.length), message);
  }

  /** As an urgent `send`, with a PING in the same write when one is due soon. */
  beat(message: Uint8Array): void {
    const ping = this.#host.duePing();
    this.send(message, ping === undefined);
    if (ping !== undefined) this.#host.write(ping, 0);
  }

  /** DATA of a response that is no gRPC message. */
  sendBody(body: Buffer): void {
    this.#enqueue(body.length, body);
  }

  /** The response is complete; `trailers` (a header block) or EMPTY. What is queued goes first. */
  finish(trailers: Buffer): void {
    if (this.#ending !== undefined || this.isOver) return;
    this.#ending = trailers;
    this.sink = undefined;
    if (this.#queuedBytes === 0) this.#finishNow();
  }

  reset(code: number): void {
    this.#host.reset(this, code);
  }

  /** The sink takes data again. */
  release(): void {
    this.#host.credit(this);
  }

  /** Sends what the windows allow; true: something went. One frame, so that streams take turns. */
  pump(): boolean {
    const room = Math.min(this.#host.room, this.sendWindow, DEFAULT_MAX_FRAME, this.#queuedBytes);
    if (room <= 0) return false;
    const parts = this.#take(room);
    this.sendWindow -= room;
    this.#queuedBytes -= room;
    if (this.#queuedBytes === 0) this.#host.waiting(-1);
    this.blockedSince = this.#queuedBytes === 0 ? undefined : this.#host.now();
    this.isStallCounted = false;
    const isLast = this.#queuedBytes === 0 && this.#ending === EMPTY;
    this.#writeFrame(parts, room, isLast ? FLAG.endStream : 0);
    if (isLast) this.#host.finished(this);
    else if (this.#queuedBytes === 0 && this.#ending !== undefined) this.#finishNow();
    return true;
  }

  /** Forgets what it holds. */
  close(): void {
    this.isOver = true;
    if (this.#queuedBytes > 0) this.#host.waiting(-1);
    this.#queue = [];
    this.#queuedBytes = 0;
    this.blockedSince = undefined;
    const sink = this.sink;
    this.sink = undefined;
    this.onOver?.();
    sink?.onClosed();
  }

  #enqueue(bytes: number, ...parts: readonly Uint8Array[]): void {
    if (this.#queuedBytes === 0) this.#host.waiting(1);
    this.#queue.push(...parts);
    this.#queuedBytes += bytes;
    while (this.pump());
    if (this.#queuedBytes > 0) this.blockedSince ??= this.#host.now();
  }

  #finishNow(): void {
    const trailers = this.#ending ?? EMPTY;
    if (trailers.length > 0) this.#host.headers(this.id, trailers, true);
    else this.#host.write(frame(FRAME.data, FLAG.endStream, this.id, EMPTY), 0);
    this.#host.finished(this);
  }

  /** The header takes short parts with it; long ones go as they are, uncopied. */
  #writeFrame(parts: readonly Uint8Array[], length: number, flags: number): void {
    let joined = 0;
    let joinedBytes = 0;
    for (; joined < parts.length && (parts[joined]?.length ?? 0) < MIN_UNCOPIED_BYTES; joined++) joinedBytes += parts[joined]?.length ?? 0;
    const head = Buffer.allocUnsafe(HEADER_BYTES + joinedBytes);
    writeFrameHeader(head, 0, { length, type: FRAME.data, flags, streamId: this.id });
    let at = HEADER_BYTES;
    for (const part of parts.slice(0, joined)) {
      head.set(part, at);
      at += part.length;
    }
    this.#host.write(head, length);
    for (const part of parts.slice(joined)) this.#host.write(part, 0);
  }

  #take(bytes: number): Uint8Array[] {
    const parts: Uint8Array[] = [];
    let missing = bytes;
    while (missing > 0) {
      const first = this.#queue[0] ?? EMPTY;
      if (first.length > missing) {
        parts.push(first.subarray(0, missing));
        this.#queue[0] = first.subarray(missing);
        break;
      }
      parts.push(first);
      missing -= first.length;
      this.#queue.shift();
    }
    return parts;
  }
}
