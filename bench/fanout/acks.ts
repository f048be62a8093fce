/**
 * When simulated agents acknowledge. Acknowledgements are the same for all agents, so the last one made is kept; and an agent that has to wait for its pace
 * costs a place in a list, not a timer.
 */
import { encodeAck } from "../../src/wire/agent-protocol.ts";
import { frameMessage } from "./grpc-stream.ts";

/** paced: at the pace that the server asks for. each: at once. none: when `release` is called. */
export const ACK_MODES = ["paced", "each", "none"] as const;
export type AckMode = (typeof ACK_MODES)[number];

/** Where an agent's acknowledgements go. */
export interface AckSender {
  sendAck(message: Buffer): void;
}

/** Of one agent. */
export class AckState {
  readonly sender: AckSender;
  sentAt = Number.NEGATIVE_INFINITY;
  revision = -1;
  isWaiting = false;

  constructor(sender: AckSender) {
    this.sender = sender;
  }
}

const LOOK_EVERY_MS = 5;

export class Acks {
  mode: AckMode = "paced";
  /** As the server last told any of them. */
  intervalMs = 0;
  #revision = -1;
  #bytes: Buffer = Buffer.alloc(0);
  #waiting: AckState[] = [];
  #isLookDue = false;

  /** The agent has the commit; an answer's is acknowledged at once. */
  due(state: AckState, revision: number, isAnswer: boolean): void {
    state.revision = revision;
    if (isAnswer || this.mode === "each") {
      this.#send(state, performance.now());
      return;
    }
    if (state.isWaiting) return;
    const now = performance.now();
    if (this.mode === "paced" && now - state.sentAt >= this.intervalMs) {
      this.#send(state, now);
      return;
    }
    state.isWaiting = true;
    this.#waiting.push(state);
    if (this.mode === "paced") this.#lookLater();
  }

  /** Whatever waits is sent; `mode` is how it goes on. */
  release(mode: AckMode): void {
    this.mode = mode;
    const waiting = this.#waiting;
    this.#waiting = [];
    const now = performance.now();
    for (const state of waiting) this.#send(state, now);
  }

  #look(): void {
    this.#isLookDue = false;
    if (this.mode !== "paced") return;
    const now = performance.now();
    const still: AckState[] = [];
    for (const state of this.#waiting) {
      if (now - state.sentAt >= this.intervalMs) this.#send(state, now);
      else still.push(state);
    }
    this.#waiting = still;
    if (still.length > 0) this.#lookLater();
  }

  #lookLater(): void {
    if (this.#isLookDue) return;
    this.#isLookDue = true;
    setTimeout(() => this.#look(), LOOK_EVERY_MS);
  }

  #send(state: AckState, now: number): void {
    state.isWaiting = false;
    state.sentAt = now;
    state.sender.sendAck(this.#message(state.revision));
  }

  #message(revision: number): Buffer {
    if (revision === this.#revision) return this.#bytes;
    this.#revision = revision;
    this.#bytes = frameMessage(encodeAck({ receivedRevision: BigInt(revision), programmedRevision: BigInt(revision), failed: [] }));
    return this.#bytes;
  }
}
