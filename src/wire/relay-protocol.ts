/**
 * Both ends of the stream between a relay and its parent, as transition tables, and the relay's end as a pure state machine: bytes in, outputs in order.
 *
 * Invariants: what a commit brings is applied at once or not at all; nothing is applied whose hash does not fit; what was staged when the stream ends is
 * forgotten. `docs/protocol.md` has the tables. Rejected: a stream for each node through the relay (the root would still have a session, and an
 * acknowledgement, for every node of the tier).
 */
import type { RecordKey } from "../model/record.ts";
import { WireError } from "./error.ts";
import {
  type NodeReportResult,
  type RelayHeartbeat,
  type RelayHello,
  RelayMessage,
  type RelayRecord,
  RelayServerMessage,
  type RelayUpdate,
  type RelayWelcome,
  type Subscribe,
} from "./gen/sedge/sync/v1/relay.ts";
import type { Move } from "./gen/sedge/sync/v1/sync.ts";
import { verifyRecord } from "./record-codec.ts";

/** Parent's end. greeting: RelayHello is due. subscribing: its nodes are still being named. answering: what differs goes out. live: deltas. over: ended. */
export type FeedState = "greeting" | "subscribing" | "answering" | "live" | "over";
/** complete: all nodes of RelayHello are named, and held here. broken: bytes that are no RelayMessage, or none that is known. */
export type FeedEvent =
  | "hello"
  | "subscribe"
  | "unsubscribe"
  | "ack"
  | "report"
  | "broken"
  | "complete"
  | "answered"
  | "drain"
  | "drain-overdue"
  | "replaced"
  | "hello-overdue"
  | "closed";
export type FeedEffect =
  | "greet"
  | "subscribe"
  | "unsubscribe"
  | "record-ack"
  | "take-report"
  | "answer"
  | "go-live"
  | "send-move"
  | "ignore"
  | "forget"
  | "end-invalid"
  | "end-overdue"
  | "end-replaced"
  | "end-draining";

export interface FeedTransition {
  readonly next: FeedState;
  readonly effect: FeedEffect;
}

const feed = (next: FeedState, effect: FeedEffect): FeedTransition => ({ next, effect });
const INVALID = feed("over", "end-invalid");
const FEED_ALWAYS = {
  broken: INVALID,
  replaced: feed("over", "end-replaced"),
  "drain-overdue": feed("over", "end-draining"),
  closed: feed("over", "forget"),
} as const;

/** Every event in every state of the parent's end. */
export const FEED_TRANSITIONS: Readonly<Record<FeedState, Readonly<Record<FeedEvent, FeedTransition>>>> = {
  greeting: {
    ...FEED_ALWAYS,
    hello: feed("subscribing", "greet"),
    subscribe: INVALID,
    unsubscribe: INVALID,
    ack: INVALID,
    report: INVALID,
    complete: feed("greeting", "ignore"),
    answered: feed("greeting", "ignore"),
    drain: feed("over", "end-draining"),
    "hello-overdue": feed("over", "end-overdue"),
  },
  subscribing: {
    ...FEED_ALWAYS,
    hello: INVALID,
    subscribe: feed("subscribing", "subscribe"),
    unsubscribe: INVALID,
    ack: INVALID,
    report: INVALID,
    complete: feed("answering", "answer"),
    answered: feed("subscribing", "ignore"),
    drain: feed("over", "end-draining"),
    "hello-overdue": feed("over", "end-overdue"),
  },
  answering: {
    ...FEED_ALWAYS,
    hello: INVALID,
    subscribe: feed("answering", "subscribe"),
    unsubscribe: feed("answering", "unsubscribe"),
    ack: INVALID,
    report: INVALID,
    complete: feed("answering", "ignore"),
    answered: feed("live", "go-live"),
    drain: feed("answering", "send-move"),
    "hello-overdue": feed("answering", "ignore"),
  },
  live: {
    ...FEED_ALWAYS,
    hello: INVALID,
    subscribe: feed("live", "subscribe"),
    unsubscribe: feed("live", "unsubscribe"),
    ack: feed("live", "record-ack"),
    report: feed("live", "take-report"),
    complete: feed("live", "ignore"),
    answered: feed("live", "ignore"),
    drain: feed("live", "send-move"),
    "hello-overdue": feed("live", "ignore"),
  },
  over: {
    hello: feed("over", "ignore"),
    subscribe: feed("over", "ignore"),
    unsubscribe: feed("over", "ignore"),
    ack: feed("over", "ignore"),
    report: feed("over", "ignore"),
    broken: feed("over", "ignore"),
    complete: feed("over", "ignore"),
    answered: feed("over", "ignore"),
    drain: feed("over", "ignore"),
    "drain-overdue": feed("over", "ignore"),
    replaced: feed("over", "ignore"),
    "hello-overdue": feed("over", "ignore"),
    closed: feed("over", "ignore"),
  },
};

