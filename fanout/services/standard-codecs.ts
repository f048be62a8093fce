/**
 * Messages of the standard gRPC services (health, reflection), a handful of fields each, written by hand: generating them would add three files of
 * thousands of lines for what is here. The .proto files are in proto/grpc, for reflection and for the tests, which hold these codecs against them.
 */
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

export const SERVING_STATUS = { unknown: 0, serving: 1, "not-serving": 2, "service-unknown": 3 } as const;
export type ServingStatus = keyof typeof SERVING_STATUS;

/** HealthCheckRequest. */
export function decodeHealthCheckRequest(bytes: Uint8Array): { readonly service: string } {
  let service = "";
  readFields(bytes, (field, reader) => {
    if (field !== 1) return false;
    service = reader.string();
    return true;
  });
  return { service };
}

/** HealthCheckResponse. */
export function encodeHealthCheckResponse(status: ServingStatus): Buffer {
  return Buffer.from(new BinaryWriter().uint32(8).int32(SERVING_STATUS[status]).finish());
}

export type ReflectionQuery =
  | { readonly kind: "file-by-filename"; readonly name: string }
  | { readonly kind: "file-containing-symbol"; readonly symbol: string }
  | { readonly kind: "extension"; readonly type: string }
  | { readonly kind: "list-services" }
  | { readonly kind: "none" };

export interface ReflectionRequest {
  readonly query: ReflectionQuery;
  readonly host: string;
  /** The request as it came; the answer repeats it. */
  readonly bytes: Uint8Array;
}

export type ReflectionAnswer =
  | { readonly kind: "files"; readonly files: readonly Uint8Array[] }
  | { readonly kind: "services"; readonly names: readonly string[] }
  | { readonly kind: "error"; readonly code: number; readonly message: string };

/** ServerReflectionRequest; the same in v1 and v1alpha. */
export function decodeReflectionRequest(bytes: Uint8Array): ReflectionRequest {
  let query: ReflectionQuery = { kind: "none" };
  let host = "";
  readFields(bytes, (field, reader) => {
    if (field === 1) host = reader.string();
    else if (field === 3) query = { kind: "file-by-filename", name: reader.string() };
    else if (field === 4) query = { kind: "file-containing-symbol", symbol: reader.string() };
    else if (field === 5) {
      reader.bytes();
      query = { kind: "extension", type: "" };
    } else if (field === 6) query = { kind: "extension", type: reader.string() };
    else if (field === 7) {
      reader.string();
      query = { kind: "list-services" };
    } else return false;
    return true;
  });
  return { query, host, bytes };
}

/** ServerReflectionResponse; the same in v1 and v1alpha. */
export function encodeReflectionResponse(request: ReflectionRequest, answer: ReflectionAnswer): Buffer {
  const writer = new BinaryWriter();
  if (request.host !== "") writer.uint32(10).string(request.host);
  writer.uint32(18).bytes(request.bytes);
  switch (answer.kind) {
    case "files":
      writer.uint32(34).fork();
      for (const file of answer.files) writer.uint32(10).bytes(file);
      writer.join();
      break;
    case "services":
      writer.uint32(50).fork();
      for (const name of answer.names) writer.uint32(10).fork().uint32(10).string(name).join();
      writer.join();
      break;
    case "error":
      writer.uint32(58).fork().uint32(8).int32(answer.code).uint32(18).string(answer.message).join();
      break;
  }
  return Buffer.from(writer.finish());
}

function readFields(bytes: Uint8Array, read: (field: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (type !== WireType.LengthDelimited || !read(field, reader)) reader.skip(type, field);
  }
}
