/**
 * What a request's object may contain: drops what the schema does not know and says so, and checks types.
 *
 * Built-in kinds refuse a wrong type as a bad request, as the typed decoder of kube-apiserver does; custom kinds report it as invalid fields
 * (see structural.ts). Unknown fields are dropped for both; the caller decides by fieldValidation whether that is an error, a warning or nothing.
 */
import type { JsonObject, JsonValue } from "./json.ts";
import { isObject, setKey } from "./json.ts";
import type { Schema } from "./schema.ts";
import { isOpen, isUnion, propertySchema } from "./schema.ts";

interface Pruned {
  readonly object: JsonObject;
  /** Paths of dropped fields, e.g. "spec.ingress[0].fromm". */
  readonly unknown: readonly string[];
}

/** Keeps what the schema describes. Nulls go too where the schema does not allow them, as if the field had not been sent. */
export function pruneUnknown(object: JsonObject, schema: Schema): Pruned {
  const unknown: string[] = [];
  const walk = (value: JsonValue, shape: Schema, path: string): JsonValue => {
    if (Array.isArray(value)) return shape.items === undefined ? value : value.map((item, index) => walk(item, shape.items ?? shape, `${path}[${index}]`));
    if (!isObject(value) || isUnion(shape)) return value;
    const result: JsonObject = {};
    for (const [key, child] of Object.entries(value)) {
      const property = propertySchema(shape, key);
      const childPath = path === "" ? key : `${path}.${key}`;
      if (property === undefined) {
        if (isOpen(shape)) setKey(result, key, child);
        else unknown.push(childPath);
      } else if (child !== null || property.nullable === true) setKey(result, key, walk(child, property, childPath));
    }
    return result;
  };
  return { object: walk(object, schema, "") as JsonObject, unknown };
}

function jsonType(value: JsonValue): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value === "boolean" ? "bool" : typeof value;
}

const GO_NAMES: Readonly<Record<string, string>> = { string: "string", integer: "int", number: "float", boolean: "bool", array: "slice", object: "struct" };

/** First place where a value has a type that the schema does not allow; undefined when there is none. */
export function findTypeProblem(value: JsonValue, schema: Schema, path = ""): string | undefined {
  if (value === null) return undefined;
  if (isUnion(schema)) return isObject(value) || Array.isArray(value) || typeof value === "boolean" ? mismatch(value, "string or number", path) : undefined;
  switch (schema.type) {
    case "string":
      if (typeof value !== "string") return mismatch(value, "string", path);
      if (schema.format === "date-time" && Number.isNaN(Date.parse(value)))
        return `${path}: parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05Z07:00": cannot parse`;
      return undefined;
    case "boolean":
      return typeof value === "boolean" ? undefined : mismatch(value, "boolean", path);
    case "number":
      return typeof value === "number" ? undefined : mismatch(value, "number", path);
    case "integer":
      if (typeof value !== "number" || !Number.isInteger(value)) return mismatch(value, "integer", path);
      if (schema.format === "int32" && (value > 2_147_483_647 || value < -2_147_483_648))
        return `${path}: json: cannot unmarshal number ${value} into Go value of type int32`;
      return undefined;
    case "array": {
      if (!Array.isArray(value)) return mismatch(value, "array", path);
      for (const [index, item] of value.entries()) {
        const problem = schema.items === undefined ? undefined : findTypeProblem(item, schema.items, `${path}[${index}]`);
        if (problem !== undefined) return problem;
      }
      return undefined;
    }
    case "object": {
      if (!isObject(value)) return mismatch(value, "object", path);
      for (const [key, child] of Object.entries(value)) {
        const property = propertySchema(schema, key);
        const problem = property === undefined ? undefined : findTypeProblem(child, property, path === "" ? key : `${path}.${key}`);
        if (problem !== undefined) return problem;
      }
      return undefined;
    }
    default:
      return undefined;
  }
}

function mismatch(value: JsonValue, wanted: string, path: string): string {
  return `json: cannot unmarshal ${jsonType(value)} into Go struct field ${path} of type ${GO_NAMES[wanted] ?? wanted}`;
}

/** Fills in the defaults that a custom kind's schema declares. Changes the value in place. */
export function applySchemaDefaults(value: JsonValue | undefined, schema: Schema): void {
  if (Array.isArray(value)) {
    for (const item of value) if (schema.items !== undefined) applySchemaDefaults(item, schema.items);
    return;
  }
  if (!isObject(value)) return;
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    const isMissing = !Object.hasOwn(value, key) || (value[key] === null && property.nullable !== true);
    if (isMissing && property.default !== undefined) value[key] = structuredClone(property.default);
    applySchemaDefaults(value[key], property);
  }
  if (typeof schema.additionalProperties === "object") {
    for (const [key, child] of Object.entries(value)) if (schema.properties?.[key] === undefined) applySchemaDefaults(child, schema.additionalProperties);
  }
}
