/**
 * HPACK (RFC 7541): header blocks to header lists and back.
 *
 * Own code: npm's hpack.js is of 2016, works on streams of a readable-stream 2, and bounds nothing; node:http2 does not give its codec away. The encoder uses no
 * dynamic table and no Huffman code: a server of long streams sends one header block a stream, and its constant part is encoded once.
 *
 * Invariant: whatever a block holds, decoding it costs time in proportion to its bytes, and memory up to the two bounds given.
 */
import { tryDecodeHuffman } from "./huffman.ts";

export type Header = readonly [name: string, value: string];

/** The block breaks RFC 7541; the connection cannot go on (COMPRESSION_ERROR), since both tables may differ from now on. */
export class HpackError extends Error {
  override readonly name = "HpackError";
}

export interface DecodedHeaders {
  /** Up to the bound; see `isTooLarge`. */
  readonly headers: readonly Header[];
  /** The list is larger than `maxListBytes`; the rest was decoded for the dynamic table's sake, and dropped. */
  readonly isTooLarge: boolean;
}

// biome-ignore format: pairs, in the RFC's order
const STATIC_TABLE: readonly Header[] = [
  [":authority", ""], [":method", "GET"], [":method", "POST"], [":path", "/"], [":path", "/index.html"], [":scheme", "http"], [":scheme", "https"],
  [":status", "200"], [":status", "204"], [":status", "206"], [":status", "304"], [":status", "400"], [":status", "404"], [":status", "500"],
  ["accept-charset", ""], ["accept-encoding", "gzip, deflate"], ["accept-language", ""], ["accept-ranges", ""], ["accept", ""],
  ["access-control-allow-origin", ""], ["age", ""], ["allow", ""], ["authorization", ""], ["cache-control", ""], ["content-disposition", ""],
  ["content-encoding", ""], ["content-language", ""], ["content-length", ""], ["content-location", ""], ["content-range", ""], ["content-type", ""],
  ["cookie", ""], ["date", ""], ["etag", ""], ["expect", ""], ["expires", ""], ["from", ""], ["host", ""], ["if-match", ""], ["if-modified-since", ""],
  ["if-none-match", ""], ["if-range", ""], ["if-unmodified-since", ""], ["last-modified", ""], ["link", ""], ["location", ""], ["max-forwards", ""],
  ["proxy-authenticate", ""], ["proxy-authorization", ""], ["range", ""], ["referer", ""], ["refresh", ""], ["retry-after", ""], ["server", ""],
  ["set-cookie", ""], ["strict-transport-security", ""], ["transfer-encoding", ""], ["user-agent", ""], ["vary", ""], ["via", ""], ["www-authenticate", ""],
];
/** What an entry costs beside its text (RFC 7541 section 4.1; the same for the size of a list, RFC 9113 section 6.5.2). */
const ENTRY_OVERHEAD = 32;
/** Integers above this are refused: longest is a string, and a block is shorter. */
const MAX_INTEGER = 2 ** 28;
const NO_INDEXES: ReadonlyMap<string, number> = new Map();
const STATIC_NAMES = staticNames();
const STATIC_PAIRS = staticPairs();

export class HpackDecoder {
  readonly #maxTableBytes: number;
  readonly #maxListBytes: number;
  /** The newest entry last. */
  #entries: Header[] = [];
  #tableBytes = 0;
  #tableLimit: number;

  /** `maxTableBytes`: the SETTINGS_HEADER_TABLE_SIZE that the peer was told. */
  constructor({ maxTableBytes, maxListBytes }: { readonly maxTableBytes: number; readonly maxListBytes: number }) {
    this.#maxTableBytes = maxTableBytes;
    this.#maxListBytes = maxListBytes;
    this.#tableLimit = maxTableBytes;
  }

