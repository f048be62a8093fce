/**
 * Request bodies in Kubernetes' protobuf (`kubectl create namespace` and other typed clients send nothing else): read into the JSON form of the
 * same object, by a table of message fields cut from the published .proto files. Answers are always JSON.
 *
 * Go writes every field that is not a pointer, set or not, so empty texts and the false and 0 of such fields are taken for "not sent".
 */
import { readFileSync } from "node:fs";
import { loadSchemaDocuments } from "./builtin-kinds.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import { isObject } from "./json.ts";
import { projectFile } from "./project-files.ts";
import type { Schema } from "./schema.ts";
import { ApiError, badRequest } from "./status.ts";

export const PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf";

type Field = readonly [name: string, type: string, shape?: "repeated" | "map"];
type Messages = Readonly<Record<string, Readonly<Record<string, Field>>>>;

interface Tables {
  readonly messages: Messages;
  /** From the schemas: which JSON fields a message has; a field that is not there is inlined. */
  readonly schemas: ReadonlyMap<string, Schema>;
}

let tables: Tables | undefined;

function load(): Tables {
  tables ??= {
    messages: JSON.parse(readFileSync(projectFile("src/datastore/embedded/openapi/protobuf.json"), "utf8")) as Messages,
    schemas: new Map([...loadSchemaDocuments().values()].flatMap((document) => [...document.linked])),
  };
  return tables;
}

