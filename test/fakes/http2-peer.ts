/** A client that writes HTTP/2 frames as the test says, right or wrong, and notes what comes back. */
import { connect, type Socket } from "node:net";
import { EMPTY, FLAG, FRAME, FrameReader, frame, PREFACE, settingsFrame } from "../../fanout/delivery/http2/frames.ts";
import { encodeHeaders, type Header, HpackDecoder } from "../../fanout/delivery/http2/hpack.ts";

export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export class Http2Peer implements Disposable {
  readonly frames: SeenFrame[] = [];
  readonly socket: Socket;
  isClosed = false;
  readonly #reader: FrameReader;
  readonly #decoder = new HpackDecoder({ maxTableBytes: 4096, maxListBytes: 65_536 });

  constructor(address: string) {
    const [host = "", port = ""] = address.split(":");
    // The reader expects a preface before frames; a server sends none.
    this.#reader = new FrameReader({
      maxFrameBytes: 16_384,
      onFrame: (type, flags, streamId, payload) => void this.frames.push({ type, flags, streamId, payload: Buffer.from(payload) }),
    });
    this.#reader.read(PREFACE);
    this.socket = connect(Number(port), host);
    this.socket.on("data", (chunk: Buffer) => this.#reader.read(chunk));
    this.socket.on("error", () => undefined);
    this.socket.on("close", () => {
      this.isClosed = true;
    });
  }

  /** Preface and settings. */
  open(settings: Parameters<typeof settingsFrame>[0] = []): this {
    return this.write(PREFACE, settingsFrame(settings));
  }

  write(...frames: readonly Uint8Array[]): this {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(frames));
    return this;
  }

  ofType(type: number, streamId?: number): SeenFrame[] {
    return this.frames.filter((one) => one.type === type && (streamId === undefined || one.streamId === streamId));
  }

  /** Code and reason of GOAWAY. */
  get goAway(): { readonly code: number; readonly reason: string } | undefined {
    const seen = this.ofType(FRAME.goAway)[0]?.payload;
    return seen === undefined ? undefined : { code: seen.readUInt32BE(4), reason: seen.subarray(8).toString() };
  }

  resetCode(streamId: number): number | undefined {
    return this.ofType(FRAME.resetStream, streamId)[0]?.payload.readUInt32BE(0);
  }

  /** Header lists of a stream, decoded in order. Call once for all that came. */
  headersOf(streamId: number): Record<string, string> {
    const lists = this.ofType(FRAME.headers).map((one) => ({ streamId: one.streamId, headers: this.#decoder.decode(one.payload).headers }));
    return Object.fromEntries(lists.filter((list) => list.streamId === streamId).flatMap(({ headers }) => headers));
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export const callHeaders = (path: string, more: readonly Header[] = []): Header[] => [
  [":method", "POST"],
  [":scheme", "http"],
  [":path", path],
  [":authority", "x"],
  ["content-type", "application/grpc"],
  ["te", "trailers"],
  ...more,
];

export function headers(streamId: number, list: readonly Header[], flags: number = FLAG.endHeaders): Buffer {
  return frame(FRAME.headers, flags, streamId, encodeHeaders(list));
}

export function data(streamId: number, payload: Uint8Array = EMPTY, flags = 0): Buffer {
  return frame(FRAME.data, flags, streamId, payload);
}

/** With the prefix of gRPC. */
export function message(bytes: Uint8Array, flag = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flag;
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}
