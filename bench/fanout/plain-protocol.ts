/**
 * What the baselines send: messages of the same size as the server's, to the same agents, at the same moments, with nothing behind them. The first bytes
 * are the length (4, big-endian) and the sender's time (8, double, microseconds since 1970); the rest is filling. An agent says its number (4) first.
 */
import type { TracedMessage } from "./recorder.ts";

export const PLAIN_HEADER_BYTES = 12;
/** HTTP/2's frame header and gRPC's prefix, which the record stream puts before a message. */
export const FRAMING_BYTES = 14;

export interface PlainMessage {
  /** From the first message on. */
  readonly atUs: number;
  readonly bytes: number;
  readonly recipients: readonly number[];
}

/** The trace of a scenario as a baseline replays it, in order. */
export function plainMessages(trace: readonly TracedMessage[]): PlainMessage[] {
  const ordered = [...trace].sort((a, b) => a.atUnixUs - b.atUnixUs);
  const first = ordered[0]?.atUnixUs ?? 0;
  return ordered.map(({ atUnixUs, bytes, recipients }) => ({ atUs: atUnixUs - first, bytes: Math.max(PLAIN_HEADER_BYTES, bytes + FRAMING_BYTES), recipients }));
}

/** A stamped message. */
export function plainMessage(bytes: number, unixUs: number): Buffer {
  const message = Buffer.alloc(bytes);
  message.writeUInt32BE(bytes);
  message.writeDoubleBE(unixUs, 4);
  return message;
}
