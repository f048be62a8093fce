/**
 * One simulated agent: its stream, and either a whole view with the real protocol machine, or the counting kind. Acknowledges commits (see
 * acks.ts) as received and programmed.
 */
import type { SecureContext } from "node:tls";
import { PACKING_FEATURES, unpack } from "../../agent/sync/unpack.ts";
import { type AgentOutput, AgentSession } from "../../src/wire/agent-protocol.ts";
import { AgentMessage, Compression, Hello, type Move, type ViewState } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { decodeBareUpdate, decodeServerMessage, type RawUpdate } from "../../src/wire/update-codec.ts";
import { View } from "../../src/wire/view.ts";
import { type AckSender, AckState, type Acks } from "./acks.ts";
import { nodeName } from "./cluster.ts";
import { frameMessage, GrpcStream } from "./grpc-stream.ts";
import { LightView } from "./light-view.ts";
import type { PackedBuckets } from "./packed-buckets.ts";
import type { Recorder } from "./recorder.ts";

const PATH = "/sedge.sync.v1.SyncService/Sync";
const VERSION = "bench";
const NO_BYTES = new Uint8Array();
const FIRST_BITS = 8;
/** As the agent's own session names them. */
const FEATURES = featuresOfAgents();
const WELCOME_TAG = 0x0a;
const UPDATE_TAG = 0x12;
const HEARTBEAT_TAG = 0x1a;
const MOVE_TAG = 0x2a;
const PACKED_TAG = 0x32;

export interface SimulatedAgent {
  readonly index: number;
  /** TCP bytes of all its connections so far. */
  readonly bytes: Bytes;
  connect(options: ConnectOptions): void;
  /** Ends the connection without a word, and keeps the view. */
  close(): void;
  /** Has nothing, as at the first start. */
  forget(): void;
  /** Reads nothing any more, or again. */
  pause(): void;
  resume(): void;
  /** Digest of the whole view, given that of the records that all nodes have. */
  digest(shared: bigint): bigint;
}

interface Bytes {
  readonly received: number;
  readonly sent: number;
}

/** Who decides what comes after a connection. */
export interface AgentListener {
  /** The view is complete. */
  onAnswered(agent: SimulatedAgent): void;
  /** The stream is over and `close` was not called. `isRefused`: the server said so. */
  onEnded(agent: SimulatedAgent, isRefused: boolean): void;
  onMove(agent: SimulatedAgent, move: Move): void;
}

export interface ConnectOptions {
  readonly port: number;
  /** What a counting agent says of the records that all nodes have; undefined: it has nothing. */
  readonly shared: SharedState | undefined;
}

/** The records that all nodes have, as far as a Hello tells of them. */
export interface SharedState {
  readonly bits: number;
  readonly digests: BigUint64Array;
  readonly records: number;
}

interface Parts {
  readonly index: number;
  readonly recorder: Recorder;
  readonly acks: Acks;
  readonly packed: PackedBuckets;
  readonly listener: AgentListener;
  /** Undefined: plain text. */
  readonly tls: SecureContext | undefined;
}

