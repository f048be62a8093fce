/** The controllers: a Deployment of which one leads. They are pods like others, on the pods' network. */
import { CONFINED, type KubeObject, metadata, nameOf, PORTS, probes, selectorLabels } from "./object.ts";
import type { RenderInput } from "./values.ts";

export function renderControllers({ namespace, values }: RenderInput): readonly KubeObject[] {
  const { controllers, images } = values;
  const selector = { matchLabels: selectorLabels("controllers") };
  const container = {
    name: "controllers",
    image: images.server,
    imagePullPolicy: images.pullPolicy,
    args: [
      "controllers",
      "--namespace=$(POD_NAMESPACE)",
      "--identity=$(POD_NAME)",
      `--metrics-listen=0.0.0.0:${PORTS.controllersMetrics}`,
      `--health-listen=0.0.0.0:${PORTS.controllersHealth}`,
      `--log-level=${controllers.logLevel}`,
    ],
    env: [
      { name: "POD_NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
      { name: "POD_NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } },
    ],
    ports: [
      { name: "metrics", containerPort: PORTS.controllersMetrics },
      { name: "health", containerPort: PORTS.controllersHealth },
    ],
    ...probes(PORTS.controllersHealth),
    resources: controllers.resources,
    securityContext: CONFINED,
  };
  return [
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: metadata("controllers", namespace),
      spec: {
        replicas: controllers.replicas,
        selector,
        template: {
          metadata: { labels: selectorLabels("controllers") },
          spec: {
            serviceAccountName: nameOf("controllers"),
            automountServiceAccountToken: true,
            enableServiceLinks: false,
            priorityClassName: "system-cluster-critical",
            tolerations: [{ key: "CriticalAddonsOnly", operator: "Exists" }],
            affinity: {
              podAntiAffinity: {
                preferredDuringSchedulingIgnoredDuringExecution: [
                  { weight: 100, podAffinityTerm: { labelSelector: selector, topologyKey: "kubernetes.io/hostname" } },
                ],
              },
            },
            containers: [container],
          },
        },
      },
    },
  ];
}
