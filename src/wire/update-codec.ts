/**
 * ServerMessage with records as bytes: the server splices what it encoded once, the agent keeps what it received.
 *
 * Invariant: byte-identical to the generated encoder for the same content. Rejected: the generated code on this path (it would decode every record
 * into objects and encode it again for each of thousands of clients).
 */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { WireError } from "./error.ts";
import { type Heartbeat, ServerMessage } from "./gen/sedge/sync/v1/sync.ts";

export interface RawBucket {
  readonly index: number;
  /** Whole Record messages. */
  readonly records: readonly Uint8Array[];
}

/** As the message Update, with records as bytes. */
export interface RawUpdate {
  readonly buckets: readonly RawBucket[];
  readonly upserts: readonly Uint8Array[];
  readonly removed: readonly string[];
  readonly commit: boolean;
  readonly revision: bigint;
  readonly digest: bigint | undefined;
  readonly committedAtUnixUs: bigint;
  /** resourceVersions, in the order of Welcome.upstream_kinds; 0n: not known. Absent or empty: none are told. */
  readonly upstream?: readonly bigint[];
}

type GeneratedMessage = NonNullable<ServerMessage["message"]>;
/** A decoded ServerMessage; undefined is one that this version does not know, to be ignored. */
export type RawServerMessage = Exclude<GeneratedMessage, { $case: "update" }> | { readonly $case: "update"; readonly value: RawUpdate } | undefined;

const UPDATE_FIELD = 2;
const TAG = {
  buckets: 0x0a,
  upserts: 0x12,
  removed: 0x1a,
  commit: 0x20,
  revision: 0x28,
  digest: 0x31,
  committedAt: 0x38,
  upstream: 0x42,
  bucketIndex: 0x08,
  bucketRecords: 0x12,
  update: 0x12,
  heartbeat: 0x1a,
  heartbeatRevision: 0x08,
  heartbeatDigest: 0x11,
  heartbeatAge: 0x18,
  heartbeatStale: 0x20,
  heartbeatAckInterval: 0x28,
} as const;
const UPDATE_FIELDS = 8;

/** The whole ServerMessage{update}. */
export function encodeUpdate(update: RawUpdate): Uint8Array {
  return encodeUpdateAfter(TAG.update, update);
}

/** The Update alone, as PackedUpdate holds it. */
export function encodeBareUpdate(update: RawUpdate): Uint8Array {
  return encodeUpdateAfter(undefined, update);
}

function encodeUpdateAfter(tag: number | undefined, update: RawUpdate): Uint8Array {
  const bucketSizes = update.buckets.map(bucketSize);
  const removed = update.removed.map((key) => Buffer.from(key, "utf8"));
  let size = 0;
  for (const bytes of bucketSizes) size += delimitedSize(bytes);
  for (const record of update.upserts) size += delimitedSize(record.length);
  for (const key of removed) size += delimitedSize(key.length);
  if (update.commit) size += 2;
  if (update.revision !== 0n) size += 1 + varintSize64(update.revision);
  if (update.digest !== undefined) size += 9;
  if (update.committedAtUnixUs !== 0n) size += 1 + varintSize64(update.committedAtUnixUs);
  const upstream = update.upstream ?? [];
  let upstreamSize = 0;
  for (const version of upstream) upstreamSize += varintSize64(version);
  if (upstream.length > 0) size += delimitedSize(upstreamSize);

  const out = new Writer(tag === undefined ? size : delimitedSize(size));
  if (tag !== undefined) out.tagAndVarint(tag, size);
  for (const [i, bucket] of update.buckets.entries()) {
    out.tagAndVarint(TAG.buckets, bucketSizes[i] ?? 0);
    if (bucket.index !== 0) out.tagAndVarint(TAG.bucketIndex, bucket.index);
    for (const record of bucket.records) out.delimited(TAG.bucketRecords, record);
  }
  for (const record of update.upserts) out.delimited(TAG.upserts, record);
  for (const key of removed) out.delimited(TAG.removed, key);
  if (update.commit) out.tagAndVarint(TAG.commit, 1);
  if (update.revision !== 0n) out.tagAndVarint64(TAG.revision, update.revision);
  if (update.digest !== undefined) out.fixed64(TAG.digest, update.digest);
  if (update.committedAtUnixUs !== 0n) out.tagAndVarint64(TAG.committedAt, update.committedAtUnixUs);
  if (upstream.length > 0) {
    out.tagAndVarint(TAG.upstream, upstreamSize);
    for (const version of upstream) out.varint64(version);
  }
  return out.bytes;
}

/** The whole ServerMessage{heartbeat}. By hand: thousands of idle agents get nothing else. */
export function encodeHeartbeat({ revision, digest, upstreamAgeMs, stale, ackIntervalMs }: Heartbeat): Uint8Array {
  let size = 0;
  if (revision !== 0n) size += 1 + varintSize64(revision);
  if (digest !== undefined) size += 9;
  if (upstreamAgeMs !== 0n) size += 1 + varintSize64(upstreamAgeMs);
  if (stale) size += 2;
  if (ackIntervalMs !== 0) size += 1 + varintSize(ackIntervalMs);
  const out = new Writer(delimitedSize(size));
  out.tagAndVarint(TAG.heartbeat, size);
  if (revision !== 0n) out.tagAndVarint64(TAG.heartbeatRevision, revision);
  if (digest !== undefined) out.fixed64(TAG.heartbeatDigest, digest);
  if (upstreamAgeMs !== 0n) out.tagAndVarint64(TAG.heartbeatAge, upstreamAgeMs);
  if (stale) out.tagAndVarint(TAG.heartbeatStale, 1);
  if (ackIntervalMs !== 0) out.tagAndVarint(TAG.heartbeatAckInterval, ackIntervalMs);
  return out.bytes;
}

