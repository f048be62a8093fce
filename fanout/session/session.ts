/**
 * One node's record stream on the server. The transition table of `src/wire/session-protocol.ts` says what may happen when; this carries it out.
 *
 * Memory: a set of dirty keys, never a queue of messages. At most `maxBytesInFlight` and one message are given to the transport; while it is full, changes
 * only mark keys, so that a slow client later gets the newest value once and delays nobody. What is too large for one message goes out in parts, each made
 * when there is room for it; keys that change meanwhile are in the commit that ends them.
 * Above 500 lines, because dirty keys, the answer under way and what is in flight are one state of one stream; frames, windows and answers have files of
 * their own.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { RecordKey } from "../../src/model/record.ts";
import { AckReader } from "../../src/wire/ack-reader.ts";
import { WireError } from "../../src/wire/error.ts";
import type { Ack, EndpointReport, Hello, Move, ObjectFailure, ReportResult, ServerList, ViewState } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import {
  type AgentMessageValue,
  decodeAgentMessage,
  eventOfAgentMessage,
  SESSION_TRANSITIONS,
  type SessionEvent,
  type SessionState,
  statedDigests,
} from "../../src/wire/session-protocol.ts";
import { encodeHeartbeat, encodeServerMessage } from "../../src/wire/update-codec.ts";
import type { PeerStream, StreamHandler } from "../delivery/delivery.ts";
import { requireNode } from "../identity.ts";
import { CallError, type CallProblem } from "../status.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Table } from "../table/table.ts";
import type { Admission, Line, Ticket } from "./admission.ts";
import { answerParts } from "./answer.ts";
import type { Acknowledged, ClientState } from "./client-state.ts";
import type { Follower, Followers } from "./followers.ts";
import { bytesOfDelta, type CommitFields, type CommitMark, deltaFrames, deltaOf, deltaParts, type FrameCache } from "./frames.ts";
import { PACKINGS, type PackedShared, type Packing } from "./packed-shared.ts";
import { SentCommits } from "./sent-commits.ts";
import type { SharedChanges, SharedMessage } from "./shared-changes.ts";

const encodedLists = new WeakMap<ServerList, Uint8Array>();

/** Encoded once for all whom the list is the same for. */
function encodedServerList(list: ServerList): Uint8Array {
  let bytes = encodedLists.get(list);
  if (bytes === undefined) {
    bytes = encodeServerMessage({ $case: "servers", value: list });
    encodedLists.set(list, bytes);
  }
  return bytes;
}

/** Bounds of one session; tests make them small. */
export interface SessionLimits {
  /** From here on the stream counts as full. */
  readonly maxBytesInFlight: number;
  /** The same while all streams together have more than `maxTotalBytesInFlight`. */
  readonly minBytesInFlight: number;
  readonly maxTotalBytesInFlight: number;
  /** Size at which a part of an answer or of a large delta is closed. */
  readonly partBytes: number;
}

export const SESSION_LIMITS: SessionLimits = {
  maxBytesInFlight: 128 * 1024,
  minBytesInFlight: 16 * 1024,
  maxTotalBytesInFlight: 64 * 1024 * 1024,
  partBytes: 32 * 1024,
};
/** An answer counts as taken when no more than this is in flight. */
const TAKEN_BYTES = 4 * 1024;
/** A commit that would be larger than a part is preceded by parts at most so often; then it goes out whole, so that steady change cannot put it off for ever. */
const MAX_ROUNDS = 4;
/** Failures of one Ack that are kept; the rest is only counted by the agent. */
const MAX_FAILURES = 100;
const NO_FAILURES: readonly ObjectFailure[] = [];
/** Asked of an agent for whose kernel somebody waits. */
const HURRIED_ACK_INTERVAL_MS = 100;
const ackReader = new AckReader();

/** Of an Ack; the times -1 when the agent did not tell. */
type Progress = Pick<AckReader, "received" | "programmed" | "heldUs" | "programmedHeldUs">;

