/** A real fan-out server over loopback, fed by the test in place of an API, and agents without a kernel that connect to it over gRPC. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ChannelCredentials, type ClientDuplexStream, credentials, Metadata, type StatusObject } from "@grpc/grpc-js";
import { Registry } from "prom-client";
import { expect, vi } from "vitest";
import { PACKING_FEATURES, unpack } from "../../agent/sync/unpack.ts";
import type { TlsFiles } from "../../fanout/delivery/certificate-files.ts";
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import type { GrpcListen } from "../../fanout/delivery/grpc-delivery.ts";
import { FanoutServer, type FanoutServerOptions, type FanoutSettings } from "../../fanout/server.ts";
import { Workers } from "../../fanout/workers/workers.ts";
import { Compute } from "../../src/compute/compute.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NamespaceName, NodeName } from "../../src/model/names.ts";
import type { EndpointSlice, NetworkPolicy, Pod, Resource, ServiceEndpoint } from "../../src/model/resource.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { type Clock, systemClock } from "../../src/runtime/clock.ts";
import type { Report } from "../../src/runtime/health.ts";
import { parseHostAndPort } from "../../src/runtime/host-port.ts";
import { type Logger, silentLogger } from "../../src/runtime/log.ts";
import { type CertificateAuthority, type CertificatePem, createCertificateAuthority } from "../../src/runtime/tls.ts";
import { type AgentOutput, AgentSession, encodeAck } from "../../src/wire/agent-protocol.ts";
import type { ObjectFailure } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { RawSyncClient } from "../../src/wire/service.ts";
import { View } from "../../src/wire/view.ts";
import { MemoryAddressStore } from "./memory-address-store.ts";

export interface FanoutFixture extends AsyncDisposable {
  readonly server: FanoutServer;
  readonly store: MemoryAddressStore;
  readonly registry: Registry;
  /** The plaintext listener. */
  readonly address: string;
  /** The mTLS listener, "" without. */
  readonly secureAddress: string;
  /** Asks it to stop; resolves when it has. */
  stop(): Promise<void>;
}

export const FAST: Partial<FanoutSettings> = { heartbeatIntervalMs: 200, flushWindowsMs: [1], commitGapMs: 0, helloTimeoutMs: 300, drainMs: 300 };

/** Started and in sync with the events; with `events` undefined it waits for the datastore. */
export async function startFanout(
  options: {
    readonly events?: readonly ClusterEvent[];
    readonly tls?: TlsFiles;
    readonly delivery?: DeliveryKind;
    readonly settings?: Partial<FanoutSettings>;
    readonly uid?: string;
    readonly serverName?: string;
    readonly upstreamAgeMs?: () => number;
    readonly upstreamVersions?: () => ReadonlyMap<string, string>;
    readonly catchUp?: (kind: string) => Promise<void>;
    readonly onReport?: (report: Report) => void;
    readonly workers?: FanoutServerOptions["workers"];
  } = {},
): Promise<FanoutFixture> {
  const store = new MemoryAddressStore();
  const registry = new Registry();
  const listen: GrpcListen[] = [{ host: "127.0.0.1", port: 0, tls: undefined }];
  if (options.tls !== undefined) listen.push({ host: "127.0.0.1", port: 0, tls: options.tls });
  const server = new FanoutServer({
    serverName: options.serverName ?? "test",
    version: "0",
    clusterUid: options.uid ?? "cluster",
    listen,
    compute: new Compute({ floatingIps: true }),
    store,
    clock: systemClock,
    log: silentLogger(),
    registry,
    settings: { ...FAST, ...(options.delivery === undefined ? {} : { delivery: options.delivery }), ...options.settings },
    upstreamAgeMs: options.upstreamAgeMs ?? (() => 3),
    ...(options.upstreamVersions === undefined ? {} : { upstreamVersions: options.upstreamVersions }),
    ...(options.catchUp === undefined ? {} : { catchUp: options.catchUp }),
    ...(options.onReport === undefined ? {} : { onReport: options.onReport }),
    ...(options.workers === undefined ? {} : { workers: options.workers }),
  });
  await server.listen();
  const stopping = new AbortController();
  const running = server.run(stopping.signal);
  if (options.events !== undefined) {
    server.sink([...options.events, { kind: "status", status: "in-sync" }]);
    server.engine.settle();
  }
  const stop = async (): Promise<void> => {
    stopping.abort();
    await running;
  };
  return {
    server,
    store,
    registry,
    stop,
    address: server.addresses[0]?.address ?? "",
    secureAddress: server.addresses[1]?.address ?? "",
    [Symbol.asyncDispose]: stop,
  };
}

