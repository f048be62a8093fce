/**
 * The record stream and all unary services over our own HTTP/2, plain or with mutual TLS, behind the interface and with the handlers of the grpc-js delivery.
 *
 * Why: a delivery over grpc-js costs about twice the processor time and several times the memory of frames that are written straight to the socket, and the
 * fan-out server does little else. One timer serves all connections; all writes of a tick to one connection leave as one.
 * Rejected: node:http2 (its cost is near grpc-js's, and its bounds are not ours to set).
 */
import { createServer as createPlainServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, TLSSocket, type Server as TlsServer } from "node:tls";
import { status } from "@grpc/grpc-js";
import { StartError } from "../../../src/runtime/start-error.ts";
import { RawRelayService, RawSyncService } from "../../../src/wire/service.ts";
import { type Identity, identityOfCertificate } from "../../identity.ts";
import { CallError } from "../../status.ts";
import { CertificateFiles } from "../certificate-files.ts";
import type { AcceptStream, Delivery } from "../delivery.ts";
import type { GrpcDeliveryOptions, GrpcListen, IdentityOfCall } from "../grpc-delivery.ts";
import { formatAddress, removeSocket, requireLoopback } from "../listen.ts";
import { Connection, type ConnectionHost } from "./connection.ts";
import { type DirectSend, directSend, loadSendTo, type SendTo } from "./direct-send.ts";
import { GrpcError, statusOfEnd } from "./grpc-error.ts";
import { HandshakePace } from "./handshakes.ts";
import { type Abuse, HTTP2_LIMITS, type Http2Limits } from "./limits.ts";
import { MessageReader } from "./message-reader.ts";
import { type MethodTable, methodTable } from "./method-table.ts";
import { NotGrpc } from "./not-grpc.ts";
import { RecordStream } from "./record-stream.ts";
import { type CallTerms, type Request, refusedHttpStatus, termsOf } from "./request.ts";
import { trailersOf } from "./responses.ts";
import { ServiceCall } from "./service-call.ts";
import { SharedFrames } from "./shared-frames.ts";
import { SharedReads } from "./shared-reads.ts";
import type { Http2Stream, StreamSink } from "./stream.ts";

export interface Http2DeliveryOptions extends GrpcDeliveryOptions {
  readonly limits?: Partial<Http2Limits>;
  /** False: plain connections are written through Node's streams only. */
  readonly isDirect?: boolean;
  /** A peer was refused or cut. */
  readonly onAbuse?: (abuse: Abuse) => void;
  /** Monotonic ms. */
  readonly now?: () => number;
}

const BACKLOG = 4096;
/** The longest timer that there is. */
const MAX_TIMER_MS = 2 ** 31 - 1;
const ALPN = ["h2"];

/** Opens the listeners; rejects with the address and the system's reason when one cannot be opened. */
export async function startHttp2Delivery(options: Http2DeliveryOptions): Promise<Delivery> {
  const listeners: Listener[] = [];
  try {
    for (const listen of options.listen) {
      requireLoopback(listen);
      const listener = new Listener(listen, options);
      listeners.push(listener);
      await listener.open();
    }
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.stop(0)));
    throw error;
  }
  return {
    addresses: listeners.map(({ address, isSecure }) => ({ address, isSecure })),
    reloadCertificates: () => listeners.filter((listener) => listener.reload()).length > 0,
    stop: async (graceMs) => {
      await Promise.all(listeners.map((listener) => listener.stop(graceMs)));
    },
  };
}

/** One door: who a peer is follows from the one that it came through. */
class Listener implements ConnectionHost {
  readonly limits: Http2Limits;
  readonly frames = new SharedFrames();
  readonly reads = new SharedReads();
  readonly direct: DirectSend | undefined;
  readonly sendTo: SendTo | undefined;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly now: () => number;
  address: string;
  readonly #listen: GrpcListen;
  readonly #options: Http2DeliveryOptions;
  readonly #certificates: CertificateFiles | undefined;
  readonly #server: Server;
  /** Does not listen: connections are handed to it at a pace. Undefined: plain text. */
  readonly #tls: TlsServer | undefined;
  readonly #handshakes: HandshakePace<Socket>;
  readonly #methods: MethodTable;
  readonly #connections = new Set<Connection>();
  /** Sockets, those in a TLS handshake among them. */
  readonly #sockets = new Set<Socket>();
  #idle = 0;
  #toFlush: Connection[] = [];
  #timer: NodeJS.Timeout | undefined;
  #onEmpty: (() => void) | undefined;

