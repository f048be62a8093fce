/** One request as the handlers see it: path, query, body, and how the answer should look. Reading it wrongly is a 400 here and nowhere else. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { parse as parseYaml } from "yaml";
import type { JsonObject, JsonValue } from "./json.ts";
import { isObject } from "./json.ts";
import type { FieldValidation } from "./objects.ts";
import { decodeProtobuf, PROTOBUF_TYPE } from "./protobuf-body.ts";
import { ApiError, badRequest } from "./status.ts";

/** Largest request body, bytes: what kube-apiserver takes. */
const MAX_BODY_BYTES = 3 * 1024 * 1024;

/** /api/v1/… or /apis/<group>/<version>/…, taken apart. */
export interface ResourcePath {
  readonly group: string;
  readonly version: string;
  /** undefined: all namespaces, or cluster-wide. */
  readonly namespace: string | undefined;
  readonly plural: string;
  /** "" for the collection. */
  readonly name: string;
  readonly subresource: string;
}

export interface ApiRequest {
  readonly raw: IncomingMessage;
  readonly response: ServerResponse;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly warnings: string[];
}

/** undefined when the path names no resource. */
export function parseResourcePath(path: string): ResourcePath | undefined {
  let steps: string[];
  try {
    steps = path
      .split("/")
      .filter((step) => step !== "")
      .map(decodeURIComponent);
  } catch {
    throw badRequest(`the path ${path} is not valid percent-encoding`);
  }
  let group = "";
  let version = "";
  if (steps[0] === "api" && steps.length >= 3) [version = "", ...steps] = steps.slice(1);
  else if (steps[0] === "apis" && steps.length >= 4) [group = "", version = "", ...steps] = steps.slice(1);
  else return undefined;
  let namespace: string | undefined;
  // /namespaces/<name> and its subresources are the Namespace itself; with a third step that is no subresource they are the scope.
  if (steps[0] === "namespaces" && steps.length >= 3 && !(group === "" && steps.length === 3 && (steps[2] === "status" || steps[2] === "finalize"))) {
    namespace = steps[1] ?? "";
    steps = steps.slice(2);
  }
  const [plural = "", name = "", subresource = "", ...rest] = steps;
  return rest.length > 0 ? undefined : { group, version, namespace, plural, name, subresource };
}

/** The whole body. Rejects with a 413 when it is too large; what is left of it is then read and dropped, so that the answer arrives. */
function readBytes(request: ApiRequest): Promise<Buffer> {
  const { raw } = request;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    raw.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= MAX_BODY_BYTES) chunks.push(chunk);
      else {
        chunks.length = 0;
        reject(new ApiError({ code: 413, reason: "RequestEntityTooLarge", message: `Request entity too large: limit is ${MAX_BODY_BYTES}` }));
      }
    });
    raw.once("end", () => resolve(Buffer.concat(chunks)));
    raw.once("error", reject);
    raw.once("close", () => reject(new Error("the client went away in the middle of its request")));
  });
}

export function contentType(request: ApiRequest): string {
  return (request.raw.headers["content-type"] ?? "application/json").split(";")[0]?.trim().toLowerCase() ?? "";
}

/** JSON (or YAML, of which JSON is a part). An empty body is undefined. Throws a 415 for any type not in `accepted`. */
export async function readBody(request: ApiRequest, accepted: readonly string[]): Promise<JsonValue | undefined> {
  const type = contentType(request);
  const bytes = await readBytes(request);
  if (bytes.length === 0) return undefined;
  if (type === PROTOBUF_TYPE && accepted === OBJECT_TYPES) return decodeProtobuf(bytes);
  if (!accepted.includes(type)) {
    throw new ApiError({
      code: 415,
      reason: "UnsupportedMediaType",
      message: `the body of the request was in an unknown format - accepted media types include: ${accepted.join(", ")}`,
    });
  }
  const text = bytes.toString("utf8");
  try {
    if (!type.includes("yaml")) return JSON.parse(text) as JsonValue;
    return (text.trimStart().startsWith("{") ? JSON.parse(text) : parseYaml(text)) as JsonValue;
  } catch (error) {
    throw badRequest(`the object provided is unrecognized (must be of type JSON or YAML): ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Bodies that hold an object. Protobuf is read too, for the kinds that have it: kubectl's typed commands send nothing else. */
export const OBJECT_TYPES: readonly string[] = ["application/json", "application/yaml", PROTOBUF_TYPE];

export async function readObject(request: ApiRequest): Promise<JsonObject> {
  const body = await readBody(request, OBJECT_TYPES);
  if (body === undefined) throw badRequest("the request has no body: send the object as JSON or YAML");
  if (!isObject(body)) throw badRequest("the body of the request must be an object");
  return body;
}

export function isDryRun(query: URLSearchParams): boolean {
  const values = query.getAll("dryRun").filter((value) => value !== "");
  for (const value of values) if (value !== "All") throw badRequest(`invalid dryRun: Unsupported value: ${JSON.stringify(value)}: supported values: "All"`);
  return values.length > 0;
}

export function fieldValidation(query: URLSearchParams): FieldValidation {
  const value = query.get("fieldValidation") ?? "";
  if (value === "" || value === "Warn") return "Warn";
  if (value === "Strict" || value === "Ignore") return value;
  throw badRequest(`fieldValidation: Unsupported value: ${JSON.stringify(value)}: supported values: "Ignore", "Strict", "Warn"`);
}

export function booleanParameter(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  if (value === null || value === "0" || value === "false") return false;
  if (value === "" || value === "1" || value === "true") return true;
  throw badRequest(`${name}: ${JSON.stringify(value)} is not a boolean`);
}

/** A whole number of at least 0, or undefined. */
export function numberParameter(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name);
  if (value === null || value === "") return undefined;
  if (!/^\d{1,16}$/.test(value) || !Number.isSafeInteger(Number(value))) throw badRequest(`${name}: ${JSON.stringify(value)} is not a whole number`);
  return Number(value);
}

export type Representation = "object" | "table" | "metadata";

/** What the client would like to get, in its order of preference. Protobuf and CBOR are not spoken: such a client gets JSON. */
export function representation(request: ApiRequest): Representation {
  const accept = request.raw.headers.accept ?? "";
  for (const option of accept.split(",")) {
    const [type = "", ...parameters] = option.split(";").map((part) => part.trim());
    if (type !== "application/json" && type !== "*/*" && type !== "application/*" && type !== "") continue;
    const as = parameters.find((parameter) => parameter.startsWith("as="))?.slice(3);
    if (as === "Table") return "table";
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList") return "metadata";
    if (as === undefined) return "object";
  }
  return "object";
}

export function sendJson(request: ApiRequest, code: number, body: JsonValue): void {
  sendText(request, code, JSON.stringify(body));
}

/** Sends JSON that is already text. */
export function sendText(request: ApiRequest, code: number, text: string): void {
  const { response } = request;
  if (request.warnings.length > 0)
    response.setHeader(
      "warning",
      request.warnings.slice(0, 50).map((warning) => `299 - ${JSON.stringify(warning)}`),
    );
  response.writeHead(code, { "content-type": "application/json", "cache-control": "no-cache, private" });
  response.end(`${text}\n`);
}
