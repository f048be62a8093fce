/**
 * The kubelet's end of the Container Runtime Interface, as far as pods' sandboxes go (k8s.io/cri-api, runtime.v1, api.proto): gRPC on containerd's socket.
 *
 * Messages are written and read by field number with protobuf's own reader and writer: seven of them do not pay for another generated tree.
 */
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { Client, credentials } from "@grpc/grpc-js";

export interface SandboxSpec {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly attempt?: number;
  readonly logDirectory: string;
  readonly ports?: readonly { readonly protocol: "TCP" | "UDP"; readonly containerPort: number; readonly hostPort: number }[];
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface SandboxStatus {
  readonly isReady: boolean;
  /** The first is PodIP, as the kubelet takes it. */
  readonly addresses: readonly string[];
  /** Path of its network namespace. */
  readonly netns: string;
}

const SERVICE = "/runtime.v1.RuntimeService/";
const PROTOCOLS = { TCP: 0, UDP: 1 } as const;

/** Fields of a message by number; strings and messages as bytes, numbers as they are. */
type Fields = ReadonlyMap<number, readonly (Uint8Array | bigint)[]>;

export class CriClient {
  readonly #client: Client;

  constructor(socket: string) {
    this.#client = new Client(`unix:${socket}`, credentials.createInsecure(), { "grpc.default_authority": "localhost" });
  }

  /** "RuntimeReady=true, NetworkReady=false: NetworkPluginNotReady …": what the kubelet makes the node's Ready of. */
  async conditions(): Promise<ReadonlyMap<string, { readonly isMet: boolean; readonly message: string }>> {
    const [status] = messages(await this.#call("Status", new BinaryWriter()), 1);
    const found = new Map<string, { readonly isMet: boolean; readonly message: string }>();
    for (const condition of status === undefined ? [] : messages(status, 1))
      found.set(text(condition, 1), { isMet: number(condition, 2) === 1n, message: text(condition, 4) });
    return found;
  }

  /** The sandbox's id. */
  async runPodSandbox({ name, namespace, uid, attempt = 0, logDirectory, ports = [], annotations = {} }: SandboxSpec): Promise<string> {
    const request = new BinaryWriter();
    nested(request, 1, (config) => {
      nested(config, 1, (metadata) => {
        metadata.uint32((1 << 3) | WireType.LengthDelimited).string(name);
        metadata.uint32((2 << 3) | WireType.LengthDelimited).string(uid);
        metadata.uint32((3 << 3) | WireType.LengthDelimited).string(namespace);
        metadata.uint32(4 << 3).uint32(attempt);
      });
      config.uint32((2 << 3) | WireType.LengthDelimited).string(name);
      config.uint32((3 << 3) | WireType.LengthDelimited).string(logDirectory);
      for (const { protocol, containerPort, hostPort } of ports)
        nested(config, 5, (mapping) => {
          mapping.uint32(1 << 3).int32(PROTOCOLS[protocol]);
          mapping.uint32(2 << 3).int32(containerPort);
          mapping.uint32(3 << 3).int32(hostPort);
        });
      for (const [key, value] of Object.entries(annotations))
        nested(config, 7, (entry) => {
          entry.uint32((1 << 3) | WireType.LengthDelimited).string(key);
          entry.uint32((2 << 3) | WireType.LengthDelimited).string(value);
        });
      nested(config, 8, () => undefined);
    });
    return text(await this.#call("RunPodSandbox", request), 1);
  }

  async podSandboxStatus(id: string): Promise<SandboxStatus> {
    const request = new BinaryWriter();
    request.uint32((1 << 3) | WireType.LengthDelimited).string(id);
    request.uint32(2 << 3).bool(true);
    const response = await this.#call("PodSandboxStatus", request);
    const [status] = messages(response, 1);
    const [network] = status === undefined ? [] : messages(status, 5);
    const addresses = network === undefined ? [] : [text(network, 1), ...messages(network, 2).map((ip) => text(ip, 1))].filter((address) => address !== "");
    const info = messages(response, 2).find((entry) => text(entry, 1) === "info");
    const spec =
      info === undefined
        ? {}
        : (JSON.parse(text(info, 2)) as { readonly runtimeSpec?: { readonly linux?: { readonly namespaces?: readonly { type: string; path?: string }[] } } });
    const netns = spec.runtimeSpec?.linux?.namespaces?.find(({ type }) => type === "network")?.path ?? "";
    return { isReady: status !== undefined && (number(status, 3) ?? 0n) === 0n, addresses, netns };
  }

  async stopPodSandbox(id: string): Promise<void> {
    await this.#call("StopPodSandbox", new BinaryWriter().uint32((1 << 3) | WireType.LengthDelimited).string(id));
  }

  async removePodSandbox(id: string): Promise<void> {
    await this.#call("RemovePodSandbox", new BinaryWriter().uint32((1 << 3) | WireType.LengthDelimited).string(id));
  }

  close(): void {
    this.#client.close();
  }

  #call(method: string, request: BinaryWriter): Promise<Fields> {
    const bytes = Buffer.from(request.finish());
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `${SERVICE}${method}`,
        (value: Buffer) => value,
        (value: Buffer) => value,
        bytes,
        { deadline: Date.now() + 60_000 },
        (error, response) => (error === null && response !== undefined ? resolve(fieldsOf(response)) : reject(error ?? new Error(`${method}: no response`))),
      );
    });
  }
}

function nested(writer: BinaryWriter, field: number, write: (inner: BinaryWriter) => void): void {
  writer.uint32((field << 3) | WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

function fieldsOf(bytes: Uint8Array): Fields {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, (Uint8Array | bigint)[]>();
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const values = fields.get(field) ?? [];
    fields.set(field, values);
    if (wireType === WireType.LengthDelimited) values.push(reader.bytes());
    else if (wireType === WireType.Varint) values.push(BigInt(reader.uint64()));
    else reader.skip(wireType);
  }
  return fields;
}

function messages(fields: Fields, field: number): readonly Fields[] {
  return (fields.get(field) ?? []).flatMap((value) => (typeof value === "bigint" ? [] : [fieldsOf(value)]));
}

function text(fields: Fields, field: number): string {
  const value = fields.get(field)?.at(-1);
  return value === undefined || typeof value === "bigint" ? "" : Buffer.from(value).toString("utf8");
}

function number(fields: Fields, field: number): bigint | undefined {
  const value = fields.get(field)?.at(-1);
  return typeof value === "bigint" ? value : undefined;
}
