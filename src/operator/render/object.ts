/** A Kubernetes object as it is rendered, and the parts that all of ours share. */

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Readonly<Record<string, string>> };
  readonly [field: string]: unknown;
}

export type Component = "fanout" | "relay" | "agent" | "controllers" | "issuer";

export const PORTS = {
  sync: 5473,
  fanoutMetrics: 9093,
  fanoutHealth: 9098,
  agentMetrics: 9091,
  agentHealth: 9099,
  controllersMetrics: 9096,
  controllersHealth: 9097,
  enroll: 5474,
  issuerMetrics: 9094,
  issuerHealth: 9095,
} as const;

/** User and group of programs that need nothing of the kernel. */
export const NOBODY = 65_532;

export function nameOf(component: Component): string {
  return `sedge-${component}`;
}

/** Labels that select a component's pods; they never change, since a Deployment's selector cannot. */
export function selectorLabels(component: Component): Readonly<Record<string, string>> {
  return { "app.kubernetes.io/name": "sedge", "app.kubernetes.io/component": component };
}

export function metadata(component: Component, namespace: string, name = nameOf(component)): KubeObject["metadata"] {
  return { name, namespace, labels: selectorLabels(component) };
}

/** For containers that need neither root nor a capability nor to write. */
export const CONFINED = {
  runAsNonRoot: true,
  runAsUser: NOBODY,
  runAsGroup: NOBODY,
  readOnlyRootFilesystem: true,
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
} as const;

/** `host`: the program listens on the node's loopback, which only a pod on the node's network has in common with the kubelet. */
export function probes(port: number, host?: string): Readonly<Record<string, unknown>> {
  const get = (path: string): Readonly<Record<string, unknown>> => ({ httpGet: { path, port, ...(host === undefined ? {} : { host }) } });
  return {
    startupProbe: { ...get("/liveness"), periodSeconds: 2, failureThreshold: 30 },
    livenessProbe: { ...get("/liveness"), periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 },
    readinessProbe: { ...get("/readiness"), periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2 },
  };
}
