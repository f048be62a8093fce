/**
 * Schemas: the OpenAPI v3 subset that describes built-in kinds and custom ones, linked so that a walk needs no look-ups.
 *
 * One description drives everything that depends on a field's shape: unknown fields, types, strategic merge, server-side apply, defaults.
 * The alternative, a table of merge keys and a list of known fields per kind written by hand, was rejected: it drifts from Kubernetes.
 */
import type { JsonObject, JsonValue } from "./json.ts";
import { isObject } from "./json.ts";

export interface Schema {
  readonly type?: string;
  readonly format?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema | boolean;
  readonly required?: readonly string[];
  readonly enum?: readonly JsonValue[];
  readonly default?: JsonValue;
  readonly nullable?: boolean;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: boolean;
  readonly exclusiveMaximum?: boolean;
  readonly multipleOf?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly uniqueItems?: boolean;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly oneOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly not?: Schema;
  readonly "x-kubernetes-patch-strategy"?: string;
  readonly "x-kubernetes-patch-merge-key"?: string;
  readonly "x-kubernetes-list-type"?: string;
  readonly "x-kubernetes-list-map-keys"?: readonly string[];
  readonly "x-kubernetes-map-type"?: string;
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
  readonly "x-kubernetes-embedded-resource"?: boolean;
}

/** What is known about a value without a description. */
export const ANYTHING: Schema = { "x-kubernetes-preserve-unknown-fields": true };

const PREFIX = "#/components/schemas/";

function reference(schema: JsonValue | undefined): string | undefined {
  if (!isObject(schema)) return undefined;
  const direct = schema["$ref"];
  if (typeof direct === "string") return direct.slice(PREFIX.length);
  const wrapped = schema["allOf"];
  return Array.isArray(wrapped) && wrapped.length === 1 ? reference(wrapped[0]) : undefined;
}

/** Replaces every reference by what it names. Cycles stay cycles. Throws on a reference to nothing. */
export function linkSchemas(definitions: JsonObject): ReadonlyMap<string, Schema> {
  const linked = new Map<string, JsonObject>();
  const late: (() => void)[] = [];
  for (const name of Object.keys(definitions)) linked.set(name, {});

  function targetOf(name: string): JsonObject {
    const target = linked.get(name);
    if (target === undefined) throw new Error(`schema ${name} is referred to and not defined`);
    return target;
  }
  function link(raw: JsonValue): JsonValue {
    if (Array.isArray(raw)) return raw.map(link);
    if (!isObject(raw)) return raw;
    const name = reference(raw);
    if (name !== undefined) {
      const own = Object.entries(raw).filter(([key]) => key !== "$ref" && key !== "allOf");
      if (own.length === 0) return targetOf(name);
      const copy: JsonObject = Object.fromEntries(own);
      late.push(() => Object.assign(copy, { ...targetOf(name), ...Object.fromEntries(own) }));
      return copy;
    }
    return Object.fromEntries(Object.entries(raw).map(([key, value]) => [key, key === "default" || key === "enum" ? value : link(value)]));
  }
  for (const [name, raw] of Object.entries(definitions)) Object.assign(targetOf(name), link(raw));
  for (const finish of late) finish();
  return linked as ReadonlyMap<string, unknown> as ReadonlyMap<string, Schema>;
}

/** A schema from a CustomResourceDefinition: no references there, so its JSON is the schema. */
export function schemaFromJson(value: JsonValue | undefined): Schema {
  return isObject(value) ? value : ANYTHING;
}

export function propertySchema(schema: Schema, key: string): Schema | undefined {
  const property = schema.properties !== undefined && Object.hasOwn(schema.properties, key) ? schema.properties[key] : undefined;
  if (property !== undefined) return property;
  if (typeof schema.additionalProperties === "object") return schema.additionalProperties;
  return undefined;
}

/** Can the object have keys of any name? */
export function isOpen(schema: Schema): boolean {
  return (
    schema["x-kubernetes-preserve-unknown-fields"] === true ||
    (schema.additionalProperties !== undefined && schema.additionalProperties !== false) ||
    isBare(schema)
  );
}

/** Says nothing about the shape: RawExtension, FieldsV1 and the like. */
function isBare(schema: Schema): boolean {
  return schema.properties === undefined && schema.additionalProperties === undefined && schema.items === undefined;
}

/** Has an unspecified, whole-number-or-text value (ports, percentages) or a quantity. */
export function isUnion(schema: Schema): boolean {
  return (
    schema["x-kubernetes-int-or-string"] === true ||
    schema.format === "int-or-string" ||
    (schema.type === undefined && (schema.oneOf !== undefined || schema.anyOf !== undefined) && isBare(schema))
  );
}

type ListKind = { readonly kind: "atomic" } | { readonly kind: "set" } | { readonly kind: "map"; readonly keys: readonly string[] };

export function listKind(schema: Schema): ListKind {
  const keys = schema["x-kubernetes-list-map-keys"];
  if (schema["x-kubernetes-list-type"] === "map" && keys !== undefined) return { kind: "map", keys };
  if (schema["x-kubernetes-list-type"] === "set") return { kind: "set" };
  return { kind: "atomic" };
}

export function isAtomicMap(schema: Schema): boolean {
  return schema["x-kubernetes-map-type"] === "atomic" || (isBare(schema) && schema["x-kubernetes-preserve-unknown-fields"] !== true);
}
