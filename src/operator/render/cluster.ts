/** All objects of an installation, in the order in which they must be made, in groups that become files. */
import { renderAgent } from "./agent.ts";
import { renderControllers } from "./controllers.ts";
import { renderFanout } from "./fanout.ts";
import { renderIssuer } from "./issuer.ts";
import { renderNetworkPolicies } from "./network-policies.ts";
import type { KubeObject } from "./object.ts";
import { renderAccounts, renderRbac } from "./rbac.ts";
import { renderRelay } from "./relay.ts";
import type { RenderInput } from "./values.ts";

export interface ObjectGroup {
  /** "30-fanout" */
  readonly name: string;
  readonly about: string;
  readonly objects: readonly KubeObject[];
}

/** The Services stand before the DaemonSet: its pods get the address of one as a variable when they start. */
export function renderCluster(input: RenderInput): readonly ObjectGroup[] {
  return [
    { name: "10-accounts", about: "Who the programs are.", objects: renderAccounts(input) },
    { name: "20-rbac", about: "What they may do in the API; the agent and the relay may do nothing.", objects: renderRbac(input) },
    { name: "25-issuer", about: "The issuer of certificates; it makes the Secrets that the others wait for.", objects: renderIssuer(input) },
    { name: "30-fanout", about: "The fan-out server.", objects: renderFanout(input) },
    { name: "35-relay", about: "Relays between the servers and agents; none, unless replicas are asked for.", objects: renderRelay(input) },
    { name: "40-agent", about: "The node agent.", objects: renderAgent(input) },
    { name: "50-controllers", about: "The controllers.", objects: renderControllers(input) },
    { name: "60-network-policies", about: "What may reach Sedge's own pods.", objects: renderNetworkPolicies(input) },
  ];
}

/** Not part of the chart: there the namespace is the release's. Pods on the nodes' network are allowed only where this says so. */
export function renderNamespace(namespace: string): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: {
      name: namespace,
      labels: { "app.kubernetes.io/name": "sedge", "pod-security.kubernetes.io/enforce": "privileged" },
    },
  };
}