/** Any ServerMessage but Update, by the generated code. */
export function encodeServerMessage(message: Exclude<GeneratedMessage, { $case: "update" }>): Uint8Array {
  return ServerMessage.encode({ message }).finish();
}

/** Throws WireError("malformed") when it is no ServerMessage. Record bytes are copies, so that a kept record does not keep the message. */
export function decodeServerMessage(bytes: Uint8Array): RawServerMessage {
  try {
    const reader = new BinaryReader(bytes);
    let found: RawServerMessage;
    while (reader.pos < reader.len) {
      const start = reader.pos;
      const [field, type] = reader.tag();
      if (field === UPDATE_FIELD && type === WireType.LengthDelimited) found = { $case: "update", value: decodeUpdate(reader.bytes()) };
      else {
        reader.skip(type, field);
        const other = ServerMessage.decode(bytes.subarray(start, reader.pos)).message;
        if (other !== undefined && other.$case !== "update") found = other;
      }
    }
    return found;
  } catch (error) {
    throw error instanceof WireError ? error : new WireError("malformed", "not a ServerMessage", { cause: error });
  }
}

/** The Update out of a PackedUpdate. Throws WireError("malformed"). */
export function decodeBareUpdate(bytes: Uint8Array): RawUpdate {
  try {
    return decodeUpdate(bytes);
  } catch (error) {
    throw error instanceof WireError ? error : new WireError("malformed", "not an Update", { cause: error });
  }
}

function decodeUpdate(bytes: Uint8Array): RawUpdate {
  const reader = new BinaryReader(bytes);
  const buckets: RawBucket[] = [];
  const upserts: Uint8Array[] = [];
  const removed: string[] = [];
  let commit = false;
  let revision = 0n;
  let digest: bigint | undefined;
  let committedAtUnixUs = 0n;
  const upstream: bigint[] = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    if (tag === TAG.buckets) buckets.push(decodeBucket(reader.bytes()));
    else if (tag === TAG.upserts) upserts.push(Uint8Array.from(reader.bytes()));
    else if (tag === TAG.removed) removed.push(reader.string());
    else if (tag === TAG.commit) commit = reader.bool();
    else if (tag === TAG.revision) revision = BigInt(reader.uint64());
    else if (tag === TAG.digest) digest = BigInt(reader.fixed64());
    else if (tag === TAG.committedAt) committedAtUnixUs = BigInt(reader.uint64());
    else if (tag === TAG.upstream) for (const end = reader.uint32() + reader.pos; reader.pos < end; ) upstream.push(BigInt(reader.uint64()));
    else skipUnknown(reader, start, UPDATE_FIELDS);
  }
  const update = { buckets, upserts, removed, commit, revision, digest, committedAtUnixUs };
  return upstream.length === 0 ? update : { ...update, upstream };
}

function decodeBucket(bytes: Uint8Array): RawBucket {
  const reader = new BinaryReader(bytes);
  const records: Uint8Array[] = [];
  let index = 0;
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    if (tag === TAG.bucketIndex) index = reader.uint32();
    else if (tag === TAG.bucketRecords) records.push(Uint8Array.from(reader.bytes()));
    else skipUnknown(reader, start, 2);
  }
  return { index, records };
}

/** Skips a field of a later version; a known field with another wire type is a broken peer. */
function skipUnknown(reader: BinaryReader, start: number, lastKnownField: number): void {
  reader.pos = start;
  const [field, type] = reader.tag();
  if (field <= lastKnownField) throw new WireError("malformed", `field ${field} has wire type ${type}`);
  reader.skip(type, field);
}

function bucketSize(bucket: RawBucket): number {
  let size = bucket.index === 0 ? 0 : 1 + varintSize(bucket.index);
  for (const record of bucket.records) size += delimitedSize(record.length);
  return size;
}

/** Bytes of a field with a one-byte tag, a length and a content of that length. */
export function delimitedSize(length: number): number {
  return 1 + varintSize(length) + length;
}

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size++;
  return size;
}

function varintSize64(value: bigint): number {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? varintSize(Number(value)) : Math.ceil(value.toString(2).length / 7);
}

class Writer {
  readonly bytes: Uint8Array;
  #at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafe(size);
  }

  tagAndVarint(tag: number, value: number): void {
    this.bytes[this.#at++] = tag;
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) this.bytes[this.#at++] = (rest % 128) | 0x80;
    this.bytes[this.#at++] = rest;
  }

  tagAndVarint64(tag: number, value: bigint): void {
    this.bytes[this.#at++] = tag;
    this.varint64(value);
  }

  varint64(value: bigint): void {
    if (value <= BigInt(Number.MAX_SAFE_INTEGER)) {
      let rest = Number(value);
      for (; rest > 127; rest = Math.floor(rest / 128)) this.bytes[this.#at++] = (rest % 128) | 0x80;
      this.bytes[this.#at++] = rest;
      return;
    }
    let rest = value;
    for (; rest > 127n; rest >>= 7n) this.bytes[this.#at++] = Number(rest & 0x7fn) | 0x80;
    this.bytes[this.#at++] = Number(rest);
  }

  fixed64(tag: number, value: bigint): void {
    this.bytes[this.#at++] = tag;
    new DataView(this.bytes.buffer, this.bytes.byteOffset + this.#at, 8).setBigUint64(0, value, true);
    this.#at += 8;
  }

  delimited(tag: number, content: Uint8Array): void {
    this.tagAndVarint(tag, content.length);
    this.bytes.set(content, this.#at);
    this.#at += content.length;
  }
}
