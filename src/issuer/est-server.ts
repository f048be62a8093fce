/**
 * EST over HTTPS: TLS 1.3, a client certificate is asked for and may be absent. Everything that comes is bounded: connections, requests at once, sizes, times.
 *
 * The library's resumption of sessions is off: a client certificate must be shown, and verified against the authority of today, in each handshake.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { TLSSocket } from "node:tls";
import type { Logger } from "../runtime/log.ts";
import { StartError } from "../runtime/start-error.ts";
import { type Applicant, applicantOfCertificate } from "./applicant.ts";
import type { EstAnswer, EstService } from "./est.ts";

export interface EstServerOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly service: EstService;
  readonly log: Logger;
  readonly tls: EstTls;
}

export interface EstTls {
  readonly cert: string;
  readonly key: string;
  /** Client certificates are verified against it. */
  readonly ca: string;
}

/** A request of an RSA key of 4,096 bits has 2 KiB in base64. */
const MAX_BODY_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 2_000;
const MAX_AT_ONCE = 64;
const REQUEST_TIMEOUT_MS = 20_000;
const HEADERS_TIMEOUT_MS = 5_000;
const IDLE_TIMEOUT_MS = 10_000;

export class EstServer {
  readonly #options: EstServerOptions;
  readonly #server: Server;
  readonly #stop = new AbortController();
  #atOnce = 0;

  constructor(options: EstServerOptions) {
    this.#options = options;
    const { log, tls } = options;
    this.#server = createServer({
      ...tls,
      minVersion: "TLSv1.3",
      requestCert: true,
      rejectUnauthorized: false,
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      handshakeTimeout: HEADERS_TIMEOUT_MS,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      maxHeaderSize: MAX_BODY_BYTES,
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on("newSession", (_id, _data, done: () => void) => done());
    this.#server.on("resumeSession", (_id, done: (error: Error | null, data: Buffer | null) => void) => done(null, null));
    this.#server.on("tlsClientError", (error, socket) => {
      log.debug({ err: error, address: socket.remoteAddress }, "handshake failed");
      socket.destroy();
    });
    this.#server.on("request", (request, response) => void this.#serve(request, response));
  }

  get inFlight(): number {
    return this.#atOnce;
  }

  /** The port it listens on. Throws StartError. */
  async listen(): Promise<number> {
    const { host, port } = this.#options.listen;
    await new Promise<void>((resolve, reject) => {
      const fail = (error: Error): void =>
        reject(new StartError(`--listen ${host}:${port}: ${error.message}; choose another address or port`, { cause: error }));
      this.#server.once("error", fail);
      this.#server.listen(port, host, () => {
        this.#server.off("error", fail);
        resolve();
      });
    });
    return (this.#server.address() as AddressInfo).port;
  }

  /** From the next handshake on. */
  use(tls: EstTls): void {
    this.#server.setSecureContext({ ...tls, minVersion: "TLSv1.3" });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      send(response, await this.#answer(request));
    } catch (error) {
      this.#options.log.debug({ err: error }, "request broken off");
      response.destroy();
    }
  }

  async #answer(request: IncomingMessage): Promise<EstAnswer> {
    if (this.#atOnce >= MAX_AT_ONCE)
      return { status: 503, type: "text/plain", body: "too many requests at once: ask again\n", headers: { "retry-after": "2", connection: "close" } };
    this.#atOnce++;
    try {
      const body = await readBody(request);
      if (body === undefined)
        return { status: 413, type: "text/plain", body: `the request has more than ${MAX_BODY_BYTES} bytes\n`, headers: { connection: "close" } };
      return await this.#options.service.handle(
        {
          method: request.method ?? "",
          path: (request.url ?? "").split("?")[0] ?? "",
          contentType: request.headers["content-type"] ?? "",
          body,
          bearer: /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "")?.[1],
          applicant: applicantOf(request),
        },
        this.#stop.signal,
      );
    } finally {
      this.#atOnce--;
    }
  }
}

function applicantOf({ socket }: IncomingMessage): Applicant | undefined {
  return socket instanceof TLSSocket && socket.authorized ? applicantOfCertificate(socket.getPeerCertificate().subjectaltname) : undefined;
}

/** undefined: too long. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function send(response: ServerResponse, { body, headers = {}, status, type }: EstAnswer): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body), ...headers }).end(body);
}
