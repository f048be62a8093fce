/** JSON merge patch, RFC 7396: null deletes, objects merge, everything else replaces. Pure: the target is not changed. */
import type { JsonObject, JsonValue } from "./json.ts";
import { isObject, setKey } from "./json.ts";

export function mergePatch(target: JsonValue | undefined, patch: JsonValue): JsonValue {
  if (!isObject(patch)) return patch;
  const result: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else setKey(result, key, mergePatch(Object.hasOwn(result, key) ? result[key] : undefined, value));
  }
  return result;
}
