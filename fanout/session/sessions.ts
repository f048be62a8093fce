/**
 * All sessions: brings each commit to the sessions whose view it changed, by index, and flushes them together after a short window.
 *
 * Invariant: a node has at most one session; a commit costs what it touches, not how many clients there are.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { RecordKey } from "../../src/model/record.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { type Logger, silentLogger } from "../../src/runtime/log.ts";
import type { EndpointReport, Hello, ServerList } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import type { PeerStream, StreamHandler } from "../delivery/delivery.ts";
import { CallError } from "../status.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Commit, Table } from "../table/table.ts";
import type { UpstreamPositions } from "../upstream-versions.ts";
import { Admission, type AdmissionOptions } from "./admission.ts";
import type { ClientState } from "./client-state.ts";
import { FlushWindow } from "./flush-window.ts";
import { Followers } from "./followers.ts";
import { FrameCache } from "./frames.ts";
import { HeartbeatRing } from "./heartbeat-ring.ts";
import { PackedShared } from "./packed-shared.ts";
import { SESSION_LIMITS, Session, type SessionHost, type SessionLimits, type SessionObserver } from "./session.ts";
import { SharedChanges } from "./shared-changes.ts";

export interface SessionsOptions {
  readonly table: Table;
  readonly serverName: string;
  readonly epoch: string;
  readonly clock: Clock;
  readonly observer: SessionObserver;
  readonly log?: Logger;
  readonly heartbeatIntervalMs: number;
  /** A stream without Hello for this long is ended. */
  readonly helloTimeoutMs: number;
  /** An answer that the reader takes nothing of for this long gives up its place in the admission. */
  readonly answerStallMs: number;
  readonly admission: AdmissionOptions;
  readonly flushWindowsMs?: readonly number[];
  readonly limits?: Partial<SessionLimits>;
  /** Where a node should go when it may not stay here, best first (addresses). Absent: nowhere in particular. */
  readonly targetsOf?: (node: NodeName) => readonly string[];
  /** See SessionHost.serversFor; absent: agents are told of no servers. */
  readonly serversFor?: (node: NodeName) => ServerList | undefined;
  /** See Welcome.ack_interval_ms; a server's own when absent. */
  readonly ackPace?: AckPace;
  /** Agents that are asked to move go at most at this rate, together. */
  readonly movesPerSecond?: number;
  /** How far this server is in the API's history; absent: agents are told nothing of it. */
  readonly versions?: UpstreamPositions;
  /** An agent that knows a newer state of the API than this server, refused for this long while the API answers, is served: the API itself has gone back. */
  readonly olderLimitMs?: number;
  /** An agent was refused because it knows a newer state of the kind. */
  readonly onOlder?: (kind: string) => void;
  /** Bytes of shared records kept ready to be sent. */
  readonly packedBytes?: number;
  upstream(): { readonly ageMs: number; readonly isStale: boolean };
  report(session: Session, report: EndpointReport): void;
  /** See SessionHost; absent: the table has every node's view. */
  readonly hold?: SessionHost["hold"];
  /** Why an agent is refused now, besides what this class knows of. */
  readonly refuse?: (hello: HelloPlace) => CallError | undefined;
  /** Nodes whose session is at a relay below. */
  readonly relayed?: ReadonlyMap<NodeId, ClientState>;
  /** A session has come, gone, or acknowledged something. */
  readonly onClient?: (session: Session) => void;
}

/** What a Hello or RelayHello says of what the peer has, and for whom. */
export type HelloPlace = Pick<Hello, "node" | "epoch" | "revision" | "view" | "upstream">;

/** Twice the time between two bookmarks of the API, and longer than a server takes to find that it has lost the API. */
const OLDER_LIMIT_MS = 180_000;
const MAX_REFUSED = 100_000;
export const MOVES_PER_SECOND = 200;
/**
 * Acks of progress that all agents together may send in a second, about, and the longest pace: well below the time for which a node must be behind before anybody is
 * told. An Ack costs nearly as much as a delivery, and who waits for one has it at once (`Session.askForAck`). A relay's parent cannot ask, so there the pace is short.
 */
