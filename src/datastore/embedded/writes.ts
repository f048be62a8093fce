/** The verbs that write, as HTTP: which body each takes, which patch, which options, and what is answered. */
import type { JsonObject, JsonValue } from "./json.ts";
import { ensureObject, isObject, stringAt, valueAt } from "./json.ts";
import { JsonPatchError, jsonPatch } from "./json-patch.ts";
import { filterOf, matchesFilter, sendObject } from "./list.ts";
import { managerName } from "./managed-fields.ts";
import { mergePatch } from "./merge-patch.ts";
import type { Objects, Preconditions, WriteOptions, Written } from "./objects.ts";
import { timestamp } from "./objects.ts";
import type { ApiRequest } from "./request.ts";
import { booleanParameter, contentType, fieldValidation, isDryRun, OBJECT_TYPES, readBody, readObject, sendJson } from "./request.ts";
import type { ResourceType } from "./resource-type.ts";
import { storageName } from "./resource-type.ts";
import { ApiError, badRequest, conflict, fieldForbidden, fieldRequired, invalid, methodNotAllowed } from "./status.ts";
import type { Store } from "./store.ts";
import { StrategicPatchError, strategicPatch } from "./strategic-patch.ts";

interface WriteContext {
  readonly objects: Objects;
  readonly store: Store;
  /** Resolves when everything written so far is on disk. */
  settled(): Promise<void>;
  readonly nowMs: number;
}

export interface At {
  readonly namespace: string;
  readonly name: string;
  readonly subresource: string;
}

function writeOptions(request: ApiRequest): WriteOptions {
  const { query } = request;
  const manager = query.get("fieldManager") ?? undefined;
  if (manager !== undefined && manager.length > 128) throw badRequest(`fieldManager: Too long: may not be more than 128 bytes`);
  return {
    fieldManager: managerName(manager, request.raw.headers["user-agent"]),
    fieldValidation: fieldValidation(query),
    isDryRun: isDryRun(query),
    isForced: booleanParameter(query, "force"),
    warn: (text) => void request.warnings.push(text),
  };
}

async function answer(request: ApiRequest, type: ResourceType, written: Written, context: WriteContext): Promise<void> {
  await context.settled();
  sendObject(request, written.isCreated ? 201 : 200, type, written.object, context.nowMs);
}

export async function handleCreate(request: ApiRequest, type: ResourceType, at: At, context: WriteContext): Promise<void> {
  const body = await readObject(request);
  if (at.name !== "") {
    if (type.kind !== "Pod" || at.subresource !== "binding") throw methodNotAllowed();
    return bind(request, type, at, body, context);
  }
  await answer(request, type, context.objects.create(type, at.namespace, body, writeOptions(request)), context);
}

/** pods/binding: what a scheduler posts. */
async function bind(request: ApiRequest, type: ResourceType, at: At, binding: JsonObject, context: WriteContext): Promise<void> {
  const node = stringAt(binding, "target", "name");
  if (node === "") throw badRequest("binding.target.name: Required value: name the node");
  const options = writeOptions(request);
  const live = context.objects.get(type, at.namespace, at.name);
  const bound = stringAt(live.object, "spec", "nodeName");
  if (bound !== "") throw conflict({ ...type, plural: "pods/binding" }, at.name, `pod ${at.name} is already assigned to node ${JSON.stringify(bound)}`);
  if (!options.isDryRun) {
    const object = structuredClone(live.object);
    ensureObject(object, "spec")["nodeName"] = node;
    const status = ensureObject(object, "status");
    const others = Array.isArray(status["conditions"]) ? status["conditions"].filter((condition) => stringAt(condition, "type") !== "PodScheduled") : [];
    status["conditions"] = [...others, { type: "PodScheduled", status: "True", lastProbeTime: null, lastTransitionTime: timestamp(context.nowMs) }];
    context.store.put(live.key, object);
  }
  await context.settled();
  sendJson(request, 201, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 });
}

export async function handleUpdate(request: ApiRequest, type: ResourceType, at: At, context: WriteContext): Promise<void> {
  const body = await readObject(request);
  await answer(request, type, context.objects.update(type, at, body, writeOptions(request)), context);
}

const JSON_PATCH = "application/json-patch+json";
const MERGE_PATCH = "application/merge-patch+json";
const STRATEGIC_PATCH = "application/strategic-merge-patch+json";
const APPLY_PATCH = "application/apply-patch+yaml";

