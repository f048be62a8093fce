/**
 * Corners of Calico's kinds that tables of published cases leave out, on the cases' world. Verdicts are written down by hand.
 * Above 500 lines, because it is one table, of which each row stands for itself.
 */
import type { ObjectCase } from "./calico.ts";
import { calicoObject } from "./calico-validation.ts";

type Spec = Readonly<Record<string, unknown>>;

const global = (name: string, spec: Spec): unknown => calicoObject("GlobalNetworkPolicy", spec, { name });
const namespaced = (apiVersion: string, kind: string, namespace: string, name: string, spec: Spec, labels: Spec = {}): unknown => ({
  apiVersion,
  kind,
  metadata: { namespace, name, labels },
  spec,
});
const local = (namespace: string, name: string, spec: Spec): unknown => namespaced("projectcalico.org/v3", "NetworkPolicy", namespace, name, spec);
const kubernetes = (namespace: string, name: string, spec: Spec): unknown => namespaced("networking.k8s.io/v1", "NetworkPolicy", namespace, name, spec);
const tier = (name: string, order: number, defaultAction?: string): unknown =>
  calicoObject("Tier", { order, ...(defaultAction === undefined ? {} : { defaultAction }) }, { name });
const globalSet = (name: string, labels: Spec, nets: readonly string[]): unknown => ({
  apiVersion: "projectcalico.org/v3",
  kind: "GlobalNetworkSet",
  metadata: { name, labels },
  spec: { nets },
});
const localSet = (namespace: string, name: string, labels: Spec, nets: readonly string[]): unknown =>
  namespaced("projectcalico.org/v3", "NetworkSet", namespace, name, { nets }, labels);
const cluster = (name: string, spec: Spec): unknown => calicoObject("ClusterNetworkPolicy", { priority: 10, ...spec }, { name });
const account = (namespace: string, name: string, labels: Spec): unknown => ({
  apiVersion: "v1",
  kind: "ServiceAccount",
  metadata: { namespace, name, labels },
});

const allow = (rule: Spec = {}): Spec => ({ action: "Allow", ...rule });
const deny = (rule: Spec = {}): Spec => ({ action: "Deny", ...rule });
const pass = (rule: Spec = {}): Spec => ({ action: "Pass", ...rule });
const from = (source: Spec): Spec => ({ source });
const to = (destination: Spec): Spec => ({ destination });
const B = "pod == 'b'";
const A_TO_B = "x/a > y/b 80/TCP";
const PING = "x/a > y/b ICMP";
const PING6 = "x/a > y/b ICMP v6";

