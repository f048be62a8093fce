/** The JSONPath of additionalPrinterColumns: ".spec.cidr", ".metadata.labels['a\.b']", ".status.conditions[?(@.type=="Ready")].status", ".items[0]", "[*]". */
import type { JsonValue } from "./json.ts";
import { equalJson, isObject, valueAt } from "./json.ts";

type Step =
  | { readonly kind: "key"; readonly key: string }
  | { readonly kind: "index"; readonly index: number }
  | { readonly kind: "all" }
  | { readonly kind: "filter"; readonly path: readonly string[]; readonly value: JsonValue };

const STEP =
  /\.([A-Za-z0-9_$-]+(?:\\\.[A-Za-z0-9_$-]+)*)|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]|\[(-?\d+)\]|\[(\*)\]|\[\?\(\s*@\.([A-Za-z0-9_.]+)\s*==\s*(.+?)\s*\)\]|\.(\*)/y;

/** Undefined when the path is written in a form that is not supported here. */
export function parsePrinterPath(text: string): readonly Step[] | undefined {
  const steps: Step[] = [];
  const source = text.startsWith(".") || text.startsWith("[") ? text : `.${text}`;
  STEP.lastIndex = 0;
  while (STEP.lastIndex < source.length) {
    const match = STEP.exec(source);
    if (match === null) return undefined;
    const [, key, single, double, index, all, filterPath, filterValue, star] = match;
    const named = key ?? single ?? double;
    if (named !== undefined) steps.push({ kind: "key", key: named.replaceAll(/\\(.)/g, "$1") });
    else if (index !== undefined) steps.push({ kind: "index", index: Number(index) });
    else if (all !== undefined || star !== undefined) steps.push({ kind: "all" });
    else if (filterPath !== undefined && filterValue !== undefined) {
      try {
        steps.push({ kind: "filter", path: filterPath.split("."), value: JSON.parse(filterValue.replaceAll("'", '"')) as JsonValue });
      } catch {
        return undefined;
      }
    }
  }
  return steps;
}

/** First value at the path; undefined when there is none. */
export function printerValue(value: JsonValue, steps: readonly Step[]): JsonValue | undefined {
  let found: JsonValue[] = [value];
  for (const step of steps) found = found.flatMap((current) => next(current, step));
  return found[0];
}

function next(value: JsonValue, step: Step): JsonValue[] {
  switch (step.kind) {
    case "key": {
      const child = valueAt(value, step.key);
      return child === undefined ? [] : [child];
    }
    case "index": {
      const child = Array.isArray(value) ? value.at(step.index) : undefined;
      return child === undefined ? [] : [child];
    }
    case "all":
      return Array.isArray(value) ? value : isObject(value) ? Object.values(value) : [];
    case "filter":
      return Array.isArray(value) ? value.filter((item) => equalJson(valueAt(item, ...step.path), step.value)) : [];
    default:
      return step satisfies never;
  }
}
