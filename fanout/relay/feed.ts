/**
 * One relay's stream at its parent. `FEED_TRANSITIONS` (src/wire/relay-protocol.ts) says what may happen when; this carries it out.
 *
 * As a node's session it holds dirty keys, never messages: a slow relay costs a mark for each record of its nodes, gets the newest value once, and delays nobody.
 * There is no answer besides the deltas: what RelayHello and Subscribe show to differ is marked, and goes out as all else does. Invariant: a commit leaves the
 * relay with exactly this table at that revision, cut to the nodes that it has subscribed to and that are held.
 * Above 500 lines for the reason that session.ts is: marks, subscriptions and what is under way are one state of one stream.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { RecordKey } from "../../src/model/record.ts";
import { bucketOfHash, MAX_BUCKET_BITS } from "../../src/wire/digest.ts";
import { WireError } from "../../src/wire/error.ts";
import type { ClearedNode, NodeState, RelayAck, RelayHello, SubscribedNode, Unsubscribe } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import type { EndpointReport, Hello, ReportResult } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import {
  decodeRelayMessage,
  encodeRelayServerMessage,
  FEED_TRANSITIONS,
  type FeedEvent,
  type FeedState,
  type RelayMessageValue,
} from "../../src/wire/relay-protocol.ts";
import { statedDigests } from "../../src/wire/session-protocol.ts";
import type { PeerStream, StreamHandler } from "../delivery/delivery.ts";
import { relayName } from "../identity.ts";
import type { CommitMark } from "../session/frames.ts";
import { SentCommits } from "../session/sent-commits.ts";
import { CallError, type CallProblem } from "../status.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Commit, Table } from "../table/table.ts";
import type { UpstreamPositions } from "../upstream-versions.ts";
import { ChangedKeys } from "./changed-keys.ts";
import { addMark, bytesOfMarks, commitMessage, EMPTY_UPDATE, type FeedView, feedParts, type Marks, NEW_CONTENT, WHOLE } from "./feed-parts.ts";
import { comeAgain } from "./outstanding.ts";
import { RelayedNode } from "./relayed-node.ts";

/** Bounds of one feed; tests make them small. */
export interface FeedLimits {
  /** From here on the stream counts as full. */
  readonly maxBytesInFlight: number;
  /** Size at which a part of a large commit is closed. */
  readonly partBytes: number;
}

/** More than a node's session has: a relay reads for many nodes. */
export const FEED_LIMITS: FeedLimits = { maxBytesInFlight: 1024 * 1024, partBytes: 128 * 1024 };
/** As in a node's session: steady change cannot put a commit off for ever. */
const MAX_ROUNDS = 4;
/** Nodes of one relay. */
const MAX_NODES = 100_000;
const MAX_FAILURES = 100;

export interface FeedHost {
  readonly table: Table;
  readonly serverName: string;
  readonly heartbeatIntervalMs: number;
  readonly limits: FeedLimits;
  /** Servers from the root to this one, by id. */
  path(): readonly string[];
  epoch(): string;
  now(): number;
  wallTimeUs(): number;
  /** Why this relay is refused now, undefined when it is not. */
  refusal(hello: Pick<Hello, "node" | "epoch" | "revision" | "view" | "upstream">): CallError | undefined;
  /** Why this relay may never come here. Notes it as one that is below. */
  loopOf(hello: RelayHello): CallError | undefined;
  readonly versions: UpstreamPositions | undefined;
  upstream(): { readonly ageMs: number; readonly isStale: boolean };
  syncStatus(): string;
  /** Calls back when this server has the node's view, perhaps at once; with an error when it cannot have it now. The result takes the wish back. */
  hold(node: NodeName, onHeld: (error?: CallError) => void): () => void;
  register(feed: Feed): void;
  unregister(feed: Feed): void;
  /** A node of the relay has come, gone, or said something. */
  nodeChanged(node: RelayedNode, isConnected: boolean): void;
  report(options: { readonly session: object; readonly node: NodeName; readonly report: EndpointReport; readonly reply: (result: ReportResult) => void }): void;
  sent(kind: "update" | "answer" | "heartbeat" | "other", bytes: number): void;
  ended(feed: Feed, reason: CallProblem | "closed", error: CallError | undefined): void;
}

