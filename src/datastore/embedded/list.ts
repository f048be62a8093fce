/**
 * GET of one object and of a collection: selectors, resourceVersion semantics, pages that all show one revision.
 *
 * A continue token is the revision of the first page and the last key shown; as long as the history reaches back to that revision the list is
 * the one that the first page began, after that the token is expired and the client starts anew.
 */

import type { FieldRequirement } from "./field-selector.ts";
import { matchesFields, parseFieldSelector } from "./field-selector.ts";
import type { JsonObject } from "./json.ts";
import { objectAt, stringAt } from "./json.ts";
import type { LabelRequirement, Labels } from "./label-selector.ts";
import { matchesLabels, parseLabelSelector } from "./label-selector.ts";
import type { ApiRequest } from "./request.ts";
import { numberParameter, representation, sendJson, sendText } from "./request.ts";
import type { ResourceType } from "./resource-type.ts";
import { storageName } from "./resource-type.ts";
import { ApiError, badRequest, expired } from "./status.ts";
import type { Entry, Store } from "./store.ts";
import { listKey } from "./store.ts";
import type { IncludeObject } from "./table.ts";
import { partialMetadata, tableOf } from "./table.ts";

/** Which objects of a collection a request is about. */
export interface Filter {
  readonly namespace: string | undefined;
  readonly labels: readonly LabelRequirement[];
  readonly fields: readonly FieldRequirement[];
}

export function filterOf(type: ResourceType, namespace: string | undefined, name: string, query: URLSearchParams): Filter {
  const fields = parseFieldSelector(query.get("fieldSelector") ?? "", type.fieldLabels);
  return {
    namespace,
    labels: parseLabelSelector(query.get("labelSelector") ?? ""),
    fields: name === "" ? fields : [...fields, { field: "metadata.name", isNegated: false, value: name }],
  };
}

export function matchesFilter(filter: Filter, type: ResourceType, entry: Entry): boolean {
  if (filter.namespace !== undefined && entry.key.namespace !== filter.namespace) return false;
  if (filter.labels.length > 0 && !matchesLabels(filter.labels, objectAt(entry.object, "metadata", "labels") as Labels)) return false;
  return filter.fields.length === 0 || matchesFields(filter.fields, type.fieldLabels, entry.object);
}

/** JSON of an entry in the version of the type. */
export function textOf(type: ResourceType, entry: Entry): string {
  return stringAt(entry.object, "apiVersion") === type.apiVersion ? entry.text : JSON.stringify({ ...entry.object, apiVersion: type.apiVersion });
}

export function includeObject(query: URLSearchParams): IncludeObject {
  const value = query.get("includeObject") ?? "";
  if (value === "" || value === "Metadata") return "Metadata";
  if (value === "Object" || value === "None") return value;
  throw badRequest(`includeObject: ${JSON.stringify(value)} must be Metadata, Object or None`);
}

/** Answers with one object in the form that the client asked for. */
export function sendObject(request: ApiRequest, code: number, type: ResourceType, object: JsonObject, nowMs: number): void {
  switch (representation(request)) {
    case "table":
      return sendJson(
        request,
        code,
        tableOf(type, [object], {
          metadata: { resourceVersion: stringAt(object, "metadata", "resourceVersion") },
          include: includeObject(request.query),
          nowMs,
        }),
      );
    case "metadata":
      return sendJson(request, code, partialMetadata(object));
    default:
      return sendJson(request, code, object);
  }
}

interface Page {
  readonly revision: number;
  /** Last key of the page before; "" for the first page. */
  readonly after: string;
}

function encodeContinue(page: Page): string {
  return Buffer.from(JSON.stringify({ v: "sedge.api/v1", rv: page.revision, after: page.after })).toString("base64url");
}

function decodeContinue(token: string): Page {
  try {
    const { v, rv, after } = JSON.parse(Buffer.from(token, "base64url").toString("utf8")) as Record<string, unknown>;
    if (v === "sedge.api/v1" && typeof rv === "number" && typeof after === "string") return { revision: rv, after };
  } catch {
    // Reported below, like every other token that is not ours.
  }
  throw badRequest("continue key is not valid: start the list again without it");
}

