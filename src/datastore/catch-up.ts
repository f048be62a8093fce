/**
 * Where a watch stands after a time without events: its version is that of the last event or bookmark, and bookmarks come once a minute, so that a watch that
 * has everything can seem to be far behind, and its data to be old.
 *
 * A list (one object is enough) makes the server's cache of the kind as new as its store (KEP-2340), and says how far that is; a watch that stands there has
 * everything. A second watch from where the first one stands, which is to end soon, gets a bookmark right before its end (apiserver's cacher: two seconds before
 * the deadline): when nothing came before it, the first watch has everything up to there; when something did, the first watch owes it. Rejected: the list's own
 * version (events up to it may still be under way), listing everything again, and watches that end every few seconds (a bookmark at the end of each tells how
 * far the cache is, not the store).
 */

import type { ResourceKind } from "../model/resource.ts";
import type { ApiClient } from "./api-client.ts";
import { API_RESOURCES } from "./api-resources.ts";
import { objectAt, stringAt } from "./json-object.ts";

/** Above the two seconds before the end at which the bookmark comes. */
const PROBE_SECONDS = 3;

export type Standing =
  /** Nothing has happened since `from`, up to this version. `isCurrent`: which is no older than the store was when the question was asked. */
  | { readonly kind: "quiet"; readonly resourceVersion: string; readonly isCurrent: boolean }
  /** The server has events after `from`. */
  | { readonly kind: "moved" }
  | { readonly kind: "unknown" };

/** What has happened to the kind since `from`. Takes up to three seconds, and at most `silenceMs` for each of two answers; rejects as the client does. */
export async function standingSince(
  client: Pick<ApiClient, "list" | "watch">,
  { kind, from, silenceMs, signal }: { readonly kind: ResourceKind; readonly from: string; readonly silenceMs: number; readonly signal: AbortSignal },
): Promise<Standing> {
  const resource = API_RESOURCES[kind];
  const { resourceVersion: stored } = await client.list(resource, { query: { limit: 1 }, signal, timeoutMs: silenceMs });
  // The server sends no bookmark to a watch that has its version.
  if (covers(from, stored)) return { kind: "quiet", resourceVersion: from, isCurrent: true };
  const ended = new AbortController();
  const stream = client.watch(resource, {
    query: { resourceVersion: from, allowWatchBookmarks: true, timeoutSeconds: PROBE_SECONDS },
    signal: AbortSignal.any([signal, ended.signal]),
    silenceMs,
  });
  try {
    for await (const frames of stream) {
      const [first] = frames;
      if (first === undefined) continue;
      // 410 too: another replica may have begun its history later. A watch that owes something is then found by its silence.
      if (first.type === "ERROR") return { kind: "unknown" };
      if (first.type !== "BOOKMARK") return { kind: "moved" };
      const resourceVersion = stringAt(objectAt(first.object, "metadata"), "resourceVersion");
      return resourceVersion === undefined ? { kind: "unknown" } : { kind: "quiet", resourceVersion, isCurrent: covers(resourceVersion, stored) };
    }
    return { kind: "unknown" };
  } finally {
    ended.abort();
  }
}

/** Versions of one kind are decimal numbers that grow (KEP-5504); others say nothing unless they are equal. */
function covers(version: string, other: string): boolean {
  if (version === other) return true;
  return /^\d+$/.test(version) && /^\d+$/.test(other) && BigInt(version) >= BigInt(other);
}
