/**
 * Checks an object against the openAPIV3Schema of its CustomResourceDefinition: types, required, enum, pattern, limits, formats, combinations,
 * unique list keys. Expressions (x-kubernetes-validations) are not evaluated: a rule that only CEL states is not enforced here.
 *
 * Messages are those of kube-apiserver, so that a manifest fails alike on both.
 */

import { isIP } from "node:net";
import type { JsonObject, JsonValue } from "./json.ts";
import { canonicalJson, equalJson, isObject } from "./json.ts";
import type { Schema } from "./schema.ts";
import { isUnion, listKind, propertySchema } from "./schema.ts";
import type { Cause } from "./status.ts";
import { fieldDuplicate, fieldInvalid, fieldNotSupported, fieldRequired, fieldTypeInvalid } from "./status.ts";

export function structuralProblems(object: JsonObject, schema: Schema): Cause[] {
  const causes: Cause[] = [];
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    if (key === "metadata" || key === "apiVersion" || key === "kind") continue;
    const value = object[key];
    if (value !== undefined) check(value, property, key, causes);
  }
  checkRequired(object, schema, "", causes);
  return causes;
}

function typeName(value: JsonValue): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value;
}

function hasType(value: JsonValue, type: string): boolean {
  const actual = typeName(value);
  return actual === type || (type === "number" && actual === "integer");
}

function checkRequired(value: JsonObject, schema: Schema, path: string, causes: Cause[]): void {
  for (const key of schema.required ?? []) if (!Object.hasOwn(value, key)) causes.push(fieldRequired(path === "" ? key : `${path}.${key}`));
}

function check(value: JsonValue, schema: Schema, path: string, causes: Cause[]): void {
  if (value === null) {
    if (schema.nullable !== true && schema.type !== undefined)
      causes.push(fieldTypeInvalid(path, "null", `${path} in body must be of type ${schema.type}: "null"`));
    return;
  }
  if (isUnion(schema)) {
    if (typeof value !== "string" && !(typeof value === "number" && Number.isInteger(value)))
      causes.push(fieldTypeInvalid(path, typeName(value), `${path} in body must be of type integer,string: "${typeName(value)}"`));
  } else if (schema.type !== undefined && !hasType(value, schema.type)) {
    causes.push(fieldTypeInvalid(path, typeName(value), `${path} in body must be of type ${schema.type}: "${typeName(value)}"`));
    return;
  }
  if (schema.enum !== undefined && !schema.enum.some((allowed) => equalJson(allowed, value)))
    causes.push(
      fieldNotSupported(
        path,
        value,
        schema.enum.map((allowed) => (typeof allowed === "string" ? allowed : JSON.stringify(allowed))),
      ),
    );
  if (typeof value === "string") checkText(value, schema, path, causes);
  else if (typeof value === "number") checkNumber(value, schema, path, causes);
  else if (Array.isArray(value)) checkList(value, schema, path, causes);
  else if (isObject(value)) checkObject(value, schema, path, causes);
  checkCombinations(value, schema, path, causes);
}

function checkText(value: string, schema: Schema, path: string, causes: Cause[]): void {
  const length = Array.from(value).length;
  if (schema.minLength !== undefined && length < schema.minLength)
    causes.push(fieldInvalid(path, value, `${path} in body should be at least ${schema.minLength} chars long`));
  if (schema.maxLength !== undefined && length > schema.maxLength)
    causes.push({ reason: "FieldValueTooLong", message: `Too long: may not be more than ${schema.maxLength} bytes`, field: path });
  if (schema.pattern !== undefined && !patternOf(schema.pattern).test(value))
    causes.push(fieldInvalid(path, value, `${path} in body should match '${schema.pattern}'`));
  if (schema.format !== undefined && FORMATS[schema.format]?.(value) === false)
    causes.push(fieldInvalid(path, value, `${path} in body must be of type ${schema.format}: ${JSON.stringify(value)}`));
}

const FORMATS: Readonly<Record<string, (value: string) => boolean>> = {
  "date-time": (value) => /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d/.test(value) && !Number.isNaN(Date.parse(value)),
  date: (value) => /^\d{4}-\d\d-\d\d$/.test(value),
  ipv4: (value) => isIP(value) === 4,
  ipv6: (value) => isIP(value) === 6,
  cidr: (value) => {
    const [address = "", length = "", ...rest] = value.split("/");
    return rest.length === 0 && isIP(address) > 0 && /^\d+$/.test(length) && Number(length) <= (isIP(address) === 4 ? 32 : 128);
  },
  uuid: (value) => /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i.test(value),
};

