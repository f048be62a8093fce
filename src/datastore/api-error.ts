/**
 * What can go wrong between here and the API server: it answered with an error (ApiError), or no answer came (ApiUnreachableError).
 *
 * Callers decide by `status` and `reason`, never by message text.
 */
import { type JsonObject, numberAt, objectAt, stringAt, tryJsonObject } from "./json-object.ts";

export interface StatusCause {
  readonly reason: string;
  readonly message: string;
  readonly field: string;
}

export abstract class DatastoreError extends Error {
  abstract readonly code: string;
}

/** The server's own answer: a Status object, or an HTTP error with some other body. */
export class ApiError extends DatastoreError {
  override readonly name = "ApiError";
  readonly code = "API_ERROR";
  /** HTTP status; for the ERROR event of a watch, the code of its Status. */
  readonly status: number;
  /** Status.reason: "NotFound", "Conflict", "Expired", …; "" when the server gave none. */
  readonly reason: string;
  /** The server's advice, from Retry-After or details.retryAfterSeconds; 0 without. */
  readonly retryAfterMs: number;
  /** What was asked: "GET /api/v1/nodes". */
  readonly request: string;
  /** The object that the server names: "pods shop/web" without a group, "ippools.projectcalico.org p1" with; "" when it names none. */
  readonly object: string;
  readonly causes: readonly StatusCause[];

  constructor(options: { status: number; request: string; body: JsonObject | undefined; retryAfterMs?: number; text?: string }) {
    const { status, request, body } = options;
    const details = objectAt(body, "details");
    const message = stringAt(body, "message") ?? options.text?.trim().slice(0, 500) ?? "";
    const reason = stringAt(body, "reason") ?? "";
    super(`${request}: ${status}${reason === "" ? "" : ` ${reason}`}${message === "" ? "" : `: ${message}`}`);
    this.status = status;
    this.reason = reason;
    this.request = request;
    this.retryAfterMs = Math.max(options.retryAfterMs ?? 0, (numberAt(details, "retryAfterSeconds") ?? 0) * 1000);
    this.object = objectNamed(details);
    const causes: unknown = details?.["causes"];
    this.causes = (Array.isArray(causes) ? causes : []).map((cause: unknown) => {
      const object = tryJsonObject(cause);
      return { reason: stringAt(object, "reason") ?? "", message: stringAt(object, "message") ?? "", field: stringAt(object, "field") ?? "" };
    });
  }
}

/** No usable answer: refused, reset, timed out, TLS failure, or bytes that are not what was asked for. */
export class ApiUnreachableError extends DatastoreError {
  override readonly name = "ApiUnreachableError";
  readonly code: "CONNECTION" | "TIMEOUT" | "SILENT" | "GARBAGE";
  readonly request: string;

  constructor(code: ApiUnreachableError["code"], request: string, message: string, options?: { cause?: unknown }) {
    super(`${request}: ${message}`, options);
    this.code = code;
    this.request = request;
  }
}

/** Retry-After as milliseconds: delta seconds or an HTTP date; 0 when absent or not understood. */
export function retryAfterMs(header: string | undefined, wallTimeMs: number): number {
  if (header === undefined) return 0;
  if (/^\d+$/.test(header.trim())) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? 0 : Math.max(0, date - wallTimeMs);
}

function objectNamed(details: JsonObject | undefined): string {
  const kind = stringAt(details, "kind") ?? "";
  const group = stringAt(details, "group") ?? "";
  return [group === "" ? kind : `${kind}.${group}`, stringAt(details, "name") ?? ""].filter((part) => part !== "").join(" ");
}
