/** Settings of `sedge fanout`. The schema is the only home of name, type, range, default and meaning; see src/runtime/config.ts for the sources. */
import { z } from "zod";
import { isPortInRange, parseHostAndPort } from "../src/runtime/host-port.ts";
import { LOG_LEVELS } from "../src/runtime/log.ts";
import type { TlsFiles } from "./delivery/certificate-files.ts";
import { DEFAULT_DELIVERY, DELIVERY_KINDS } from "./delivery/delivery.ts";
import type { GrpcListen } from "./delivery/grpc-delivery.ts";
import { isLoopback } from "./delivery/listen.ts";

const HOST_AND_PORT = /^(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5}$/;
/** Text without a number at its end is refused for its form. */
const PORT_RANGE = "the port must be 65535 or lower";
const hostAndPort = z.string().regex(HOST_AND_PORT, "want HOST:PORT, for example 127.0.0.1:9093 or [::1]:9093").refine(isPortInRange, PORT_RANGE);
const listenAddress = z
  .string()
  .regex(/^(unix:.+|(\[[0-9a-fA-F:]+\]|[^:\s]+):\d{1,5})$/, "want HOST:PORT, for example 0.0.0.0:5473 or [::]:5473, or unix:/PATH")
  .refine(isPortInRange, PORT_RANGE);

export const fanoutConfigSchema = z
  .object({
    listen: listenAddress.default("0.0.0.0:5473").describe("Where agents connect with mutual TLS, as HOST:PORT or unix:/PATH; needs the three TLS files"),
    tlsCert: z.string().optional().describe("File with the server's certificate (PEM)"),
    tlsKey: z.string().optional().describe("File with the key of the certificate (PEM)"),
    tlsCa: z.string().optional().describe("File with the authority that signs the certificates of agents and operators (PEM)"),
    insecureListen: hostAndPort
      .optional()
      .describe("A listener in plain text, without identity, on a loopback address: for tools on this machine and for trials"),
    kubeconfig: z.string().optional().describe("Kubeconfig of the API server; without it KUBECONFIG, ~/.kube/config or the pod's service account"),
    serverName: z.string().default("").describe("Name of this server for people; the host name when empty"),
    metricsListen: hostAndPort.default("127.0.0.1:9093").describe("Where /metrics is served"),
    healthListen: hostAndPort.default("127.0.0.1:9098").describe("Where /liveness and /readiness are served"),
    heartbeatIntervalMs: z
      .number()
      .int()
      .min(100)
      .max(300_000)
      .default(10_000)
      .describe("A client hears from the server at least this often; after three of these in silence it connects anew"),
    keepaliveMs: z.number().int().min(1_000).max(3_600_000).default(20_000).describe("HTTP/2 ping to a connection this often"),
    keepaliveTimeoutMs: z.number().int().min(500).max(600_000).default(20_000).describe("A connection that does not answer a ping for this long is closed"),
    helloTimeoutMs: z.number().int().min(100).max(300_000).default(10_000).describe("A stream that has not said Hello after this long is ended"),
    maxAnswers: z.number().int().min(1).max(10_000).default(64).describe("Views sent at once"),
    maxWaiting: z.number().int().min(0).max(1_000_000).default(10_000).describe("Clients that wait for their view; the next is refused with a delay"),
    staleAfterMs: z
      .number()
      .int()
      .min(1_000)
      .max(86_400_000)
      .default(120_000)
      .describe("API data older than this is told to be stale; nothing is deleted for it"),
    drainMs: z
      .number()
      .int()
      .min(0)
      .max(600_000)
      .default(5_000)
      .describe("Clients are asked to move when the server stops; those that stay are cut after this long"),
    delivery: z
      .enum(DELIVERY_KINDS)
      .default(DEFAULT_DELIVERY)
      .describe("What carries HTTP/2: the server's own frames on sockets (http2), or the library (grpc-js); the protocol is the same"),
    peer: z
      .array(hostAndPort)
      .default([])
      .describe("Another fan-out server, as agents reach it, where no Service tells of it; agents are sent there when this one stops. May be repeated"),
    service: z
      .string()
      .regex(/^([a-z0-9]([-a-z0-9]*[a-z0-9])?\/[a-z0-9]([-a-z0-9]*[a-z0-9])?)?$/, "want NAMESPACE/NAME, for example sedge-system/sedge-fanout")
      .default("")
      .describe("The Service whose endpoints the servers of this cluster are: agents are told of all that are ready, and spread over them"),
    advertise: hostAndPort
      .optional()
      .describe("This server as agents reach it; needed with --peer only: of a Service's endpoints it is the pod whose name is --server-name"),
    agentsPerServer: z
      .number()
      .int()
      .min(1)
      .max(100_000)
      .default(5_000)
      .describe("Agents that one server is meant to carry: what the metric sedge_fanout_load_ratio calls full"),
    movesPerSecond: z.number().int().min(1).max(10_000).default(200).describe("Agents that are asked to move to another server go at most at this rate"),
    statusWritesPerSecond: z
      .number()
      .int()
      .min(0)
      .max(1_000)
      .default(20)
      .describe(
        "The server that leads writes the status of at most so many policies a second; 0: this server writes none, nor the cluster's SedgeStatus, and does not stand for leader",
      ),
    leaseNamespace: z.string().default("kube-system").describe("Where the Lease of the server that leads is"),
    leaseMs: z.number().int().min(1_000).max(600_000).default(15_000).describe("A leader that has not renewed for this long is followed by another server"),
    floatingIps: z
      .boolean()
      .default(false)
      .describe(
        "Pods get the floating addresses that they ask for (annotation cni.projectcalico.org/floatingIPs): FelixConfiguration's floatingIPs. The same on all servers",
      ),
    workers: z
      .number()
      .int()
      .min(0)
      .max(64)
      .default(0)
      .describe("Processes besides the main one that serve the agents, all on the same port, while the main one watches the API; 0: it serves them itself"),
    upstream: z
      .array(
        z
          .string()
          .refine(
            (text) => text.split(",").every((part) => listenAddress.safeParse(part).success),
            "want HOST:PORT or unix:/PATH, with commas between several",
          ),
      )
      .default([])
      .describe(
        "Makes the server a relay: it has its views from this fan-out server (HOST:PORT or unix:/PATH) and no API. With the TLS files it connects with its own certificate, which needs the URI spiffe://sedge/relay/NAME. More than one, comma-separated or repeated: the next is tried when one is lost",
      ),
    upstreamPlaintext: z.boolean().default(false).describe("Connect to --upstream without TLS: loopback or a unix socket, for trials and workers"),
    upstreamNodes: z
      .enum(["connected", "all"])
      .default("connected")
      .describe(
        "Views that a relay holds: of nodes that connected to it within the last five minutes, or of all, so that any node is served while no parent answers",
      ),
    logLevel: z.enum(LOG_LEVELS).default("info").describe("trace, debug, info, warn, error, fatal or silent"),
    help: z.boolean().default(false).describe("Print the flags"),
  })
  .strict();