const PATCH_OPTIONS = { group: "meta.k8s.io", plural: "patchoptions", kind: "PatchOptions" } as const;

export async function handlePatch(request: ApiRequest, type: ResourceType, at: At, context: WriteContext): Promise<void> {
  const accepted = type.isCustom ? [JSON_PATCH, MERGE_PATCH, APPLY_PATCH] : [JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH];
  const patch = await readBody(request, accepted);
  if (patch === undefined) throw badRequest("the request has no body: send the patch");
  const options = writeOptions(request);
  if (contentType(request) === APPLY_PATCH) {
    if ((request.query.get("fieldManager") ?? "") === "") {
      throw invalid(PATCH_OPTIONS, "", [fieldRequired("fieldManager", "is required for apply patch")]);
    }
    await answer(request, type, context.objects.apply(type, at, asObject(patch), options), context);
    return;
  }
  if (request.query.get("force") !== null) throw invalid(PATCH_OPTIONS, "", [fieldForbidden("force", "may not be specified for non-apply patch")]);
  const written = context.objects.patch(type, at, (live) => patched(contentType(request), live, patch, type), options);
  await answer(request, type, written, context);
}

function asObject(patch: JsonValue): JsonObject {
  if (!isObject(patch)) throw badRequest("the patch must be an object");
  return patch;
}

function patched(kind: string, live: JsonObject, patch: JsonValue, type: ResourceType): JsonObject {
  try {
    if (kind === JSON_PATCH) return asObject(jsonPatch(live, patch));
    if (kind === MERGE_PATCH) return asObject(mergePatch(live, asObject(patch)));
    return strategicPatch(live, asObject(patch), type.schema);
  } catch (error) {
    if (error instanceof JsonPatchError) {
      const isShape = !Array.isArray(patch);
      throw new ApiError({
        code: isShape ? 400 : 422,
        reason: isShape ? "BadRequest" : "Invalid",
        message: `the server rejected our request due to an error in our request: ${error.message}`,
        details: {},
      });
    }
    if (error instanceof StrategicPatchError) throw badRequest(`the patch cannot be applied: ${error.message}`);
    throw error;
  }
}

async function deleteOptions(request: ApiRequest): Promise<{ readonly preconditions: Preconditions; readonly isDryRun: boolean }> {
  const body = (await readBody(request, OBJECT_TYPES)) ?? {};
  const text = (field: string): string | undefined => {
    const value = valueAt(body, "preconditions", field);
    return typeof value === "string" ? value : undefined;
  };
  const named = valueAt(body, "dryRun");
  const inBody = Array.isArray(named) ? named.map(String) : [];
  return {
    preconditions: { uid: text("uid"), resourceVersion: text("resourceVersion") },
    isDryRun: isDryRun(new URLSearchParams([...request.query.getAll("dryRun"), ...inBody].map((value) => ["dryRun", value]))),
  };
}

export async function handleDelete(request: ApiRequest, type: ResourceType, at: At, context: WriteContext): Promise<void> {
  if (at.subresource !== "") throw methodNotAllowed();
  const options = await deleteOptions(request);
  const uid = stringAt(context.objects.get(type, at.namespace, at.name).object, "metadata", "uid");
  const deleted = context.objects.delete(type, at, options);
  await context.settled();
  if (deleted.outcome === "terminating" || type.kind === "Pod" || type.kind === "Namespace")
    return sendObject(request, 200, type, deleted.object, context.nowMs);
  sendJson(request, 200, {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Success",
    details: { name: at.name, ...(type.group === "" ? {} : { group: type.group }), kind: type.plural, uid },
  });
}

export async function handleDeleteCollection(request: ApiRequest, type: ResourceType, namespace: string | undefined, context: WriteContext): Promise<void> {
  const options = await deleteOptions(request);
  if (type.isNamespaced && namespace === undefined) throw methodNotAllowed();
  const filter = filterOf(type, namespace, "", request.query);
  const entries = context.store.list(storageName(type), namespace).filter((entry) => matchesFilter(filter, type, entry));
  for (const entry of entries) {
    if (context.store.get(entry.key) !== undefined)
      context.objects.delete(type, entry.key, { preconditions: { uid: undefined, resourceVersion: undefined }, isDryRun: options.isDryRun });
  }
  await context.settled();
  sendJson(request, 200, {
    kind: type.listKind,
    apiVersion: type.apiVersion,
    metadata: { resourceVersion: String(context.store.revision) },
    items: entries.map((entry) => entry.object),
  });
}