export interface RelayFixture extends AsyncDisposable {
  readonly server: FanoutServer;
  readonly registry: Registry;
  /** The plaintext listener. */
  readonly address: string;
  /** The mTLS listener, "" without. */
  readonly secureAddress: string;
  stop(): Promise<void>;
}

/** A relay, started; in sync when a parent answers. */
export async function startRelay(options: {
  readonly parents: readonly string[];
  /** With which it connects to its parents; absent: plain text. */
  readonly parentTls?: TlsFiles;
  readonly tls?: TlsFiles;
  readonly delivery?: DeliveryKind;
  readonly settings?: Partial<FanoutSettings>;
  readonly isForAll?: boolean;
  readonly lingerMs?: number;
  readonly name?: string;
  readonly ownQuestions?: "about-itself" | "none";
  readonly port?: number;
  readonly log?: Logger;
  readonly onReport?: (report: Report) => void;
}): Promise<RelayFixture> {
  const registry = new Registry();
  const listen: GrpcListen[] = [{ host: "127.0.0.1", port: options.port ?? 0, tls: undefined }];
  if (options.tls !== undefined) listen.push({ host: "127.0.0.1", port: 0, tls: options.tls });
  const { parents, parentTls, isForAll = false, ownQuestions = "about-itself", lingerMs } = options;
  const server = new FanoutServer({
    serverName: options.name ?? "relay",
    version: "0",
    listen,
    relay: { parents, tls: parentTls, isForAll, ownQuestions, ...(lingerMs === undefined ? {} : { lingerMs }) },
    clock: systemClock,
    log: options.log ?? silentLogger(),
    registry,
    settings: { ...FAST, ...(options.delivery === undefined ? {} : { delivery: options.delivery }), ...options.settings },
    ...(options.onReport === undefined ? {} : { onReport: options.onReport }),
  });
  await server.listen();
  const stopping = new AbortController();
  const running = server.run(stopping.signal);
  const stop = async (): Promise<void> => {
    stopping.abort();
    await running;
  };
  return {
    server,
    registry,
    stop,
    address: server.addresses[0]?.address ?? "",
    secureAddress: server.addresses[1]?.address ?? "",
    [Symbol.asyncDispose]: stop,
  };
}

export interface WorkersFixture extends AsyncDisposable {
  readonly workers: Workers;
  /** The plaintext port that all share, once `ready`. */
  readonly address: string;
  /** The mTLS port, "" without. */
  readonly secureAddress: string;
  /** Until all serve. */
  ready(): Promise<void>;
  /** As `stop` of a server. */
  stop(): Promise<void>;
}

