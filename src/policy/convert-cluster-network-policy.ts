/**
 * policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy as a PolicyIntent: tier Admin is before all other policies, Baseline after them, and neither
 * isolates a pod by being there.
 *
 * One intent rule for each peer and protocol, all with the rule's action and next to each other: which of them matches does not matter.
 * A rule that cannot be enforced fails closed as the API says: Accept matches nothing, Deny and Pass become "deny all". A stand-in (a subject that could
 * not be read) is for every pod that its readable parts leave, and lets nothing through: Accept is left out, Deny holds, Pass denies.
 */
import type { Problem } from "../model/event.ts";
import type { ClusterNetworkPolicy, ClusterPods, ClusterPolicyPeer, ClusterPolicyProtocol, ClusterPolicyRule } from "../model/resource.ts";
import { selectorOf } from "../selector/compile.ts";
import { and, type Expression, has } from "../selector/expression.ts";
import { fromLabelSelector, NAMESPACE_PREFIX } from "../selector/from-label-selector.ts";
import type { Selector } from "../selector/selector.ts";
import { denyAll, forAnybody } from "./convert-calico-policy.ts";
import { PROTOCOL_NUMBERS } from "./convert-network-policy.ts";
import { ANY_SIDE, type Converted, type IntentRule, type IntentSide } from "./intent.ts";
import { NAMESPACE_LABEL } from "./scope.ts";

export const CLUSTER_POLICY_TIERS = { Admin: "kube-admin", Baseline: "kube-baseline" } as const;

const ACTIONS = { Accept: "allow", Deny: "deny", Pass: "pass" } as const;

/** Throws RangeError for labels that no object can have. */
export function convertClusterNetworkPolicy(policy: ClusterNetworkPolicy): Converted {
  const problems: Problem[] = [];
  const subject = selectorOf(podsCondition(policy.subject));
  const convert = (rules: readonly ClusterPolicyRule[], direction: "ingress" | "egress"): readonly IntentRule[] | undefined => {
    if (rules.length === 0) return undefined;
    const intents = rules.flatMap((rule, origin) => ruleIntents(rule, { direction, origin, subject, problems }));
    return policy.isStandIn === true ? forAnybody(intents) : intents;
  };
  return {
    intent: {
      policyKind: "ClusterNetworkPolicy",
      namespace: "",
      name: policy.name,
      tier: CLUSTER_POLICY_TIERS[policy.tier],
      order: policy.priority,
      subject,
      ingress: convert(policy.ingress, "ingress"),
      egress: convert(policy.egress, "egress"),
    },
    problems,
    isUnderstood: true,
  };
}

interface RuleContext {
  readonly direction: "ingress" | "egress";
  readonly origin: number;
  readonly subject: Selector;
  readonly problems: Problem[];
}

function ruleIntents(rule: ClusterPolicyRule, context: RuleContext): readonly IntentRule[] {
  const { direction, origin, subject, problems } = context;
  const unknown = [...rule.peers, ...rule.protocols].filter((part) => part.kind === "unknown");
  const isNamed = rule.protocols.some(({ kind }) => kind === "named");
  const nameless = isNamed && direction === "egress" && rule.peers.some(({ kind }) => kind === "nodes" || kind === "networks");
  for (const { field } of unknown) problems.push({ field, message: `is not enforced here: the rule ${closedText(rule)}` });
  if (nameless) problems.push({ field: `spec.egress[${origin}].protocols`, message: `nodes and networks have no named ports: the rule ${closedText(rule)}` });
  if (unknown.length > 0 || nameless) return rule.action === "Accept" ? [] : [denyAll(origin, rule.name)];
  const name = rule.name === "" ? {} : { name: rule.name };
  return rule.peers.flatMap((peer) =>
    protocolSides(rule.protocols).map(({ protocol, ports, namedPorts }): IntentRule => {
      const side = peerSide(peer);
      const action = ACTIONS[rule.action];
      if (direction === "egress") return { action, protocol, source: ANY_SIDE, destination: { ...side, ports, namedPorts }, origin, ...name };
      // A name means the port of the pod that the packet arrives at, which is one of the policy's subjects.
      const destination = { ...ANY_SIDE, ports, namedPorts, selector: namedPorts.length > 0 ? subject : undefined };
      return { action, protocol, source: side, destination, origin, ...name };
    }),
  );
}

function closedText({ action }: ClusterPolicyRule): string {
  return action === "Accept" ? "accepts nothing" : "denies everything";
}

function peerSide(peer: ClusterPolicyPeer): IntentSide {
  switch (peer.kind) {
    case "pods":
      return { ...ANY_SIDE, selector: selectorOf(podsCondition(peer)) };
    case "nodes":
      return { ...ANY_SIDE, nodes: selectorOf(fromLabelSelector(peer.selector)) };
    case "networks":
      return { ...ANY_SIDE, nets: peer.networks };
    case "unknown":
      throw new Error(`unknown peer ${peer.field}`);
  }
}

function podsCondition({ namespaceSelector, podSelector }: ClusterPods): Expression {
  const namespaces = fromLabelSelector(namespaceSelector, { prefix: NAMESPACE_PREFIX });
  const pods = podSelector === undefined ? and() : fromLabelSelector(podSelector);
  if (namespaces.kind === "all") return and(has(NAMESPACE_LABEL), pods);
  const needsLabel = [...selectorOf(namespaces).restrictions.values()].some((restriction) => restriction.mustBePresent === true);
  return and(needsLabel ? and() : has(`${NAMESPACE_PREFIX}kubernetes.io/metadata.name`), namespaces, pods);
}

interface ProtocolSide {
  readonly protocol: number;
  readonly ports: IntentSide["ports"];
  readonly namedPorts: readonly string[];
}

/** None stated: any protocol, also those without ports. */
function protocolSides(protocols: readonly ClusterPolicyProtocol[]): readonly ProtocolSide[] {
  if (protocols.length === 0) return [{ protocol: 0, ports: [], namedPorts: [] }];
  return protocols.flatMap((entry): ProtocolSide[] => {
    if (entry.kind === "named") return [{ protocol: 0, ports: [], namedPorts: [entry.name] }];
    if (entry.kind === "unknown") return [];
    const { first, last } = entry;
    return [{ protocol: PROTOCOL_NUMBERS[entry.protocol], ports: first === 0 && last === 65535 ? [] : [{ first, last }], namedPorts: [] }];
  });
}
