/**
 * Snappy, compressing only: how many bytes Typha's streams have (it knows no other compression). Written from the format descriptions of google/snappy
 * (format_description.txt, framing_format.txt): greedy matching of four bytes within blocks of 64 KiB, each block a chunk with a header and a checksum.
 */
const BLOCK_BYTES = 65_536;
/** Chunk type, length and checksum. */
const CHUNK_HEADER_BYTES = 8;
const STREAM_HEADER_BYTES = 10;
const HASH_BITS = 14;
const MIN_MATCH = 4;
const MAX_COPY = 64;
const MAX_SHORT_COPY = 11;
const SHORT_OFFSET = 2_048;

/** Bytes of the framed stream. */
export function snappyStreamBytes(data: Uint8Array): number {
  let bytes = STREAM_HEADER_BYTES;
  for (let at = 0; at < data.length; at += BLOCK_BYTES) {
    const block = data.subarray(at, at + BLOCK_BYTES);
    // A block that does not shrink by an eighth is sent as it is.
    const packed = compressBlock(block).length;
    bytes += CHUNK_HEADER_BYTES + (packed < block.length - block.length / 8 ? packed : block.length);
  }
  return bytes;
}

/** One block, in the raw format. */
export function compressBlock(block: Uint8Array): Uint8Array {
  const out: number[] = [];
  putVarint(out, block.length);
  const table = new Int32Array(2 ** HASH_BITS).fill(-1);
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  let literalFrom = 0;
  let at = 0;
  while (at + MIN_MATCH <= block.length) {
    const word = view.getUint32(at, true);
    const slot = Math.imul(word, 0x1e35a7bd) >>> (32 - HASH_BITS);
    const candidate = table[slot] ?? -1;
    table[slot] = at;
    if (candidate < 0 || view.getUint32(candidate, true) !== word) {
      // The longer nothing matches, the larger the steps, as the reference does it.
      at += 1 + ((at - literalFrom) >> 5);
      continue;
    }
    putLiteral(out, block.subarray(literalFrom, at));
    let length = MIN_MATCH;
    while (at + length < block.length && block[at + length] === block[candidate + length]) length++;
    putCopies(out, at - candidate, length);
    at += length;
    literalFrom = at;
  }
  putLiteral(out, block.subarray(literalFrom));
  return Uint8Array.from(out);
}

function putLiteral(out: number[], bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  const length = bytes.length - 1;
  if (length < 60) out.push(length << 2);
  else if (length < 256) out.push(60 << 2, length);
  else out.push(61 << 2, length & 255, length >> 8);
  for (const byte of bytes) out.push(byte);
}

function putCopies(out: number[], offset: number, length: number): void {
  let left = length;
  while (left > 0) {
    // What stays must not be shorter than a copy may be.
    const size = left > MAX_COPY + MIN_MATCH ? MAX_COPY : left > MAX_COPY ? left - MIN_MATCH : left;
    if (size >= MIN_MATCH && size <= MAX_SHORT_COPY && offset < SHORT_OFFSET) out.push(1 | ((size - MIN_MATCH) << 2) | ((offset >> 8) << 5), offset & 255);
    else out.push(2 | ((size - 1) << 2), offset & 255, offset >> 8);
    left -= size;
  }
}

function putVarint(out: number[], value: number): void {
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) out.push((rest & 0x7f) | 0x80);
  out.push(rest);
}
