/**
 * The fan-out server: Deployment, its disruption budget, Services.
 *
 * It is on the nodes' network, because pods' network exists only after agents have heard from it. At most one is on a node (its ports are the node's); a
 * new one is ready before an old one goes (surge), and an old one drains: readiness off, agents asked to move, then the end.
 */
import { CONFINED, type KubeObject, metadata, NOBODY, nameOf, PORTS, probes, selectorLabels } from "./object.ts";
import type { RenderInput } from "./values.ts";

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

export function renderFanout({ namespace, values }: RenderInput): readonly KubeObject[] {
  const { fanout, images } = values;
  const selector = { matchLabels: selectorLabels("fanout") };
  const container = {
    name: "fanout",
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
      `--workers=${fanout.workers}`,
      `--drain-ms=${fanout.drainMs}`,
      `--log-level=${fanout.logLevel}`,
      "--server-name=$(POD_NAME)",
      "--lease-namespace=$(POD_NAMESPACE)",
      `--service=$(POD_NAMESPACE)/${nameOf("fanout")}`,
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
    resources: fanout.resources,
    securityContext: CONFINED,
    volumeMounts: [
      { name: "tls", mountPath: TLS_DIR, readOnly: true },
      // The socket between the main process and its workers.
      { name: "tmp", mountPath: "/tmp" },
    ],
  };
  const podSpec = {
    serviceAccountName: nameOf("fanout"),
    automountServiceAccountToken: true,
    // Variables of Services would be taken for settings: SEDGE_FANOUT_… is the program's own prefix.
    enableServiceLinks: false,
    hostNetwork: true,
    dnsPolicy: "Default",
    priorityClassName: "system-cluster-critical",
    terminationGracePeriodSeconds: fanout.terminationSeconds,
    tolerations: TOLERATIONS,
    affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ labelSelector: selector, topologyKey: "kubernetes.io/hostname" }] } },
    topologySpreadConstraints: [{ maxSkew: 1, topologyKey: "topology.kubernetes.io/zone", whenUnsatisfiable: "ScheduleAnyway", labelSelector: selector }],
    securityContext: { fsGroup: NOBODY },
    containers: [container],
    volumes: [
      { name: "tls", secret: { secretName: fanout.tlsSecret, defaultMode: 0o440 } },
      { name: "tmp", emptyDir: { medium: "Memory", sizeLimit: "1Mi" } },
    ],
  };
  return [
    service(namespace),
    metricsService(namespace),
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: metadata("fanout", namespace),
      spec: {
        replicas: fanout.replicas,
        selector,
        strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: fanout.maxUnavailable } },
        template: { metadata: { labels: selectorLabels("fanout") }, spec: podSpec },
      },
    },
    {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      metadata: metadata("fanout", namespace),
      spec: { maxUnavailable: 1, selector },
    },
  ];
}

/** Agents find the servers here, by address: names are resolved by pods, which come later. Near servers first. */
function service(namespace: string): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadata("fanout", namespace),
    spec: {
      selector: selectorLabels("fanout"),
      trafficDistribution: "PreferClose",
      ports: [{ name: "sync", port: PORTS.sync, targetPort: "sync", appProtocol: "grpc" }],
    },
  };
}

/** Each server by itself, for collectors of metrics. */
function metricsService(namespace: string): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadata("fanout", namespace, "sedge-fanout-metrics"),
    spec: { clusterIP: "None", selector: selectorLabels("fanout"), ports: [{ name: "metrics", port: PORTS.fanoutMetrics, targetPort: "metrics" }] },
  };
}
