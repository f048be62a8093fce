/**
 * The record stream and all unary services over grpc-js: one server for each listener, so that who a peer is follows from the door that it came through.
 *
 * The plaintext door opens on loopback only. HTTP/2 pings find dead peers. Rejected: both listeners on one grpc Server (a call does not say which
 * listener it came from, and a plaintext peer must never pass for a verified one).
 */
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerOptions,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { StartError } from "../../src/runtime/start-error.ts";
import { RawRelayService, RawSyncService } from "../../src/wire/service.ts";
import { type Identity, identityOfCertificate } from "../identity.ts";
import { CallError, statusOf } from "../status.ts";
import type { TlsFiles } from "./certificate-files.ts";
import type { AcceptStream, Delivery, PeerStream, StreamHandler } from "./delivery.ts";
import { formatAddress, removeSocket, requireLoopback } from "./listen.ts";
import { TlsCredentials } from "./tls-credentials.ts";

export interface GrpcListen {
  /** A name, an address, or "unix:/path" (a socket left there by a dead process is replaced). */
  readonly host: string;
  readonly port: number;
  /** Undefined: plaintext, on a loopback address. */
  readonly tls: TlsFiles | undefined;
  /** Others listen on the same port, and the kernel spreads connections over them (SO_REUSEPORT). Not with grpc-js. */
  readonly isPortShared?: boolean;
  /** A unix socket that nobody else can reach: plaintext is allowed on it. */
  readonly isPrivate?: boolean;
}

/** Who is calling; throws CallError("unidentified"). */
export type IdentityOfCall = (call: CallPeer) => Identity;
type CallPeer = Pick<ServerDuplexStream<unknown, unknown>, "getAuthContext">;

/** A service besides the record stream. It is made for each listener, with that listener's way to tell who calls. */
export interface GrpcService {
  readonly definition: ServiceDefinition;
  readonly implement: (identityOf: IdentityOfCall) => UntypedServiceImplementation;
}

export interface GrpcDeliveryOptions {
  readonly listen: readonly GrpcListen[];
  readonly accept: AcceptStream;
  /** Streams of relays; absent: there is no such method here. */
  readonly acceptRelay?: AcceptStream;
  /** claimBlock and listBlocks, served beside `sync`. */
  readonly unary: (identityOf: IdentityOfCall) => UntypedServiceImplementation;
  readonly services: readonly GrpcService[];
  /** A peer that does not answer a ping sent after this much silence within the time-out is dead. */
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly onStreamError: (error: unknown) => void;
}

/** Largest message that a client may send: a report of a whole IPv6 block with long names is below 100 kB. */
const MAX_RECEIVE_BYTES = 1024 * 1024;

/** Opens the listeners; rejects with the address and the system's reason when one cannot be opened. */
export async function startGrpcDelivery(options: GrpcDeliveryOptions): Promise<Delivery> {
  const servers: Server[] = [];
  const secured: TlsCredentials[] = [];
  const addresses: { address: string; isSecure: boolean }[] = [];
  try {
    for (const listen of options.listen) {
      requireLoopback(listen);
      const server = new Server(serverOptions(options));
      servers.push(server);
      const credentials = listen.tls === undefined ? ServerCredentials.createInsecure() : new TlsCredentials(listen.tls);
      if (credentials instanceof TlsCredentials) secured.push(credentials);
      const identityOf = listen.tls === undefined ? identityOfLocal : identityOfTls;
      server.addService(RawSyncService, {
        ...options.unary(identityOf),
        sync: (call: ServerDuplexStream<Uint8Array, Uint8Array>) => serveStream(call, identityOf, options),
      });
      const { acceptRelay } = options;
      if (acceptRelay !== undefined)
        server.addService(RawRelayService, {
          relay: (call: ServerDuplexStream<Uint8Array, Uint8Array>) => serveStream(call, identityOf, { ...options, accept: acceptRelay }),
        });
      for (const { definition, implement } of options.services) server.addService(definition, implement(identityOf));
      const port = await bind(server, listen, credentials);
      addresses.push({ address: formatAddress(listen.host, port), isSecure: listen.tls !== undefined });
    }
  } catch (error) {
    for (const server of servers) server.forceShutdown();
    throw error;
  }
  return {
    addresses,
    reloadCertificates: () => secured.filter((credentials) => credentials.reload()).length > 0,
    stop: async (graceMs) => {
      await Promise.all(servers.map((server) => stopServer(server, graceMs)));
    },
  };
}

