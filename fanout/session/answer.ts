/**
 * The answer to Hello and repair: every bucket that differs, complete, cut into messages that are made when the stream has room for them.
 *
 * Where most of a chunk of shared records is wanted, the chunk's one frame for all agents is sent (packed-shared.ts) and only the node's own records are
 * encoded for it; where a few buckets are, those alone.
 * Records changed after the answer began are in the session's dirty set and go into the commit that ends it, so the parts need no snapshot: each reads
 * the table as it is then. A bucket too large for one message goes on as upserts in the next (order within the answer makes that the same).
 */
import { delimitedSize, encodeUpdate, type RawBucket } from "../../src/wire/update-codec.ts";
import type { Entry } from "../table/entry.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Table } from "../table/table.ts";
import type { PackedShared, Packing } from "./packed-shared.ts";

export interface AnswerRequest {
  readonly table: Table;
  readonly node: NodeId;
  readonly bits: number;
  /** What the agent has: 2^bits digests under the table's seed. */
  readonly stated: BigUint64Array;
  /** Size at which a part is closed. */
  readonly partBytes: number;
  readonly shared: PackedShared;
  /** What the agent can unpack. */
  readonly packing: Packing;
}

/** Buckets whose digest is not as stated. */
export function differingBuckets({ table, node, bits, stated }: Pick<AnswerRequest, "table" | "node" | "bits" | "stated">): Set<number> {
  const digests = table.bucketDigests(node, bits);
  const wanted = new Set<number>();
  for (let i = 0; i < digests.length; i++) if (digests[i] !== stated[i]) wanted.add(i);
  return wanted;
}

/** Messages without commit. The buckets are chosen when this is called; their content is read as the parts are taken. */
export function answerParts(request: AnswerRequest): Iterator<Uint8Array, void> {
  const wanted = differingBuckets(request);
  const chunkBits = request.shared.chunkBits(request.bits);
  const chunks = wholeChunks(wanted, request.bits, chunkBits);
  return parts(request, { wanted, chunks, chunkBits, own: request.table.ownBuckets(request.node, request.bits, wanted) });
}

/** Chunks of which more than half is wanted; all their buckets are wanted from then on. */
function wholeChunks(wanted: Set<number>, bits: number, chunkBits: number): ReadonlySet<number> {
  const perChunk = 2 ** (bits - chunkBits);
  const counts = new Map<number, number>();
  for (const index of wanted) counts.set(Math.floor(index / perChunk), (counts.get(Math.floor(index / perChunk)) ?? 0) + 1);
  const whole = new Set<number>();
  for (const [chunk, count] of counts) {
    if (count * 2 <= perChunk) continue;
    whole.add(chunk);
    for (let i = 0; i < perChunk; i++) wanted.add(chunk * perChunk + i);
  }
  return whole;
}

interface Plan {
  readonly wanted: ReadonlySet<number>;
  readonly chunks: ReadonlySet<number>;
  readonly chunkBits: number;
  readonly own: ReadonlyMap<number, readonly Entry[]>;
}

function* parts({ table, node, bits, partBytes, shared, packing }: AnswerRequest, { wanted, chunks, chunkBits, own }: Plan): Generator<Uint8Array, void> {
  const sent = new Set<number>();
  for (const index of chunks) {
    const frame = shared.chunk({ index, bits, chunkBits, packing });
    if (frame === undefined) continue;
    sent.add(index);
    yield frame;
  }
  const part = new Part(partBytes);
  for (const index of wanted) {
    // The chunk has replaced the bucket: what is the node's own is added to it.
    const isSent = sent.has(index >>> (bits - chunkBits));
    if (!isSent) {
      part.beginBucket(index);
      for (const entry of table.sharedBucket(index, bits)) {
        part.add(entry.bytes);
        if (part.isFull) yield part.take();
      }
    }
    for (const entry of own.get(index) ?? []) {
      if (table.findEntry(entry.key) !== entry || !table.isInView(entry, node)) continue;
      part.add(entry.bytes);
      if (part.isFull) yield part.take();
    }
    part.endBucket();
  }
  if (!part.isEmpty) yield part.take();
}

class Part {
  readonly #limit: number;
  #buckets: RawBucket[] = [];
  #upserts: Uint8Array[] = [];
  #bucket: { index: number; records: Uint8Array[] } | undefined;
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get isFull(): boolean {
    return this.#bytes >= this.#limit;
  }

  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  beginBucket(index: number): void {
    this.#bucket = { index, records: [] };
    this.#buckets.push(this.#bucket);
    this.#bytes += 4;
  }

  endBucket(): void {
    this.#bucket = undefined;
  }

  add(record: Uint8Array): void {
    (this.#bucket?.records ?? this.#upserts).push(record);
    this.#bytes += delimitedSize(record.length);
  }

  take(): Uint8Array {
    const message = encodeUpdate({
      buckets: this.#buckets,
      upserts: this.#upserts,
      removed: [],
      commit: false,
      revision: 0n,
      digest: undefined,
      committedAtUnixUs: 0n,
    });
    this.#buckets = [];
    this.#upserts = [];
    // The rest of an open bucket goes on as upserts.
    this.#bucket = undefined;
    this.#bytes = 0;
    return message;
  }
}