export class Feed implements StreamHandler {
  readonly stream: PeerStream;
  readonly connectedAt: number;
  readonly sentCommits = new SentCommits();
  readonly changedKeys = new ChangedKeys();
  readonly #host: FeedHost;
  #state: FeedState = "greeting";
  #hello: RelayHello | undefined;
  #expected = 0;
  /** Nodes subscribed and held here, by slot (the relay's number), and the slots by node. */
  readonly #slots = new Map<number, NodeId>();
  readonly #slotOf = new Map<NodeId, number>();
  readonly #nodes = new Set<NodeId>();
  /** Named, and not yet held here. */
  readonly #waiting = new Map<number, () => void>();
  readonly #releases = new Map<number, () => void>();
  readonly #relayed = new Map<number, RelayedNode>();
  #dirty: Marks = new Map();
  #since: CommitMark = { committedAtUnixUs: 0n, revision: 0n };
  #clearedShared: number[] = [];
  #cleared: ClearedNode[] = [];
  #held: number[] = [];
  #dropped: number[] = [];
  #parts: Iterator<Uint8Array, void> | undefined;
  #rounds = 0;
  #sentRevision = 0n;
  #toldRevision = 0n;
  #levelRevision = 0n;
  /** Revision of the last commit that changed something for the relay. */
  #changedAt = 0n;
  #ackAt = 0;
  heartbeatDueAt = 0;

  constructor(options: { readonly stream: PeerStream; readonly host: FeedHost }) {
    this.stream = options.stream;
    this.#host = options.host;
    this.connectedAt = options.host.now();
  }

  get state(): FeedState {
    return this.#state;
  }

  /** Of this run of the relay; "" before its RelayHello. */
  get id(): string {
    return this.#hello?.id ?? "";
  }

  /** For people, as the relay calls itself; several can share a certificate. */
  get name(): string {
    return this.#hello?.name ?? this.identityName ?? "";
  }

  /** As its certificate calls it; undefined: it came without one. */
  get identityName(): string | undefined {
    return relayName(this.stream.identity);
  }

  get sentRevision(): bigint {
    return this.#sentRevision;
  }

  get levelRevision(): bigint {
    return this.#levelRevision;
  }

  get ackAt(): number {
    return this.#ackAt;
  }

  /** Nodes that the relay subscribes to. */
  get nodes(): ReadonlySet<NodeId> {
    return this.#nodes;
  }

  get dirtyKeys(): number {
    return this.#dirty.size;
  }

  /** The node's session below the relay. */
  relayedOf(node: NodeId): RelayedNode | undefined {
    return this.#relayed.get(this.#slotOf.get(node) ?? -1);
  }

  /** The relay has said that its level nodes have all that this table holds for them. */
  get isLevel(): boolean {
    return this.#isClean && this.#levelRevision >= this.#changedAt;
  }

  serves(node: NodeId): boolean {
    return this.#nodes.has(node);
  }

  onMessage(bytes: Uint8Array): void {
    let message: RelayMessageValue;
    try {
      // Decoded fields are views of what they were decoded from.
      message = decodeRelayMessage(Uint8Array.from(bytes));
    } catch (error) {
      this.handle("broken", undefined, error);
      return;
    }
    this.handle(message.$case, message);
  }

