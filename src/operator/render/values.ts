/**
 * What a cluster's owner chooses about an installation; the chart's values.yaml and its schema are made of this.
 *
 * Invariant: a value only fills a place in an object, it never decides whether an object exists: so the chart's templates are the rendered objects with
 * holes in them, and plain manifests and chart cannot drift apart. Rejected: templates written by hand beside the renderer.
 */
import { z } from "zod";

const image = z.string().regex(/^[a-z0-9][a-zA-Z0-9._:/@-]*$/, "want an image reference, for example registry.example/sedge/agent:0.1.0");
const path = z.string().regex(/^\/[a-zA-Z0-9._/-]*$/, "want an absolute path");
const logLevel = z.enum(["trace", "debug", "info", "warn", "error"]);
const quantity = z.string().regex(/^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi)?$/, "want a quantity, for example 500m or 512Mi");
const resources = z
  .strictObject({ requests: z.record(z.string(), quantity).optional(), limits: z.record(z.string(), quantity).optional() })
  .describe("Of each container: requests and limits, as in a pod");

export const valuesSchema = z.strictObject({
  images: z
    .strictObject({
      server: image.describe("Image of the fan-out server, the issuer and the controllers"),
      agent: image.describe("Image of the node agent, with the CNI executable"),
      pullPolicy: z.enum(["Always", "IfNotPresent", "Never"]),
    })
    .describe("Where the images are"),
  fanout: z
    .strictObject({
      replicas: z.int().min(1).max(100).describe("Servers; each carries the whole cluster. They are on the nodes' network, so at most one a node"),
      maxUnavailable: z
        .int()
        .min(0)
        .max(100)
        .describe("Servers that may be missing during an update; 1 where there are no more nodes than replicas, else the surge finds no place"),
      workers: z
        .int()
        .min(0)
        .max(64)
        .describe("Processes of each server that serve the agents besides the main one; 0: it does all. docs/servers.md says when"),
      drainMs: z.int().min(0).max(600_000).describe("How long agents have to move when a server stops, ms"),
      terminationSeconds: z.int().min(1).max(900).describe("The kubelet ends a server after this long; above drainMs"),
      tlsSecret: z
        .string()
        .min(1)
        .describe("Secret with tls.crt, tls.key and ca.crt of the server (URI spiffe://sedge/fanout); the issuer makes sedge-fanout-tls"),
      logLevel,
      resources,
    })
    .describe("The fan-out server"),
  relay: z
    .strictObject({
      replicas: z.int().min(0).max(1_000).describe("Relays between the servers and agents; 0: none. On the nodes' network, and not on a server's node"),
      maxUnavailable: z.int().min(0).max(100).describe("Relays that may be missing during an update"),
      nodes: z.enum(["connected", "all"]).describe("connected: a relay holds the views of the nodes that come to it; all: of every node"),
      drainMs: z.int().min(0).max(600_000).describe("How long agents have to move when a relay stops, ms"),
      terminationSeconds: z.int().min(1).max(900).describe("The kubelet ends a relay after this long; above drainMs"),
      tlsSecret: z
        .string()
        .min(1)
        .describe("Secret with tls.crt, tls.key and ca.crt of the relays (URI spiffe://sedge/relay/NAME); the issuer makes sedge-relay-tls"),
      logLevel,
      resources,
    })
    .describe("Relays; docs/servers.md says when"),
  agent: z
    .strictObject({
      servedBy: z.enum(["fanout", "relay"]).describe("Where agents connect: at the servers, or at the relays"),
      serverOrder: z
        .enum(["spread", "listed"])
        .describe("spread: each node has a server of its own, by hash; listed, with servedBy relay: not at the servers that it was told of before"),
      stateDir: path.describe("On each node: view, addresses and pods; survives the agent"),
      runDir: path.describe("On each node: the agent's socket"),
      cniBinDir: path.describe("On each node: where the container runtime looks for CNI executables"),
      cniConfDir: path.describe("On each node: where the container runtime looks for CNI configurations"),
      cniChain: z
        .string()
        .regex(/^(none|(portmap|bandwidth)(,(portmap|bandwidth))*)$/, "want portmap, bandwidth or both with a comma, or none")
        .describe("Reference CNI plugins beside ours, with commas: portmap carries hostPorts; none for none"),
      cniLogFile: z.union([z.literal(""), path]).describe("On each node: the CNI executable adds a line a command; empty for none"),
      mtu: z.int().min(1280).max(65_535).describe("MTU of pods' interfaces"),
      maxUnavailable: z.int().min(1).max(1_000).describe("Nodes whose agent may be missing during an update; the kernel keeps what it has meanwhile"),
      logLevel,
      resources,
    })
    .describe("The node agent"),
  issuer: z
    .strictObject({
      replicas: z.int().min(1).max(10).describe("Any of them answers; on the nodes' network, so at most one a node"),
      validityHours: z.int().min(1).max(8_760).describe("A node's certificate is good for so long; it is renewed after two thirds"),
      logLevel,
      resources,
    })
    .describe("Gives nodes their certificates"),
  controllers: z.strictObject({ replicas: z.int().min(1).max(10).describe("One leads"), logLevel, resources }).describe("Free leaked addresses and blocks"),
});

export type Values = z.infer<typeof valuesSchema>;

export const DEFAULT_VALUES: Values = {
  images: { server: "sedge/fanout:0.1.0", agent: "sedge/agent:0.1.0", pullPolicy: "IfNotPresent" },
  fanout: {
    replicas: 2,
    maxUnavailable: 0,
    workers: 0,
    drainMs: 30_000,
    terminationSeconds: 45,
    tlsSecret: "sedge-fanout-tls",
    logLevel: "info",
    resources: { requests: { cpu: "500m", memory: "512Mi" } },
  },
  relay: {
    replicas: 0,
    maxUnavailable: 1,
    nodes: "connected",
    drainMs: 30_000,
    terminationSeconds: 45,
    tlsSecret: "sedge-relay-tls",
    logLevel: "info",
    resources: { requests: { cpu: "250m", memory: "256Mi" } },
  },
  agent: {
    servedBy: "fanout",
    serverOrder: "spread",
    stateDir: "/var/lib/sedge",
    runDir: "/run/sedge",
    cniBinDir: "/opt/cni/bin",
    cniConfDir: "/etc/cni/net.d",
    cniChain: "portmap",
    cniLogFile: "",
    mtu: 1_500,
    maxUnavailable: 10,
    logLevel: "info",
    resources: { requests: { cpu: "100m", memory: "128Mi" } },
  },
  issuer: { replicas: 2, validityHours: 720, logLevel: "info", resources: { requests: { cpu: "50m", memory: "128Mi" } } },
  controllers: { replicas: 2, logLevel: "info", resources: { requests: { cpu: "50m", memory: "128Mi" } } },
};

export const DEFAULT_NAMESPACE = "sedge-system";

/** What every renderer is given. */
export interface RenderInput {
  readonly namespace: string;
  readonly values: Values;
}
