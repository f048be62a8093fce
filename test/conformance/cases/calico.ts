/**
 * Calico's kinds and ClusterNetworkPolicies on the cases' world: tiers, orders, actions, scoping, sets, negations. Verdicts are written down by hand.
 */

import { calicoObject } from "./calico-validation.ts";
import type { ConformanceCase } from "./case.ts";

/** As ConformanceCase, with objects of any kind. */
export interface ObjectCase extends Omit<ConformanceCase, "policies"> {
  readonly objects: readonly unknown[];
}

type Spec = Readonly<Record<string, unknown>>;

const global = (name: string, spec: Spec): unknown => calicoObject("GlobalNetworkPolicy", spec, { name });
const local = (namespace: string, name: string, spec: Spec): unknown => ({
  apiVersion: "projectcalico.org/v3",
  kind: "NetworkPolicy",
  metadata: { namespace, name },
  spec,
});
const kubernetes = (namespace: string, name: string, spec: Spec): unknown => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { namespace, name },
  spec,
});
const tier = (name: string, order: number | undefined, defaultAction?: string): unknown =>
  calicoObject("Tier", { ...(order === undefined ? {} : { order }), ...(defaultAction === undefined ? {} : { defaultAction }) }, { name });
const globalSet = (name: string, labels: Spec, nets: readonly string[]): unknown => ({
  apiVersion: "projectcalico.org/v3",
  kind: "GlobalNetworkSet",
  metadata: { name, labels },
  spec: { nets },
});
const localSet = (namespace: string, name: string, labels: Spec, nets: readonly string[]): unknown => ({
  apiVersion: "projectcalico.org/v3",
  kind: "NetworkSet",
  metadata: { namespace, name, labels },
  spec: { nets },
});
const cluster = (name: string, spec: Spec): unknown => calicoObject("ClusterNetworkPolicy", { priority: 10, ...spec }, { name });
const account = (namespace: string, name: string, labels: Spec): unknown => ({
  apiVersion: "v1",
  kind: "ServiceAccount",
  metadata: { namespace, name, labels },
});
const slice = (namespace: string, service: string, addresses: readonly string[], port: number): unknown => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { namespace, name: `${service}-1`, labels: { "kubernetes.io/service-name": service } },
  addressType: "IPv4",
  endpoints: [
    { addresses: addresses.slice(0, 1), conditions: { ready: true } },
    { addresses: addresses.slice(1), conditions: { ready: false } },
  ],
  ports: [{ port, protocol: "TCP" }],
});

const allow = (rule: Spec = {}): Spec => ({ action: "Allow", ...rule });
const deny = (rule: Spec = {}): Spec => ({ action: "Deny", ...rule });
const pass = (rule: Spec = {}): Spec => ({ action: "Pass", ...rule });
const from = (source: Spec): Spec => ({ source });
const to = (destination: Spec): Spec => ({ destination });
const ALL = "x/a > y/b 80/TCP";

