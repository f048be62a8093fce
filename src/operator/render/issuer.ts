/**
 * The issuer of certificates: Deployment and Service. Any of its replicas answers; the authority is in a Secret that the first of them makes.
 *
 * It is on the nodes' network for the reason that the server is: agents have no certificate, and so no network for pods, before they have asked it.
 */
import { CONFINED, type KubeObject, metadata, nameOf, PORTS, probes, selectorLabels } from "./object.ts";
import type { RenderInput } from "./values.ts";

/** Audience of the agents' tokens; they are of no use to the API server. */
export const TOKEN_AUDIENCE = "sedge.network";
/** Secret with the authority, and ConfigMap with its certificate. */
export const AUTHORITY_NAME = "sedge-ca";

const TOLERATIONS = [
  { key: "CriticalAddonsOnly", operator: "Exists" },
  { key: "node-role.kubernetes.io/control-plane", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/network-unavailable", operator: "Exists", effect: "NoSchedule" },
] as const;

export function renderIssuer({ namespace, values }: RenderInput): readonly KubeObject[] {
  const { images, issuer } = values;
  const selector = { matchLabels: selectorLabels("issuer") };
  const container = {
    name: "issuer",
    image: images.server,
    imagePullPolicy: images.pullPolicy,
    args: [
      "issuer",
      `--listen=0.0.0.0:${PORTS.enroll}`,
      "--namespace=$(POD_NAMESPACE)",
      `--ca-secret=${AUTHORITY_NAME}`,
      `--agent-account=$(POD_NAMESPACE):${nameOf("agent")}`,
      `--audience=${TOKEN_AUDIENCE}`,
      `--validity-hours=${issuer.validityHours}`,
      `--metrics-listen=0.0.0.0:${PORTS.issuerMetrics}`,
      `--health-listen=127.0.0.1:${PORTS.issuerHealth}`,
      `--log-level=${issuer.logLevel}`,
    ],
    env: [{ name: "POD_NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } }],
    ports: [
      { name: "enroll", containerPort: PORTS.enroll },
      { name: "metrics", containerPort: PORTS.issuerMetrics },
      { name: "health", containerPort: PORTS.issuerHealth },
    ],
    ...probes(PORTS.issuerHealth, "127.0.0.1"),
    resources: issuer.resources,
    securityContext: CONFINED,
  };
  const podSpec = {
    serviceAccountName: nameOf("issuer"),
    automountServiceAccountToken: true,
    // Variables of Services would be taken for settings: SEDGE_ISSUER_… is the program's own prefix.
    enableServiceLinks: false,
    hostNetwork: true,
    dnsPolicy: "Default",
    priorityClassName: "system-cluster-critical",
    tolerations: TOLERATIONS,
    affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ labelSelector: selector, topologyKey: "kubernetes.io/hostname" }] } },
    containers: [container],
  };
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: metadata("issuer", namespace),
      spec: { selector: selectorLabels("issuer"), ports: [{ name: "enroll", port: PORTS.enroll, targetPort: "enroll" }] },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: metadata("issuer", namespace),
      spec: {
        replicas: issuer.replicas,
        selector,
        // A renewal can wait: one less for a while is better than no place for one more.
        strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
        template: { metadata: { labels: selectorLabels("issuer") }, spec: podSpec },
      },
    },
  ];
}
