/** A node's agent as an operator sees it, whether its session is here or at a relay below. */

import type { NodeName } from "../../src/model/names.ts";
import type { RecordKey } from "../../src/model/record.ts";
import type { ObjectFailure } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import type { SessionState } from "../../src/wire/session-protocol.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { SentCommits } from "./sent-commits.ts";

export interface Acknowledged {
  readonly sent: bigint;
  readonly received: bigint;
  /** What the kernel has. */
  readonly programmed: bigint;
  readonly failed: readonly ObjectFailure[];
  /** When it was last said (ms by the clock); 0: never. */
  readonly at: number;
}

export interface ClientState {
  /** Known once Hello has come. */
  readonly node: { readonly name: NodeName; readonly id: NodeId } | undefined;
  /** Where it connects from; with the relays on the way. */
  readonly address: string;
  readonly state: SessionState;
  /** Of the certificate with which it connected; undefined: without one, or not known. */
  readonly certificateEndsAtUnixMs: number | undefined;
  /** Program and version. */
  readonly version: string;
  /** Monotonic ms. */
  readonly connectedAt: number;
  readonly acknowledged: Acknowledged;
  /** Everything that the table has for the node has been sent and is in its kernel. */
  readonly isLevel: boolean;
  /** As `isLevel`, whether or not single objects failed. */
  readonly isCaughtUp: boolean;
  /** Records whose present state is not known to be in the node's kernel; undefined: all of its view, as no answer has been acknowledged. */
  openKeys(): readonly RecordKey[] | undefined;
  /** Somebody waits for what the node's kernel has: it is to be told sooner than at its pace. Costs little when asked again. */
  askForAck(): void;
  readonly dirtyKeys: number;
  readonly bytesSent: number;
  readonly sentCommits: Pick<SentCommits, "programmedAt" | "oldestOpenAtUnixUs">;
}
