/** Our HTTP/2 against peers that write frames by hand: what is allowed and rare, and what attacks. Each attack is bounded, answered, and counted by its name. */
import { connect } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { gzipSync } from "node:zlib";
import { type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { DELIVERY_KINDS, type DeliveryKind, type PeerStream } from "../../fanout/delivery/delivery.ts";
import { startGrpcDelivery } from "../../fanout/delivery/grpc-delivery.ts";
import {
  CODE,
  EMPTY,
  FLAG,
  FRAME,
  frame,
  goAwayFrame,
  PREFACE,
  resetStreamFrame,
  SETTING,
  settingsFrame,
  windowUpdateFrame,
} from "../../fanout/delivery/http2/frames.ts";
import { encodeHeaders } from "../../fanout/delivery/http2/hpack.ts";
import { type Http2DeliveryOptions, startHttp2Delivery } from "../../fanout/delivery/http2/http2-delivery.ts";
import { ABUSES, type Abuse } from "../../fanout/delivery/http2/limits.ts";
import { CallError } from "../../fanout/status.ts";
import type { ListBlocksRequest, ListBlocksResponse } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { certificates } from "../fakes/fanout-fixture.ts";
import { callHeaders, data, Http2Peer, headers, message } from "../fakes/http2-peer.ts";

const SYNC = "/sedge.sync.v1.SyncService/Sync";
const LIST = "/sedge.sync.v1.SyncService/ListBlocks";
/** node = "n1". */
const LIST_REQUEST = message(Buffer.from("0a026e31", "hex"));
const END = FLAG.endHeaders | FLAG.endStream;

const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 5 });

interface Stream {
  readonly peer: PeerStream;
  readonly messages: string[];
  drains: number;
  closes: number;
}

/** The delivery alone, with handlers that note what they hear. */
async function start(
  options: Partial<Http2DeliveryOptions> = {},
  kind: DeliveryKind = "http2",
): Promise<{
  readonly address: string;
  readonly streams: Stream[];
  readonly abuses: Abuse[];
  readonly errors: unknown[];
  readonly unary: { call: ServerUnaryCall<ListBlocksRequest, ListBlocksResponse>; done: sendUnaryData<ListBlocksResponse> }[];
  peer(): Http2Peer;
  stop(graceMs: number): Promise<void>;
}> {
  const streams: Stream[] = [];
  const abuses: Abuse[] = [];
  const errors: unknown[] = [];
  const unary: { call: ServerUnaryCall<ListBlocksRequest, ListBlocksResponse>; done: sendUnaryData<ListBlocksResponse> }[] = [];
  const delivery = await (kind === "http2" ? startHttp2Delivery : startGrpcDelivery)({
    listen: [{ host: "127.0.0.1", port: 0, tls: undefined }],
    accept: (peer) => {
      const stream: Stream = { peer, messages: [], drains: 0, closes: 0 };
      streams.push(stream);
      return {
        onMessage: (bytes) => {
          const text = Buffer.from(bytes).toString();
          if (text === "throw") throw new Error("of the handler");
          stream.messages.push(text);
        },
        onDrain: () => void stream.drains++,
        onClosed: () => void stream.closes++,
      };
    },
    unary: () => ({
      listBlocks: (call: ServerUnaryCall<ListBlocksRequest, ListBlocksResponse>, done: sendUnaryData<ListBlocksResponse>) => void unary.push({ call, done }),
    }),
    services: [],
    keepaliveMs: 60_000,
    keepaliveTimeoutMs: 60_000,
    onStreamError: (error) => void errors.push(error),
    onAbuse: (abuse) => void abuses.push(abuse),
    ...options,
  });
  onTestFinished(() => delivery.stop(0));
  const address = delivery.addresses[0]?.address ?? "";
  return {
    address,
    streams,
    abuses,
    errors,
    unary,
    peer: () => {
      const peer = new Http2Peer(address);
      onTestFinished(() => peer[Symbol.dispose]());
      return peer;
    },
    stop: (graceMs) => delivery.stop(graceMs),
  };
}

