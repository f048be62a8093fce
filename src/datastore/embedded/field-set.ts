/**
 * Sets of field paths as metadata.managedFields writes them (FieldsV1, sigs.k8s.io/structured-merge-diff): "f:<name>" for a field,
 * `k:{"<key>":<value>}` for an element of a keyed list, "v:<value>" for an element of a set, "." for the place itself.
 *
 * A set is a tree; a node without children is always a member. Sets are values: every operation makes a new one.
 */
import type { JsonObject, JsonValue } from "./json.ts";
import { canonicalJson, equalJson, isObject, setKey } from "./json.ts";
import type { Schema } from "./schema.ts";
import { ANYTHING, isAtomicMap, listKind, propertySchema } from "./schema.ts";

export interface FieldSet {
  readonly isMember: boolean;
  readonly children: ReadonlyMap<string, FieldSet>;
}

export const EMPTY_SET: FieldSet = { isMember: false, children: new Map() };
const LEAF: FieldSet = { isMember: true, children: new Map() };

export function isEmptySet(set: FieldSet): boolean {
  return !set.isMember && set.children.size === 0;
}

function node(isMember: boolean, children: Map<string, FieldSet>): FieldSet {
  for (const [step, child] of children) if (isEmptySet(child)) children.delete(step);
  return { isMember, children };
}

export function parseFieldSet(value: JsonValue | undefined): FieldSet {
  if (!isObject(value)) return EMPTY_SET;
  const children = new Map<string, FieldSet>();
  for (const [step, child] of Object.entries(value)) {
    if (step === ".") continue;
    const parsed = parseFieldSet(child);
    children.set(step, isEmptySet(parsed) ? LEAF : parsed);
  }
  return { isMember: Object.hasOwn(value, "."), children };
}

export function renderFieldSet(set: FieldSet): JsonObject {
  const result: JsonObject = {};
  if (set.isMember && set.children.size > 0) result["."] = {};
  for (const step of [...set.children.keys()].sort()) setKey(result, step, renderFieldSet(set.children.get(step) ?? EMPTY_SET));
  return result;
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const children = new Map(a.children);
  for (const [step, child] of b.children) children.set(step, union(children.get(step) ?? EMPTY_SET, child));
  return node(a.isMember || b.isMember, children);
}

export function difference(a: FieldSet, b: FieldSet): FieldSet {
  const children = new Map<string, FieldSet>();
  for (const [step, child] of a.children) children.set(step, difference(child, b.children.get(step) ?? EMPTY_SET));
  return node(a.isMember && !b.isMember, children);
}

/** As difference, and everything below a member of `b` goes too: what is removed takes its fields along. */
export function withoutSubtrees(a: FieldSet, b: FieldSet): FieldSet {
  if (b.isMember) return EMPTY_SET;
  const children = new Map<string, FieldSet>();
  for (const [step, child] of a.children) children.set(step, withoutSubtrees(child, b.children.get(step) ?? EMPTY_SET));
  return node(a.isMember, children);
}

export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  const children = new Map<string, FieldSet>();
  for (const [step, child] of a.children) {
    const other = b.children.get(step);
    if (other !== undefined) children.set(step, intersection(child, other));
  }
  return node(a.isMember && b.isMember, children);
}

/** Members as people read them: ".spec.containers[name=\"web\"].image". */
export function memberPaths(set: FieldSet, prefix = ""): string[] {
  const own = set.isMember ? [prefix === "" ? "." : prefix] : [];
  return own.concat([...set.children].flatMap(([step, child]) => memberPaths(child, prefix + stepText(step))));
}

function stepText(step: string): string {
  if (step.startsWith("f:")) return `.${step.slice(2)}`;
  if (step.startsWith("v:")) return `[=${step.slice(2)}]`;
  const keys = JSON.parse(step.slice(2)) as JsonObject;
  return `[${Object.entries(keys)
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join(",")}]`;
}

