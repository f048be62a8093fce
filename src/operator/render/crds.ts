/** The definitions of the policy kinds in manifests/crds: file → text. Those of address management are written by hand. */
import { CALICO_OBJECTS } from "./crds/calico-objects.ts";
import { CALICO_POLICIES } from "./crds/calico-policies.ts";
import { renderDefinition } from "./crds/definition.ts";
import { CLUSTER_NETWORK_POLICY, STAGED_KUBERNETES_NETWORK_POLICY } from "./crds/kubernetes-policies.ts";

export function renderCrds(): ReadonlyMap<string, string> {
  return new Map([...CALICO_POLICIES, STAGED_KUBERNETES_NETWORK_POLICY, ...CALICO_OBJECTS, CLUSTER_NETWORK_POLICY].map(renderDefinition));
}
