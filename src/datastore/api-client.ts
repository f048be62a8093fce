/**
 * A thin client of the Kubernetes API over node:https: one request, or one watch, and typed errors.
 *
 * No retries of its own beyond a GET whose kept-alive connection was closed meanwhile: who asks knows what a second try may do. Every call has a deadline and
 * takes an AbortSignal. Rejected: @kubernetes/client-node's clients (JSON only, no bookmarks, 1 GB for 20,000 pods).
 */
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from "node:https";
import { ApiError, ApiUnreachableError, DatastoreError, retryAfterMs } from "./api-error.ts";
import { type ApiResource, collectionPath, objectPath } from "./api-resources.ts";
import type { ApiConnection } from "./connection.ts";
import { type JsonObject, tryJsonObject } from "./json-object.ts";
import { acceptHeader, decodeList, decodeObject, WatchDecoder, type WatchFrame } from "./media.ts";
import type { DecodedList } from "./protobuf.ts";

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface ApiClientOptions {
  readonly connection: ApiConnection;
  /** Deadline of a unary call, from first byte sent to last byte read. */
  readonly timeoutMs?: number;
  /** Told to the server, for its audit log and its fair queueing. */
  readonly userAgent?: string;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

export interface WatchOptions {
  readonly query: Query;
  readonly signal: AbortSignal;
  /** No byte for this long (ms), bookmarks included, ends the watch with ApiUnreachableError SILENT. */
  readonly silenceMs: number;
  /** Called when the server has accepted the watch, before its first event. */
  readonly onOpen?: () => void;
}

export interface PatchOptions extends CallOptions {
  readonly type: "merge" | "strategic" | "json" | "apply";
  /** Required by "apply". */
  readonly fieldManager?: string;
  readonly force?: boolean;
  readonly subresource?: string;
}

export interface ObjectName {
  readonly name: string;
  readonly namespace?: string | undefined;
}

const PATCH_TYPES: Readonly<Record<PatchOptions["type"], string>> = {
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
  json: "application/json-patch+json",
  apply: "application/apply-patch+yaml",
};
const KEEP_ALIVE_MS = 15_000;

interface RawRequest extends CallOptions {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Query;
  readonly accept?: string;
  readonly body?: unknown;
  readonly contentType?: string;
}

export class ApiClient {
  readonly connection: ApiConnection;
  readonly #timeoutMs: number;
  readonly #userAgent: string;
  readonly #agent: HttpAgent | HttpsAgent;
  readonly #watchAgent: HttpAgent | HttpsAgent;

  constructor({ connection, timeoutMs = 60_000, userAgent = "sedge" }: ApiClientOptions) {
    this.connection = connection;
    this.#timeoutMs = timeoutMs;
    this.#userAgent = userAgent;
    const Agent = connection.url.protocol === "http:" ? HttpAgent : HttpsAgent;
    this.#agent = new Agent({ keepAlive: true, maxSockets: 32, maxFreeSockets: 8, keepAliveMsecs: KEEP_ALIVE_MS });
    this.#watchAgent = new Agent({ keepAlive: false });
  }

  /** Closes connections that wait in the pool; the client stays usable. */
  close(): void {
    this.#agent.destroy();
    this.#watchAgent.destroy();
  }

  /** Any path, JSON in and out. */
  async requestJson(
    method: RawRequest["method"],
    path: string,
    options: CallOptions & { readonly query?: Query; readonly body?: unknown; readonly accept?: string } = {},
  ): Promise<JsonObject> {
    const answer = await this.#call({ method, path, ...options });
    return this.#decode(answer, decodeObject);
  }

  /** One page of the kind. `limit` 0 or absent: all of it. */
  async list(resource: ApiResource, options: CallOptions & { readonly namespace?: string; readonly query?: Query } = {}): Promise<DecodedList> {
    const path = collectionPath(resource, options.namespace);
    const answer = await this.#call({ method: "GET", path, accept: acceptHeader(resource, false), ...options });
    return this.#decode(answer, decodeList);
  }

  async get(resource: ApiResource, { name, namespace }: ObjectName, options: CallOptions = {}): Promise<JsonObject> {
    return await this.requestJson("GET", objectPath(resource, name, namespace), options);
  }

  /** 409 AlreadyExists when there is one. */
  async create(resource: ApiResource, object: JsonObject, options: CallOptions = {}): Promise<JsonObject> {
    return await this.requestJson("POST", collectionPath(resource, nameOf(object).namespace), { ...options, body: object });
  }

  /** Replaces; with metadata.resourceVersion only that version (409 Conflict otherwise). */
  async update(resource: ApiResource, object: JsonObject, options: CallOptions & { readonly subresource?: string } = {}): Promise<JsonObject> {
    const { name, namespace } = nameOf(object);
    return await this.requestJson("PUT", objectPath(resource, name, namespace, options.subresource), { ...options, body: object });
  }

  async patch(resource: ApiResource, { name, namespace }: ObjectName, patch: unknown, options: PatchOptions): Promise<JsonObject> {
    const query = { fieldManager: options.fieldManager ?? this.#userAgent, force: options.type === "apply" ? (options.force ?? true) : undefined };
    const path = objectPath(resource, name, namespace, options.subresource);
    const answer = await this.#call({ ...options, method: "PATCH", path, query, body: patch, contentType: PATCH_TYPES[options.type] });
    return this.#decode(answer, decodeObject);
  }

  /** With preconditions: only that uid or version (409 Conflict otherwise). */
  async delete(
    resource: ApiResource,
    { name, namespace }: ObjectName,
    options: CallOptions & { readonly uid?: string | undefined; readonly resourceVersion?: string | undefined } = {},
  ): Promise<JsonObject> {
    const { uid, resourceVersion, ...call } = options;
    const preconditions = uid === undefined && resourceVersion === undefined ? undefined : { uid, resourceVersion };
    return await this.requestJson("DELETE", objectPath(resource, name, namespace), {
      ...call,
      body: { apiVersion: "v1", kind: "DeleteOptions", preconditions },
    });
  }

  /** Events in arrays as they come off the wire; ends when the server ends the watch in order, throws for everything else. */
  async *watch(resource: ApiResource, { query, signal, silenceMs, onOpen }: WatchOptions): AsyncGenerator<readonly WatchFrame[], void, void> {
    const path = collectionPath(resource);
    const label = `WATCH ${path}`;
    const raw: RawRequest = { method: "GET", path, query: { watch: true, ...query }, accept: acceptHeader(resource, true), signal };
    let request: ClientRequest | undefined;
    try {
      const opened = await this.#open(raw, this.#watchAgent, silenceMs);
      ({ request } = opened);
      if (opened.response.statusCode !== 200) throw await this.#errorOf(opened.response, label);
      onOpen?.();
      const decoder = new WatchDecoder(opened.response.headers["content-type"]);
      for await (const chunk of opened.response as AsyncIterable<Buffer>) {
        const frames = framesOf(decoder, chunk, label);
        if (frames.length > 0) yield frames;
      }
    } catch (error) {
      throw unreachable(error, label);
    } finally {
      request?.destroy();
    }
  }

  async #call(raw: RawRequest): Promise<Answer> {
    const timeoutMs = raw.timeoutMs ?? this.#timeoutMs;
    const label = `${raw.method} ${raw.path}`;
    const deadline = AbortSignal.timeout(timeoutMs);
    const signal = raw.signal === undefined ? deadline : AbortSignal.any([raw.signal, deadline]);
    try {
      for (let tries = 0; ; tries++) {
        const { response, error } = await this.#open({ ...raw, signal }, this.#agent).then((opened) => ({ ...opened, error: undefined }), asFailure);
        if (response === undefined) {
          if (raw.method === "GET" && tries === 0 && error instanceof ReusedConnectionError) continue;
          throw error;
        }
        if ((response.statusCode ?? 0) >= 300 || (response.statusCode ?? 0) < 200) throw await this.#errorOf(response, label);
        const body = await readAll(response);
        if (!response.complete) throw new ApiUnreachableError("CONNECTION", label, "the answer was cut off");
        return { body, contentType: response.headers["content-type"], label };
      }
    } catch (error) {
      if (deadline.aborted && raw.signal?.aborted !== true)
        throw new ApiUnreachableError("TIMEOUT", label, `no answer within ${timeoutMs} ms`, { cause: error });
      throw unreachable(error, label);
    }
  }

  /** Sends the request and waits for the head of the answer. `silenceMs`: longest pause on the socket from then on, and before it. */
  async #open(raw: RawRequest, agent: HttpAgent | HttpsAgent, silenceMs?: number): Promise<{ request: ClientRequest; response: IncomingMessage }> {
    raw.signal?.throwIfAborted();
    const label = `${raw.method} ${raw.path}`;
    const { url } = this.connection;
    const { headers, ...tls } = await this.connection.credentials();
    const payload = raw.body === undefined ? undefined : Buffer.from(JSON.stringify(raw.body));
    const options: RequestOptions = {
      ...tls,
      agent,
      method: raw.method,
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? undefined : url.port,
      path: `${url.pathname.replace(/\/$/, "")}${raw.path}${queryText(raw.query)}`,
      headers: {
        accept: raw.accept ?? "application/json",
        "user-agent": this.#userAgent,
        ...headers,
        ...(payload === undefined ? {} : { "content-type": raw.contentType ?? "application/json", "content-length": payload.length }),
      },
      ...(raw.signal === undefined ? {} : { signal: raw.signal }),
    };
    const request = url.protocol === "http:" ? httpRequest(options) : httpsRequest(options);
    return await new Promise((resolve, reject) => {
      request.on("socket", (socket) => {
        socket.setKeepAlive(true, KEEP_ALIVE_MS);
        socket.setNoDelay(true);
      });
      // Armed on the request, so that it covers connecting, the TLS handshake and the body; it never fires for unary calls (their deadline does).
      let answered: IncomingMessage | undefined;
      request.setTimeout(silenceMs ?? 0, () => (answered ?? request).destroy(new ApiUnreachableError("SILENT", label, `no byte for ${silenceMs} ms`)));
      request.on("error", (error: NodeJS.ErrnoException) =>
        reject(request.reusedSocket && error.code === "ECONNRESET" ? new ReusedConnectionError(label, error) : error),
      );
      request.on("response", (response) => {
        answered = response;
        resolve({ request, response });
      });
      request.end(payload);
    });
  }

  async #errorOf(response: IncomingMessage, label: string): Promise<ApiError> {
    const text = await readAll(response).catch(() => Buffer.alloc(0));
    let body: JsonObject | undefined;
    try {
      body = decodeObject(text, response.headers["content-type"]);
    } catch {
      body = undefined; // A proxy's page, or nothing: the status line has to do.
    }
    if (response.statusCode === 401) await this.connection.credentials({ fresh: true }).catch(ignore);
    return new ApiError({
      status: response.statusCode ?? 0,
      request: label,
      body,
      text: text.toString("utf8"),
      retryAfterMs: retryAfterMs(response.headers["retry-after"], Date.now()),
    });
  }

  #decode<T>({ body, contentType, label }: Answer, decode: (body: Buffer, contentType: string | undefined) => T): T {
    try {
      return decode(body, contentType);
    } catch (error) {
      throw new ApiUnreachableError("GARBAGE", label, `the answer (${contentType ?? "no content type"}) cannot be understood`, { cause: error });
    }
  }
}