const TIERS_AND_ORDERS: readonly ObjectCase[] = [
  {
    name: "Pass in tier default skips the namespace's NetworkPolicies, which are in it",
    objects: [global("g", { order: 1, selector: B, ingress: [pass(from({ selector: "pod == 'a'" }))] }), kubernetes("y", "k", { podSelector: {} })],
    allow: [A_TO_B, "z/a > y/b 80/UDP v6"],
    deny: ["x/c > y/b 80/TCP", "x/a > y/c 80/TCP"],
  },
  {
    name: "Pass in tier default is judged by Baseline",
    objects: [
      global("g", { selector: B, ingress: [pass()] }),
      cluster("c", { tier: "Baseline", subject: { namespaces: {} }, ingress: [{ action: "Deny", from: [{ namespaces: { matchLabels: { team: "red" } } }] }] }),
    ],
    allow: ["z/a > y/b 80/TCP", "outside > y/b 80/TCP"],
    deny: [A_TO_B, "x/a > z/a 80/TCP"],
  },
  {
    name: "every tier passes, by rule and by default: the profile allows",
    objects: [
      tier("t", 1, "Pass"),
      tier("u", 2),
      global("a", { tier: "t", selector: B, ingress: [deny(from({ selector: "pod == 'c'" }))] }),
      global("b", { tier: "u", selector: B, ingress: [pass()] }),
      global("c", { selector: B, ingress: [pass()] }),
    ],
    allow: [A_TO_B, "outside > y/b 80/UDP"],
    deny: ["x/c > y/b 80/TCP"],
  },
  {
    name: "a tier whose policies select others is no tier for this pod",
    objects: [tier("t", 1), global("a", { tier: "t", selector: "pod == 'c'", ingress: [] }), global("b", { selector: B, ingress: [allow()] })],
    allow: [A_TO_B, "x/a > y/a 80/TCP"],
    deny: ["x/a > y/c 80/TCP"],
  },
  {
    name: "a tier of staged policies alone denies nothing",
    objects: [tier("t", 1), calicoObject("StagedGlobalNetworkPolicy", { tier: "t", selector: "all()" }, { name: "s" })],
    allow: [A_TO_B, "outside > y/b 80/TCP"],
    deny: [],
  },
  {
    name: "tiers of one order go by name",
    objects: [
      tier("zz", 5),
      tier("aa", 5),
      global("p", { tier: "zz", selector: B, ingress: [allow()] }),
      global("q", { tier: "aa", selector: B, ingress: [deny(from({ selector: "pod == 'a'" })), pass()] }),
    ],
    allow: ["x/c > y/b 80/TCP"],
    deny: [A_TO_B],
  },
  {
    name: "orders below zero, zero, fractions, none",
    objects: [
      global("none", { selector: B, ingress: [allow()] }),
      global("zero", { order: 0, selector: B, ingress: [deny({ protocol: "TCP" })] }),
      global("half", { order: 0.5, selector: B, ingress: [deny({ protocol: "UDP", ...to({ ports: [80] }) })] }),
      global("minus", { order: -1.5, selector: B, ingress: [allow({ protocol: "TCP", ...to({ ports: [80] }) })] }),
      global("late", { order: 0.75, selector: B, ingress: [allow({ protocol: "UDP" })] }),
    ],
    allow: [A_TO_B, "x/a > y/b 81/UDP", PING],
    deny: ["x/a > y/b 81/TCP", "x/a > y/b 80/UDP"],
  },
  {
    name: "one name and one order in two kinds: the global one first",
    objects: [
      local("y", "same", { order: 5, selector: B, ingress: [allow()] }),
      global("same", { order: 5, selector: B, ingress: [deny(from({ selector: "pod == 'a'" }))] }),
    ],
    allow: ["x/c > y/b 80/TCP"],
    deny: [A_TO_B],
  },
  {
    name: "a policy of two namespaces with one name",
    objects: [local("x", "same", { ingress: [] }), local("y", "same", { ingress: [allow()] })],
    allow: [A_TO_B],
    deny: ["y/a > x/b 80/TCP"],
  },
  {
    name: "a Calico policy beside ClusterNetworkPolicies in tier kube-admin, by order",
    objects: [
      global("g", { tier: "kube-admin", order: 5, selector: B, ingress: [allow({ protocol: "TCP", ...to({ ports: [80] }) })] }),
      cluster("c", {
        tier: "Admin",
        priority: 6,
        subject: { namespaces: {} },
        ingress: [{ action: "Deny", from: [{ namespaces: { matchLabels: { team: "red" } } }] }],
      }),
      global("h", { tier: "kube-admin", order: 7, selector: B, ingress: [deny({ protocol: "UDP" })] }),
    ],
    allow: [A_TO_B, "z/a > y/b 81/TCP"],
    deny: ["x/a > y/b 81/TCP", "z/a > y/b 80/UDP", "x/a > z/a 80/TCP"],
  },
];

const TYPES: readonly ObjectCase[] = [
  {
    name: "types Egress with ingress rules: those do nothing",
    objects: [global("p", { selector: B, types: ["Egress"], ingress: [deny()], egress: [allow(to({ selector: "pod == 'a'" }))] })],
    allow: [A_TO_B, "y/b > x/a 80/TCP"],
    deny: ["y/b > x/c 80/TCP"],
  },
  {
    name: "types Ingress and Egress without rules: closed",
    objects: [global("p", { selector: B, types: ["Ingress", "Egress"] })],
    allow: ["x/a > y/a 80/TCP"],
    deny: [A_TO_B, "y/b > x/a 80/UDP", "y/b > outside ICMP v6", PING6],
  },
  {
    name: "empty lists of rules, types left out: ingress is closed",
    objects: [global("p", { selector: B, ingress: [], egress: [] })],
    allow: ["y/b > x/a 80/TCP"],
    deny: [A_TO_B],
  },
  {
    name: "Log alone decides nothing, and isolates",
    objects: [global("p", { selector: B, ingress: [{ action: "Log" }] })],
    allow: ["x/a > y/a 80/TCP"],
    deny: [A_TO_B, PING],
  },
];

