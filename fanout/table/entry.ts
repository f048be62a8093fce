/** One record as the table keeps it. Only the table changes an entry. */
import type { RecordKey } from "../../src/model/record.ts";
import type { NodeId } from "./node-ids.ts";

export interface Entry {
  /** Names the entry in the life of the table; a record removed and made again is another entry. */
  readonly id: number;
  readonly key: RecordKey;
  readonly keyHash: number;
  /** Every node has it; `audience` is empty then. */
  readonly isShared: boolean;
  readonly audience: Set<NodeId>;
  bytes: Uint8Array;
  hash: bigint;
  /** Commit that gave it these bytes. */
  revision: bigint;
}