/** What a session needs of the server around it. */
export interface SessionHost {
  readonly table: Table;
  readonly frames: FrameCache;
  readonly shared: PackedShared;
  /** Given to all streams and not taken. */
  readonly inFlight: { bytes: number };
  /** Sessions that follow, by whether their messages tell of the upstream, and those with a Hello that do not follow. */
  readonly followers: { readonly plain: Followers<Session>; readonly withUpstream: Followers<Session> };
  readonly apart: Set<Session>;
  /** Sessions that have a place in the admission. */
  readonly answering: Set<Session>;
  readonly admission: Admission;
  readonly serverName: string;
  readonly epoch: string;
  readonly heartbeatIntervalMs: number;
  readonly limits: SessionLimits;
  /** Monotonic ms. */
  now(): number;
  /** Microseconds since 1970. */
  wallTimeUs(): number;
  /** See Welcome.ack_interval_ms. */
  ackIntervalMs(): number;
  /** Why this agent is refused now, undefined when it is not. */
  refusal(hello: Hello): CallError | undefined;
  /** Kinds whose resourceVersions commits tell; empty: none are. */
  readonly upstreamKinds: readonly string[];
  upstreamSince(revision: bigint): readonly bigint[];
  upstream(): { readonly ageMs: number; readonly isStale: boolean };
  /** What the node is told of which servers there are; undefined: nothing yet. The same object for all whom it is the same for. Absent: never anything. */
  readonly serversFor: ((node: NodeName) => ServerList | undefined) | undefined;
  /**
   * Calls back when the table has the node's view (a relay may have to ask for it first), perhaps at once; with an error when that cannot be now. The result
   * takes the wish back.
   */
  hold(node: NodeName, onHeld: (error?: CallError) => void): () => void;
  /** The table may come to be another run's: a relay's. */
  readonly canRestart: boolean;
  /** It has acknowledged something. */
  acknowledged(session: Session): void;
  /** The session knows its node: from now on commits reach it. Ends an older session of the node. */
  register(session: Session): void;
  unregister(session: Session): void;
  report(session: Session, report: EndpointReport): void;
  readonly observer: SessionObserver;
}

/** What is counted. */
export interface SessionObserver {
  /** So many messages, one when not given, of so many bytes together. */
  sent(kind: "update" | "answer" | "heartbeat" | "other", bytes: number, messages?: number): void;
  /** From commit to the transport, seconds; of so many sessions. */
  delivered(seconds: number, count: number): void;
  /** From the transport to the agent, seconds. */
  received(seconds: number): void;
  /** From commit to the node's kernel, seconds. */
  programmed(seconds: number): void;
  ended(session: Session, reason: CallProblem | "closed", error: CallError | undefined): void;
}

export class Session implements StreamHandler, ClientState, Follower {
  readonly stream: PeerStream;
  readonly connectedAt: number;
  readonly #host: SessionHost;
  #state: SessionState = "greeting";
  #node: { readonly name: NodeName; readonly id: NodeId } | undefined;
  #version = "";
  #dirty = new Set<RecordKey>();
  #oldestDirtyUs = 0n;
  #oldestDirtyRevision = 0n;
  /** Changes for everybody that are dirty here as well, besides `#dirty`. Of a follower: undefined, its followers have them. */
  #shared: SharedChanges | undefined;
  /** It follows: what all are sent it is sent without being asked, and `#caughtUpTo` is the number of the first such message that is not in its account. */
  #followers: Followers<Session> | undefined;
  #caughtUpTo = 0;
  /** Keys that went out in parts whose commit is still to come. */
  #staged = new Set<RecordKey>();
  /** Keys that went out up to `#awaitedRevision` and are not known to be in the node's kernel, and those that went out after it. */
  #unacknowledged = new Set<RecordKey>();
  /** As `#unacknowledged`, of changes for everybody: the set that all sessions have together. */
  #unacknowledgedShared: ReadonlySet<RecordKey> | undefined;
  #sentAfter = new Set<RecordKey>();
  #awaitedRevision = 0n;
  /** Nothing is known of what the kernel has: no answer of this session has been acknowledged. */
  #isViewOpen = true;
  #request: { readonly bits: number; readonly stated: BigUint64Array; readonly isResume: boolean } | undefined;
  /** Messages still to be made, of an answer or a large delta. */
  #parts: Iterator<Uint8Array, void> | undefined;
  #rounds = 0;
  /** The oldest commit in what is being sent. */
  #changesSince: CommitMark = { committedAtUnixUs: 0n, revision: 0n };
  #features: readonly string[] = [];
  #packing: Packing = "none";
  #hasLine = false;
  #hasUpstream = false;
  #hasServers = false;
  #hasAgain = false;
  /** Times that the agent was greeted anew and has not stated its view yet. */
  #greetings = 0;
  #greetedAt = 0;
  /** The table has the node's view. */
  #isHeld = false;
  #line: Line | undefined;
  #release: (() => void) | undefined;
  #placeTold = -1;
  #counted = 0;
  #ticket: Ticket | undefined;
  #sentRevision = 0n;
  #receivedRevision = 0;
  #programmedRevision = 0;
  #failed: readonly ObjectFailure[] = NO_FAILURES;
  #ackAt = 0;
  #isHurried = false;
  #bytesSent = 0;
  /** When a part of an answer was last sent. */
  #progressAt = 0;
  readonly #sentCommits = new SentCommits();
  /** Kept for who sends the heartbeats. */
  stopHeartbeats: (() => void) | undefined;
  /** When it was last asked to move (ms by the clock). */
  movedAt: number | undefined;

