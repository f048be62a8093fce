/** Frames, messages and shared frames: cut anywhere, put together again. */
import { gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CODE, ConnectionError, FLAG, FRAME, FrameReader, frame, headersFrames, PREFACE, StreamError, unpadded } from "./frames.ts";
import { Budgets } from "./limits.ts";
import { MessageReader } from "./message-reader.ts";
import { parseRequest, refusedHttpStatus, termsOf } from "./request.ts";
import { MAX_SHARED_BYTES, messagePrefix, SharedFrames } from "./shared-frames.ts";

type Seen = readonly [type: number, flags: number, streamId: number, payload: string];

function readerOf(seen: Seen[], maxFrameBytes = 16_384): FrameReader {
  return new FrameReader({ maxFrameBytes, onFrame: (type, flags, streamId, payload) => void seen.push([type, flags, streamId, payload.toString("hex")]) });
}

/** Splits at the places given. */
function pieces(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

const cuts = fc.array(fc.nat(), { maxLength: 20 });

describe("FrameReader", () => {
  it("frames come out as they went in, wherever the bytes are cut, and though the bytes are another's afterwards", () => {
    const one = fc.record({
      type: fc.integer({ min: 0, max: 255 }),
      flags: fc.integer({ min: 0, max: 255 }),
      streamId: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
      payload: fc.uint8Array({ maxLength: 60 }),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 8 }), cuts, (frames, at) => {
        const bytes = Buffer.concat([PREFACE, ...frames.map(({ type, flags, streamId, payload }) => frame(type, flags, streamId, payload))]);
        const seen: Seen[] = [];
        const reader = readerOf(seen);
        for (const piece of pieces(bytes, at)) {
          reader.read(piece);
          piece.fill(0xff);
        }
        expect(seen).toEqual(frames.map(({ type, flags, streamId, payload }) => [type, flags, streamId, Buffer.from(payload).toString("hex")]));
      }),
    );
  });

  it("the reserved bit of a stream's number is ignored", () => {
    const seen: Seen[] = [];
    const bytes = frame(FRAME.data, 0, 1, Buffer.alloc(0));
    bytes[5] = 0x80;
    readerOf(seen).read(Buffer.concat([PREFACE, bytes]));
    expect(seen).toEqual([[FRAME.data, 0, 1, ""]]);
  });

  it("a frame that is too long is refused by its header; another preface at its first byte that differs", () => {
    const reader = readerOf([], 100);
    reader.read(PREFACE);
    expect(() => reader.read(Buffer.from([0, 0, 101, 0, 0, 0, 0, 0, 1]))).toThrow(ConnectionError);
    expect(() => readerOf([]).read(Buffer.from("G"))).toThrow("not an HTTP/2 client");
  });

  it("after an error in one frame the next call goes on behind it", () => {
    const seen: number[] = [];
    const reader = new FrameReader({
      maxFrameBytes: 100,
      onFrame: (type) => {
        seen.push(type);
        if (type === 1) throw new StreamError(1, CODE.cancel, "");
      },
    });
    const rest = [frame(0, 0, 1, Buffer.alloc(3)), frame(1, 0, 1, Buffer.alloc(3)), frame(2, 0, 1, Buffer.alloc(3))];
    expect(() => reader.read(Buffer.concat([PREFACE, ...rest]))).toThrow(StreamError);
    reader.read(Buffer.alloc(0));
    expect(seen).toEqual([0, 1, 2]);
  });

  it("padding: taken away, or refused when there is more of it than frame", () => {
    expect(unpadded(FLAG.padded, Buffer.from([2, 7, 8, 0, 0]))).toEqual(Buffer.from([7, 8]));
    expect(unpadded(0, Buffer.from([2, 7]))).toEqual(Buffer.from([2, 7]));
    expect(() => unpadded(FLAG.padded, Buffer.from([2, 7]))).toThrow("more padding");
    expect(() => unpadded(FLAG.padded, Buffer.alloc(0))).toThrow(ConnectionError);
  });

  it("a header block above one frame goes on in CONTINUATIONs; only the last ends it", () => {
    const seen: Seen[] = [];
    readerOf(seen).read(Buffer.concat([PREFACE, headersFrames(3, Buffer.alloc(25, 1), { isLast: true, maxFrameBytes: 10 })]));
    expect(seen.map(([type, flags, id, payload]) => [type, flags, id, payload.length / 2])).toEqual([
      [FRAME.headers, FLAG.endStream, 3, 10],
      [FRAME.continuation, 0, 3, 10],
      [FRAME.continuation, FLAG.endHeaders, 3, 5],
    ]);
  });
});

