/**
 * Who owns which field: metadata.managedFields for plain writes, and the merge and the conflicts of server-side apply
 * (kubernetes.io/docs/reference/using-api/server-side-apply).
 *
 * Each manager has one set of paths per operation and subresource. A plain write takes what it changes away from everybody else; an apply
 * that changes a field of somebody else is a conflict unless forced, and a field that its configuration no longer names is removed when nobody else owns it.
 */
import type { FieldSet } from "./field-set.ts";
import {
  childrenOf,
  compare,
  difference,
  EMPTY_SET,
  elementStep,
  fieldsOf,
  intersection,
  isAtomic,
  isEmptySet,
  memberPaths,
  parseFieldSet,
  renderFieldSet,
  union,
  withoutSubtrees,
} from "./field-set.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { arrayAt, ensureObject, isObject, setKey, stringAt } from "./json.ts";
import type { Schema } from "./schema.ts";
import { ANYTHING, propertySchema } from "./schema.ts";
import { ApiError } from "./status.ts";

export interface Manager {
  readonly name: string;
  readonly operation: "Apply" | "Update";
  readonly apiVersion: string;
  /** "" for the main resource. */
  readonly subresource: string;
  /** RFC 3339. */
  readonly time: string;
}

interface Owned {
  readonly manager: Manager;
  readonly fields: FieldSet;
}

/** Fields that nobody owns: identity, and what only the server writes. */
const UNOWNED = parseFieldSet({
  "f:apiVersion": {},
  "f:kind": {},
  "f:metadata": {
    "f:name": {},
    "f:namespace": {},
    "f:generateName": {},
    "f:uid": {},
    "f:resourceVersion": {},
    "f:generation": {},
    "f:creationTimestamp": {},
    "f:deletionTimestamp": {},
    "f:deletionGracePeriodSeconds": {},
    "f:selfLink": {},
    "f:managedFields": {},
  },
});

function owned(set: FieldSet, reset: FieldSet): FieldSet {
  const rest = withoutSubtrees(withoutSubtrees(set, UNOWNED), reset);
  const metadata = rest.children.get("f:metadata");
  const children = new Map(rest.children);
  if (metadata?.isMember === true) {
    if (metadata.children.size === 0) children.delete("f:metadata");
    else children.set("f:metadata", { isMember: false, children: metadata.children });
  }
  return { isMember: false, children };
}

function readManagers(object: JsonObject | undefined): Owned[] {
  return arrayAt(object, "metadata", "managedFields").flatMap((entry) => {
    if (!isObject(entry) || stringAt(entry, "manager") === "") return [];
    const manager: Manager = {
      name: stringAt(entry, "manager"),
      operation: stringAt(entry, "operation") === "Apply" ? "Apply" : "Update",
      apiVersion: stringAt(entry, "apiVersion"),
      subresource: stringAt(entry, "subresource"),
      time: stringAt(entry, "time"),
    };
    return [{ manager, fields: parseFieldSet(entry["fieldsV1"]) }];
  });
}

function writeManagers(object: JsonObject, managers: readonly Owned[]): void {
  const entries = managers
    .filter(({ fields }) => !isEmptySet(fields))
    .toSorted((a, b) => compareTexts(orderOf(a.manager), orderOf(b.manager)))
    .map(
      ({ manager, fields }): JsonObject => ({
        manager: manager.name,
        operation: manager.operation,
        apiVersion: manager.apiVersion,
        time: manager.time,
        fieldsType: "FieldsV1",
        fieldsV1: renderFieldSet(fields),
        ...(manager.subresource === "" ? {} : { subresource: manager.subresource }),
      }),
    );
  const metadata = ensureObject(object, "metadata");
  if (entries.length === 0) delete metadata["managedFields"];
  else metadata["managedFields"] = entries;
}

/** Applied configurations first, then by age, then by name: the order of kube-apiserver. */
function orderOf({ operation, time, name, apiVersion, subresource }: Manager): string {
  return [operation, time, name, apiVersion, subresource].join("\0");
}