/** Keeps nothing but hashes. */
export class CountingAgent implements SimulatedAgent, AckSender {
  readonly #parts: Parts;
  readonly #ackState = new AckState(this);
  readonly #view = new LightView();
  #stream: GrpcStream | undefined;
  /** Of the connections before. */
  #past: Bytes = { received: 0, sent: 0 };
  #seed = 0n;
  #bits = FIRST_BITS;
  #sharedRecords = 0;
  /** Of the answer under way. */
  #answerRecords = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get index(): number {
    return this.#parts.index;
  }

  get bytes(): Bytes {
    return sumOf(this.#past, this.#stream?.bytes);
  }

  connect({ port, shared }: ConnectOptions): void {
    const { tls, recorder, listener } = this.#parts;
    this.#past = this.bytes;
    this.#answerRecords = 0;
    this.#sharedRecords = shared?.records ?? 0;
    this.#stream = new GrpcStream({
      port,
      path: PATH,
      tls,
      events: {
        onMessage: (bytes) => this.#onMessage(bytes),
        onEnd: (reason, isRefused) => {
          recorder.end(reason);
          listener.onEnded(this, isRefused);
        },
      },
    });
    this.#stream.send(frameMessage(encodeHello(this.#parts.index, this.#viewState(shared))));
  }

  sendAck(message: Buffer): void {
    this.#stream?.send(message);
  }

  close(): void {
    this.#stream?.close();
  }

  forget(): void {
    this.#view.clear();
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  digest(shared: bigint): bigint {
    return BigInt.asUintN(64, shared + this.#view.digest);
  }

  #viewState(shared: ConnectOptions["shared"]): ViewState {
    this.#bits = shared?.bits ?? FIRST_BITS;
    if (shared === undefined) return { hashSeed: this.#seed, bucketBits: this.#bits, digests: [] };
    const digests = this.#view.bucketDigests(this.#seed, this.#bits);
    for (let i = 0; i < digests.length; i++) digests[i] = (digests[i] ?? 0n) + (shared.digests[i] ?? 0n);
    return { hashSeed: this.#seed, bucketBits: this.#bits, digests: [...digests] };
  }

  #onMessage(bytes: Buffer): void {
    switch (bytes[0]) {
      case UPDATE_TAG:
        this.#onUpdate(bytes.subarray(lengthEnd(bytes)), bytes.length);
        return;
      case PACKED_TAG: {
        const { indexes, records } = this.#parts.packed.contentOf(bytes);
        this.#view.replaceBuckets(indexes, { seed: this.#seed, bits: this.#bits });
        this.#answerRecords += records;
        return;
      }
      case HEARTBEAT_TAG:
        this.#parts.recorder.heartbeats++;
        return;
      case WELCOME_TAG: {
        const message = decodeServerMessage(bytes);
        if (message?.$case !== "welcome") return;
        this.#seed = message.value.hashSeed;
        this.#parts.acks.intervalMs = message.value.ackIntervalMs;
        return;
      }
      case MOVE_TAG: {
        const message = decodeServerMessage(bytes);
        if (message?.$case === "move") this.#parts.listener.onMove(this, message.value);
        return;
      }
      default:
        return;
    }
  }

  #onUpdate(update: Buffer, messageBytes: number): void {
    const { index, recorder, acks, listener } = this.#parts;
    const { isCommit, isAnswer, revision, committedAtUnixUs, records } = this.#view.apply(update, { seed: this.#seed, bits: this.#bits });
    this.#answerRecords += records;
    if (!isCommit) return;
    if (isAnswer) recorder.answer({ records: this.#answerRecords, viewRecords: this.#view.size + this.#sharedRecords });
    else recorder.delta({ agent: index, revision, committedAtUnixUs, bytes: messageBytes, records });
    acks.due(this.#ackState, revision, isAnswer);
    if (isAnswer) listener.onAnswered(this);
  }
}

/** Runs the real protocol machine on a real view, which checks every record's hash and every digest. */
export class CheckingAgent implements SimulatedAgent, AckSender {
  readonly #parts: Parts;
  readonly #ackState = new AckState(this);
  #view = new View();
  #session: AgentSession;
  #stream: GrpcStream | undefined;
  /** Of the connections before. */
  #past: Bytes = { received: 0, sent: 0 };
  /** Of the answer under way. */
  #answerRecords = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#session = this.#newSession();
  }

  get index(): number {
    return this.#parts.index;
  }

  get view(): View {
    return this.#view;
  }

  get bytes(): Bytes {
    return sumOf(this.#past, this.#stream?.bytes);
  }

  connect({ port }: ConnectOptions): void {
    const { tls, recorder, listener } = this.#parts;
    this.#past = this.bytes;
    this.#answerRecords = 0;
    this.#session = this.#newSession();
    this.#stream = new GrpcStream({
      port,
      path: PATH,
      tls,
      events: {
        onMessage: (bytes) => {
          const message = Uint8Array.from(bytes);
          if (this.#session.state === "answering") this.#answerRecords += recordsOf(message);
          this.#carryOut(this.#session.receive(message), bytes.length);
        },
        onEnd: (reason, isRefused) => {
          this.#session.closed();
          recorder.end(reason);
          listener.onEnded(this, isRefused);
        },
      },
    });
    this.#carryOut(this.#session.open(), 0);
  }

  sendAck(message: Buffer): void {
    this.#stream?.send(message);
  }

  close(): void {
    this.#session.closed();
    this.#stream?.close();
  }

  forget(): void {
    this.#view = new View();
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  digest(): bigint {
    return this.#view.digest;
  }

  #newSession(): AgentSession {
    return new AgentSession({ identity: { node: nodeName(this.#parts.index), version: VERSION, features: PACKING_FEATURES, unpack }, view: this.#view });
  }

  #carryOut(outputs: readonly AgentOutput[], messageBytes: number): void {
    const { index, recorder, acks, listener } = this.#parts;
    for (const output of outputs) {
      switch (output.kind) {
        case "send":
          this.#stream?.send(frameMessage(output.bytes));
          break;
        case "commit": {
          const { revision, committedAtUnixUs, changes } = output.delta;
          if (output.isAnswer) recorder.answer({ records: this.#answerRecords, viewRecords: this.#view.size });
          else
            recorder.delta({
              agent: index,
              revision: Number(revision),
              committedAtUnixUs: Number(committedAtUnixUs),
              bytes: messageBytes,
              records: changes.size,
            });
          acks.due(this.#ackState, Number(revision), output.isAnswer);
          if (output.isAnswer) listener.onAnswered(this);
          break;
        }
        case "heartbeat":
          recorder.heartbeats++;
          acks.intervalMs = output.heartbeat.ackIntervalMs;
          break;
        case "repair":
          recorder.repairs++;
          break;
        case "move":
          listener.onMove(this, output.move);
          break;
        case "end":
          // A stream that has ended was counted when it did.
          if (output.reason !== "closed") recorder.end(`${output.reason}: ${output.detail}`);
          break;
        default:
          // What the server says of itself changes nothing here.
          break;
      }
    }
  }
}

function sumOf(past: Bytes, now: Bytes | undefined): Bytes {
  return { received: past.received + (now?.received ?? 0), sent: past.sent + (now?.sent ?? 0) };
}

/** In an Update, packed or not. */
function recordsOf(message: Uint8Array): number {
  const decoded = decodeServerMessage(message);
  if (decoded?.$case === "packed") {
    const { compression, size, data } = decoded.value;
    const bare = unpack({ compression: compression === Compression.ZSTD ? "zstd" : "gzip", size, data });
    return countRecords(decodeBareUpdate(bare));
  }
  return decoded?.$case === "update" ? countRecords(decoded.value) : 0;
}

function countRecords({ buckets, upserts }: Pick<RawUpdate, "buckets" | "upserts">): number {
  return buckets.reduce((sum, { records }) => sum + records.length, upserts.length);
}

function featuresOfAgents(): readonly string[] {
  const session = new AgentSession({ identity: { node: nodeName(0), version: VERSION, features: PACKING_FEATURES, unpack }, view: new View() });
  const [first] = session.open();
  const message = first?.kind === "send" ? AgentMessage.decode(first.bytes).message : undefined;
  if (message?.$case !== "hello") throw new Error("the agent's session does not begin with Hello");
  return message.value.features;
}

/** Names the features that agents name, and no state of the API: every field that is not given here has its default, whichever fields there are. */
function encodeHello(index: number, view: ViewState): Uint8Array {
  const hello = { ...Hello.decode(NO_BYTES), node: nodeName(index), version: VERSION, features: [...FEATURES], view };
  return AgentMessage.encode({ message: { $case: "hello", value: hello } }).finish();
}

/** Where the content begins: behind a one-byte tag and a varint. */
function lengthEnd(bytes: Buffer): number {
  let at = 1;
  while ((bytes[at] ?? 0) >= 0x80) at++;
  return at + 1;
}
