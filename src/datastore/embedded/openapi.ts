/**
 * The OpenAPI documents, as far as kubectl reads them: v3 per group version (schemas for validation, apply and explain; paths so that it sees
 * which parameters a verb takes), and v2 with the same definitions for clients that ask for JSON.
 */
import { createHash } from "node:crypto";
import { OBJECT_META } from "./builtin-kinds.ts";
import { publishedSchema } from "./crd.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { isObject } from "./json.ts";
import type { GroupVersion, Registry } from "./registry.ts";
import type { ResourceType } from "./resource-type.ts";

const REFERENCE = "#/components/schemas/";
const WRITE_PARAMETERS = ["dryRun", "fieldManager", "fieldValidation"];

function groupPath(item: GroupVersion): string {
  return item.group === "" ? `api/${item.version}` : `apis/${item.group}/${item.version}`;
}

function hashOf(document: JsonObject): string {
  return createHash("sha256").update(JSON.stringify(document)).digest("hex").slice(0, 32).toUpperCase();
}

function parameters(names: readonly string[]): JsonValue[] {
  return names.map((name) => ({ in: "query", name, schema: { type: "string", uniqueItems: true } }));
}

function operation(type: ResourceType, action: string, names: readonly string[]): JsonObject {
  return {
    parameters: parameters(names),
    responses: { "200": { description: "OK", content: { "application/json": { schema: { $ref: `${REFERENCE}${type.schemaName}` } } } } },
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": { group: type.group, kind: type.kind, version: type.version },
  };
}

function pathsOf(item: GroupVersion): JsonObject {
  const paths: JsonObject = {};
  for (const type of item.types) {
    const collection = `/${groupPath(item)}/${type.isNamespaced ? "namespaces/{namespace}/" : ""}${type.plural}`;
    const list = [
      "labelSelector",
      "fieldSelector",
      "limit",
      "continue",
      "resourceVersion",
      "resourceVersionMatch",
      "watch",
      "allowWatchBookmarks",
      "sendInitialEvents",
      "timeoutSeconds",
    ];
    paths[collection] = {
      get: operation(type, "list", list),
      post: operation(type, "post", WRITE_PARAMETERS),
      delete: operation(type, "deletecollection", list),
    };
    const one: JsonObject = {
      get: operation(type, "get", []),
      put: operation(type, "put", WRITE_PARAMETERS),
      patch: operation(type, "patch", [...WRITE_PARAMETERS, "force"]),
      delete: operation(type, "delete", ["dryRun"]),
    };
    paths[`${collection}/{name}`] = one;
    if (type.hasStatusSubresource) paths[`${collection}/{name}/status`] = { get: one["get"] ?? {}, put: one["put"] ?? {}, patch: one["patch"] ?? {} };
  }
  return paths;
}

function schemasOf(registry: Registry, item: GroupVersion): JsonObject {
  const builtin = registry.documents.get(item.apiVersion);
  if (builtin !== undefined) return builtin.raw;
  const schemas: JsonObject = {};
  const core = registry.documents.get("v1")?.raw ?? {};
  for (const [name, schema] of Object.entries(core)) if (name.startsWith("io.k8s.apimachinery.")) schemas[name] = schema;
  for (const type of item.types) {
    schemas[type.schemaName] = publishedSchema(type, `${REFERENCE}${OBJECT_META}`);
    schemas[`${type.schemaName}List`] = {
      type: "object",
      required: ["items"],
      properties: {
        apiVersion: { type: "string" },
        kind: { type: "string" },
        metadata: { type: "object" },
        items: { type: "array", items: { $ref: `${REFERENCE}${type.schemaName}` } },
      },
      "x-kubernetes-group-version-kind": [{ group: type.group, kind: type.listKind, version: type.version }],
    };
  }
  return schemas;
}

function documentOf(registry: Registry, item: GroupVersion): JsonObject {
  return { openapi: "3.0.0", info: { title: "Kubernetes", version: "v1.37.2" }, paths: pathsOf(item), components: { schemas: schemasOf(registry, item) } };
}

/** /openapi/v3: where the document of each group version is. */
export function openApiIndex(registry: Registry): JsonObject {
  const paths: JsonObject = {};
  for (const item of registry.groupVersions())
    paths[groupPath(item)] = { serverRelativeURL: `/openapi/v3/${groupPath(item)}?hash=${hashOf(documentOf(registry, item))}` };
  return { paths };
}

/** /openapi/v3/<path>; undefined when there is none. */
export function openApiDocument(registry: Registry, path: string): JsonObject | undefined {
  const item = registry.groupVersions().find((candidate) => groupPath(candidate) === path);
  return item === undefined ? undefined : documentOf(registry, item);
}

/** /openapi/v2 in JSON. */
export function swaggerDocument(registry: Registry): JsonObject {
  const definitions: JsonObject = {};
  const paths: JsonObject = {};
  for (const item of registry.groupVersions()) {
    for (const [name, schema] of Object.entries(schemasOf(registry, item))) definitions[name] = asSwagger(schema);
    for (const [path, methods] of Object.entries(pathsOf(item)))
      paths[path] = isObject(methods) ? Object.fromEntries(Object.entries(methods).map(([method, value]) => [method, swaggerOperation(value)])) : {};
  }
  return { swagger: "2.0", info: { title: "Kubernetes", version: "v1.37.2" }, paths, definitions };
}

function swaggerOperation(value: JsonValue): JsonValue {
  if (!isObject(value)) return value;
  const names = Array.isArray(value["parameters"]) ? value["parameters"] : [];
  return {
    ...value,
    parameters: names.map((parameter) => (isObject(parameter) ? { in: "query", name: parameter["name"] ?? "", type: "string", uniqueItems: true } : parameter)),
    responses: { "200": { description: "OK" } },
    consumes: ["application/json"],
    produces: ["application/json"],
  };
}

function asSwagger(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(asSwagger);
  if (!isObject(value)) return typeof value === "string" && value.startsWith(REFERENCE) ? value.replace(REFERENCE, "#/definitions/") : value;
  const wrapped = value["allOf"];
  const only = Array.isArray(wrapped) && wrapped.length === 1 ? wrapped[0] : undefined;
  if (isObject(only) && typeof only["$ref"] === "string") {
    const rest = Object.fromEntries(Object.entries(value).filter(([key]) => key !== "allOf" && key !== "default"));
    return { ...rest, $ref: only["$ref"].replace(REFERENCE, "#/definitions/") };
  }
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== "nullable" && key !== "oneOf" && key !== "anyOf")
      .map(([key, inner]) => [key, asSwagger(inner)]),
  );
}