const PEERS: readonly ObjectCase[] = [
  {
    name: "empty lists state nothing",
    objects: [
      local("x", "p", {
        ingress: [allow({ source: { nets: [], notNets: [], ports: [], notPorts: [], selector: "", notSelector: "", namespaceSelector: "" } })],
      }),
    ],
    allow: ["y/a > x/b 80/TCP", "outside > x/b ICMP v6"],
    deny: [],
  },
  {
    name: "an empty serviceAccounts states nothing",
    objects: [
      global("p", { selector: B, ingress: [deny({ protocol: "TCP", ...from({ serviceAccounts: {} }) }), allow()] }),
      local("x", "q", { selector: "pod == 'c'", ingress: [allow(from({ serviceAccounts: { names: [] } }))] }),
    ],
    allow: ["outside > y/b 80/UDP", "outside > x/c 80/TCP", "y/a > x/c 80/TCP"],
    deny: ["outside > y/b 80/TCP", A_TO_B],
  },
  {
    name: "names and labels of service accounts: both",
    objects: [
      account("x", "default", { level: "high" }),
      account("y", "default", { level: "low" }),
      global("p", { selector: B, ingress: [allow(from({ serviceAccounts: { names: ["default", "other"], selector: "level == 'high'" } }))] }),
      global("q", { selector: "pod == 'c'", ingress: [allow(from({ serviceAccounts: { names: ["other"], selector: "level == 'high'" } }))] }),
    ],
    allow: [A_TO_B, "x/c > z/b 80/UDP"],
    deny: ["y/a > y/b 80/TCP", "z/a > y/b 80/TCP", "x/a > y/c 80/TCP"],
  },
  {
    name: "service accounts and a selector, in a policy of a namespace: of that namespace",
    objects: [local("x", "p", { ingress: [allow(from({ serviceAccounts: { names: ["default"] }, selector: "pod == 'a'" }))] })],
    allow: ["x/a > x/b 80/TCP"],
    deny: ["y/a > x/b 80/TCP", "x/c > x/b 80/TCP"],
  },
  {
    name: "service accounts of other namespaces by namespaceSelector",
    objects: [local("x", "p", { ingress: [allow(from({ serviceAccounts: { names: ["default"] }, namespaceSelector: "team == 'blue'" }))] })],
    allow: ["y/a > x/b 80/TCP"],
    deny: ["x/a > x/b 80/TCP", "z/a > x/b 80/TCP"],
  },
  {
    name: "selector and notSelector: the one without the other",
    objects: [global("p", { selector: B, ingress: [allow(from({ selector: "has(tier)", notSelector: "tier == 'back'" }))] })],
    allow: [A_TO_B],
    deny: ["x/b > y/b 80/TCP", "x/c > y/b 80/TCP", "outside > y/b 80/TCP"],
  },
  {
    name: "notSelector that selects nothing, and one that selects everything",
    objects: [
      global("p", { selector: B, ingress: [allow(from({ notSelector: "pod == 'nobody'" }))] }),
      global("q", { selector: "pod == 'c'", ingress: [allow(from({ notSelector: "all()" }))] }),
    ],
    allow: [A_TO_B, "outside > y/b 80/TCP v6", "outside > z/c 80/TCP"],
    deny: ["x/a > y/c 80/TCP", "y/a > y/c 80/UDP v6"],
  },
  {
    name: "notSelector is not limited to the namespace",
    objects: [local("x", "p", { ingress: [allow(from({ namespaceSelector: "all()", notSelector: "pod == 'a'" }))] })],
    allow: ["y/c > x/b 80/TCP", "x/c > x/b 80/TCP"],
    deny: ["y/a > x/b 80/TCP", "x/a > x/b 80/TCP", "outside > x/b 80/TCP"],
  },
  {
    name: "namespaceSelector global() with a selector: sets that are in no namespace",
    objects: [
      globalSet("g", { role: "office" }, ["172.31.0.0/16"]),
      localSet("y", "s", { role: "office" }, ["10.65.3.0/24"]),
      local("y", "p", { selector: B, ingress: [allow(from({ namespaceSelector: "global()", selector: "role == 'office'" }))] }),
    ],
    allow: ["outside > y/b 80/TCP"],
    deny: ["z/a > y/b 80/TCP", A_TO_B, "outside > y/b 80/TCP v6"],
  },
  {
    name: "a label of a namespace is not one of its pods, nor the other way round",
    objects: [global("p", { selector: B, ingress: [allow(from({ selector: "team == 'red'" })), allow(from({ namespaceSelector: "pod == 'a'" }))] })],
    allow: [],
    deny: [A_TO_B, "x/b > y/b 80/TCP"],
  },
  {
    name: "a namespace by the label that its pods inherit",
    objects: [global("p", { selector: B, ingress: [allow(from({ selector: "pcns.team == 'red' && pod == 'a'" }))] })],
    allow: [A_TO_B],
    deny: ["z/a > y/b 80/TCP", "x/c > y/b 80/TCP"],
  },
  {
    name: "a set's author cannot pass for another namespace",
    objects: [
      localSet("z", "s", { "pcns.team": "red", "projectcalico.org/namespace": "x", role: "partner" }, ["172.31.0.0/16"]),
      global("p", { selector: B, ingress: [allow(from({ namespaceSelector: "team == 'red'" }))] }),
      global("q", { selector: "pod == 'c'", ingress: [allow(from({ selector: "projectcalico.org/namespace == 'x'" }))] }),
    ],
    allow: [A_TO_B, "x/a > y/c 80/TCP"],
    deny: ["outside > y/b 80/TCP", "outside > y/c 80/TCP"],
  },
  {
    name: "letters beyond ASCII, blanks and quotes in values are values like others",
    objects: [
      global("p", { selector: B, ingress: [allow(from({ selector: "pod != 'straße'" })), deny()] }),
      global("q", { selector: 'pod == "c"', ingress: [allow(from({ selector: "pod in {'日本', \"it's\", 'a'}" }))] }),
    ],
    allow: [A_TO_B, "x/a > y/c 80/TCP"],
    deny: ["x/b > y/c 80/TCP", "outside > y/b 80/TCP"],
  },
  {
    name: "a name that no other has: a hundred letters and dots",
    objects: [
      global(`${"a.long-name".repeat(22)}.end`, { order: 1, selector: B, ingress: [deny(from({ selector: "pod == 'c'" }))] }),
      global(`${"a.long-name".repeat(22)}.fin`, { order: 2, selector: B, ingress: [allow()] }),
    ],
    allow: [A_TO_B],
    deny: ["x/c > y/b 80/TCP"],
  },
];

