/**
 * One gRPC record stream on a TCP connection of its own, with as little HTTP/2 (RFC 9113) as a client needs: preface, SETTINGS, one request, DATA both
 * ways, PING, WINDOW_UPDATE.
 *
 * Thousands of these must cost less than the server that is measured. Rejected: node:http2 and grpc-js (four and six times the CPU for a message, and
 * then the client is what limits). Response headers and trailers are not decoded: an early end says only that, and the server's log says why.
 */
import { connect, type Socket } from "node:net";
import { connect as connectTls, type SecureContext } from "node:tls";
import { SERVER_NAME } from "../../src/wire/server-identity.ts";

const FRAME_HEADER_BYTES = 9;
const FRAME = { data: 0, headers: 1, resetStream: 3, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const;
const FLAG = { endStream: 1, ack: 1, endHeaders: 4, padded: 8 } as const;
const STREAM = 1;
const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const LARGEST_WINDOW = 2 ** 31 - 1;
const FIRST_WINDOW = 65_535;
/** The windows are opened again after so much; sooner where they are narrower. */
const WINDOW_STEP = 2 ** 29;
/** What gRPC puts before a message. */
const GRPC_PREFIX_BYTES = 5;

export interface StreamEvents {
  /** A message without its prefix; the bytes are the caller's only during the call. */
  onMessage(bytes: Buffer): void;
  /** Once, when the stream is over for a reason other than `close`. `isRefused`: the server ended it, with a status; otherwise the connection broke. */
  onEnd(reason: string, isRefused: boolean): void;
}

/** A message with everything before it, to be sent with `GrpcStream.send` on any stream. */
export function frameMessage(message: Uint8Array): Buffer {
  const prefixed = Buffer.alloc(GRPC_PREFIX_BYTES + message.length);
  prefixed.writeUInt32BE(message.length, 1);
  prefixed.set(message, GRPC_PREFIX_BYTES);
  return frame({ type: FRAME.data, flags: 0, stream: STREAM, payload: prefixed });
}

export class GrpcStream {
  readonly #socket: Socket;
  readonly #events: StreamEvents;
  #rest: Buffer | undefined;
  #message: Buffer[] = [];
  #messageBytes = 0;
  #received = 0;
  readonly #step: number;
  #streamWindow = FIRST_WINDOW;
  #connectionWindow = FIRST_WINDOW;
  #held: Buffer | undefined;
  #isOver = false;

  /** `tls` undefined: plain text. `windowBytes`: what the server may send before more is allowed; as much as there is when not given. */
  constructor({
    port,
    path,
    events,
    tls,
    windowBytes = LARGEST_WINDOW,
  }: {
    readonly port: number;
    readonly path: string;
    readonly events: StreamEvents;
    readonly tls?: SecureContext | undefined;
    readonly windowBytes?: number;
  }) {
    this.#events = events;
    this.#step = Math.min(WINDOW_STEP, Math.floor(windowBytes / 4));
    const where = { host: "127.0.0.1", port, noDelay: true };
    this.#socket =
      tls === undefined
        ? connect(where)
        : connectTls({ ...where, secureContext: tls, servername: SERVER_NAME, ALPNProtocols: ["h2"], checkServerIdentity: () => undefined });
    this.#socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    this.#socket.on("error", (error) => this.#end(error.message, false));
    this.#socket.on("close", () => this.#end("connection closed", false));
    this.#socket.write(
      Buffer.concat([
        PREFACE,
        settings(windowBytes),
        ...(windowBytes > FIRST_WINDOW ? [windowUpdate(0, windowBytes - FIRST_WINDOW)] : []),
        frame({ type: FRAME.headers, flags: FLAG.endHeaders, stream: STREAM, payload: requestHeaders(path, port) }),
      ]),
    );
  }

  /** TCP bytes. */
  get bytes(): { readonly received: number; readonly sent: number } {
    return { received: this.#socket.bytesRead, sent: this.#socket.bytesWritten };
  }

  /** Sends a message made by `frameMessage`. While the server's window is closed only the newest is kept: good enough for acknowledgements. */
  send(framed: Buffer): void {
    const size = framed.length - FRAME_HEADER_BYTES;
    if (size > this.#streamWindow || size > this.#connectionWindow) {
      this.#held = framed;
      return;
    }
    this.#streamWindow -= size;
    this.#connectionWindow -= size;
    this.#socket.write(framed);
  }

  close(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  /** Nothing is read any more, not even pings: the kernel's buffers fill, then the server's. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  #onData(chunk: Buffer): void {
    const buffer = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    while (!this.#isOver && buffer.length - at >= FRAME_HEADER_BYTES) {
      const length = buffer.readUIntBE(at, 3);
      const start = at + FRAME_HEADER_BYTES;
      if (buffer.length - start < length) break;
      this.#onFrame({
        type: buffer[at + 3] ?? 0,
        flags: buffer[at + 4] ?? 0,
        stream: buffer.readUInt32BE(at + 5),
        payload: buffer.subarray(start, start + length),
      });
      at = start + length;
    }
    this.#rest = at === buffer.length ? undefined : buffer.subarray(at);
  }

  #onFrame({ type, flags, stream, payload }: Frame): void {
    switch (type) {
      case FRAME.data:
        this.#countReceived(payload.length);
        this.#onBody((flags & FLAG.padded) === 0 ? payload : payload.subarray(1, payload.length - (payload[0] ?? 0)));
        return;
      case FRAME.headers:
        if ((flags & FLAG.endStream) !== 0) this.#end("the server ended the stream", true);
        return;
      case FRAME.resetStream:
        this.#end("the server reset the stream", true);
        return;
      case FRAME.goAway:
        this.#end("the server sent GOAWAY", true);
        return;
      case FRAME.settings:
        if ((flags & FLAG.ack) === 0) this.#onSettings(payload);
        return;
      case FRAME.ping:
        if ((flags & FLAG.ack) === 0) this.#socket.write(frame({ type: FRAME.ping, flags: FLAG.ack, stream: 0, payload }));
        return;
      case FRAME.windowUpdate:
        if (stream === 0) this.#connectionWindow += payload.readUInt32BE(0);
        else this.#streamWindow += payload.readUInt32BE(0);
        this.#sendHeld();
        return;
      default:
        return;
    }
  }

  #onSettings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (payload.readUInt16BE(at) === 4) this.#streamWindow += payload.readUInt32BE(at + 2) - FIRST_WINDOW;
    }
    this.#socket.write(SETTINGS_ACK);
    this.#sendHeld();
  }

  #sendHeld(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) this.send(held);
  }

  #onBody(payload: Buffer): void {
    this.#message.push(payload);
    this.#messageBytes += payload.length;
    if (this.#messageBytes < this.#wantedBytes()) return;
    const body = this.#message.length === 1 ? payload : Buffer.concat(this.#message);
    this.#message = [];
    this.#messageBytes = 0;
    let at = 0;
    while (body.length - at >= GRPC_PREFIX_BYTES) {
      const end = at + GRPC_PREFIX_BYTES + body.readUInt32BE(at + 1);
      if (end > body.length) break;
      this.#events.onMessage(body.subarray(at + GRPC_PREFIX_BYTES, end));
      at = end;
    }
    if (at === body.length) return;
    this.#message.push(body.subarray(at));
    this.#messageBytes = body.length - at;
  }

  /** Bytes of the first message with its prefix, as far as that is known. */
  #wantedBytes(): number {
    const first = this.#message[0];
    if (first === undefined || this.#messageBytes < GRPC_PREFIX_BYTES) return GRPC_PREFIX_BYTES;
    const prefix = first.length >= GRPC_PREFIX_BYTES ? first : Buffer.concat(this.#message);
    return GRPC_PREFIX_BYTES + prefix.readUInt32BE(1);
  }

  #countReceived(bytes: number): void {
    this.#received += bytes;
    if (this.#received < this.#step) return;
    this.#socket.write(Buffer.concat([windowUpdate(0, this.#received), windowUpdate(STREAM, this.#received)]));
    this.#received = 0;
  }

  #end(reason: string, isRefused: boolean): void {
    if (this.#isOver) return;
    this.close();
    this.#events.onEnd(reason, isRefused);
  }
}

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

function frame({ type, flags, stream, payload }: Frame): Buffer {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(stream, 5);
  bytes.set(payload, FRAME_HEADER_BYTES);
  return bytes;
}

function windowUpdate(stream: number, increment: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(increment);
  return frame({ type: FRAME.windowUpdate, flags: 0, stream, payload });
}

/** No push, and the window of a stream (a wide one lets the server alone decide how fast it sends). */
function settings(windowBytes: number): Buffer {
  const payload = Buffer.from([0, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
  payload.writeUInt32BE(windowBytes, 8);
  return frame({ type: FRAME.settings, flags: 0, stream: 0, payload });
}

const SETTINGS_ACK = frame({ type: FRAME.settings, flags: FLAG.ack, stream: 0, payload: Buffer.alloc(0) });

/** HPACK (RFC 7541) without Huffman and without the dynamic table: static names by index, texts shorter than 127 bytes. */
function requestHeaders(path: string, port: number): Buffer {
  const text = (value: string): Buffer => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  return Buffer.concat([
    Buffer.from([0x83, 0x86, 0x04]), // :method POST, :scheme http, :path
    text(path),
    Buffer.from([0x01]), // :authority
    text(`127.0.0.1:${port}`),
    Buffer.from([0x0f, 0x10]), // content-type
    text("application/grpc"),
    Buffer.from([0x00]),
    text("te"),
    text("trailers"),
  ]);
}
