/**
 * gRPC messages as DATA frames. A message that goes to many clients is framed once: nearly all of them have their record stream on stream 1, so the very same
 * bytes go to each, and a delivery costs no copy.
 */
import { DEFAULT_MAX_FRAME, FRAME, HEADER_BYTES, writeFrameHeader } from "./frames.ts";
import { PREFIX_BYTES } from "./message-reader.ts";

export class SharedFrames {
  #message: Uint8Array | undefined;
  #streamId = 0;
  #framed: Buffer | undefined;

  /** The whole message in frames of at most 16,384 bytes, which every peer must take. Shared: must not be changed. */
  framed(message: Uint8Array, streamId: number): Buffer {
    if (message === this.#message && streamId === this.#streamId && this.#framed !== undefined) return this.#framed;
    const framed = framesOf(message, streamId);
    this.#message = message;
    this.#streamId = streamId;
    this.#framed = framed;
    return framed;
  }

  /** Forgets the last message, so that it can be collected. */
  clear(): void {
    this.#message = undefined;
    this.#framed = undefined;
  }
}

/** The five bytes before a message. */
export function messagePrefix(length: number): Buffer {
  const prefix = Buffer.allocUnsafe(PREFIX_BYTES);
  prefix[0] = 0;
  prefix.writeUInt32BE(length, 1);
  return prefix;
}

function framesOf(message: Uint8Array, streamId: number): Buffer {
  const total = PREFIX_BYTES + message.length;
  const frames = Math.ceil(total / DEFAULT_MAX_FRAME);
  const bytes = Buffer.allocUnsafe(frames * HEADER_BYTES + total);
  const first = Math.min(total, DEFAULT_MAX_FRAME);
  writeFrameHeader(bytes, 0, { length: first, type: FRAME.data, flags: 0, streamId });
  bytes[HEADER_BYTES] = 0;
  bytes.writeUInt32BE(message.length, HEADER_BYTES + 1);
  let taken = first - PREFIX_BYTES;
  bytes.set(taken === message.length ? message : message.subarray(0, taken), HEADER_BYTES + PREFIX_BYTES);
  let at = HEADER_BYTES + first;
  while (taken < message.length) {
    const length = Math.min(DEFAULT_MAX_FRAME, message.length - taken);
    writeFrameHeader(bytes, at, { length, type: FRAME.data, flags: 0, streamId });
    bytes.set(message.subarray(taken, taken + length), at + HEADER_BYTES);
    taken += length;
    at += HEADER_BYTES + length;
  }
  return bytes;
}
