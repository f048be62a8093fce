/**
 * Field selectors of list and watch requests: "metadata.name=a,status.phase!=Failed". Each kind says which fields it can be selected by;
 * any other is a 400, as in kube-apiserver (k8s.io/apimachinery/pkg/fields).
 */
import type { JsonObject } from "./json.ts";
import { stringAt } from "./json.ts";
import { badRequest } from "./status.ts";

/** The fields of a kind that can be selected by, and how to read them. */
export type FieldLabels = ReadonlyMap<string, (object: JsonObject) => string>;

export interface FieldRequirement {
  readonly field: string;
  readonly isNegated: boolean;
  readonly value: string;
}

/** A field label that is its own path. */
export function pathLabel(path: string): readonly [string, (object: JsonObject) => string] {
  const steps = path.replace(/^\./, "").split(".");
  return [steps.join("."), (object) => stringAt(object, ...steps)];
}

function unescape(text: string): string {
  return text.replace(/\\([\\,=])/g, "$1");
}

/** Reads a selector for a kind. Throws a 400 for a wrong form and for a field that the kind cannot be selected by. */
export function parseFieldSelector(text: string, labels: FieldLabels): readonly FieldRequirement[] {
  const requirements: FieldRequirement[] = [];
  for (const term of text.split(/(?<!\\),/)) {
    if (term === "") continue;
    const match = /^(.*?)(!=|==|=)(.*)$/s.exec(term);
    if (match === null) throw badRequest(`unable to parse field selector "${text}": invalid selector: '${term}'; can't understand '${term}'`);
    const field = match[1] ?? "";
    if (!labels.has(field)) {
      throw badRequest(`field label not supported: ${field}`);
    }
    requirements.push({ field, isNegated: match[2] === "!=", value: unescape(match[3] ?? "") });
  }
  return requirements;
}

export function matchesFields(requirements: readonly FieldRequirement[], labels: FieldLabels, object: JsonObject): boolean {
  return requirements.every(({ field, isNegated, value }) => (labels.get(field)?.(object) === value) !== isNegated);
}