/** Worker processes below a root, started; at first none is ready. */
export function startWorkers(options: {
  readonly parent: string;
  /** Absent: 1. */
  readonly count?: number;
  readonly tls?: TlsFiles;
  readonly settings?: Partial<FanoutSettings>;
  /** Of the main process. */
  readonly clock?: Clock;
  readonly log?: Logger;
  readonly onReport?: (report: Report) => void;
}): WorkersFixture {
  const { parent, count = 1, tls, settings, clock = systemClock, log = silentLogger(), onReport } = options;
  let said: Report | undefined;
  const workers = new Workers({
    count,
    settings: {
      serverName: "pod-a",
      version: "0",
      logLevel: "silent",
      parent,
      listen: [undefined, ...(tls === undefined ? [] : [tls])].map((files) => ({ host: "127.0.0.1", port: 0, tls: files, isPortShared: true })),
      settings: { ...FAST, ...settings },
    },
    clock,
    log,
    registry: new Registry(),
    onReport: (report) => {
      said = report;
      onReport?.(report);
    },
  });
  const stopping = new AbortController();
  const running = workers.run(stopping.signal);
  const stop = async (): Promise<void> => {
    stopping.abort();
    await running;
  };
  const addressOf = (index: number): string => {
    const port = workers.listen[index]?.port;
    return port === undefined ? "" : `127.0.0.1:${port}`;
  };
  return {
    workers,
    get address() {
      return addressOf(0);
    },
    get secureAddress() {
      return addressOf(1);
    },
    ready: () => vi.waitFor(() => expect(said).toMatchObject({ ready: true, detail: `${count} of ${count} workers serve` }), { timeout: 30_000, interval: 10 }),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Each client its own connection. Node refuses an address as the TLS server name, so the certificate is judged by a name. */
export const CHANNEL_OPTIONS = { "grpc.use_local_subchannel_pool": 1, "grpc.ssl_target_name_override": "localhost" };

/** An agent over gRPC that acknowledges each commit at once, unless it is told to keep silent. */
export class GrpcAgent implements Disposable {
  readonly node: string;
  readonly view: View;
  readonly outputs: AgentOutput[] = [];
  readonly stream: ClientDuplexStream<Uint8Array, Uint8Array>;
  /** How the stream ended. */
  status: StatusObject | undefined;
  bytesReceived = 0;
  /** It takes commits and acknowledges none. */
  isSilent: boolean;
  /** What the kernel refused, in each acknowledgement. */
  failed: readonly ObjectFailure[] = [];
  #revision = 0n;
  readonly #client: InstanceType<typeof RawSyncClient>;
  readonly #session: AgentSession;

  constructor(options: {
    readonly address: string;
    readonly node: string;
    readonly view?: View;
    readonly credentials?: ChannelCredentials;
    readonly isSilent?: boolean;
  }) {
    this.isSilent = options.isSilent ?? false;
    this.node = options.node;
    this.view = options.view ?? new View();
    this.#client = new RawSyncClient(options.address, options.credentials ?? credentials.createInsecure(), CHANNEL_OPTIONS);
    this.stream = openStream(this.#client);
    this.#session = new AgentSession({ identity: { node: options.node, version: "test", features: PACKING_FEATURES, unpack }, view: this.view });
    this.stream.on("status", (status: StatusObject) => {
      this.status = status;
      this.#carryOut(this.#session.closed(status.details));
    });
    this.stream.on("error", () => undefined);
    this.stream.on("data", (bytes: Uint8Array) => {
      this.bytesReceived += bytes.length;
      this.#carryOut(this.#session.receive(bytes));
    });
    this.#carryOut(this.#session.open());
  }

  /** Of the last commit that has come. */
  get revision(): bigint {
    return this.#revision;
  }

  get isLive(): boolean {
    return this.#session.state === "live";
  }

  /** All that has come is in the kernel. */
  acknowledge(): void {
    this.stream.write(encodeAck({ receivedRevision: this.#revision, programmedRevision: this.#revision, failed: [...this.failed], heldUs: 0 }));
  }

  [Symbol.dispose](): void {
    this.stream.cancel();
    this.#client.close();
  }

  #carryOut(outputs: readonly AgentOutput[]): void {
    for (const output of outputs) {
      this.outputs.push(output);
      if (output.kind === "send") this.stream.write(output.bytes);
      else if (output.kind === "commit" && this.status === undefined) {
        this.#revision = output.delta.revision;
        if (!this.isSilent) this.acknowledge();
      }
    }
  }
}

/** A record stream on which the test itself writes. */
export function openStream(client: InstanceType<typeof RawSyncClient>): ClientDuplexStream<Uint8Array, Uint8Array> {
  const stream: unknown = (client["sync"] as ((metadata: Metadata) => unknown) | undefined)?.call(client, new Metadata());
  return stream as ClientDuplexStream<Uint8Array, Uint8Array>;
}

/** Certificate and key into their files, in no order. */
export async function writePair(files: TlsFiles, { cert, key }: CertificatePem): Promise<void> {
  await Promise.all([writeFile(files.cert, cert), writeFile(files.key, key)]);
}

/** Certificates in a directory that goes away with it. */
export async function certificates(): Promise<
  {
    readonly authority: CertificateAuthority;
    readonly tls: TlsFiles;
    client(options: { commonName: string; uris?: readonly string[] }): Promise<ChannelCredentials>;
    /** A certificate beside the server's own. */
    files(name: string, options: Parameters<CertificateAuthority["issue"]>[0]): Promise<TlsFiles>;
  } & AsyncDisposable
> {
  const dir = await mkdtemp(join(tmpdir(), "sedge-tls-"));
  const authority = await createCertificateAuthority();
  const pair = await authority.issue({ commonName: "fanout", hosts: ["127.0.0.1", "localhost"] });
  const tls = { ca: join(dir, "ca.pem"), cert: join(dir, "cert.pem"), key: join(dir, "key.pem") };
  await Promise.all([writeFile(tls.ca, authority.cert), writePair(tls, pair)]);
  return {
    authority,
    tls,
    async client(options) {
      const { cert, key } = await authority.issue(options);
      return credentials.createSsl(Buffer.from(authority.cert), Buffer.from(key), Buffer.from(cert));
    },
    async files(name, options) {
      const files = { ca: tls.ca, cert: join(dir, `${name}.pem`), key: join(dir, `${name}.key`) };
      await writePair(files, await authority.issue(options));
      return files;
    },
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}

export function upsert(...resources: readonly Resource[]): ClusterEvent[] {
  return resources.map((resource) => ({ kind: "upsert", resource }));
}

export const node = (name: string, index: number): Resource => ({
  kind: "Node",
  name: name as NodeName,
  resourceVersion: "1",
  labels: {},
  addresses: [parseIp(`192.168.0.${index}`)],
});
export const namespace = (name: string): Resource => ({ kind: "Namespace", name: name as NamespaceName, resourceVersion: "1", labels: { name } });
export const pool = (cidr = "10.65.0.0/16"): Resource => ({
  kind: "IPPool",
  name: "p4",
  resourceVersion: "1",
  cidr: parseCidr(cidr),
  blockSize: 26,
  natOutgoing: true,
  disabled: false,
  nodeSelector: "all()",
});
export const pod = (namespaceName: string, name: string, fields: Partial<Pod> = {}): Pod => ({
  kind: "Pod",
  namespace: namespaceName as NamespaceName,
  name,
  uid: `uid-${name}`,
  resourceVersion: "1",
  labels: { app: name },
  node: undefined,
  serviceAccount: "default",
  hostNetwork: false,
  isTerminated: false,
  addresses: [],
  namedPorts: [],
  ...fields,
});
/** A slice of Service sedge-system/sedge-fanout with the servers given, by pod name. */
export const serverSlice = (
  name: string,
  servers: readonly (Partial<ServiceEndpoint> & { readonly pod: string; readonly address: string })[],
  resourceVersion = "1",
): EndpointSlice => ({
  kind: "EndpointSlice",
  namespace: "sedge-system" as NamespaceName,
  name,
  resourceVersion,
  service: "sedge-fanout",
  addresses: [],
  ports: [{ protocol: "TCP", port: parseHostAndPort(servers[0]?.address ?? "0.0.0.0:5473").port }],
  endpoints: servers.map(({ pod: podName, address, ...fields }) => ({
    addresses: [parseIp(parseHostAndPort(address).host)],
    target: `sedge-system/${podName}`,
    isReady: true,
    isServing: true,
    isTerminating: false,
    zone: "",
    forZones: [],
    ...fields,
  })),
});
/** Allows pods labelled `app: from` in. */
export const policy = (namespaceName: string, name: string, from: string, resourceVersion = "1"): NetworkPolicy => ({
  kind: "NetworkPolicy",
  namespace: namespaceName as NamespaceName,
  name,
  resourceVersion,
  podSelector: { matchLabels: {}, matchExpressions: [] },
  policyTypes: ["Ingress"],
  egress: [],
  ingress: [{ peers: [{ kind: "pods", podSelector: { matchLabels: { app: from }, matchExpressions: [] }, namespaceSelector: undefined }], ports: [] }],
});
