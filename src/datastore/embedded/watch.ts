/**
 * Watches: a cursor into the store's history per client, and no queue. A client that reads slower than objects change is carried by the
 * history; when the history has moved past its cursor it gets the ERROR event "Expired" and lists again. A client that takes no byte for
 * STALLED_MS is disconnected. So memory per watch is one cursor and what the socket holds (WRITE_CHUNK_BYTES and the kernel's buffer).
 */
import type { ServerResponse } from "node:http";
import type { JsonObject } from "./json.ts";
import { stringAt } from "./json.ts";
import type { Filter } from "./list.ts";
import { filterOf, includeObject, matchesFilter, textOf } from "./list.ts";
import type { ApiRequest, Representation } from "./request.ts";
import { booleanParameter, numberParameter, representation } from "./request.ts";
import type { ResourceType } from "./resource-type.ts";
import { storageName } from "./resource-type.ts";
import { expired, fieldForbidden, invalid } from "./status.ts";
import type { Change, Entry, Store } from "./store.ts";
import { partialMetadata, tableOf } from "./table.ts";

/** A watch ends by itself after this long when the client names no limit: between this and twice this, milliseconds. */
const DEFAULT_WATCH_MS = 30 * 60_000;
/** Time between bookmarks, milliseconds. */
export const BOOKMARK_INTERVAL_MS = 10_000;
/** A bookmark comes this long before a watch ends, milliseconds. */
const LAST_BOOKMARK_MS = 2_000;
/** A client that takes nothing for this long is disconnected, milliseconds. */
export const STALLED_MS = 30_000;
const WRITE_CHUNK_BYTES = 256 * 1024;
const CHANGES_PER_TURN = 500;

interface WatchContext {
  readonly store: Store;
  settled(): Promise<void>;
  /** Aborts when the server stops. */
  readonly signal: AbortSignal;
  readonly bookmarkIntervalMs: number;
  readonly stalledMs: number;
  now(): number;
}

type EventType = "ADDED" | "MODIFIED" | "DELETED";

/** The event that a change is for a filter: an object that comes into it is added, one that leaves it is deleted. */
export function eventOf(change: Change, isIn: (entry: Entry) => boolean): { readonly type: EventType; readonly entry: Entry } | undefined {
  const was = change.previous !== undefined && isIn(change.previous);
  const is = change.kind !== "deleted" && isIn(change.entry);
  if (is) return { type: was ? "MODIFIED" : "ADDED", entry: change.entry };
  if (!was || change.previous === undefined) return undefined;
  if (change.kind === "deleted") return { type: "DELETED", entry: change.entry };
  // It left the filter: show it as it was, with the version of the change.
  const object = structuredClone(change.previous.object);
  (object["metadata"] as JsonObject)["resourceVersion"] = String(change.revision);
  return { type: "DELETED", entry: { key: change.previous.key, revision: change.revision, object, text: JSON.stringify(object) } };
}

export async function handleWatch(
  request: ApiRequest,
  type: ResourceType,
  at: { readonly namespace: string | undefined; readonly name: string },
  context: WatchContext,
): Promise<void> {
  const watch = new Watch(request, type, filterOf(type, at.namespace, at.name, request.query), context);
  await watch.run();
}

class Watch {
  readonly #request: ApiRequest;
  readonly #response: ServerResponse;
  readonly #type: ResourceType;
  readonly #filter: Filter;
  readonly #context: WatchContext;
  readonly #form: Representation;
  readonly #wantsBookmarks: boolean;
  #hasSentColumns = false;
  #isOver = false;
  #wake: (() => void) | undefined;

  constructor(request: ApiRequest, type: ResourceType, filter: Filter, context: WatchContext) {
    this.#request = request;
    this.#response = request.response;
    this.#type = type;
    this.#filter = filter;
    this.#context = context;
    this.#form = representation(request);
    this.#wantsBookmarks = booleanParameter(request.query, "allowWatchBookmarks");
  }

