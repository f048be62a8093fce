/** What the API knows of one kind in one version: its names, its schema, its rules, its columns. Everything else in this folder is generic over it. */
import type { FieldLabels } from "./field-selector.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import type { Schema } from "./schema.ts";
import type { Cause } from "./status.ts";

export interface Column {
  readonly name: string;
  readonly type: string;
  readonly format?: string;
  readonly description?: string;
  /** 0 is always shown, 1 with -o wide. */
  readonly priority: number;
  /** `nowMs`: for ages. */
  cell(object: JsonObject, nowMs: number): JsonValue;
}

/** What a kind does beyond its schema. Functions that fill in change the object in place. */
export interface KindRules {
  nameProblems(name: string): string[];
  /** Fills in what the API fills in for every request. */
  defaults?(object: JsonObject): void;
  /** Fills in what a new object starts with. */
  prepareForCreate?(object: JsonObject): void;
  /** What is wrong with an object whose types are right. `before` is undefined on create. */
  validate?(object: JsonObject, before: JsonObject | undefined): Cause[];
}

export interface ResourceType {
  /** "" for the core group. */
  readonly group: string;
  readonly version: string;
  /** "v1" or "<group>/<version>". */
  readonly apiVersion: string;
  readonly kind: string;
  readonly listKind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly isNamespaced: boolean;
  readonly hasStatusSubresource: boolean;
  readonly isCustom: boolean;
  /** metadata.generation counts the changes of the specification. */
  readonly hasGeneration: boolean;
  /** Name of its schema in the OpenAPI documents. */
  readonly schemaName: string;
  readonly schema: Schema;
  readonly fieldLabels: FieldLabels;
  readonly columns: readonly Column[];
  readonly rules: KindRules;
}

/** The store's name of a resource; all versions of a kind share it. */
export function storageName(type: Pick<ResourceType, "group" | "plural">): string {
  return type.group === "" ? type.plural : `${type.plural}.${type.group}`;
}
