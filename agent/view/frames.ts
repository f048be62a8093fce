/**
 * Frames on disk: length, checksum, payload. What a file consists of, and how much of it is whole.
 *
 * A payload is a JSON head and the blobs that it counts. Invariant: `readFrames` never throws for any bytes; it returns the whole frames from the
 * beginning and says why it stopped. Rejected: protobuf for the head (a state file is something that a person looks into when things are bad).
 */
import { contentHash } from "../../src/wire/digest.ts";

export interface Frame {
  readonly head: unknown;
  readonly blobs: readonly Uint8Array[];
}

export interface FramesRead {
  readonly frames: readonly Frame[];
  /** Bytes of whole frames: where an append may go on. */
  readonly wholeBytes: number;
  /** torn: the last frame is not all there, as after a crash while it was written. damaged: bytes that no append can have left. */
  readonly end: "whole" | "torn" | "damaged";
}

const LENGTH_BYTES = 4;
const CHECKSUM_BYTES = 8;
const PREFIX_BYTES = LENGTH_BYTES + CHECKSUM_BYTES;
/** A longer frame than any view makes: a length above it is garbage. */
const MAX_FRAME_BYTES = 1 << 30;
const CHECKSUM_SEED = 0x5365646765n;

export function encodeFrame(head: object, blobs: readonly Uint8Array[]): Uint8Array {
  const text = Buffer.from(JSON.stringify({ ...head, blobs: blobs.map(({ length }) => length) }), "utf8");
  const size = LENGTH_BYTES + text.length + blobs.reduce((sum, { length }) => sum + length, 0);
  const bytes = Buffer.allocUnsafe(PREFIX_BYTES + size);
  bytes.writeUInt32LE(text.length, PREFIX_BYTES);
  bytes.set(text, PREFIX_BYTES + LENGTH_BYTES);
  let at = PREFIX_BYTES + LENGTH_BYTES + text.length;
  for (const blob of blobs) {
    bytes.set(blob, at);
    at += blob.length;
  }
  bytes.writeUInt32LE(size, 0);
  bytes.writeBigUInt64LE(contentHash(bytes.subarray(PREFIX_BYTES), CHECKSUM_SEED), LENGTH_BYTES);
  return bytes;
}

export function readFrames(bytes: Buffer): FramesRead {
  const frames: Frame[] = [];
  let at = 0;
  for (;;) {
    if (at === bytes.length) return { frames, wholeBytes: at, end: "whole" };
    const left = bytes.length - at;
    if (left < PREFIX_BYTES) return { frames, wholeBytes: at, end: "torn" };
    const size = bytes.readUInt32LE(at);
    if (size < LENGTH_BYTES || size > MAX_FRAME_BYTES) return { frames, wholeBytes: at, end: "damaged" };
    if (left < PREFIX_BYTES + size) return { frames, wholeBytes: at, end: "torn" };
    const payload = bytes.subarray(at + PREFIX_BYTES, at + PREFIX_BYTES + size);
    const isIntact = contentHash(payload, CHECKSUM_SEED) === bytes.readBigUInt64LE(at + LENGTH_BYTES);
    const frame = isIntact ? parsePayload(payload) : undefined;
    // The blocks of a file need not reach the disk in order: a last frame of full length with wrong content is a torn one too.
    if (frame === undefined) return { frames, wholeBytes: at, end: left === PREFIX_BYTES + size ? "torn" : "damaged" };
    frames.push(frame);
    at += PREFIX_BYTES + size;
  }
}

function parsePayload(payload: Buffer): Frame | undefined {
  const textLength = payload.readUInt32LE(0);
  if (LENGTH_BYTES + textLength > payload.length) return undefined;
  let head: unknown;
  try {
    head = JSON.parse(payload.toString("utf8", LENGTH_BYTES, LENGTH_BYTES + textLength));
  } catch {
    return undefined;
  }
  const lengths = (head as { blobs?: unknown } | null)?.blobs;
  if (!Array.isArray(lengths)) return undefined;
  const blobs: Uint8Array[] = [];
  let at = LENGTH_BYTES + textLength;
  for (const length of lengths) {
    if (typeof length !== "number" || !Number.isSafeInteger(length) || length < 0 || at + length > payload.length) return undefined;
    // A copy: a record that is kept must not keep the whole file.
    blobs.push(Uint8Array.from(payload.subarray(at, at + length)));
    at += length;
  }
  return at === payload.length ? { head, blobs } : undefined;
}
