/** Parts of an OpenAPI schema as definitions of custom resources have them (apiextensions.k8s.io/v1). */

export type Schema = Readonly<Record<string, unknown>>;

/** A rule in CEL that the API server checks at each write, and what it says to who breaks it. */
export interface Rule {
  readonly rule: string;
  readonly message: string;
}

export interface Column {
  readonly name: string;
  readonly type: "string" | "number" | "date";
  readonly jsonPath: string;
  /** 1: with -o wide only. */
  readonly priority?: 1;
}

export function rule(text: string, message: string): Rule {
  return { rule: text, message };
}

export function column(name: string, type: Column["type"], jsonPath: string, priority?: 1): Column {
  return { name, type, jsonPath, ...(priority === undefined ? {} : { priority }) };
}

/** Of an object or a field, when there are any. */
export function validations(rules: readonly Rule[]): { readonly "x-kubernetes-validations"?: readonly Rule[] } {
  return rules.length === 0 ? {} : { "x-kubernetes-validations": rules };
}
