/**
 * An API server in memory that behaves: one version counter, a history that can be compacted, snapshots for pages, streaming lists or none, watches that
 * break on request, and errors as the real one words them. Implements the client's `list` and `watch`; `fake-api-http.ts` serves the same over HTTP.
 *
 * It checks what a server would: a watch from a compacted version is 410, a page of a compacted snapshot is 410.
 */
import type { ApiClient, Query } from "../../src/datastore/api-client.ts";
import { ApiError, ApiUnreachableError } from "../../src/datastore/api-error.ts";
import { type ApiResource, collectionPath } from "../../src/datastore/api-resources.ts";
import type { JsonObject } from "../../src/datastore/json-object.ts";
import type { WatchFrame } from "../../src/datastore/media.ts";
import type { DecodedList } from "../../src/datastore/protobuf.ts";

interface HistoryEntry {
  readonly version: number;
  readonly path: string;
  readonly key: string;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: JsonObject;
}

interface Stream {
  readonly path: string;
  readonly frames: WatchFrame[];
  /** "frozen": nothing comes any more, and nobody is told. */
  end: "open" | "ended" | "reset" | "silent" | "frozen";
  wake: () => void;
  /** A streaming list whose last bookmark is not sent. */
  isListing: boolean;
}

export class FakeApi implements Pick<ApiClient, "list" | "watch"> {
  canStream = true;
  /** Paths that are not served. */
  readonly missing = new Set<string>();
  /** How far the cache is from which watches are served; undefined: as far as the store. Only told by the bookmark before a watch's end. */
  cacheVersion: number | undefined;
  /** Errors of the next requests, one each. */
  readonly failures: Error[] = [];
  /** Every request, in order: "LIST <path> limit=…", "WATCH <path> from=…". */
  readonly requests: string[] = [];
  /** Keys that have been deleted at some time: only these may be reported as gone. */
  readonly everDeleted = new Set<string>();
  readonly #objects = new Map<string, { readonly path: string; readonly object: JsonObject }>();
  readonly #history: HistoryEntry[] = [];
  readonly #streams = new Set<Stream>();
  #version = 1;
  #compacted = 0;

