/**
 * What is well-formed HTTP/2 and no gRPC call: answered with an HTTP status and a sentence, once the request is complete. Answering earlier would end the stream
 * while the peer still sends, and hide what is wrong with the rest of the request.
 */
import { EMPTY } from "./frames.ts";
import { encodeHeaders } from "./hpack.ts";
import type { Http2Stream, StreamSink } from "./stream.ts";

const BODY = Buffer.from("This server speaks gRPC: POST, with content-type application/grpc.\n");

export class NotGrpc implements StreamSink {
  readonly #stream: Http2Stream;
  readonly #httpStatus: 405 | 415;
  readonly #hasBody: boolean;

  /** `hasBody`: false for HEAD. */
  constructor({ stream, httpStatus, hasBody }: { readonly stream: Http2Stream; readonly httpStatus: 405 | 415; readonly hasBody: boolean }) {
    this.#stream = stream;
    this.#httpStatus = httpStatus;
    this.#hasBody = hasBody;
  }

  onData(): boolean {
    return true;
  }

  onEnd(): void {
    this.#stream.respond(
      encodeHeaders([
        [":status", String(this.#httpStatus)],
        ["content-type", "text/plain"],
        ["content-length", String(BODY.length)],
      ]),
    );
    if (this.#hasBody) this.#stream.sendBody(BODY);
    this.#stream.finish(EMPTY);
  }

  onDrain(): void {
    // Nothing waits here: the stream has it all.
  }

  onClosed(): void {
    // Nothing was begun.
  }
}
