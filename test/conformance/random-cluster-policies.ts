/** ClusterNetworkPolicies and a few NetworkPolicies for the houses, made from a seed. */
import type { PacketProbe } from "../kernel/packets.ts";
import { HOUSE_PODS, HOUSE_PORTS } from "./cases/cluster-policy-suite.ts";
import type { HousePolicies } from "./cluster-policy-world.ts";
import type { ClusterPeer, ClusterPolicy, ClusterProtocol, ClusterRule } from "./naive-cluster-policy.ts";
import type { NaivePolicy, NaiveSelector } from "./naive-network-policy.ts";
import { Dice } from "./random-policies.ts";

const HOUSES = [...new Set(HOUSE_PODS.map(({ labels }) => labels["conformance-house"] ?? ""))];
const POD_NAMES = HOUSE_PODS.map(({ name }) => name);
const NETWORKS = ["0.0.0.0/0", "::/0", "10.66.0.0/16", "10.66.3.0/24", "10.66.2.1/32", "fd00:66::/64", "fd00:66::4:0/112", "172.31.0.0/16", "172.30.90.0/24"];

export function randomHousePolicies(seed: number): HousePolicies {
  const dice = new Dice(seed);
  const clusterPolicies = Array.from({ length: 1 + dice.below(5) }, (_, i) => clusterPolicy(dice, i));
  return { clusterPolicies, policies: dice.chance(50) ? dice.several(1, 2, () => HOUSES).map((_, i) => networkPolicy(dice, i)) : [] };
}

/** Some of all probes among pods, the outside and the nodes, the same for the same seed. */
export function randomHouseProbes(seed: number, count: number): PacketProbe[] {
  const dice = new Dice(seed + 11);
  const pods = HOUSE_PODS.map(({ namespace, name }) => `${namespace}/${name}`);
  const others = ["outside", "n1", "n2", "n3"];
  return Array.from({ length: count }, (): PacketProbe => {
    const pod = dice.pick(pods);
    const other = dice.pick([...pods.filter((name) => name !== pod), ...others]);
    const [from, to] = dice.chance(50) ? [pod, other] : [other, pod];
    const version = dice.pick([4, 6] as const);
    const protocol = dice.pick(["TCP", "UDP", "SCTP", "ICMP"] as const);
    return { from, to, version, protocol, port: protocol === "ICMP" ? 0 : dice.pick(HOUSE_PORTS) };
  });
}

function clusterPolicy(dice: Dice, i: number): ClusterPolicy {
  const rules = (direction: "from" | "to"): ClusterRule[] => dice.several(0, 4, () => rule(dice, direction));
  return {
    metadata: { name: `p${i}` },
    spec: {
      tier: dice.pick(["Admin", "Baseline"]),
      priority: dice.pick([0, 10, 10, 1000]),
      subject: podsPeer(dice),
      ...(dice.chance(80) ? { ingress: rules("from") } : {}),
      ...(dice.chance(80) ? { egress: rules("to") } : {}),
    },
  };
}

function rule(dice: Dice, direction: "from" | "to"): ClusterRule {
  const isNamed = dice.chance(20);
  const peers = dice.several(1, 3, () => (direction === "from" || isNamed || dice.chance(60) ? podsPeer(dice) : otherPeer(dice)));
  return {
    action: dice.pick(["Accept", "Deny", "Pass"]),
    [direction]: peers,
    ...(isNamed || dice.chance(60) ? { protocols: dice.several(1, 3, () => protocolOf(dice, isNamed)) } : {}),
  };
}

function podsPeer(dice: Dice): Pick<ClusterPeer, "namespaces" | "pods"> {
  if (dice.chance(50)) return { namespaces: houseSelector(dice) };
  return { pods: { ...(dice.chance(70) ? { namespaceSelector: houseSelector(dice) } : {}), podSelector: podSelector(dice) } };
}

function otherPeer(dice: Dice): ClusterPeer {
  if (dice.chance(70)) return { networks: [...new Set(dice.several(1, 3, () => dice.pick(NETWORKS)))] };
  return { nodes: dice.pick<NaiveSelector>([{}, { matchLabels: { "kubernetes.io/os": "linux" } }, { matchLabels: { "kubernetes.io/hostname": "n1" } }]) };
}

function houseSelector(dice: Dice): NaiveSelector {
  const values = dice.several(1, 2, () => dice.pick(HOUSES));
  switch (dice.below(5)) {
    case 0:
      return {};
    case 1:
      return { matchExpressions: [{ key: "conformance-house", operator: dice.pick(["In", "NotIn"]), values }] };
    case 2:
      return { matchExpressions: [{ key: dice.pick(["conformance-house", "absent"]), operator: dice.pick(["Exists", "DoesNotExist"]) }] };
    default:
      return { matchLabels: { "kubernetes.io/metadata.name": `network-policy-conformance-${values[0] ?? ""}` } };
  }
}

function podSelector(dice: Dice): NaiveSelector {
  switch (dice.below(4)) {
    case 0:
      return {};
    case 1:
      return { matchLabels: { "conformance-house": dice.pick(HOUSES) } };
    default: {
      const values = dice.several(1, 5, () => dice.pick(POD_NAMES));
      return { matchExpressions: [{ key: "statefulset.kubernetes.io/pod-name", operator: dice.pick(["In", "NotIn"]), values }] };
    }
  }
}

function protocolOf(dice: Dice, isNamed: boolean): ClusterProtocol {
  if (isNamed && dice.chance(70)) return { destinationNamedPort: dice.pick(["web", "dns", "signal", "nobody"]) };
  const transport = dice.pick(["tcp", "udp", "sctp"] as const);
  const [start, end] = [dice.pick([1, 53, 80, 8080]), dice.pick([8080, 9003, 65535])];
  return dice.pick<ClusterProtocol>([
    { [transport]: {} },
    { [transport]: { destinationPort: { number: dice.pick(HOUSE_PORTS) } } },
    { [transport]: { destinationPort: { range: { start, end: end > start ? end : 65535 } } } },
  ]);
}

function networkPolicy(dice: Dice, i: number): NaivePolicy {
  const house = dice.pick(HOUSES);
  const peer = { namespaceSelector: houseSelector(dice) };
  const ports = dice.chance(50) ? [{ protocol: dice.pick(["TCP", "UDP", "SCTP"]), port: dice.pick(HOUSE_PORTS) }] : [];
  return {
    metadata: { namespace: `network-policy-conformance-${house}`, name: `n${i}` },
    spec: {
      podSelector: dice.chance(50) ? {} : podSelector(dice),
      policyTypes: dice.pick([["Ingress"], ["Egress"], ["Ingress", "Egress"]]),
      ingress: dice.several(0, 2, () => ({ from: [peer], ports })),
      egress: dice.several(0, 2, () => ({ to: [peer], ports })),
    },
  };
}
