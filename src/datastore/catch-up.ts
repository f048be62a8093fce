/**
 * Where a watch stands after a time without events: its version is that of the last event or bookmark, and bookmarks come once a minute, so that a watch that
 * has everything can seem to be far behind.
 *
 * A list (one object is enough) makes the server's cache of the kind as new as its store (KEP-2340). A second watch from where the first one stands, which is
 * to end soon, gets a bookmark right before its end (apiserver's cacher: two seconds before the deadline): when nothing came before it, the first watch has
 * everything up to there. Rejected: the list's own version (events up to it may still be under way), and listing everything again.
 */

import type { ResourceKind } from "../model/resource.ts";
import type { ApiClient } from "./api-client.ts";
import { API_RESOURCES } from "./api-resources.ts";
import { objectAt, stringAt } from "./json-object.ts";

/** Above the two seconds before the end at which the bookmark comes. */
const PROBE_SECONDS = 3;
const PROBE_SILENCE_MS = 10_000;

/** A later version up to which nothing has happened since `from`; undefined: something has, and the watch itself brings it. Rejects as the client does. */
export async function quietUntil(
  client: Pick<ApiClient, "list" | "watch">,
  { kind, from, signal }: { readonly kind: ResourceKind; readonly from: string; readonly signal: AbortSignal },
): Promise<string | undefined> {
  const resource = API_RESOURCES[kind];
  await client.list(resource, { query: { limit: 1 }, signal });
  const ended = new AbortController();
  const stream = client.watch(resource, {
    query: { resourceVersion: from, allowWatchBookmarks: true, timeoutSeconds: PROBE_SECONDS },
    signal: AbortSignal.any([signal, ended.signal]),
    silenceMs: PROBE_SILENCE_MS,
  });
  try {
    for await (const frames of stream) {
      const [first] = frames;
      if (first !== undefined) return first.type === "BOOKMARK" ? stringAt(objectAt(first.object, "metadata"), "resourceVersion") : undefined;
    }
    return undefined;
  } finally {
    ended.abort();
  }
}
