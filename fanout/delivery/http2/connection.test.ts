/** Flow control as a property: whatever the peer does with its windows, nothing goes beyond them, and what was sent arrives, in order, once they are open. */
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { callHeaders, headers } from "../../../test/fakes/http2-peer.ts";
import { Connection } from "./connection.ts";
import { FRAME, FrameReader, PREFACE, SETTING, settingsFrame, windowUpdateFrame } from "./frames.ts";
import { HTTP2_LIMITS } from "./limits.ts";
import { MessageReader } from "./message-reader.ts";
import { CALL_HEADERS } from "./responses.ts";
import { SharedFrames } from "./shared-frames.ts";
import { SharedReads } from "./shared-reads.ts";
import type { Http2Stream } from "./stream.ts";

/** Takes what is written, all at once or (when it is full) later. */
class FakeSocket extends EventEmitter {
  written: Uint8Array[] = [];
  writableLength = 0;
  writableNeedDrain = false;
  destroyed = false;
  readonly _handle = { fd: 7 };

  _destroy(): void {
    // Has nothing.
  }

  write(bytes: Uint8Array): boolean {
    this.written.push(bytes);
    return !this.writableNeedDrain;
  }

  cork(): void {
    // Written at once here.
  }

  uncork(): void {
    // As above.
  }

  end(): void {
    this.emit("close");
  }

  destroy(): void {
    this.emit("close");
  }
}

class Setup {
  readonly socket = new FakeSocket();
  readonly streams = new Map<number, Http2Stream>();
  readonly #connection: Connection;
  readonly #messages = new Map<number, MessageReader>();
  readonly received = new Map<number, number[]>();
  /** As the peer counts them. */
  connectionWindow = 65_535;
  readonly windows = new Map<number, number>();
  initial = 65_535;
  readonly #seen: FrameReader;
  /** What the system takes of a message at once. */
  takes = Number.POSITIVE_INFINITY;

  constructor() {
    this.#connection = new Connection({
      socket: this.socket as unknown as Socket,
      address: "test",
      host: {
        limits: HTTP2_LIMITS,
        frames: new SharedFrames(),
        reads: new SharedReads(),
        direct: undefined,
        sendTo: (descriptor, bytes) => {
          expect([descriptor, this.socket.destroyed, this.socket.written]).toEqual([7, false, []]);
          const taken = this.socket.writableNeedDrain ? 0 : Math.min(this.takes, bytes.length);
          if (taken > 0) this.socket.written.push(bytes.subarray(0, taken));
          return taken;
        },
        keepaliveMs: 1,
        keepaliveTimeoutMs: 1,
        now: () => 0,
        serve: (_, stream) => {
          this.streams.set(stream.id, stream);
          return { onData: () => true, onEnd: () => undefined, onDrain: () => undefined, onClosed: () => undefined };
        },
        flushSoon: () => undefined,
        onAbuse: (abuse) => {
          throw new Error(abuse);
        },
        onFirstRequest: () => undefined,
        onClosed: () => undefined,
        onError: (error) => {
          throw error;
        },
      },
    });
    this.#seen = new FrameReader({ maxFrameBytes: 16_384, onFrame: (type, _flags, streamId, payload) => this.#onFrame(type, streamId, payload) });
    this.#seen.read(PREFACE);
    this.give(PREFACE, settingsFrame([]));
  }

  give(...frames: readonly Buffer[]): void {
    this.socket.emit("data", Buffer.concat(frames));
    this.settle();
  }

  open(streamId: number): void {
    this.windows.set(streamId, this.initial);
    this.#messages.set(streamId, new MessageReader({ maxBytes: 2 ** 24, isGzip: false, onHeld: () => undefined }));
    this.received.set(streamId, []);
    this.give(headers(streamId, callHeaders("/x")));
  }

  grow(streamId: number, bytes: number): void {
    if (streamId === 0) this.connectionWindow += bytes;
    else this.windows.set(streamId, (this.windows.get(streamId) ?? 0) + bytes);
    this.give(windowUpdateFrame(streamId, bytes));
  }

  setInitial(bytes: number): void {
    for (const [id, window] of this.windows) this.windows.set(id, window + bytes - this.initial);
    this.initial = bytes;
    this.give(settingsFrame([[SETTING.initialWindowSize, bytes]]));
  }

  /** The socket takes nothing more, or takes again. */
  stall(isStalled: boolean): void {
    this.socket.writableNeedDrain = isStalled;
    if (!isStalled) this.socket.emit("drain");
    this.settle();
  }

  /** All flushes that are due, and what came of them. */
  settle(): void {
    do this.#connection.flush();
    while (!this.socket.writableNeedDrain && this.#connection.bytesInFlight > 0);
    const written = this.socket.written;
    this.socket.written = [];
    for (const bytes of written) this.#seen.read(Buffer.from(bytes));
  }

  #onFrame(type: number, streamId: number, payload: Buffer): void {
    if (type !== FRAME.data) return;
    this.connectionWindow -= payload.length;
    const window = (this.windows.get(streamId) ?? 0) - payload.length;
    this.windows.set(streamId, window);
    expect(this.connectionWindow).toBeGreaterThanOrEqual(0);
    if (payload.length > 0) expect(window).toBeGreaterThanOrEqual(0);
    const reader = this.#messages.get(streamId);
    reader?.push(payload);
    for (let message = reader?.next(); message !== undefined; message = reader?.next()) this.received.get(streamId)?.push(message.length);
  }
}

