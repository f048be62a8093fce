/**
 * A record stream in memory, between a server's Sessions and an AgentSession. Messages move when the test says so, so that a stall, a cut and a slow
 * reader are steps of a test and not matters of time.
 */

import { PACKING_FEATURES, unpack } from "../../agent/sync/unpack.ts";
import type { Lane, PeerStream, StreamHandler } from "../../fanout/delivery/delivery.ts";
import type { Identity } from "../../fanout/identity.ts";
import { type AgentOutput, AgentSession, encodeAck } from "../../src/wire/agent-protocol.ts";
import type { View } from "../../src/wire/view.ts";

export class MemoryStream implements PeerStream {
  readonly identity: Identity;
  readonly address = "memory";
  /** Sent and not yet taken by the reader. */
  readonly inFlight: Uint8Array[] = [];
  /** Set by tests: what goes through it is taken at once, by a system that has room for `laneRoom` messages before the reader takes them. */
  laneRoom = 0;
  readonly lane: Lane = {
    offer: (message) => {
      const waiting = this.inFlight.length;
      if (this.isOver || waiting >= this.laneRoom || this.bytesInFlight > 0) return "refused";
      this.inFlight.push(message);
      if (waiting + 1 === this.laneRoom) return "partly";
      this.#taken.add(message);
      return "taken";
    },
  };
  /** Of those in flight the ones that the system has. */
  readonly #taken = new Set<Uint8Array>();
  handler: StreamHandler | undefined;
  error: unknown;
  isOver = false;

  constructor(identity: Identity = { kind: "local" }) {
    this.identity = identity;
  }

  get bytesInFlight(): number {
    return this.inFlight.reduce((sum, message) => (this.#taken.has(message) ? sum : sum + message.length), 0);
  }

  send(message: Uint8Array): void {
    if (!this.isOver) this.inFlight.push(message);
  }

  beat(message: Uint8Array): void {
    this.send(message);
  }

  end(error: unknown): void {
    this.error = error;
    this.close();
  }

  /** The reader takes the next message. */
  take(): Uint8Array | undefined {
    const message = this.inFlight.shift();
    if (message !== undefined && !this.isOver) this.handler?.onDrain();
    return message;
  }

  /** The connection is gone. */
  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.handler?.onClosed();
  }
}

/** An agent without a kernel: a view, kept over sessions, and one stream at a time. */
export class MemoryAgent {
  readonly node: string;
  readonly view: View;
  readonly accept: (stream: PeerStream) => StreamHandler;
  readonly outputs: AgentOutput[];
  /** Of each stream that it opens. */
  readonly laneRoom: number;
  stream: MemoryStream | undefined;
  session: AgentSession | undefined;

  constructor(options: {
    readonly node: string;
    readonly view: View;
    readonly accept: (stream: PeerStream) => StreamHandler;
    readonly outputs?: AgentOutput[];
    readonly laneRoom?: number;
  }) {
    this.outputs = options.outputs ?? [];
    this.laneRoom = options.laneRoom ?? 0;
    this.node = options.node;
    this.view = options.view;
    this.accept = options.accept;
  }

  get isConnected(): boolean {
    return this.session !== undefined && this.session.state !== "over";
  }

  connect(accept = this.accept): void {
    this.disconnect();
    const stream = new MemoryStream();
    stream.laneRoom = this.laneRoom;
    const session = new AgentSession({ identity: { node: this.node, version: "test", features: PACKING_FEATURES, unpack }, view: this.view });
    this.stream = stream;
    this.session = session;
    stream.handler = accept(stream);
    this.#carryOut(session.open());
  }

  disconnect(): void {
    this.stream?.close();
    if (this.session !== undefined) this.#carryOut(this.session.closed());
    this.stream = undefined;
    this.session = undefined;
  }

  /** Reads up to `count` messages; false when there was none. */
  read(count = Number.POSITIVE_INFINITY): boolean {
    let isAny = false;
    for (let i = 0; i < count; i++) {
      const stream = this.stream;
      const message = stream?.take();
      if (message === undefined) break;
      isAny = true;
      this.#carryOut(this.session?.receive(message) ?? []);
    }
    if (this.stream?.isOver === true && this.stream.inFlight.length === 0) this.disconnect();
    return isAny;
  }

  #carryOut(outputs: readonly AgentOutput[]): void {
    for (const output of outputs) {
      this.outputs.push(output);
      const { stream } = this;
      if (output.kind === "send") stream?.handler?.onMessage(output.bytes);
      else if (output.kind === "commit")
        stream?.handler?.onMessage(encodeAck({ receivedRevision: output.delta.revision, programmedRevision: output.delta.revision, failed: [] }));
      else if (output.kind === "end") stream?.close();
    }
  }
}
