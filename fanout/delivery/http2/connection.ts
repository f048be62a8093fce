/**
 * One HTTP/2 connection of the server (RFC 9113): frames in, streams and their state, flow control both ways, and the bounds that a peer cannot pass.
 *
 * Invariants: every error of the peer ends in the code that the RFC names, and ends what the RFC says it ends. Everything that a peer can make us hold or do is
 * bounded (`limits.ts`); what is beyond ends the connection with ENHANCE_YOUR_CALM, counted by reason. All writes of a tick leave in one.
 * Above 500 lines, because the streams and the windows are one state; header blocks, settings, the keepalive and streams that are gone have files of their own.
 */
import type { Socket } from "node:net";
import type { Lane } from "../delivery.ts";
import { DirectLane } from "./direct-lane.ts";
import { type DirectSend, descriptorOf, onGivenUp, type SendTo } from "./direct-send.ts";
import { type Ended, EndedStreams } from "./ended-streams.ts";
import {
  CODE,
  ConnectionError,
  DEFAULT_MAX_FRAME,
  DEFAULT_WINDOW,
  EMPTY,
  FLAG,
  FRAME,
  FrameReader,
  frame,
  goAwayFrame,
  headersFrames,
  MAX_WINDOW,
  PRIORITY_BYTES,
  resetStreamFrame,
  SETTINGS_ACK,
  StreamError,
  unpadded,
  windowUpdateFrame,
} from "./frames.ts";
import { type HeaderBlock, HeaderBlocks, type HeaderBlocksHost } from "./header-blocks.ts";
import { encodeHeaders, type Header } from "./hpack.ts";
import { Keepalive } from "./keepalive.ts";
import { type Abuse, type Budgeted, Budgets, type Http2Limits } from "./limits.ts";
import { Output, type OutputHost } from "./output.ts";
import { checkTrailers, parseRequest, type Request } from "./request.ts";
import { greeting, isSettingsAck, readSettings } from "./settings.ts";
import type { SharedFrames } from "./shared-frames.ts";
import type { SharedReads } from "./shared-reads.ts";
import { Http2Stream, type StreamHost, type StreamSink } from "./stream.ts";

export interface ConnectionHost {
  readonly limits: Http2Limits;
  readonly frames: SharedFrames;
  readonly reads: SharedReads;
  /** Undefined: everything goes through Node's streams. */
  readonly direct: DirectSend | undefined;
  /** Undefined: streams have no lane. */
  readonly sendTo: SendTo | undefined;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Monotonic ms. */
  readonly now: () => number;
  /** A request has come; the sink is what hears the stream. Undefined: it was answered already. */
  serve(connection: Connection, stream: Http2Stream, request: Request): StreamSink | undefined;
  /** Calls `flush` before the tick ends. */
  flushSoon(connection: Connection): void;
  onAbuse(abuse: Abuse): void;
  onFirstRequest(): void;
  /** Over, and forgotten by the system. */
  onClosed(connection: Connection): void;
  /** An error of ours. */
  onError(error: unknown): void;
}

const FRAME_ID_BYTES = 4;
const PING_BYTES = 8;
/** How long a peer may take to close after GOAWAY. */
const LINGER_MS = 1_000;
/** Told to a client whose header list is too large (RFC 6585 section 5). */
const TOO_LARGE = encodeHeaders([[":status", "431"]]);
const PING = frame(FRAME.ping, 0, 0, Buffer.from("sedge\0\0\0", "latin1"));

export class Connection implements StreamHost, OutputHost, HeaderBlocksHost {
  readonly socket: Socket;
  /** "10.0.0.1:40000", for people. */
  readonly address: string;
  readonly #host: ConnectionHost;
  readonly #reader: FrameReader;
  readonly #blocks: HeaderBlocks;
  readonly #output: Output;
  readonly #streams = new Map<number, Http2Stream>();
  readonly #ended = new EndedStreams();
  readonly #keepalive: Keepalive;
  #budgets: Budgets | undefined;
  #lastStreamId = 0;
  #sendWindow = DEFAULT_WINDOW;
  #receiveWindow = DEFAULT_WINDOW;
  #unreturned = 0;
  /** What a new stream may send, by the peer's settings. */
  #peerWindow = DEFAULT_WINDOW;
  /** Streams that have bytes queued. */
  #waiting = 0;
  #bufferedBytes = 0;
  #controlBacklog = 0;
  readonly #openedAt: number;
  #hasSettings = false;
  #hasRequested = false;
  #isLeaving = false;
  #closingSince: number | undefined;
  #lane: DirectLane | undefined;
  #laneStream: Http2Stream | undefined;
  #isClosed = false;