export const CALICO_CASES: readonly ObjectCase[] = [
  {
    name: "a global policy without rules isolates ingress",
    objects: [global("p", { selector: "pod == 'a'" })],
    allow: ["x/a > x/b 80/TCP", "outside > x/b 80/TCP"],
    deny: ["x/b > x/a 80/TCP", "outside > y/a 80/TCP", "y/b > z/a 80/UDP v6"],
  },
  {
    name: "a namespaced policy is of its namespace",
    objects: [local("x", "p", { selector: "pod == 'a'" })],
    allow: ["x/a > y/a 80/TCP", "x/b > y/a 80/TCP"],
    deny: ["y/a > x/a 80/TCP"],
  },
  {
    name: "egress rules alone: types are Egress",
    objects: [local("x", "p", { egress: [allow(to({ nets: ["10.65.2.0/24"] }))] })],
    allow: ["x/a > y/b 80/TCP", "y/b > x/a 80/TCP", "outside > x/a 80/TCP"],
    deny: ["x/a > z/b 80/TCP", "x/a > outside 80/TCP", "x/a > y/b 80/TCP v6"],
  },
  {
    name: "both kinds of rules: both types",
    objects: [local("x", "p", { selector: "pod == 'a'", ingress: [allow(from({ nets: ["10.65.2.1/32"] }))], egress: [allow()] })],
    allow: ["y/a > x/a 80/TCP", "x/a > z/b 80/TCP"],
    deny: ["y/b > x/a 80/TCP"],
  },
  {
    name: "rules in order, first match decides",
    objects: [global("p", { selector: "pod == 'b'", ingress: [deny(from({ selector: "pod == 'a'" })), allow()] })],
    allow: ["x/c > y/b 80/TCP", "outside > y/b 80/TCP"],
    deny: [ALL, "x/a > y/b ICMP"],
  },
  {
    name: "Log goes on",
    objects: [global("p", { selector: "pod == 'b'", ingress: [{ action: "Log" }, allow(from({ selector: "pod == 'a'" })), { action: "Log" }] })],
    allow: [ALL],
    deny: ["x/c > y/b 80/TCP"],
  },
  {
    name: "order decides between policies",
    objects: [
      global("late", { order: 20, selector: "pod == 'b'", ingress: [allow()] }),
      global("early", { order: 10, selector: "pod == 'b'", ingress: [deny(from({ selector: "pod == 'a'" }))] }),
    ],
    allow: ["x/c > y/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "a policy without order is last",
    objects: [global("a", { selector: "pod == 'b'", ingress: [deny()] }), global("b", { order: 1e6, selector: "pod == 'b'", ingress: [allow()] })],
    allow: [ALL],
    deny: [],
  },
  {
    name: "equal order: by kind and name",
    objects: [global("b", { order: 1, selector: "pod == 'b'", ingress: [deny()] }), global("a", { order: 1, selector: "pod == 'b'", ingress: [allow()] })],
    allow: [ALL],
    deny: [],
  },
  {
    name: "Kubernetes policies are at 1000 in default",
    objects: [
      kubernetes("y", "k", { podSelector: {}, ingress: [{ from: [{ namespaceSelector: {} }] }] }),
      global("g", { order: 999, selector: "pod == 'b'", ingress: [deny(from({ selector: "pod == 'a'" }))] }),
      global("h", { order: 1001, selector: "pod == 'b'", ingress: [deny()] }),
    ],
    allow: ["x/c > y/b 80/TCP", "x/a > y/a 80/TCP"],
    deny: [ALL, "outside > y/b 80/TCP"],
  },
  {
    name: "tiers by order, Deny ends",
    objects: [
      tier("t", 10),
      global("g", { tier: "t", selector: "pod == 'b'", ingress: [deny(from({ selector: "pod == 'a'" })), pass()] }),
      kubernetes("y", "k", { podSelector: {}, ingress: [{}] }),
    ],
    allow: ["x/c > y/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "the end of a tier denies",
    objects: [tier("t", 10), global("g", { tier: "t", selector: "pod == 'b'", ingress: [pass(from({ selector: "pod == 'a'" }))] })],
    allow: [ALL, "x/c > y/a 80/TCP"],
    deny: ["x/c > y/b 80/TCP", "outside > y/b 80/TCP"],
  },
  {
    name: "a tier with default action Pass goes on",
    objects: [tier("t", 10, "Pass"), global("g", { tier: "t", selector: "pod == 'b'", ingress: [deny(from({ selector: "pod == 'a'" }))] })],
    allow: ["x/c > y/b 80/TCP", "outside > y/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "a tier that is no object comes last",
    objects: [
      global("g", { tier: "nowhere", selector: "pod == 'b'", ingress: [deny()] }),
      global("d", { selector: "pod == 'b'", ingress: [allow(from({ selector: "pod == 'a'" })), pass()] }),
    ],
    allow: [ALL],
    deny: ["x/c > y/b 80/TCP"],
  },
  {
    name: "Pass skips the rest of the tier, also other policies",
    objects: [
      tier("t", 10),
      global("a", { tier: "t", order: 1, selector: "pod == 'b'", ingress: [pass(from({ selector: "pod == 'a'" }))] }),
      global("b", { tier: "t", order: 2, selector: "pod == 'b'", ingress: [deny()] }),
    ],
    allow: [ALL],
    deny: ["x/c > y/b 80/TCP"],
  },
  {
    name: "after the last tier: the namespace's profile allows",
    objects: [tier("t", 10), global("a", { tier: "t", selector: "pod == 'b'", types: ["Ingress", "Egress"], ingress: [pass()], egress: [pass()] })],
    allow: [ALL, "y/b > outside 80/TCP"],
    deny: [],
  },
  {
    name: "a tier is skipped in a direction without policies",
    objects: [tier("t", 10), global("a", { tier: "t", selector: "pod == 'b'", types: ["Egress"], egress: [] })],
    allow: [ALL],
    deny: ["y/b > x/a 80/TCP"],
  },
  {
    name: "staged policies decide nothing",
    objects: [
      calicoObject("StagedGlobalNetworkPolicy", { selector: "all()" }, { name: "s" }),
      calicoObject("StagedNetworkPolicy", {}, { name: "s" }),
      calicoObject("StagedKubernetesNetworkPolicy", { podSelector: {} }, { name: "s" }),
    ],
    allow: [ALL, "outside > x/a 80/TCP"],
    deny: [],
  },
  {
    name: "namespaceSelector of a global policy",
    objects: [global("g", { namespaceSelector: "team == 'blue'" })],
    allow: ["x/a > z/b 80/TCP", "y/a > x/a 80/TCP"],
    deny: [ALL, "x/a > y/c 82/SCTP"],
  },
  { name: "namespaceSelector all() is every pod", objects: [global("g", { namespaceSelector: "all()" })], allow: [], deny: [ALL, "outside > z/c 80/TCP"] },
  {
    name: "namespaceSelector that only excludes",
    objects: [global("g", { namespaceSelector: "!has(team)" })],
    allow: [ALL, "y/a > x/a 80/TCP"],
    deny: ["x/a > z/b 80/TCP"],
  },
  { name: "namespaceSelector global() is no pod", objects: [global("g", { namespaceSelector: "global()" })], allow: [ALL], deny: [] },
  {
    name: "namespaceSelector by name",
    objects: [global("g", { namespaceSelector: "projectcalico.org/name == 'y'" })],
    allow: ["y/a > x/a 80/TCP"],
    deny: [ALL],
  },
  {
    name: "a peer selector in a namespaced policy stays in the namespace",
    objects: [local("x", "p", { ingress: [allow(from({ selector: "pod == 'a'" }))] })],
    allow: ["x/a > x/b 80/TCP"],
    deny: ["y/a > x/b 80/TCP", "x/c > x/b 80/TCP"],
  },
  {
    name: "a peer selector in a global policy means all namespaces",
    objects: [global("p", { ingress: [allow(from({ selector: "pod == 'a'" }))] })],
    allow: ["x/a > x/b 80/TCP", "y/a > x/b 80/TCP"],
    deny: ["x/c > x/b 80/TCP", "outside > x/b 80/TCP"],
  },
  {
    name: "a peer namespaceSelector replaces the limit",
    objects: [local("x", "p", { ingress: [allow(from({ namespaceSelector: "team == 'blue'", selector: "pod == 'a'" }))] })],
    allow: ["y/a > x/b 80/TCP"],
    deny: ["x/a > x/b 80/TCP", "y/b > x/b 80/TCP", "z/a > x/b 80/TCP"],
  },
  {
    name: "a peer namespaceSelector alone",
    objects: [local("x", "p", { ingress: [allow(from({ namespaceSelector: "has(team)" }))] })],
    allow: ["y/c > x/b 80/TCP", "x/a > x/b 80/UDP"],
    deny: ["z/a > x/b 80/TCP", "outside > x/b 80/TCP"],
  },
  {
    name: "a peer namespaceSelector all() is every pod and nothing outside",
    objects: [local("x", "p", { ingress: [allow(from({ namespaceSelector: "all()" }))] })],
    allow: ["z/a > x/b 80/TCP"],
    deny: ["outside > x/b 80/TCP"],
  },
  {
    name: "notSelector in a namespaced policy: of the namespace, but not these",
    objects: [local("x", "p", { ingress: [allow(from({ notSelector: "pod == 'a'" }))] })],
    allow: ["x/c > x/b 80/TCP"],
    deny: ["x/a > x/b 80/TCP", "y/c > x/b 80/TCP", "outside > x/b 80/TCP"],
  },
  {
    name: "notSelector in a global policy: anybody else, outside too",
    objects: [global("p", { namespaceSelector: "team == 'red'", ingress: [allow(from({ notSelector: "pod == 'a'" }))] })],
    allow: ["x/c > x/b 80/TCP", "y/c > x/b 80/TCP", "outside > x/b 80/TCP"],
    deny: ["x/a > x/b 80/TCP", "y/a > x/b 80/TCP"],
  },
  {
    name: "no selector and nets: any address in them",
    objects: [local("x", "p", { ingress: [allow(from({ nets: ["172.31.0.0/16", "10.65.2.0/31"] }))] })],
    allow: ["outside > x/b 80/TCP", "y/a > x/b 80/TCP"],
    deny: ["y/b > x/b 80/TCP", "x/a > x/b 80/TCP"],
  },
  {
    name: "nets and selector: both",
    objects: [global("p", { ingress: [allow(from({ nets: ["10.65.2.0/24"], selector: "pod == 'a'" }))] })],
    allow: ["y/a > x/b 80/TCP"],
    deny: ["x/a > x/b 80/TCP", "y/b > x/b 80/TCP"],
  },
  {
    name: "notNets",
    objects: [global("p", { selector: "pod == 'b'", ingress: [allow(from({ notNets: ["10.65.1.0/24"] }))] })],
    allow: ["y/a > x/b 80/TCP", "outside > x/b 80/TCP", "x/a > x/b 80/TCP v6"],
    deny: ["x/a > x/b 80/TCP"],
  },
  {
    name: "rule with an IPv4 prefix is of IPv4",
    objects: [global("p", { selector: "pod == 'b'", ingress: [allow(from({ nets: ["0.0.0.0/0"] }))] })],
    allow: [ALL],
    deny: ["x/a > y/b 80/TCP v6"],
  },
  {
    name: "ipVersion",
    objects: [global("p", { selector: "pod == 'b'", ingress: [allow({ ipVersion: 6 })] })],
    allow: ["x/a > y/b 80/TCP v6", "x/a > y/b ICMP v6"],
    deny: [ALL, "x/a > y/b ICMP"],
  },
  {
    name: "protocol by number",
    objects: [global("p", { selector: "pod == 'b'", ingress: [allow({ protocol: 17 })] })],
    allow: ["x/a > y/b 80/UDP"],
    deny: [ALL, "x/a > y/b ICMP"],
  },
  {
    name: "notProtocol",
    objects: [global("p", { selector: "pod == 'b'", ingress: [allow({ notProtocol: "TCP" })] })],
    allow: ["x/a > y/b 80/UDP", "x/a > y/b ICMP", "x/a > y/b 80/SCTP"],
    deny: [ALL],
  },
  {
    name: "protocol ICMP is of IPv4, ICMPv6 of IPv6",
    objects: [
      global("p", { selector: "pod == 'b'", ingress: [allow({ protocol: "ICMP" })] }),
      global("q", { selector: "pod == 'c'", ingress: [allow({ protocol: "ICMPv6" })] }),
    ],
    allow: ["x/a > y/b ICMP", "x/a > y/c ICMP v6"],
    deny: ["x/a > y/b ICMP v6", "x/a > y/c ICMP", ALL],
  },
  {
    name: "ports: numbers, ranges, text",
    objects: [global("p", { selector: "pod == 'b'", ingress: [allow({ protocol: "TCP", destination: { ports: [80, "82:90", "81"] } })] })],
    allow: [ALL, "x/a > y/b 81/TCP", "x/a > y/b 82/TCP"],
    deny: ["x/a > y/b 80/UDP", "x/a > y/b 91/TCP"],
  },
  {
    name: "notPorts",
    objects: [global("p", { selector: "pod == 'b'", ingress: [allow({ protocol: "TCP", destination: { notPorts: ["81:82"] } })] })],
    allow: [ALL],
    deny: ["x/a > y/b 81/TCP", "x/a > y/b 82/TCP", "x/a > y/b 80/UDP"],
  },
  {
    name: "named ports, each pod's own",
    objects: [global("p", { ingress: [allow({ protocol: "TCP", destination: { ports: ["web"] } })] })],
    allow: [ALL, "x/a > y/c 81/TCP"],
    deny: ["x/a > y/b 81/TCP", "x/a > y/c 80/TCP", "x/a > y/b 80/UDP"],
  },
  {
    name: "named ports without protocol: as the port declares",
    objects: [global("p", { ingress: [allow({ destination: { ports: ["web-udp"] } })] })],
    allow: ["x/a > y/b 80/UDP", "x/a > y/c 81/UDP"],
    deny: [ALL, "x/a > y/b 80/SCTP"],
  },
  {
    name: "named notPorts",
    objects: [global("p", { ingress: [allow({ protocol: "TCP", destination: { notPorts: ["web"] } })] })],
    allow: ["x/a > y/b 81/TCP", "x/a > y/c 80/TCP", "x/a > y/b 82/TCP"],
    deny: [ALL, "x/a > y/c 81/TCP", "x/a > y/b 81/UDP"],
  },
  {
    name: "named and numbered ports together",
    objects: [global("p", { ingress: [allow({ protocol: "TCP", destination: { ports: ["web", 82] } })] })],
    allow: [ALL, "x/a > y/b 82/TCP", "x/a > y/c 81/TCP"],
    deny: ["x/a > y/b 81/TCP"],
  },
  {
    name: "a global set as peer",
    objects: [
      globalSet("office", { role: "office" }, ["172.31.0.0/16", "172.0.0.0/8", "fd00:31::/64"]),
      global("p", { selector: "pod == 'b'", ingress: [allow(from({ selector: "role == 'office'" }))] }),
    ],
    allow: ["outside > y/b 80/TCP", "outside > y/b 80/TCP v6"],
    deny: [ALL],
  },
  {
    name: "a global set is not in any namespace",
    objects: [
      globalSet("office", { role: "office" }, ["172.31.0.0/16"]),
      local("y", "p", { ingress: [allow(from({ selector: "role == 'office'" }))] }),
      local("z", "p", { ingress: [allow(from({ selector: "role == 'office'", namespaceSelector: "global()" }))] }),
    ],
    allow: ["outside > z/b 80/TCP"],
    deny: ["outside > y/b 80/TCP", "x/a > z/b 80/TCP"],
  },
  {
    name: "a set of the namespace as peer",
    objects: [
      localSet("y", "s", { role: "partner" }, ["172.31.0.1/32"]),
      local("y", "p", { ingress: [allow(from({ selector: "role == 'partner'" }))] }),
      local("z", "p", { ingress: [allow(from({ selector: "role == 'partner'" }))] }),
    ],
    allow: ["outside > y/b 80/TCP"],
    deny: ["outside > z/b 80/TCP", ALL],
  },
  {
    name: "a set has its namespace's labels",
    objects: [
      localSet("y", "s", { role: "partner" }, ["172.31.0.1/32"]),
      global("p", { selector: "pod == 'b'", ingress: [allow(from({ namespaceSelector: "team == 'blue'", selector: "role == 'partner'" }))] }),
    ],
    allow: ["outside > y/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "a set and pods under one selector",
    objects: [globalSet("s", { pod: "a" }, ["172.31.0.0/24"]), global("p", { selector: "pod == 'b'", ingress: [allow(from({ selector: "pod == 'a'" }))] })],
    allow: [ALL, "outside > y/b 80/TCP"],
    deny: ["x/c > y/b 80/TCP", "outside > y/b 80/TCP v6"],
  },
  {
    name: "Kubernetes policies never mean sets",
    objects: [
      localSet("y", "s", { pod: "a" }, ["172.31.0.0/24"]),
      kubernetes("y", "k", { podSelector: {}, ingress: [{ from: [{ podSelector: { matchLabels: { pod: "a" } } }] }] }),
    ],
    allow: ["y/a > y/b 80/TCP"],
    deny: ["outside > y/b 80/TCP", ALL],
  },
  {
    name: "notSelector with a set",
    objects: [
      globalSet("bad", { role: "bad" }, ["172.31.0.0/24"]),
      global("p", { selector: "pod == 'b'", ingress: [allow(from({ notSelector: "role == 'bad'" }))] }),
    ],
    allow: [ALL, "outside > y/b 80/TCP v6"],
    deny: ["outside > y/b 80/TCP"],
  },
  {
    name: "a set in egress",
    objects: [
      globalSet("bad", { role: "bad" }, ["172.31.0.0/24"]),
      global("p", { selector: "pod == 'a'", egress: [deny(to({ selector: "role == 'bad'" })), allow()] }),
    ],
    allow: [ALL, "x/a > outside 80/TCP v6"],
    deny: ["x/a > outside 80/TCP"],
  },
  {
    name: "Services as egress peers: ready endpoints, their port",
    objects: [
      slice("y", "web", ["10.65.2.2", "10.65.2.1"], 80),
      global("p", { selector: "pod == 'a'", types: ["Egress"], egress: [allow(to({ services: { name: "web", namespace: "y" } }))] }),
    ],
    allow: [ALL],
    deny: ["x/a > y/b 81/TCP", "x/a > y/a 80/TCP", "x/a > y/b 80/UDP", "x/a > outside 80/TCP"],
  },
  {
    name: "Services as ingress peers: addresses",
    objects: [
      slice("x", "web", ["10.65.1.1", "10.65.1.2"], 80),
      local("x", "p", { selector: "pod == 'c'", ingress: [allow(from({ services: { name: "web" } }))] }),
    ],
    allow: ["x/a > x/c 80/TCP", "x/a > x/c 81/UDP"],
    deny: ["x/b > x/c 80/TCP", "outside > x/c 80/TCP"],
  },
  {
    name: "service accounts by name (all pods run under default)",
    objects: [
      local("x", "p", { ingress: [allow(from({ serviceAccounts: { names: ["default"] } }))] }),
      local("y", "p", { ingress: [allow(from({ serviceAccounts: { names: ["other"] } }))] }),
    ],
    allow: ["x/a > x/b 80/TCP"],
    deny: ["y/a > x/b 80/TCP", "y/a > y/b 80/TCP", "outside > x/b 80/TCP"],
  },
  {
    name: "service accounts by label",
    objects: [
      account("x", "default", { level: "high" }),
      account("y", "default", { level: "low" }),
      global("p", { selector: "pod == 'b'", ingress: [allow(from({ serviceAccounts: { selector: "level == 'high'" } }))] }),
    ],
    allow: [ALL],
    deny: ["y/a > y/b 80/TCP", "z/a > y/b 80/TCP"],
  },
  {
    name: "serviceAccountSelector of a policy",
    objects: [account("y", "default", { level: "low" }), global("p", { serviceAccountSelector: "level == 'low'" })],
    allow: ["x/a > z/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "serviceAccountSelector that only excludes needs a known account",
    objects: [account("y", "default", { level: "low" }), global("p", { serviceAccountSelector: "level != 'high'" })],
    allow: ["x/a > z/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "http without a proxy allows nothing",
    objects: [global("p", { selector: "pod == 'b'", ingress: [allow({ protocol: "TCP", http: { methods: ["GET"] } })] })],
    allow: ["x/a > y/c 80/TCP"],
    deny: [ALL],
  },
  {
    name: "doNotTrack and preDNAT policies are not for pods",
    objects: [
      global("p", { applyOnForward: true, doNotTrack: true, selector: "all()", ingress: [deny()] }),
      global("q", { applyOnForward: true, preDNAT: true, selector: "all()", ingress: [deny()] }),
    ],
    allow: [ALL],
    deny: [],
  },
  {
    name: "applyOnForward policies are for pods as well",
    objects: [global("p", { applyOnForward: true, selector: "pod == 'b'", ingress: [deny()] })],
    allow: ["x/a > y/c 80/TCP"],
    deny: [ALL],
  },
  {
    name: "both ends decide",
    objects: [
      global("out", { selector: "pod == 'a'", egress: [allow({ protocol: "TCP" })] }),
      global("in", { selector: "pod == 'b'", ingress: [allow({ protocol: "TCP", destination: { ports: [80] } })] }),
    ],
    allow: [ALL],
    deny: ["x/a > y/b 81/TCP", "x/a > y/b 80/UDP", "x/a > y/c 80/UDP"],
  },
];

/** The same for ClusterNetworkPolicy. */
const ANY_NAMESPACE = { namespaces: {} };
const pods = (namespaceLabels: Spec, podLabels: Spec): Spec => ({
  pods: { namespaceSelector: { matchLabels: namespaceLabels }, podSelector: { matchLabels: podLabels } },
});
const B = { pods: { namespaceSelector: {}, podSelector: { matchLabels: { pod: "b" } } } };
const A = { pods: { namespaceSelector: {}, podSelector: { matchLabels: { pod: "a" } } } };
const rule = (action: string, peer: readonly unknown[], side: "from" | "to", protocols?: readonly unknown[]): Spec => ({
  action,
  [side]: peer,
  ...(protocols === undefined ? {} : { protocols }),
});
const tcp = (number: number): Spec => ({ tcp: { destinationPort: { number } } });

export const CLUSTER_POLICY_CASES: readonly ObjectCase[] = [
  {
    name: "an Admin policy without rules does nothing",
    objects: [cluster("p", { tier: "Admin", subject: ANY_NAMESPACE })],
    allow: [ALL, "outside > x/a 80/TCP"],
    deny: [],
  },
  ...(["Admin", "Baseline"] as const).flatMap((level): ObjectCase[] => [
    {
      name: `${level}: Deny from a namespace`,
      objects: [cluster("p", { tier: level, subject: B, ingress: [rule("Deny", [{ namespaces: { matchLabels: { team: "red" } } }], "from")] })],
      allow: ["z/a > y/b 80/TCP", "outside > y/b 80/TCP", "x/a > y/a 80/TCP"],
      deny: [ALL, "x/c > z/b ICMP"],
    },
    {
      name: `${level}: not isolating`,
      objects: [cluster("p", { tier: level, subject: B, ingress: [rule("Accept", [A], "from", [tcp(80)])] })],
      allow: [ALL, "x/c > y/b 81/UDP"],
      deny: [],
    },
    {
      name: `${level}: Accept before Deny`,
      objects: [cluster("p", { tier: level, subject: B, ingress: [rule("Accept", [A], "from", [tcp(80)]), rule("Deny", [ANY_NAMESPACE], "from")] })],
      allow: [ALL, "outside > y/b 80/TCP"],
      deny: ["x/a > y/b 81/TCP", "x/c > y/b 80/TCP"],
    },
    {
      name: `${level}: Deny before Accept`,
      objects: [cluster("p", { tier: level, subject: B, ingress: [rule("Deny", [ANY_NAMESPACE], "from"), rule("Accept", [A], "from")] })],
      allow: [],
      deny: [ALL],
    },
    {
      name: `${level}: Pass before Deny`,
      objects: [cluster("p", { tier: level, subject: B, ingress: [rule("Pass", [A], "from"), rule("Deny", [ANY_NAMESPACE], "from")] })],
      allow: [ALL],
      deny: ["x/c > y/b 80/TCP"],
    },
    {
      name: `${level}: pods by namespace and pod labels`,
      objects: [cluster("p", { tier: level, subject: B, ingress: [rule("Deny", [pods({ team: "red" }, { pod: "a" })], "from")] })],
      allow: ["x/c > y/b 80/TCP", "z/a > y/b 80/TCP"],
      deny: [ALL],
    },
    {
      name: `${level}: subject by namespace`,
      objects: [cluster("p", { tier: level, subject: { namespaces: { matchLabels: { team: "blue" } } }, ingress: [rule("Deny", [ANY_NAMESPACE], "from")] })],
      allow: ["x/a > z/b 80/TCP"],
      deny: [ALL, "x/a > y/a 80/TCP"],
    },
    {
      name: `${level}: subject by exclusion`,
      objects: [
        cluster("p", {
          tier: level,
          subject: { namespaces: { matchExpressions: [{ key: "team", operator: "DoesNotExist" }] } },
          ingress: [rule("Deny", [ANY_NAMESPACE], "from")],
        }),
      ],
      allow: [ALL],
      deny: ["x/a > z/b 80/TCP"],
    },
    {
      name: `${level}: egress to networks`,
      objects: [cluster("p", { tier: level, subject: A, egress: [rule("Deny", [{ networks: ["172.31.0.0/16", "10.65.2.2/32"] }], "to")] })],
      allow: ["x/a > y/c 80/TCP", "x/a > y/b 80/TCP v6"],
      deny: [ALL, "x/a > outside 80/TCP"],
    },
    {
      name: `${level}: egress to all of IPv4, pods too`,
      objects: [cluster("p", { tier: level, subject: A, egress: [rule("Pass", [ANY_NAMESPACE], "to"), rule("Deny", [{ networks: ["0.0.0.0/0"] }], "to")] })],
      allow: [ALL, "x/a > outside 80/TCP v6"],
      deny: ["x/a > outside 80/TCP"],
    },
    {
      name: `${level}: ports and ranges`,
      objects: [
        cluster("p", {
          tier: level,
          subject: B,
          ingress: [rule("Deny", [ANY_NAMESPACE], "from", [tcp(80), { udp: { destinationPort: { range: { start: 80, end: 81 } } } }])],
        }),
      ],
      allow: ["x/a > y/b 81/TCP", "x/a > y/b 82/UDP", "x/a > y/b 80/SCTP", "x/a > y/b ICMP"],
      deny: [ALL, "x/a > y/b 81/UDP"],
    },
    {
      name: `${level}: a protocol without port is all of it`,
      objects: [cluster("p", { tier: level, subject: B, ingress: [rule("Deny", [ANY_NAMESPACE], "from", [{ sctp: {} }])] })],
      allow: [ALL],
      deny: ["x/a > y/b 80/SCTP", "x/a > y/b 82/SCTP v6"],
    },
    {
      name: `${level}: named ports in ingress`,
      objects: [cluster("p", { tier: level, subject: ANY_NAMESPACE, ingress: [rule("Deny", [ANY_NAMESPACE], "from", [{ destinationNamedPort: "web" }])] })],
      allow: ["x/a > y/b 81/TCP", "x/a > y/c 80/TCP", "x/a > y/b 80/UDP"],
      deny: [ALL, "x/a > y/c 81/TCP"],
    },
    {
      name: `${level}: named ports in egress`,
      objects: [cluster("p", { tier: level, subject: A, egress: [rule("Deny", [B], "to", [{ destinationNamedPort: "web-udp" }])] })],
      allow: [ALL, "x/a > y/c 81/UDP"],
      deny: ["x/a > y/b 80/UDP"],
    },
    {
      name: `${level}: priority decides`,
      objects: [
        cluster("late", { tier: level, priority: 20, subject: B, ingress: [rule("Deny", [ANY_NAMESPACE], "from")] }),
        cluster("early", { tier: level, priority: 1, subject: B, ingress: [rule("Accept", [A], "from")] }),
      ],
      allow: [ALL],
      deny: ["x/c > y/b 80/TCP"],
    },
    {
      name: `${level}: Pass skips later priorities`,
      objects: [
        cluster("early", { tier: level, priority: 1, subject: B, ingress: [rule("Pass", [A], "from")] }),
        cluster("late", { tier: level, priority: 20, subject: B, ingress: [rule("Deny", [ANY_NAMESPACE], "from")] }),
      ],
      allow: [ALL],
      deny: ["x/c > y/b 80/TCP"],
    },
    {
      name: `${level}: domainNames accept nothing, and take nothing away`,
      objects: [
        cluster("p", {
          tier: level,
          subject: A,
          egress: [rule("Accept", [{ domainNames: ["example.com"] }], "to"), rule("Deny", [{ networks: ["0.0.0.0/0"] }], "to")],
        }),
      ],
      allow: ["x/a > y/b 80/TCP v6"],
      deny: [ALL],
    },
  ]),
  {
    name: "Admin Deny wins over a NetworkPolicy that allows",
    objects: [cluster("p", { tier: "Admin", subject: B, ingress: [rule("Deny", [A], "from")] }), kubernetes("y", "k", { podSelector: {}, ingress: [{}] })],
    allow: ["x/c > y/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "Admin Accept wins over a NetworkPolicy that isolates",
    objects: [
      cluster("p", { tier: "Admin", subject: B, ingress: [rule("Accept", [A], "from")] }),
      kubernetes("y", "k", { podSelector: {}, policyTypes: ["Ingress"] }),
    ],
    allow: [ALL],
    deny: ["x/c > y/b 80/TCP"],
  },
  {
    name: "Admin Pass leaves it to the NetworkPolicy",
    objects: [
      cluster("p", { tier: "Admin", subject: B, ingress: [rule("Pass", [A], "from"), rule("Deny", [ANY_NAMESPACE], "from")] }),
      kubernetes("y", "k", { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] }),
    ],
    allow: [ALL],
    deny: ["x/a > y/b 81/TCP", "x/c > y/b 80/TCP"],
  },
  {
    name: "a NetworkPolicy that allows wins over Baseline Deny",
    objects: [
      cluster("p", { tier: "Baseline", subject: B, ingress: [rule("Deny", [ANY_NAMESPACE], "from")] }),
      kubernetes("y", "k", { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] }),
    ],
    allow: [ALL],
    deny: ["x/a > y/b 81/TCP", "x/a > z/b 80/TCP"],
  },
  {
    name: "a NetworkPolicy that isolates wins over Baseline Accept",
    objects: [
      cluster("p", { tier: "Baseline", subject: B, ingress: [rule("Accept", [ANY_NAMESPACE], "from")] }),
      kubernetes("y", "k", { podSelector: {}, policyTypes: ["Ingress"] }),
    ],
    allow: ["x/a > z/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "Admin Accept wins over Baseline Deny",
    objects: [
      cluster("a", { tier: "Admin", subject: B, ingress: [rule("Accept", [A], "from")] }),
      cluster("b", { tier: "Baseline", subject: B, ingress: [rule("Deny", [ANY_NAMESPACE], "from")] }),
    ],
    allow: [ALL],
    deny: ["x/c > y/b 80/TCP"],
  },
  {
    name: "Admin is before Calico's tiers above 1000 and after those below",
    objects: [
      tier("first", 10),
      tier("second", 2000),
      global("g", { tier: "first", selector: "pod == 'b'", ingress: [allow({ protocol: "UDP" }), pass()] }),
      cluster("p", { tier: "Admin", subject: B, ingress: [rule("Deny", [A], "from")] }),
      global("h", { tier: "second", selector: "pod == 'b'", ingress: [allow()] }),
    ],
    allow: ["x/a > y/b 80/UDP", "x/c > y/b 80/TCP"],
    deny: [ALL],
  },
  {
    name: "peers never mean network sets",
    objects: [localSet("y", "s", { pod: "a" }, ["172.31.0.1/32"]), cluster("p", { tier: "Admin", subject: B, ingress: [rule("Deny", [A], "from")] })],
    allow: ["outside > y/b 80/TCP"],
    deny: [ALL],
  },
];