/** The step that names an element of a merging list; undefined when the list does not merge or the element lacks its keys. */
export function elementStep(item: JsonValue, list: Schema): string | undefined {
  const kind = listKind(list);
  if (kind.kind === "set") return `v:${canonicalJson(item)}`;
  if (kind.kind === "atomic" || !isObject(item)) return undefined;
  const keys: JsonObject = {};
  for (const key of kind.keys) {
    const value = item[key] ?? list.items?.properties?.[key]?.default;
    if (value !== undefined) keys[key] = value;
  }
  return `k:${canonicalJson(keys)}`;
}

export function isAtomic(value: JsonValue, schema: Schema): boolean {
  if (Array.isArray(value)) return listKind(schema).kind === "atomic";
  return isObject(value) ? isAtomicMap(schema) : true;
}

/** Every field that an applied configuration says something about. */
export function fieldsOf(value: JsonValue, schema: Schema): FieldSet {
  if (isAtomic(value, schema)) return LEAF;
  const children = new Map<string, FieldSet>();
  if (Array.isArray(value)) {
    for (const item of value) {
      const step = elementStep(item, schema);
      if (step === undefined) return LEAF;
      const below = step.startsWith("k:") ? fieldsOf(item, schema.items ?? ANYTHING).children : LEAF.children;
      children.set(step, { isMember: true, children: below });
    }
  } else if (isObject(value)) {
    for (const [key, child] of Object.entries(value)) children.set(`f:${key}`, fieldsOf(child, propertySchema(schema, key) ?? ANYTHING));
  }
  return children.size === 0 ? LEAF : { isMember: false, children };
}

interface Comparison {
  /** Fields that are new or have another value. */
  readonly changed: FieldSet;
  readonly removed: FieldSet;
}

/** What differs between two versions of a value. */
export function compare(before: JsonValue | undefined, after: JsonValue | undefined, schema: Schema): Comparison {
  if (equalJson(before, after)) return { changed: EMPTY_SET, removed: EMPTY_SET };
  if (before === undefined) return { changed: after === undefined ? EMPTY_SET : withContainers(fieldsOf(after, schema)), removed: EMPTY_SET };
  if (after === undefined) return { changed: EMPTY_SET, removed: withContainers(fieldsOf(before, schema)) };
  if (isAtomic(before, schema) || isAtomic(after, schema) || Array.isArray(before) !== Array.isArray(after)) return { changed: LEAF, removed: EMPTY_SET };
  const changed = new Map<string, FieldSet>();
  const removed = new Map<string, FieldSet>();
  const had = childrenOf(before, schema);
  const has = childrenOf(after, schema);
  for (const [step, child] of has) {
    const result = compare(had.get(step)?.value, child.value, child.schema);
    changed.set(step, had.has(step) || !step.startsWith("v:") ? result.changed : LEAF);
    removed.set(step, result.removed);
  }
  for (const [step, child] of had) if (!has.has(step)) removed.set(step, step.startsWith("v:") ? LEAF : withContainers(fieldsOf(child.value, child.schema)));
  return { changed: node(false, changed), removed: node(false, removed) };
}

/** A new or vanished place includes the containers on the way down, as in "f:labels": {".": {}, "f:app": {}}. */
function withContainers(set: FieldSet): FieldSet {
  return { isMember: true, children: new Map([...set.children].map(([step, child]) => [step, withContainers(child)])) };
}

export function childrenOf(value: JsonValue, schema: Schema): Map<string, { readonly value: JsonValue; readonly schema: Schema }> {
  const result = new Map<string, { value: JsonValue; schema: Schema }>();
  if (Array.isArray(value)) {
    for (const item of value) {
      const step = elementStep(item, schema);
      if (step !== undefined) result.set(step, { value: item, schema: schema.items ?? ANYTHING });
    }
  } else if (isObject(value)) {
    for (const [key, child] of Object.entries(value)) result.set(`f:${key}`, { value: child, schema: propertySchema(schema, key) ?? ANYTHING });
  }
  return result;
}