/** Relay's end. idle: no stream. greeting: RelayHello sent. answering: what differs comes. live: deltas. over: ended. */
export type UpstreamState = "idle" | "greeting" | "answering" | "live" | "over";
/** part: RelayUpdate without commit. delta: commit without digest. answer: commit with digest. silence: nothing heard for three heartbeats. */
export type UpstreamEvent = "open" | "welcome" | "part" | "delta" | "answer" | "heartbeat" | "report-result" | "move" | "unknown" | "silence" | "closed";
export type UpstreamEffect = "hello" | "begin" | "stage" | "apply" | "heartbeat" | "report" | "move" | "ignore" | "violation" | "time-out" | "close";

export interface UpstreamTransition {
  readonly next: UpstreamState;
  readonly effect: UpstreamEffect;
}

const up = (next: UpstreamState, effect: UpstreamEffect): UpstreamTransition => ({ next, effect });
const VIOLATION = up("over", "violation");
const UPSTREAM_ALWAYS = { silence: up("over", "time-out"), closed: up("over", "close"), open: VIOLATION } as const;

/** Every event in every state of the relay's end. */
export const UPSTREAM_TRANSITIONS: Readonly<Record<UpstreamState, Readonly<Record<UpstreamEvent, UpstreamTransition>>>> = {
  idle: {
    open: up("greeting", "hello"),
    welcome: VIOLATION,
    part: VIOLATION,
    delta: VIOLATION,
    answer: VIOLATION,
    heartbeat: VIOLATION,
    "report-result": VIOLATION,
    move: VIOLATION,
    unknown: VIOLATION,
    silence: up("idle", "ignore"),
    closed: up("over", "close"),
  },
  greeting: {
    ...UPSTREAM_ALWAYS,
    welcome: up("answering", "begin"),
    part: VIOLATION,
    delta: VIOLATION,
    answer: VIOLATION,
    heartbeat: VIOLATION,
    "report-result": VIOLATION,
    move: up("greeting", "move"),
    unknown: up("greeting", "ignore"),
  },
  answering: {
    ...UPSTREAM_ALWAYS,
    welcome: VIOLATION,
    part: up("answering", "stage"),
    delta: VIOLATION,
    answer: up("live", "apply"),
    heartbeat: up("answering", "heartbeat"),
    "report-result": VIOLATION,
    move: up("answering", "move"),
    unknown: up("answering", "ignore"),
  },
  live: {
    ...UPSTREAM_ALWAYS,
    welcome: VIOLATION,
    part: up("live", "stage"),
    delta: up("live", "apply"),
    answer: VIOLATION,
    heartbeat: up("live", "heartbeat"),
    "report-result": up("live", "report"),
    move: up("live", "move"),
    unknown: up("live", "ignore"),
  },
  over: {
    open: up("over", "ignore"),
    welcome: up("over", "ignore"),
    part: up("over", "ignore"),
    delta: up("over", "ignore"),
    answer: up("over", "ignore"),
    heartbeat: up("over", "ignore"),
    "report-result": up("over", "ignore"),
    move: up("over", "ignore"),
    unknown: up("over", "ignore"),
    silence: up("over", "ignore"),
    closed: up("over", "ignore"),
  },
};

export type RelayMessageValue = NonNullable<RelayMessage["message"]>;
export type RelayServerMessageValue = NonNullable<RelayServerMessage["message"]>;

/** Decodes what a relay sent; throws WireError when it is no RelayMessage that this version knows. */
export function decodeRelayMessage(bytes: Uint8Array): RelayMessageValue {
  let message: RelayMessageValue | undefined;
  try {
    message = RelayMessage.decode(bytes).message;
  } catch (error) {
    throw new WireError("malformed", "not a RelayMessage", { cause: error });
  }
  if (message === undefined) throw new WireError("unexpected", "a RelayMessage without content that this version knows");
  return message;
}

