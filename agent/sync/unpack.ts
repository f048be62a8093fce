/** Undoes the compressions of the record stream. A result larger than it says it is is never built: memory stays bounded whatever the peer sends. */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import type { Unpack } from "../../src/wire/agent-protocol.ts";

const HAS_ZSTD = typeof zstdDecompressSync === "function";

/** Named in Hello, best first. zstd is part of Node since 22.15. */
export const PACKING_FEATURES: readonly string[] = HAS_ZSTD ? ["zstd", "gzip"] : ["gzip"];

/** Throws what zlib throws: damaged data, or more than `size` bytes. */
export const unpack: Unpack = ({ compression, data, size }) => {
  const limit = { maxOutputLength: Math.max(1, size) };
  return compression === "zstd" ? zstdDecompressSync(data, limit) : gunzipSync(data, limit);
};