const patterns = new Map<string, RegExp>();

/** Go's RE2 and JavaScript agree on what schemas use; a pattern that does not compile here matches everything. */
function patternOf(text: string): RegExp {
  let pattern = patterns.get(text);
  if (pattern === undefined) {
    try {
      pattern = new RegExp(text, "u");
    } catch {
      pattern = /(?:)/;
    }
    patterns.set(text, pattern);
  }
  return pattern;
}

function checkNumber(value: number, schema: Schema, path: string, causes: Cause[]): void {
  const { minimum, maximum, multipleOf } = schema;
  if (minimum !== undefined && (schema.exclusiveMinimum === true ? value <= minimum : value < minimum))
    causes.push(fieldInvalid(path, value, `${path} in body should be greater than ${schema.exclusiveMinimum === true ? "" : "or equal to "}${minimum}`));
  if (maximum !== undefined && (schema.exclusiveMaximum === true ? value >= maximum : value > maximum))
    causes.push(fieldInvalid(path, value, `${path} in body should be less than ${schema.exclusiveMaximum === true ? "" : "or equal to "}${maximum}`));
  if (multipleOf !== undefined && value % multipleOf !== 0) causes.push(fieldInvalid(path, value, `${path} in body should be a multiple of ${multipleOf}`));
  if (schema.format === "int32" && (value > 2_147_483_647 || value < -2_147_483_648))
    causes.push(fieldInvalid(path, value, `Checked value must be of type integer with format int32 in ${path}`));
}

function checkList(value: readonly JsonValue[], schema: Schema, path: string, causes: Cause[]): void {
  if (schema.minItems !== undefined && value.length < schema.minItems)
    causes.push(fieldInvalid(path, value.length, `${path} in body should have at least ${schema.minItems} items`));
  if (schema.maxItems !== undefined && value.length > schema.maxItems)
    causes.push({ reason: "FieldValueTooMany", message: `Too many: ${value.length}: must have at most ${schema.maxItems} items`, field: path });
  for (const [index, item] of value.entries()) if (schema.items !== undefined) check(item, schema.items, `${path}[${index}]`, causes);
  const kind = listKind(schema);
  if (kind.kind === "atomic" && schema.uniqueItems !== true) return;
  const seen = new Set<string>();
  for (const [index, item] of value.entries()) {
    const identity = kind.kind === "map" && isObject(item) ? Object.fromEntries(kind.keys.map((key) => [key, item[key] ?? null])) : item;
    const text = canonicalJson(identity);
    if (seen.has(text)) causes.push(fieldDuplicate(`${path}[${index}]`, identity));
    seen.add(text);
  }
}

function checkObject(value: JsonObject, schema: Schema, path: string, causes: Cause[]): void {
  checkRequired(value, schema, path, causes);
  const count = Object.keys(value).length;
  if (schema.minProperties !== undefined && count < schema.minProperties)
    causes.push(fieldInvalid(path, count, `${path} in body should have at least ${schema.minProperties} properties`));
  if (schema.maxProperties !== undefined && count > schema.maxProperties)
    causes.push({ reason: "FieldValueTooMany", message: `Too many: ${count}: must have at most ${schema.maxProperties} items`, field: path });
  for (const [key, child] of Object.entries(value)) {
    const property = propertySchema(schema, key);
    if (property !== undefined) check(child, property, `${path}.${key}`, causes);
  }
}

function passes(value: JsonValue, schema: Schema, path: string): boolean {
  const causes: Cause[] = [];
  check(value, schema, path, causes);
  return causes.length === 0;
}

function checkCombinations(value: JsonValue, schema: Schema, path: string, causes: Cause[]): void {
  if (isUnion(schema)) return;
  for (const inner of schema.allOf ?? []) check(value, inner, path, causes);
  if (schema.anyOf !== undefined && !schema.anyOf.some((inner) => passes(value, inner, path)))
    causes.push(fieldInvalid(path, value, `${path} in body must validate at least one schema (anyOf)`));
  if (schema.oneOf !== undefined && schema.oneOf.filter((inner) => passes(value, inner, path)).length !== 1)
    causes.push(fieldInvalid(path, value, `${path} in body must validate one and only one schema (oneOf)`));
  if (schema.not !== undefined && passes(value, schema.not, path)) causes.push(fieldInvalid(path, value, `${path} in body must not validate the schema (not)`));
}