  constructor({ socket, host, address }: { readonly socket: Socket; readonly host: ConnectionHost; readonly address: string }) {
    this.socket = socket;
    this.#host = host;
    this.address = address;
    this.#openedAt = host.now();
    this.#keepalive = new Keepalive(this.#openedAt);
    this.#reader = new FrameReader({
      maxFrameBytes: DEFAULT_MAX_FRAME,
      onFrame: (type, flags, streamId, payload) => this.#onFrame(type, flags, streamId, payload),
    });
    this.#blocks = new HeaderBlocks(this);
    this.#output = new Output(socket, this);
    socket.on("drain", () => this.#onDrain());
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#onClose());
    host.reads.attach(socket, (chunk) => this.#onChunk(chunk));
  }

  get limits(): Http2Limits {
    return this.#host.limits;
  }

  get hasRequested(): boolean {
    return this.#hasRequested;
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  get bytesInFlight(): number {
    return this.#output.bytes;
  }

  get room(): number {
    this.#lane?.settle();
    return this.#output.isFull ? 0 : this.#sendWindow;
  }

  get now(): () => number {
    return this.#host.now;
  }

  get direct(): DirectSend | undefined {
    return this.#host.direct;
  }

  flushSoon(): void {
    this.#host.flushSoon(this);
  }

  /** Bytes of incomplete messages changed by so many; beyond the bound the connection ends. */
  buffered(change: number): void {
    this.#bufferedBytes += change;
    if (this.#bufferedBytes > this.#host.limits.maxBufferedBytes) throw this.abused("too-much-buffered", "more unfinished messages than are held");
  }

  write(bytes: Uint8Array, dataBytes: number): void {
    this.#lane?.settle();
    this.#sendWindow -= dataBytes;
    this.#output.write(bytes);
  }

  writeNow(bytes: Uint8Array, dataBytes: number): void {
    this.#lane?.settle();
    this.#sendWindow -= dataBytes;
    if (this.#closingSince === undefined) this.#output.writeNow(bytes);
    else this.#output.write(bytes);
  }

  waiting(change: 1 | -1): void {
    this.#waiting += change;
  }

  /** The first stream that asks has it. */
  laneOf(stream: Http2Stream): Lane | undefined {
    const { sendTo, frames } = this.#host;
    if (sendTo !== undefined && this.#laneStream === undefined) {
      this.#laneStream = stream;
      const lane = new DirectLane({
        sendTo,
        framed: (message) => frames.framed(message, stream.id),
        openLane: () => this.#openLane(stream),
        spentByLane: (bytes) => {
          stream.sendWindow -= bytes;
          this.#sendWindow -= bytes;
        },
        keepOfLane: (bytes) => this.#output.keep(bytes),
      });
      onGivenUp(this.socket, () => lane.settle());
      this.#lane = lane;
    }
    return this.#laneStream === stream ? this.#lane : undefined;
  }

  #openLane(stream: Http2Stream): { readonly descriptor: number; readonly bytes: number } | undefined {
    const isFree = stream.isClear && this.#closingSince === undefined && !this.socket.destroyed && this.#output.isIdle;
    const descriptor = isFree ? descriptorOf(this.socket) : undefined;
    return descriptor === undefined ? undefined : { descriptor, bytes: Math.min(stream.sendWindow, this.#sendWindow) };
  }

  duePing(): Buffer | undefined {
    return this.#closingSince === undefined && this.#keepalive.isEarly(this.#host.now(), this.#host) ? PING : undefined;
  }

  shared(message: Uint8Array, streamId: number): Buffer {
    return this.#host.frames.framed(message, streamId);
  }

  headers(streamId: number, block: Buffer, isLast: boolean): void {
    this.write(headersFrames(streamId, block, { isLast, maxFrameBytes: DEFAULT_MAX_FRAME }), 0);
  }

  finished(stream: Http2Stream): void {
    if (!stream.isRemoteClosed) this.write(resetStreamFrame(stream.id, CODE.noError), 0);
    this.#forget(stream, stream.isRemoteClosed ? "done" : "ours");
  }

  reset(stream: Http2Stream, code: number): void {
    if (stream.isOver) return;
    this.write(resetStreamFrame(stream.id, code), 0);
    this.#forget(stream, "ours");
  }

  credit(stream: Http2Stream): void {
    if (stream.isOver || stream.isRemoteClosed || stream.unreturned < this.#host.limits.streamWindowBytes / 2) return;
    this.write(windowUpdateFrame(stream.id, stream.unreturned), 0);
    stream.receiveWindow += stream.unreturned;
    stream.unreturned = 0;
  }

  /** Hands what this tick wrote to the system. */
  flush(): void {
    if (this.#output.flush() && !this.#output.needsDrain) this.#onRoom();
  }

  /** No new streams; the connection ends with its last one. */
  leave(): void {
    if (this.#isLeaving || this.#closingSince !== undefined) return;
    this.#isLeaving = true;
    this.write(goAwayFrame(this.#lastStreamId, CODE.noError, "the server is stopping"), 0);
    this.#closeWhenDone();
  }

  /** Ends it at once, without a word. */
  destroy(): void {
    this.socket.destroy();
  }

  /** Everything that has a time limit. Called about once a second, and more often when limits are short. */
  sweep(now: number): void {
    const { limits } = this.#host;
    if (this.#closingSince !== undefined) {
      if (now - this.#closingSince >= LINGER_MS) this.destroy();
      return;
    }
    if (!this.#hasSettings) {
      if (now - this.#openedAt >= limits.prefaceTimeoutMs) this.#fail(this.abused("slow-preface", "no preface in time"));
      return;
    }
    if (!this.#hasRequested && now - this.#openedAt >= limits.firstRequestTimeoutMs) {
      this.#host.onAbuse("no-request");
      this.#fail(new ConnectionError(CODE.noError, "no request in time"));
      return;
    }
    if (this.#waiting > 0) for (const stream of this.#streams.values()) this.#sweepStream(stream, now);
    const due = this.#keepalive.sweep(now, this.#host);
    if (due === "ping") this.write(PING, 0);
    else if (due === "dead") {
      this.#host.onAbuse("dead");
      this.destroy();
    }
  }

  #sweepStream(stream: Http2Stream, now: number): void {
    if (stream.blockedSince === undefined || now - stream.blockedSince < this.#host.limits.stallTimeoutMs) return;
    if (!stream.isStallCounted) this.#host.onAbuse("zero-window");
    stream.isStallCounted = true;
    if (!stream.isPatient) this.reset(stream, CODE.cancel);
  }

  #onChunk(chunk: Buffer): void {
    this.#keepalive.heard();
    if (this.#closingSince !== undefined) return;
    let rest = chunk;
    for (;;) {
      try {
        this.#reader.read(rest);
        return;
      } catch (error) {
        if (!(error instanceof StreamError)) {
          this.#fail(error);
          return;
        }
        if (!this.#refuse(error)) return;
        rest = EMPTY;
      }
    }
  }

  /** Resets the stream; false: there were too many of these. */
  #refuse({ streamId, code }: StreamError): boolean {
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.reset(stream, code);
    else {
      this.write(resetStreamFrame(streamId, code), 0);
      if (streamId <= this.#lastStreamId) this.#ended.note(streamId, "ours");
    }
    try {
      this.#spend("rapid-reset");
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  #onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    if (!this.#hasSettings && type !== FRAME.settings) throw new ConnectionError(CODE.protocolError, "the first frame must be SETTINGS");
    this.#blocks.check(type, streamId);
    switch (type) {
      case FRAME.data:
        return this.#onData(flags, streamId, payload);
      case FRAME.headers:
        return this.#onBlock(this.#blocks.begin(flags, streamId, payload));
      case FRAME.priority:
        return this.#onPriority(streamId, payload);
      case FRAME.resetStream:
        return this.#onResetStream(streamId, payload);
      case FRAME.settings:
        return this.#onSettings(flags, streamId, payload);
      case FRAME.pushPromise:
        throw new ConnectionError(CODE.protocolError, "a client cannot push");
      case FRAME.ping:
        return this.#onPing(flags, streamId, payload);
      case FRAME.goAway:
        if (streamId !== 0) throw new ConnectionError(CODE.protocolError, "GOAWAY on a stream");
        this.#isLeaving = true;
        return this.#closeWhenDone();
      case FRAME.windowUpdate:
        return this.#onWindowUpdate(streamId, payload);
      case FRAME.continuation:
        return this.#onBlock(this.#blocks.continue(flags, payload));
      default:
        return this.#spend("priority-flood");
    }
  }

  #onData(flags: number, streamId: number, padded: Buffer): void {
    const stream = this.#findStream(streamId, "DATA");
    this.#receiveWindow -= padded.length;
    if (this.#receiveWindow < 0) throw new ConnectionError(CODE.flowControlError, "more DATA than the connection's window");
    const payload = unpadded(flags, padded);
    this.#returnCredit(padded.length);
    const isEnd = (flags & FLAG.endStream) !== 0;
    if (payload.length === 0 && !isEnd) this.#spend("empty-frames");
    if (stream === undefined) {
      if (this.#ended.find(streamId) === "ours") return;
      throw new ConnectionError(CODE.streamClosed, `DATA on stream ${streamId}, which has ended`);
    }
    if (stream.isRemoteClosed) throw new StreamError(streamId, CODE.streamClosed, "DATA after END_STREAM");
    stream.receiveWindow -= padded.length;
    if (stream.receiveWindow < 0) throw new StreamError(streamId, CODE.flowControlError, "more DATA than the stream's window");
    stream.unreturned += padded.length;
    this.#countBody(stream, payload.length, isEnd);
    if (payload.length > 0 && stream.sink?.onData(payload) === false) this.#endRemote(stream, isEnd);
    else {
      this.#endRemote(stream, isEnd);
      this.credit(stream);
    }
  }

  /** RFC 9113 section 8.1.1. */
  #countBody(stream: Http2Stream, bytes: number, isEnd: boolean): void {
    if (stream.remaining === undefined) return;
    stream.remaining -= bytes;
    if (stream.remaining < 0 || (isEnd && stream.remaining > 0))
      throw new StreamError(stream.id, CODE.protocolError, "DATA does not agree with content-length");
  }

  #endRemote(stream: Http2Stream, isEnd: boolean): void {
    if (!isEnd || stream.isOver) return;
    stream.isRemoteClosed = true;
    stream.sink?.onEnd();
  }

  #returnCredit(bytes: number): void {
    this.#unreturned += bytes;
    if (this.#unreturned < this.#host.limits.connectionWindowBytes / 2) return;
    this.write(windowUpdateFrame(0, this.#unreturned), 0);
    this.#receiveWindow += this.#unreturned;
    this.#unreturned = 0;
  }

  /** Undefined: it goes on. */
  #onBlock(block: HeaderBlock | undefined): void {
    if (block === undefined) return;
    const { streamId, headers, isEnd, isTooLarge } = block;
    if (isTooLarge) this.#host.onAbuse("header-bomb");
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.#onTrailers(stream, headers, isEnd);
    else if (this.#ended.find(streamId) !== "ours") this.#onRequest(block);
  }

  #onTrailers(stream: Http2Stream, headers: readonly Header[], isEnd: boolean): void {
    if (stream.isRemoteClosed) throw new StreamError(stream.id, CODE.streamClosed, "HEADERS after END_STREAM");
    if (!isEnd) throw new StreamError(stream.id, CODE.protocolError, "trailers without END_STREAM");
    checkTrailers(stream.id, headers);
    this.#countBody(stream, 0, true);
    this.#endRemote(stream, true);
  }

  #onRequest({ streamId, headers, isTooLarge, isEnd, isSelfDependent }: HeaderBlock): void {
    if (this.#ended.find(streamId) === "done") throw new ConnectionError(CODE.streamClosed, `HEADERS on stream ${streamId}, which has ended`);
    if (streamId % 2 === 0 || streamId <= this.#lastStreamId) throw new ConnectionError(CODE.protocolError, `stream ${streamId} cannot be opened`);
    this.#lastStreamId = streamId;
    if (this.#isLeaving) throw new StreamError(streamId, CODE.refusedStream, "after GOAWAY");
    if (this.#streams.size >= this.#host.limits.maxStreams) {
      this.#host.onAbuse("too-many-streams");
      this.#spend("too-many-streams");
      throw new StreamError(streamId, CODE.refusedStream, "too many streams");
    }
    if (isSelfDependent) throw new StreamError(streamId, CODE.protocolError, "a stream depends on itself");
    const stream = new Http2Stream({ id: streamId, host: this, sendWindow: this.#peerWindow, receiveWindow: this.#host.limits.streamWindowBytes });
    stream.isRemoteClosed = isEnd;
    if (isTooLarge) {
      this.#streams.set(streamId, stream);
      this.headers(streamId, TOO_LARGE, true);
      this.finished(stream);
      return;
    }
    const request = parseRequest(streamId, headers);
    stream.remaining = request.contentLength;
    this.#countBody(stream, 0, isEnd);
    this.#streams.set(streamId, stream);
    if (!this.#hasRequested) {
      this.#hasRequested = true;
      this.#host.onFirstRequest();
    }
    const sink = this.#host.serve(this, stream, request);
    if (stream.isOver || stream.isEnding) return;
    stream.sink = sink;
    if (isEnd) sink?.onEnd();
  }

  #onPriority(streamId: number, payload: Buffer): void {
    if (streamId === 0) throw new ConnectionError(CODE.protocolError, "PRIORITY on stream 0");
    this.#spend("priority-flood");
    if (payload.length !== PRIORITY_BYTES) throw new StreamError(streamId, CODE.frameSizeError, "PRIORITY has 5 bytes");
    if ((payload.readUInt32BE(0) & MAX_WINDOW) === streamId) throw new StreamError(streamId, CODE.protocolError, "a stream depends on itself");
  }

  #onResetStream(streamId: number, payload: Buffer): void {
    if (payload.length !== FRAME_ID_BYTES) throw new ConnectionError(CODE.frameSizeError, "RST_STREAM has 4 bytes");
    const stream = this.#findStream(streamId, "RST_STREAM");
    this.#spend("rapid-reset");
    if (stream !== undefined) this.#forget(stream, "done");
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (isSettingsAck(flags, streamId, payload)) {
      if (!this.#hasSettings) throw new ConnectionError(CODE.protocolError, "the first frame must be SETTINGS");
      return;
    }
    this.#spend("settings-flood");
    readSettings(payload, (bytes) => this.#onInitialWindow(bytes));
    if (!this.#hasSettings) this.#greet();
    this.#control(SETTINGS_ACK);
    this.#pump();
  }

  #greet(): void {
    this.#hasSettings = true;
    for (const bytes of greeting(this.#host.limits)) this.write(bytes, 0);
    this.#receiveWindow = this.#host.limits.connectionWindowBytes;
  }

  #onInitialWindow(bytes: number): void {
    this.#lane?.settle();
    for (const stream of this.#streams.values()) {
      stream.sendWindow += bytes - this.#peerWindow;
      if (stream.sendWindow > MAX_WINDOW) throw new ConnectionError(CODE.flowControlError, "INITIAL_WINDOW_SIZE makes a window too large");
    }
    this.#peerWindow = bytes;
  }

  #onPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw new ConnectionError(CODE.protocolError, "PING on a stream");
    if (payload.length !== PING_BYTES) throw new ConnectionError(CODE.frameSizeError, "PING has 8 bytes");
    if ((flags & FLAG.ack) !== 0) return;
    this.#spend("ping-flood");
    this.#control(frame(FRAME.ping, FLAG.ack, 0, payload));
  }

  #onWindowUpdate(streamId: number, payload: Buffer): void {
    if (payload.length !== FRAME_ID_BYTES) throw new ConnectionError(CODE.frameSizeError, "WINDOW_UPDATE has 4 bytes");
    this.#spend("window-flood");
    this.#lane?.settle();
    const increment = payload.readUInt32BE(0) & MAX_WINDOW;
    if (streamId === 0) {
      if (increment === 0) throw new ConnectionError(CODE.protocolError, "WINDOW_UPDATE of nothing");
      this.#sendWindow += increment;
      if (this.#sendWindow > MAX_WINDOW) throw new ConnectionError(CODE.flowControlError, "the connection's window is too large");
    } else {
      const stream = this.#findStream(streamId, "WINDOW_UPDATE");
      if (stream === undefined) return;
      if (increment === 0) throw new StreamError(streamId, CODE.protocolError, "WINDOW_UPDATE of nothing");
      stream.sendWindow += increment;
      if (stream.sendWindow > MAX_WINDOW) throw new StreamError(streamId, CODE.flowControlError, "the stream's window is too large");
    }
    this.#pump();
  }

  /** Undefined: it has ended. Throws for streams that never were. */
  #findStream(streamId: number, what: string): Http2Stream | undefined {
    const stream = this.#streams.get(streamId);
    if (stream === undefined && (streamId === 0 || streamId > this.#lastStreamId || streamId % 2 === 0))
      throw new ConnectionError(CODE.protocolError, `${what} on stream ${streamId}, which was never opened`);
    return stream;
  }

  /** Sends what waits, streams taking turns, until the windows or the socket are full. */
  #pump(): void {
    for (let hasMoved = true; hasMoved && this.#waiting > 0; ) {
      hasMoved = false;
      for (const stream of this.#streams.values()) if (stream.queuedBytes > 0 && stream.pump()) hasMoved = true;
    }
  }

  /** One for all writes: called when what was given so far has left. */
  readonly onTaken = (): void => {
    if (!this.#isClosed && !this.socket.destroyed && !this.socket.writableNeedDrain) this.#onRoom();
  };

  #onDrain(): void {
    this.#controlBacklog = 0;
    this.#onRoom();
  }

  /** The socket has room: what waits goes first, then the streams' owners hear of it. */
  #onRoom(): void {
    this.#pump();
    for (const stream of this.#streams.values()) stream.sink?.onDrain();
  }

  /** An answer that the peer asked for. */
  #control(bytes: Buffer): void {
    if (this.#output.needsDrain) {
      this.#controlBacklog += bytes.length;
      if (this.#controlBacklog > this.#host.limits.maxControlBacklogBytes) {
        this.#host.onAbuse("control-backlog");
        this.destroy();
        return;
      }
    }
    this.write(bytes, 0);
  }

  #spend(kind: Budgeted): void {
    this.#budgets ??= new Budgets();
    if (!this.#budgets.spend(kind, this.#host.now())) throw this.abused(kind, `${kind}: more than this server serves`);
  }

  abused(abuse: Abuse, message: string): ConnectionError {
    this.#host.onAbuse(abuse);
    return new ConnectionError(CODE.enhanceYourCalm, message);
  }

  /** GOAWAY, then the end. */
  #fail(error: unknown): void {
    if (this.#closingSince !== undefined || this.#isClosed) return;
    this.#closingSince = this.#host.now();
    this.#reader.stop();
    const isTheirs = error instanceof ConnectionError;
    if (!isTheirs) this.#host.onError(error);
    else if (error.code !== CODE.enhanceYourCalm && error.code !== CODE.noError) this.#host.onAbuse("protocol-error");
    this.#closeStreams();
    this.write(goAwayFrame(this.#lastStreamId, isTheirs ? error.code : CODE.internalError, isTheirs ? error.message : ""), 0);
    this.flush();
    this.socket.end();
  }

  #closeWhenDone(): void {
    if (!this.#isLeaving || this.#streams.size > 0 || this.#closingSince !== undefined) return;
    this.#closingSince = this.#host.now();
    this.flush();
    this.socket.end();
  }

  #forget(stream: Http2Stream, how: Ended): void {
    this.#lane?.settle();
    this.#streams.delete(stream.id);
    this.#ended.note(stream.id, how);
    stream.close();
    this.#closeWhenDone();
  }

  #closeStreams(): void {
    this.#lane?.settle();
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const stream of streams) stream.close();
  }

  #onClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reader.stop();
    this.#output.close();
    this.#closeStreams();
    this.#host.onClosed(this);
  }
}