  /** Creates or replaces; the version is given here. */
  put(resource: ApiResource, object: JsonObject): void {
    const path = collectionPath(resource);
    const key = keyIn(path, object);
    const isNew = !this.#objects.has(key);
    const stored = { ...object, metadata: { ...(object["metadata"] as JsonObject), resourceVersion: String(++this.#version) } };
    this.#objects.set(key, { path, object: stored });
    this.#record({ version: this.#version, path, key, type: isNew ? "ADDED" : "MODIFIED", object: stored });
  }

  remove(resource: ApiResource, metadata: JsonObject): void {
    const path = collectionPath(resource);
    const key = keyIn(path, { metadata });
    const found = this.#objects.get(key);
    if (found === undefined) return;
    this.#objects.delete(key);
    this.everDeleted.add(key);
    const object = { ...found.object, metadata: { ...(found.object["metadata"] as JsonObject), resourceVersion: String(++this.#version) } };
    this.#record({ version: this.#version, path, key, type: "DELETED", object });
  }

  objects(resource: ApiResource): readonly JsonObject[] {
    const path = collectionPath(resource);
    return [...this.#objects.values()].filter((entry) => entry.path === path).map((entry) => entry.object);
  }

  /** Forgets the history up to now. Open watches go on, as in etcd. */
  compact(): void {
    this.#compacted = this.#version;
  }

  /** Breaks every watch: reset, ended in order, fallen silent until the client gives up, or frozen: the client must find out by itself (a list under way is silent). */
  breakWatches(how: "ended" | "reset" | "silent" | "frozen"): void {
    for (const stream of this.#streams) {
      stream.end = how === "frozen" && stream.isListing ? "silent" : how;
      stream.wake();
    }
  }

  /** What a client's own deadline does to a frozen watch. */
  timeOutFrozen(): void {
    for (const stream of this.#streams) {
      if (stream.end === "frozen") stream.end = "silent";
      stream.wake();
    }
  }

  bookmark(): void {
    for (const stream of this.#streams) this.#send(stream, { type: "BOOKMARK", object: { metadata: { resourceVersion: String(this.#version) } } });
  }

  /** Sends the last event of each path once more. */
  duplicateLast(): void {
    for (const stream of this.#streams) {
      const last = this.#history.findLast((entry) => entry.path === stream.path);
      if (last !== undefined && last.type !== "DELETED") this.#send(stream, { type: "MODIFIED", object: last.object });
    }
  }

  async list(resource: ApiResource, { query = {} }: { readonly query?: Query } = {}): Promise<DecodedList> {
    const path = collectionPath(resource);
    this.requests.push(`LIST ${path} limit=${String(query["limit"] ?? "")}`);
    await Promise.resolve();
    this.#failIfAsked(path);
    const [at, from] = String(query["continue"] ?? `${this.#version}:0`)
      .split(":")
      .map(Number) as [number, number];
    if (at < this.#compacted) throw gone(path, "The provided continue parameter is too old");
    const all = this.#snapshot(path, at);
    const end = query["limit"] === undefined ? all.length : from + Number(query["limit"]);
    return { items: all.slice(from, end), resourceVersion: String(at), continueToken: end < all.length ? `${at}:${end}` : "" };
  }

  async *watch(
    resource: ApiResource,
    { query, signal, onOpen, silenceMs }: Parameters<ApiClient["watch"]>[1],
  ): AsyncGenerator<readonly WatchFrame[], void, void> {
    const path = collectionPath(resource);
    const isStreamingList = query["sendInitialEvents"] === true;
    this.requests.push(`WATCH ${path} ${isStreamingList ? "list" : `from=${String(query["resourceVersion"])}`}`);
    await Promise.resolve();
    this.#failIfAsked(path);
    if (isStreamingList && !this.canStream)
      throw new ApiError({
        status: 422,
        request: `WATCH ${path}`,
        body: { reason: "Invalid", message: "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled" },
      });
    const stream: Stream = { path, frames: [], end: "open", wake: () => undefined, isListing: isStreamingList };
    if (isStreamingList) {
      for (const object of this.#snapshot(path, this.#version)) stream.frames.push({ type: "ADDED", object });
      stream.frames.push({
        type: "BOOKMARK",
        object: { metadata: { resourceVersion: String(this.#version), annotations: { "k8s.io/initial-events-end": "true" } } },
      });
    } else {
      const from = Number(query["resourceVersion"]);
      if (from < this.#compacted)
        stream.frames.push({ type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" } });
      else for (const { path: where, version, type, object } of this.#history) if (where === path && version > from) stream.frames.push({ type, object });
      // The real one sends a bookmark two seconds before the end.
      if (Number(query["timeoutSeconds"]) <= 3)
        stream.frames.push({ type: "BOOKMARK", object: { metadata: { resourceVersion: String(this.cacheVersion ?? this.#version) } } });
    }
    this.#streams.add(stream);
    onOpen?.();
    try {
      for (;;) {
        if (signal.aborted) return;
        // What was on the way when a connection breaks is lost; what was sent before an orderly end is not.
        if (stream.end === "reset") throw new ApiUnreachableError("CONNECTION", `WATCH ${path}`, "read ECONNRESET");
        if (stream.end === "silent") throw new ApiUnreachableError("SILENT", `WATCH ${path}`, `no byte for ${silenceMs} ms`);
        // One or two frames a turn, so that a break falls between them too.
        if (stream.frames.length > 0 && stream.end !== "frozen") {
          const some = stream.frames.splice(0, 2);
          if (some.some(({ type }) => type === "BOOKMARK")) stream.isListing = false;
          yield some;
          continue;
        }
        if (stream.end === "ended") return;
        await new Promise<void>((resolve) => {
          stream.wake = resolve;
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
    } finally {
      this.#streams.delete(stream);
    }
  }

  #record(entry: HistoryEntry): void {
    this.#history.push(entry);
    for (const stream of this.#streams) if (stream.path === entry.path) this.#send(stream, { type: entry.type, object: entry.object });
  }

  #send(stream: Stream, frame: WatchFrame): void {
    if (stream.end !== "open") return;
    stream.frames.push(frame);
    stream.wake();
  }

  #snapshot(path: string, version: number): readonly JsonObject[] {
    const objects = new Map<string, JsonObject>();
    for (const entry of this.#history) {
      if (entry.path !== path || entry.version > version) continue;
      if (entry.type === "DELETED") objects.delete(entry.key);
      else objects.set(entry.key, entry.object);
    }
    return [...objects.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
  }

  #failIfAsked(path: string): void {
    const failure = this.failures.shift();
    if (failure !== undefined) throw failure;
    if (this.missing.has(path)) throw new ApiError({ status: 404, request: `GET ${path}`, body: undefined, text: "404 page not found\n" });
  }
}

/** 429 or 503 with advice. */
export function throttled(status: 429 | 503, retryAfterMs: number): ApiError {
  return new ApiError({ status, request: "GET /fake", body: { reason: status === 429 ? "TooManyRequests" : "ServiceUnavailable" }, retryAfterMs });
}

function gone(path: string, message: string): ApiError {
  return new ApiError({ status: 410, request: `GET ${path}`, body: { reason: "Expired", message } });
}

function keyIn(path: string, object: JsonObject): string {
  const metadata = object["metadata"] as { readonly name: string; readonly namespace?: string };
  return `${path} ${metadata.namespace ?? ""}/${metadata.name}`;
}
