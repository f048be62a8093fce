/**
 * Errors as the Kubernetes API tells them: a Status object with code, reason, details and causes.
 *
 * Every refusal in this folder is an ApiError; anything else that is thrown is a fault of ours and becomes a 500. Texts are those of
 * kube-apiserver where kubectl or a person compares them (k8s.io/apimachinery/pkg/api/errors, util/validation/field).
 */
import type { JsonObject, JsonValue } from "./json.ts";

export interface Cause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly Cause[];
  readonly retryAfterSeconds?: number;
}

/** What an object is called in messages: the resource for most ("pods"), the kind for invalid objects. */
interface Named {
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
}

export class ApiError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: StatusDetails | undefined;

  constructor({
    code,
    reason,
    message,
    details,
  }: { readonly code: number; readonly reason: string; readonly message: string; readonly details?: StatusDetails | undefined }) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  toStatus(): JsonObject {
    const status: JsonObject = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message: this.message, reason: this.reason };
    if (this.details !== undefined) status["details"] = JSON.parse(JSON.stringify(this.details)) as JsonValue;
    status["code"] = this.code;
    return status;
  }
}

/** "pods" or "ippools.projectcalico.org". */
function qualifiedResource(type: Named): string {
  return type.group === "" ? type.plural : `${type.plural}.${type.group}`;
}

function resourceDetails(type: Named, name: string): StatusDetails {
  return { ...(name === "" ? {} : { name }), ...(type.group === "" ? {} : { group: type.group }), kind: type.plural };
}

export function notFound(type: Named, name: string): ApiError {
  return new ApiError({ code: 404, reason: "NotFound", message: `${qualifiedResource(type)} "${name}" not found`, details: resourceDetails(type, name) });
}

/** No such path: the kind is not served. */
export function noSuchPath(): ApiError {
  return new ApiError({ code: 404, reason: "NotFound", message: "the server could not find the requested resource", details: {} });
}

export function alreadyExists(type: Named, name: string): ApiError {
  return new ApiError({
    code: 409,
    reason: "AlreadyExists",
    message: `${qualifiedResource(type)} "${name}" already exists`,
    details: resourceDetails(type, name),
  });
}

export function conflict(type: Named, name: string, why: string): ApiError {
  return new ApiError({
    code: 409,
    reason: "Conflict",
    message: `Operation cannot be fulfilled on ${qualifiedResource(type)} "${name}": ${why}`,
    details: resourceDetails(type, name),
  });
}

export const STALE_VERSION = "the object has been modified; please apply your changes to the latest version and try again";

export function forbidden(type: Named, name: string, why: string, causes?: readonly Cause[]): ApiError {
  return new ApiError({
    code: 403,
    reason: "Forbidden",
    message: `${qualifiedResource(type)} "${name}" is forbidden: ${why}`,
    details: { ...resourceDetails(type, name), ...(causes === undefined ? {} : { causes }) },
  });
}

export function badRequest(message: string): ApiError {
  return new ApiError({ code: 400, reason: "BadRequest", message });
}

export function expired(message: string): ApiError {
  return new ApiError({ code: 410, reason: "Expired", message });
}

export function methodNotAllowed(): ApiError {
  return new ApiError({ code: 405, reason: "MethodNotAllowed", message: "the server does not allow this method on the requested resource", details: {} });
}

export function unauthorized(): ApiError {
  return new ApiError({ code: 401, reason: "Unauthorized", message: "Unauthorized" });
}

/** 422 with one cause a finding. `kind` is written with its group: "IPPool.projectcalico.org". */
export function invalid(type: Named, name: string, causes: readonly Cause[]): ApiError {
  const kind = type.group === "" ? type.kind : `${type.kind}.${type.group}`;
  const texts = causes.map((cause) => `${cause.field}: ${cause.message}`);
  const message = `${kind} "${name}" is invalid: ${texts.length === 1 ? texts[0] : `[${texts.join(", ")}]`}`;
  return new ApiError({
    code: 422,
    reason: "Invalid",
    message,
    details: { ...(name === "" ? {} : { name }), ...(type.group === "" ? {} : { group: type.group }), kind: type.kind, causes },
  });
}

function shown(value: JsonValue | undefined): string {
  return typeof value === "string" ? JSON.stringify(value) : JSON.stringify(value ?? null);
}

/** Findings about one field, in the words of field.Error. */
export function fieldInvalid(field: string, value: JsonValue | undefined, detail: string): Cause {
  return { reason: "FieldValueInvalid", message: `Invalid value: ${shown(value)}: ${detail}`, field };
}

export function fieldRequired(field: string, detail = ""): Cause {
  return { reason: "FieldValueRequired", message: `Required value${detail === "" ? "" : `: ${detail}`}`, field };
}

export function fieldNotSupported(field: string, value: JsonValue | undefined, supported: readonly string[]): Cause {
  const list = [...supported].map((item) => `"${item}"`).join(", ");
  return { reason: "FieldValueNotSupported", message: `Unsupported value: ${shown(value)}${list === "" ? "" : `: supported values: ${list}`}`, field };
}

export function fieldForbidden(field: string, detail: string): Cause {
  return { reason: "FieldValueForbidden", message: `Forbidden: ${detail}`, field };
}

export function fieldDuplicate(field: string, value: JsonValue): Cause {
  return { reason: "FieldValueDuplicate", message: `Duplicate value: ${shown(value)}`, field };
}

export function fieldTypeInvalid(field: string, value: JsonValue, detail: string): Cause {
  return { reason: "FieldValueTypeInvalid", message: `Invalid value: ${shown(value)}: ${detail}`, field };
}