const SETS: readonly ObjectCase[] = [
  {
    name: "a set of everything, of both families",
    objects: [globalSet("all", { role: "all" }, ["0.0.0.0/0", "::/0"]), global("p", { selector: B, ingress: [allow(from({ selector: "role == 'all'" }))] })],
    allow: [A_TO_B, "outside > y/b 80/UDP v6", PING6],
    deny: [],
  },
  {
    name: "not a set of everything of one family",
    objects: [globalSet("all", { role: "all" }, ["0.0.0.0/0"]), global("p", { selector: B, ingress: [allow(from({ notSelector: "role == 'all'" }))] })],
    allow: ["x/a > y/b 80/TCP v6", "outside > y/b 80/TCP v6"],
    deny: [A_TO_B, PING],
  },
  {
    name: "nested, touching and repeated prefixes, and one address of them alone",
    objects: [
      globalSet("s", { role: "s" }, ["10.65.1.0/24", "10.65.1.0/31", "10.65.1.1/32", "10.65.2.0/31", "10.65.2.2/31", "fd00:65::2:2/128", "fd00:65::2:0/112"]),
      globalSet("t", { role: "s" }, ["10.65.1.0/24", "172.31.0.1"]),
      global("p", { selector: "pod == 'c'", ingress: [allow(from({ selector: "role == 's'" }))] }),
    ],
    allow: ["x/a > y/c 80/TCP", "x/c > z/c 80/TCP", "y/a > x/c 80/TCP", "y/b > x/c 80/TCP v6", "outside > y/c 80/UDP"],
    deny: ["z/a > y/c 80/TCP", "x/a > y/c 80/TCP v6", "outside > y/c 80/UDP v6"],
  },
  {
    name: "an empty set is nobody",
    objects: [
      globalSet("s", { role: "s" }, []),
      global("p", { selector: B, ingress: [allow(from({ selector: "role == 's'" }))] }),
      global("q", { selector: "pod == 'c'", ingress: [deny(from({ selector: "role == 's'" })), allow()] }),
    ],
    allow: ["x/a > y/c 80/TCP"],
    deny: [A_TO_B, "outside > y/b 80/TCP"],
  },
  {
    name: "nets, notNets, selector and notSelector of one rule: all hold",
    objects: [
      global("p", {
        selector: "pod == 'c'",
        ingress: [allow(from({ nets: ["10.65.0.0/16"], notNets: ["10.65.2.0/24"], selector: "has(tier)", notSelector: "projectcalico.org/namespace == 'z'" }))],
      }),
    ],
    allow: ["x/a > y/c 80/TCP", "x/b > y/c 80/TCP"],
    deny: ["y/a > x/c 80/TCP", "z/a > y/c 80/TCP", "x/c > y/c 80/TCP", "x/a > y/c 80/TCP v6", "outside > y/c 80/TCP"],
  },
  {
    name: "IPv4-mapped prefixes are of IPv6",
    objects: [global("p", { selector: B, ingress: [allow(from({ nets: ["::ffff:10.65.0.0/112"] }))] })],
    allow: ["x/a > y/a 80/TCP"],
    deny: [A_TO_B, "x/a > y/b 80/TCP v6"],
  },
  {
    name: "source and destination of one rule",
    objects: [
      global("p", {
        selector: "has(pod)",
        ingress: [deny({ source: { selector: "pod == 'a'" }, destination: { nets: ["10.65.2.2/32"] } }), allow()],
        egress: [deny({ source: { nets: ["10.65.1.3/32"] }, destination: { selector: "pod == 'c'" } }), allow()],
      }),
    ],
    allow: ["x/a > y/a 80/TCP", "x/c > y/b 80/TCP", "x/c > y/c 80/TCP v6", "y/c > x/c 80/TCP"],
    deny: [A_TO_B, "x/c > y/c 80/TCP", "x/c > z/c ICMP"],
  },
];