  constructor(listen: GrpcListen, options: Http2DeliveryOptions) {
    this.#listen = listen;
    this.#options = options;
    this.limits = { ...HTTP2_LIMITS, ...options.limits };
    this.sendTo = options.isDirect === false || listen.tls !== undefined ? undefined : loadSendTo();
    this.direct = this.sendTo === undefined ? undefined : directSend(this.sendTo);
    this.keepaliveMs = options.keepaliveMs;
    this.keepaliveTimeoutMs = options.keepaliveTimeoutMs;
    this.now = options.now ?? ((): number => performance.now());
    this.address = formatAddress(listen.host, listen.port);
    const identityOf: IdentityOfCall = listen.tls === undefined ? identityOfLocal : identityOfTls;
    this.#methods = methodTable([
      { definition: RawSyncService, implementation: options.unary(identityOf) },
      ...options.services.map(({ definition, implement }) => ({ definition, implementation: implement(identityOf) })),
    ]);
    this.#certificates = listen.tls === undefined ? undefined : new CertificateFiles(listen.tls);
    const { handshakesAtOnce: atOnce, handshakePlaceMs: placeMs, handshakeTimeoutMs: timeoutMs } = this.limits;
    this.#handshakes = new HandshakePace(
      { atOnce, placeMs, timeoutMs, now: this.now },
      { begin: (socket) => this.#tls?.emit("connection", socket), nameOf: peerOf, onTimeout: () => this.onAbuse("handshake-timeout") },
    );
    this.#tls = this.#certificates === undefined ? undefined : this.#tlsServer(this.#certificates);
    this.#server = this.#tls === undefined ? this.#plainServer() : this.#securedServer();
  }

  get isSecure(): boolean {
    return this.#certificates !== undefined;
  }

  async open(): Promise<void> {
    const { host, port, isPortShared = false } = this.#listen;
    const isUnix = host.startsWith("unix:");
    if (isUnix) removeSocket(host.slice("unix:".length));
    const where = isUnix ? { path: host.slice("unix:".length) } : { host: host.replace(/^\[(.*)\]$/, "$1"), port };
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error) =>
        reject(new StartError(`cannot listen on ${formatAddress(host, port)}: ${error.message}; choose another address or port`, { cause: error })),
      );
      this.#server.listen({ ...where, backlog: BACKLOG, ...(isPortShared ? { reusePort: true } : {}) }, resolve);
    });
    const bound = this.#server.address();
    if (typeof bound === "object" && bound !== null) this.address = formatAddress(host, bound.port);
    this.#timer = setInterval(() => this.#sweep(), this.#sweepMs());
  }

  /** True: other certificates are used from now on. */
  reload(): boolean {
    if (this.#certificates?.reload() !== true) return false;
    this.#tls?.setSecureContext(this.#certificates.context);
    return true;
  }

  async stop(graceMs: number): Promise<void> {
    this.#server.close();
    for (const connection of this.#connections) connection.leave();
    if (this.#sockets.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, graceMs);
        this.#onEmpty = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    for (const socket of this.#sockets) socket.destroy();
    clearInterval(this.#timer);
  }

  serve(connection: Connection, stream: Http2Stream, request: Request): StreamSink | undefined {
    const httpStatus = refusedHttpStatus(request);
    if (httpStatus !== undefined) return new NotGrpc({ stream, httpStatus, hasBody: request.method !== "HEAD" });
    try {
      const terms = termsOf(request);
      if (terms.path === RawSyncService.sync.path) return this.#serveRecords(connection, stream, terms, this.#options.accept);
      const { acceptRelay } = this.#options;
      if (terms.path === RawRelayService.relay.path && acceptRelay !== undefined) return this.#serveRecords(connection, stream, terms, acceptRelay);
      return this.#serveCall(connection, stream, terms);
    } catch (error) {
      if (!(error instanceof GrpcError || error instanceof CallError)) this.onError(error);
      stream.finish(trailersOf(statusOfEnd(error), true));
      return undefined;
    }
  }

  flushSoon(connection: Connection): void {
    if (this.#toFlush.push(connection) === 1) process.nextTick(flushAll, this);
  }

  flushNow(): void {
    const due = this.#toFlush;
    this.#toFlush = [];
    for (const connection of due) connection.flush();
    this.frames.clear();
  }

  onAbuse(abuse: Abuse): void {
    this.#options.onAbuse?.(abuse);
  }

  onFirstRequest(): void {
    this.#idle--;
  }

  onClosed(connection: Connection): void {
    this.#connections.delete(connection);
    if (!connection.hasRequested) this.#idle--;
  }

  onError(error: unknown): void {
    this.#options.onStreamError(error);
  }

  /** Throws CallError("unidentified"). */
  #serveRecords(connection: Connection, stream: Http2Stream, terms: CallTerms, accept: AcceptStream): StreamSink {
    const identity: Identity = this.#certificates === undefined ? { kind: "local" } : identityOfCertificate(certificateOf(connection.socket));
    const records = new RecordStream({
      stream,
      reader: this.#reader(connection, terms),
      identity,
      address: connection.address,
      accept,
      onError: (error) => this.onError(error),
    });
    this.#limitTime(terms, stream, records);
    return records;
  }

  #serveCall(connection: Connection, stream: Http2Stream, terms: CallTerms): StreamSink {
    const found = this.#methods.get(terms.path);
    if (found === undefined) throw new GrpcError(status.UNIMPLEMENTED, `no method ${terms.path} here`);
    const call = new ServiceCall({
      ...found,
      stream,
      reader: this.#reader(connection, terms),
      peer: connection.address,
      authContext: () => ({ transportSecurityType: "ssl", sslPeerCertificate: certificateOf(connection.socket) }),
      onError: (error) => this.onError(error),
    });
    this.#limitTime(terms, stream, call);
    return call;
  }

  #reader(connection: Connection, { isGzip }: CallTerms): MessageReader {
    return new MessageReader({ maxBytes: this.limits.maxMessageBytes, isGzip, onHeld: (change) => connection.buffered(change) });
  }

  #limitTime({ timeoutMs }: CallTerms, stream: Http2Stream, call: { cut(error: GrpcError): void }): void {
    if (timeoutMs === undefined || timeoutMs > MAX_TIMER_MS) return;
    const timer = setTimeout(() => call.cut(new GrpcError(status.DEADLINE_EXCEEDED, "the deadline of the call has passed")), timeoutMs);
    stream.onOver = () => clearTimeout(timer);
  }

  #plainServer(): Server {
    return createPlainServer({ noDelay: true }, (socket) => {
      if (this.#admit(socket)) this.#accept(socket);
    });
  }

  /** Nothing is read of a connection before its turn, except the first bytes: they show that somebody is there. */
  #securedServer(): Server {
    return createPlainServer({ noDelay: true, pauseOnConnect: true }, (socket) => {
      if (!this.#admit(socket)) return;
      socket.on("error", () => socket.destroy());
      this.#handshakes.add(socket);
    });
  }

  #tlsServer(certificates: CertificateFiles): TlsServer {
    const server = createTlsServer({
      ...certificates.context,
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ALPN,
      handshakeTimeout: this.limits.handshakeTimeoutMs,
      noDelay: true,
    });
    server.on("secureConnection", (socket: TLSSocket) => {
      this.#handshakes.finished(peerOf(socket));
      this.#accept(socket);
    });
    server.on("tlsClientError", (error: NodeJS.ErrnoException, socket: TLSSocket) => {
      if (error.code === "ERR_TLS_HANDSHAKE_TIMEOUT") this.onAbuse("handshake-timeout");
      socket.destroy();
    });
    return server;
  }

  /** False: there are too many already. */
  #admit(socket: Socket): boolean {
    const { maxConnections, maxIdleConnections } = this.limits;
    const handshakes = this.#sockets.size - this.#connections.size;
    if (this.#sockets.size >= maxConnections || handshakes + this.#idle >= maxIdleConnections) {
      this.onAbuse("too-many-connections");
      socket.destroy();
      return false;
    }
    this.#sockets.add(socket);
    socket.on("close", () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#onEmpty?.();
    });
    return true;
  }

  #accept(socket: Socket): void {
    this.#idle++;
    const { remoteAddress = "", remotePort = 0 } = socket;
    const address = this.#listen.host.startsWith("unix:") ? this.#listen.host : formatAddress(remoteAddress, remotePort);
    this.#connections.add(new Connection({ socket, host: this, address }));
  }

  #sweep(): void {
    const now = this.now();
    for (const connection of this.#connections) connection.sweep(now);
    this.#handshakes.sweep();
  }

  /** Often enough for the shortest limit, and at most once a second. */
  #sweepMs(): number {
    const { prefaceTimeoutMs, firstRequestTimeoutMs, stallTimeoutMs, handshakeTimeoutMs } = this.limits;
    const shortest = Math.min(this.keepaliveMs, this.keepaliveTimeoutMs, prefaceTimeoutMs, firstRequestTimeoutMs, stallTimeoutMs, handshakeTimeoutMs);
    return Math.max(10, Math.min(4000, shortest) / 4);
  }
}

function flushAll(listener: Listener): void {
  listener.flushNow();
}

const identityOfLocal: IdentityOfCall = () => ({ kind: "local" });
const identityOfTls: IdentityOfCall = (call) => identityOfCertificate(call.getAuthContext().sslPeerCertificate);

/** Names a connection for both, the socket and the TLS socket over it. */
function peerOf({ remoteAddress = "", remotePort = 0 }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

function certificateOf(socket: Socket): ReturnType<TLSSocket["getPeerCertificate"]> | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const certificate = socket.getPeerCertificate();
  return Object.keys(certificate).length === 0 ? undefined : certificate;
}
