/**
 * The cluster that all cases are played on: three namespaces with three pods each, every pod with an IPv4 and an IPv6 address, and one address outside.
 *
 * Every pod listens on ports 80, 81 and 82 over TCP, UDP and SCTP. The pods c give the names of their ports to other numbers than a and b do.
 * Addresses are fixed, because prefixes in policies are cut around them.
 */
import type { NaivePod } from "../naive-network-policy.ts";

export interface CasePod extends NaivePod {
  readonly name: string;
  readonly node: string;
  readonly v4: string;
  readonly v6: string;
}

export const NAMESPACE_LABELS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  x: { team: "red", stage: "prod" },
  y: { team: "blue", stage: "test" },
  z: { stage: "prod" },
};

/** An address of nobody in the cluster. */
export const OUTSIDE = { v4: "172.31.0.1", v6: "fd00:31::1" } as const;

export const LISTENING_PORTS: readonly number[] = [80, 81, 82];

const POD_LABELS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  a: { pod: "a", tier: "front" },
  b: { pod: "b", tier: "back" },
  c: { pod: "c" },
};

const NAMED_PORTS: Readonly<Record<string, NaivePod["ports"]>> = {
  a: namedPorts({ web: 80, alt: 81 }),
  b: namedPorts({ web: 80, alt: 81 }),
  c: namedPorts({ web: 81, alt: 80 }),
};

export const PODS: readonly CasePod[] = Object.keys(NAMESPACE_LABELS).flatMap((namespace, n) =>
  Object.entries(POD_LABELS).map(([name, labels], p) => ({
    namespace,
    name,
    labels,
    node: `n${p + 1}`,
    v4: `10.65.${n + 1}.${p + 1}`,
    v6: `fd00:65::${n + 1}:${p + 1}`,
    ports: NAMED_PORTS[name] ?? [],
  })),
);

function namedPorts({ web, alt }: { readonly web: number; readonly alt: number }): NaivePod["ports"] {
  return [
    { name: "web", protocol: "TCP", port: web },
    { name: "alt", protocol: "TCP", port: alt },
    { name: "web-udp", protocol: "UDP", port: web },
    { name: "web-sctp", protocol: "SCTP", port: web },
  ];
}

/** The world as a person would write it. */
export const WORLD_MANIFESTS: readonly unknown[] = [
  ...Object.entries(NAMESPACE_LABELS).map(([name, labels]) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } })),
  ...PODS.map((pod) => ({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace: pod.namespace, name: pod.name, labels: pod.labels },
    spec: {
      nodeName: pod.node,
      containers: [{ name: "main", image: "none", ports: pod.ports.map(({ name, protocol, port }) => ({ name, protocol, containerPort: port })) }],
    },
    status: { phase: "Running", podIP: pod.v4, podIPs: [{ ip: pod.v4 }, { ip: pod.v6 }] },
  })),
];