const PORTS: readonly ObjectCase[] = [
  {
    name: "a named port of another protocol does not match",
    objects: [
      global("p", {
        selector: B,
        ingress: [allow({ protocol: "TCP", ...to({ ports: ["web-udp", "web-sctp"] }) }), allow({ protocol: "UDP", ...to({ ports: ["web"] }) })],
      }),
    ],
    allow: [],
    deny: [A_TO_B, "x/a > y/b 80/UDP", "x/a > y/b 80/SCTP"],
  },
  {
    name: "a named port without protocol: of the protocol that the pod says",
    objects: [global("p", { selector: "has(pod)", ingress: [allow(to({ ports: ["web", "web-sctp"] }))] })],
    allow: [A_TO_B, "x/a > y/c 81/TCP", "x/a > y/b 80/SCTP", "x/a > y/c 81/SCTP v6"],
    deny: ["x/a > y/b 80/UDP", "x/a > y/b 81/TCP", "x/a > y/c 80/TCP", PING],
  },
  {
    name: "not a named port: other pods have it elsewhere",
    objects: [global("p", { selector: "has(pod)", ingress: [allow({ protocol: "TCP", ...to({ notPorts: ["web"] }) })] })],
    allow: ["x/a > y/b 81/TCP", "x/a > y/c 80/TCP", "x/a > y/c 82/TCP v6"],
    deny: [A_TO_B, "x/a > y/c 81/TCP", "x/a > y/b 81/UDP"],
  },
  {
    name: "ports and notPorts, names and numbers",
    objects: [global("p", { selector: "has(pod)", ingress: [allow({ protocol: "TCP", ...to({ ports: ["80:82", "nobody"], notPorts: ["web", 82] }) })] })],
    allow: ["x/a > y/b 81/TCP", "x/a > y/c 80/TCP"],
    deny: [A_TO_B, "x/a > y/c 81/TCP", "x/a > y/b 82/TCP"],
  },
  {
    name: "a named port under a selector: of those pods alone",
    objects: [global("p", { selector: "pod == 'x' || pod == 'a'", egress: [allow({ protocol: "TCP", ...to({ selector: B, ports: ["web"] }) })] })],
    allow: [A_TO_B, "x/a > z/b 80/TCP v6"],
    deny: ["x/a > y/a 80/TCP", "x/a > y/c 81/TCP", "x/a > y/b 81/TCP"],
  },
  {
    name: "source ports: probes come from 10000 and up",
    objects: [
      global("p", {
        selector: B,
        ingress: [allow({ protocol: "TCP", ...from({ ports: ["10000:65535"] }) }), allow({ protocol: "UDP", ...from({ ports: ["1:9999"] }) })],
      }),
      global("q", { selector: "pod == 'c'", ingress: [allow({ protocol: "TCP", ...from({ notPorts: ["1:9999"] }) })] }),
    ],
    allow: [A_TO_B, "x/a > y/c 80/TCP"],
    deny: ["x/a > y/b 80/UDP", "x/a > y/b 80/SCTP"],
  },
  {
    name: "ranges of one, from 0, to the end; ranges that meet",
    objects: [
      global("p", {
        selector: B,
        ingress: [allow({ protocol: "TCP", ...to({ ports: ["80:80"] }) }), allow({ protocol: "UDP", ...to({ ports: ["0:80", "82:65535"] }) })],
      }),
      global("q", { selector: "pod == 'c'", ingress: [allow({ protocol: "TCP", ...to({ ports: ["0:79", "80:80", "81:100", 90] }) })] }),
    ],
    allow: [A_TO_B, "x/a > y/b 80/UDP", "x/a > y/b 82/UDP", "x/a > y/c 80/TCP", "x/a > y/c 82/TCP"],
    deny: ["x/a > y/b 81/TCP", "x/a > y/b 81/UDP", "x/a > y/c 80/UDP"],
  },
];

