/**
 * HTTP/2 frames (RFC 9113 sections 4 and 6): bytes to frames and frames to bytes. What a frame means is the connection's business.
 *
 * Invariant: the reader holds at most one incomplete frame, and refuses a longer one than was offered before it is complete.
 */

export const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  resetStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const FLAG = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 32 } as const;

export const SETTING = { headerTableSize: 1, enablePush: 2, maxConcurrentStreams: 3, initialWindowSize: 4, maxFrameSize: 5, maxHeaderListSize: 6 } as const;

/** RFC 9113 section 7. */
export const CODE = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  enhanceYourCalm: 11,
} as const;

/** What a client sends first (RFC 9113 section 3.4). */
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
export const HEADER_BYTES = 9;
/** Until the peer says otherwise (RFC 9113 section 6.5.2). */
export const DEFAULT_WINDOW = 65_535;
export const DEFAULT_MAX_FRAME = 16_384;
export const MAX_WINDOW = 2 ** 31 - 1;
export const MAX_MAX_FRAME = 2 ** 24 - 1;
/** What PRIORITY carries, alone or before a header block. */
export const PRIORITY_BYTES = 5;
export const EMPTY = Buffer.alloc(0);

/** The peer broke the protocol: GOAWAY with the code, and the connection ends. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** RST_STREAM with the code; the connection goes on. */
export class StreamError extends Error {
  override readonly name = "StreamError";
  readonly code: number;
  readonly streamId: number;

  constructor(streamId: number, code: number, message: string) {
    super(message);
    this.code = code;
    this.streamId = streamId;
  }
}

/** Called for each frame; the payload is valid until it returns. */
export type OnFrame = (type: number, flags: number, streamId: number, payload: Buffer) => void;

/** Cuts a byte stream into frames, after the preface. */
export class FrameReader {
  readonly #maxFrameBytes: number;
  readonly #onFrame: OnFrame;
  #rest: Buffer | undefined;
  #isPrefaceOver = false;
  #isStopped = false;

  constructor({ maxFrameBytes, onFrame }: { readonly maxFrameBytes: number; readonly onFrame: OnFrame }) {
    this.#maxFrameBytes = maxFrameBytes;
    this.#onFrame = onFrame;
  }

  /** Drops everything from now on. */
  stop(): void {
    this.#isStopped = true;
    this.#rest = undefined;
  }

  /** Throws ConnectionError, and whatever `onFrame` throws: the frames after that one are kept for the next call. What is kept of the chunk is a copy. */
  read(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#rest = undefined;
    let at = 0;
    if (!this.#isPrefaceOver) {
      const given = Math.min(bytes.length, PREFACE.length);
      if (PREFACE.compare(bytes, 0, given, 0, given) !== 0) throw new ConnectionError(CODE.protocolError, "not an HTTP/2 client");
      if (given < PREFACE.length) {
        this.#rest = Buffer.from(bytes);
        return;
      }
      this.#isPrefaceOver = true;
      at = PREFACE.length;
    }
    try {
      while (!this.#isStopped && bytes.length - at >= HEADER_BYTES) {
        const length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
        if (length > this.#maxFrameBytes)
          throw new ConnectionError(CODE.frameSizeError, `a frame of ${length} bytes, at most ${this.#maxFrameBytes} were offered`);
        const end = at + HEADER_BYTES + length;
        if (end > bytes.length) break;
        const start = at;
        at = end;
        this.#onFrame(bytes[start + 3] ?? 0, bytes[start + 4] ?? 0, bytes.readUInt32BE(start + 5) & MAX_WINDOW, bytes.subarray(start + HEADER_BYTES, end));
      }
    } finally {
      if (at < bytes.length && !this.#isStopped) this.#rest = Buffer.from(bytes.subarray(at));
    }
  }
}

/** The payload without its padding (DATA and HEADERS). Throws ConnectionError. */
export function unpadded(flags: number, payload: Buffer): Buffer {
  if ((flags & FLAG.padded) === 0) return payload;
  const padding = payload[0];
  if (padding === undefined) throw new ConnectionError(CODE.frameSizeError, "a padded frame without a length of its padding");
  if (padding >= payload.length) throw new ConnectionError(CODE.protocolError, "more padding than frame");
  return payload.subarray(1, payload.length - padding);
}

/** Writes a frame's header at the offset. */
export function writeFrameHeader(target: Buffer, at: number, { length, type, flags, streamId }: FrameHeader): void {
  target[at] = length >>> 16;
  target[at + 1] = length >>> 8;
  target[at + 2] = length;
  target[at + 3] = type;
  target[at + 4] = flags;
  target.writeUInt32BE(streamId, at + 5);
}

export interface FrameHeader {
  readonly length: number;
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
}

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  writeFrameHeader(bytes, 0, { length: payload.length, type, flags, streamId });
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

export function settingsFrame(settings: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.allocUnsafe(settings.length * 6);
  for (const [index, [id, value]] of settings.entries()) {
    payload.writeUInt16BE(id, index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  }
  return frame(FRAME.settings, 0, 0, payload);
}

export const SETTINGS_ACK = frame(FRAME.settings, FLAG.ack, 0, EMPTY);

export function windowUpdateFrame(streamId: number, increment: number): Buffer {
  return frame(FRAME.windowUpdate, 0, streamId, uint32(increment));
}

export function resetStreamFrame(streamId: number, code: number): Buffer {
  return frame(FRAME.resetStream, 0, streamId, uint32(code));
}

/** `reason` is for people. */
export function goAwayFrame(lastStreamId: number, code: number, reason = ""): Buffer {
  return frame(FRAME.goAway, 0, 0, Buffer.concat([uint32(lastStreamId), uint32(code), Buffer.from(reason)]));
}

/** HEADERS and as many CONTINUATIONs as the peer's largest frame asks for. */
export function headersFrames(
  streamId: number,
  block: Buffer,
  { isLast, maxFrameBytes }: { readonly isLast: boolean; readonly maxFrameBytes: number },
): Buffer {
  const end = isLast ? FLAG.endStream : 0;
  if (block.length <= maxFrameBytes) return frame(FRAME.headers, end | FLAG.endHeaders, streamId, block);
  const frames = [frame(FRAME.headers, end, streamId, block.subarray(0, maxFrameBytes))];
  for (let at = maxFrameBytes; at < block.length; at += maxFrameBytes) {
    const flags = at + maxFrameBytes >= block.length ? FLAG.endHeaders : 0;
    frames.push(frame(FRAME.continuation, flags, streamId, block.subarray(at, at + maxFrameBytes)));
  }
  return Buffer.concat(frames);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
