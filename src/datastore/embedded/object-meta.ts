/** Checks of metadata that every kind shares: names, labels, annotations, finalizers, owners; and what an update must not change. */
import type { JsonObject } from "./json.ts";
import { arrayAt, equalJson, isObject, objectAt, plainText, stringAt, valueAt } from "./json.ts";
import { labelKeyProblems, labelValueProblems } from "./names.ts";
import type { ResourceType } from "./resource-type.ts";
import type { Cause } from "./status.ts";
import { fieldForbidden, fieldInvalid, fieldRequired } from "./status.ts";

const MAX_ANNOTATION_BYTES = 256 * 1024;

export function metadataProblems(object: JsonObject, type: ResourceType): Cause[] {
  const causes: Cause[] = [];
  const name = stringAt(object, "metadata", "name");
  if (name === "") causes.push(fieldRequired("metadata.name", "name or generateName is required"));
  else causes.push(...type.rules.nameProblems(name).map((problem) => fieldInvalid("metadata.name", name, problem)));
  causes.push(...labelProblems(objectAt(object, "metadata", "labels"), "metadata.labels"));
  let bytes = 0;
  for (const [key, value] of Object.entries(objectAt(object, "metadata", "annotations"))) {
    causes.push(...labelKeyProblems(key.toLowerCase()).map((problem) => fieldInvalid("metadata.annotations", key, problem)));
    bytes += Buffer.byteLength(key) + Buffer.byteLength(plainText(value));
  }
  if (bytes > MAX_ANNOTATION_BYTES)
    causes.push({ reason: "FieldValueTooLong", message: `Too long: may not be more than ${MAX_ANNOTATION_BYTES} bytes`, field: "metadata.annotations" });
  for (const [index, finalizer] of arrayAt(object, "metadata", "finalizers").entries()) {
    causes.push(...labelKeyProblems(plainText(finalizer)).map((problem) => fieldInvalid(`metadata.finalizers[${index}]`, finalizer, problem)));
  }
  for (const [index, owner] of arrayAt(object, "metadata", "ownerReferences").entries()) {
    for (const field of ["apiVersion", "kind", "name", "uid"]) {
      if (isObject(owner) && stringAt(owner, field) === "") causes.push(fieldInvalid(`metadata.ownerReferences[${index}].${field}`, "", "must not be empty"));
    }
  }
  return causes;
}

function labelProblems(labels: JsonObject, path: string): Cause[] {
  return Object.entries(labels).flatMap(([key, value]) => [
    ...labelKeyProblems(key).map((problem) => fieldInvalid(path, key, problem)),
    ...(typeof value === "string" ? labelValueProblems(value).map((problem) => fieldInvalid(path, value, problem)) : []),
  ]);
}

/** meta/v1 LabelSelector. */
export function labelSelectorProblems(selector: JsonObject, path: string): Cause[] {
  const causes = labelProblems(objectAt(selector, "matchLabels"), `${path}.matchLabels`);
  for (const [index, requirement] of arrayAt(selector, "matchExpressions").entries()) {
    const at = `${path}.matchExpressions[${index}]`;
    const values = arrayAt(requirement, "values");
    const operator = stringAt(requirement, "operator");
    if (operator === "In" || operator === "NotIn") {
      if (values.length === 0) causes.push(fieldRequired(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'"));
    } else if (operator === "Exists" || operator === "DoesNotExist") {
      if (values.length > 0) causes.push(fieldForbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
    } else causes.push(fieldInvalid(`${at}.operator`, operator, "not a valid selector operator"));
    const key = stringAt(requirement, "key");
    causes.push(...labelKeyProblems(key).map((problem) => fieldInvalid(`${at}.key`, key, problem)));
    for (const [position, value] of values.entries()) {
      causes.push(...labelValueProblems(plainText(value)).map((problem) => fieldInvalid(`${at}.values[${position}]`, value, problem)));
    }
  }
  return causes;
}

/** Fields that an update must leave as they are. */
export function immutableMetadataProblems(object: JsonObject, before: JsonObject): Cause[] {
  const causes: Cause[] = [];
  for (const field of ["name", "namespace", "uid", "creationTimestamp"]) {
    if (!equalJson(valueAt(object, "metadata", field), valueAt(before, "metadata", field))) {
      causes.push(fieldInvalid(`metadata.${field}`, valueAt(object, "metadata", field), "field is immutable"));
    }
  }
  if (valueAt(before, "metadata", "deletionTimestamp") !== undefined) {
    const had = arrayAt(before, "metadata", "finalizers");
    const added = arrayAt(object, "metadata", "finalizers").filter((finalizer) => !had.includes(finalizer));
    if (added.length > 0)
      causes.push(
        fieldForbidden("metadata.finalizers", `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`),
      );
  }
  return causes;
}