export function encodeRelayMessage(message: RelayMessageValue): Uint8Array {
  return RelayMessage.encode({ message }).finish();
}

export function encodeRelayServerMessage(message: RelayServerMessageValue): Uint8Array {
  return RelayServerMessage.encode({ message }).finish();
}

/** What all updates up to a commit say of one record together. */
export interface StagedRecord {
  readonly key: RecordKey;
  /** The whole Record, checked; undefined: as it is. */
  readonly bytes: Uint8Array | undefined;
  readonly hash: bigint;
  readonly isShared: boolean;
  /** Whether only those that entered have it. */
  readonly isComplete: boolean;
  /** Slots of which something is said: true, it has the record; false, it has not. */
  readonly slots: ReadonlyMap<number, boolean>;
}

/** One commit, checked, for the table to apply. */
export interface RelayCommit {
  readonly clearedShared: readonly number[];
  /** Buckets of `clearedShared` are counted in 2^sharedBits. */
  readonly sharedBits: number;
  readonly cleared: readonly { readonly slot: number; readonly bits: number; readonly buckets: readonly number[] }[];
  readonly records: ReadonlyMap<RecordKey, StagedRecord>;
  readonly removed: ReadonlySet<RecordKey>;
  readonly held: readonly number[];
  readonly dropped: readonly number[];
  readonly revision: bigint;
  readonly digest: bigint | undefined;
  readonly committedAtUnixUs: bigint;
  readonly upstream: readonly bigint[];
}

/** violation: the parent broke the protocol. silence: it said nothing for too long. closed: the stream ended. */
export type UpstreamEndReason = "violation" | "silence" | "closed";

export type UpstreamOutput =
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  | { readonly kind: "welcome"; readonly welcome: RelayWelcome }
  | { readonly kind: "commit"; readonly commit: RelayCommit; readonly isAnswer: boolean }
  | { readonly kind: "heartbeat"; readonly heartbeat: RelayHeartbeat; readonly isLive: boolean }
  | { readonly kind: "report-result"; readonly result: NodeReportResult }
  | { readonly kind: "move"; readonly move: Move }
  | { readonly kind: "end"; readonly reason: UpstreamEndReason; readonly detail: string };

/** The relay's end of one stream. Make a new one for each; the table outlives it. */
export class UpstreamSession {
  readonly #hello: RelayHello;
  readonly #subscribes: readonly Subscribe[];
  #state: UpstreamState = "idle";
  #seed = 0n;
  #stage = new Stage();

  constructor(options: { readonly hello: RelayHello; readonly subscribes: readonly Subscribe[] }) {
    this.#hello = options.hello;
    this.#subscribes = options.subscribes;
  }

  get state(): UpstreamState {
    return this.#state;
  }

  open(): readonly UpstreamOutput[] {
    return this.#step("open", undefined);
  }

