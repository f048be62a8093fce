/**
 * One WatchRecords call: the records now, `synced`, then each change. Like a session it holds dirty keys, not messages: a watcher that falls behind sees
 * the newest value of each record once.
 */
import type { RecordKey } from "../../src/model/record.ts";
import type { RecordEntry, RecordEvent } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { Record as WireRecord } from "../../src/wire/gen/sedge/sync/v1/records.ts";
import type { Entry } from "../table/entry.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Commit, Table } from "../table/table.ts";

export interface RecordWatchOptions {
  readonly table: Table;
  /** Only the view of this node. */
  readonly node: NodeId | undefined;
  readonly keyPrefix: string;
  /** False: full; `pump` is called again when there is room. */
  readonly write: (event: RecordEvent) => boolean;
  readonly end: () => void;
}

export class RecordWatch {
  readonly #options: RecordWatchOptions;
  readonly #dirty: Set<RecordKey>;
  /** Keys told to the watcher: a removal of another is no news. */
  readonly #known = new Set<RecordKey>();
  #isSynced = false;
  #isEnded = false;

  constructor(options: RecordWatchOptions) {
    this.#options = options;
    const { table, node, keyPrefix } = options;
    const view = node === undefined ? table.entries() : table.view(node);
    this.#dirty = new Set(
      [...view]
        .map(({ key }) => key)
        .filter((key) => key.startsWith(keyPrefix))
        .sort(),
    );
  }

  publish(commit: Commit): void {
    const { node, keyPrefix } = this.#options;
    for (const { key, nodes } of commit.touched)
      if (key.startsWith(keyPrefix) && (node === undefined || nodes === undefined || nodes.has(node))) this.#dirty.add(key);
    this.pump();
  }

  pump(): void {
    const { table, node, write } = this.#options;
    if (this.#isEnded) return;
    for (const key of this.#dirty) {
      this.#dirty.delete(key);
      const entry = table.findEntry(key);
      const isThere = entry !== undefined && (node === undefined || table.isInView(entry, node));
      if (!isThere && !this.#known.delete(key)) continue;
      if (isThere) this.#known.add(key);
      const event: RecordEvent = isThere
        ? { revision: entry.revision, upsert: recordEntry(entry), removed: "", synced: false }
        : { revision: table.revision, upsert: undefined, removed: key, synced: false };
      if (!write(event)) return;
    }
    if (this.#isSynced) return;
    this.#isSynced = true;
    write({ revision: table.revision, upsert: undefined, removed: "", synced: true });
  }

  end(): void {
    this.#isEnded = true;
    this.#options.end();
  }
}

/** A record with what the table knows of it. */
export function recordEntry(entry: Entry): RecordEntry {
  return { record: WireRecord.decode(entry.bytes), revision: entry.revision, allNodes: entry.isShared, about: "", audience: entry.audience.size };
}