  onDrain(): void {
    if (this.#parts !== undefined) this.#pump();
    else this.flush();
  }

  onClosed(): void {
    this.handle("closed");
  }

  handle(event: FeedEvent, message?: RelayMessageValue, cause?: unknown): void {
    const { next, effect } = FEED_TRANSITIONS[this.#state][event];
    const from = this.#state;
    this.#state = next;
    switch (effect) {
      case "greet":
        if (message?.$case === "hello") this.#guard(() => this.#greet(message.value));
        return;
      case "subscribe":
        if (message?.$case === "subscribe") this.#guard(() => this.#subscribe(message.value.nodes));
        return;
      case "unsubscribe":
        if (message?.$case === "unsubscribe") this.#guard(() => this.#unsubscribe(message.value));
        return;
      case "record-ack":
        if (message?.$case === "ack") this.#guard(() => this.#recordAck(message.value));
        return;
      case "take-report":
        if (message?.$case === "report") this.#guard(() => this.#takeReport(message.value.slot, message.value.report));
        return;
      case "answer":
        this.#beginCommit();
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
        this.#end(new CallError("hello-overdue", "no RelayHello in time"));
        return;
      case "end-replaced":
        this.#end(new CallError("replaced", "the relay has opened another session"));
        return;
      case "end-draining":
        this.#end(new CallError("draining", "the server is stopping"));
        return;
    }
  }

  /** Marks what of a commit is for nodes of this relay; true when something is to be sent. */
  publish(commit: Commit): boolean {
    if (this.#state === "greeting" || this.#state === "over") return false;
    for (const { key, nodes, isContentNew, moved } of commit.touched) {
      if (nodes === undefined) this.#mark(key, commit);
      else if (isContentNew ? this.#concerns(nodes) : this.#concerns(moved)) {
        const own = this.#ownOf(moved);
        this.#note(key, commit);
        addMark(this.#dirty, key, own === undefined ? NEW_CONTENT : { isContent: isContentNew, moved: own });
      }
    }
    return this.#dirty.size > 0;
  }

  /** Sends what is marked, if the stream has room; otherwise `onDrain` does it. */
  flush(): void {
    if (this.#state !== "live" || this.#parts !== undefined || !this.#hasWork || this.#isFull) return;
    this.#beginCommit();
  }

  heartbeat(): void {
    if (this.#state === "greeting" || this.#state === "subscribing" || this.#state === "over" || this.#isFull) return;
    const { table, versions } = this.#host;
    const { ageMs, isStale } = this.#host.upstream();
    const isClean = this.#isClean;
    if (isClean) this.#toldRevision = table.revision;
    this.#send(
      "heartbeat",
      encodeRelayServerMessage({
        $case: "heartbeat",
        value: {
          revision: isClean ? table.revision : this.#sentRevision,
          digest: isClean ? table.unionDigest(this.#nodes) : undefined,
          upstreamAgeMs: BigInt(Math.round(ageMs)),
          stale: isStale,
          // While something is on its way the relay's table is not as far.
          reached: isClean ? [...(versions?.reachedVersions ?? [])] : [],
          syncStatus: this.#host.syncStatus(),
        },
      }),
    );
  }

  /** The table is further, and the relay does not know yet. */
  get isBehindRevision(): boolean {
    return this.#isClean && this.#toldRevision < this.#host.table.revision;
  }

  drain(deadlineMs: number, targets: readonly string[]): void {
    const before = this.#state;
    this.handle("drain");
    if (before !== "over" && this.#state !== "over")
      this.#send("other", encodeRelayServerMessage({ $case: "move", value: { reason: "the server is stopping", deadlineMs, targets: [...targets] } }));
  }

  /** Ends the stream: what it was told does not hold any more. */
  cut(error: CallError): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#end(error);
  }

  #greet(hello: RelayHello): void {
    const loop = this.#host.loopOf(hello);
    if (loop !== undefined) throw loop;
    const { bits, digests } = statedDigests(hello.shared);
    const refusal = this.#host.refusal({
      node: `relay ${hello.name}`,
      epoch: hello.epoch,
      revision: hello.revision,
      view: hello.shared,
      upstream: hello.upstream,
    });
    if (refusal !== undefined) throw refusal;
    if (hello.nodes > MAX_NODES) throw new CallError("broken-message", `${hello.nodes} nodes, at most ${MAX_NODES}`);
    const { table, serverName, heartbeatIntervalMs, versions } = this.#host;
    this.#hello = hello;
    this.#expected = hello.nodes;
    this.#host.register(this);
    this.#send(
      "other",
      encodeRelayServerMessage({
        $case: "welcome",
        value: {
          server: serverName,
          epoch: this.#host.epoch(),
          hashSeed: table.seed,
          revision: table.revision,
          features: [],
          heartbeatIntervalMs,
          upstreamKinds: [...(versions?.kinds ?? [])],
          path: [...this.#host.path()],
        },
      }),
    );
    const isSameSeed = hello.shared?.hashSeed === table.seed;
    const own = table.sharedBucketDigests(bits);
    for (let index = 0; index < 2 ** bits; index++) {
      if (isSameSeed && own[index] === digests[index]) continue;
      this.#clearedShared.push(index);
      for (const { key } of table.sharedBucket(index, bits)) addMark(this.#dirty, key, NEW_CONTENT);
    }
    this.#checkComplete();
  }

  #subscribe(nodes: readonly SubscribedNode[]): void {
    for (const subscribed of nodes) {
      const { slot, node } = subscribed;
      if (node === "") throw new CallError("broken-message", "Subscribe names no node");
      if (this.#slots.has(slot) || this.#waiting.has(slot)) throw new CallError("broken-message", `slot ${slot} is taken`);
      if (this.#slots.size + this.#waiting.size >= MAX_NODES) throw new CallError("not-admitted", `more than ${MAX_NODES} nodes`);
      let isHeld = false;
      const release = this.#host.hold(node as NodeName, (error) => {
        if (this.#state === "over") return;
        if (error !== undefined) {
          this.cut(error);
          return;
        }
        isHeld = true;
        this.#waiting.delete(slot);
        this.#guard(() => this.#begin(subscribed));
      });
      this.#releases.set(slot, release);
      // The callback may have come already.
      if (!isHeld) this.#waiting.set(slot, release);
      if (this.#over) {
        release();
        return;
      }
    }
    this.#checkComplete();
    this.flush();
  }

  /** The node's view is here: what the relay lacks of it is marked. */
  #begin({ slot, node, bucketBits: bits, digests: stated }: SubscribedNode): void {
    const { table } = this.#host;
    if (bits > MAX_BUCKET_BITS || (stated.length !== 0 && stated.length !== 2 ** bits))
      throw new WireError("unexpected", `node ${node}: ${stated.length} digests for ${bits} bucket bits`);
    const id = table.nodes.idOf(node as NodeName);
    if (this.#slotOf.has(id)) throw new CallError("broken-message", `node ${JSON.stringify(node)} is subscribed twice`);
    table.nodes.hold(id);
    this.#slots.set(slot, id);
    this.#slotOf.set(id, slot);
    this.#nodes.add(id);
    this.#held.push(slot);
    if (this.#state === "subscribing") this.#expected--;
    const moved: ReadonlySet<NodeId> = new Set([id]);
    if (stated.length === 0) {
      const isFirst = this.#state === "subscribing";
      for (const { key } of table.ownEntries(id)) addMark(this.#dirty, key, isFirst ? WHOLE : { isContent: false, moved });
    } else {
      const own = table.ownBucketDigests(id, bits);
      const wanted = new Set<number>();
      for (let index = 0; index < own.length; index++) if (own[index] !== stated[index]) wanted.add(index);
      if (wanted.size > 0) this.#cleared.push({ slot, bucketBits: bits, buckets: [...wanted] });
      if (wanted.size > 0)
        for (const { key, keyHash } of table.ownEntries(id)) if (wanted.has(bucketOfHash(keyHash, bits))) addMark(this.#dirty, key, { isContent: true, moved });
    }
    this.#changedAt = table.revision;
    this.#checkComplete();
    this.flush();
  }

  #checkComplete(): void {
    if (this.#state === "subscribing" && this.#expected <= 0 && this.#waiting.size === 0) this.handle("complete");
  }

  #unsubscribe({ slots }: Unsubscribe): void {
    for (const slot of slots) {
      if (!this.#releases.has(slot)) throw new CallError("broken-message", `slot ${slot} is not subscribed`);
      // What is dropped is told with the next commit; a relay that comes and goes and reads nothing must not fill the memory.
      if (this.#dropped.length >= MAX_NODES) throw new CallError("not-admitted", `more than ${MAX_NODES} nodes dropped and not yet told`);
      this.#waiting.delete(slot);
      this.#releaseSlot(slot);
      this.#dropped.push(slot);
    }
    this.flush();
  }

  #releaseSlot(slot: number): void {
    this.#releases.get(slot)?.();
    this.#releases.delete(slot);
    const relayed = this.#relayed.get(slot);
    if (relayed !== undefined) {
      this.#relayed.delete(slot);
      this.#host.nodeChanged(relayed, false);
    }
    const node = this.#slots.get(slot);
    if (node === undefined) return;
    this.#slots.delete(slot);
    this.#slotOf.delete(node);
    this.#nodes.delete(node);
    this.#held = this.#held.filter((held) => held !== slot);
    this.#host.table.nodes.release(node);
  }

  #recordAck({ levelRevision, nodes }: RelayAck): void {
    const { table } = this.#host;
    if (levelRevision > table.revision) throw new CallError("broken-message", `RelayAck names revision ${levelRevision}, the table is at ${table.revision}`);
    this.#levelRevision = levelRevision;
    this.#ackAt = this.#host.now();
    this.sentCommits.acknowledge(Number(levelRevision), this.#host.wallTimeUs(), false, () => undefined);
    for (const state of nodes) this.#noteNode(state);
    let floor = levelRevision;
    for (const { acknowledged } of this.#relayed.values()) if (acknowledged.programmed < floor) floor = acknowledged.programmed;
    this.changedKeys.forget(floor);
  }

  #noteNode(state: NodeState): void {
    const id = this.#slots.get(state.slot);
    const name = id === undefined ? undefined : this.#host.table.nodes.findName(id);
    // It has been unsubscribed meanwhile.
    if (id === undefined || name === undefined) return;
    const before = this.#relayed.get(state.slot);
    if (before !== undefined && (!state.connected || before.session !== state.session)) {
      this.#relayed.delete(state.slot);
      this.#host.nodeChanged(before, false);
    }
    if (!state.connected) return;
    const known = this.#relayed.get(state.slot);
    const relayed = known ?? new RelayedNode({ feed: this, node: { name, id }, slot: state.slot, session: state.session });
    relayed.update({ ...state, failed: state.failed.slice(0, MAX_FAILURES) }, this.#host.now());
    this.#relayed.set(state.slot, relayed);
    this.#host.nodeChanged(relayed, true);
  }

  #takeReport(slot: number, report: EndpointReport | undefined): void {
    const node = this.#relayed.get(slot);
    const reply = (result: ReportResult): void => {
      if (this.#state !== "over") this.#send("other", encodeRelayServerMessage({ $case: "reportResult", value: { slot, result } }));
    };
    if (report === undefined) throw new CallError("broken-message", "NodeReport without a report");
    if (node === undefined) reply(comeAgain(report, "the node is not connected at the relay any more"));
    else this.#host.report({ session: node, node: node.node.name, report, reply });
  }

  #mark(key: RecordKey, commit: CommitMark): void {
    this.#note(key, commit);
    addMark(this.#dirty, key, NEW_CONTENT);
  }

  #note(key: RecordKey, { revision, committedAtUnixUs }: CommitMark): void {
    this.changedKeys.note(key, revision);
    if (this.#dirty.size === 0) this.#since = { revision, committedAtUnixUs };
    this.#changedAt = revision;
  }

  #concerns(nodes: ReadonlySet<NodeId>): boolean {
    const [small, large] = nodes.size < this.#nodes.size ? [nodes, this.#nodes] : [this.#nodes, nodes];
    for (const node of small) if (large.has(node)) return true;
    return false;
  }

  /** Those of the nodes that are the relay's; undefined: none. */
  #ownOf(nodes: ReadonlySet<NodeId>): ReadonlySet<NodeId> | undefined {
    if (nodes.size === 0) return undefined;
    const own = new Set<NodeId>();
    for (const node of nodes) if (this.#nodes.has(node)) own.add(node);
    return own.size === 0 ? undefined : own;
  }

  get #hasWork(): boolean {
    return this.#dirty.size > 0 || this.#held.length > 0 || this.#dropped.length > 0;
  }

  get #isClean(): boolean {
    return this.#state === "live" && this.#parts === undefined && !this.#hasWork;
  }

  get #isFull(): boolean {
    return this.stream.bytesInFlight >= this.#host.limits.maxBytesInFlight;
  }

  get #over(): boolean {
    return this.#state === "over";
  }

  #beginCommit(): void {
    this.#rounds = 0;
    this.#commitSince = this.#since;
    if (this.#clearedShared.length > 0 || this.#cleared.length > 0) {
      const value = { ...EMPTY_UPDATE, clearedShared: this.#clearedShared, cleared: this.#cleared };
      this.#clearedShared = [];
      this.#cleared = [];
      this.#send("answer", encodeRelayServerMessage({ $case: "update", value }));
    }
    this.#finishParts();
    this.#pump();
  }

  #commitSince: CommitMark = { committedAtUnixUs: 0n, revision: 0n };

  #pump(): void {
    while (this.#parts !== undefined && !this.#isFull) {
      const part = this.#parts.next();
      if (part.done === true) this.#finishParts();
      else this.#send(this.#state === "answering" ? "answer" : "update", part.value);
    }
  }

  /** The commit, with all that is marked; or parts first, when that is too much for one message. */
  #finishParts(): void {
    const { table, versions, limits } = this.#host;
    const { partBytes } = limits;
    if (this.#rounds < MAX_ROUNDS && bytesOfMarks(this.#dirty, table, partBytes) > partBytes) {
      this.#rounds++;
      const marks = this.#dirty;
      this.#dirty = new Map();
      this.#parts = feedParts(marks, this.#view, partBytes);
      return;
    }
    this.#parts = undefined;
    // Nodes that came while parts went out: what they have besides is removed with this commit.
    const [cleared, held, dropped] = [this.#cleared, this.#held, this.#dropped];
    this.#cleared = [];
    this.#held = [];
    this.#dropped = [];
    if (cleared.length > 0) this.#send("answer", encodeRelayServerMessage({ $case: "update", value: { ...EMPTY_UPDATE, cleared } }));
    const marks = this.#dirty;
    this.#dirty = new Map();
    const isAnswer = this.#state === "answering";
    const { committedAtUnixUs, revision: since } = isAnswer ? { committedAtUnixUs: 0n, revision: 0n } : this.#commitSince;
    const message = commitMessage(marks, this.#view, {
      held,
      dropped,
      revision: table.revision,
      digest: isAnswer ? table.unionDigest(this.#nodes) : undefined,
      committedAtUnixUs,
      upstream: [...(versions?.toldSince(since) ?? [])],
    });
    this.#send(isAnswer ? "answer" : "update", message);
    this.#sentRevision = table.revision;
    this.#toldRevision = table.revision;
    this.sentCommits.add({ revision: Number(table.revision), committedAtUnixUs: Number(committedAtUnixUs), sentAtUnixUs: 0 });
    if (!isAnswer) return;
    this.handle("answered");
    this.heartbeat();
  }

  get #view(): FeedView {
    return { table: this.#host.table, slots: this.#slotOf, markOf: (key) => this.#dirty.get(key) };
  }

  #send(kind: "update" | "answer" | "heartbeat" | "other", message: Uint8Array): void {
    this.#host.sent(kind, message.length);
    this.stream.send(message);
  }

  #guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (this.#state === "over") return;
      this.#state = "over";
      if (error instanceof CallError) this.#end(error);
      else if (error instanceof WireError) this.#end(new CallError("broken-message", error.message, { cause: error }));
      else this.#end(new CallError("internal", "internal error; the server's log has more", { cause: error }));
    }
  }

  #end(error: CallError): void {
    this.#forget(error.problem, error);
    this.stream.end(error);
  }

  #forget(reason: CallProblem | "closed", error: CallError | undefined): void {
    this.#parts = undefined;
    this.#dirty.clear();
    this.#waiting.clear();
    for (const slot of new Set([...this.#slots.keys(), ...this.#releases.keys()])) this.#releaseSlot(slot);
    this.#host.unregister(this);
    this.#host.ended(this, reason, error);
  }
}