/** DATA that came on a stream. */
const body = (peer: Http2Peer, streamId = 1): Buffer => Buffer.concat(peer.ofType(FRAME.data, streamId).map(({ payload }) => payload));

describe("the record stream, frame by frame", () => {
  it("messages cross frames and share them, padded or not; HEADERS may come in pieces and with a priority", async () => {
    const f = await start();
    const block = encodeHeaders(callHeaders(SYNC));
    const prioritised = Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 15]), block.subarray(0, 20), Buffer.alloc(3)]);
    const peer = f.peer().open();
    peer.write(
      frame(FRAME.headers, FLAG.priority | FLAG.padded, 1, prioritised),
      frame(FRAME.continuation, 0, 1, block.subarray(20, 30)),
      frame(FRAME.continuation, FLAG.endHeaders, 1, block.subarray(30)),
    );
    const both = Buffer.concat([message(Buffer.from("one")), message(Buffer.from("two")), message(Buffer.from("three"))]);
    peer.write(
      data(1, both.subarray(0, 3)),
      frame(FRAME.data, FLAG.padded, 1, Buffer.concat([Buffer.from([2]), both.subarray(3, 20), Buffer.alloc(2)])),
      data(1, both.subarray(20)),
    );
    await until(() => expect(f.streams[0]?.messages).toEqual(["one", "two", "three"]));
    peer.write(data(1, message(gzipSync("zipped"), 1)));
    await until(() =>
      expect(peer.headersOf(1)).toMatchObject({
        "grpc-status": String(status.INTERNAL),
        "grpc-message": "a compressed message in a call without grpc-encoding",
      }),
    );
    expect(f.streams[0]?.closes).toBe(1);
  });

  it("what is sent in one tick arrives in order and in one piece; a client that ends gets status 0", async () => {
    const f = await start();
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    for (const text of ["a", "b", "c"]) f.streams[0]?.peer.send(Buffer.from(text));
    await until(() => expect(body(peer)).toEqual(Buffer.concat(["a", "b", "c"].map((text) => message(Buffer.from(text))))));
    await until(() => expect(f.streams[0]).toMatchObject({ peer: { bytesInFlight: 0 } }));
    peer.write(data(1, EMPTY, FLAG.endStream));
    await until(() => expect(peer.headersOf(1)).toMatchObject({ ":status": "200", "content-type": "application/grpc", "grpc-status": "0" }));
    expect(peer.resetCode(1)).toBeUndefined();
    expect(f.streams[0]?.closes).toBe(1);
  });

  it("an error ends the stream with its status, before or after messages, and the rest of the request is refused", async () => {
    const f = await start();
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)), headers(3, callHeaders(SYNC)), data(3, message(Buffer.from("throw"))));
    await until(() => expect(f.streams).toHaveLength(2));
    f.streams[0]?.peer.end(new CallError("draining", "später 100%", { retryAfterMs: 20 }));
    await until(() => expect(peer.resetCode(1)).toBe(CODE.noError));
    await until(() => expect(peer.resetCode(3)).toBe(CODE.noError));
    peer.write(data(1, message(Buffer.from("late"))), frame(FRAME.ping, 0, 0, Buffer.alloc(8, 1)));
    await until(() => expect(peer.ofType(FRAME.ping)).toHaveLength(1));
    expect(peer.headersOf(1)).toMatchObject({ "grpc-status": String(status.UNAVAILABLE), "grpc-message": "sp%C3%A4ter 100%25", "retry-after-ms": "20" });
    expect(f.streams.map(({ closes, messages }) => [closes, messages])).toEqual([
      [1, []],
      [1, []],
    ]);
    expect(f.errors).toHaveLength(1);
    expect(peer.goAway).toBeUndefined();
  });

  it("flow control: nothing beyond either window; INITIAL_WINDOW_SIZE grows and shrinks open streams, also below zero", async () => {
    const f = await start();
    const peer = f.peer().open([[SETTING.initialWindowSize, 10]]);
    peer.write(headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    const sent = Buffer.alloc(100_000, 5);
    f.streams[0]?.peer.send(sent);
    await until(() => expect(body(peer)).toHaveLength(10));
    expect(f.streams[0]?.peer.bytesInFlight).toBe(sent.length + 5 - 10);
    peer.write(settingsFrame([[SETTING.initialWindowSize, 4]]), windowUpdateFrame(1, 6), frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    await until(() => expect(peer.ofType(FRAME.ping)).toHaveLength(1));
    expect(body(peer)).toHaveLength(10);
    peer.write(windowUpdateFrame(1, 1));
    await until(() => expect(body(peer)).toHaveLength(11));
    peer.write(settingsFrame([[SETTING.initialWindowSize, 2 ** 20]]));
    await until(() => expect(body(peer)).toHaveLength(65_535));
    peer.write(windowUpdateFrame(0, 2 ** 20));
    await until(() => expect(body(peer)).toEqual(message(sent)));
    await until(() => expect(f.streams[0]?.peer.bytesInFlight).toBe(0));
    expect(f.streams[0]?.drains).toBeGreaterThan(0);
  });

  it("streams of a connection take turns when its window is short", async () => {
    const f = await start();
    const peer = f.peer().open([[SETTING.initialWindowSize, 2 ** 20]]);
    peer.write(headers(1, callHeaders(SYNC)), headers(3, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(2));
    for (const { peer: stream } of f.streams) stream.send(Buffer.alloc(200_000));
    await until(() => expect(body(peer, 1).length + body(peer, 3).length).toBe(65_535));
    peer.write(windowUpdateFrame(0, 65_536));
    await until(() => expect(body(peer, 1).length + body(peer, 3).length).toBe(131_071));
    expect(body(peer, 3).length).toBeGreaterThanOrEqual(32_768);
  });

  it("credit comes back as messages are taken: a client sends far more than the windows", async () => {
    const f = await start();
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)));
    const one = message(Buffer.alloc(16_000, 97));
    let window = 65_535;
    for (let sent = 0; sent < 150; sent++) {
      await until(() =>
        expect(window + peer.ofType(FRAME.windowUpdate, 1).reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0)).toBeGreaterThan(one.length),
      );
      peer.write(data(1, one));
      window -= one.length;
    }
    await until(() => expect(f.streams[0]?.messages).toHaveLength(150));
    expect(peer.ofType(FRAME.windowUpdate, 0).length).toBeGreaterThan(2);
    expect(peer.goAway).toBeUndefined();
  });

  it("a peer that answers pings may leave its window shut for as long as it likes: noticed, counted once, and not cut", async () => {
    const f = await start({ limits: { stallTimeoutMs: 40 } });
    const peer = f.peer().open([[SETTING.initialWindowSize, 0]]);
    peer.write(headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    f.streams[0]?.peer.send(Buffer.from("x"));
    await until(() => expect(f.abuses).toEqual(["zero-window"]));
    peer.write(windowUpdateFrame(1, 100));
    await until(() => expect(body(peer)).toEqual(message(Buffer.from("x"))));
    expect(f.streams[0]?.closes).toBe(0);
  });
});

