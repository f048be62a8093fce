/**
 * Records that every node has, cut into chunks of whole buckets, each encoded and compressed once for all agents that need it.
 *
 * A chunk is named by its place and holds for one digest of its content: when a record of it changes, it is made anew at the next use. Chunk sizes follow the
 * bytes of all shared records, so that a change makes little anew and a frame stays far below the message limit.
 * Memory: at most `maxBytes` of frames; the least used go first. Rejected: compressing each agent's own records (nothing is shared there).
 */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { LRUCache } from "lru-cache";
import { bucketOfHash } from "../../src/wire/digest.ts";
import { Compression } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { encodeBareUpdate, encodeServerMessage, encodeUpdate, type RawBucket, type RawUpdate } from "../../src/wire/update-codec.ts";
import type { Table } from "../table/table.ts";

export type Packing = "zstd" | "gzip" | "none";

/** Best first. zstd is part of Node since 22.15. */
export const PACKINGS: readonly Packing[] = typeof zstdCompressSync === "function" ? ["zstd", "gzip"] : ["gzip"];

/** A chunk is at most this large before compression, unless a single bucket is larger. */
const CHUNK_BYTES = 64 * 1024;
/** Larger chunks are not made: their records go out in parts, as those that are not shared do. */
const MAX_CHUNK_BYTES = 1024 * 1024;
/** Below this the frame is not worth compressing. */
const MIN_PACKED_BYTES = 512;
const DEFAULT_MAX_BYTES = 64 * 1024 * 1024;

interface Chunk {
  readonly digest: bigint;
  /** Undefined: too large. */
  readonly frame: Uint8Array | undefined;
}

export class PackedShared {
  /** Frames made and frames found. */
  readonly counts = { made: 0, shared: 0 };
  readonly #table: Table;
  readonly #chunks: LRUCache<string, Chunk>;

  constructor(options: { readonly table: Table; readonly maxBytes?: number }) {
    this.#table = options.table;
    this.#chunks = new LRUCache({ maxSize: options.maxBytes ?? DEFAULT_MAX_BYTES, sizeCalculation: ({ frame }) => (frame?.length ?? 0) + 200 });
  }

  get bytes(): number {
    return this.#chunks.calculatedSize;
  }

  /** A chunk is 2^(bits - chunkBits) buckets: chunk number = bucket number's upper chunkBits. */
  chunkBits(bits: number): number {
    const { sharedBytes } = this.#table;
    let chunkBits = 0;
    while (chunkBits < bits && sharedBytes / 2 ** chunkBits > CHUNK_BYTES) chunkBits++;
    return chunkBits;
  }

  /** One ServerMessage with every shared record of the chunk's buckets; undefined: too large for one message. */
  chunk({
    index,
    bits,
    chunkBits,
    packing,
  }: {
    readonly index: number;
    readonly bits: number;
    readonly chunkBits: number;
    readonly packing: Packing;
  }): Uint8Array | undefined {
    const digest = this.#table.sharedDigest(index, chunkBits);
    const name = `${packing}/${bits}/${chunkBits}/${index}`;
    const found = this.#chunks.get(name);
    if (found?.digest === digest) {
      this.counts.shared++;
      return found.frame;
    }
    const frame = this.#make(index, bits, chunkBits, packing);
    this.counts.made++;
    this.#chunks.set(name, { digest, frame });
    return frame;
  }

  #make(index: number, bits: number, chunkBits: number, packing: Packing): Uint8Array | undefined {
    const perChunk = 2 ** (bits - chunkBits);
    const buckets: (RawBucket & { readonly records: Uint8Array[] })[] = Array.from({ length: perChunk }, (_, i) => ({
      index: index * perChunk + i,
      records: [],
    }));
    let bytes = 0;
    for (const entry of this.#table.sharedBucket(index, chunkBits)) {
      buckets[bucketOfHash(entry.keyHash, bits) - index * perChunk]?.records.push(entry.bytes);
      bytes += entry.bytes.length;
    }
    if (bytes > MAX_CHUNK_BYTES) return undefined;
    const update: RawUpdate = { buckets, upserts: [], removed: [], commit: false, revision: 0n, digest: undefined, committedAtUnixUs: 0n };
    if (packing === "none" || bytes < MIN_PACKED_BYTES) return encodeUpdate(update);
    const bare = encodeBareUpdate(update);
    const data = packing === "zstd" ? zstdCompressSync(bare) : gzipSync(bare);
    return encodeServerMessage({
      $case: "packed",
      value: { compression: packing === "zstd" ? Compression.ZSTD : Compression.GZIP, size: bare.length, data },
    });
  }
}
