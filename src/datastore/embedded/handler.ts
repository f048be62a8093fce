/** From a request to the part that answers it: open paths, identity, discovery, resources. Every failure leaves as a Status. */
import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { TLSSocket } from "node:tls";
import type { Logger } from "../../runtime/log.ts";
import { AGGREGATED_TYPE, aggregated, apiVersions, group, groupList, resourceList, serverVersion, wantsAggregated } from "./discovery.ts";
import type { JsonObject } from "./json.ts";
import { handleList, sendObject } from "./list.ts";
import type { Clock, Objects } from "./objects.ts";
import { openApiDocument, openApiIndex, swaggerDocument } from "./openapi.ts";
import type { Registry } from "./registry.ts";
import type { ApiRequest, ResourcePath } from "./request.ts";
import { booleanParameter, parseResourcePath, sendJson } from "./request.ts";
import type { ResourceType } from "./resource-type.ts";
import { ApiError, methodNotAllowed, noSuchPath, unauthorized } from "./status.ts";
import type { Store } from "./store.ts";
import { handleWatch } from "./watch.ts";
import { handleCreate, handleDelete, handleDeleteCollection, handlePatch, handleUpdate } from "./writes.ts";

interface HandlerOptions {
  readonly store: Store;
  readonly registry: Registry;
  readonly objects: Objects;
  readonly token: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Resolves when everything written so far is on disk; rejects when the disk has failed. */
  settled(): Promise<void>;
  readonly signal: AbortSignal;
  readonly bookmarkIntervalMs: number;
  readonly stalledMs: number;
}

/** As kube-apiserver answers: the "@" that clients ask with cannot stand in a media type. */
const SWAGGER_PROTOBUF_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/**
 * An openapi.v2 Document of `swagger: "2.0"` and no definitions, in protobuf. kubectl asks for it, and for no other form, about a kind that OpenAPI v3
 * lacks; told nothing, it goes on to say that there is no such kind. Refused (406), it says that instead. Checks are the server's in any case.
 */
const SWAGGER_PROTOBUF = Buffer.from("\n\x032.0", "latin1");

export class Handler {
  readonly #options: HandlerOptions;

  constructor(options: HandlerOptions) {
    this.#options = options;
  }

  /** Answers one request; never rejects. */
  async handle(raw: IncomingMessage, response: ServerResponse): Promise<void> {
    // The path is taken as it comes: "//x" would otherwise be read as a host.
    const [path = "", ...query] = (raw.url ?? "/").split("?");
    const request: ApiRequest = {
      raw,
      response,
      method: raw.method ?? "GET",
      path: path.replace(/\/+$/, "") || "/",
      query: new URLSearchParams(query.join("?")),
      warnings: [],
    };
    try {
      await this.#dispatch(request);
    } catch (error) {
      this.#fail(request, error);
    }
  }

