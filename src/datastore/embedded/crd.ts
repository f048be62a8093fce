/**
 * CustomResourceDefinitions: their defaults and checks, and the kinds that one adds.
 *
 * A definition is served as soon as it is written. Conversion is None only: versions differ in apiVersion and nothing else.
 */
import { AGE, ageText, column, NAME } from "./columns.ts";
import { pathLabel } from "./field-selector.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { arrayAt, ensureObject, isObject, objectAt, plainText, stringAt, valueAt } from "./json.ts";
import { dnsLabelProblems, dnsSubdomainProblems } from "./names.ts";
import { parsePrinterPath, printerValue } from "./printer-path.ts";
import type { Column, KindRules, ResourceType } from "./resource-type.ts";
import type { Schema } from "./schema.ts";
import { schemaFromJson } from "./schema.ts";
import type { Cause } from "./status.ts";
import { fieldForbidden, fieldInvalid, fieldNotSupported, fieldRequired } from "./status.ts";
import { structuralProblems } from "./structural.ts";

export const customResourceDefinitionRules: KindRules = {
  nameProblems: dnsSubdomainProblems,
  defaults(crd) {
    const spec = ensureObject(crd, "spec");
    const names = ensureObject(spec, "names");
    if (stringAt(names, "singular") === "") names["singular"] = stringAt(names, "kind").toLowerCase();
    if (stringAt(names, "listKind") === "") names["listKind"] = `${stringAt(names, "kind")}List`;
    if (Object.keys(objectAt(spec, "conversion")).length === 0) spec["conversion"] = { strategy: "None" };
    for (const version of arrayAt(spec, "versions")) {
      if (isObject(version) && Array.isArray(version["additionalPrinterColumns"]) && version["additionalPrinterColumns"].length === 0)
        delete version["additionalPrinterColumns"];
    }
  },
  validate: problems,
};

function problems(crd: JsonObject, before: JsonObject | undefined): Cause[] {
  const causes: Cause[] = [];
  const spec = objectAt(crd, "spec");
  const group = stringAt(spec, "group");
  const plural = stringAt(spec, "names", "plural");
  if (group === "") causes.push(fieldRequired("spec.group"));
  else if (!group.includes(".")) causes.push(fieldInvalid("spec.group", group, "should be a domain with at least one dot"));
  if (plural === "") causes.push(fieldRequired("spec.names.plural"));
  else causes.push(...dnsLabelProblems(plural).map((problem) => fieldInvalid("spec.names.plural", plural, problem)));
  if (stringAt(spec, "names", "kind") === "") causes.push(fieldRequired("spec.names.kind"));
  const name = stringAt(crd, "metadata", "name");
  if (name !== `${plural}.${group}`) causes.push(fieldInvalid("metadata.name", name, `must be spec.names.plural+"."+spec.group`));
  const scope = stringAt(spec, "scope");
  if (scope === "") causes.push(fieldRequired("spec.scope"));
  else if (scope !== "Cluster" && scope !== "Namespaced") causes.push(fieldNotSupported("spec.scope", scope, ["Cluster", "Namespaced"]));
  const versions = arrayAt(spec, "versions");
  if (versions.length === 0) causes.push(fieldRequired("spec.versions", "must have at least one version"));
  if (versions.filter((version) => valueAt(version, "storage") === true).length !== 1 && versions.length > 0)
    causes.push(fieldInvalid("spec.versions", "versions", "must have exactly one version marked as storage version"));
  for (const [index, version] of versions.entries()) {
    const path = `spec.versions[${index}]`;
    const versionName = stringAt(version, "name");
    causes.push(...dnsLabelProblems(versionName).map((problem) => fieldInvalid(`${path}.name`, versionName, problem)));
    const schema = valueAt(version, "schema", "openAPIV3Schema");
    if (schema === undefined) causes.push(fieldRequired(`${path}.schema.openAPIV3Schema`, "schemas are required"));
    else causes.push(...schemaProblems(schema, `${path}.schema.openAPIV3Schema`, true));
    for (const [at, shown] of arrayAt(version, "additionalPrinterColumns").entries()) {
      if (parsePrinterPath(stringAt(shown, "jsonPath")) === undefined)
        causes.push(fieldInvalid(`${path}.additionalPrinterColumns[${at}].jsonPath`, stringAt(shown, "jsonPath"), "this form of JSONPath is not supported"));
    }
  }
  const strategy = stringAt(spec, "conversion", "strategy");
  if (strategy !== "None" && strategy !== "") causes.push(fieldNotSupported("spec.conversion.strategy", strategy, ["None"]));
  if (before !== undefined) {
    for (const [path, value, old] of [
      ["spec.group", group, stringAt(before, "spec", "group")],
      ["spec.names.plural", plural, stringAt(before, "spec", "names", "plural")],
      ["spec.names.kind", stringAt(spec, "names", "kind"), stringAt(before, "spec", "names", "kind")],
      ["spec.scope", scope, stringAt(before, "spec", "scope")],
    ] as const) {
      if (value !== old) causes.push(fieldInvalid(path, value, "field is immutable"));
    }
  }
  return causes;
}

const TYPES = ["array", "boolean", "integer", "number", "object", "string"];

