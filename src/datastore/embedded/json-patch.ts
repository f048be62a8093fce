/** JSON patch, RFC 6902, over RFC 6901 pointers. Pure: all operations succeed, or the document stays as it was and an error says which one failed. */
import type { JsonObject, JsonValue } from "./json.ts";
import { cloneJson, equalJson, isObject, plainText, setKey } from "./json.ts";

/** An operation that cannot be carried out; the message names it. */
export class JsonPatchError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "JsonPatchError";
  }
}

const MAX_JSON_PATCH_OPERATIONS = 10_000;

function parsePointer(value: JsonValue | undefined): string[] {
  if (typeof value !== "string" || (value !== "" && !value.startsWith("/"))) throw new JsonPatchError(`not a JSON pointer: ${JSON.stringify(value ?? null)}`);
  return value === ""
    ? []
    : value
        .slice(1)
        .split("/")
        .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function arrayIndex(step: string, length: number, mayAppend: boolean): number {
  if (step === "-" && mayAppend) return length;
  if (!/^(0|[1-9]\d*)$/.test(step)) throw new JsonPatchError(`not an array index: ${step}`);
  const index = Number(step);
  if (index > (mayAppend ? length : length - 1)) throw new JsonPatchError(`array index ${step} is out of range`);
  return index;
}

function find(document: JsonValue, path: readonly string[]): JsonValue {
  let current: JsonValue = document;
  for (const step of path) {
    const next: JsonValue | undefined = Array.isArray(current)
      ? current[arrayIndex(step, current.length, false)]
      : isObject(current) && Object.hasOwn(current, step)
        ? current[step]
        : undefined;
    if (next === undefined) throw new JsonPatchError(`path /${path.join("/")} does not exist`);
    current = next;
  }
  return current;
}

function parentOf(document: JsonValue, path: readonly string[]): { readonly parent: JsonValue[] | JsonObject; readonly step: string } {
  const parent = find(document, path.slice(0, -1));
  if (!Array.isArray(parent) && !isObject(parent)) throw new JsonPatchError(`path /${path.join("/")} does not exist`);
  return { parent, step: path.at(-1) ?? "" };
}

function add(document: JsonValue, path: readonly string[], value: JsonValue): JsonValue {
  if (path.length === 0) return value;
  const { parent, step } = parentOf(document, path);
  if (Array.isArray(parent)) parent.splice(arrayIndex(step, parent.length, true), 0, value);
  else setKey(parent, step, value);
  return document;
}

function remove(document: JsonValue, path: readonly string[]): JsonValue {
  if (path.length === 0) return null;
  find(document, path);
  const { parent, step } = parentOf(document, path);
  if (Array.isArray(parent)) parent.splice(arrayIndex(step, parent.length, false), 1);
  else delete parent[step];
  return document;
}

function applyOne(document: JsonValue, operation: JsonObject): JsonValue {
  const path = parsePointer(operation["path"]);
  const value = (): JsonValue => {
    if (operation["value"] === undefined) throw new JsonPatchError("value is missing");
    return cloneJson(operation["value"]);
  };
  switch (operation["op"]) {
    case "add":
      return add(document, path, value());
    case "remove":
      return remove(document, path);
    case "replace": {
      const replacement = value();
      find(document, path);
      return path.length === 0 ? replacement : add(remove(document, path), path, replacement);
    }
    case "move": {
      const from = parsePointer(operation["from"]);
      if (path.length > from.length && from.every((step, index) => path[index] === step)) throw new JsonPatchError("cannot move a value into itself");
      const moved = find(document, from);
      return add(remove(document, from), path, moved);
    }
    case "copy":
      return add(document, path, cloneJson(find(document, parsePointer(operation["from"]))));
    case "test":
      if (!equalJson(find(document, path), value())) throw new JsonPatchError(`testing path ${JSON.stringify(operation["path"])} failed`);
      return document;
    default:
      throw new JsonPatchError(`unknown operation ${JSON.stringify(operation["op"] ?? null)}`);
  }
}

/** Throws JsonPatchError. */
export function jsonPatch(target: JsonValue, patch: JsonValue): JsonValue {
  if (!Array.isArray(patch)) throw new JsonPatchError("a JSON patch is an array of operations");
  if (patch.length > MAX_JSON_PATCH_OPERATIONS)
    throw new JsonPatchError(`The allowed maximum operations in a JSON patch is ${MAX_JSON_PATCH_OPERATIONS}, got ${patch.length}`);
  let document = cloneJson(target);
  for (const [index, operation] of patch.entries()) {
    if (!isObject(operation)) throw new JsonPatchError(`operation ${index} is not an object`);
    try {
      document = applyOne(document, operation);
    } catch (error) {
      if (error instanceof JsonPatchError)
        throw new JsonPatchError(`operation ${index} (${plainText(operation["op"])} ${plainText(operation["path"])}): ${error.message}`);
      throw error;
    }
  }
  return document;
}
