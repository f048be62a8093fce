/**
 * A node with a session at a relay below, as its relay tells. Reports of its blocks are counted by this object: a new session of the node is a new one.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { RecordKey } from "../../src/model/record.ts";
import type { NodeState } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import type { Acknowledged, ClientState } from "../session/client-state.ts";
import type { SentCommits } from "../session/sent-commits.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { ChangedKeys } from "./changed-keys.ts";

/** What is known of all nodes of a relay together: its stream at this server. */
export interface RelayProgress {
  readonly name: string;
  readonly sentRevision: bigint;
  readonly levelRevision: bigint;
  /** Monotonic ms; 0: it has told nothing yet. */
  readonly ackAt: number;
  readonly isLevel: boolean;
  readonly sentCommits: SentCommits;
  readonly changedKeys: ChangedKeys;
}

export class RelayedNode implements ClientState {
  readonly node: { readonly name: NodeName; readonly id: NodeId };
  readonly slot: number;
  /** The relay's number for the node's session. */
  readonly session: bigint;
  readonly #feed: RelayProgress;
  #state: NodeState | undefined;
  #connectedAt = 0;

  constructor(options: {
    readonly feed: RelayProgress;
    readonly node: { readonly name: NodeName; readonly id: NodeId };
    readonly slot: number;
    readonly session: bigint;
  }) {
    this.#feed = options.feed;
    this.node = options.node;
    this.slot = options.slot;
    this.session = options.session;
  }

  update(state: NodeState, now: number): void {
    if (this.#state === undefined) this.#connectedAt = now - Number(state.connectedMs);
    this.#state = state;
  }

  /** Relays between the node and this server, the nearest to the node first. */
  get via(): readonly string[] {
    return [...(this.#state?.via ?? []), this.#feed.name];
  }

  get address(): string {
    return `${this.ownAddress} via ${this.via.join(", ")}`;
  }

  /** As the relay sees it that has its session. */
  get ownAddress(): string {
    return this.#state?.address ?? "";
  }

  /** Its relay brings it up to date; how far that is, `acknowledged` says. */
  get state(): "live" {
    return "live";
  }

  get certificateEndsAtUnixMs(): number | undefined {
    const at = Number(this.#state?.certificateEndsAtUnixMs ?? 0n);
    return at === 0 ? undefined : at;
  }

  get version(): string {
    return this.#state?.version ?? "";
  }

  get connectedAt(): number {
    return this.#connectedAt;
  }

  get acknowledged(): Acknowledged {
    const { level = false, receivedRevision = 0n, programmedRevision = 0n, failed = [] } = this.#state ?? {};
    const { levelRevision, sentRevision, ackAt } = this.#feed;
    return {
      sent: sentRevision,
      received: level ? larger(receivedRevision, levelRevision) : receivedRevision,
      programmed: level ? larger(programmedRevision, levelRevision) : programmedRevision,
      failed,
      at: ackAt,
    };
  }

  get isLevel(): boolean {
    return this.isCaughtUp && (this.#state?.failed.length ?? 0) === 0;
  }

  get isCaughtUp(): boolean {
    return this.#state?.level === true && this.#feed.isLevel;
  }

  openKeys(): readonly RecordKey[] | undefined {
    if (this.isCaughtUp) return [];
    const { programmed } = this.acknowledged;
    return programmed === 0n ? undefined : this.#feed.changedKeys.after(programmed);
  }

  /** Relays have their nodes at a short pace. */
  askForAck(): void {
    // Nothing is held back for long.
  }

  get dirtyKeys(): number {
    return this.#state?.dirtyKeys ?? 0;
  }

  get bytesSent(): number {
    return Number(this.#state?.bytesSent ?? 0n);
  }

  get sentCommits(): ClientState["sentCommits"] {
    const { sentCommits } = this.#feed;
    const { programmed } = this.acknowledged;
    return { programmedAt: (revision) => sentCommits.programmedAt(revision), oldestOpenAtUnixUs: sentCommits.committedAfter(programmed) };
  }
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
