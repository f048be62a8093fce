/**
 * policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy decided straight from the text of the API's documentation, over objects as a manifest has them.
 *
 * Shares nothing with the program but the arithmetic of addresses. Equal priorities are left to the implementation by the API: here the name decides.
 */
import { cidrContains, parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { type NaivePod, type NaiveProbe, type NaiveSelector, type NaiveWorld, selects, verdictOf } from "./naive-network-policy.ts";

export interface ClusterPeer {
  readonly namespaces?: NaiveSelector;
  readonly pods?: { readonly namespaceSelector?: NaiveSelector; readonly podSelector: NaiveSelector };
  readonly nodes?: NaiveSelector;
  readonly networks?: readonly string[];
}

export interface ClusterPorts {
  readonly destinationPort?: { readonly number?: number; readonly range?: { readonly start: number; readonly end: number } };
}

export interface ClusterProtocol {
  readonly tcp?: ClusterPorts;
  readonly udp?: ClusterPorts;
  readonly sctp?: ClusterPorts;
  readonly destinationNamedPort?: string;
}

export interface ClusterRule {
  readonly name?: string;
  readonly action: "Accept" | "Deny" | "Pass";
  readonly from?: readonly ClusterPeer[];
  readonly to?: readonly ClusterPeer[];
  readonly protocols?: readonly ClusterProtocol[];
}

export interface ClusterPolicy {
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly tier: "Admin" | "Baseline";
    readonly priority: number;
    readonly subject: Pick<ClusterPeer, "namespaces" | "pods">;
    readonly ingress?: readonly ClusterRule[];
    readonly egress?: readonly ClusterRule[];
  };
}

export interface ClusterWorld extends NaiveWorld {
  readonly clusterPolicies: readonly ClusterPolicy[];
  readonly nodes: readonly { readonly labels: Readonly<Record<string, string>>; readonly addresses: readonly string[] }[];
}

/** One end's verdict: Admin, then NetworkPolicy, then Baseline, then allowed. */
export function isAccepted(world: ClusterWorld, probe: NaiveProbe, direction: "ingress" | "egress"): boolean {
  const admin = tierAction(world, probe, direction, "Admin");
  if (admin === "Accept" || admin === "Deny") return admin === "Accept";
  const own = verdictOf(world, probe, direction);
  if (own !== undefined) return own === "allow";
  return tierAction(world, probe, direction, "Baseline") !== "Deny";
}

function tierAction(world: ClusterWorld, probe: NaiveProbe, direction: "ingress" | "egress", tier: "Admin" | "Baseline"): ClusterRule["action"] | undefined {
  const { pod } = direction === "ingress" ? probe.to : probe.from;
  if (pod === undefined) return undefined;
  const policies = world.clusterPolicies
    .filter(({ spec }) => spec.tier === tier && isPod(world, spec.subject, pod))
    .toSorted((a, b) => a.spec.priority - b.spec.priority || (a.metadata.name < b.metadata.name ? -1 : 1));
  for (const { spec } of policies) {
    for (const rule of spec[direction] ?? []) {
      const peers = (direction === "ingress" ? rule.from : rule.to) ?? [];
      const isProtocol = rule.protocols === undefined || rule.protocols.some((protocol) => hasProtocol(protocol, probe));
      if (isProtocol && peers.some((peer) => isPeer(world, peer, direction === "ingress" ? probe.from : probe.to))) return rule.action;
    }
  }
  return undefined;
}

function isPeer(world: ClusterWorld, peer: ClusterPeer, { address, pod }: NaiveProbe["from"]): boolean {
  const ip = parseIp(address);
  if (peer.networks !== undefined) return peer.networks.some((net) => cidrContains(parseCidr(net), ip));
  const { nodes } = peer;
  if (nodes !== undefined) return world.nodes.some(({ labels, addresses }) => selects(nodes, labels) && addresses.includes(address));
  return pod !== undefined && isPod(world, peer, pod);
}

function isPod(world: ClusterWorld, { namespaces, pods }: ClusterPeer, pod: NaivePod): boolean {
  const labels = { ...world.namespaces[pod.namespace], "kubernetes.io/metadata.name": pod.namespace };
  if (pods === undefined) return selects(namespaces ?? {}, labels);
  return selects(pods.namespaceSelector ?? {}, labels) && selects(pods.podSelector, pod.labels);
}

function hasProtocol({ destinationNamedPort, ...transports }: ClusterProtocol, { protocol, port, to }: NaiveProbe): boolean {
  if (port === undefined) return false;
  if (destinationNamedPort !== undefined)
    return to.pod?.ports.some((own) => own.name === destinationNamedPort && own.protocol === protocol && own.port === port) ?? false;
  const ports = transports[protocol.toLowerCase() as keyof typeof transports];
  if (ports === undefined) return false;
  const { number, range } = ports.destinationPort ?? {};
  if (number !== undefined) return port === number;
  return range === undefined || (port >= range.start && port <= range.end);
}
