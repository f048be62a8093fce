/**
 * What carries the record stream to the nodes, as the sessions see it. Two implement it: grpc-js, and our own frames on sockets (http2/).
 */
import type { Identity } from "../identity.ts";

/** "http2" writes frames to the sockets itself; "grpc-js" is the library. */
export const DELIVERY_KINDS = ["http2", "grpc-js"] as const;
export type DeliveryKind = (typeof DELIVERY_KINDS)[number];
export const DEFAULT_DELIVERY: DeliveryKind = "http2";

/** One open record stream. */
export interface PeerStream {
  readonly identity: Identity;
  /** "10.0.0.1:40000", for people. */
  readonly address: string;
  /** Bytes given to `send` that the transport has not taken yet (its flow-control window is closed, or the peer is slow). */
  readonly bytesInFlight: number;
  /** For messages that go to many streams. Undefined: the transport has no such way, or not yet. */
  readonly lane: Lane | undefined;
  /**
   * Sends one ServerMessage. The bytes must not change afterwards; they may be shared with other streams. Messages of one tick leave together at its end;
   * `isUrgent`: this one, and what waits before it, need not wait for that. A transport that has no way to do so sends it as the others.
   */
  send(message: Uint8Array, isUrgent?: boolean): void;
  /**
   * As an urgent `send`, for the message that comes regularly when nothing else does: with it goes what the transport asks of a peer that has been silent
   * for long, which else would leave by itself.
   */
  beat(message: Uint8Array): void;
  /** Ends the stream with an error. `onClosed` follows. */
  end(error: unknown): void;
}

/** taken: by the system, whole. partly: sent, and some of it is in flight. refused: not sent at all, since something else has to go before it. */
export type LaneResult = "taken" | "partly" | "refused";

/** A stream's way for a message that many others get too, which costs no look at anything else of the stream. */
export interface Lane {
  /** As an urgent `send`. */
  offer(message: Uint8Array): LaneResult;
}

/** What a session wants to hear of its stream. Called in order, never after `onClosed`. */
export interface StreamHandler {
  /** The bytes are the handler's until it returns; what it keeps it copies. */
  onMessage(bytes: Uint8Array): void;
  /** `bytesInFlight` fell, otherwise than within `send`. */
  onDrain(): void;
  /** The stream is over, by whichever side. */
  onClosed(): void;
}

/** Called for each new stream. */
export type AcceptStream = (stream: PeerStream) => StreamHandler;

export interface Delivery {
  /** Where it listens, with real ports. */
  readonly addresses: readonly { readonly address: string; readonly isSecure: boolean }[];
  /** Reads certificate files again; true when they had changed. Throws when they cannot be used: the old ones then stay. */
  reloadCertificates(): boolean;
  /** Closes the listeners; streams that are still open after `graceMs` are cut. */
  stop(graceMs: number): Promise<void>;
}
