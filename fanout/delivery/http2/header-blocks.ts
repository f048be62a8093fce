/**
 * Header blocks of one connection: HEADERS and its CONTINUATIONs put together (RFC 9113 section 4.3), and decoded.
 *
 * Invariant: every block that is complete is decoded, in order, whatever becomes of its stream, as the decoder's table is the connection's. A block that is not complete
 * is bounded in frames and in bytes.
 */
import { CODE, ConnectionError, EMPTY, FLAG, FRAME, MAX_WINDOW, PRIORITY_BYTES, unpadded } from "./frames.ts";
import { type Header, HpackDecoder, HpackError } from "./hpack.ts";
import type { Abuse, Http2Limits } from "./limits.ts";

export interface HeaderBlock {
  readonly streamId: number;
  /** END_STREAM. */
  readonly isEnd: boolean;
  readonly isSelfDependent: boolean;
  readonly headers: readonly Header[];
  /** More than the limit: `headers` is not all. */
  readonly isTooLarge: boolean;
}

export interface HeaderBlocksHost {
  readonly limits: Http2Limits;
  /** Counts it; the result is to be thrown. */
  abused(abuse: Abuse, message: string): ConnectionError;
}

const HEADER_TABLE_BYTES = 4096;

interface OpenBlock {
  readonly streamId: number;
  readonly isEnd: boolean;
  readonly isSelfDependent: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

export class HeaderBlocks {
  readonly #host: HeaderBlocksHost;
  readonly #decoder: HpackDecoder;
  #open: OpenBlock | undefined;

  constructor(host: HeaderBlocksHost) {
    this.#host = host;
    this.#decoder = new HpackDecoder({ maxTableBytes: HEADER_TABLE_BYTES, maxListBytes: host.limits.maxHeaderListBytes });
  }

  /** To be asked at every frame. Throws ConnectionError when a block is open and the frame does not continue it. */
  check(type: number, streamId: number): void {
    if (this.#open !== undefined && (type !== FRAME.continuation || streamId !== this.#open.streamId))
      throw new ConnectionError(CODE.protocolError, "a header block was not finished");
  }

  /** HEADERS; undefined: the block goes on. Throws ConnectionError. */
  begin(flags: number, streamId: number, padded: Buffer): HeaderBlock | undefined {
    if (streamId === 0) throw new ConnectionError(CODE.protocolError, "HEADERS on stream 0");
    let payload = unpadded(flags, padded);
    let isSelfDependent = false;
    if ((flags & FLAG.priority) !== 0) {
      if (payload.length < PRIORITY_BYTES) throw new ConnectionError(CODE.frameSizeError, "HEADERS too short for its priority");
      isSelfDependent = (payload.readUInt32BE(0) & MAX_WINDOW) === streamId;
      payload = payload.subarray(PRIORITY_BYTES);
    }
    const block = { streamId, isEnd: (flags & FLAG.endStream) !== 0, isSelfDependent, parts: [], bytes: payload.length };
    return this.#take(block, flags, payload);
  }

  /** CONTINUATION; undefined: the block goes on still. Throws ConnectionError. */
  continue(flags: number, payload: Buffer): HeaderBlock | undefined {
    const block = this.#open;
    if (block === undefined) throw new ConnectionError(CODE.protocolError, "CONTINUATION without a header block");
    const { maxContinuations, maxHeaderBlockBytes } = this.#host.limits;
    block.bytes += payload.length;
    if (block.parts.length > maxContinuations) throw this.#host.abused("continuation-flood", `more than ${maxContinuations} CONTINUATIONs`);
    if (block.bytes > maxHeaderBlockBytes) throw this.#host.abused("header-bomb", `a header block above ${maxHeaderBlockBytes} bytes`);
    return this.#take(block, flags, payload);
  }

  #take(block: OpenBlock, flags: number, payload: Buffer): HeaderBlock | undefined {
    const isComplete = (flags & FLAG.endHeaders) !== 0;
    this.#open = isComplete ? undefined : block;
    // The frame's bytes are good for this call only.
    block.parts.push(isComplete ? payload : Buffer.from(payload));
    if (!isComplete) return undefined;
    const { streamId, isEnd, isSelfDependent, parts } = block;
    const { headers, isTooLarge } = this.#decode(parts.length === 1 ? (parts[0] ?? EMPTY) : Buffer.concat(parts));
    return { streamId, isEnd, isSelfDependent, headers, isTooLarge };
  }

  #decode(block: Buffer): { readonly headers: readonly Header[]; readonly isTooLarge: boolean } {
    try {
      return this.#decoder.decode(block);
    } catch (error) {
      if (error instanceof HpackError) throw new ConnectionError(CODE.compressionError, error.message);
      throw error;
    }
  }
}