export type FanoutConfig = z.infer<typeof fanoutConfigSchema>;

/** "NAMESPACE/NAME" in its halves; undefined: none is given. */
export function serviceOf({ service }: Pick<FanoutConfig, "service">): { readonly namespace: string; readonly name: string } | undefined {
  const [namespace = "", name = ""] = service.split("/");
  return name === "" ? undefined : { namespace, name };
}

/** What makes the server a relay; undefined: it is none. Parents may be given in one text with commas. */
export function relayOf(config: Pick<FanoutConfig, "upstream" | "upstreamPlaintext" | "upstreamNodes" | "tlsCert" | "tlsKey" | "tlsCa">): {
  readonly relay: { readonly parents: readonly string[]; readonly tls: TlsFiles | undefined; readonly isForAll: boolean } | undefined;
  readonly problems: readonly string[];
} {
  const { upstream, upstreamPlaintext, upstreamNodes, tlsCert: cert, tlsKey: key, tlsCa: ca } = config;
  const problems: string[] = [];
  if (upstream.length === 0) {
    if (upstreamPlaintext) problems.push("--upstream-plaintext without --upstream: give the server that this relay has its views from");
    return { relay: undefined, problems };
  }
  const tls = cert === undefined || key === undefined || ca === undefined ? undefined : { cert, key, ca };
  if (tls === undefined && !upstreamPlaintext)
    problems.push("--upstream needs --tls-cert, --tls-key and --tls-ca to connect with, or --upstream-plaintext on one machine");
  const parents = upstream.flatMap((text) => text.split(","));
  for (const parent of upstreamPlaintext ? parents : []) {
    const { host } = parseHostAndPort(parent);
    if (!host.startsWith("unix:") && !isLoopback(host)) problems.push(`--upstream-plaintext: ${parent} is no loopback address and no unix socket`);
  }
  return { relay: { parents, tls: upstreamPlaintext ? undefined : tls, isForAll: upstreamNodes === "all" }, problems };
}

/** What cannot go together with workers. */
export function workerProblems({
  workers,
  delivery,
  listen,
  upstream,
  tlsCert,
}: Pick<FanoutConfig, "workers" | "delivery" | "listen" | "upstream" | "tlsCert">): readonly string[] {
  if (workers === 0) return [];
  return [
    ...(delivery === "http2" ? [] : ["--workers needs --delivery http2: grpc-js cannot share a port"]),
    ...(tlsCert !== undefined && listen.startsWith("unix:") ? ["--workers needs a port in --listen: a unix socket cannot be shared"] : []),
    ...(upstream.length === 0 ? [] : ["--workers with --upstream: a relay serves its agents itself; start more relays"]),
  ];
}

/** The listeners that the settings ask for, or what is wrong with them. */
export function listenersOf(config: FanoutConfig): { readonly listeners: readonly GrpcListen[]; readonly problems: string[] } {
  const { tlsCert: cert, tlsKey: key, tlsCa: ca, insecureListen } = config;
  const listeners: GrpcListen[] = [];
  const problems: string[] = [];
  const given = [cert, key, ca].filter((file) => file !== undefined).length;
  if (cert !== undefined && key !== undefined && ca !== undefined) listeners.push({ ...parseHostAndPort(config.listen), tls: { cert, key, ca } });
  else if (given > 0) problems.push("--tls-cert, --tls-key and --tls-ca go together: give all three");
  else if (insecureListen === undefined)
    problems.push(
      "no listener: give --tls-cert, --tls-key and --tls-ca (agents then connect to --listen), or --insecure-listen 127.0.0.1:5473 for a trial on one machine",
    );
  if (insecureListen !== undefined) {
    const listen = parseHostAndPort(insecureListen);
    if (isLoopback(listen.host)) listeners.push({ ...listen, tls: undefined });
    else
      problems.push(
        `--insecure-listen: ${insecureListen} is no loopback address; without TLS anybody could pass for any node. Use 127.0.0.1, or --listen with TLS`,
      );
  }
  return { listeners, problems };
}
