/**
 * One simulated agent: its stream, and either a whole view with the real protocol machine, or the counting kind. Acknowledges every commit at once as
 * received and programmed.
 */
import { type AgentOutput, AgentSession, encodeAck } from "../../src/wire/agent-protocol.ts";
import { AgentMessage, Hello, type ViewState } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { decodeServerMessage } from "../../src/wire/update-codec.ts";
import type { View } from "../../src/wire/view.ts";
import { nodeName } from "./cluster.ts";
import { frameMessage, GrpcStream } from "./grpc-stream.ts";
import { LightView } from "./light-view.ts";
import type { Recorder } from "./recorder.ts";

const PATH = "/sedge.sync.v1.SyncService/Sync";
const VERSION = "bench";
const NO_BYTES = new Uint8Array();
const FIRST_BITS = 8;
const WELCOME_TAG = 0x0a;
const UPDATE_TAG = 0x12;
const HEARTBEAT_TAG = 0x1a;

/** How an agent does what it does; `kind` is for people. */
export interface SimulatedAgent {
  readonly bytes: { readonly received: number; readonly sent: number };
  connect(options: ConnectOptions): void;
  /** Ends the connection without a word, and keeps the view. */
  close(): void;
  /** Digest of the whole view, given that of the records that all nodes have. */
  digest(shared: bigint): bigint;
}

export interface ConnectOptions {
  readonly port: number;
  /** The view is complete. */
  readonly onAnswered: () => void;
  /** What a counting agent says of the records that all nodes have; undefined: it has nothing. */
  readonly shared: { readonly bits: number; readonly digests: BigUint64Array } | undefined;
}

/** Acknowledgements are the same for all agents: the last one made is kept. */
export class Acks {
  #revision = -1;
  #bytes: Buffer = Buffer.alloc(0);

  of(revision: number): Buffer {
    if (revision === this.#revision) return this.#bytes;
    this.#revision = revision;
    this.#bytes = frameMessage(encodeAck({ receivedRevision: BigInt(revision), programmedRevision: BigInt(revision), failed: [] }));
    return this.#bytes;
  }
}

interface Parts {
  readonly index: number;
  readonly recorder: Recorder;
  readonly acks: Acks;
}

/** Keeps nothing but hashes. */
export class CountingAgent implements SimulatedAgent {
  readonly #parts: Parts;
  readonly #view = new LightView();
  #stream: GrpcStream | undefined;
  #seed = 0n;
  #bits = FIRST_BITS;
  #onAnswered: () => void = () => undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get bytes(): { readonly received: number; readonly sent: number } {
    return this.#stream?.bytes ?? { received: 0, sent: 0 };
  }

  connect({ port, onAnswered, shared }: ConnectOptions): void {
    this.#onAnswered = onAnswered;
    this.#stream = new GrpcStream({
      port,
      path: PATH,
      events: { onMessage: (bytes) => this.#onMessage(bytes), onEnd: (reason) => this.#parts.recorder.end(reason) },
    });
    this.#stream.send(frameMessage(encodeHello(this.#parts.index, this.#viewState(shared))));
  }

  close(): void {
    this.#stream?.close();
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
      case HEARTBEAT_TAG:
        this.#parts.recorder.heartbeats++;
        return;
      case WELCOME_TAG: {
        const message = decodeServerMessage(bytes);
        if (message?.$case === "welcome") this.#seed = message.value.hashSeed;
        return;
      }
      default:
        return;
    }
  }

  #onUpdate(update: Buffer, messageBytes: number): void {
    const { index, recorder, acks } = this.#parts;
    const { isCommit, isAnswer, revision, committedAtUnixUs, records } = this.#view.apply(update, { seed: this.#seed, bits: this.#bits });
    if (!isCommit) return;
    if (!isAnswer) recorder.delta({ agent: index, revision, committedAtUnixUs, bytes: messageBytes, records });
    this.#stream?.send(acks.of(revision));
    if (isAnswer) this.#onAnswered();
  }
}

/** Runs the real protocol machine on a real view, which checks every record's hash and every digest. */
export class CheckingAgent implements SimulatedAgent {
  readonly view: View;
  readonly #parts: Parts;
  #session: AgentSession;
  #stream: GrpcStream | undefined;
  #onAnswered: () => void = () => undefined;

  constructor(parts: Parts & { readonly view: View }) {
    this.#parts = parts;
    this.view = parts.view;
    this.#session = this.#newSession();
  }

  get bytes(): { readonly received: number; readonly sent: number } {
    return this.#stream?.bytes ?? { received: 0, sent: 0 };
  }

  connect({ port, onAnswered }: ConnectOptions): void {
    this.#onAnswered = onAnswered;
    this.#session = this.#newSession();
    this.#stream = new GrpcStream({
      port,
      path: PATH,
      events: {
        onMessage: (bytes) => this.#carryOut(this.#session.receive(Uint8Array.from(bytes)), bytes.length),
        onEnd: (reason) => this.#parts.recorder.end(reason),
      },
    });
    this.#carryOut(this.#session.open(), 0);
  }

  close(): void {
    this.#stream?.close();
  }

  digest(): bigint {
    return this.view.digest;
  }

  #newSession(): AgentSession {
    return new AgentSession({ identity: { node: nodeName(this.#parts.index), version: VERSION, features: [] }, view: this.view });
  }

  #carryOut(outputs: readonly AgentOutput[], messageBytes: number): void {
    const { index, recorder, acks } = this.#parts;
    for (const output of outputs) {
      switch (output.kind) {
        case "send":
          this.#stream?.send(frameMessage(output.bytes));
          break;
        case "commit": {
          const { revision, committedAtUnixUs, changes } = output.delta;
          if (!output.isAnswer)
            recorder.delta({
              agent: index,
              revision: Number(revision),
              committedAtUnixUs: Number(committedAtUnixUs),
              bytes: messageBytes,
              records: changes.size,
            });
          this.#stream?.send(acks.of(Number(revision)));
          if (output.isAnswer) this.#onAnswered();
          break;
        }
        case "heartbeat":
          recorder.heartbeats++;
          break;
        case "repair":
          recorder.repairs++;
          break;
        case "end":
          recorder.end(`${output.reason}: ${output.detail}`);
          break;
        default:
          // What the server says of itself changes nothing here.
          break;
      }
    }
  }
}

/** Names no features and no state of the API: every field that is not given here has its default, whichever fields there are. */
function encodeHello(index: number, view: ViewState): Uint8Array {
  const hello = { ...Hello.decode(NO_BYTES), node: nodeName(index), version: VERSION, view };
  return AgentMessage.encode({ message: { $case: "hello", value: hello } }).finish();
}

/** Where the content begins: behind a one-byte tag and a varint. */
function lengthEnd(bytes: Buffer): number {
  let at = 1;
  while ((bytes[at] ?? 0) >= 0x80) at++;
  return at + 1;
}
