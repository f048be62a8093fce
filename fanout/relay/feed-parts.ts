/**
 * What a relay is sent: messages out of dirty keys, each made when the stream has room, with the values of then.
 *
 * A mark says of a record what the relay may lack: its bytes, and for which of the relay's nodes it came or went. Bytes are left out where the relay surely has
 * them: another of its nodes has the record and nothing is marked for that one.
 */
import type { RecordKey } from "../../src/model/record.ts";
import type { RelayRecord, RelayUpdate } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import { encodeRelayServerMessage } from "../../src/wire/relay-protocol.ts";
import type { Entry } from "../table/entry.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Table } from "../table/table.ts";

export interface Mark {
  readonly isContent: boolean;
  /** Nodes for which it came or went; "all": the relay is told of all of its nodes. */
  readonly moved: "all" | ReadonlySet<NodeId>;
}

export type Marks = Map<RecordKey, Mark>;

const NOBODY: ReadonlySet<NodeId> = new Set();
/** Of a marked record that only has other bytes. Shared, so that a change for all costs one map entry. */
export const NEW_CONTENT: Mark = { isContent: true, moved: NOBODY };
/** Of a record of which the relay is told everything. */
export const WHOLE: Mark = { isContent: true, moved: "all" };

/** Adds what a commit changed to what is marked already. */
export function addMark(marks: Marks, key: RecordKey, mark: Mark): void {
  const before = marks.get(key);
  if (before === undefined) {
    marks.set(key, mark);
    return;
  }
  if (before.moved === "all") return;
  if (mark.moved === "all") {
    marks.set(key, mark);
    return;
  }
  const isContent = before.isContent || mark.isContent;
  marks.set(key, { isContent, moved: mark.moved.size === 0 ? before.moved : before.moved.size === 0 ? mark.moved : new Set([...before.moved, ...mark.moved]) });
}

export interface FeedView {
  readonly table: Table;
  /** Nodes that the relay subscribes to, with the relay's number of each. */
  readonly slots: ReadonlyMap<NodeId, number>;
  /** What is marked of a record besides what is being sent. */
  markOf(key: RecordKey): Mark | undefined;
}

type Statement = { readonly record: RelayRecord } | { readonly removed: RecordKey };

/** What is to be said of one record now. */
export function statementOf(key: RecordKey, mark: Mark, { table, slots, markOf }: FeedView): Statement {
  const entry = table.findEntry(key);
  if (entry === undefined) return { removed: key };
  if (entry.isShared) return { record: { ...EMPTY_RECORD, record: asBuffer(entry.bytes), shared: true } };
  if (mark.moved === "all") {
    const entered = common(entry.audience, slots);
    return entered.length === 0 ? { removed: key } : { record: { ...EMPTY_RECORD, record: asBuffer(entry.bytes), entered, complete: true } };
  }
  const entered: number[] = [];
  const left: number[] = [];
  for (const node of mark.moved) {
    const slot = slots.get(node);
    if (slot !== undefined) (entry.audience.has(node) ? entered : left).push(slot);
  }
  const isKnown = hasOther(entry, slots, mark.moved, markOf(key)?.moved ?? NOBODY);
  if (!isKnown && entered.length === 0) return { removed: key };
  const bytes = mark.isContent || !isKnown ? { record: asBuffer(entry.bytes) } : { key };
  return { record: { ...EMPTY_RECORD, ...bytes, entered, left } };
}

/** Messages without commit. */
export function* feedParts(marks: Marks, view: FeedView, partBytes: number): Generator<Uint8Array, void> {
  let records: RelayRecord[] = [];
  let removed: string[] = [];
  let bytes = 0;
  const take = (): Uint8Array => {
    const update = { ...EMPTY_UPDATE, records, removed };
    records = [];
    removed = [];
    bytes = 0;
    return encodeRelayServerMessage({ $case: "update", value: update });
  };
  for (const [key, mark] of marks) {
    const statement = statementOf(key, mark, view);
    if ("removed" in statement) removed.push(key);
    else records.push(statement.record);
    bytes += "removed" in statement ? key.length : sizeOf(statement.record);
    if (bytes >= partBytes) yield take();
  }
  if (bytes > 0) yield take();
}

/** Bytes of the marked records as messages, about. */
export function bytesOfMarks(marks: Marks, table: Table, limit: number): number {
  let bytes = 0;
  for (const [key, { isContent, moved }] of marks) {
    bytes += 16 + (moved === "all" ? 0 : moved.size * 3) + (isContent ? (table.findEntry(key)?.bytes.length ?? 0) : key.length);
    if (bytes > limit) break;
  }
  return bytes;
}

/** The commit, with the marked records in it. */
export function commitMessage(
  marks: Marks,
  view: FeedView,
  rest: Omit<RelayUpdate, "records" | "removed" | "cleared" | "clearedShared" | "commit">,
): Uint8Array {
  const records: RelayRecord[] = [];
  const removed: string[] = [];
  for (const [key, mark] of marks) {
    const statement = statementOf(key, mark, view);
    if ("removed" in statement) removed.push(key);
    else records.push(statement.record);
  }
  return encodeRelayServerMessage({ $case: "update", value: { ...EMPTY_UPDATE, ...rest, records, removed, commit: true } });
}

export const EMPTY_UPDATE: RelayUpdate = {
  clearedShared: [],
  cleared: [],
  records: [],
  removed: [],
  held: [],
  dropped: [],
  commit: false,
  revision: 0n,
  digest: undefined,
  committedAtUnixUs: 0n,
  upstream: [],
};

const EMPTY_RECORD: RelayRecord = { key: "", record: Buffer.alloc(0), shared: false, entered: [], left: [], complete: false };

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function sizeOf({ key, record, entered, left }: RelayRecord): number {
  return key.length + record.length + 3 * (entered.length + left.length) + 12;
}

function common(audience: ReadonlySet<NodeId>, slots: ReadonlyMap<NodeId, number>): number[] {
  const both: number[] = [];
  if (audience.size < slots.size) {
    for (const node of audience) {
      const slot = slots.get(node);
      if (slot !== undefined) both.push(slot);
    }
  } else for (const [node, slot] of slots) if (audience.has(node)) both.push(slot);
  return both;
}

/** Whether a node of the relay has the record of which nothing is marked: the relay then has it too. */
function hasOther(entry: Entry, slots: ReadonlyMap<NodeId, number>, moved: ReadonlySet<NodeId>, dirty: "all" | ReadonlySet<NodeId>): boolean {
  if (dirty === "all") return false;
  const isOther = (node: NodeId): boolean => !moved.has(node) && !dirty.has(node);
  if (entry.audience.size < slots.size) {
    for (const node of entry.audience) if (slots.has(node) && isOther(node)) return true;
  } else for (const node of slots.keys()) if (entry.audience.has(node) && isOther(node)) return true;
  return false;
}
