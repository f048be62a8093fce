/** A policy of any kind as a PolicyIntent, with what is wrong with it. */
import type { AnyPolicy, ClusterPolicyRule, ResourceKind } from "../model/resource.ts";
import { convertCalicoNetworkPolicy, convertGlobalNetworkPolicy, convertProfile } from "./convert-calico-policy.ts";
import { convertClusterNetworkPolicy } from "./convert-cluster-network-policy.ts";
import { convertNetworkPolicy, NETWORK_POLICY_KIND } from "./convert-network-policy.ts";
import type { Converted } from "./intent.ts";

/** Never throws: labels that no object can have are a problem, and the policy is then one that could not be understood. */
export function convertPolicy(policy: AnyPolicy): Converted {
  try {
    return convert(policy);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const problems = [{ field: "spec", message: error.message }];
    // A namespaced policy closes its namespace, as one that could not even be read does; a cluster-wide one closes all pods where it has rules.
    if (policy.kind === "NetworkPolicy") return { intent: convertNetworkPolicy({ ...policy, ...SELECTS_ALL }), problems, isUnderstood: false };
    if (policy.kind !== "ClusterNetworkPolicy") return { intent: undefined, problems, isUnderstood: false };
    const broken = (rules: readonly ClusterPolicyRule[]): readonly ClusterPolicyRule[] =>
      rules.map(({ name, action }) => ({ name, action, peers: [{ kind: "unknown", field: "spec" }], protocols: [] }));
    const anyPod = { namespaceSelector: SELECTS_ALL.podSelector, podSelector: undefined };
    const { intent } = convertClusterNetworkPolicy({
      ...policy,
      subject: anyPod,
      ingress: broken(policy.ingress),
      egress: broken(policy.egress),
      isStandIn: true,
    });
    return { intent, problems, isUnderstood: false };
  }
}

const SELECTS_ALL = {
  podSelector: { matchLabels: {}, matchExpressions: [] },
  policyTypes: ["Ingress", "Egress"],
  ingress: [],
  egress: [],
} as const;

function convert(policy: AnyPolicy): Converted {
  switch (policy.kind) {
    case "NetworkPolicy":
      return { intent: convertNetworkPolicy(policy), problems: [], isUnderstood: true };
    case "CalicoNetworkPolicy":
      return convertCalicoNetworkPolicy(policy);
    case "GlobalNetworkPolicy":
      return convertGlobalNetworkPolicy(policy);
    case "ClusterNetworkPolicy":
      return convertClusterNetworkPolicy(policy);
    case "Profile":
      return convertProfile(policy);
  }
}

/** The kind of a policy in its record: what its API calls it, with Kubernetes' own NetworkPolicy told apart from Calico's. */
export function policyKindOf(kind: ResourceKind): string {
  if (kind === "NetworkPolicy") return NETWORK_POLICY_KIND;
  return kind === "CalicoNetworkPolicy" ? "NetworkPolicy" : kind;
}
