/**
 * The fan-out server: Deployment, its disruption budget, Services.
 *
 * It is on the nodes' network, because pods' network exists only after agents have heard from it. At most one is on a node (its ports are the node's); a
 * new one is ready before an old one goes (surge), and an old one drains: readiness off, agents asked to move, then the end.
 */
import { CONFINED, type Component, type KubeObject, metadata, NOBODY, nameOf, PORTS, probes, selectorLabels } from "./object.ts";
import type { RenderInput, Values } from "./values.ts";

const TLS_DIR = "/etc/sedge/tls";
/** A server must come up on nodes that wait for their network, which it brings. */
const TOLERATIONS = [
  { key: "CriticalAddonsOnly", operator: "Exists" },
  { key: "node-role.kubernetes.io/control-plane", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/network-unavailable", operator: "Exists", effect: "NoSchedule" },
  // Sooner than the usual five minutes, so that the tier has its size again.
  { key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute", tolerationSeconds: 30 },
] as const;

/** Server and relay take the same ports of their node. */
const NODE_PORT_HOLDERS = {
  matchLabels: { "app.kubernetes.io/name": "sedge" },
  matchExpressions: [{ key: "app.kubernetes.io/component", operator: "In", values: ["fanout", "relay"] }],
};

export function renderFanout({ namespace, values }: RenderInput): readonly KubeObject[] {
  const { fanout, images } = values;
  return [
    // The servers as such: relays find them here, and they each other.
    syncService(namespace, { name: nameOf("fanout"), servedBy: "fanout" }),
    // Where agents connect: at the servers, or at the relays. The address stays when that is changed.
    syncService(namespace, { name: "sedge-sync", servedBy: values.agent.servedBy }),
    ...serverObjects({
      component: "fanout",
      namespace,
      images,
      values: fanout,
      args: [`--workers=${fanout.workers}`, "--lease-namespace=$(POD_NAMESPACE)", `--service=$(POD_NAMESPACE)/${nameOf("fanout")}`],
      hasToken: true,
      // Variables of Services are of use to a relay alone.
      hasServiceLinks: false,
    }),
  ];
}

/** A Deployment of `sedge fanout` with its disruption budget and the Service for its metrics: the servers, or the relays. */
export function serverObjects({
  component,
  namespace,
  images,
  values,
  args,
  hasToken,
  hasServiceLinks,
}: {
  readonly component: "fanout" | "relay";
  readonly namespace: string;
  readonly images: Values["images"];
  readonly values: Omit<Values["fanout"], "workers">;
  readonly args: readonly string[];
  readonly hasToken: boolean;
  readonly hasServiceLinks: boolean;
}): readonly KubeObject[] {
  const selector = { matchLabels: selectorLabels(component) };
  const container = {
    name: component,
    image: images.server,
    imagePullPolicy: images.pullPolicy,
    args: [
      "fanout",
      `--listen=0.0.0.0:${PORTS.sync}`,
      `--tls-cert=${TLS_DIR}/tls.crt`,
      `--tls-key=${TLS_DIR}/tls.key`,
      `--tls-ca=${TLS_DIR}/ca.crt`,
      `--metrics-listen=0.0.0.0:${PORTS.fanoutMetrics}`,
      `--health-listen=127.0.0.1:${PORTS.fanoutHealth}`,
      `--drain-ms=${values.drainMs}`,
      `--log-level=${values.logLevel}`,
      "--server-name=$(POD_NAME)",
      ...args,
    ],
    env: [
      { name: "POD_NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
      { name: "POD_NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } },
    ],
    ports: [
      { name: "sync", containerPort: PORTS.sync },
      { name: "metrics", containerPort: PORTS.fanoutMetrics },
      { name: "health", containerPort: PORTS.fanoutHealth },
    ],
    ...probes(PORTS.fanoutHealth, "127.0.0.1"),
    resources: values.resources,
    securityContext: CONFINED,
    volumeMounts: [
      { name: "tls", mountPath: TLS_DIR, readOnly: true },
      // The socket between the main process and its workers.
      { name: "tmp", mountPath: "/tmp" },
    ],
  };
  const podSpec = {
    serviceAccountName: nameOf(component),
    automountServiceAccountToken: hasToken,
    enableServiceLinks: hasServiceLinks,
    hostNetwork: true,
    dnsPolicy: "Default",
    priorityClassName: "system-cluster-critical",
    terminationGracePeriodSeconds: values.terminationSeconds,
    tolerations: TOLERATIONS,
    affinity: {
      podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ labelSelector: NODE_PORT_HOLDERS, topologyKey: "kubernetes.io/hostname" }] },
    },
    topologySpreadConstraints: [{ maxSkew: 1, topologyKey: "topology.kubernetes.io/zone", whenUnsatisfiable: "ScheduleAnyway", labelSelector: selector }],
    securityContext: { fsGroup: NOBODY },
    containers: [container],
    volumes: [
      { name: "tls", secret: { secretName: values.tlsSecret, defaultMode: 0o440 } },
      { name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } },
    ],
  };
  return [
    metricsService(namespace, component),
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: metadata(component, namespace),
      spec: {
        replicas: values.replicas,
        selector,
        strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: values.maxUnavailable } },
        template: { metadata: { labels: selectorLabels(component) }, spec: podSpec },
      },
    },
    {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      metadata: metadata(component, namespace),
      spec: { maxUnavailable: 1, selector },
    },
  ];
}

/** Found by its address: names are resolved by pods, which come later. Near ones first. */
function syncService(namespace: string, { name, servedBy }: { readonly name: string; readonly servedBy: Component }): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadata("fanout", namespace, name),
    spec: {
      selector: selectorLabels(servedBy),
      trafficDistribution: "PreferClose",
      ports: [{ name: "sync", port: PORTS.sync, targetPort: "sync", appProtocol: "grpc" }],
    },
  };
}

/** Each server by itself, for collectors of metrics. */
function metricsService(namespace: string, component: Component): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadata(component, namespace, `${nameOf(component)}-metrics`),
    spec: { clusterIP: "None", selector: selectorLabels(component), ports: [{ name: "metrics", port: PORTS.fanoutMetrics, targetPort: "metrics" }] },
  };
}
