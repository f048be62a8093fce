/**
 * The agent's unix socket: HTTP with JSON, for the CNI executable and for `sedge status --socket`.
 *
 *   POST /v1/cni/{add,del,check,status,gc}   200 with {ok, result} or {ok: false, error: {code, msg, details}}
 *   GET  /v1/status                          200 with the node's status
 *   GET  /v1/view                            200 with the hash of each record of the node's view
 *   GET  /v1/kernel                          200 with what of the view is not in the kernel, and why
 *   POST /v1/log-level                       {level}: 200 with {ok, previous}, 400 when there is no such level
 *
 * Mode 0600: who can open it may give and take addresses. Bodies and concurrency are bounded; beyond the bound a request waits, beyond the waiting ones
 * it is told to come again. A file that a dead agent left is replaced; a living agent's is not.
 */
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { dirname } from "node:path";
import type { Logger } from "../../src/runtime/log.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import { socketAnswers } from "../socket-answers.ts";
import { badRequest, tryAgain } from "./cni-problem.ts";
import { CNI_VERBS, type CniAnswer, type CniVerb } from "./cni-request.ts";
import type { CniService } from "./cni-service.ts";

export interface SocketServerOptions {
  readonly path: string;
  readonly cni: Pick<CniService, "answer">;
  /** The body of GET /v1/status. */
  readonly status: () => unknown;
  /** The body of GET /v1/view. */
  readonly view?: () => unknown;
  /** The body of GET /v1/kernel. */
  readonly kernel?: () => Promise<unknown>;
  /** Returns the level before; undefined: there is no level of that name. */
  readonly setLogLevel?: (level: string) => string | undefined;
  readonly log: Logger;
  /** Called once when requests are served: the file alone may be a dead agent's. */
  readonly onListening?: () => void;
  /** CNI requests that are carried out at once. Default 64. */
  readonly maxConcurrent?: number;
  /** CNI requests that wait beyond that. Default 1024. */
  readonly maxWaiting?: number;
  /** For one CNI request, in ms. Default 55 s: below what the executable waits. */
  readonly deadlineMs?: number;
}

/** Enough for a GC that names every container of a full node. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;
const BODY_TIMEOUT_MS = 10_000;

/** Another agent serves the socket. */
export class SocketInUseError extends Error {
  readonly code = "SOCKET_IN_USE";

  constructor(path: string) {
    super(`${path} is served by another agent: stop it, or give this one a --socket of its own`);
    this.name = "SocketInUseError";
  }
}

export class SocketServer implements Part {
  readonly name = "socket";
  readonly #options: SocketServerOptions;
  readonly #maxConcurrent: number;
  readonly #maxWaiting: number;
  readonly #deadlineMs: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#maxConcurrent = options.maxConcurrent ?? 64;
    this.#maxWaiting = options.maxWaiting ?? 1_024;
    this.#deadlineMs = options.deadlineMs ?? 55_000;
  }

  /** Rejects with SocketInUseError, or NodeJS.ErrnoException when the path cannot be used. */
  async run(signal: AbortSignal): Promise<void> {
    const server = createServer({ requestTimeout: BODY_TIMEOUT_MS, headersTimeout: BODY_TIMEOUT_MS, keepAlive: false }, (request, response) => {
      this.#serve(request, response, signal).catch((error: unknown) => {
        this.#options.log.warn({ err: error, url: request.url }, "a request on the socket failed");
        response.destroy();
      });
    });
    await this.#listen(server);
    this.#options.log.info({ socket: this.#options.path }, "serving the CNI executable");
    this.#options.onListening?.();
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeIdleConnections();
    });
  }

  async #listen(server: Server): Promise<void> {
    const { path } = this.#options;
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    if (await socketAnswers(path)) throw new SocketInUseError(path);
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      // The file is made within listen(): no moment in which others may open it.
      const umask = process.umask(0o177);
      server.listen(path, () => {
        server.off("error", reject);
        resolve();
      });
      process.umask(umask);
    });
    chmodSync(path, 0o600);
  }

  async #setLogLevel(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const level = levelOf((await readBody(request)) ?? "");
    const previous = this.#options.setLogLevel?.(level);
    if (previous === undefined) send(response, 400, { ok: false, error: badRequest(`there is no log level ${JSON.stringify(level)}`) } satisfies CniAnswer);
    else send(response, 200, { ok: true, previous });
  }

  async #serve(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    const { method, url = "" } = request;
    if (method === "GET" && url === "/v1/status") return send(response, 200, this.#options.status());
    if (method === "GET" && url === "/v1/view" && this.#options.view !== undefined) return send(response, 200, this.#options.view());
    if (method === "GET" && url === "/v1/kernel" && this.#options.kernel !== undefined) return send(response, 200, await this.#options.kernel());
    if (method === "POST" && url === "/v1/log-level" && this.#options.setLogLevel !== undefined) return await this.#setLogLevel(request, response);
    const verb = CNI_VERBS.find((name) => url === `/v1/cni/${name}`);
    if (verb === undefined) return send(response, 404, { ok: false, error: badRequest(`nothing is served at ${method ?? "?"} ${url}`) } satisfies CniAnswer);
    if (method !== "POST") return send(response, 405, { ok: false, error: badRequest(`${url} wants POST`) } satisfies CniAnswer);
    const text = await readBody(request);
    if (text === undefined)
      return send(response, 413, { ok: false, error: badRequest(`the request is longer than ${MAX_BODY_BYTES} bytes`) } satisfies CniAnswer);
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch (error) {
      return send(response, 400, { ok: false, error: badRequest(`not JSON: ${error instanceof Error ? error.message : String(error)}`) } satisfies CniAnswer);
    }
    send(response, 200, await this.#limited(verb, body, signal));
  }

  async #limited(verb: CniVerb, body: unknown, stop: AbortSignal): Promise<CniAnswer> {
    if (this.#running >= this.#maxConcurrent) {
      if (this.#waiting.length >= this.#maxWaiting)
        return { ok: false, error: tryAgain(`${this.#running} requests are carried out and ${this.#waiting.length} wait`) };
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#running++;
    try {
      return await this.#options.cni.answer(verb, body, AbortSignal.any([stop, AbortSignal.timeout(this.#deadlineMs)]));
    } finally {
      // The place goes to the one that waits longest, without becoming free in between.
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const bytes = Buffer.from(
    JSON.stringify(body, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value)),
    "utf8",
  );
  response.writeHead(status, { "content-type": "application/json", "content-length": bytes.length, connection: "close" }).end(bytes);
}

/** undefined when it is too long. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** "" when the text is not what is wanted. */
function levelOf(text: string): string {
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === "object" && body !== null && "level" in body ? String(body.level) : "";
  } catch {
    return "";
  }
}
