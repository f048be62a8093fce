/**
 * The agent's end of the record stream, as a pure state machine: bytes in, outputs in order. No socket, clock or promise; whoever drives it
 * (the agent's sync client, the bench's simulated agents, the tests) carries the outputs out. `docs/protocol.md` has the table and the invariants.
 */
import { addDigest } from "./digest.ts";
import { WireError } from "./error.ts";
import {
  type Ack,
  AgentMessage,
  Compression,
  type EndpointReport,
  type Heartbeat,
  type Move,
  type Queued,
  type ReportResult,
  type ServerList,
  type Welcome,
} from "./gen/sedge/sync/v1/sync.ts";
import { decodeBareUpdate, decodeServerMessage, type RawServerMessage, type RawUpdate } from "./update-codec.ts";
import type { View, ViewDelta } from "./view.ts";

/** idle: no stream. greeting: Hello sent. answering: Welcome came, buckets come. live: deltas. repairing: as live, a repair is asked. over: ended. */
export type AgentState = "idle" | "greeting" | "answering" | "live" | "repairing" | "over";
/** part: Update without commit, packed or not. delta: commit without digest. answer: commit with digest. silence: nothing heard for three heartbeats. */
export type AgentEvent =
  | "open"
  | "welcome"
  | "part"
  | "delta"
  | "answer"
  | "heartbeat"
  | "report-result"
  | "move"
  | "queued"
  | "servers"
  | "unknown"
  | "silence"
  | "closed";
export type AgentEffect =
  | "hello"
  | "begin"
  | "begin-anew"
  | "stage"
  | "apply"
  | "finish-answer"
  | "check-digest"
  | "note"
  | "report"
  | "move"
  | "wait"
  | "choose"
  | "ignore"
  | "violation"
  | "time-out"
  | "close";

export interface AgentTransition {
  /** State after the effect, unless the effect itself decides otherwise ("check-digest" and "finish-answer" can lead to repairing or over). */
  readonly next: AgentState;
  readonly effect: AgentEffect;
}

const VIOLATION: AgentTransition = { next: "over", effect: "violation" };
const CLOSE: AgentTransition = { next: "over", effect: "close" };
const TIME_OUT: AgentTransition = { next: "over", effect: "time-out" };
const stay = (next: AgentState, effect: AgentEffect): AgentTransition => ({ next, effect });

/** Every event in every state. */
export const AGENT_TRANSITIONS: Readonly<Record<AgentState, Readonly<Record<AgentEvent, AgentTransition>>>> = {
  idle: {
    open: stay("greeting", "hello"),
    welcome: VIOLATION,
    part: VIOLATION,
    delta: VIOLATION,
    answer: VIOLATION,
    heartbeat: VIOLATION,
    "report-result": VIOLATION,
    move: VIOLATION,
    queued: VIOLATION,
    servers: VIOLATION,
    unknown: VIOLATION,
    silence: stay("idle", "ignore"),
    closed: CLOSE,
  },
  greeting: {
    open: VIOLATION,
    welcome: stay("answering", "begin"),
    part: VIOLATION,
    delta: VIOLATION,
    answer: VIOLATION,
    heartbeat: VIOLATION,
    "report-result": VIOLATION,
    move: stay("greeting", "move"),
    queued: VIOLATION,
    servers: VIOLATION,
    unknown: stay("greeting", "ignore"),
    silence: TIME_OUT,
    closed: CLOSE,
  },
  answering: {
    open: VIOLATION,
    welcome: stay("answering", "begin-anew"),
    part: stay("answering", "stage"),
    delta: VIOLATION,
    answer: stay("live", "finish-answer"),
    heartbeat: stay("answering", "note"),
    "report-result": stay("answering", "report"),
    move: stay("answering", "move"),
    queued: stay("answering", "wait"),
    servers: stay("answering", "choose"),
    unknown: stay("answering", "ignore"),
    silence: TIME_OUT,
    closed: CLOSE,
  },
  live: {
    open: VIOLATION,
    welcome: stay("answering", "begin-anew"),
    part: stay("live", "stage"),
    delta: stay("live", "apply"),
    answer: VIOLATION,
    heartbeat: stay("live", "check-digest"),
    "report-result": stay("live", "report"),
    move: stay("live", "move"),
    queued: VIOLATION,
    servers: stay("live", "choose"),
    unknown: stay("live", "ignore"),
    silence: TIME_OUT,
    closed: CLOSE,
  },
  repairing: {
    open: VIOLATION,
    welcome: stay("answering", "begin-anew"),
    part: stay("repairing", "stage"),
    delta: stay("repairing", "apply"),
    answer: stay("live", "finish-answer"),
    heartbeat: stay("repairing", "note"),
    "report-result": stay("repairing", "report"),
    move: stay("repairing", "move"),
    queued: stay("repairing", "wait"),
    servers: stay("repairing", "choose"),
    unknown: stay("repairing", "ignore"),
    silence: TIME_OUT,
    closed: CLOSE,
  },
  over: {
    open: stay("over", "ignore"),
    welcome: stay("over", "ignore"),
    part: stay("over", "ignore"),
    delta: stay("over", "ignore"),
    answer: stay("over", "ignore"),
    heartbeat: stay("over", "ignore"),
    "report-result": stay("over", "ignore"),
    move: stay("over", "ignore"),
    queued: stay("over", "ignore"),
    servers: stay("over", "ignore"),
    unknown: stay("over", "ignore"),
    silence: stay("over", "ignore"),
    closed: stay("over", "ignore"),
  },
};