const PROTOCOLS: readonly ObjectCase[] = [
  {
    name: "protocols by number are those by name",
    objects: [global("p", { selector: B, ingress: [allow({ protocol: 6, ...to({ ports: [80] }) }), allow({ protocol: "132" }), allow({ protocol: 58 })] })],
    allow: [A_TO_B, "x/a > y/b 80/SCTP", PING6],
    deny: ["x/a > y/b 81/TCP", "x/a > y/b 80/UDP", PING],
  },
  {
    name: "UDPLite is not UDP; 255 is nobody",
    objects: [global("p", { selector: B, ingress: [deny({ protocol: "UDPLite" }), deny({ protocol: 255 }), allow({ protocol: "UDP" })] })],
    allow: ["x/a > y/b 80/UDP"],
    deny: [A_TO_B, PING],
  },
  {
    name: "notProtocol by number, and beside protocol",
    objects: [
      global("p", { selector: B, ingress: [allow({ notProtocol: 17 })] }),
      global("q", { selector: "pod == 'c'", ingress: [allow({ protocol: "TCP", notProtocol: "UDP" }), allow({ protocol: "SCTP", notProtocol: "SCTP" })] }),
    ],
    allow: [A_TO_B, PING6, "x/a > y/b 80/SCTP", "x/a > y/c 80/TCP"],
    deny: ["x/a > y/b 80/UDP", "x/a > y/c 80/SCTP", "x/a > y/c 80/UDP"],
  },
  {
    name: "ICMP type alone",
    objects: [global("p", { selector: B, ingress: [allow({ protocol: "ICMP", icmp: { type: 8 } }), allow({ protocol: "ICMPv6", icmp: { type: 128 } })] })],
    allow: [PING, PING6],
    deny: [A_TO_B],
  },
  {
    name: "ICMP code 0 is a code",
    objects: [
      global("p", {
        selector: B,
        ingress: [allow({ protocol: "ICMP", icmp: { type: 8, code: 0 } }), allow({ protocol: "ICMPv6", icmp: { type: 128, code: 1 } })],
      }),
    ],
    allow: [PING],
    deny: [PING6, A_TO_B],
  },
  {
    name: "ICMP type 0 is a type",
    objects: [
      global("p", { selector: B, ingress: [allow({ protocol: "ICMP", icmp: { type: 0 } }), allow({ protocol: "ICMPv6", icmp: { type: 0, code: 0 } })] }),
    ],
    allow: [],
    deny: [PING, PING6],
  },
  {
    name: "not an ICMP type",
    objects: [
      global("p", { selector: B, ingress: [allow({ protocol: "ICMP", notICMP: { type: 8 } }), allow({ protocol: "ICMPv6", notICMP: { type: 129 } })] }),
    ],
    allow: [PING6],
    deny: [PING],
  },
  {
    name: "not an ICMP type and code: another code of the type is meant",
    objects: [
      global("p", {
        selector: B,
        ingress: [allow({ protocol: "ICMP", notICMP: { type: 8, code: 1 } }), allow({ protocol: "ICMPv6", notICMP: { type: 128, code: 0 } })],
      }),
    ],
    allow: [PING],
    deny: [PING6],
  },
  {
    name: "an ICMP type and not another code of it",
    objects: [global("p", { selector: B, ingress: [allow({ protocol: "ICMP", icmp: { type: 8 }, notICMP: { type: 8, code: 0 } })] })],
    allow: [],
    deny: [PING, PING6],
  },
  {
    name: "ICMPv6 from IPv4 prefixes is nothing",
    objects: [
      global("p", {
        selector: B,
        ingress: [allow({ protocol: "ICMPv6", ...from({ nets: ["0.0.0.0/0"] }) }), allow({ protocol: "ICMP", ...from({ nets: ["::/0"] }) })],
      }),
    ],
    allow: ["x/a > y/a ICMP"],
    deny: [PING, PING6],
  },
  {
    name: "ipVersion beside selectors and ports",
    objects: [
      global("p", {
        selector: B,
        ingress: [
          allow({ ipVersion: 4, protocol: "TCP", source: { selector: "pod == 'a'" }, destination: { ports: [80] } }),
          allow({ ipVersion: 6, protocol: "UDP" }),
        ],
      }),
    ],
    allow: [A_TO_B, "x/a > y/b 82/UDP v6"],
    deny: ["x/a > y/b 80/TCP v6", "x/a > y/b 80/UDP", PING, PING6],
  },
];

