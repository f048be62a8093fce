/** A cluster's objects for packet tests: the world of the cases with labels, ports and policies that may differ, and all probes that can be made in it. */
import { evaluate } from "../../src/ctl/policy-evaluate.ts";
import type { PacketProbe } from "../kernel/packets.ts";
import { policyManifest } from "./cases/case.ts";
import { type CasePod, LISTENING_PORTS, NAMESPACE_LABELS, OUTSIDE, PODS } from "./cases/world.ts";
import { isAllowed, type NaiveEnd, type NaivePolicy } from "./naive-network-policy.ts";

export interface PacketWorld {
  readonly namespaces: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly pods: readonly CasePod[];
  readonly policies: readonly NaivePolicy[];
  /** Pods that only the API knows: they fill sets, and nobody probes them. */
  readonly extras?: readonly ExtraPod[];
}

export interface ExtraPod {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly node: string;
  readonly addresses: readonly string[];
  readonly ports: CasePod["ports"];
  readonly hostNetwork?: boolean;
  readonly phase: "Running" | "Succeeded" | "Failed";
}

/** The first is of another system than the others by its label. */
export const NODES = [1, 2, 3].map((i) => ({
  name: `n${i}`,
  v4: `172.30.90.${10 + i}`,
  v6: `fd30:90::${10 + i}`,
  labels: { "kubernetes.io/os": i === 1 ? "other" : "linux", "kubernetes.io/hostname": `n${i}` },
}));

/** One of those that probes by packets have. */
export const PROBE_SOURCE_PORT = 30_000;

/** The cases' world. */
export function caseWorld(policies: readonly NaivePolicy[]): PacketWorld {
  return { namespaces: NAMESPACE_LABELS, pods: PODS, policies };
}

export function worldManifests({ namespaces, pods, policies, extras = [] }: PacketWorld): unknown[] {
  return [
    ...NODES.map(({ name, v4, v6, labels }) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name, labels },
      status: { addresses: [v4, v6].map((address) => ({ type: "InternalIP", address })) },
    })),
    ...Object.entries(namespaces).map(([name, labels]) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } })),
    ...pods.map((pod) => podManifest({ ...pod, addresses: [pod.v4, pod.v6], phase: "Running" })),
    ...extras.map(podManifest),
    ...policies.map(policyManifest),
  ];
}

function podManifest({ namespace, name, labels, node, addresses, ports, hostNetwork, phase }: ExtraPod): unknown {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace, name, labels },
    spec: {
      nodeName: node,
      ...(hostNetwork === true ? { hostNetwork } : {}),
      containers: ports.map((port, i) => ({ name: `c${i}`, image: "none", ports: [{ name: port.name, protocol: port.protocol, containerPort: port.port }] })),
    },
    status: { phase, podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) },
  };
}

/** Every pair of places of which one is a pod, each protocol, port and family. */
export function allProbes({ pods }: PacketWorld, ports: readonly number[] = LISTENING_PORTS): PacketProbe[] {
  const names = pods.map(({ namespace, name }) => `${namespace}/${name}`);
  const others = ["outside", ...NODES.map(({ name }) => name)];
  const pairs = [
    ...names.flatMap((from) => [...names, ...others].map((to) => ({ from, to }))),
    ...others.flatMap((from) => names.map((to) => ({ from, to }))),
  ].filter(({ from, to }) => from !== to);
  return pairs.flatMap((pair) =>
    ([4, 6] as const).flatMap((version) => [
      ...(["TCP", "UDP", "SCTP"] as const).flatMap((protocol) => ports.map((port): PacketProbe => ({ ...pair, version, protocol, port }))),
      { ...pair, version, protocol: "ICMP" as const, port: 0 },
    ]),
  );
}

/** The verdicts of `sedge policy evaluate`. `objects`: in place of those of the world's policies. */
export function evaluatedVerdicts(world: PacketWorld, probes: readonly PacketProbe[], objects = worldManifests(world)): ("allow" | "deny")[] {
  const address = (name: string, version: 4 | 6): string => endOf(world, name, version).address;
  return evaluate({
    manifests: objects,
    probes: probes.map(({ from, to, version, protocol, port }) => ({
      from: address(from, version),
      to: address(to, version),
      protocol,
      // A ping is all that is sent of it.
      ...(protocol === "ICMP" ? { icmpType: version === 4 ? 8 : 128, icmpCode: 0 } : { port, sourcePort: PROBE_SOURCE_PORT }),
    })),
  }).map(({ verdict }) => verdict);
}

/** The verdicts of the evaluator that shares nothing with the program. A node always reaches its own pods. */
export function literalVerdicts(world: PacketWorld, probes: readonly PacketProbe[]): ("allow" | "deny")[] {
  return probes.map((packet) => {
    const { from, to, version, protocol, port } = packet;
    const probe = { from: endOf(world, from, version), to: endOf(world, to, version), protocol, port: protocol === "ICMP" ? undefined : port };
    return isAllowed(world, probe, "egress") && (isOwnNode(world, packet) || isAllowed(world, probe, "ingress")) ? "allow" : "deny";
  });
}

/** A node always reaches its own pods. */
export function isOwnNode({ pods }: PacketWorld, { from, to }: PacketProbe): boolean {
  return pods.some((pod) => pod.node === from && `${pod.namespace}/${pod.name}` === to);
}

export function endOf({ pods }: PacketWorld, name: string, version: 4 | 6): NaiveEnd {
  const pod = pods.find((candidate) => `${candidate.namespace}/${candidate.name}` === name);
  const other = name === "outside" ? OUTSIDE : NODES.find((node) => node.name === name);
  const address = (pod ?? other)?.[version === 4 ? "v4" : "v6"];
  if (address === undefined) throw new RangeError(`no place ${name}`);
  return { address, pod };
}
