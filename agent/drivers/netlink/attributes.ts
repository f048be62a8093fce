/**
 * Netlink attributes (struct nlattr): length and type, payload, padding to four bytes; nested attributes carry others.
 *
 * Invariant: a writer's buffer is always a whole number of padded attributes except inside an open nest. One growing
 * buffer serves many messages, because a batch of thousands of routes or elements is one send. Host byte order is
 * little endian on both architectures that Sedge supports; nfnetlink's numbers are big endian, hence the "Be" methods.
 * Rejected: building trees of attribute objects first: garbage for every route, and nothing gained.
 */

const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;
const ATTRIBUTE_HEADER = 4;
/** A nest's length field has 16 bits. */
export const MAX_NEST_BYTES = 0xffff;

export function align4(length: number): number {
  return (length + 3) & ~3;
}

export class AttributeWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(initialBytes = 4096) {
    this.#buffer = Buffer.alloc(initialBytes);
  }

  get length(): number {
    return this.#length;
  }

  /** What was written so far; shares memory, valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  u8(type: number, value: number): void {
    const at = this.#attribute(type, 1);
    this.#buffer[at] = value;
  }

  u16(type: number, value: number): void {
    const at = this.#attribute(type, 2);
    this.#buffer.writeUInt16LE(value, at);
  }

  u16Be(type: number, value: number): void {
    const at = this.#attribute(type, 2);
    this.#buffer.writeUInt16BE(value, at);
  }

  u32(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#buffer.writeUInt32LE(value >>> 0, at);
  }

  u32Be(type: number, value: number): void {
    const at = this.#attribute(type, 4);
    this.#buffer.writeUInt32BE(value >>> 0, at);
  }

  u64Be(type: number, value: bigint): void {
    const at = this.#attribute(type, 8);
    this.#buffer.writeBigUInt64BE(value, at);
  }

  /** Zero-terminated, as the kernel's NLA_STRING and NLA_NUL_STRING both accept. */
  string(type: number, value: string): void {
    const length = Buffer.byteLength(value);
    const at = this.#attribute(type, length + 1);
    this.#buffer.write(value, at, "utf8");
  }

  raw(type: number, value: Uint8Array): void {
    const at = this.#attribute(type, value.length);
    this.#buffer.set(value, at);
  }

  /** A nest whose content is known as bytes, e.g. as it was read. */
  nested(type: number, content: Uint8Array): void {
    this.raw(type | NLA_F_NESTED, content);
  }

  /** Open a nest; hand the result to `endNest`. */
  beginNest(type: number): number {
    const start = this.#length;
    this.#attribute(type | NLA_F_NESTED, 0);
    return start;
  }

  endNest(start: number): void {
    const length = this.#length - start;
    if (length > MAX_NEST_BYTES) throw new RangeError(`a nested attribute of ${length} bytes does not fit its 16-bit length`);
    this.#buffer.writeUInt16LE(length, start);
  }

  /** Bytes outside any attribute (message and family headers), zeroed and padded to four; the offset of the first. */
  protected reserve(length: number): number {
    const at = this.#length;
    const end = at + align4(length);
    if (end > this.#buffer.length) this.#grow(end);
    this.#length = end;
    return at;
  }

  protected get buffer(): Buffer {
    return this.#buffer;
  }

  #attribute(type: number, payload: number): number {
    const at = this.reserve(ATTRIBUTE_HEADER + payload);
    this.#buffer.writeUInt16LE(ATTRIBUTE_HEADER + payload, at);
    this.#buffer.writeUInt16LE(type, at + 2);
    return at + ATTRIBUTE_HEADER;
  }

  #grow(atLeast: number): void {
    const larger = Buffer.alloc(Math.max(atLeast, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

/** Attributes by type. Of a type that repeats, the last; read lists with `listAttributes`. */
export class Attributes {
  readonly #byType = new Map<number, Buffer>();

  constructor(bytes: Buffer) {
    for (const { type, value } of listAttributes(bytes)) this.#byType.set(type, value);
  }

  has(type: number): boolean {
    return this.#byType.has(type);
  }

  raw(type: number): Buffer | undefined {
    return this.#byType.get(type);
  }

  u8(type: number): number | undefined {
    return this.#sized(type, 1)?.readUInt8(0);
  }

  u16(type: number): number | undefined {
    return this.#sized(type, 2)?.readUInt16LE(0);
  }

  u16Be(type: number): number | undefined {
    return this.#sized(type, 2)?.readUInt16BE(0);
  }

  u32(type: number): number | undefined {
    return this.#sized(type, 4)?.readUInt32LE(0);
  }

  i32(type: number): number | undefined {
    return this.#sized(type, 4)?.readInt32LE(0);
  }

  u32Be(type: number): number | undefined {
    return this.#sized(type, 4)?.readUInt32BE(0);
  }

  u64Be(type: number): bigint | undefined {
    return this.#sized(type, 8)?.readBigUInt64BE(0);
  }

  string(type: number): string | undefined {
    const value = this.#byType.get(type);
    return value === undefined ? undefined : decodeString(value);
  }

  nested(type: number): Attributes | undefined {
    const value = this.#byType.get(type);
    return value === undefined ? undefined : new Attributes(value);
  }

  #sized(type: number, size: number): Buffer | undefined {
    const value = this.#byType.get(type);
    return value === undefined || value.length < size ? undefined : value;
  }
}

/** Text up to the first zero byte. */
export function decodeString(value: Buffer): string {
  const zero = value.indexOf(0);
  return value.toString("utf8", 0, zero === -1 ? value.length : zero);
}

/** All attributes in order; a list is one that repeats a type. A cut-off tail ends the walk. */
export function listAttributes(bytes: Buffer): { readonly type: number; readonly value: Buffer }[] {
  const found: { type: number; value: Buffer }[] = [];
  let at = 0;
  while (at + ATTRIBUTE_HEADER <= bytes.length) {
    const length = bytes.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER || at + length > bytes.length) break;
    found.push({ type: bytes.readUInt16LE(at + 2) & NLA_TYPE_MASK, value: bytes.subarray(at + ATTRIBUTE_HEADER, at + length) });
    at += align4(length);
  }
  return found;
}
