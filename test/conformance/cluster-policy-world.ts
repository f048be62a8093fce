/** The houses of the ClusterNetworkPolicy suite as manifests, and what the evaluators say about probes in them. */
import type { PacketProbe } from "../kernel/packets.ts";
import { HOUSE_LABELS, HOUSE_PLACES, HOUSE_PODS } from "./cases/cluster-policy-suite.ts";
import { type ClusterPolicy, type ClusterWorld, isAccepted } from "./naive-cluster-policy.ts";
import type { NaivePolicy, NaiveProbe } from "./naive-network-policy.ts";
import { type ExtraPod, endOf, isOwnNode, NODES, type PacketWorld, worldManifests } from "./packet-world.ts";

export interface HousePolicies {
  readonly clusterPolicies: readonly ClusterPolicy[];
  readonly policies?: readonly NaivePolicy[];
}

/** One on the host's network of n2, whose addresses are the node's. */
const HOST_POD: ExtraPod = {
  namespace: "network-policy-conformance-ravenclaw",
  name: "centaur-1",
  labels: { "conformance-house": "ravenclaw" },
  node: "n2",
  addresses: [HOUSE_PLACES.get("n2")?.v4 ?? "", HOUSE_PLACES.get("n2")?.v6 ?? ""],
  ports: [{ name: "web", protocol: "TCP", port: 80 }],
  hostNetwork: true,
  phase: "Running",
};

export function houseWorld({ policies = [] }: Pick<HousePolicies, "policies">): PacketWorld {
  return { namespaces: HOUSE_LABELS, pods: HOUSE_PODS, policies, extras: [HOST_POD] };
}

export function houseManifests(given: HousePolicies): unknown[] {
  const clusterPolicies = given.clusterPolicies.map((policy) => ({ apiVersion: "policy.networking.k8s.io/v1alpha2", kind: "ClusterNetworkPolicy", ...policy }));
  return [...worldManifests(houseWorld(given)), ...clusterPolicies];
}

/** By the evaluator that shares nothing with the program. */
export function literalHouseVerdicts(given: HousePolicies, probes: readonly PacketProbe[]): ("allow" | "deny")[] {
  const world = houseWorld(given);
  const literal: ClusterWorld = {
    namespaces: HOUSE_LABELS,
    policies: world.policies,
    clusterPolicies: given.clusterPolicies,
    nodes: NODES.map(({ labels, v4, v6 }) => ({ labels, addresses: [v4, v6] })),
  };
  return probes.map((probe) => {
    const { from, to, version, protocol, port } = probe;
    const naive: NaiveProbe = { from: endOf(world, from, version), to: endOf(world, to, version), protocol, port: protocol === "ICMP" ? undefined : port };
    return isAccepted(literal, naive, "egress") && (isOwnNode(world, probe) || isAccepted(literal, naive, "ingress")) ? "allow" : "deny";
  });
}
