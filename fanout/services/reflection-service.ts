/**
 * gRPC server reflection, v1 and v1alpha, from the descriptor set that buf makes of proto/. So grpcurl can list, describe and call without files.
 * Rejected: @grpc/reflection 1.0.4 (its answers break grpcurl on map fields).
 */
import { readFileSync } from "node:fs";
import { createFileRegistry, type DescFile, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { type MethodDefinition, type ServerDuplexStream, type ServiceDefinition, status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import { decodeReflectionRequest, encodeReflectionResponse, type ReflectionAnswer, type ReflectionRequest } from "./standard-codecs.ts";

/** Written by `npm run generate`. */
const DESCRIPTORS = new URL("../../src/wire/gen/descriptors.binpb", import.meta.url);

interface Reply {
  readonly request: ReflectionRequest;
  readonly answer: ReflectionAnswer;
}

function reflectionDefinition(version: "v1" | "v1alpha"): ServiceDefinition {
  const info: MethodDefinition<ReflectionRequest, Reply> = {
    path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
    requestStream: true,
    responseStream: true,
    requestSerialize: ({ bytes }) => Buffer.from(bytes),
    requestDeserialize: decodeReflectionRequest,
    responseSerialize: ({ request, answer }) => encodeReflectionResponse(request, answer),
    responseDeserialize: () => {
      throw new Error("this end only serves");
    },
  };
  return { ServerReflectionInfo: info };
}

export const REFLECTION_SERVICES: readonly ServiceDefinition[] = [reflectionDefinition("v1"), reflectionDefinition("v1alpha")];

export class ReflectionService {
  readonly #services: readonly string[];
  readonly #fileByName = new Map<string, DescFile>();
  readonly #fileBySymbol = new Map<string, DescFile>();

  /** `services`: full names of those that are served; the descriptor set may hold more. */
  constructor(services: readonly string[], descriptors: Uint8Array = readFileSync(DESCRIPTORS)) {
    this.#services = [...services].sort();
    const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
    for (const file of registry.files) this.#fileByName.set(file.proto.name, file);
    for (const type of registry) {
      this.#fileBySymbol.set(type.typeName, type.file);
      if (type.kind === "service") for (const rpc of type.methods) this.#fileBySymbol.set(`${type.typeName}.${rpc.name}`, type.file);
      if (type.kind === "message") for (const field of type.fields) this.#fileBySymbol.set(`${type.typeName}.${field.name}`, type.file);
      if (type.kind === "enum") for (const value of type.values) this.#fileBySymbol.set(`${type.typeName}.${value.name}`, type.file);
    }
  }

  answer({ query }: ReflectionRequest): ReflectionAnswer {
    switch (query.kind) {
      case "list-services":
        return { kind: "services", names: this.#services };
      case "file-by-filename":
        return this.#files(this.#fileByName.get(query.name), `file ${query.name}`);
      case "file-containing-symbol":
        return this.#files(this.#fileBySymbol.get(query.symbol), `symbol ${query.symbol}`);
      case "extension":
        return { kind: "error", code: status.NOT_FOUND, message: "there are no extensions here" };
      case "none":
        return { kind: "error", code: status.UNIMPLEMENTED, message: "a request of a kind that is not known here" };
    }
  }

  implementation(): UntypedServiceImplementation {
    return {
      ServerReflectionInfo: (call: ServerDuplexStream<ReflectionRequest, Reply>) => {
        call.on("data", (request: ReflectionRequest) => call.write({ request, answer: this.answer(request) }));
        call.on("end", () => call.end());
        call.on("error", () => undefined);
      },
    };
  }

  /** The file, then all that it imports. */
  #files(file: DescFile | undefined, what: string): ReflectionAnswer {
    if (file === undefined) return { kind: "error", code: status.NOT_FOUND, message: `no ${what} here` };
    const found = new Set<DescFile>();
    const visit = (one: DescFile): void => {
      if (found.has(one)) return;
      for (const dependency of one.dependencies) visit(dependency);
      found.add(one);
    };
    visit(file);
    return { kind: "files", files: [...found].reverse().map((one) => toBinary(FileDescriptorProtoSchema, one.proto)) };
  }
}