/** A schema must be structural: every value has a type, or says that it is int-or-string or open. */
function schemaProblems(schema: JsonValue, path: string, isRoot: boolean): Cause[] {
  if (!isObject(schema)) return [fieldInvalid(path, schema, "must be an object")];
  const causes: Cause[] = [];
  const type = stringAt(schema, "type");
  const isOpen = schema["x-kubernetes-preserve-unknown-fields"] === true || schema["x-kubernetes-int-or-string"] === true;
  if (type === "" && !isOpen)
    causes.push(fieldRequired(`${path}.type`, isRoot ? "must not be empty at the root" : "must not be empty for specified object fields"));
  else if (type !== "" && !TYPES.includes(type)) causes.push(fieldNotSupported(`${path}.type`, type, TYPES));
  if (isRoot && type !== "" && type !== "object") causes.push(fieldInvalid(`${path}.type`, type, "must be object at the root"));
  if (stringAt(schema, "$ref") !== "") causes.push(fieldForbidden(`${path}.$ref`, "$ref is not supported"));
  const pattern = stringAt(schema, "pattern");
  if (pattern !== "") {
    try {
      new RegExp(pattern, "u");
    } catch {
      causes.push(fieldInvalid(`${path}.pattern`, pattern, "must be a valid regular expression"));
    }
  }
  for (const [key, property] of Object.entries(objectAt(schema, "properties"))) {
    if (isRoot && key === "metadata") continue;
    causes.push(...schemaProblems(property, `${path}.properties[${key}]`, false));
  }
  if (type === "array") {
    const items = schema["items"];
    if (items === undefined) causes.push(fieldRequired(`${path}.items`, "must be specified"));
    else causes.push(...schemaProblems(items, `${path}.items`, false));
  }
  const open = schema["additionalProperties"];
  if (isObject(open)) causes.push(...schemaProblems(open, `${path}.additionalProperties`, false));
  return causes;
}

/** status of an accepted definition. */
export function acceptedStatus(crd: JsonObject, now: string): JsonObject {
  const before = objectAt(crd, "status");
  const storage = arrayAt(crd, "spec", "versions").find((version) => valueAt(version, "storage") === true);
  const stored = arrayAt(before, "storedVersions");
  const storageVersion = stringAt(storage, "name");
  const condition = (type: string, reason: string, message: string): JsonObject => {
    const existing = arrayAt(before, "conditions").find((other) => stringAt(other, "type") === type);
    return isObject(existing) ? existing : { type, status: "True", lastTransitionTime: now, reason, message };
  };
  return {
    conditions: [
      condition("NamesAccepted", "NoConflicts", "no conflicts found"),
      condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ],
    acceptedNames: objectAt(crd, "spec", "names"),
    storedVersions: stored.includes(storageVersion) ? stored : [...stored, storageVersion],
  };
}

/** The kinds that a definition serves, the storage version first. */
export function customKinds(crd: JsonObject, metadataSchema: Schema): ResourceType[] {
  const spec = objectAt(crd, "spec");
  const names = objectAt(spec, "names");
  const group = stringAt(spec, "group");
  const kind = stringAt(names, "kind");
  const texts = (list: JsonValue[]): string[] => list.filter((item) => typeof item === "string");
  return arrayAt(spec, "versions")
    .filter((version) => valueAt(version, "served") === true)
    .sort((a, b) => Number(valueAt(b, "storage") === true) - Number(valueAt(a, "storage") === true))
    .map((version): ResourceType => {
      const own = schemaFromJson(valueAt(version, "schema", "openAPIV3Schema"));
      const schema: Schema = { ...own, properties: { ...own.properties, apiVersion: { type: "string" }, kind: { type: "string" }, metadata: metadataSchema } };
      const versionName = stringAt(version, "name");
      const isNamespaced = spec["scope"] === "Namespaced";
      const selectable = arrayAt(version, "selectableFields").map((field) => stringAt(field, "jsonPath").replace(/^\./, ""));
      return {
        group,
        version: versionName,
        apiVersion: `${group}/${versionName}`,
        kind,
        listKind: stringAt(names, "listKind") || `${kind}List`,
        plural: stringAt(names, "plural"),
        singular: stringAt(names, "singular") || kind.toLowerCase(),
        shortNames: texts(arrayAt(names, "shortNames")),
        categories: texts(arrayAt(names, "categories")),
        isNamespaced,
        hasStatusSubresource: valueAt(version, "subresources", "status") !== undefined,
        isCustom: true,
        hasGeneration: true,
        schemaName: `${group.split(".").reverse().join(".")}.${versionName}.${kind}`,
        schema,
        fieldLabels: new Map(["metadata.name", ...(isNamespaced ? ["metadata.namespace"] : []), ...selectable].map(pathLabel)),
        columns: customColumns(arrayAt(version, "additionalPrinterColumns")),
        rules: { nameProblems: dnsSubdomainProblems, validate: (object) => structuralProblems(object, schema) },
      };
    });
}

function customColumns(declared: readonly JsonValue[]): readonly Column[] {
  if (declared.length === 0) return [NAME, AGE];
  const columns = declared.map((shown) => {
    const steps = parsePrinterPath(stringAt(shown, "jsonPath")) ?? [];
    const type = stringAt(shown, "type");
    const priority = Number(valueAt(shown, "priority") ?? 0);
    return column(
      stringAt(shown, "name"),
      (object, now) => {
        const value = printerValue(object, steps);
        if (value === undefined || value === null) return null;
        if (type === "date") return ageText(plainText(value), now);
        return typeof value === "object" ? JSON.stringify(value) : type === "string" ? String(value) : value;
      },
      { type, priority, description: stringAt(shown, "description"), format: stringAt(shown, "format") },
    );
  });
  return [NAME, ...columns];
}

/** What OpenAPI shows for a custom kind. */
export function publishedSchema(type: ResourceType, metadataReference: string): JsonObject {
  const schema = type.schema as unknown as JsonObject;
  return {
    ...schema,
    properties: { ...objectAt(schema, "properties"), metadata: { allOf: [{ $ref: metadataReference }], default: {} } },
    "x-kubernetes-group-version-kind": [{ group: type.group, kind: type.kind, version: type.version }],
  };
}
