/** Objects as kubectl get shows them: a Table (meta.k8s.io/v1) with the columns of the kind, each row with the object's metadata. */
import type { JsonObject, JsonValue } from "./json.ts";
import { objectAt } from "./json.ts";
import type { ResourceType } from "./resource-type.ts";

export type IncludeObject = "Metadata" | "Object" | "None";

export function partialMetadata(object: JsonObject): JsonObject {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: objectAt(object, "metadata") };
}

function definitions(type: ResourceType): JsonValue[] {
  return type.columns.map(({ name, type: valueType, format = "", description = "", priority }) => ({ name, type: valueType, format, description, priority }));
}

/** `hasColumns` false: the client has the columns already (later events of one watch). */
export function tableOf(
  type: ResourceType,
  objects: readonly JsonObject[],
  options: { readonly metadata: JsonObject; readonly include: IncludeObject; readonly nowMs: number; readonly hasColumns?: boolean },
): JsonObject {
  const { metadata, include, nowMs, hasColumns = true } = options;
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata,
    columnDefinitions: hasColumns ? definitions(type) : [],
    rows: objects.map(
      (object): JsonObject => ({
        cells: type.columns.map((column) => column.cell(object, nowMs)),
        ...(include === "None" ? {} : { object: include === "Object" ? object : partialMetadata(object) }),
      }),
    ),
  };
}