  async run(): Promise<void> {
    const { query } = this.#request;
    const version = numberParameter(query, "resourceVersion");
    const sendsInitial = query.get("sendInitialEvents") === null ? version === undefined || version === 0 : booleanParameter(query, "sendInitialEvents");
    this.#checkInitialEvents();
    const { store } = this.#context;
    const resource = storageName(this.#type);
    const timeoutSeconds = numberParameter(query, "timeoutSeconds") ?? 0;
    const timeoutMs = timeoutSeconds > 0 ? timeoutSeconds * 1000 : DEFAULT_WATCH_MS * (1 + Math.random());
    await this.#context.settled();
    // From here to the snapshot nothing is awaited: no change falls between the list and the first event.
    const initial = sendsInitial ? store.list(resource, this.#filter.namespace).filter((entry) => this.#isIn(entry)) : [];
    let cursor = sendsInitial ? store.revision : (version ?? store.revision);
    this.#response.writeHead(200, { "content-type": "application/json", "cache-control": "no-cache, private" });
    this.#response.flushHeaders();
    const stop = (): void => {
      this.#isOver = true;
      this.#wake?.();
    };
    const unsubscribe = store.subscribe(resource, () => this.#wake?.());
    const timer = setTimeout(stop, Math.min(timeoutMs, 2 ** 31 - 1));
    let isBookmarkDue = false;
    const bookmarks = setInterval(() => {
      isBookmarkDue = true;
      this.#wake?.();
    }, this.#context.bookmarkIntervalMs);
    // As kube-apiserver does, so that who comes again knows from where.
    const lastBookmark = setTimeout(
      () => {
        isBookmarkDue = true;
        this.#wake?.();
      },
      Math.min(Math.max(0, timeoutMs - LAST_BOOKMARK_MS), 2 ** 31 - 1),
    );
    this.#response.once("close", stop);
    this.#context.signal.addEventListener("abort", stop, { once: true });
    if (this.#context.signal.aborted) stop();
    try {
      if (cursor > store.revision) {
        // From another server's life: as good as forgotten.
        await this.#refuse(`resource version ${cursor} is not of this server, whose current one is ${store.revision}`);
        return;
      }
      await this.#sendAll(initial.map((entry) => ({ type: "ADDED", entry })));
      if (query.get("sendInitialEvents") === "true" && this.#wantsBookmarks && !this.#isOver) {
        await this.#write(this.#bookmark(cursor, { "k8s.io/initial-events-end": "true" }));
      }
      while (!this.#isOver) {
        const changes = store.changesAfter(resource, cursor, CHANGES_PER_TURN);
        if (changes === "expired") {
          await this.#refuse(`too old resource version: ${cursor} (${store.compactedRevision(resource)})`);
          break;
        }
        if (changes.length > 0) {
          const events = changes.flatMap((change) => eventOf(change, (entry) => this.#isIn(entry)) ?? []);
          await this.#sendAll(events);
          cursor = changes.at(-1)?.revision ?? cursor;
        } else {
          cursor = Math.max(cursor, store.publishedRevision);
          if (isBookmarkDue) {
            isBookmarkDue = false;
            if (this.#wantsBookmarks) await this.#write(this.#bookmark(cursor, undefined));
          } else await this.#untilWoken(resource, cursor);
        }
      }
    } finally {
      unsubscribe();
      clearTimeout(timer);
      clearInterval(bookmarks);
      clearTimeout(lastBookmark);
      this.#context.signal.removeEventListener("abort", stop);
      this.#response.end();
    }
  }

  /** Ends with the event that makes a client list again. */
  #refuse(why: string): Promise<void> {
    return this.#write(`{"type":"ERROR","object":${JSON.stringify(expired(why).toStatus())}}\n`);
  }

  #checkInitialEvents(): void {
    const { query } = this.#request;
    const named = { group: "meta.k8s.io", plural: "listoptions", kind: "ListOptions" };
    const match = query.get("resourceVersionMatch") ?? "";
    if (query.get("sendInitialEvents") === null) {
      if (match !== "")
        throw invalid(named, "", [fieldForbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")]);
      return;
    }
    if (match !== "NotOlderThan")
      throw invalid(named, "", [fieldForbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")]);
  }

  #isIn(entry: Entry): boolean {
    return matchesFilter(this.#filter, this.#type, entry);
  }

  /** Waits for a change, a bookmark's time or the end. Woken in between: returns at once next time, because the cursor is compared again. */
  #untilWoken(resource: string, cursor: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
      const changes = this.#context.store.changesAfter(resource, cursor, 1);
      if (this.#isOver || changes === "expired" || changes.length > 0) this.#wake();
    });
  }

  async #sendAll(events: readonly { readonly type: EventType; readonly entry: Entry }[]): Promise<void> {
    let chunk = "";
    for (const { type, entry } of events) {
      if (this.#isOver) return;
      chunk += `{"type":"${type}","object":${this.#objectText(entry)}}\n`;
      if (chunk.length < WRITE_CHUNK_BYTES) continue;
      await this.#write(chunk);
      chunk = "";
    }
    if (chunk !== "") await this.#write(chunk);
  }

  #objectText(entry: Entry): string {
    if (this.#form === "object") return textOf(this.#type, entry);
    if (this.#form === "metadata") return JSON.stringify(partialMetadata(entry.object));
    const table = tableOf(this.#type, [entry.object], {
      metadata: { resourceVersion: stringAt(entry.object, "metadata", "resourceVersion") },
      include: includeObject(this.#request.query),
      nowMs: this.#context.now(),
      hasColumns: !this.#hasSentColumns,
    });
    this.#hasSentColumns = true;
    return JSON.stringify(table);
  }

  #bookmark(revision: number, annotations: Readonly<Record<string, string>> | undefined): string {
    const metadata: JsonObject = { resourceVersion: String(revision), ...(annotations === undefined ? {} : { annotations: { ...annotations } }) };
    const object: JsonObject =
      this.#form === "table"
        ? tableOf(this.#type, [], { metadata, include: "None", nowMs: 0 })
        : { kind: this.#type.kind, apiVersion: this.#type.apiVersion, metadata };
    return `{"type":"BOOKMARK","object":${JSON.stringify(object)}}\n`;
  }

  /** Hands text to the socket and waits until it has room again. */
  async #write(text: string): Promise<void> {
    if (this.#isOver || this.#response.write(text)) return;
    await new Promise<void>((resolve) => {
      const stalled = setTimeout(() => this.#response.destroy(), this.#context.stalledMs);
      const done = (): void => {
        clearTimeout(stalled);
        this.#response.off("drain", done);
        this.#response.off("close", done);
        resolve();
      };
      this.#response.once("drain", done);
      this.#response.once("close", done);
    });
  }
}