const META = "io.k8s.apimachinery.pkg.apis.meta.v1";
const NOT_POINTERS = new Set([
  "hostNetwork",
  "hostPID",
  "hostIPC",
  "hostPort",
  "stdin",
  "stdinOnce",
  "tty",
  "readOnly",
  "generation",
  "unschedulable",
  "publishNotReadyAddresses",
  "nodePort",
  "healthCheckNodePort",
  "optional",
  "count",
]);

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isDone(): boolean {
    return this.#at >= this.#bytes.length;
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) break;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    throw badRequest("the protobuf body ends in the middle of a number");
  }

  bytes(length: number): Uint8Array {
    if (length < 0 || this.#at + length > this.#bytes.length) throw badRequest("the protobuf body ends in the middle of a field");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

interface WireField {
  readonly number: number;
  readonly value: bigint | Uint8Array;
}

function* wireFields(bytes: Uint8Array): Generator<WireField> {
  const reader = new Reader(bytes);
  while (!reader.isDone) {
    const tag = Number(reader.varint());
    const number = tag >>> 3;
    switch (tag & 7) {
      case 0:
        yield { number, value: reader.varint() };
        break;
      case 1:
        yield { number, value: reader.bytes(8) };
        break;
      case 2:
        yield { number, value: reader.bytes(Number(reader.varint())) };
        break;
      case 5:
        yield { number, value: reader.bytes(4) };
        break;
      default:
        throw badRequest(`the protobuf body has a field of the unknown wire type ${tag & 7}`);
    }
  }
}

function text(value: bigint | Uint8Array | undefined): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString("utf8") : "";
}

/** Reads "k8s\0" and runtime.Unknown {typeMeta, raw}. Throws a 415 for a kind without a table. */
export function decodeProtobuf(body: Uint8Array): JsonObject {
  if (Buffer.from(body.subarray(0, 4)).toString("latin1") !== "k8s\0") throw badRequest("the body is not Kubernetes protobuf: it does not begin with k8s\\0");
  const unknown = new Map([...wireFields(body.subarray(4))].map((field) => [field.number, field.value]));
  const typeMeta = unknown.get(1);
  const meta = new Map(typeMeta instanceof Uint8Array ? [...wireFields(typeMeta)].map((field) => [field.number, text(field.value)]) : []);
  const [apiVersion, kind] = [meta.get(1) ?? "", meta.get(2) ?? ""];
  const name = messageName(apiVersion, kind);
  if (load().messages[name] === undefined) {
    throw new ApiError({
      code: 415,
      reason: "UnsupportedMediaType",
      message: `${kind} in ${apiVersion} cannot be read from protobuf here - accepted media types include: application/json, application/yaml`,
    });
  }
  const raw = unknown.get(2);
  const object = decodeMessage(raw instanceof Uint8Array ? raw : new Uint8Array(), name);
  return { apiVersion, kind, ...(isObject(object) ? object : {}) };
}

function messageName(apiVersion: string, kind: string): string {
  if (kind === "DeleteOptions") return `${META}.DeleteOptions`;
  const [group = "", version] = apiVersion.split("/");
  return version === undefined ? `io.k8s.api.core.${group}.${kind}` : `io.k8s.api.${group.replace(/\.k8s\.io$/, "")}.${version}.${kind}`;
}

function decodeMessage(bytes: Uint8Array, name: string): JsonValue | undefined {
  const special = SPECIAL[name];
  if (special !== undefined) return special(new Map([...wireFields(bytes)].map((field) => [field.number, field.value])));
  const fields = load().messages[name] ?? {};
  const properties = load().schemas.get(name)?.properties;
  const result: JsonObject = {};
  for (const { number, value } of wireFields(bytes)) {
    const field = fields[number];
    if (field === undefined) continue;
    const [key, type, shape] = field;
    if (shape === "map") {
      const entry = new Map(value instanceof Uint8Array ? [...wireFields(value)].map((part) => [part.number, part.value]) : []);
      const inner = decodeValue(entry.get(2) ?? new Uint8Array(), type);
      if (inner !== undefined)
        Object.defineProperty((result[key] ??= {}), text(entry.get(1)), { value: inner, enumerable: true, writable: true, configurable: true });
      continue;
    }
    const decoded = decodeValue(value, type);
    if (decoded === undefined) continue;
    if (shape === "repeated") {
      const list = (result[key] ??= []);
      if (Array.isArray(list)) list.push(decoded);
    } else if (properties !== undefined && properties[key] === undefined && isObject(decoded)) Object.assign(result, decoded);
    else if (decoded !== "" && !((decoded === 0 || decoded === false) && NOT_POINTERS.has(key))) result[key] = decoded;
  }
  return result;
}

function decodeValue(value: bigint | Uint8Array, type: string): JsonValue | undefined {
  if (typeof value === "bigint") return type === "bool" ? value !== 0n : Number(value);
  switch (type) {
    case "string":
      return text(value);
    case "bytes":
      return Buffer.from(value).toString("base64");
    case "double":
      return new DataView(value.buffer, value.byteOffset, 8).getFloat64(0, true);
    default:
      return decodeMessage(value, type);
  }
}

type Parts = ReadonlyMap<number, bigint | Uint8Array>;

function time(parts: Parts, hasMicroseconds: boolean): string | undefined {
  const seconds = parts.get(1);
  if (typeof seconds !== "bigint") return undefined;
  const nanos = parts.get(2);
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return hasMicroseconds ? `${whole}.${String(Math.floor(Number(typeof nanos === "bigint" ? nanos : 0n) / 1000)).padStart(6, "0")}Z` : `${whole}Z`;
}

function embeddedJson(parts: Parts): JsonValue | undefined {
  const raw = text(parts.get(1));
  try {
    return raw === "" ? undefined : (JSON.parse(raw) as JsonValue);
  } catch (error) {
    throw badRequest(`the protobuf body holds JSON that cannot be read: ${String(error)}`);
  }
}

/** Messages whose JSON form is not an object of their fields. */
const SPECIAL: Readonly<Record<string, (parts: Parts) => JsonValue | undefined>> = {
  [`${META}.Time`]: (parts) => time(parts, false),
  [`${META}.MicroTime`]: (parts) => time(parts, true),
  [`${META}.FieldsV1`]: embeddedJson,
  "io.k8s.apimachinery.pkg.runtime.RawExtension": embeddedJson,
  "io.k8s.apimachinery.pkg.api.resource.Quantity": (parts) => text(parts.get(1)),
  "io.k8s.apimachinery.pkg.util.intstr.IntOrString": (parts) => {
    const number = parts.get(2);
    return parts.get(1) === 1n ? text(parts.get(3)) : Number(typeof number === "bigint" ? number : 0n);
  },
};