describe("calls", () => {
  it("one answer; the deadline; a call that the client gives up; a request above the limit", async () => {
    const f = await start({ limits: { maxMessageBytes: 1000 } });
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(LIST)), data(1, LIST_REQUEST, FLAG.endStream));
    await until(() => expect(f.unary).toHaveLength(1));
    expect(f.unary[0]?.call.request).toEqual({ node: "n1", takeOver: [] });
    f.unary[0]?.done(null, { blocks: [] });
    await until(() => expect(body(peer)).toEqual(message(EMPTY)));
    peer.write(headers(3, callHeaders(LIST, [["grpc-timeout", "20m"]])), data(3, LIST_REQUEST, FLAG.endStream));
    await until(() => expect(peer.ofType(FRAME.headers, 3)).toHaveLength(1));
    peer.write(headers(5, callHeaders(LIST)), data(5, LIST_REQUEST, FLAG.endStream));
    await until(() => expect(f.unary).toHaveLength(3));
    const gone = f.unary[2];
    peer.write(resetStreamFrame(5, CODE.cancel));
    await until(() => expect(gone?.call.cancelled).toBe(true));
    gone?.done(null, { blocks: [] });
    peer.write(headers(7, callHeaders(LIST)), data(7, message(Buffer.alloc(1001))));
    peer.write(headers(9, callHeaders("/no.Such/Method"), END));
    peer.write(headers(11, callHeaders(LIST, [["grpc-encoding", "snappy"]]), END));
    peer.write(headers(13, callHeaders(LIST), END));
    peer.write(headers(15, callHeaders(LIST)), data(15, Buffer.concat([LIST_REQUEST, LIST_REQUEST]), FLAG.endStream));
    peer.write(headers(17, callHeaders(LIST, [["grpc-encoding", "gzip"]])), data(17, message(gzipSync(Buffer.from("0a026e31", "hex")), 1), FLAG.endStream));
    await until(() => expect(f.unary).toHaveLength(4));
    expect(f.unary[3]?.call.request).toEqual({ node: "n1", takeOver: [] });
    const refused = [3, 7, 9, 11, 13, 15];
    await until(() => expect(refused.map((id) => peer.ofType(FRAME.headers, id).length)).toEqual(refused.map(() => 1)));
    expect(peer.ofType(FRAME.headers, 5)).toEqual([]);
    const lists = await statusesOf(peer);
    expect(refused.map((id) => lists.get(id))).toEqual([
      status.DEADLINE_EXCEEDED,
      status.RESOURCE_EXHAUSTED,
      status.UNIMPLEMENTED,
      status.UNIMPLEMENTED,
      status.INTERNAL,
      status.INTERNAL,
    ]);
  });

  it("a call that has ended and whose answer the peer never takes is reset and counted", async () => {
    const f = await start({ limits: { stallTimeoutMs: 40 } });
    const peer = f.peer().open([[SETTING.initialWindowSize, 0]]);
    peer.write(headers(1, callHeaders(LIST)), data(1, LIST_REQUEST, FLAG.endStream));
    await until(() => expect(f.unary).toHaveLength(1));
    f.unary[0]?.done(null, { blocks: [] });
    await until(() => expect(peer.resetCode(1)).toBe(CODE.cancel));
    expect(f.abuses).toEqual(["zero-window"]);
  });

  it("what is no call: 415, 405, 431", async () => {
    const f = await start();
    const peer = f.peer().open();
    const get = callHeaders("/").map(([name, value]): [string, string] => [name, name === ":method" ? "GET" : value]);
    peer.write(
      headers(
        1,
        callHeaders("/").filter(([name]) => name !== "content-type"),
        END,
      ),
      headers(3, get, END),
    );
    peer.write(
      headers(
        5,
        callHeaders(
          LIST,
          Array.from({ length: 100 }, (_, n) => [`x-${n}`, "y".repeat(150)]),
        ),
        END,
      ),
    );
    await until(() => expect(peer.ofType(FRAME.headers)).toHaveLength(3));
    expect([...(await statusesOf(peer, ":status"))]).toEqual([
      [1, 415],
      [3, 405],
      [5, 431],
    ]);
    expect(body(peer, 1).toString()).toContain("gRPC");
    expect(f.abuses).toEqual(["header-bomb"]);
  });
});