function serverOptions({ keepaliveMs, keepaliveTimeoutMs }: GrpcDeliveryOptions): ServerOptions {
  return {
    "grpc.max_receive_message_length": MAX_RECEIVE_BYTES,
    "grpc.max_send_message_length": -1,
    "grpc.keepalive_time_ms": keepaliveMs,
    "grpc.keepalive_timeout_ms": keepaliveTimeoutMs,
  };
}

function bind(server: Server, { host, port }: GrpcListen, credentials: ServerCredentials): Promise<number> {
  if (host.startsWith("unix:")) removeSocket(host.slice("unix:".length));
  return new Promise((resolve, reject) => {
    server.bindAsync(formatAddress(host, port), credentials, (error, bound) => {
      if (error === null) resolve(bound);
      else reject(new StartError(`cannot listen on ${formatAddress(host, port)}: ${error.message}; choose another address or port`, { cause: error }));
    });
  });
}

const identityOfLocal: IdentityOfCall = () => ({ kind: "local" });
const identityOfTls: IdentityOfCall = (call) => identityOfCertificate(call.getAuthContext().sslPeerCertificate);

function serveStream(call: ServerDuplexStream<Uint8Array, Uint8Array>, identityOf: IdentityOfCall, { accept, onStreamError }: GrpcDeliveryOptions): void {
  let identity: Identity;
  try {
    identity = identityOf(call);
  } catch (error) {
    endCall(call, error);
    return;
  }
  const stream = new GrpcStream(call, identity);
  const handler = accept(stream);
  stream.handler = handler;
  let isClosed = false;
  const closed = (): void => {
    if (isClosed) return;
    isClosed = true;
    stream.isOver = true;
    handler.onClosed();
    if (!call.writableEnded) call.end();
  };
  call.on("data", (bytes: Uint8Array) => {
    if (isClosed || stream.isOver) return;
    try {
      handler.onMessage(bytes);
    } catch (error) {
      onStreamError(error);
      stream.end(error);
    }
  });
  // A message above the limit, or one that grpc cannot unpack.
  call.on("error", (error: unknown) => {
    if (!isClosed) stream.end(new CallError("broken-message", error instanceof Error ? error.message : String(error), { cause: error }));
    closed();
  });
  call.on("cancelled", closed);
  call.on("end", closed);
  call.on("close", closed);
}

class GrpcStream implements PeerStream {
  readonly identity: Identity;
  readonly address: string;
  readonly lane = undefined;
  handler: StreamHandler | undefined;
  isOver = false;
  readonly #call: ServerDuplexStream<Uint8Array, Uint8Array>;
  #bytesInFlight = 0;

  constructor(call: ServerDuplexStream<Uint8Array, Uint8Array>, identity: Identity) {
    this.#call = call;
    this.identity = identity;
    this.address = call.getPeer();
  }

  get bytesInFlight(): number {
    return this.#bytesInFlight;
  }

  send(message: Uint8Array): void {
    if (this.isOver) return;
    this.#bytesInFlight += message.length;
    this.#call.write(message, () => {
      this.#bytesInFlight -= message.length;
      if (!this.isOver) this.handler?.onDrain();
    });
  }

  /** grpc-js pings by itself. */
  beat(message: Uint8Array): void {
    this.send(message);
  }

  end(error: unknown): void {
    if (this.isOver) return;
    this.isOver = true;
    endCall(this.#call, error);
  }
}

function endCall(call: ServerDuplexStream<Uint8Array, Uint8Array>, error: unknown): void {
  const { code, details, metadata } = statusOf(error);
  call.emit("error", Object.assign(new Error(details), { code, details, metadata: metadata ?? new Metadata() }));
}

/** grpc-js counts a connection that its keepalive has cut as open for good, now and then, and then never reports the end: the deadline decides. */
function stopServer(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown();
      resolve();
    }, graceMs);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
