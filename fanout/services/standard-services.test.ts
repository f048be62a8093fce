/** The standard services against the descriptors of proto/grpc: what is encoded by hand must be what the .proto files say. */
import { readFileSync } from "node:fs";
import { create, createFileRegistry, type DescMessage, fromBinary, type Message, toBinary, toJson } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { ReflectionService } from "./reflection-service.ts";
import {
  decodeHealthCheckRequest,
  decodeReflectionRequest,
  encodeHealthCheckResponse,
  encodeReflectionResponse,
  SERVING_STATUS,
  type ServingStatus,
} from "./standard-codecs.ts";

const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(new URL("../../src/wire/gen/descriptors.binpb", import.meta.url))));
const messageOf = (name: string): DescMessage => {
  const message = registry.getMessage(name);
  if (message === undefined) throw new Error(`no ${name}`);
  return message;
};
const encode = (name: string, fields: object): Uint8Array => toBinary(messageOf(name), create(messageOf(name), fields as Partial<Message>));
const service = new ReflectionService(["sedge.sync.v1.SyncService", "grpc.health.v1.Health"]);
/** Asks, and decodes the answer as the .proto says. */
const ask = (query: object, version = "v1"): unknown => {
  const request = decodeReflectionRequest(encode(`grpc.reflection.${version}.ServerReflectionRequest`, { host: "h", messageRequest: query }));
  const response = messageOf(`grpc.reflection.${version}.ServerReflectionResponse`);
  return toJson(response, fromBinary(response, encodeReflectionResponse(request, service.answer(request))));
};
const fileNames = (answer: unknown): string[] =>
  (answer as { fileDescriptorResponse: { fileDescriptorProto: string[] } }).fileDescriptorResponse.fileDescriptorProto.map(
    (text) => fromBinary(FileDescriptorProtoSchema, Buffer.from(text, "base64")).name,
  );

describe("standard services", () => {
  it("health messages are those of the .proto", () => {
    expect(decodeHealthCheckRequest(encode("grpc.health.v1.HealthCheckRequest", { service: "x" }))).toEqual({ service: "x" });
    for (const status of Object.keys(SERVING_STATUS) as ServingStatus[]) {
      expect(
        Number((fromBinary(messageOf("grpc.health.v1.HealthCheckResponse"), encodeHealthCheckResponse(status)) as Message & { status?: number }).status),
      ).toBe(SERVING_STATUS[status]);
    }
  });

  it.each(["v1", "v1alpha"])("reflection %s lists services and repeats the request", (version) => {
    expect(ask({ case: "listServices", value: "*" }, version)).toMatchObject({
      validHost: "h",
      originalRequest: { host: "h", listServices: "*" },
      listServicesResponse: { service: [{ name: "grpc.health.v1.Health" }, { name: "sedge.sync.v1.SyncService" }] },
    });
  });

  it("a file comes with all that it imports", () => {
    expect(fileNames(ask({ case: "fileByFilename", value: "sedge/sync/v1/sync.proto" }))).toEqual(["sedge/sync/v1/sync.proto", "sedge/sync/v1/records.proto"]);
  });

  it.each(["sedge.sync.v1.SyncService", "sedge.sync.v1.SyncService.Sync", "sedge.sync.v1.Hello", "sedge.sync.v1.Hello.node"])(
    "symbol %s is found",
    (symbol) => {
      expect(fileNames(ask({ case: "fileContainingSymbol", value: symbol }))[0]).toBe("sedge/sync/v1/sync.proto");
    },
  );

  it("what there is not → an error, not a broken stream", () => {
    expect(ask({ case: "fileContainingSymbol", value: "no.Such" })).toMatchObject({ errorResponse: { errorCode: 5, errorMessage: "no symbol no.Such here" } });
    expect(ask({ case: "allExtensionNumbersOfType", value: "x" })).toMatchObject({ errorResponse: { errorCode: 5 } });
    expect(ask({ case: "fileContainingExtension", value: { containingType: "x", extensionNumber: 1 } })).toMatchObject({ errorResponse: { errorCode: 5 } });
    expect(ask({ case: undefined })).toMatchObject({ errorResponse: { errorCode: 12 } });
  });
});