const streamId = fc.constantFrom(1, 3, 5);
const step = fc.oneof(
  fc.record({ kind: fc.constant("send" as const), streamId, bytes: fc.oneof(fc.nat(100), fc.nat(40_000)) }),
  fc.record({ kind: fc.constant("grow" as const), streamId: fc.constantFrom(0, 1, 3, 5), bytes: fc.integer({ min: 1, max: 30_000 }) }),
  fc.record({ kind: fc.constant("initial" as const), bytes: fc.nat(100_000) }),
  fc.record({ kind: fc.constant("stall" as const), isStalled: fc.boolean() }),
  fc.record({ kind: fc.constant("offer" as const), streamId, bytes: fc.oneof(fc.nat(100), fc.nat(10_000)) }),
  fc.record({ kind: fc.constant("takes" as const), bytes: fc.oneof(fc.nat(200), fc.constant(Number.POSITIVE_INFINITY)) }),
);

describe("Connection", () => {
  it("never goes beyond a window, and everything arrives in order when the windows open; so with a lane beside the streams", () => {
    let takenInAll = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const setup = new Setup();
        let taken = 0;
        const sent = new Map<number, number[]>([1, 3, 5].map((id) => [id, []]));
        for (const id of sent.keys()) setup.open(id);
        for (const one of steps) {
          if (one.kind === "send") {
            setup.streams.get(one.streamId)?.send(Buffer.alloc(one.bytes));
            sent.get(one.streamId)?.push(one.bytes);
            setup.settle();
          } else if (one.kind === "offer") {
            const stream = setup.streams.get(one.streamId);
            // A stream that has said its headers, as a record stream that can follow has.
            if (stream?.hasHeaders === false) stream.respond(CALL_HEADERS);
            setup.settle();
            const result = stream?.lane?.offer(Buffer.alloc(one.bytes)) ?? "refused";
            if (result !== "refused") sent.get(one.streamId)?.push(one.bytes);
            setup.settle();
            if (result === "taken") taken++;
          } else if (one.kind === "takes") setup.takes = one.bytes;
          else if (one.kind === "grow") setup.grow(one.streamId, one.bytes);
          else if (one.kind === "initial") setup.setInitial(one.bytes);
          else setup.stall(one.isStalled);
        }
        setup.stall(false);
        setup.grow(0, 10_000_000);
        for (const id of sent.keys()) setup.grow(id, 10_000_000);
        expect(setup.received).toEqual(sent);
        expect([...setup.streams.values()].map(({ bytesInFlight }) => bytesInFlight)).toEqual([0, 0, 0]);
        takenInAll += taken;
      }),
      { numRuns: 300 },
    );
    // The way past the stream was gone too.
    expect(takenInAll).toBeGreaterThan(0);
  });
});