/** violation: the server broke the protocol. silence: it said nothing for too long. digest: its answers never fit. closed: the stream ended. */
export type AgentEndReason = "violation" | "silence" | "digest" | "closed";

export type AgentOutput =
  /** Write these bytes to the stream (one AgentMessage). */
  | { readonly kind: "send"; readonly bytes: Uint8Array }
  | { readonly kind: "welcome"; readonly welcome: Welcome }
  /** The view has changed: store, program, then acknowledge `delta.revision`. `isAnswer`: it ended an answer, the view is complete. */
  | { readonly kind: "commit"; readonly delta: ViewDelta; readonly isAnswer: boolean }
  | { readonly kind: "heartbeat"; readonly heartbeat: Heartbeat }
  /** The view is not what the server has; a repair was asked. */
  | { readonly kind: "repair"; readonly isWhole: boolean }
  | { readonly kind: "report-result"; readonly result: ReportResult }
  | { readonly kind: "move"; readonly move: Move }
  /** The servers that there are, as the server says: instead of what it said before. */
  | { readonly kind: "servers"; readonly servers: ServerList }
  /** The answer waits for others; for people. */
  | { readonly kind: "queued"; readonly queued: Queued }
  /** End the stream; open a new session after a back-off. */
  | { readonly kind: "end"; readonly reason: AgentEndReason; readonly detail: string };

export interface AgentIdentity {
  readonly node: string;
  /** Program and version. */
  readonly version: string;
  /** Besides those that this code understands by itself ("line", "upstream", "servers", "again"): the compressions that `unpack` can undo. */
  readonly features: readonly string[];
  /** Undoes a compression; throws when the data is damaged or is larger than `size`. Absent: none was named. */
  readonly unpack?: Unpack;
}

export type Unpack = (packed: { readonly compression: "gzip" | "zstd"; readonly data: Uint8Array; readonly size: number }) => Uint8Array;

/** What every agent of this version understands. */
const FEATURES: readonly string[] = ["line", "upstream", "servers", "again"];
/** An Update larger than this is not unpacked. */
const MAX_UNPACKED_BYTES = 4 * 1024 * 1024;

/** Repairs in one session after which it ends: the first by buckets, the second of the whole view. */
const MAX_REPAIRS = 2;

/** One session. Make a new one for each stream; the view lives longer than the session. */
export class AgentSession {
  readonly #identity: AgentIdentity;
  readonly #view: View;
  #state: AgentState = "idle";
  #repairs = 0;
  #helloBits = 0;
  /** The server may send Welcome in the middle of the stream. */
  #hasAgain = false;

