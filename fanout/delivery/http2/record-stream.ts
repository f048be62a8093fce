/** The record stream on an HTTP/2 stream: no event emitter, no copy, no callback for a message; this is the path that every delivery takes. */
import { Metadata, type StatusObject, status } from "@grpc/grpc-js";
import type { Identity } from "../../identity.ts";
import type { AcceptStream, Lane, PeerStream, StreamHandler } from "../delivery.ts";
import { statusOfEnd } from "./grpc-error.ts";
import type { MessageReader } from "./message-reader.ts";
import { CALL_HEADERS, trailersOf } from "./responses.ts";
import type { Http2Stream, StreamSink } from "./stream.ts";

export interface RecordStreamOptions {
  readonly stream: Http2Stream;
  readonly reader: MessageReader;
  readonly identity: Identity;
  readonly address: string;
  readonly accept: AcceptStream;
  readonly onError: (error: unknown) => void;
}

const OK: StatusObject = { code: status.OK, details: "", metadata: new Metadata() };

export class RecordStream implements PeerStream, StreamSink {
  readonly identity: Identity;
  readonly address: string;
  readonly #stream: Http2Stream;
  readonly #reader: MessageReader;
  readonly #handler: StreamHandler;
  readonly #onError: (error: unknown) => void;
  #isOver = false;

  constructor(options: RecordStreamOptions) {
    this.#stream = options.stream;
    this.#reader = options.reader;
    this.identity = options.identity;
    this.address = options.address;
    this.#onError = options.onError;
    options.stream.isPatient = true;
    this.#handler = options.accept(this);
  }

  get bytesInFlight(): number {
    return this.#stream.bytesInFlight;
  }

  get lane(): Lane | undefined {
    return this.#isOver ? undefined : this.#stream.lane;
  }

  send(message: Uint8Array, isUrgent = false): void {
    if (this.#isOver) return;
    if (!this.#stream.hasHeaders) this.#stream.respond(CALL_HEADERS);
    this.#stream.send(message, isUrgent);
  }

  beat(message: Uint8Array): void {
    if (this.#isOver) return;
    if (!this.#stream.hasHeaders) this.#stream.respond(CALL_HEADERS);
    this.#stream.beat(message);
  }

  end(error: unknown): void {
    this.#finish(statusOfEnd(error));
  }

  /** The deadline that the client gave has passed, or a message cannot be taken. */
  cut(error: unknown): void {
    if (this.#isOver) return;
    this.#finish(statusOfEnd(error));
  }

  onData(payload: Buffer): boolean {
    try {
      this.#reader.push(payload);
      for (let message = this.#reader.next(); message !== undefined && !this.#isOver; message = this.#reader.next()) this.#deliver(message);
    } catch (error) {
      this.cut(error);
    }
    if (!this.#isOver) this.#reader.settle();
    return true;
  }

  onEnd(): void {
    this.#finish(OK);
  }

  onDrain(): void {
    if (!this.#isOver) this.#handler.onDrain();
  }

  onClosed(): void {
    this.#close();
  }

  #deliver(message: Buffer): void {
    try {
      this.#handler.onMessage(message);
    } catch (error) {
      this.#onError(error);
      this.end(error);
    }
  }

  #finish(end: StatusObject): void {
    if (this.#isOver) return;
    this.#stream.isPatient = false;
    this.#stream.finish(trailersOf(end, !this.#stream.hasHeaders));
    this.#close();
  }

  #close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reader.drop();
    this.#handler.onClosed();
  }
}
