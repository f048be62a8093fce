/** Reading JSON of unknown shape, one step at a time, without casts at the callers. */

export type JsonObject = Readonly<Record<string, unknown>>;

export function tryJsonObject(value: unknown): JsonObject | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
}

export function objectAt(object: JsonObject | undefined, key: string): JsonObject | undefined {
  return tryJsonObject(object?.[key]);
}

export function stringAt(object: JsonObject | undefined, key: string): string | undefined {
  const value = object?.[key];
  return typeof value === "string" ? value : undefined;
}

export function numberAt(object: JsonObject | undefined, key: string): number | undefined {
  const value = object?.[key];
  return typeof value === "number" ? value : undefined;
}

export function arrayAt(object: JsonObject | undefined, key: string): readonly unknown[] | undefined {
  const value = object?.[key];
  return Array.isArray(value) ? value : undefined;
}
