/**
 * Strategic merge patch: a merge patch that knows from the schema which lists merge, and by which key
 * (kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch; the directives as in apimachinery's strategicpatch).
 *
 * Directives: $patch replace | merge | delete, $retainKeys, $deleteFromPrimitiveList/<field>, $setElementOrder/<field>.
 * Pure: the target is not changed. The result never contains a directive.
 */
import type { JsonObject, JsonValue } from "./json.ts";
import { equalJson, isObject, setKey } from "./json.ts";
import type { Schema } from "./schema.ts";
import { ANYTHING, propertySchema } from "./schema.ts";

const PATCH = "$patch";
const RETAIN_KEYS = "$retainKeys";
const DELETE_FROM = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER = "$setElementOrder/";

/** A patch that contradicts itself or the schema; the message names the field. */
export class StrategicPatchError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "StrategicPatchError";
  }
}

function strategies(schema: Schema): readonly string[] {
  return (schema["x-kubernetes-patch-strategy"] ?? "").split(",");
}

export function strategicPatch(target: JsonObject, patch: JsonObject, schema: Schema): JsonObject {
  return mergeObject(target, patch, schema, "");
}

function mergeObject(target: JsonObject, patch: JsonObject, schema: Schema, path: string): JsonObject {
  const directive = patch[PATCH];
  if (directive === "replace") return cleaned(withoutKey(patch, PATCH));
  if (directive === "delete") return {};
  if (directive !== undefined && directive !== "merge") throw new StrategicPatchError(`${path || "."}: unknown $patch directive ${JSON.stringify(directive)}`);

  const result: JsonObject = { ...target };
  const retained = patch[RETAIN_KEYS];
  if (retained !== undefined) {
    if (!Array.isArray(retained)) throw new StrategicPatchError(`${path}.$retainKeys must be a list of field names`);
    for (const key of Object.keys(result)) if (!retained.includes(key)) delete result[key];
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key === PATCH || key === RETAIN_KEYS) continue;
    if (key.startsWith(DELETE_FROM)) {
      deletePrimitives(result, key.slice(DELETE_FROM.length), value, path);
      continue;
    }
    if (key.startsWith(ELEMENT_ORDER)) continue;
    const property = propertySchema(schema, key) ?? ANYTHING;
    if (value === null) delete result[key];
    else setKey(result, key, mergeValue(result[key], value, property, `${path}.${key}`));
  }
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(ELEMENT_ORDER)) continue;
    const field = key.slice(ELEMENT_ORDER.length);
    const list = result[field];
    if (!Array.isArray(list) || !Array.isArray(order)) continue;
    const mergeKey = propertySchema(schema, field)?.["x-kubernetes-patch-merge-key"];
    const before = Array.isArray(target[field]) ? target[field] : [];
    result[field] = inOrder(list, order, before, mergeKey);
  }
  return result;
}

function mergeValue(target: JsonValue | undefined, patch: JsonValue, schema: Schema, path: string): JsonValue {
  if (isObject(patch)) {
    const base = isObject(target) && !strategies(schema).includes("replace") ? target : {};
    return mergeObject(base, patch, schema, path);
  }
  if (Array.isArray(patch)) {
    const current = Array.isArray(target) ? target : [];
    if (!strategies(schema).includes("merge")) return patch.map(cleanedValue);
    const mergeKey = schema["x-kubernetes-patch-merge-key"];
    if (mergeKey === undefined || patch.every((item) => !isObject(item))) {
      const added = patch.filter((item) => !current.some((have) => equalJson(have, item)));
      return inOrder([...current, ...added], patch, current, mergeKey);
    }
    // Without an order of its own, a patch is its order: a new element stands before what only the server has after it.
    const order = patch.filter((item) => isObject(item) && item[PATCH] === undefined);
    return inOrder(mergeList(current, patch, mergeKey, schema.items ?? ANYTHING, path), order, current, mergeKey);
  }
  return patch;
}

function mergeList(current: readonly JsonValue[], patch: readonly JsonValue[], mergeKey: string, items: Schema, path: string): JsonValue[] {
  const replaces = patch.some((item) => isObject(item) && item[PATCH] === "replace");
  let result: JsonValue[] = replaces ? [] : [...current];
  for (const item of patch) {
    if (!isObject(item)) throw new StrategicPatchError(`${path}: every element of the patch must be an object with ${mergeKey}`);
    if (item[PATCH] === "replace" && Object.keys(item).length === 1) continue;
    const key = item[mergeKey];
    if (key === undefined) {
      throw new StrategicPatchError(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey} (at ${path})`);
    }
    if (item[PATCH] === "delete") {
      result = result.filter((have) => !(isObject(have) && equalJson(have[mergeKey], key)));
      continue;
    }
    const index = result.findIndex((have) => isObject(have) && equalJson(have[mergeKey], key));
    const have = result[index];
    const merged = mergeObject(isObject(have) ? have : {}, item, items, `${path}[${mergeKey}=${JSON.stringify(key)}]`);
    if (index >= 0) result[index] = merged;
    else result.push(merged);
  }
  return result;
}

function deletePrimitives(result: JsonObject, field: string, values: JsonValue, path: string): void {
  if (!Array.isArray(values)) throw new StrategicPatchError(`${path}.${DELETE_FROM}${field} must be a list`);
  const list = result[field];
  if (Array.isArray(list)) result[field] = list.filter((item) => !values.some((value) => equalJson(value, item)));
}

/** Elements that the order names come in that order; the others keep their place relative to what stood before and after them. */
function inOrder(list: readonly JsonValue[], order: readonly JsonValue[], before: readonly JsonValue[], mergeKey: string | undefined): JsonValue[] {
  const identity = (item: JsonValue): JsonValue => (mergeKey !== undefined && isObject(item) ? (item[mergeKey] ?? null) : item);
  const rank = (item: JsonValue, among: readonly JsonValue[]): number => among.findIndex((other) => equalJson(identity(other), identity(item)));
  const named = list.filter((item) => rank(item, order) >= 0).sort((a, b) => rank(a, order) - rank(b, order));
  const others = list.filter((item) => rank(item, order) < 0);
  const result: JsonValue[] = [];
  let next = 0;
  for (const item of named) {
    const place = rank(item, before);
    // Others that stood before this one stay before it.
    for (let other = others[next]; other !== undefined && isBefore(rank(other, before), place); other = others[next]) {
      result.push(other);
      next++;
    }
    result.push(item);
  }
  return [...result, ...others.slice(next)];
}

/** Both places are known, and the first is ahead. */
function isBefore(place: number, other: number): boolean {
  return place >= 0 && other >= 0 && place < other;
}

function withoutKey(object: JsonObject, key: string): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));
}

/** What a replacing patch leaves: no directives, no nulls. */
function cleaned(object: JsonObject): JsonObject {
  const result: JsonObject = {};
  for (const [key, value] of Object.entries(object)) {
    if (key === PATCH || key === RETAIN_KEYS || key.startsWith(DELETE_FROM) || key.startsWith(ELEMENT_ORDER) || value === null) continue;
    setKey(result, key, cleanedValue(value));
  }
  return result;
}

function cleanedValue(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.filter((item) => !(isObject(item) && item[PATCH] === "delete")).map(cleanedValue);
  return isObject(value) ? cleaned(value) : value;
}