describe("stopping", () => {
  it("GOAWAY, open streams may end, new ones are refused, and the connection ends with the last", async () => {
    const f = await start();
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    const stopped = f.stop(10_000);
    await until(() => expect(peer.goAway).toEqual({ code: CODE.noError, reason: "the server is stopping" }));
    peer.write(headers(3, callHeaders(SYNC)));
    await until(() => expect(peer.resetCode(3)).toBe(CODE.refusedStream));
    f.streams[0]?.peer.end(new CallError("draining", "x"));
    await stopped;
    await until(() => expect(peer.isClosed).toBe(true));
  });

  it("streams that stay are cut when the time is over", async () => {
    const f = await start();
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    await f.stop(20);
    await until(() => expect(peer.isClosed).toBe(true));
    expect(f.streams[0]?.closes).toBe(1);
  });

  it("a client that says GOAWAY is closed when its streams are over", async () => {
    const f = await start();
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)), goAwayFrame(0, CODE.noError));
    await until(() => expect(f.streams).toHaveLength(1));
    f.streams[0]?.peer.send(Buffer.from("still"));
    await until(() => expect(body(peer)).toEqual(message(Buffer.from("still"))));
    peer.write(data(1, EMPTY, FLAG.endStream));
    await until(() => expect(peer.isClosed).toBe(true));
  });
});

