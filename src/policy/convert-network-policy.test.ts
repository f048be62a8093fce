import { describe, expect, it } from "vitest";
import type { NamespaceName } from "../model/names.ts";
import type { LabelSelector, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicyRule } from "../model/resource.ts";
import { parseCidr } from "../net/cidr.ts";
import { convertNetworkPolicy } from "./convert-network-policy.ts";
import type { IntentRule, IntentSide } from "./intent.ts";

const EMPTY: LabelSelector = { matchLabels: {}, matchExpressions: [] };
const labelled = (matchLabels: Record<string, string>): LabelSelector => ({ matchLabels, matchExpressions: [] });

function policy(spec: Partial<NetworkPolicy>): NetworkPolicy {
  return {
    kind: "NetworkPolicy",
    namespace: "shop" as NamespaceName,
    name: "p",
    resourceVersion: "1",
    podSelector: EMPTY,
    policyTypes: ["Ingress"],
    ingress: [],
    egress: [],
    ...spec,
  };
}

function sideText(side: IntentSide): string {
  const parts = [
    ...side.nets,
    ...side.notNets.map((net) => `-${net}`),
    ...(side.selector === undefined ? [] : [`[${side.selector.canonical}]`]),
    ...side.ports.map(({ first, last }) => `${first}-${last}`),
    ...side.namedPorts,
  ];
  return parts.length === 0 ? "any" : parts.join(" ");
}

const ruleText = (rule: IntentRule): string => `${rule.origin}: ${rule.action} ${rule.protocol} ${sideText(rule.source)} > ${sideText(rule.destination)}`;
const ingressOf = (rules: readonly NetworkPolicyRule[], spec: Partial<NetworkPolicy> = {}) =>
  convertNetworkPolicy(policy({ ingress: rules, ...spec })).ingress?.map(ruleText);
const egressOf = (rules: readonly NetworkPolicyRule[]) => convertNetworkPolicy(policy({ egress: rules, policyTypes: ["Egress"] })).egress?.map(ruleText);

const pods = (podSelector?: LabelSelector, namespaceSelector?: LabelSelector): NetworkPolicyPeer => ({ kind: "pods", podSelector, namespaceSelector });
const port = (protocol: "TCP" | "UDP" | "SCTP", number?: number | string, endPort?: number): NetworkPolicyPort => ({ protocol, port: number, endPort });

describe("convertNetworkPolicy", () => {
  it("has the identity, tier and order of Kubernetes policies", () => {
    const intent = convertNetworkPolicy(policy({ podSelector: labelled({ app: "web" }) }));
    expect(intent).toMatchObject({
      policyKind: "KubernetesNetworkPolicy",
      namespace: "shop",
      name: "p",
      tier: "default",
      order: 1000,
      ingress: [],
      egress: undefined,
    });
    expect(intent.subject.canonical).toBe('projectcalico.org/namespace == "shop" && app == "web"');
  });

  it("takes policyTypes literally", () => {
    const any = { peers: [], ports: [] };
    const intent = convertNetworkPolicy(policy({ policyTypes: ["Egress"], ingress: [any], egress: [] }));
    expect([intent.ingress, intent.egress]).toEqual([undefined, []]);
  });

  it("no peers and no ports is everything, also protocols without ports", () => {
    expect(ingressOf([{ peers: [], ports: [] }])).toEqual(["0: allow 0 any > any"]);
    expect(egressOf([{ peers: [], ports: [] }])).toEqual(["0: allow 0 any > any"]);
  });

  it.each<[string, NetworkPolicyPeer, string]>([
    ["podSelector: the policy's namespace", pods(labelled({ a: "b" })), '[projectcalico.org/namespace == "shop" && a == "b"]'],
    ["podSelector {}: all pods of the policy's namespace", pods(EMPTY), '[projectcalico.org/namespace == "shop"]'],
    ["namespaceSelector", pods(undefined, labelled({ team: "x" })), '[pcns.team == "x"]'],
    ["namespaceSelector {}: any pod", pods(undefined, EMPTY), "[has(projectcalico.org/namespace)]"],
    ["both", pods(labelled({ a: "b" }), labelled({ team: "x" })), '[pcns.team == "x" && a == "b"]'],
    ["both, each empty", pods(EMPTY, EMPTY), "[has(projectcalico.org/namespace)]"],
    // A pod whose namespace is unknown has none of its labels: it must not pass a condition that only excludes.
    [
      "namespaceSelector that only excludes",
      pods(undefined, { matchLabels: {}, matchExpressions: [{ key: "team", operator: "NotIn", values: ["x"] }] }),
      '[has(pcns.kubernetes.io/metadata.name) && pcns.team not in {"x"}]',
    ],
    ["ipBlock", { kind: "ipBlock", cidr: parseCidr("10.0.0.0/8"), except: [] }, "10.0.0.0/8"],
    [
      "ipBlock with except",
      { kind: "ipBlock", cidr: parseCidr("fd00::/16"), except: [parseCidr("fd00:2::/32"), parseCidr("fd00:1::/32")] },
      "fd00::/16 -fd00:1::/32 -fd00:2::/32",
    ],
  ])("peer %s", (_name, peer, expected) => {
    expect(ingressOf([{ peers: [peer], ports: [] }])).toEqual([`0: allow 0 ${expected} > any`]);
    expect(egressOf([{ peers: [peer], ports: [] }])).toEqual([`0: allow 0 any > ${expected}`]);
  });

  it("one rule for each peer and protocol, ports merged", () => {
    const peers = [pods(labelled({ a: "b" })), { kind: "ipBlock", cidr: parseCidr("10.0.0.0/8"), except: [] }] as const;
    const ports = [port("TCP", 81), port("UDP", 53), port("TCP", 80), port("TCP", 8000, 8010), port("TCP", 8005, 9000)];
    expect(
      ingressOf([
        { peers: [], ports: [] },
        { peers, ports },
      ]),
    ).toEqual([
      "0: allow 0 any > any",
      '1: allow 6 [projectcalico.org/namespace == "shop" && a == "b"] > 80-81 8000-9000',
      '1: allow 17 [projectcalico.org/namespace == "shop" && a == "b"] > 53-53',
      "1: allow 6 10.0.0.0/8 > 80-81 8000-9000",
      "1: allow 17 10.0.0.0/8 > 53-53",
    ]);
  });

  it("a protocol without port wins over its ports", () => {
    expect(ingressOf([{ peers: [], ports: [port("SCTP", 5), port("SCTP"), port("TCP", 1)] }])).toEqual(["0: allow 132 any > any", "0: allow 6 any > 1-1"]);
  });

  it("a named port is the subject's on ingress, the peer's on egress", () => {
    const rule = { peers: [pods(labelled({ a: "b" }))], ports: [port("TCP", "web"), port("TCP", 80)] };
    expect(ingressOf([rule], { podSelector: labelled({ app: "web" }) })).toEqual([
      '0: allow 6 [projectcalico.org/namespace == "shop" && a == "b"] > [projectcalico.org/namespace == "shop" && app == "web"] 80-80 web',
    ]);
    expect(egressOf([rule])).toEqual(['0: allow 6 any > [projectcalico.org/namespace == "shop" && a == "b"] 80-80 web']);
    expect(egressOf([{ peers: [], ports: [port("TCP", "web")] }])).toEqual(["0: allow 6 any > web"]);
  });
});
