/**
 * What a packed Update holds, for agents that keep no shared records: which buckets it replaces, and how many records came. The server sends the same bytes
 * to every agent, so each message is decompressed and read once for all the agents of a process; those that check everything do it for themselves.
 */
import { crc32, gunzipSync, zstdDecompressSync } from "node:zlib";
import { Compression } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { decodeBareUpdate, decodeServerMessage } from "../../src/wire/update-codec.ts";

export interface PackedContent {
  readonly indexes: ReadonlySet<number>;
  readonly records: number;
}

/** Chunks of a view are a few dozen; those of the revisions before may still be on their way. */
const MAX_CHUNKS = 1_000;

export class PackedBuckets {
  readonly #known = new Map<string, PackedContent>();

  /** `message`: a whole ServerMessage with `packed`. Throws when it is damaged. */
  contentOf(message: Uint8Array): PackedContent {
    const name = `${message.length}/${crc32(message)}`;
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const decoded = decodeServerMessage(message);
    if (decoded?.$case !== "packed") throw new Error("a packed Update was due");
    const { compression, data, size } = decoded.value;
    const { buckets, upserts } = decodeBareUpdate((compression === Compression.ZSTD ? zstdDecompressSync : gunzipSync)(data, { maxOutputLength: size }));
    const content = {
      indexes: new Set(buckets.map(({ index }) => index)),
      records: buckets.reduce((sum, { records }) => sum + records.length, upserts.length),
    };
    if (this.#known.size >= MAX_CHUNKS) this.#known.clear();
    this.#known.set(name, content);
    return content;
  }
}