function tooLargeVersion(wanted: number, current: number): ApiError {
  return new ApiError({
    code: 504,
    reason: "Timeout",
    message: `Too large resource version: ${wanted}, current: ${current}`,
    details: { causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version", field: "" }], retryAfterSeconds: 1 },
  });
}

const VERSION_MATCHES = ["", "NotOlderThan", "Exact"];

/** The objects as of the revision that the request asks for. */
function readPage(store: Store, type: ResourceType, filter: Filter, query: URLSearchParams): Page & { readonly entries: Entry[] } {
  const resource = storageName(type);
  const match = query.get("resourceVersionMatch") ?? "";
  const version = numberParameter(query, "resourceVersion");
  const token = query.get("continue") ?? "";
  if (!VERSION_MATCHES.includes(match))
    throw badRequest(`resourceVersionMatch: Unsupported value: ${JSON.stringify(match)}: supported values: "Exact", "NotOlderThan"`);
  if (match !== "" && query.get("resourceVersion") === null) throw badRequest("resourceVersionMatch is forbidden unless resourceVersion is provided");
  if (match === "Exact" && version === 0) throw badRequest('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"');
  if (token !== "" && version !== undefined && version !== 0) throw badRequest("specifying resource version is not allowed when using continue");
  const page = token === "" ? undefined : decodeContinue(token);
  const exact =
    page?.revision ??
    (match === "Exact" || (match === "" && version !== undefined && version !== 0 && query.get("limit") !== null && query.get("limit") !== "0")
      ? version
      : undefined);
  if (exact === undefined) {
    if (version !== undefined && version > store.revision) throw tooLargeVersion(version, store.revision);
    return { revision: store.revision, after: "", entries: store.list(resource, filter.namespace) };
  }
  const entries = store.listAt(resource, exact, filter.namespace);
  if (entries === "future") throw tooLargeVersion(exact, store.revision);
  if (entries === "expired") {
    throw expired(
      page === undefined
        ? `The resourceVersion for the provided list is too old: ${exact}, oldest: ${store.compactedRevision(resource)}`
        : "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
    );
  }
  return { revision: exact, after: page?.after ?? "", entries };
}

/** GET of a collection. Resolves when the answer is written; what it shows is on disk by then (`settled`). */
export async function handleList(
  request: ApiRequest,
  type: ResourceType,
  namespace: string | undefined,
  context: { readonly store: Store; settled(): Promise<void>; readonly nowMs: number },
): Promise<void> {
  const { query } = request;
  const filter = filterOf(type, namespace, "", query);
  const limit = numberParameter(query, "limit") ?? 0;
  const page = readPage(context.store, type, filter, query);
  const matching = page.entries.filter(
    (entry) => (page.after === "" || listKey(entry.key.namespace, entry.key.name) > page.after) && matchesFilter(filter, type, entry),
  );
  const shown = limit > 0 ? matching.slice(0, limit) : matching;
  const last = shown.at(-1);
  const metadata: JsonObject = { resourceVersion: String(page.revision) };
  if (shown.length < matching.length && last !== undefined) {
    metadata["continue"] = encodeContinue({ revision: page.revision, after: listKey(last.key.namespace, last.key.name) });
    if (filter.labels.length === 0 && filter.fields.length === 0) metadata["remainingItemCount"] = matching.length - shown.length;
  }
  await context.settled();
  switch (representation(request)) {
    case "table":
      return sendJson(
        request,
        200,
        tableOf(
          type,
          shown.map((entry) => entry.object),
          { metadata, include: includeObject(query), nowMs: context.nowMs },
        ),
      );
    case "metadata":
      return sendJson(request, 200, {
        kind: "PartialObjectMetadataList",
        apiVersion: "meta.k8s.io/v1",
        metadata,
        items: shown.map((entry) => partialMetadata(entry.object)),
      });
    default:
      return sendText(
        request,
        200,
        `{"kind":${JSON.stringify(type.listKind)},"apiVersion":${JSON.stringify(type.apiVersion)},"metadata":${JSON.stringify(metadata)},"items":[${shown.map((entry) => textOf(type, entry)).join(",")}]}`,
      );
  }
}