function compareTexts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isSame(a: Manager, b: Manager): boolean {
  return a.name === b.name && a.operation === b.operation && a.subresource === b.subresource && a.apiVersion === b.apiVersion;
}

/**
 * Writes metadata.managedFields of `after` for a plain write. What the client sent there counts as the owners so far (that is how kubectl
 * hands a client-side configuration over to server-side apply); a list with one empty entry forgets them all.
 */
export function recordUpdate({
  before,
  after,
  schema,
  manager,
  reset,
}: {
  readonly before: JsonObject | undefined;
  readonly after: JsonObject;
  readonly schema: Schema;
  readonly manager: Manager;
  readonly reset: FieldSet;
}): void {
  const sent = arrayAt(after, "metadata", "managedFields");
  const managers = sent.length > 0 ? readManagers(after) : readManagers(before);
  const { changed, removed } = compare(before ?? {}, after, schema);
  const mine = owned(changed, reset);
  const gone = owned(removed, reset);
  if (isEmptySet(mine) && isEmptySet(gone)) {
    writeManagers(after, managers);
    return;
  }
  const result: Owned[] = managers
    .map((entry) => {
      const left = withoutSubtrees(entry.fields, gone);
      return { manager: entry.manager, fields: isSame(entry.manager, manager) ? left : difference(left, mine) };
    })
    .filter((entry) => !isSame(entry.manager, manager));
  const previous = managers.find((entry) => isSame(entry.manager, manager));
  const kept = previous === undefined ? EMPTY_SET : withoutSubtrees(previous.fields, gone);
  writeManagers(after, [...result, { manager, fields: union(kept, mine) }]);
}

interface ApplyRequest {
  readonly live: JsonObject | undefined;
  readonly applied: JsonObject;
  readonly schema: Schema;
  readonly manager: Manager;
  readonly reset: FieldSet;
  readonly isForced: boolean;
}

/** Merges an applied configuration into the live object. Throws a 409 that lists each conflict. The result has its managedFields. */
export function applyConfiguration({ live, applied, schema, manager, reset, isForced }: ApplyRequest): JsonObject {
  const managers = readManagers(live);
  const others = managers.filter((entry) => !isSame(entry.manager, manager));
  const previous = managers.find((entry) => isSame(entry.manager, manager))?.fields ?? EMPTY_SET;
  const configured = owned(fieldsOf(applied, schema), reset);
  let merged = mergeApplied(live ?? {}, applied, schema) as JsonObject;

  const { changed } = compare(live ?? {}, merged, schema);
  const taken = intersection(configured, changed);
  const allowed = manager.name === "kubectl" && live !== undefined ? lastAppliedFields(live, schema) : EMPTY_SET;
  const conflicts = others.flatMap((entry) =>
    memberPaths(difference(intersection(entry.fields, taken), allowed)).map((path) => ({ manager: entry.manager, path })),
  );
  if (conflicts.length > 0 && !isForced) throw applyConflict(conflicts);

  const remaining = others.map((entry) => ({ manager: entry.manager, fields: difference(entry.fields, taken) }));
  const ownedByOthers = remaining.reduce((set, entry) => union(set, entry.fields), EMPTY_SET);
  const dropped = difference(previous, union(configured, ownedByOthers));
  merged = (removeFields(merged, dropped, union(configured, ownedByOthers), schema) ?? {}) as JsonObject;
  writeManagers(merged, [...remaining, { manager, fields: configured }]);
  return merged;
}

/**
 * Fields that `kubectl apply` wrote before it was used with --server-side: as long as they still have that value they are kubectl's own,
 * whatever manager name they were written under. Found in the annotation that client-side apply leaves.
 */
function lastAppliedFields(live: JsonObject, schema: Schema): FieldSet {
  const text = stringAt(live, "metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration");
  if (text === "") return EMPTY_SET;
  try {
    const last = JSON.parse(text) as JsonValue;
    return difference(fieldsOf(last, schema), compare(live, mergeApplied(live, last, schema), schema).changed);
  } catch {
    // Somebody else's annotation: it allows nothing.
    return EMPTY_SET;
  }
}

