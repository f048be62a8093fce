/**
 * NetworkPolicies for Sedge's own namespace: nothing comes in or goes out but what the programs need.
 *
 * Server and agents are on the nodes' network, where a NetworkPolicy has no force; theirs is written down all the same, for host endpoints made of it and
 * for whoever moves the server to the pods' network. The API server's address is not known here, so its ports are open to all.
 */
import { type Component, type KubeObject, metadata, PORTS, selectorLabels } from "./object.ts";
import type { RenderInput } from "./values.ts";

const tcp = (...ports: readonly number[]): readonly unknown[] => ports.map((port) => ({ protocol: "TCP", port }));
const TO_API = { ports: tcp(443, 6443) };

export function renderNetworkPolicies({ namespace }: RenderInput): readonly KubeObject[] {
  return [
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name: "sedge-default-deny", namespace },
      spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
    },
    policy("fanout", namespace, [{ ports: tcp(PORTS.sync, PORTS.fanoutMetrics) }], [TO_API]),
    policy("relay", namespace, [{ ports: tcp(PORTS.sync, PORTS.fanoutMetrics) }], [{ ports: tcp(PORTS.sync) }]),
    policy("agent", namespace, [{ ports: tcp(PORTS.agentMetrics) }], [{ ports: tcp(PORTS.sync, PORTS.enroll) }]),
    policy("issuer", namespace, [{ ports: tcp(PORTS.enroll, PORTS.issuerMetrics) }], [TO_API]),
    policy("controllers", namespace, [{ ports: tcp(PORTS.controllersMetrics, PORTS.controllersHealth) }], [TO_API]),
  ];
}

function policy(component: Component, namespace: string, ingress: readonly unknown[], egress: readonly unknown[]): KubeObject {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: metadata(component, namespace),
    spec: { podSelector: { matchLabels: selectorLabels(component) }, policyTypes: ["Ingress", "Egress"], ingress, egress },
  };
}