/** Each attack: what is written, and the GOAWAY that must come. Whoever else is connected must not notice. */
const FLOODS: readonly (readonly [Abuse, number, (peer: Http2Peer) => void])[] = [
  [
    "rapid-reset",
    CODE.enhanceYourCalm,
    (peer) => {
      for (let n = 0; n < 1000; n++) peer.write(headers(2 * n + 1, callHeaders(LIST)), resetStreamFrame(2 * n + 1, CODE.cancel));
    },
  ],
  [
    // The server resets what is malformed: the same attack by its hand.
    "rapid-reset",
    CODE.enhanceYourCalm,
    (peer) => {
      for (let n = 0; n < 1000; n++) peer.write(headers(2 * n + 1, [...callHeaders(LIST), ["te", "gzip"]], END));
    },
  ],
  [
    "continuation-flood",
    CODE.enhanceYourCalm,
    (peer) => {
      peer.write(headers(1, callHeaders(SYNC), 0));
      for (let n = 0; n < 1000; n++) peer.write(frame(FRAME.continuation, 0, 1, EMPTY));
    },
  ],
  [
    "header-bomb",
    CODE.enhanceYourCalm,
    (peer) => {
      peer.write(headers(1, callHeaders(SYNC), 0));
      for (let n = 0; n < 10; n++) peer.write(frame(FRAME.continuation, 0, 1, Buffer.alloc(16_000, 0x82)));
    },
  ],
  [
    "settings-flood",
    CODE.enhanceYourCalm,
    (peer) => {
      for (let n = 0; n < 1000; n++) peer.write(settingsFrame([[SETTING.initialWindowSize, n]]));
    },
  ],
  [
    "ping-flood",
    CODE.enhanceYourCalm,
    (peer) => {
      for (let n = 0; n < 1000; n++) peer.write(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    },
  ],
  [
    "empty-frames",
    CODE.enhanceYourCalm,
    (peer) => {
      peer.write(headers(1, callHeaders(SYNC)));
      for (let n = 0; n < 1000; n++) peer.write(data(1));
    },
  ],
  [
    "priority-flood",
    CODE.enhanceYourCalm,
    (peer) => {
      for (let n = 0; n < 2000; n++) peer.write(frame(FRAME.priority, 0, 2 * n + 1, Buffer.from([0, 0, 0, 0, 1])));
    },
  ],
  [
    "window-flood",
    CODE.enhanceYourCalm,
    (peer) => {
      for (let n = 0; n < 40; n++) peer.write(...Array.from({ length: 1000 }, () => windowUpdateFrame(0, 1)));
    },
  ],
  [
    "too-many-streams",
    CODE.enhanceYourCalm,
    (peer) => {
      for (let n = 0; n < 1000; n++) peer.write(headers(2 * n + 1, callHeaders(SYNC)));
    },
  ],
  [
    "too-much-buffered",
    CODE.enhanceYourCalm,
    (peer) => {
      // 40 messages of which all but the last byte come.
      const most = Buffer.alloc(16_384);
      most.writeUInt32BE(20_000, 1);
      for (let n = 0; n < 40; n++) peer.write(headers(2 * n + 1, callHeaders(LIST)), data(2 * n + 1, most));
    },
  ],
  ["protocol-error", CODE.protocolError, (peer) => peer.write(data(1))],
  [
    // A window that grows beyond 2^31 - 1.
    "protocol-error",
    CODE.flowControlError,
    (peer) => peer.write(windowUpdateFrame(0, 2 ** 31 - 1)),
  ],
  [
    // DATA on a stream that its sender has reset.
    "protocol-error",
    CODE.streamClosed,
    (peer) => peer.write(headers(1, callHeaders(SYNC)), resetStreamFrame(1, CODE.cancel), data(1, Buffer.from("x"))),
  ],
];

describe("attacks", () => {
  it.each(FLOODS)("%s → GOAWAY, counted, and nobody else notices", async (abuse, code, attack) => {
    const f = await start({ limits: { maxBufferedBytes: 500_000 } });
    const other = f.peer().open();
    other.write(headers(1, callHeaders(SYNC)));
    const peer = f.peer().open();
    attack(peer);
    await until(() => expect(peer.goAway?.code).toBe(code));
    await until(() => expect(peer.isClosed).toBe(true));
    expect(f.abuses).toContain(abuse);
    await until(() => expect(f.streams.length).toBeGreaterThan(0));
    f.streams[0]?.peer.send(Buffer.from("x"));
    await until(() => expect(body(other)).toEqual(message(Buffer.from("x"))));
    expect(f.errors).toEqual([]);
  });

  it("a stream's window that overflows ends the stream, not the connection; DATA for it afterwards is dropped, without a word and without being held", async () => {
    const f = await start();
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    peer.write(windowUpdateFrame(1, 2 ** 31 - 1));
    await until(() => expect(peer.resetCode(1)).toBe(CODE.flowControlError));
    // Six times the connection's window: credit comes back, though nobody reads it.
    for (let n = 0; n < 6; n++) {
      const before = peer.ofType(FRAME.windowUpdate, 0).length;
      for (let i = 0; i < 64; i++) peer.write(data(1, Buffer.alloc(16_384)));
      await until(() => expect(peer.ofType(FRAME.windowUpdate, 0).length).toBeGreaterThan(before));
    }
    peer.write(headers(3, callHeaders(SYNC)), data(3, message(Buffer.from("on"))));
    await until(() => expect(f.streams[1]?.messages).toEqual(["on"]));
    expect([f.streams[0]?.messages, f.streams[0]?.closes, peer.goAway]).toEqual([[], 1, undefined]);
  });

  it("a record stream that announces 4 GB, or whose 20 KB unpack to 20 MB, ends with RESOURCE_EXHAUSTED at once; the next is served", async () => {
    const f = await start();
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)), data(1, Buffer.from([0, 0xff, 0xff, 0xff, 0xff])));
    const bomb = message(gzipSync(Buffer.alloc(20_000_000)), 1);
    peer.write(headers(3, callHeaders(SYNC, [["grpc-encoding", "gzip"]])));
    for (let at = 0; at < bomb.length; at += 16_384) peer.write(data(3, bomb.subarray(at, at + 16_384)));
    await until(() => expect([1, 3].map((id) => peer.ofType(FRAME.headers, id).length)).toEqual([1, 1]));
    const ends = await statusesOf(peer);
    expect([ends.get(1), ends.get(3)]).toEqual([status.RESOURCE_EXHAUSTED, status.RESOURCE_EXHAUSTED]);
    peer.write(headers(5, callHeaders(SYNC)), data(5, message(Buffer.from("on"))));
    await until(() => expect(f.streams[2]?.messages).toEqual(["on"]));
  });

  it("a preface that comes byte by byte has the time of any other, and one that is complete in time is served", async () => {
    let now = 0;
    const f = await start({ now: () => now, limits: { prefaceTimeoutMs: 40 } });
    const [slow, patient] = [f.peer(), f.peer()];
    const greeting = Buffer.concat([PREFACE, settingsFrame([])]);
    for (const byte of PREFACE.subarray(0, 20)) slow.write(Buffer.from([byte]));
    for (const byte of greeting) patient.write(Buffer.from([byte]));
    await until(() => expect(patient.ofType(FRAME.settings).length).toBeGreaterThan(0));
    now = 41;
    await until(() => expect(slow.isClosed).toBe(true));
    expect(f.abuses).toEqual(["slow-preface"]);
    patient.write(headers(1, callHeaders(SYNC)), data(1, message(Buffer.from("on"))));
    await until(() => expect(f.streams[0]?.messages).toEqual(["on"]));
  });

  it.each([true, false])("written straight to the socket or through the stream (%s): a slow reader gets every byte in order", async (isDirect) => {
    const f = await start({ isDirect });
    const peer = f.peer().open([[SETTING.initialWindowSize, 2 ** 31 - 1]]);
    peer.write(windowUpdateFrame(0, 2 ** 31 - 1 - 65_535), headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    peer.socket.pause();
    const stream = f.streams[0]?.peer;
    const sent = Array.from({ length: 3_000 }, (_, i) => Buffer.alloc(1 + ((i * 7919) % 9_000), i));
    for (const [i, bytes] of sent.entries()) {
      stream?.send(bytes, i % 3 !== 0);
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect(stream?.bytesInFlight).toBeGreaterThan(0);
    peer.socket.resume();
    const expected = Buffer.concat(sent.map((bytes) => message(bytes)));
    await until(() => expect(body(peer).length).toBe(expected.length));
    expect(body(peer).equals(expected)).toBe(true);
    await until(() => expect(stream?.bytesInFlight).toBe(0));
  });

  it("streams beyond the limit are refused, those below go on", async () => {
    const f = await start({ limits: { maxStreams: 2 } });
    const peer = f.peer().open();
    for (const id of [1, 3, 5]) peer.write(headers(id, callHeaders(SYNC)));
    await until(() => expect(peer.resetCode(5)).toBe(CODE.refusedStream));
    expect(f.streams).toHaveLength(2);
    peer.write(resetStreamFrame(1, CODE.cancel), headers(7, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(3));
    expect(f.abuses).toEqual(["too-many-streams"]);
  });

  it("pings whose answers are not read → the connection is cut at the bound", async () => {
    const f = await start({ limits: { maxControlBacklogBytes: 100 } });
    const peer = f.peer().open([[SETTING.initialWindowSize, 2 ** 31 - 1]]);
    peer.write(windowUpdateFrame(0, 2 ** 31 - 65_536), headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    peer.socket.pause();
    const stream = f.streams[0]?.peer;
    await until(() => {
      stream?.send(Buffer.alloc(200_000));
      expect(stream?.bytesInFlight).toBeGreaterThan(2_000_000);
    });
    for (let n = 0; n < 50; n++) peer.write(frame(FRAME.ping, 0, 0, Buffer.alloc(8)));
    await until(() => expect(f.abuses).toEqual(["control-backlog"]));
    await until(() => expect(f.streams[0]?.closes).toBe(1));
  });

  it.each<[Abuse, number, Buffer]>([
    ["slow-preface", CODE.enhanceYourCalm, PREFACE.subarray(0, 5)],
    ["slow-preface", CODE.enhanceYourCalm, PREFACE],
    ["no-request", CODE.noError, Buffer.concat([PREFACE, settingsFrame([])])],
  ])("%s: who begins and does not go on is closed", async (abuse, code, bytes) => {
    const f = await start({ limits: { prefaceTimeoutMs: 40, firstRequestTimeoutMs: 60 } });
    const peer = f.peer().write(bytes);
    await until(() => expect(peer.goAway?.code).toBe(code));
    await until(() => expect(peer.isClosed).toBe(true));
    expect(f.abuses).toEqual([abuse]);
  });

  it("not HTTP/2 at all → closed", async () => {
    const f = await start();
    const peer = f.peer().write(Buffer.from("GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
    await until(() => expect(peer.isClosed).toBe(true));
    expect(f.abuses).toEqual(["protocol-error"]);
  });

  it("connections beyond the bounds are closed at once; those that made a request do not count as idle", async () => {
    const f = await start({ limits: { maxIdleConnections: 2 } });
    const first = f.peer().open();
    first.write(headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams).toHaveLength(1));
    const idle = [f.peer().open(), f.peer().open()];
    await until(() => expect(idle.every((peer) => peer.ofType(FRAME.settings).length > 0)).toBe(true));
    const refused = f.peer().open();
    await until(() => expect(refused.isClosed).toBe(true));
    expect(f.abuses).toEqual(["too-many-connections"]);
    idle[0]?.[Symbol.dispose]();
    await until(async () => {
      const next = f.peer().open();
      await until(() => expect(next.isClosed || next.ofType(FRAME.settings).length > 0).toBe(true));
      expect(next.isClosed).toBe(false);
    });
  });

  it("a peer that does not answer a ping is dead", async () => {
    const f = await start({ keepaliveMs: 40, keepaliveTimeoutMs: 40 });
    const peer = f.peer().open();
    peer.write(headers(1, callHeaders(SYNC)));
    await until(() => expect(f.streams[0]?.closes).toBe(1));
    expect(f.abuses).toEqual(["dead"]);
    expect(peer.ofType(FRAME.ping)).toHaveLength(1);
  });

  it("half-open TLS handshakes are closed and counted; so is a client without a certificate, uncounted", async () => {
    await using pki = await certificates();
    const f = await start({ listen: [{ host: "127.0.0.1", port: 0, tls: pki.tls }], limits: { handshakeTimeoutMs: 50 } });
    const socket = connect(Number(f.address.split(":").at(-1)), "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.on("error", () => undefined);
    await new Promise<void>((resolve) => socket.once("close", () => resolve()));
    expect(f.abuses).toEqual(["handshake-timeout"]);
    // Time enough: this one is refused, not late.
    const patient = await start({ listen: [{ host: "127.0.0.1", port: 0, tls: pki.tls }] });
    const anonymous = connectTls({
      port: Number(patient.address.split(":").at(-1)),
      host: "127.0.0.1",
      ca: pki.authority.cert,
      servername: "localhost",
      ALPNProtocols: ["h2"],
    });
    anonymous.on("error", () => undefined);
    await new Promise<void>((resolve) => anonymous.once("close", () => resolve()));
    expect(patient.abuses).toEqual([]);
  });

  it.each(DELIVERY_KINDS)("%s: a TLS session is not resumed: each connection is verified anew", async (kind) => {
    await using pki = await certificates();
    const f = await start({ listen: [{ host: "127.0.0.1", port: 0, tls: pki.tls }] }, kind);
    const { cert, key } = await pki.authority.issue({ commonName: "n1" });
    const options = {
      port: Number(f.address.split(":").at(-1)),
      host: "127.0.0.1",
      ca: pki.authority.cert,
      cert,
      key,
      servername: "localhost",
      ALPNProtocols: ["h2"],
    };
    const open = async (session?: Buffer): Promise<TLSSocket> => {
      const socket = connectTls(session === undefined ? options : { ...options, session });
      onTestFinished(() => void socket.destroy());
      socket.write(Buffer.concat([PREFACE, settingsFrame([])]));
      await new Promise<void>((resolve, reject) => {
        socket.once("data", () => resolve());
        socket.once("error", reject);
      });
      return socket;
    };
    const first = await open();
    const second = await open(first.getSession());
    expect(second.isSessionReused()).toBe(false);
  });

  it("every bound of the metric has a test here", () => {
    const tested: readonly Abuse[] = [
      ...FLOODS.map(([abuse]) => abuse),
      "zero-window",
      "handshake-timeout",
      "slow-preface",
      "no-request",
      "too-many-connections",
      "control-backlog",
      "dead",
    ];
    expect(ABUSES.filter((abuse) => !tested.includes(abuse))).toEqual([]);
  });
});

/** The gRPC (or HTTP) status of each stream, decoded in the order that the header blocks came in. */
async function statusesOf(peer: Http2Peer, name = "grpc-status"): Promise<Map<number, number>> {
  const ids = [...new Set(peer.ofType(FRAME.headers).map(({ streamId }) => streamId))];
  return new Map(ids.map((id): [number, number] => [id, Number(peer.headersOf(id)[name])]));
}
