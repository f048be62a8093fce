/**
 * Short gRPC messages as DATA frames. One that goes to many clients is framed once: nearly all of them have their record stream on stream 1, so the very same
 * bytes go to each, and a delivery costs no copy.
 */
import { FRAME, HEADER_BYTES, writeFrameHeader } from "./frames.ts";
import { PREFIX_BYTES } from "./message-reader.ts";

/** Longer messages are cut without a copy (stream.ts). Below the 16,384 bytes of a frame that every peer must take. */
export const MAX_SHARED_BYTES = 8 * 1024;

export class SharedFrames {
  #message: Uint8Array | undefined;
  #streamId = 0;
  #framed: Buffer | undefined;

  /** The message in one frame, so at most MAX_SHARED_BYTES with its prefix. Shared: must not be changed. */
  framed(message: Uint8Array, streamId: number): Buffer {
    if (message === this.#message && streamId === this.#streamId && this.#framed !== undefined) return this.#framed;
    const framed = frameOf(message, streamId);
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

function frameOf(message: Uint8Array, streamId: number): Buffer {
  const length = PREFIX_BYTES + message.length;
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + length);
  writeFrameHeader(bytes, 0, { length, type: FRAME.data, flags: 0, streamId });
  bytes[HEADER_BYTES] = 0;
  bytes.writeUInt32BE(message.length, HEADER_BYTES + 1);
  bytes.set(message, HEADER_BYTES + PREFIX_BYTES);
  return bytes;
}