function mergeApplied(live: JsonValue | undefined, applied: JsonValue, schema: Schema): JsonValue {
  if (live === undefined || isAtomic(applied, schema) || isAtomic(live, schema)) return applied;
  if (Array.isArray(applied) && Array.isArray(live)) {
    const wanted = childrenOf(applied, schema);
    const result = live.map((item) => {
      const step = elementStep(item, schema);
      const mine = step === undefined ? undefined : wanted.get(step);
      if (step !== undefined) wanted.delete(step);
      return mine === undefined ? item : mergeApplied(item, mine.value, mine.schema);
    });
    return [...result, ...[...wanted.values()].map((item) => item.value)];
  }
  if (isObject(applied) && isObject(live)) {
    const result: JsonObject = { ...live };
    for (const [key, value] of Object.entries(applied)) {
      setKey(result, key, mergeApplied(Object.hasOwn(live, key) ? live[key] : undefined, value, propertySchema(schema, key) ?? ANYTHING));
    }
    return result;
  }
  return applied;
}

/** Takes the fields of `dropped` out of a value; what somebody still owns something in stays as a container. */
function removeFields(value: JsonValue, dropped: FieldSet, kept: FieldSet, schema: Schema): JsonValue | undefined {
  if (isEmptySet(dropped)) return value;
  if (dropped.isMember && isEmptySet(kept)) return undefined;
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      const step = elementStep(item, schema);
      if (step === undefined) return [item];
      const left = removeFields(item, dropped.children.get(step) ?? EMPTY_SET, kept.children.get(step) ?? EMPTY_SET, schema.items ?? ANYTHING);
      return left === undefined ? [] : [left];
    });
  }
  if (!isObject(value)) return value;
  const result: JsonObject = {};
  for (const [key, child] of Object.entries(value)) {
    const step = `f:${key}`;
    const left = removeFields(child, dropped.children.get(step) ?? EMPTY_SET, kept.children.get(step) ?? EMPTY_SET, propertySchema(schema, key) ?? ANYTHING);
    if (left !== undefined) setKey(result, key, left);
  }
  // A container that only held dropped fields goes with them.
  return Object.keys(result).length === 0 && Object.keys(value).length > 0 && isEmptySet(kept) ? undefined : result;
}

function managerText({ name, operation, apiVersion, subresource }: Manager): string {
  const text = `"${name}"${subresource === "" ? "" : ` with subresource "${subresource}"`}`;
  return operation === "Apply" ? text : `${text} using ${apiVersion}`;
}

function applyConflict(conflicts: readonly { readonly manager: Manager; readonly path: string }[]): ApiError {
  const texts = conflicts.map(({ manager, path }) => ({ who: managerText(manager), path }));
  const managers = [...new Set(texts.map(({ who }) => who))].sort();
  const message =
    texts.length === 1
      ? `Apply failed with 1 conflict: conflict with ${texts[0]?.who}: ${texts[0]?.path}`
      : `Apply failed with ${texts.length} conflicts: ${managers.map((who) => [`conflicts with ${who}:`, ...texts.filter((text) => text.who === who).map((text) => `- ${text.path}`)].join("\n")).join("\n")}`;
  return new ApiError({
    code: 409,
    reason: "Conflict",
    message,
    details: { causes: texts.map(({ who, path }) => ({ reason: "FieldManagerConflict", message: `conflict with ${who}`, field: path })) },
  });
}

/** The field sets of which a write to a (sub)resource never becomes the owner. */
export function resetFields({ hasStatusSubresource, subresource }: { readonly hasStatusSubresource: boolean; readonly subresource: string }): FieldSet {
  if (subresource === "status") return parseFieldSet({ "f:spec": {} });
  return hasStatusSubresource ? parseFieldSet({ "f:status": {} }) : EMPTY_SET;
}

/** Name of the manager when the request does not give one: the user agent up to its first slash. */
export function managerName(fieldManager: string | undefined, userAgent: string | undefined): string {
  if (fieldManager !== undefined && fieldManager !== "") return fieldManager;
  return ((userAgent ?? "").split("/")[0] ?? "").slice(0, 128) || "unknown";
}