  /** One message from the stream. Never throws: a broken one ends the session. */
  receive(bytes: Uint8Array): readonly UpstreamOutput[] {
    if (this.#state === "over") return [];
    try {
      const message = decode(bytes);
      return this.#step(eventOf(message), message);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return this.#end("violation", error.message);
    }
  }

  /** The table could not take what came: it does not fit what the table holds. */
  violated(detail: string): readonly UpstreamOutput[] {
    return this.#state === "over" ? [] : this.#end("violation", detail);
  }

  silence(): readonly UpstreamOutput[] {
    return this.#step("silence", undefined);
  }

  closed(detail = ""): readonly UpstreamOutput[] {
    return this.#step("closed", undefined, detail);
  }

  #step(event: UpstreamEvent, message: RelayServerMessageValue | undefined, detail = ""): readonly UpstreamOutput[] {
    const from = this.#state;
    const { next, effect } = UPSTREAM_TRANSITIONS[from][event];
    this.#state = next;
    switch (effect) {
      case "hello":
        return [
          { kind: "send", bytes: encodeRelayMessage({ $case: "hello", value: this.#hello }) },
          ...this.#subscribes.map((value): UpstreamOutput => ({ kind: "send", bytes: encodeRelayMessage({ $case: "subscribe", value }) })),
        ];
      case "begin":
        if (message?.$case !== "welcome") return [];
        this.#seed = message.value.hashSeed;
        return [{ kind: "welcome", welcome: message.value }];
      case "stage":
        if (message?.$case === "update") this.#stage.add(message.value, this.#seed);
        return [];
      case "apply":
        return message?.$case === "update" ? [{ kind: "commit", commit: this.#commit(message.value), isAnswer: from === "answering" }] : [];
      case "heartbeat":
        return message?.$case === "heartbeat" ? [{ kind: "heartbeat", heartbeat: message.value, isLive: from === "live" }] : [];
      case "report":
        return message?.$case === "reportResult" ? [{ kind: "report-result", result: message.value }] : [];
      case "move":
        return message?.$case === "move" ? [{ kind: "move", move: message.value }] : [];
      case "ignore":
        return [];
      case "violation":
        return this.#end("violation", `${event} while ${from}`);
      case "time-out":
        return this.#end("silence", "the parent said nothing for three heartbeat intervals");
      case "close":
        return this.#end("closed", detail);
    }
  }

  #commit(update: RelayUpdate): RelayCommit {
    this.#stage.add(update, this.#seed);
    const commit = this.#stage.commit(update, this.#hello.shared?.bucketBits ?? 0);
    this.#stage = new Stage();
    return commit;
  }

  #end(reason: UpstreamEndReason, detail: string): readonly UpstreamOutput[] {
    this.#state = "over";
    this.#stage = new Stage();
    return [{ kind: "end", reason, detail }];
  }
}

/** Updates that wait for their commit, one statement for each record. Bounded by what the subscribed nodes have. */
class Stage {
  readonly #records = new Map<RecordKey, StagedRecord>();
  readonly #removed = new Set<RecordKey>();
  readonly #clearedShared: number[] = [];
  readonly #cleared: RelayCommit["cleared"][number][] = [];
  readonly #held: number[] = [];
  readonly #dropped: number[] = [];

  add(update: RelayUpdate, seed: bigint): void {
    this.#clearedShared.push(...update.clearedShared);
    for (const { slot, bucketBits, buckets } of update.cleared) this.#cleared.push({ slot, bits: bucketBits, buckets });
    for (const record of update.records) this.#addRecord(record, seed);
    for (const key of update.removed) {
      this.#records.delete(key);
      this.#removed.add(key);
    }
    this.#held.push(...update.held);
    this.#dropped.push(...update.dropped);
  }

  commit({ revision, digest, committedAtUnixUs, upstream }: RelayUpdate, sharedBits: number): RelayCommit {
    return {
      clearedShared: this.#clearedShared,
      sharedBits,
      cleared: this.#cleared,
      records: this.#records,
      removed: this.#removed,
      held: this.#held,
      dropped: this.#dropped,
      revision,
      digest,
      committedAtUnixUs,
      upstream,
    };
  }

  #addRecord({ key: named, record, shared, entered, left, complete }: RelayRecord, seed: bigint): void {
    // A copy: a kept record must not keep the message.
    const own = record.length === 0 ? undefined : verifyRecord(Uint8Array.from(record), seed);
    const key = own?.key ?? named;
    if (key === "") throw new WireError("unexpected", "a record without key and content");
    const before = this.#records.get(key);
    const wasRemoved = this.#removed.delete(key);
    const slots = new Map(complete || before === undefined ? [] : before.slots);
    for (const slot of entered) slots.set(slot, true);
    for (const slot of left) slots.set(slot, false);
    this.#records.set(key, {
      key,
      bytes: own?.bytes ?? before?.bytes,
      hash: own?.hash ?? before?.hash ?? 0n,
      isShared: shared,
      isComplete: complete || wasRemoved || before?.isComplete === true,
      slots,
    });
  }
}

function decode(bytes: Uint8Array): RelayServerMessageValue | undefined {
  try {
    return RelayServerMessage.decode(bytes).message;
  } catch (error) {
    throw new WireError("malformed", "not a RelayServerMessage", { cause: error });
  }
}

function eventOf(message: RelayServerMessageValue | undefined): UpstreamEvent {
  switch (message?.$case) {
    case undefined:
      return "unknown";
    case "welcome":
      return "welcome";
    case "update":
      return message.value.commit ? (message.value.digest === undefined ? "delta" : "answer") : "part";
    case "heartbeat":
      return "heartbeat";
    case "reportResult":
      return "report-result";
    case "move":
      return "move";
  }
}
