/**
 * networking.k8s.io/v1 NetworkPolicy as a PolicyIntent.
 *
 * One rule for each peer and protocol: rules only ever allow, so their order means nothing, and a rule per pair needs no "or" between sides.
 * A direction that is not in policyTypes is left out entirely, whatever rules are written for it.
 */

import type { LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicyRule, PortProtocol } from "../model/resource.ts";
import { compareCidrs } from "../net/cidr.ts";
import { mergePortRanges } from "../net/port-range.ts";
import { selectorOf } from "../selector/compile.ts";
import { and, type Expression, equals, has } from "../selector/expression.ts";
import { fromLabelSelector, NAMESPACE_PREFIX } from "../selector/from-label-selector.ts";
import type { Selector } from "../selector/selector.ts";
import type { IntentRule, IntentSide, PolicyIntent } from "./intent.ts";

export const NETWORK_POLICY_KIND = "KubernetesNetworkPolicy";
/** Tier and order of Kubernetes policies among the policies of other APIs. */
export const NETWORK_POLICY_TIER = "default";
export const NETWORK_POLICY_ORDER = 1000;

/** Label of an endpoint's namespace. */
const NAMESPACE_LABEL = "projectcalico.org/namespace";
/** Label that the API server puts on every namespace. */
const NAMESPACE_NAME_LABEL = `${NAMESPACE_PREFIX}kubernetes.io/metadata.name`;

/** IP protocol numbers (IANA). */
export const PROTOCOL_NUMBERS: Readonly<Record<PortProtocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

const ANY: IntentSide = { nets: [], notNets: [], selector: undefined, notSelector: undefined, ports: [], namedPorts: [] };

interface PortGroup {
  /** IP protocol number, 0: any. */
  readonly protocol: number;
  readonly ports: IntentSide["ports"];
  readonly namedPorts: readonly string[];
}

const NO_NAMES: readonly string[] = [];
const ANY_PORT: readonly PortGroup[] = [{ protocol: 0, ports: [], namedPorts: NO_NAMES }];

/** Converts a checked policy. Deterministic: equal policies give equal intents. */
export function convertNetworkPolicy(policy: NetworkPolicy): PolicyIntent {
  const subject = selectorOf(and(equals(NAMESPACE_LABEL, policy.namespace), fromLabelSelector(policy.podSelector)));
  return {
    policyKind: NETWORK_POLICY_KIND,
    namespace: policy.namespace,
    name: policy.name,
    tier: NETWORK_POLICY_TIER,
    order: NETWORK_POLICY_ORDER,
    subject,
    ingress: policy.policyTypes.includes("Ingress") ? policy.ingress.flatMap((rule, origin) => ingressRules(policy, subject, rule, origin)) : undefined,
    egress: policy.policyTypes.includes("Egress") ? policy.egress.flatMap((rule, origin) => egressRules(policy, rule, origin)) : undefined,
  };
}

function ingressRules(policy: NetworkPolicy, subject: Selector, rule: NetworkPolicyRule, origin: number): IntentRule[] {
  return crossed(policy, rule, (source, { protocol, ports, namedPorts }) => {
    // A name means the port of the pod that the packet arrives at, which is one of the policy's subjects.
    const destination = { ...ANY, ports, namedPorts, selector: namedPorts.length > 0 ? subject : undefined };
    return { action: "allow", protocol, source, destination, origin };
  });
}

function egressRules(policy: NetworkPolicy, rule: NetworkPolicyRule, origin: number): IntentRule[] {
  return crossed(policy, rule, (peer, { protocol, ports, namedPorts }) => {
    return { action: "allow", protocol, source: ANY, destination: { ...peer, ports, namedPorts }, origin };
  });
}

function crossed(policy: NetworkPolicy, rule: NetworkPolicyRule, make: (peer: IntentSide, group: PortGroup) => IntentRule): IntentRule[] {
  const peers = rule.peers.length === 0 ? [ANY] : rule.peers.map((peer) => peerSide(policy, peer));
  const groups = portGroups(rule.ports);
  return peers.flatMap((peer) => groups.map((group) => make(peer, group)));
}

function peerSide(policy: NetworkPolicy, peer: NetworkPolicyPeer): IntentSide {
  switch (peer.kind) {
    case "ipBlock":
      return { ...ANY, nets: [peer.cidr], notNets: [...peer.except].sort(compareCidrs) };
    case "pods":
      return {
        ...ANY,
        selector: selectorOf(
          and(namespaceCondition(policy, peer.namespaceSelector), peer.podSelector === undefined ? and() : fromLabelSelector(peer.podSelector)),
        ),
      };
  }
}

function namespaceCondition(policy: NetworkPolicy, selector: LabelSelector | undefined): Expression {
  if (selector === undefined) return equals(NAMESPACE_LABEL, policy.namespace);
  const condition = fromLabelSelector(selector, { prefix: NAMESPACE_PREFIX });
  if (condition.kind === "all") return has(NAMESPACE_LABEL);
  // Conditions that only exclude (NotIn, DoesNotExist) would hold for a pod whose namespace is not known yet: ask for a label that each one has.
  const needsLabel = [...selectorOf(condition).restrictions.values()].some((restriction) => restriction.mustBePresent === true);
  return needsLabel ? condition : and(has(NAMESPACE_NAME_LABEL), condition);
}

/** Ports by protocol, in the order of first mention. No ports: any protocol, also those without ports. */
function portGroups(ports: readonly NetworkPolicyPort[]): readonly PortGroup[] {
  if (ports.length === 0) return ANY_PORT;
  const [only] = ports;
  if (ports.length === 1 && typeof only?.port === "number") {
    const ranges = [{ first: only.port, last: only.endPort ?? only.port }];
    return [{ protocol: PROTOCOL_NUMBERS[only.protocol], ports: ranges, namedPorts: NO_NAMES }];
  }
  const protocols = [...new Set(ports.map((port) => port.protocol))];
  return protocols.map((protocol) => {
    const own = ports.filter((port) => port.protocol === protocol);
    const number = PROTOCOL_NUMBERS[protocol];
    if (own.some(({ port }) => port === undefined)) return { protocol: number, ports: [], namedPorts: [] };
    const ranges = own.flatMap(({ port, endPort }) => (typeof port === "number" ? [{ first: port, last: endPort ?? port }] : []));
    const names = own.flatMap(({ port }) => (typeof port === "string" ? [port] : []));
    return { protocol: number, ports: mergePortRanges(ranges), namedPorts: [...new Set(names)].sort() };
  });
}