const ACK_PACE: AckPace = { perSecond: 2_000, maxIntervalMs: 2_500 };
export const RELAY_ACK_PACE: AckPace = { perSecond: 10_000, maxIntervalMs: 1_000 };
/** Below so many agents there is none. */
const MIN_PACED_CLIENTS = 100;

export interface AckPace {
  readonly perSecond: number;
  readonly maxIntervalMs: number;
}

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #host: SessionHost;
  readonly #window: FlushWindow;
  readonly #log: Logger;
  readonly #heartbeats: HeartbeatRing<Session>;
  readonly #open = new Set<Session>();
  readonly #byNode = new Map<NodeId, Session>();
  /** Agents refused because they know a newer state, since when; bounded, the oldest go first. */
  readonly #refusedOlder = new Map<string, number>();
  readonly #pending = new Set<Session>();
  /** What changed for everybody since the last flush. */
  #shared: SharedChanges | undefined;
  readonly #stopped = new AbortController();
  /** Streams younger than the time that Hello may take, oldest first. One timer serves them all: a signal's listeners are searched at each addition. */
  readonly #greeting: Session[] = [];
  /** Sessions whose Hello has come. */
  readonly #registered = new Set<Session>();
  #epoch: string;
  #isServing = false;
  #isDraining = false;
  #isFlushScheduled = false;
  #flushedAt = Number.NEGATIVE_INFINITY;

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#window = new FlushWindow(options.flushWindowsMs);
    this.#log = options.log ?? silentLogger();
    const { table, serverName, heartbeatIntervalMs, observer, clock } = options;
    this.#heartbeats = new HeartbeatRing({ intervalMs: heartbeatIntervalMs, now: clock.now() });
    this.#epoch = options.epoch;
    const epoch = (): string => this.#epoch;
    this.#host = {
      table,
      serverName,
      get epoch() {
        return epoch();
      },
      heartbeatIntervalMs,
      observer,
      limits: { ...SESSION_LIMITS, ...options.limits },
      frames: new FrameCache(),
      admission: new Admission({ now: () => clock.now(), ...options.admission }),
      shared: new PackedShared({ table, ...(options.packedBytes === undefined ? {} : { maxBytes: options.packedBytes }) }),
      inFlight: { bytes: 0 },
      followers: { plain: new Followers(), withUpstream: new Followers() },
      apart: new Set(),
      answering: new Set(),
      get upstreamKinds() {
        return options.versions?.kinds ?? [];
      },
      upstreamSince: (revision) => options.versions?.toldSince(revision) ?? [],
      now: () => clock.now(),
      wallTimeUs: () => Math.round(clock.wallTime() * 1000),
      ackIntervalMs: () => this.ackIntervalMs,
      refusal: (hello) => this.refusalOf(hello),
      hold: options.hold ?? holdAtOnce,
      canRestart: options.hold !== undefined,
      acknowledged: (session) => options.onClient?.(session),
      upstream: () => options.upstream(),
      serversFor: options.serversFor,
      register: (session) => this.#register(session),
      unregister: (session) => this.#unregister(session),
      report: (session, report) => options.report(session, report),
    };
  }

  get frames(): FrameCache {
    return this.#host.frames;
  }

  get admission(): Admission {
    return this.#host.admission;
  }

  /** Sessions that have said Hello. */
  get clients(): ReadonlySet<Session> {
    return this.#registered;
  }

  /** Sessions that have nothing to do but to be sent what all are sent. */
  get following(): number {
    const { plain, withUpstream } = this.#host.followers;
    return plain.size + withUpstream.size;
  }

  /** Streams, with or without Hello. */
  get openStreams(): number {
    return this.#open.size;
  }

  /** The newest session of the node, here or at a relay below. */
  clientOf(node: NodeId): ClientState | undefined {
    const [own, relayed] = [this.#byNode.get(node), this.#options.relayed?.get(node)];
    return own !== undefined && relayed !== undefined ? newer(own, relayed) : (own ?? relayed);
  }

  /** Its session here. */
  sessionOf(node: NodeId): Session | undefined {
    return this.#byNode.get(node);
  }

  /** Every node that has a session here or at a relay below, once. */
  *everyClient(): Generator<ClientState> {
    const relayed = this.#options.relayed;
    for (const session of this.#registered) {
      const other = session.node === undefined ? undefined : relayed?.get(session.node.id);
      if (other === undefined || newer(session, other) === session) yield session;
    }
    if (relayed === undefined) return;
    for (const [node, client] of relayed) {
      const own = this.#byNode.get(node);
      if (own === undefined || newer(own, client) === client) yield client;
    }
  }

  /** How many `everyClient` gives, about: a node counts twice for the moment in which it moves. */
  get clientCount(): number {
    return this.#registered.size + (this.#options.relayed?.size ?? 0);
  }

  /** Shared records ready to be sent. */
  get packed(): PackedShared {
    return this.#host.shared;
  }

  /** Given to all streams and not yet taken by them. */
  get bytesInFlight(): number {
    return this.#host.inFlight.bytes;
  }

  /** How far apart an agent's Acks of progress are to be, so that their number does not grow with that of the agents. */
  get ackIntervalMs(): number {
    const clients = this.#registered.size;
    const { perSecond, maxIntervalMs } = this.#options.ackPace ?? ACK_PACE;
    return clients < MIN_PACED_CLIENTS ? 0 : Math.min(maxIntervalMs, Math.ceil((clients * 1_000) / perSecond));
  }

  /** The table has a complete view: sessions are answered from now on. */
  serve(): void {
    this.#isServing = true;
  }

  /**
   * A relay's parent is another run of a server: revisions of the one before do not count, so all that are here state their digests anew, in the stream that they
   * have. Who cannot is cut with the error.
   */
  restart(epoch: string, error: CallError): void {
    this.#epoch = epoch;
    this.#host.frames.clear();
    this.#shared = undefined;
    const { plain, withUpstream } = this.#host.followers;
    plain.pending = undefined;
    withUpstream.pending = undefined;
    this.#pending.clear();
    const restarted = [...this.#registered];
    for (const session of restarted) session.restart(error);
    const greetedAt = this.#options.clock.now();
    // Longer than for a first Hello: a slow reader has what was sent before to read first.
    this.#later(this.#options.answerStallMs, () => {
      for (const session of restarted) session.endOverdue(greetedAt);
    });
  }

  /** Why a peer with this place in history is refused now. */
  refusalOf(hello: HelloPlace): CallError | undefined {
    return this.#refusal() ?? this.#options.refuse?.(hello) ?? this.#refusalOfNewer(hello);
  }

  /** A new stream. */
  accept(stream: PeerStream): StreamHandler {
    const session = new Session({ stream, host: this.#host });
    this.#open.add(session);
    this.#greeting.push(session);
    if (this.#greeting.length === 1) this.#watchGreetings();
    return session;
  }

  /** Marks what a commit changed; it is flushed within the window. */
  publish(commit: Commit): void {
    for (const { key, nodes } of commit.touched) {
      if (nodes === undefined) this.#markAll(key, commit);
      else
        for (const node of nodes) {
          const session = this.#byNode.get(node);
          if (session !== undefined) this.#mark(session, key, commit);
        }
    }
    if ((this.#pending.size === 0 && this.#shared === undefined) || this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    const dueAt = this.#options.clock.now() + this.#window.currentMs;
    this.#later(this.#window.currentMs, () => this.flush(dueAt));
  }

  /** Sends what is dirty, to all sessions whose stream has room. `dueAt`: when it was to happen (ms by the clock). */
  flush(dueAt?: number): void {
    this.#isFlushScheduled = false;
    const start = this.#options.clock.now();
    const sinceMs = start - this.#flushedAt;
    this.#flushedAt = start;
    const shared = this.#shared;
    this.#shared = undefined;
    if (shared !== undefined) this.#flushShared(shared);
    const sessions = [...this.#pending];
    this.#pending.clear();
    for (const session of sessions) session.flush();
    this.#window.note({ tookMs: this.#options.clock.now() - start, lateMs: start - (dueAt ?? start), sinceMs });
  }

  /** Sends heartbeats, spread over the interval, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, answerStallMs } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(this.#heartbeats.tickMs, signal);
      for (const session of this.#heartbeats.due(clock.now())) session.heartbeat();
      for (const session of this.#host.answering) if ((session.stalledMs ?? 0) > answerStallMs) session.yieldAdmission();
    }
    this.#stopped.abort();
  }

  /** Tells all of the servers that there are now. */
  tellServers(): void {
    for (const session of this.#registered) session.tellServers();
  }

  /** Asks sessions to move, each at a moment of its own: `perSecond` of them, in the order given. Answers how long until the last goes (ms). */
  move(moves: readonly { readonly session: Session; readonly targets: readonly string[] }[], reason: string, perSecond: number): number {
    const stepMs = 1_000 / perSecond;
    for (const [i, { session, targets }] of moves.entries()) session.move({ reason, deadlineMs: 0, targets: [...targets], afterMs: Math.round(i * stepMs) });
    return Math.round(Math.max(0, moves.length - 1) * stepMs);
  }

  /**
   * Asks all to move, over a span of at most three fifths of the time, and ends those that are still there after it. Resolves when none is left, with how
   * many had to be ended.
   */
  async drain(deadlineMs: number): Promise<number> {
    this.#isDraining = true;
    const { clock, targetsOf, movesPerSecond = MOVES_PER_SECOND } = this.#options;
    const end = clock.now() + deadlineMs;
    const spanMs = Math.min(0.6 * deadlineMs, (this.#registered.size * 1_000) / movesPerSecond);
    const stepMs = spanMs / Math.max(1, this.#registered.size);
    this.#log.info({ clients: this.#registered.size, deadlineMs, spanMs: Math.round(spanMs) }, "draining");
    let asked = 0;
    for (const session of this.#open) {
      const targets = session.node === undefined ? [] : [...(targetsOf?.(session.node.name) ?? [])];
      if (session.drain({ deadlineMs, targets, afterMs: Math.round(asked * stepMs) })) asked++;
    }
    while (this.#open.size > 0 && clock.now() < end) await clock.sleep(Math.min(50, end - clock.now()));
    const overdue = this.#open.size;
    if (overdue > 0) this.#log.warn({ clients: overdue }, "agents did not move in time: their streams are ended");
    for (const session of this.#open) session.handle("drain-overdue");
    return overdue;
  }

  #refusal(): CallError | undefined {
    if (this.#isDraining) return new CallError("draining", "the server is stopping");
    if (!this.#isServing) return new CallError("not-in-sync", "the server does not have the whole cluster yet", { retryAfterMs: 1000 });
    return undefined;
  }

  /** An agent never moves back: not to a server whose watches have not yet come as far as those of the server that it had before. */
  #refusalOfNewer(hello: HelloPlace): CallError | undefined {
    const { versions, table, clock, olderLimitMs = OLDER_LIMIT_MS } = this.#options;
    const isComparable = hello.epoch !== this.#epoch && hello.view?.hashSeed === table.seed;
    const older = isComparable ? versions?.olderThan(hello.upstream) : undefined;
    if (older === undefined) {
      this.#refusedOlder.delete(hello.node);
      return undefined;
    }
    const now = clock.now();
    const since = this.#refusedOlder.get(hello.node) ?? now;
    this.#refusedOlder.set(hello.node, since);
    if (this.#refusedOlder.size > MAX_REFUSED)
      for (const [oldest] of this.#refusedOlder) if (this.#refusedOlder.size > MAX_REFUSED) this.#refusedOlder.delete(oldest);
    if (now - since >= olderLimitMs && !this.#options.upstream().isStale) {
      this.#log.warn({ node: hello.node, kind: older.kind, has: older.has }, "the API has gone back behind what an agent has seen: the agent is served");
      this.#refusedOlder.delete(hello.node);
      return undefined;
    }
    this.#options.onOlder?.(older.kind);
    return new CallError("older-upstream", `this server has ${older.kind} objects up to resourceVersion ${older.has}, the agent has seen newer ones`, {
      retryAfterMs: 2000,
    });
  }

  #markAll(key: RecordKey, commit: Commit): void {
    if (this.#registered.size === 0) return;
    this.#shared ??= new SharedChanges(commit);
    this.#shared.add(key);
    const { followers, apart } = this.#host;
    for (const group of [followers.plain, followers.withUpstream]) if (group.size > 0) group.pending = this.#shared;
    for (const session of apart) if (!session.joins(this.#shared)) this.#mark(session, key, commit);
  }

  #flushShared(shared: SharedChanges): void {
    const { observer, followers, apart } = this.#host;
    const nowUs = this.#host.wallTimeUs();
    let [count, messages, bytes] = [0, 0, 0];
    for (const group of [followers.plain, followers.withUpstream]) {
      if (group.pending === undefined) continue;
      const message = shared.message(group === followers.withUpstream, this.#host);
      const sent = group.flush(message);
      count += sent;
      messages += sent;
      this.#host.frames.counts.shared += Math.max(0, sent - 1);
      bytes += sent * (message?.bytes ?? 0);
    }
    for (const session of apart) {
      const message = session.flushShared(shared);
      if (message === undefined) continue;
      count++;
      messages += message.frames.length;
      bytes += message.bytes;
    }
    if (count === 0) return;
    observer.sent("update", bytes, messages);
    observer.delivered((nowUs - Number(shared.since.committedAtUnixUs)) / 1e6, count);
  }

  #mark(session: Session, key: RecordKey, commit: Commit): void {
    session.markDirty(key, commit);
    this.#pending.add(session);
  }

  #register(session: Session): void {
    if (session.node === undefined) return;
    const older = this.#byNode.get(session.node.id);
    this.#byNode.set(session.node.id, session);
    this.#registered.add(session);
    this.#host.apart.add(session);
    const firstHeartbeatAt = session.connectedAt + this.#options.heartbeatIntervalMs * (0.5 + 0.5 * fractionOf(session));
    session.stopHeartbeats = this.#heartbeats.add(session, firstHeartbeatAt);
    older?.handle("replaced");
    this.#options.onClient?.(session);
  }

  #unregister(session: Session): void {
    this.#open.delete(session);
    this.#registered.delete(session);
    this.#host.apart.delete(session);
    this.#pending.delete(session);
    session.stopHeartbeats?.();
    if (session.node !== undefined && this.#byNode.get(session.node.id) === session) this.#byNode.delete(session.node.id);
    this.#options.onClient?.(session);
  }

  #watchGreetings(): void {
    const first = this.#greeting[0];
    if (first === undefined) return;
    const { clock, helloTimeoutMs } = this.#options;
    this.#later(Math.max(0, first.connectedAt + helloTimeoutMs - clock.now()), () => {
      const over = clock.now() - helloTimeoutMs;
      // Those that have said Hello are not waited for: a storm of connections is one timer, not one each.
      const waits = this.#greeting.findIndex((session) => session.connectedAt > over && session.state === "greeting");
      const due = this.#greeting.splice(0, waits < 0 ? this.#greeting.length : waits);
      // One that was greeted anew has a time of its own.
      for (const session of due) if (session.state === "greeting") session.handle("hello-overdue");
      this.#watchGreetings();
    });
  }

  /** Not after the stop: a wait ends at once then, and who waits again would do so without end. */
  #later(ms: number, act: () => void): void {
    const { signal } = this.#stopped;
    const wait = async (): Promise<void> => {
      await this.#options.clock.sleep(ms, signal);
      if (!signal.aborted) act();
    };
    wait().catch((error: unknown) => this.#log.error({ err: error }, "timer failed"));
  }
}

/** A place in the interval that stays the same for a node, so that heartbeats do not come in step. */
function fractionOf(session: Session): number {
  return ((session.node?.id ?? 0) * 0.618_033_988_75) % 1;
}

/** A node that moves has two sessions for a moment: what the one before says is not news. */
function newer(a: ClientState, b: ClientState): ClientState {
  return a.connectedAt > b.connectedAt ? a : b;
}

const holdAtOnce: SessionHost["hold"] = (_, onHeld) => {
  onHeld();
  return () => undefined;
};