  constructor(options: { readonly stream: PeerStream; readonly host: SessionHost }) {
    this.stream = options.stream;
    this.#host = options.host;
    this.connectedAt = options.host.now();
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Known once Hello has come. */
  get node(): { readonly name: NodeName; readonly id: NodeId } | undefined {
    return this.#node;
  }

  get version(): string {
    return this.#version;
  }

  get dirtyKeys(): number {
    return this.#dirty.size + (this.#pendingShared?.keys.size ?? 0);
  }

  get address(): string {
    return this.stream.address;
  }

  get certificateEndsAtUnixMs(): number | undefined {
    const { identity } = this.stream;
    return identity.kind === "node" ? identity.endsAtUnixMs : undefined;
  }

  get sentCommits(): SentCommits {
    this.catchUp();
    return this.#sentCommits;
  }

  get acknowledged(): Acknowledged {
    this.catchUp();
    return {
      sent: this.#sentRevision,
      received: BigInt(this.#receivedRevision),
      programmed: BigInt(this.#programmedRevision),
      failed: this.#failed,
      at: this.#ackAt,
    };
  }

  get bytesSent(): number {
    this.catchUp();
    return this.#bytesSent;
  }

  /** Everything that the table has for the node has been sent and is in its kernel. */
  get isLevel(): boolean {
    return this.isCaughtUp && this.#failed.length === 0;
  }

  /** As `isLevel`, whether or not single objects failed. */
  get isCaughtUp(): boolean {
    this.catchUp();
    return this.#isClean && this.#programmedRevision >= this.#sentRevision;
  }

  /** Records whose present state is not known to be in the node's kernel; undefined: all of its view, as no answer has been acknowledged. */
  openKeys(): readonly RecordKey[] | undefined {
    if (this.#isViewOpen) return undefined;
    if (this.isCaughtUp) return [];
    const sets = [this.#dirty, this.#pendingShared?.keys ?? [], this.#staged, this.#unacknowledged, this.#unacknowledgedShared ?? [], this.#sentAfter];
    return [...new Set(sets.flatMap((keys) => [...keys]))];
  }

  onMessage(bytes: Uint8Array): void {
    if (ackReader.read(bytes) && SESSION_TRANSITIONS[this.#state].ack.effect === "record-ack") {
      try {
        this.#recordAck(ackReader, NO_FAILURES);
      } catch (error) {
        this.#fail(error);
      }
      return;
    }
    let message: AgentMessageValue;
    try {
      // Decoded fields are views of what they were decoded from.
      message = decodeAgentMessage(Uint8Array.from(bytes));
    } catch (error) {
      this.handle("broken", undefined, error);
      return;
    }
    this.handle(eventOfAgentMessage(message), message);
  }

  onDrain(): void {
    this.#account();
    this.#progressAt = this.#host.now();
    if (this.#parts !== undefined) this.#pump();
    else this.flush();
    this.#releaseWhenTaken();
    this.#follow();
  }

  onClosed(): void {
    this.handle("closed");
  }

  /** One step of the transition table. */
  handle(event: SessionEvent, message?: AgentMessageValue, cause?: unknown): void {
    const { next, effect } = SESSION_TRANSITIONS[this.#state][event];
    const from = this.#state;
    if (next !== "live") this.leave();
    this.#state = next;
    switch (effect) {
      case "greet":
        if (message?.$case === "hello") this.#guard(() => this.#greet(message.value));
        return;
      case "record-ack":
        if (message?.$case === "ack") this.#guard(() => this.#recordWholeAck(message.value));
        return;
      case "take-report":
        if (message?.$case === "endpointReport") this.#host.report(this, message.value);
        return;
      case "queue-repair":
        if (message?.$case === "repair") this.#guard(() => this.#queue(message.value));
        return;
      case "greet-anew":
        this.#guard(() => this.#greetAnew());
        return;
      case "take-hello":
        if (message?.$case === "hello") this.#guard(() => this.#takeHello(message.value));
        return;
      case "answer":
        this.#beginAnswer();
        return;
      case "go-live":
      case "send-move":
      case "ignore":
        return;
      case "forget":
        this.#forget("closed", undefined);
        return;
      case "end-invalid":
        this.#end(new CallError("broken-message", cause instanceof Error ? cause.message : `${event} is not allowed while ${from}`, { cause }));
        return;
      case "end-overdue":
        this.#end(new CallError("hello-overdue", "no Hello in time"));
        return;
      case "end-replaced":
        this.#end(new CallError("replaced", "the node has opened another session"));
        return;
      case "end-refused":
        this.#end(new CallError("not-admitted", "too many nodes wait for their view", { retryAfterMs: 2000 }));
        return;
      case "end-draining":
        this.#end(new CallError("draining", "the server is stopping"));
        return;
    }
  }

  /** A commit changed records in this node's view. */
  markDirty(key: RecordKey, { committedAtUnixUs, revision }: CommitMark): void {
    this.leave();
    if (this.#shared !== undefined) this.#takeOver(this.#shared);
    if (this.#dirty.size === 0) {
      this.#oldestDirtyUs = committedAtUnixUs;
      this.#oldestDirtyRevision = revision;
    }
    this.#dirty.add(key);
  }

  /** As `markDirty`, for all keys of it, those that are added later too; false: the session has other things to send, and is to be told of each. */
  joins(changes: SharedChanges): boolean {
    if (this.#shared === changes) return true;
    if (this.#shared !== undefined || this.#state !== "live" || this.#parts !== undefined || this.#dirty.size > 0) return false;
    this.#shared = changes;
    return true;
  }

  /** Takes the messages that it followed into its account. Whoever reads or changes that calls this before. */
  catchUp(): void {
    const followers = this.#followers;
    if (followers === undefined || this.#caughtUpTo === followers.end) return;
    for (const { message, keys } of followers.since(this.#caughtUpTo)) this.#noteShared(message, keys);
    this.#caughtUpTo = followers.end;
  }

  /** From now on it goes its own way; what its followers have pending is dirty here. */
  leave(): void {
    const followers = this.#followers;
    if (followers === undefined) return;
    this.catchUp();
    this.#followers = undefined;
    this.#shared = followers.pending;
    followers.remove(this);
    this.#host.apart.add(this);
  }

  holdsRest(): void {
    this.#account();
  }

  /** When it has nothing else to do. */
  #follow(): void {
    if (this.#followers !== undefined || this.#state !== "live" || this.#parts !== undefined || this.#dirty.size > 0 || this.#counted > 0) return;
    const { lane } = this.stream;
    const followers = this.#hasUpstream ? this.#host.followers.withUpstream : this.#host.followers.plain;
    // What is pending for them was sent here with other things, or was not meant for it: it comes with the next.
    if (lane === undefined || this.#shared !== followers.pending || this.stream.bytesInFlight > 0) return;
    this.#shared = undefined;
    this.#followers = followers;
    this.#caughtUpTo = followers.end;
    followers.add(this, lane);
    this.#host.apart.delete(this);
  }

  #noteShared(message: SharedMessage, keys: ReadonlySet<RecordKey>): void {
    this.#bytesSent += message.bytes;
    this.#sentRevision = message.revision;
    if (this.#isAllAcknowledged) {
      this.#unacknowledgedShared = keys;
      this.#awaitedRevision = message.revision;
    } else for (const key of keys) this.#sentAfter.add(key);
    this.#sentCommits.add(message.sent);
  }

  get #pendingShared(): SharedChanges | undefined {
    return this.#followers === undefined ? this.#shared : this.#followers.pending;
  }

  /**
   * Sends what it joined; the result is the message that it is for all, which the caller counts. Undefined: it went another way. Called at every change that concerns
   * all for every session that does not follow, so it touches as little as it can: a session that has joined has nothing else to send (`markDirty` and `#beginAnswer`
   * end that).
   */
  flushShared(changes: SharedChanges): SharedMessage | undefined {
    if (this.#shared !== changes) return undefined;
    const isAlone = this.#state === "live" && this.#parts === undefined && (this.#counted === 0 || !this.#isFull());
    const message = isAlone ? changes.message(this.#hasUpstream, this.#host) : undefined;
    if (message === undefined) {
      this.flush();
      return undefined;
    }
    this.#shared = undefined;
    for (const frame of message.frames) this.stream.send(frame, true);
    this.#account();
    this.#noteShared(message, changes.keys);
    this.#follow();
    return message;
  }

  /** Sends what is dirty, if the stream has room; otherwise `onDrain` does it. */
  flush(): void {
    if (this.#shared !== undefined) this.#takeOver(this.#shared);
    if (this.#state !== "live" || this.#parts !== undefined || this.#dirty.size === 0 || this.#node === undefined || this.#isFull()) return;
    const { table, frames, limits } = this.#host;
    const delta = deltaOf(table, this.#node.id, this.#dirty);
    this.#changesSince = { committedAtUnixUs: this.#oldestDirtyUs, revision: this.#oldestDirtyRevision };
    if (bytesOfDelta(delta) > limits.partBytes) {
      this.#rounds = 0;
      this.#stage();
      this.#pump();
      return;
    }
    this.#awaitAcknowledgement();
    this.#sendDelta(frames.frames(delta, this.#commitFields(this.#changesSince)));
  }

  heartbeat(): void {
    if (this.#node === undefined || this.#isFull()) return;
    this.#isHurried = false;
    this.#beat(this.#node.id, this.#host.ackIntervalMs());
    if (this.#state === "waiting") this.#tellPlace();
  }

  /** Until the next heartbeat it acknowledges at a short pace, beginning with what it holds back. */
  askForAck(): void {
    if (this.#state !== "live" || this.#node === undefined || this.#isHurried || this.isCaughtUp || this.#isFull()) return;
    if (this.#host.ackIntervalMs() <= HURRIED_ACK_INTERVAL_MS) return;
    this.#isHurried = true;
    this.#beat(this.#node.id, HURRIED_ACK_INTERVAL_MS);
  }

  #beat(node: NodeId, ackIntervalMs: number): void {
    const { table, observer } = this.#host;
    const { ageMs, isStale } = this.#host.upstream();
    const digest = this.#isClean ? table.viewDigest(node) : undefined;
    const message = encodeHeartbeat({ revision: table.revision, digest, upstreamAgeMs: BigInt(Math.round(ageMs)), stale: isStale, ackIntervalMs });
    this.#bytesSent += message.length;
    observer.sent("heartbeat", message.length);
    this.stream.beat(message);
    this.#account();
  }

  /**
   * The table's revisions are of another run of the root from now on. An agent that knows how (feature "again") is greeted anew in the stream that it has and states
   * its view; any other is cut, and comes again to the same end.
   */
  restart(error: CallError): void {
    if (this.#hasAgain && this.#isHeld) this.handle("restart");
    else this.cut(error);
  }

  /** Ends the stream when it was greeted anew at this moment or before, and its agent has not stated its view. */
  endOverdue(greetedAt: number): void {
    if (this.#state === "restating" && this.#greetedAt <= greetedAt) this.handle("hello-overdue");
  }

  /** Ends the stream: what it was told does not hold any more. */
  cut(error: CallError): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#end(error);
  }

  /** Asks the agent to go elsewhere; it is cut at the deadline by the caller. False: it is over, or ends now. */
  drain(move: Omit<Move, "reason">): boolean {
    const before = this.#state;
    this.handle("drain");
    if (before === "over" || this.#state === "over") return false;
    this.move({ ...move, reason: "the server is stopping" });
    return true;
  }

  move(move: Move): void {
    if (this.#state === "over") return;
    this.movedAt = this.#host.now();
    this.#send("other", encodeServerMessage({ $case: "move", value: move }));
  }

  /** The list of servers has changed. */
  tellServers(): void {
    const list = this.#hasServers && this.#node !== undefined ? this.#host.serversFor?.(this.#node.name) : undefined;
    if (list !== undefined && this.#state !== "over" && this.#state !== "greeting") this.#send("other", encodedServerList(list));
  }

  reply(result: ReportResult): void {
    if (this.#state !== "over") this.#send("other", encodeServerMessage({ $case: "reportResult", value: result }));
  }

  /** A stalled reader gives its place in the admission up and goes on at its own pace. */
  yieldAdmission(): void {
    if (this.#ticket === undefined) return;
    this.#ticket.release();
    this.#ticket = undefined;
    this.#host.answering.delete(this);
  }

  /** How long (ms) the reader has taken nothing of an answer; undefined when it has no place in the admission. */
  get stalledMs(): number | undefined {
    return this.#ticket === undefined ? undefined : this.#host.now() - this.#progressAt;
  }

  #greet(hello: Hello): void {
    if (hello.node === "") throw new CallError("broken-message", "Hello names no node");
    requireNode(this.stream.identity, hello.node);
    const request = this.#requestOf(hello.view);
    const refusal = this.#host.refusal(hello);
    if (refusal !== undefined) throw refusal;
    const { table } = this.#host;
    const name = hello.node as NodeName;
    const id = table.nodes.idOf(name);
    table.nodes.hold(id);
    this.#node = { name, id };
    this.#version = hello.version;
    this.#features = this.#negotiate(hello.features);
    this.#host.register(this);
    this.#welcome(request.bits);
    this.#release = this.#host.hold(name, (error) => {
      if (this.#isOver) return;
      this.#guard(() => {
        if (error !== undefined) throw error;
        this.#isHeld = true;
        this.#enterLine(request);
      });
    });
    if (this.#isOver) this.#release();
  }

  #welcome(bucketBits: number): void {
    const { table, serverName, epoch, heartbeatIntervalMs, upstreamKinds, serversFor } = this.#host;
    const value = {
      server: serverName,
      epoch,
      hashSeed: table.seed,
      revision: table.revision,
      features: [...this.#features],
      heartbeatIntervalMs,
      bucketBits,
      upstreamKinds: this.#hasUpstream ? [...upstreamKinds] : [],
      servers: this.#hasServers && this.#node !== undefined ? serversFor?.(this.#node.name) : undefined,
      ackIntervalMs: this.#host.ackIntervalMs(),
    };
    this.#send("other", encodeServerMessage({ $case: "welcome", value }));
  }

  /** What was on its way is forgotten at both ends; what the agent has acknowledged counts for nothing until it says so again. */
  #greetAnew(): void {
    this.#line?.leave();
    this.#line = undefined;
    this.#request = undefined;
    this.yieldAdmission();
    this.#parts = undefined;
    this.#shared = undefined;
    this.#unacknowledgedShared = undefined;
    for (const keys of [this.#dirty, this.#staged, this.#unacknowledged, this.#sentAfter]) empty(keys);
    this.#awaitedRevision = 0n;
    this.#isViewOpen = true;
    this.#sentRevision = 0n;
    this.#receivedRevision = 0;
    this.#programmedRevision = 0;
    this.#failed = NO_FAILURES;
    this.sentCommits.clear();
    this.#greetings++;
    this.#greetedAt = this.#host.now();
    this.#welcome(0);
    this.#host.acknowledged(this);
  }

  #takeHello(hello: Hello): void {
    // The agent answers each greeting; what the last one says counts.
    if (--this.#greetings > 0) {
      this.#state = "restating";
      return;
    }
    if (hello.node !== this.#node?.name) throw new CallError("broken-message", `Hello of ${hello.node} on the stream of ${this.#node?.name}`);
    const refusal = this.#host.refusal(hello);
    if (refusal !== undefined) throw refusal;
    this.#enterLine(this.#requestOf(hello.view));
  }

  get #isOver(): boolean {
    return this.#state === "over";
  }

  /** Which of the agent's features are used. */
  #negotiate(named: readonly string[]): string[] {
    const packing = PACKINGS.find((one) => named.includes(one));
    this.#packing = packing ?? "none";
    this.#hasLine = named.includes("line");
    this.#hasUpstream = named.includes("upstream") && this.#host.upstreamKinds.length > 0;
    this.#hasServers = named.includes("servers") && this.#host.serversFor !== undefined;
    this.#hasAgain = named.includes("again") && this.#host.canRestart;
    const used = { line: this.#hasLine, upstream: this.#hasUpstream, servers: this.#hasServers, again: this.#hasAgain };
    return [...(packing === undefined ? [] : [packing]), ...Object.entries(used).flatMap(([feature, isUsed]) => (isUsed ? [feature] : []))];
  }

  #queue(view: ViewState): void {
    // Its commit will not come: what it has brought counts with the answer.
    this.#parts = undefined;
    this.yieldAdmission();
    this.#enterLine(this.#requestOf(view));
  }

  #requestOf(view: ViewState | undefined): { bits: number; stated: BigUint64Array; isResume: boolean } {
    const { bits, digests } = statedDigests(view);
    const isSameSeed = view?.hashSeed === this.#host.table.seed;
    const stated = isSameSeed ? digests : new BigUint64Array(2 ** bits);
    return { bits, stated, isResume: isSameSeed && (view?.digests.length ?? 0) > 0 };
  }

  #enterLine(request: { bits: number; stated: BigUint64Array; isResume: boolean }): void {
    this.#request = request;
    const line = this.#host.admission.request(request.isResume, (ticket) => {
      this.#ticket = ticket;
      this.#host.answering.add(this);
      this.handle("admitted");
    });
    if (line === undefined) {
      this.handle("refused");
      return;
    }
    this.#line = line;
    this.#placeTold = -1;
    if (this.#state === "waiting") this.#tellPlace();
  }

  #tellPlace(): void {
    const place = this.#hasLine ? this.#line?.place() : undefined;
    if (place === undefined || place.place === this.#placeTold) return;
    this.#placeTold = place.place;
    this.#send("other", encodeServerMessage({ $case: "queued", value: place }));
  }

  /** From here on the dirty set holds what changes after the buckets were compared. */
  #beginAnswer(): void {
    if (this.#request === undefined || this.#node === undefined) return;
    const { table, shared, limits } = this.#host;
    // What went out without its commit is applied with the answer's: it must be brought to what the table has now.
    this.#dirty = this.#staged;
    this.#staged = new Set();
    this.#isViewOpen = true;
    this.#shared = undefined;
    this.#changesSince = { committedAtUnixUs: 0n, revision: 0n };
    this.#rounds = 0;
    const { bits, stated } = this.#request;
    this.#parts = answerParts({ table, node: this.#node.id, bits, stated, partBytes: limits.partBytes, shared, packing: this.#packing });
    this.#request = undefined;
    this.#progressAt = this.#host.now();
    this.#pump();
  }

  #pump(): void {
    while (this.#parts !== undefined && !this.#isFull()) {
      const part = this.#parts.next();
      if (part.done === true) this.#finishParts();
      else {
        this.#send(this.#state === "answering" ? "answer" : "update", part.value);
      }
    }
  }

  /** Keys that are dirty now go out in parts. */
  #stage(): void {
    if (this.#node === undefined) return;
    const keys = this.#dirty;
    this.#dirty = new Set();
    for (const key of keys) this.#staged.add(key);
    const { table, limits } = this.#host;
    this.#parts = deltaParts({ table, node: this.#node.id, keys, partBytes: limits.partBytes });
  }

  /** The commit, with all that changed since the parts began; or further parts, when that is too much for one message. */
  #finishParts(): void {
    if (this.#node === undefined) return;
    const { table, limits } = this.#host;
    const delta = deltaOf(table, this.#node.id, this.#dirty);
    if (bytesOfDelta(delta) > limits.partBytes && this.#rounds < MAX_ROUNDS) {
      this.#rounds++;
      this.#stage();
      return;
    }
    this.#parts = undefined;
    for (const key of this.#staged) this.#dirty.add(key);
    this.#staged.clear();
    this.#awaitAcknowledgement();
    const fields = this.#commitFields(this.#changesSince);
    if (this.#state !== "answering") {
      this.#sendDelta(deltaFrames(delta, fields));
      return;
    }
    for (const frame of deltaFrames(delta, { ...fields, digest: table.viewDigest(this.#node.id) })) this.#send("answer", frame);
    this.#sentRevision = table.revision;
    this.#sentCommits.add({ revision: Number(table.revision), committedAtUnixUs: 0, sentAtUnixUs: 0 });
    this.handle("answered");
    this.#releaseWhenTaken();
  }

  /** The next in the line goes when the reader has taken the answer, not when it was given to the transport: what is in flight stays bounded. */
  #releaseWhenTaken(): void {
    if (this.#ticket !== undefined && this.#state === "live" && this.stream.bytesInFlight <= TAKEN_BYTES) this.yieldAdmission();
  }

  #sendDelta(frames: readonly Uint8Array[]): void {
    for (const frame of frames) this.#send("update", frame, true);
    const committedAtUnixUs = Number(this.#changesSince.committedAtUnixUs);
    this.#sentRevision = this.#host.table.revision;
    const sentAtUnixUs = this.#host.wallTimeUs();
    this.#sentCommits.add({ revision: Number(this.#sentRevision), committedAtUnixUs, sentAtUnixUs });
    this.#host.observer.delivered((sentAtUnixUs - committedAtUnixUs) / 1e6, 1);
    this.#follow();
  }

  /** What was dirty goes out: in the usual case, where everything before it was acknowledged, at no cost a key. */
  #awaitAcknowledgement(): void {
    if (this.#isAllAcknowledged) {
      [this.#dirty, this.#unacknowledged] = [this.#unacknowledged, this.#dirty];
      this.#awaitedRevision = this.#host.table.revision;
    } else for (const key of this.#dirty) this.#sentAfter.add(key);
    empty(this.#dirty);
  }

  get #isAllAcknowledged(): boolean {
    return this.#unacknowledgedShared === undefined && this.#unacknowledged.size === 0;
  }

  /** Under steady change something is always on its way: what is acknowledged is forgotten in two halves, so that no key stays for longer than it needs. */
  #noteProgrammed(): void {
    if (this.#state !== "live" || this.#programmedRevision < this.#awaitedRevision) return;
    if (this.#programmedRevision >= this.#sentRevision) this.#isViewOpen = false;
    empty(this.#unacknowledged);
    this.#unacknowledgedShared = undefined;
    if (this.#programmedRevision >= this.#sentRevision) empty(this.#sentAfter);
    else [this.#unacknowledged, this.#sentAfter] = [this.#sentAfter, this.#unacknowledged];
    this.#awaitedRevision = this.#sentRevision;
  }

  #commitFields({ committedAtUnixUs, revision: since }: CommitMark): CommitFields {
    const { table } = this.#host;
    const fields = { revision: table.revision, committedAtUnixUs };
    return this.#hasUpstream ? { ...fields, upstream: { since, versions: this.#host.upstreamSince(since) } } : fields;
  }

  /** Live, and the node has been sent all that the table holds for it. */
  get #isClean(): boolean {
    return this.#state === "live" && this.#dirty.size === 0 && this.#pendingShared === undefined && this.#parts === undefined;
  }

  #recordWholeAck({ receivedRevision, programmedRevision, failed, heldUs = -1, programmedHeldUs = -1 }: Ack): void {
    const progress = { received: Number(receivedRevision), programmed: Number(programmedRevision), heldUs, programmedHeldUs };
    this.#recordAck(progress, failed.length === 0 ? NO_FAILURES : failed.slice(0, MAX_FAILURES));
  }

  #recordAck({ received, programmed, heldUs, programmedHeldUs }: Progress, failed: readonly ObjectFailure[]): void {
    const { table, observer } = this.#host;
    if (received > table.revision || programmed > table.revision)
      throw new CallError("broken-message", `Ack names revision ${received} received and ${programmed} programmed, the table is at ${table.revision}`);
    this.catchUp();
    this.#receivedRevision = received;
    this.#programmedRevision = programmed;
    this.#failed = failed;
    this.#ackAt = this.#host.now();
    this.#noteProgrammed();
    const nowUs = this.#host.wallTimeUs();
    if (heldUs >= 0) {
      const seconds = this.#sentCommits.receive(received, nowUs - heldUs);
      if (seconds >= 0) observer.received(seconds);
    }
    this.#sentCommits.acknowledge(programmed, nowUs - Math.max(0, programmedHeldUs), programmedHeldUs >= 0, observer.programmed);
    this.#host.acknowledged(this);
  }

  /** What it joined is dirty here from now on. */
  #takeOver(changes: SharedChanges): void {
    this.#shared = undefined;
    const { committedAtUnixUs, revision } = changes.since;
    if (this.#dirty.size === 0 || revision < this.#oldestDirtyRevision) {
      this.#oldestDirtyUs = committedAtUnixUs;
      this.#oldestDirtyRevision = revision;
    }
    for (const key of changes.keys) this.#dirty.add(key);
  }

  #isFull(): boolean {
    const { limits, inFlight } = this.#host;
    return this.stream.bytesInFlight >= (inFlight.bytes > limits.maxTotalBytesInFlight ? limits.minBytesInFlight : limits.maxBytesInFlight);
  }

  /** Keeps the sum over all streams. */
  #account(): void {
    const bytes = this.#state === "over" ? 0 : this.stream.bytesInFlight;
    if (bytes === this.#counted) return;
    this.#host.inFlight.bytes += bytes - this.#counted;
    this.#counted = bytes;
  }

  #send(kind: "update" | "answer" | "heartbeat" | "other", message: Uint8Array, isUrgent = false): void {
    this.#bytesSent += message.length;
    this.#host.observer.sent(kind, message.length);
    this.stream.send(message, isUrgent);
    this.#account();
  }

  #guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#state = "over";
    if (error instanceof CallError) this.#end(error);
    else if (error instanceof WireError) this.#end(new CallError("broken-message", error.message, { cause: error }));
    else this.#end(new CallError("internal", "internal error; the server's log has more", { cause: error }));
  }

  #end(error: CallError): void {
    this.#forget(error.problem, error);
    this.stream.end(error);
  }

  #forget(reason: CallProblem | "closed", error: CallError | undefined): void {
    this.leave();
    this.#line?.leave();
    this.#release?.();
    this.yieldAdmission();
    this.#parts = undefined;
    this.#shared = undefined;
    this.#dirty.clear();
    this.#staged.clear();
    this.#account();
    this.#host.unregister(this);
    if (this.#node !== undefined) this.#host.table.nodes.release(this.#node.id);
    this.#host.observer.ended(this, reason, error);
  }
}

/** Clearing a Set makes a table anew even when nothing is in it, and at every Ack nothing is in most of these. */
function empty(keys: Set<RecordKey>): void {
  if (keys.size > 0) keys.clear();
}