  /** One complete header block. Throws HpackError. */
  decode(block: Uint8Array): DecodedHeaders {
    const reader = new Reader(block);
    const headers: Header[] = [];
    let listBytes = 0;
    let isFirst = true;
    while (!reader.isAtEnd) {
      const byte = reader.peek();
      if ((byte & 0xe0) === 0x20) {
        if (!isFirst) throw new HpackError("a size update after a header");
        this.#resize(reader.integer(5));
        continue;
      }
      isFirst = false;
      const header = this.#header(reader, byte);
      listBytes += sizeOf(header);
      if (listBytes <= this.#maxListBytes) headers.push(header);
    }
    return { headers, isTooLarge: listBytes > this.#maxListBytes };
  }

  #header(reader: Reader, byte: number): Header {
    if ((byte & 0x80) !== 0) return this.#at(reader.integer(7));
    const isIndexed = (byte & 0x40) !== 0;
    const nameIndex = reader.integer(isIndexed ? 6 : 4);
    const name = nameIndex === 0 ? reader.string() : this.#at(nameIndex)[0];
    const header: Header = [name, reader.string()];
    if (isIndexed) this.#add(header);
    return header;
  }

  #at(index: number): Header {
    const header = index <= STATIC_TABLE.length ? STATIC_TABLE[index - 1] : this.#entries[this.#entries.length - (index - STATIC_TABLE.length)];
    if (header === undefined) throw new HpackError(`no entry with index ${index}`);
    return header;
  }

  #add(header: Header): void {
    this.#entries.push(header);
    this.#tableBytes += sizeOf(header);
    this.#evict();
  }

  #resize(limit: number): void {
    if (limit > this.#maxTableBytes) throw new HpackError(`a table of ${limit} bytes, at most ${this.#maxTableBytes} were offered`);
    this.#tableLimit = limit;
    this.#evict();
  }

  #evict(): void {
    let gone = 0;
    while (this.#tableBytes > this.#tableLimit) this.#tableBytes -= sizeOf(this.#entries[gone++] ?? ["", ""]);
    if (gone > 0) this.#entries.splice(0, gone);
  }
}

/** A header block without use of the dynamic table. Names must be in lower case; values are written as Latin-1. */
export function encodeHeaders(headers: readonly Header[]): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of headers) {
    const pair = STATIC_PAIRS.get(name)?.get(value);
    if (pair !== undefined) {
      parts.push(integer(pair, 7, 0x80));
      continue;
    }
    const nameIndex = STATIC_NAMES.get(name);
    if (nameIndex === undefined) parts.push(Buffer.from([0]), text(name));
    else parts.push(integer(nameIndex, 4, 0));
    parts.push(text(value));
  }
  return Buffer.concat(parts);
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  peek(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw new HpackError("the block ends inside a header");
    return byte;
  }

  /** RFC 7541 section 5.1. */
  integer(prefixBits: number): number {
    const mask = 2 ** prefixBits - 1;
    let value = this.#next() & mask;
    if (value < mask) return value;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#next();
      value += (byte & 0x7f) * factor;
      if (value > MAX_INTEGER || factor > MAX_INTEGER) throw new HpackError("an integer without measure");
      if ((byte & 0x80) === 0) return value;
    }
  }

  /** RFC 7541 section 5.2. */
  string(): string {
    const isHuffman = (this.peek() & 0x80) !== 0;
    const length = this.integer(7);
    const start = this.#at;
    this.#at += length;
    if (this.#at > this.#bytes.length) throw new HpackError("the block ends inside a string");
    const raw = this.#bytes.subarray(start, this.#at);
    if (!isHuffman) return Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString("latin1");
    const decoded = tryDecodeHuffman(raw);
    if (decoded === undefined) throw new HpackError("a string in broken Huffman code");
    return decoded.toString("latin1");
  }

  #next(): number {
    const byte = this.peek();
    this.#at++;
    return byte;
  }
}

function sizeOf([name, value]: Header): number {
  return name.length + value.length + ENTRY_OVERHEAD;
}

function integer(value: number, prefixBits: number, pattern: number): Buffer {
  const mask = 2 ** prefixBits - 1;
  if (value < mask) return Buffer.from([pattern | value]);
  const bytes = [pattern | mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  return Buffer.concat([integer(bytes.length, 7, 0), bytes]);
}

/** The first index of each name. */
function staticNames(): ReadonlyMap<string, number> {
  const names = new Map<string, number>();
  for (const [at, [name]] of STATIC_TABLE.entries()) if (!names.has(name)) names.set(name, at + 1);
  return names;
}

function staticPairs(): ReadonlyMap<string, ReadonlyMap<string, number>> {
  const pairs = new Map<string, ReadonlyMap<string, number>>();
  for (const [at, [name, value]] of STATIC_TABLE.entries()) if (value !== "") pairs.set(name, new Map([...(pairs.get(name) ?? NO_INDEXES), [value, at + 1]]));
  return pairs;
}