/** Every third address of 6,000 is one of the world's; the rest are neighbours of them. */
const MANY = 2_000;
const many = (i: number): string => `10.${70 + (i >> 14)}.${(i >> 6) & 255}.${(i & 63) << 2}/30`;
const LARGE: readonly ObjectCase[] = [
  {
    name: "two thousand rules in one policy, the last one decides",
    objects: [
      kubernetes("y", "many", {
        podSelector: {},
        ingress: [
          ...Array.from({ length: MANY }, (_, i) => ({ from: [{ ipBlock: { cidr: many(i) } }], ports: [{ port: 1_000 + (i % 500) }] })),
          { from: [{ ipBlock: { cidr: "10.65.1.1/32" } }], ports: [{ port: 80 }] },
        ],
      }),
    ],
    allow: [A_TO_B],
    deny: ["x/a > y/b 81/TCP", "x/b > y/b 80/TCP"],
  },
  {
    name: "a thousand peers of one rule, and every port that a rule may have",
    objects: [
      kubernetes("y", "many", {
        podSelector: {},
        ingress: [
          {
            from: [
              ...Array.from({ length: MANY / 2 }, (_, i) => ({ ipBlock: { cidr: many(i) } })),
              { ipBlock: { cidr: "10.65.1.0/24", except: ["10.65.1.2/32"] } },
            ],
            ports: [...Array.from({ length: 99 }, (_, i) => ({ port: 2_000 + 3 * i })), { port: "web" }],
          },
        ],
      }),
    ],
    allow: [A_TO_B, "x/c > y/c 81/TCP"],
    deny: ["x/b > y/b 80/TCP", "x/a > y/b 81/TCP", "x/a > y/b 80/TCP v6"],
  },
  {
    name: "three hundred policies of one pod, in order",
    objects: Array.from({ length: 300 }, (_, i) =>
      global(`p${i}`, {
        order: 300 - i,
        selector: B,
        ingress: [i === 0 ? deny() : i === 150 ? allow({ protocol: "TCP" }) : deny({ protocol: "UDP", ...to({ ports: [i + 1] }) })],
      }),
    ),
    allow: [A_TO_B],
    deny: ["x/a > y/b 80/UDP", PING],
  },
];

export const CALICO_CORNERS: readonly ObjectCase[] = [...TIERS_AND_ORDERS, ...TYPES, ...PEERS, ...SETS, ...PORTS, ...PROTOCOLS, ...LARGE];