  constructor(options: { readonly identity: AgentIdentity; readonly view: View }) {
    this.#identity = options.identity;
    this.#view = options.view;
  }

  get state(): AgentState {
    return this.#state;
  }

  /** The stream is open: what to send first. */
  open(): readonly AgentOutput[] {
    return this.#step("open", undefined);
  }

  /** One message from the stream. Never throws: a broken one ends the session. */
  receive(bytes: Uint8Array): readonly AgentOutput[] {
    if (this.#state === "over") return [];
    let message: RawServerMessage;
    try {
      message = this.#unpacked(decodeServerMessage(bytes));
      return this.#step(eventOf(message), message);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return this.#end("violation", error.message);
    }
  }

  /** Nothing was heard for three heartbeat intervals (of Welcome; 10 s before it). */
  silence(): readonly AgentOutput[] {
    return this.#step("silence", undefined);
  }

  /** The stream ended, by either side. */
  closed(detail = ""): readonly AgentOutput[] {
    return this.#step("closed", undefined, detail);
  }

  #step(event: AgentEvent, message: RawServerMessage, detail = ""): readonly AgentOutput[] {
    const from = this.#state;
    const { next, effect } = AGENT_TRANSITIONS[from][event];
    this.#state = next;
    switch (effect) {
      case "hello":
        return [this.#hello()];
      case "begin":
        return message?.$case === "welcome" ? this.#begin(message.value) : [];
      case "begin-anew":
        return message?.$case === "welcome" ? this.#beginAnew(message.value) : [];
      case "stage":
        this.#view.stage(updateOf(message));
        return [];
      case "apply":
        this.#view.stage(updateOf(message));
        return [{ kind: "commit", delta: this.#view.commit(), isAnswer: false }];
      case "finish-answer":
        return this.#finishAnswer(updateOf(message));
      case "check-digest":
        return message?.$case === "heartbeat" ? this.#checkDigest(message.value) : [];
      case "note":
        return message?.$case === "heartbeat" ? [{ kind: "heartbeat", heartbeat: message.value }] : [];
      case "report":
        return message?.$case === "reportResult" ? [{ kind: "report-result", result: message.value }] : [];
      case "move":
        return message?.$case === "move" ? [{ kind: "move", move: message.value }] : [];
      case "wait":
        return message?.$case === "queued" ? [{ kind: "queued", queued: message.value }] : [];
      case "choose":
        return message?.$case === "servers" ? [{ kind: "servers", servers: message.value }] : [];
      case "ignore":
        return [];
      case "violation":
        return this.#end("violation", `${event} while ${from}`);
      case "time-out":
        return this.#end("silence", "the server said nothing for three heartbeat intervals");
      case "close":
        return this.#end("closed", detail);
    }
  }

  #hello(): AgentOutput {
    const view = this.#view.viewState();
    this.#helloBits = view.bucketBits;
    const { node, version, features } = this.#identity;
    const upstream = [...this.#view.upstream].map(([kind, resourceVersion]) => ({ kind, resourceVersion }));
    const { epoch, revision } = this.#view;
    return send({ $case: "hello", value: { node, version, features: [...FEATURES, ...features], epoch, revision, view, upstream } });
  }

  /** Another run of the root stands above the server: as at a new stream, what the view has is stated, and compared. */
  #beginAnew(welcome: Welcome): readonly AgentOutput[] {
    if (!this.#hasAgain) return this.#end("violation", 'a second Welcome, and the first did not name the feature "again"');
    const hello = this.#hello();
    this.#repairs = 0;
    return [hello, ...this.#begin({ ...welcome, bucketBits: this.#helloBits })];
  }

  #begin(welcome: Welcome): readonly AgentOutput[] {
    if (welcome.bucketBits !== this.#helloBits)
      return this.#end("violation", `Welcome counts in ${welcome.bucketBits} bucket bits, Hello in ${this.#helloBits}`);
    const { hashSeed: seed, epoch, bucketBits, upstreamKinds } = welcome;
    this.#hasAgain = welcome.features.includes("again");
    this.#view.begin({ seed, epoch, bucketBits, upstreamKinds });
    return [{ kind: "welcome", welcome }, ...(welcome.servers === undefined ? [] : [{ kind: "servers", servers: welcome.servers } as const])];
  }

  /** A packed Update becomes the Update that it holds. */
  #unpacked(message: RawServerMessage): RawServerMessage {
    if (message?.$case !== "packed") return message;
    const { compression, size, data } = message.value;
    const name = compression === Compression.GZIP ? "gzip" : compression === Compression.ZSTD ? "zstd" : undefined;
    const { unpack, features } = this.#identity;
    if (name === undefined || unpack === undefined || !features.includes(name))
      throw new WireError("unexpected", `a compression (${compression}) that was not named`);
    if (size > MAX_UNPACKED_BYTES) throw new WireError("malformed", `a packed Update of ${size} bytes, at most ${MAX_UNPACKED_BYTES}`);
    let bytes: Uint8Array;
    try {
      bytes = unpack({ compression: name, data, size });
    } catch (error) {
      throw new WireError("malformed", `a packed Update that is damaged: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
    if (bytes.length !== size) throw new WireError("malformed", `a packed Update of ${bytes.length} bytes that says ${size}`);
    const value = decodeBareUpdate(bytes);
    if (value.commit) throw new WireError("unexpected", "a packed Update with commit");
    return { $case: "update", value };
  }

  #finishAnswer(update: RawUpdate): readonly AgentOutput[] {
    this.#view.stage(update);
    const delta = this.#view.commit();
    const outputs: AgentOutput[] = [{ kind: "commit", delta, isAnswer: true }];
    if (delta.isDigestRight) this.#repairs = 0;
    else outputs.push(...this.#repair());
    return outputs;
  }

  #checkDigest(heartbeat: Heartbeat): readonly AgentOutput[] {
    const outputs: AgentOutput[] = [{ kind: "heartbeat", heartbeat }];
    if (heartbeat.digest === undefined) return outputs;
    if (heartbeat.digest === this.#view.digest) this.#view.advance(heartbeat.revision);
    else outputs.push(...this.#repair());
    return outputs;
  }

  #repair(): readonly AgentOutput[] {
    if (this.#repairs >= MAX_REPAIRS) return this.#end("digest", "the view does not have the server's digest after a complete resend");
    this.#repairs++;
    this.#state = "repairing";
    const isWhole = this.#repairs === MAX_REPAIRS;
    const state = this.#view.viewState();
    this.#view.setBucketBits(state.bucketBits);
    // A digest that is wrong on purpose makes the server send its bucket, even an empty one.
    if (isWhole) state.digests = [...this.#view.bucketDigests(state.bucketBits)].map((digest) => addDigest(digest, 1n));
    return [{ kind: "repair", isWhole }, send({ $case: "repair", value: state })];
  }

  #end(reason: AgentEndReason, detail: string): readonly AgentOutput[] {
    this.#state = "over";
    this.#view.discard();
    return [{ kind: "end", reason, detail }];
  }
}

/** Bytes of an Ack. */
export function encodeAck(ack: Ack): Uint8Array {
  return AgentMessage.encode({ message: { $case: "ack", value: ack } }).finish();
}

/** Bytes of an EndpointReport. */
export function encodeEndpointReport(report: EndpointReport): Uint8Array {
  return AgentMessage.encode({ message: { $case: "endpointReport", value: report } }).finish();
}

function send(message: NonNullable<AgentMessage["message"]>): AgentOutput {
  return { kind: "send", bytes: AgentMessage.encode({ message }).finish() };
}

function eventOf(message: RawServerMessage): AgentEvent {
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
    case "queued":
      return "queued";
    case "servers":
      return "servers";
    case "packed":
      return "part";
  }
}

function updateOf(message: RawServerMessage): RawUpdate {
  if (message?.$case !== "update") throw new WireError("unexpected", "an update was due");
  return message.value;
}
