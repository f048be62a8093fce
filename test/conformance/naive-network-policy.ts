/**
 * networking.k8s.io/v1 NetworkPolicy decided straight from the text of the API's documentation, over objects as a manifest has them.
 *
 * Shares nothing with the program but the arithmetic of addresses, and makes no effort to be fast: an oracle for tests.
 */
import { cidrContains, parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";

export interface NaiveSelector {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] }[];
}

export interface NaivePeer {
  readonly podSelector?: NaiveSelector;
  readonly namespaceSelector?: NaiveSelector;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}

export interface NaivePort {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}

export interface NaiveRule {
  readonly from?: readonly NaivePeer[];
  readonly to?: readonly NaivePeer[];
  readonly ports?: readonly NaivePort[];
}

export interface NaivePolicy {
  readonly metadata: { readonly namespace: string; readonly name: string };
  readonly spec: {
    readonly podSelector?: NaiveSelector;
    readonly policyTypes?: readonly string[];
    readonly ingress?: readonly NaiveRule[];
    readonly egress?: readonly NaiveRule[];
  };
}

export interface NaivePod {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
}

/** One end of a connection: its address, and the pod that has it. */
export interface NaiveEnd {
  readonly address: string;
  readonly pod: NaivePod | undefined;
}

export interface NaiveProbe {
  readonly from: NaiveEnd;
  readonly to: NaiveEnd;
  /** "TCP", "UDP", "SCTP", or another without ports. */
  readonly protocol: string;
  readonly port: number | undefined;
}

export interface NaiveWorld {
  /** Labels of each namespace. */
  readonly namespaces: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly policies: readonly NaivePolicy[];
}

/** True when the policies let the connection pass at one end: egress at the source, ingress at the destination. */
export function isAllowed(world: NaiveWorld, probe: NaiveProbe, direction: "ingress" | "egress"): boolean {
  return verdictOf(world, probe, direction) !== "deny";
}

/** undefined: no policy isolates that end. */
export function verdictOf(world: NaiveWorld, probe: NaiveProbe, direction: "ingress" | "egress"): "allow" | "deny" | undefined {
  const own = direction === "ingress" ? probe.to : probe.from;
  const peer = direction === "ingress" ? probe.from : probe.to;
  const { pod } = own;
  if (pod === undefined) return undefined;
  const isolating = world.policies.filter(
    (policy) => policy.metadata.namespace === pod.namespace && selects(policy.spec.podSelector ?? {}, pod.labels) && isFor(policy, direction),
  );
  if (isolating.length === 0) return undefined;
  for (const policy of isolating) {
    for (const rule of policy.spec[direction] ?? []) {
      const peers = (direction === "ingress" ? rule.from : rule.to) ?? [];
      const isPeer = peers.length === 0 || peers.some((candidate) => isSuchPeer(world, policy, candidate, peer));
      const ports = rule.ports ?? [];
      const isPort = ports.length === 0 || ports.some((candidate) => isSuchPort(candidate, probe));
      if (isPeer && isPort) return "allow";
    }
  }
  return "deny";
}

function isFor(policy: NaivePolicy, direction: "ingress" | "egress"): boolean {
  const types = policy.spec.policyTypes ?? [];
  if (types.length > 0) return types.includes(direction === "ingress" ? "Ingress" : "Egress");
  return direction === "ingress" || (policy.spec.egress ?? []).length > 0;
}

export function selects(selector: NaiveSelector, labels: Readonly<Record<string, string>>): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) if (labels[key] !== value) return false;
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const value = labels[key];
    if (operator === "Exists" && value === undefined) return false;
    if (operator === "DoesNotExist" && value !== undefined) return false;
    if (operator === "In" && (value === undefined || !values.includes(value))) return false;
    if (operator === "NotIn" && value !== undefined && values.includes(value)) return false;
  }
  return true;
}

function isSuchPeer(world: NaiveWorld, policy: NaivePolicy, peer: NaivePeer, end: NaiveEnd): boolean {
  if (peer.ipBlock !== undefined) {
    const address = parseIp(end.address);
    return cidrContains(parseCidr(peer.ipBlock.cidr), address) && !(peer.ipBlock.except ?? []).some((text) => cidrContains(parseCidr(text), address));
  }
  const { pod } = end;
  if (pod === undefined) return false;
  if (peer.podSelector !== undefined && !selects(peer.podSelector, pod.labels)) return false;
  if (peer.namespaceSelector === undefined) return pod.namespace === policy.metadata.namespace;
  return selects(peer.namespaceSelector, { ...world.namespaces[pod.namespace], "kubernetes.io/metadata.name": pod.namespace });
}

function isSuchPort(port: NaivePort, probe: NaiveProbe): boolean {
  if ((port.protocol ?? "TCP") !== probe.protocol) return false;
  if (port.port === undefined) return true;
  if (probe.port === undefined) return false;
  if (typeof port.port === "string")
    return probe.to.pod?.ports.some((own) => own.name === port.port && own.protocol === probe.protocol && own.port === probe.port) ?? false;
  return probe.port >= port.port && probe.port <= (port.endPort ?? port.port);
}