  #fail(request: ApiRequest, error: unknown): void {
    const { raw, response } = request;
    const isKnown = error instanceof ApiError;
    if (raw.socket.destroyed) return;
    if (!isKnown) this.#options.log.error({ err: error, method: request.method, path: request.path }, "request failed");
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const known = isKnown
      ? error
      : new ApiError({ code: 500, reason: "InternalError", message: `Internal error occurred: ${error instanceof Error ? error.message : String(error)}` });
    if (known.code === 504) response.setHeader("retry-after", "1");
    if (known.code === 413) response.setHeader("connection", "close");
    sendJson(request, known.code, known.toStatus());
  }

  async #dispatch(request: ApiRequest): Promise<void> {
    const { path } = request;
    if (path === "/healthz" || path === "/livez" || path === "/readyz") {
      // Throws when the disk has failed: then nothing can be served any more.
      await this.#options.settled();
      request.response.writeHead(200, { "content-type": "text/plain" }).end("ok");
      return;
    }
    if (path === "/version") return sendJson(request, 200, serverVersion());
    if (!this.#isKnown(request.raw)) throw unauthorized();
    const resource = parseResourcePath(path);
    if (resource !== undefined) return this.#onResource(request, resource);
    if (request.method !== "GET" && request.method !== "HEAD") throw methodNotAllowed();
    if ((path === "/api" || path === "/apis") && wantsAggregated(request.raw.headers.accept)) {
      request.response
        .writeHead(200, { "content-type": AGGREGATED_TYPE, "cache-control": "public" })
        .end(JSON.stringify(aggregated(this.#options.registry, path === "/api")));
      return;
    }
    if (path === "/openapi/v2" && !/application\/json|\*\/\*|^$/.test(request.raw.headers.accept ?? "")) {
      request.response.writeHead(200, { "content-type": SWAGGER_PROTOBUF_TYPE }).end(SWAGGER_PROTOBUF);
      return;
    }
    const document = this.#document(request);
    if (document === undefined) throw noSuchPath();
    sendJson(request, 200, document);
  }

  #isKnown(raw: IncomingMessage): boolean {
    if (raw.socket instanceof TLSSocket && raw.socket.authorized) return true;
    const given = /^Bearer (.+)$/i.exec(raw.headers.authorization ?? "")?.[1];
    if (given === undefined) return false;
    const [a, b] = [Buffer.from(given), Buffer.from(this.#options.token)];
    return a.length === b.length && timingSafeEqual(a, b);
  }

  #document(request: ApiRequest): JsonObject | undefined {
    const { registry } = this.#options;
    const { path, raw } = request;
    if (path === "/api") return apiVersions(raw.headers.host ?? "");
    if (path === "/apis") return groupList(registry);
    if (path === "/api/v1") return resourceList(registry, "v1");
    const named = /^\/apis\/([^/]+)(?:\/([^/]+))?$/.exec(path);
    if (named?.[1] !== undefined) return named[2] === undefined ? group(registry, named[1]) : resourceList(registry, `${named[1]}/${named[2]}`);
    if (path === "/openapi/v3") return openApiIndex(registry);
    if (path.startsWith("/openapi/v3/")) return openApiDocument(registry, path.slice("/openapi/v3/".length));
    if (path === "/openapi/v2") return swaggerDocument(registry);
    if (path === "/") return { paths: ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"] };
    return undefined;
  }

  async #onResource(request: ApiRequest, path: ResourcePath): Promise<void> {
    const type = this.#options.registry.find(path.group, path.version, path.plural);
    if (type === undefined || !isServed(type, path)) throw noSuchPath();
    const at = { namespace: path.namespace ?? "", name: path.name, subresource: path.subresource };
    const { store, objects, clock } = this.#options;
    const context = { store, objects, settled: () => this.#options.settled(), nowMs: clock.now() };
    const isCollection = path.name === "";
    switch (request.method) {
      case "GET":
      case "HEAD":
        if (booleanParameter(request.query, "watch")) return this.#watch(request, type, path);
        if (isCollection) return handleList(request, type, path.namespace, context);
        return this.#get(request, type, at);
      case "POST":
        if (isCollection && type.isNamespaced && path.namespace === undefined) throw methodNotAllowed();
        return handleCreate(request, type, at, context);
      case "PUT":
        if (isCollection) throw methodNotAllowed();
        return handleUpdate(request, type, at, context);
      case "PATCH":
        if (isCollection) throw methodNotAllowed();
        return handlePatch(request, type, at, context);
      case "DELETE":
        return isCollection ? handleDeleteCollection(request, type, path.namespace, context) : handleDelete(request, type, at, context);
      default:
        throw methodNotAllowed();
    }
  }

  async #get(request: ApiRequest, type: ResourceType, at: { readonly namespace: string; readonly name: string }): Promise<void> {
    const { objects, clock } = this.#options;
    const entry = objects.get(type, at.namespace, at.name);
    await this.#options.settled();
    sendObject(request, 200, type, objects.present(type, entry.object), clock.now());
  }

  #watch(request: ApiRequest, type: ResourceType, path: ResourcePath): Promise<void> {
    const { store, signal, bookmarkIntervalMs, stalledMs, clock } = this.#options;
    return handleWatch(request, type, path, { store, signal, bookmarkIntervalMs, stalledMs, settled: () => this.#options.settled(), now: () => clock.now() });
  }
}

/** Scope and subresource fit the kind. */
function isServed(type: ResourceType, path: ResourcePath): boolean {
  if (path.namespace !== undefined && !type.isNamespaced) return false;
  if (path.name !== "" && type.isNamespaced && path.namespace === undefined) return false;
  if (path.subresource === "") return true;
  return (path.subresource === "status" && type.hasStatusSubresource) || (path.subresource === "binding" && type.kind === "Pod");
}
