/**
 * What a relay tells its parent of the nodes below: one number for all that are level, and a word on each that is not.
 *
 * A node that falls behind for less than GRACE_MS holds the number back instead of being named: a commit for all nodes is then one small message when the last
 * has it, not two for each. Gathered for TELL_MS, so that acknowledgements of thousands of nodes cost a few messages a second.
 * Invariant: the parent is never told of a revision that a node's kernel does not have.
 */
import type { Clock } from "../../src/runtime/clock.ts";
import type { NodeState, RelayAck } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import type { ClientState } from "../session/client-state.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Table } from "../table/table.ts";
import { RelayedNode } from "./relayed-node.ts";

const TELL_MS = 20;
const GRACE_MS = 500;

export interface UplinkOptions {
  readonly table: Table;
  /** Nodes with a session at this relay or below. */
  readonly clients: () => Iterable<ClientState>;
  readonly clock: Clock;
  /** Counters of nodes that said nothing else are told this often (ms). */
  readonly refreshMs: number;
}

interface Told {
  readonly state: NodeState;
  /** Everything but counters, as text. */
  readonly text: string;
}

export class Uplink {
  readonly #options: UplinkOptions;
  readonly #told = new Map<NodeId, Told>();
  readonly #sessions = new WeakMap<ClientState, bigint>();
  readonly #behindSince = new WeakMap<ClientState, number>();
  #nextSession = 1n;
  #send: ((ack: RelayAck) => void) | undefined;
  #session = new AbortController();
  #isScheduled = false;
  #levelRevision = 0n;
  #refreshedAt = 0;

  constructor(options: UplinkOptions) {
    this.#options = options;
  }

  /** The parent has answered: it knows nothing of the nodes yet. */
  begin(send: (ack: RelayAck) => void): void {
    this.end();
    this.#session = new AbortController();
    this.#send = send;
    this.#told.clear();
    this.#levelRevision = 0n;
    this.flush();
  }

  end(): void {
    this.#session.abort();
    this.#send = undefined;
    this.#isScheduled = false;
  }

  /** Something may have changed. */
  touch(): void {
    if (this.#send !== undefined) this.#later(TELL_MS);
  }

  /** Tells now what is new. */
  flush(): void {
    const send = this.#send;
    if (send === undefined) return;
    const { table, clients, clock, refreshMs } = this.#options;
    const now = clock.now();
    const isRefresh = now - this.#refreshedAt >= refreshMs;
    if (isRefresh) this.#refreshedAt = now;
    const nodes: NodeState[] = [];
    const seen = new Set<NodeId>();
    let isHeldBack = false;
    for (const client of clients()) {
      if (client.node === undefined) continue;
      seen.add(client.node.id);
      const before = this.#told.get(client.node.id);
      const isInGrace = !client.isCaughtUp && before?.state.level === true && before.state.session === this.#sessionOf(client) && !this.#isLate(client, now);
      if (client.isCaughtUp) this.#behindSince.delete(client);
      isHeldBack ||= isInGrace;
      const state = this.#stateOf(client, client.isCaughtUp || isInGrace, now);
      const text = JSON.stringify([
        String(state.session),
        state.level,
        state.failed,
        state.level ? "" : `${state.receivedRevision} ${state.programmedRevision}`,
      ]);
      const isSame = before?.text === text && (!isRefresh || before.state.bytesSent === state.bytesSent);
      if (isSame) continue;
      this.#told.set(client.node.id, { state, text });
      nodes.push(state);
    }
    for (const id of this.#told.keys()) {
      if (seen.has(id)) continue;
      this.#told.delete(id);
      nodes.push(GONE(id));
    }
    const levelRevision = isHeldBack ? this.#levelRevision : table.revision;
    if (levelRevision !== this.#levelRevision || nodes.length > 0) {
      this.#levelRevision = levelRevision;
      send({ levelRevision, nodes });
    }
    if (isHeldBack || nodes.some(({ connected, level }) => connected && !level)) this.#later(GRACE_MS / 2);
  }

  #isLate(client: ClientState, now: number): boolean {
    const since = this.#behindSince.get(client) ?? now;
    this.#behindSince.set(client, since);
    return now - since >= GRACE_MS;
  }

  #stateOf(client: ClientState, level: boolean, now: number): NodeState {
    const { received, programmed, failed } = client.acknowledged;
    return {
      slot: client.node?.id ?? 0,
      connected: true,
      session: this.#sessionOf(client),
      address: client instanceof RelayedNode ? client.ownAddress : client.address,
      version: client.version,
      level,
      receivedRevision: received,
      programmedRevision: programmed,
      failed: [...failed],
      dirtyKeys: client.dirtyKeys,
      bytesSent: BigInt(client.bytesSent),
      connectedMs: BigInt(Math.max(0, Math.round(now - client.connectedAt))),
      via: client instanceof RelayedNode ? [...client.via] : [],
      certificateEndsAtUnixMs: BigInt(Math.max(0, Math.round(client.certificateEndsAtUnixMs ?? 0))),
    };
  }

  #sessionOf(client: ClientState): bigint {
    let session = this.#sessions.get(client);
    if (session === undefined) {
      session = this.#nextSession++;
      this.#sessions.set(client, session);
    }
    return session;
  }

  #later(ms: number): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const { signal } = this.#session;
    void this.#options.clock.sleep(ms, signal).then(() => {
      if (signal.aborted) return;
      this.#isScheduled = false;
      this.flush();
    });
  }
}

const GONE = (slot: NodeId): NodeState => ({
  slot,
  connected: false,
  session: 0n,
  address: "",
  version: "",
  level: false,
  receivedRevision: 0n,
  programmedRevision: 0n,
  failed: [],
  dirtyKeys: 0,
  bytesSent: 0n,
  connectedMs: 0n,
  via: [],
  certificateEndsAtUnixMs: 0n,
});