describe("MessageReader", () => {
  const reader = (held: number[] = [], maxBytes = 1000): MessageReader =>
    new MessageReader({ maxBytes, isGzip: true, onHeld: (change) => void held.push(change) });

  it("messages come out as they went in, wherever the DATA is cut and though it is another's after settle; nothing stays held", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 8 }), cuts, (messages, at) => {
        const held: number[] = [];
        const one = reader(held);
        const seen: string[] = [];
        for (const piece of pieces(Buffer.concat(messages.flatMap((bytes) => [messagePrefix(bytes.length), bytes])), at)) {
          one.push(piece);
          for (let next = one.next(); next !== undefined; next = one.next()) seen.push(next.toString("hex"));
          one.settle();
          piece.fill(0xff);
        }
        expect(seen).toEqual(messages.map((bytes) => Buffer.from(bytes).toString("hex")));
        expect(held.reduce((sum, change) => sum + change, 0)).toBe(0);
      }),
    );
  });

  it("a call that ends inside a message gives back what was held", () => {
    const held: number[] = [];
    const one = reader(held);
    one.push(Buffer.from([0, 0, 0, 0, 9, 1, 2]));
    expect(one.next()).toBeUndefined();
    one.settle();
    one.drop();
    expect(held).toEqual([7, -7]);
  });

  it.each<[string, Buffer]>([
    ["a message above the limit, by its prefix", Buffer.from([0, 0, 0, 4, 0])],
    ["a flag that is neither 0 nor 1", Buffer.from([2, 0, 0, 0, 0])],
    ["gzip that is none", Buffer.from([1, 0, 0, 0, 1, 7])],
    ["gzip that unpacks to more than the limit", Buffer.concat([Buffer.from([1, 0, 0, 0, gzipSync(Buffer.alloc(5000)).length]), gzipSync(Buffer.alloc(5000))])],
  ])("%s → GrpcError", (_, bytes) => {
    const one = reader();
    one.push(bytes);
    expect(() => one.next()).toThrow(expect.objectContaining({ name: "GrpcError" }));
  });

  it("gzip is unpacked", () => {
    const one = reader();
    const packed = gzipSync(Buffer.from("hello"));
    one.push(Buffer.concat([Buffer.from([1, 0, 0, 0, packed.length]), packed]));
    expect(one.next()?.toString()).toBe("hello");
  });
});

describe("SharedFrames", () => {
  it.each([0, 1, MAX_SHARED_BYTES - 5])("a message of %s bytes is one frame and reads back", (size) => {
    const bytes = Buffer.alloc(size, 7);
    const frames: Buffer[] = [];
    const reader = new FrameReader({ maxFrameBytes: 16_384, onFrame: (_type, _flags, _streamId, payload) => void frames.push(payload) });
    reader.read(PREFACE);
    reader.read(new SharedFrames().framed(bytes, 1));
    const messages = new MessageReader({ maxBytes: 100_000, isGzip: false, onHeld: () => undefined });
    expect(frames).toHaveLength(1);
    for (const payload of frames) messages.push(payload);
    expect(messages.next()).toEqual(bytes);
    expect(messages.bytes).toBe(0);
  });

  it("the same message for the same stream is the same buffer", () => {
    const shared = new SharedFrames();
    const bytes = Buffer.from("x");
    const first = shared.framed(bytes, 1);
    expect(shared.framed(bytes, 1)).toBe(first);
    expect(shared.framed(bytes, 3)).not.toBe(first);
    expect(shared.framed(Buffer.from("x"), 3)).not.toBe(first);
  });
});

describe("requests", () => {
  const call = { ":method": "POST", ":scheme": "http", ":path": "/a/b", "content-type": "application/grpc" };
  const parse = (headers: Readonly<Record<string, string>>): ReturnType<typeof parseRequest> => parseRequest(1, Object.entries(headers));

  it.each<[string, readonly (readonly [string, string])[]]>([
    ["an upper-case name", [...Object.entries(call), ["X", "1"]]],
    ["no path", Object.entries({ ...call, ":path": "" })],
    ["a pseudo-header twice", [...Object.entries(call), [":path", "/"]]],
    ["a pseudo-header after a regular one", [["x", "1"], ...Object.entries(call)]],
    ["a header of a response", [[":status", "200"], ...Object.entries(call)]],
    ["a header of HTTP/1.1", Object.entries({ ...call, connection: "close" })],
    ["another te", Object.entries({ ...call, te: "gzip" })],
    ["a line break in a value", Object.entries({ ...call, x: "1\r\ny: 2" })],
    ["content-length that is no number", Object.entries({ ...call, "content-length": "-1" })],
  ])("%s → StreamError", (_, list) => {
    expect(() => parseRequest(1, list)).toThrow(StreamError);
  });

  it("what is no call gets an HTTP status", () => {
    expect(refusedHttpStatus(parse({ ...call, "content-type": "application/json" }))).toBe(415);
    expect(refusedHttpStatus(parse({ ...call, "content-type": "application/grpc-web" }))).toBe(415);
    expect(refusedHttpStatus(parse({ ...call, ":method": "GET" }))).toBe(405);
    expect(refusedHttpStatus(parse({ ...call, "content-type": "application/grpc+proto" }))).toBeUndefined();
  });

  it.each([
    ["1H", 3_600_000],
    ["2M", 120_000],
    ["3S", 3000],
    ["4m", 4],
    ["500u", 0.5],
    ["1000n", 0.001],
  ])("grpc-timeout %s is %s ms", (text, ms) => {
    expect(termsOf(parse({ ...call, "grpc-timeout": text })).timeoutMs).toBeCloseTo(ms);
  });

  it("a deadline or an encoding that is not known → GrpcError", () => {
    for (const more of [{ "grpc-timeout": "5" }, { "grpc-timeout": "123456789S" }, { "grpc-timeout": "-1S" }, { "grpc-encoding": "snappy" }])
      expect(() => termsOf(parse({ ...call, ...more }))).toThrow(expect.objectContaining({ name: "GrpcError" }));
  });
});

describe("Budgets", () => {
  it("a burst, then as much as refills", () => {
    const budgets = new Budgets();
    const spend = (now: number, times: number): number => Array.from({ length: times }, () => budgets.spend("settings-flood", now)).filter(Boolean).length;
    expect(spend(0, 60)).toBe(50);
    expect(spend(1_000_000, 60)).toBe(50);
  });
});