interface Answer {
  readonly body: Buffer;
  readonly contentType: string | undefined;
  readonly label: string;
}

/** The server closed a kept-alive connection while the request was on its way. */
class ReusedConnectionError extends ApiUnreachableError {
  constructor(label: string, cause: unknown) {
    super("CONNECTION", label, "the kept-alive connection was closed", { cause });
  }
}

/** metadata.name and metadata.namespace; throws TypeError without a name. */
export function nameOf(object: JsonObject): ObjectName {
  const metadata = tryJsonObject(object["metadata"]);
  const name = metadata?.["name"];
  const namespace = metadata?.["namespace"];
  if (typeof name !== "string" || name === "") throw new TypeError(`${String(object["kind"])}: metadata.name is missing`);
  return { name, namespace: typeof namespace === "string" ? namespace : undefined };
}

function framesOf(decoder: WatchDecoder, chunk: Buffer, label: string): readonly WatchFrame[] {
  try {
    return decoder.push(chunk);
  } catch (error) {
    throw new ApiUnreachableError("GARBAGE", label, "the stream cannot be understood", { cause: error });
  }
}

function queryText(query: Query | undefined): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) if (value !== undefined) parameters.set(name, String(value));
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}

async function readAll(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function unreachable(error: unknown, label: string): Error {
  if (error instanceof DatastoreError) return error;
  if (error instanceof Error && error.name === "KubeconfigError") return error;
  const message = error instanceof Error ? error.message : String(error);
  return new ApiUnreachableError("CONNECTION", label, message, { cause: error });
}

function asFailure(error: unknown): { request?: undefined; response?: undefined; error: unknown } {
  return { error };
}

function ignore(): void {}
