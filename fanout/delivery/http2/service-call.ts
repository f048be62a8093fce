/**
 * A call of a service, with the face that grpc-js gives its calls, as far as the handlers in fanout/services use it: `request`, `write`, `end`, `cancelled`,
 * `getPeer`, `getAuthContext`, the events `data`, `end`, `drain`, `close`, `cancelled`, and `emit("error", status)` to end with a status. So one table of handlers
 * serves both deliveries.
 *
 * Invariant: a peer that does not read is not written for: `write` says false, messages of the peer wait, and its window stays closed.
 */
import { EventEmitter } from "node:events";
import { Metadata, type MethodDefinition, type StatusObject, status } from "@grpc/grpc-js";
import { GrpcError, statusOfEnd } from "./grpc-error.ts";
import type { MessageReader } from "./message-reader.ts";
import { CALL_HEADERS, trailersOf } from "./responses.ts";
import type { Http2Stream, StreamSink } from "./stream.ts";

/** A handler of any of the four kinds; the callback is for those with one answer. */
export type AnyHandler = (call: unknown, callback: (error: unknown, value?: unknown) => void) => void;
export type AnyMethod = MethodDefinition<unknown, unknown>;

export interface ServiceCallOptions {
  readonly stream: Http2Stream;
  readonly reader: MessageReader;
  readonly method: AnyMethod;
  readonly handler: AnyHandler;
  readonly peer: string;
  readonly authContext: () => unknown;
  readonly onError: (error: unknown) => void;
}

/** From here on `write` says false. */
const FULL_BYTES = 64 * 1024;
const OK: StatusObject = { code: status.OK, details: "", metadata: new Metadata() };

export class ServiceCall extends EventEmitter implements StreamSink {
  /** The request, of methods that take one. */
  request: unknown = undefined;
  cancelled = false;
  readonly metadata = new Metadata();
  readonly #options: ServiceCallOptions;
  readonly #stream: Http2Stream;
  #hasRequest = false;
  #isRemoteEnded = false;
  #isEndSaid = false;
  #needsDrain = false;
  #isOver = false;

  constructor(options: ServiceCallOptions) {
    super();
    this.#options = options;
    this.#stream = options.stream;
    this.on("error", (error: unknown) => this.#finish(statusOfEnd(error)));
    if (options.method.requestStream) this.#start();
  }

  getPeer(): string {
    return this.#options.peer;
  }

  getAuthContext(): unknown {
    return this.#options.authContext();
  }

  write(value: unknown): boolean {
    if (this.#isOver) return false;
    if (!this.#stream.hasHeaders) this.#stream.respond(CALL_HEADERS);
    this.#stream.send(this.#options.method.responseSerialize(value));
    this.#needsDrain = this.#isFull;
    return !this.#needsDrain;
  }

  end(): void {
    this.#finish(OK);
  }

  /** The deadline that the client gave has passed. */
  cut(error: GrpcError): void {
    if (this.#isOver) return;
    this.cancelled = true;
    this.#finish(statusOfEnd(error));
    this.emit("cancelled", "cancelled");
  }

  onData(payload: Buffer): boolean {
    this.#options.reader.push(payload);
    this.#take();
    if (!this.#isOver) this.#options.reader.settle();
    return !this.#isFull;
  }

  onEnd(): void {
    this.#isRemoteEnded = true;
    this.#take();
    if (this.#isOver || this.#options.method.requestStream) return;
    if (this.#hasRequest) this.#start();
    else this.#finish(statusOfEnd(new GrpcError(status.INTERNAL, "the call ended without a request")));
  }

  onDrain(): void {
    if (this.#isOver || this.#isFull) return;
    if (this.#needsDrain) {
      this.#needsDrain = false;
      this.emit("drain");
    }
    this.#take();
    if (this.#isOver) return;
    this.#options.reader.settle();
    if (!this.#isFull) this.#stream.release();
  }

  onClosed(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.reader.drop();
    this.cancelled = true;
    this.emit("cancelled", "cancelled");
    this.emit("close");
  }

  get #isFull(): boolean {
    return this.#stream.bytesInFlight >= FULL_BYTES;
  }

  /** Hands complete messages to the handler. */
  #take(): void {
    const { reader, method } = this.#options;
    try {
      while (!this.#isOver && !this.#isFull) {
        const message = reader.next();
        if (message === undefined) break;
        if (method.requestStream) this.#guard(() => this.emit("data", method.requestDeserialize(Buffer.from(message))));
        else this.#takeRequest(message);
      }
    } catch (error) {
      this.#finish(statusOfEnd(error));
    }
    if (!this.#isRemoteEnded || this.#isEndSaid || this.#isOver || this.#isFull) return;
    this.#isEndSaid = true;
    if (reader.bytes > 0) this.#finish(statusOfEnd(new GrpcError(status.INTERNAL, "the call ended inside a message")));
    else if (method.requestStream) this.#guard(() => this.emit("end"));
  }

  #takeRequest(message: Buffer): void {
    if (this.#hasRequest) throw new GrpcError(status.INTERNAL, "more than one request in a call that takes one");
    this.#hasRequest = true;
    // The reader may use the bytes again, and a request is used until its answer.
    try {
      this.request = this.#options.method.requestDeserialize(Buffer.from(message));
    } catch (error) {
      throw new GrpcError(status.INTERNAL, `the request cannot be decoded: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  }

  #start(): void {
    this.#guard(() => this.#options.handler(this, (error, value) => this.#answer(error, value)));
  }

  #answer(error: unknown, value: unknown): void {
    if (this.#isOver) return;
    if (error !== null && error !== undefined) this.#finish(statusOfEnd(error));
    else {
      this.write(value);
      this.end();
    }
  }

  /** What a handler throws is ours. */
  #guard(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#options.onError(error);
      this.#finish(statusOfEnd(error));
    }
  }

  #finish(end: StatusObject): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.reader.drop();
    this.#stream.finish(trailersOf(end, !this.#stream.hasHeaders));
    this.emit("close");
  }
}
