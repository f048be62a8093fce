/**
 * Objects of Calico's kinds and ClusterNetworkPolicies that a cluster takes or refuses: the rules that Calico's own validation has (names, limits, what may
 * stand together), stated as good and bad values of one field at a time.
 */

export interface ValidationCase {
  readonly name: string;
  readonly isValid: boolean;
  readonly object: unknown;
  /** Only the program refuses it: the definition cannot say it. */
  readonly isBeyondSchema?: true;
}

type Fields = Readonly<Record<string, unknown>>;
type Make = (value: unknown) => unknown;

const NAMESPACED = new Set(["NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy", "NetworkSet"]);

export function calicoObject(
  kind: string,
  spec: unknown,
  { name = "x", annotations }: { readonly name?: string; readonly annotations?: Fields } = {},
): unknown {
  const apiVersion = kind === "ClusterNetworkPolicy" ? "policy.networking.k8s.io/v1alpha2" : "projectcalico.org/v3";
  const metadata = { name, ...(NAMESPACED.has(kind) ? { namespace: "default" } : {}), ...(annotations === undefined ? {} : { annotations }) };
  return { apiVersion, kind, metadata, ...(spec === undefined ? {} : { spec }) };
}

/** Cases of one field: `make` puts a value into an object. */
function field(
  name: string,
  make: Make,
  values: { readonly good: readonly unknown[]; readonly bad: readonly unknown[]; readonly beyond?: readonly unknown[] },
): ValidationCase[] {
  const of = (value: unknown, isValid: boolean): ValidationCase => ({ name: `${name} ${JSON.stringify(value)?.slice(0, 80)}`, isValid, object: make(value) });
  return [
    ...values.good.map((value) => of(value, true)),
    ...values.bad.map((value) => of(value, false)),
    ...(values.beyond ?? []).map((value): ValidationCase => ({ ...of(value, false), isBeyondSchema: true })),
  ];
}

const many = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));
const policyKinds = ["GlobalNetworkPolicy", "NetworkPolicy", "StagedGlobalNetworkPolicy", "StagedNetworkPolicy"] as const;
const globalKinds = ["GlobalNetworkPolicy", "StagedGlobalNetworkPolicy"] as const;

const SELECTORS = {
  good: [
    "",
    "all()",
    "has(app)",
    "!has(app)",
    "!!has(a)",
    "app == 'web'",
    'app == "web"',
    "app=='web'",
    "app != 'web' && tier in {'a', 'b'}",
    "tier not in {'a'} || has(b)",
    "(a == 'b' && (c == 'd' || !(e == 'f')))",
    "a in {}",
    "a in {'b',}",
    "in == 'in'",
    "contains contains 'contains'",
    "a starts with 'b'",
    "a endswith 'b'",
    "projectcalico.org/namespace == 'x'",
    "a == ''",
    "global()",
  ],
  bad: [
    "a",
    "a = 'b'",
    "a == b",
    "a == 'b",
    "has (a)",
    "has()",
    "has(a",
    "a == 'b' &&",
    "&& a == 'b'",
    "a == 'b' & c == 'd'",
    "(a == 'b'",
    "a == 'b')",
    "a in 'b'",
    "a in {b}",
    "a\n== 'b'",
    "!",
    "()",
    "a in {'b' 'c'}",
    "a == 'b' c == 'd'",
    "🙂 == 'a'",
  ],
} as const;
const perPolicyKind = policyKinds.flatMap((kind): ValidationCase[] => {
  const spec =
    (name: string, extra: Fields = {}): Make =>
    (value) =>
      calicoObject(kind, { ...extra, [name]: value });
  const rule = (fields: Fields): unknown => calicoObject(kind, { ingress: [{ action: "Allow", ...fields }] });
  const egressRule = (fields: Fields): unknown => calicoObject(kind, { egress: [{ action: "Allow", ...fields }] });
  const of = (name: string): string => `${kind} ${name}`;
  return [
    ...field(of("spec"), (value) => calicoObject(kind, value), { good: [undefined, {}], bad: [[], "x", 5, { unknown: 1 }] }),
    ...field(of("name"), (value) => calicoObject(kind, {}, { name: String(value) }), {
      good: ["a", "a.b-c", "default.a", "x".repeat(253)],
      bad: ["A", "a_b", "-a", "a..b", "x".repeat(254)],
    }),
    ...field(of("tier"), spec("tier"), { good: ["default", "a-1"], bad: ["a.b", "A", "-a", "x".repeat(64), 5] }),
    ...field(of("order"), spec("order"), { good: [0, 1.5, -3, 1e9], bad: ["1", true, []] }),
    ...field(of("selector"), spec("selector"), SELECTORS),
    ...field(of("serviceAccountSelector"), spec("serviceAccountSelector"), { good: SELECTORS.good.slice(0, 8), bad: SELECTORS.bad.slice(0, 12) }),
    ...field(of("types"), spec("types"), {
      good: [[], ["Ingress"], ["Egress"], ["Egress", "Ingress"]],
      bad: [["ingress"], [""], ["Ingress", "Ingress"], ["Ingress", "Egress", "Ingress"], "Ingress", [null]],
    }),
    ...field(of("performanceHints"), spec("performanceHints"), { good: [[], ["AssumeNeededOnEveryNode"]], bad: [["Fast"], "AssumeNeededOnEveryNode"] }),
    ...field(of("ingress"), spec("ingress"), {
      good: [[], [{ action: "Allow" }], many(1024, () => ({ action: "Deny" }))],
      bad: [
        [{}],
        [null],
        ["Allow"],
        {},
        [{ action: "allow" }],
        [{ action: "Accept" }],
        [{ action: "Allow", source: [] }],
        many(1025, () => ({ action: "Deny" })),
      ],
    }),
    ...field(of("rule action"), (action) => rule({ action }), { good: ["Allow", "Deny", "Log", "Pass"], bad: ["", "Reject", "Drop", 1] }),
    ...field(of("rule unknown field"), (value) => rule({ sources: value }), { good: [], bad: [{}] }),
    ...field(of("rule ipVersion"), (ipVersion) => rule({ ipVersion }), { good: [4, 6], bad: [5, 0, "4", 46] }),
    ...field(of("rule protocol"), (protocol) => rule({ protocol }), {
      good: ["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite", 1, 6, 255, "17"],
      bad: ["tcp", "", "IP", 0, 256, -1, "0", "256", 1.5, true],
    }),
    ...field(of("rule notProtocol"), (notProtocol) => rule({ notProtocol }), { good: ["TCP", 47], bad: ["none", 0, 300] }),
    ...field(of("rule icmp"), (icmp) => rule({ protocol: "ICMP", icmp }), {
      good: [{}, { type: 0 }, { type: 8 }, { type: 254, code: 255 }, { type: 3, code: 0 }],
      bad: [{ type: 255 }, { type: -1 }, { code: 1 }, { type: 3, code: 256 }, { type: "8" }, [], { kind: 8 }],
    }),
    ...field(of("rule notICMP"), (notICMP) => rule({ protocol: "ICMPv6", notICMP }), {
      good: [{ type: 128 }, { type: 1, code: 4 }],
      bad: [{ code: 4 }, { type: 300 }],
    }),
    ...field(of("rule icmp with protocol"), (protocol) => rule({ ...(protocol === "none" ? {} : { protocol }), icmp: { type: 8 } }), {
      good: ["ICMP", "ICMPv6", 1, 58],
      bad: ["TCP", "none", 6],
    }),
    ...field(of("rule family"), (fields) => rule(fields as Fields), {
      good: [
        { ipVersion: 4, protocol: "ICMP" },
        { ipVersion: 6, protocol: "ICMPv6" },
        { ipVersion: 4, source: { nets: ["10.0.0.0/8"] } },
        { ipVersion: 6, source: { notNets: ["fd00::/8"] } },
      ],
      bad: [
        { ipVersion: 6, protocol: "ICMP" },
        { ipVersion: 4, protocol: "ICMPv6" },
        { ipVersion: 4, source: { nets: ["fd00::/8"] } },
        { ipVersion: 6, destination: { notNets: ["10.0.0.0/8"] } },
        { source: { nets: ["10.0.0.0/8", "fd00::/8"] } },
        { source: { nets: ["10.0.0.0/8"] }, destination: { nets: ["fd00::/8"] } },
        { source: { nets: ["10.0.0.0/8"], notNets: ["fd00::/8"] } },
      ],
    }),
    ...field(of("rule nets"), (nets) => rule({ source: { nets } }), {
      good: [
        [],
        ["10.0.0.0/8"],
        ["10.1.2.3/8"],
        ["10.0.0.1"],
        ["0.0.0.0/0"],
        ["::/0"],
        ["fd00::1"],
        ["::ffff:0:0/96"],
        ["1:2:3:4:5:6:7:8/128"],
        many(256, (i) => `10.0.${i}.0/24`),
      ],
      bad: [
        ["10.0.0.0/33"],
        ["10.0.0/8"],
        ["fd00::/129"],
        ["x"],
        [""],
        ["10.0.0.0/8 "],
        ["10.0.0.256/32"],
        "10.0.0.0/8",
        [5],
        many(257, (i) => `10.${i % 200}.0.0/16`),
      ],
      beyond: [["fd00::1::2/64"]],
    }),
    ...field(of("rule notNets"), (notNets) => rule({ destination: { notNets } }), {
      good: [["10.0.0.0/8"], ["::/1"]],
      bad: [["0.0.0.0/0"], ["::/0"], ["garbage"]],
    }),
    ...field(of("rule selector"), (selector) => rule({ source: { selector } }), SELECTORS),
    ...field(of("rule notSelector"), (notSelector) => egressRule({ destination: { notSelector } }), {
      good: SELECTORS.good.slice(2, 9),
      bad: SELECTORS.bad.slice(0, 5),
    }),
    ...field(of("rule namespaceSelector"), (namespaceSelector) => rule({ source: { namespaceSelector } }), {
      good: ["all()", "global()", "team == 'a'", "!has(team)"],
      bad: ["global() || has(a)", "!global()", "team = 'a'"],
    }),
    ...field(of("rule ports with TCP"), (ports) => rule({ protocol: "TCP", destination: { ports } }), {
      good: [
        [],
        [80],
        [0],
        [65535],
        ["80"],
        ["80:90"],
        ["80:80"],
        ["http"],
        ["Http_1.2-x"],
        [80, "443", "8000:9000", "metrics"],
        many(50, (i) => i + 1),
        ["1-2"],
      ],
      bad: [[-1], [65536], ["65536"], ["1:65536"], [":80"], ["80:"], ["a b"], [""], ["http!"], [1.5], 80, many(51, (i) => i + 1), ["x".repeat(129)]],
      beyond: [["90:80"]],
    }),
    ...field(of("rule port numbers and protocol"), (protocol) => rule({ ...(protocol === "none" ? {} : { protocol }), source: { ports: [80] } }), {
      good: ["TCP", "UDP", "SCTP", 6, 17, 132, "6"],
      bad: ["ICMP", "none", "UDPLite", 47],
    }),
    ...field(of("rule port names and protocol"), (protocol) => rule({ ...(protocol === "none" ? {} : { protocol }), destination: { notPorts: ["http"] } }), {
      good: ["TCP", "none", 6],
      bad: [],
    }),
    ...field(of("rule notPorts without protocol"), (notPorts) => rule({ destination: { notPorts } }), { good: [["http"]], bad: [[80], ["1:2"]] }),
    ...field(of("rule serviceAccounts"), (serviceAccounts) => rule({ source: { serviceAccounts } }), {
      good: [{}, { names: ["a", "b"] }, { selector: "has(x)" }, { names: [], selector: "" }],
      bad: [{ names: [""] }, { names: "a" }, { selector: "x" }, { name: "a" }],
    }),
    ...field(of("egress services"), (destination) => egressRule({ destination }), {
      good: [{ services: { name: "a", namespace: "b" } }],
      bad: [
        { services: { namespace: "b" } },
        { services: { name: "a", namespace: "b" }, selector: "has(x)" },
        { services: { name: "a", namespace: "b" }, notSelector: "has(x)" },
        { services: { name: "a", namespace: "b" }, namespaceSelector: "has(x)" },
        { services: { name: "a", namespace: "b" }, nets: ["10.0.0.0/8"] },
        { services: { name: "a", namespace: "b" }, notNets: ["10.0.0.0/8"] },
        { services: { name: "a", namespace: "b" }, serviceAccounts: { names: ["x"] } },
        { services: { name: "a", namespace: "b" }, ports: ["http"] },
      ],
    }),
    ...field(of("services at the wrong end"), (make) => (make as () => unknown)(), {
      good: [() => rule({ source: { services: { name: "a", namespace: "b" } } })],
      bad: [
        () => rule({ destination: { services: { name: "a", namespace: "b" } } }),
        () => egressRule({ source: { services: { name: "a", namespace: "b" } } }),
      ],
    }),
    ...field(of("rule http"), (http) => rule({ protocol: "TCP", http }), {
      good: [{}, { methods: ["GET"] }, { paths: [{ exact: "/a" }, { prefix: "/b" }] }],
      bad: [
        { paths: [{}] },
        { paths: [{ exact: "/a", prefix: "/b" }] },
        { paths: [{ exact: "a" }] },
        { methods: many(21, () => "GET") },
        { paths: many(21, () => ({ exact: "/" })) },
        { methods: [""] },
      ],
    }),
    ...field(of("http and the rest of the rule"), (make) => (make as () => unknown)(), {
      good: [() => rule({ http: { methods: ["GET"] } })],
      bad: [() => rule({ action: "Deny", http: {} }), () => rule({ protocol: "UDP", http: {} }), () => egressRule({ http: {} })],
    }),
    ...field(of("rule metadata"), (metadata) => rule({ metadata }), {
      good: [{}, { annotations: { "a.b/c": "d" } }],
      bad: [{ annotations: { a: 1 } }, { labels: {} }],
    }),
  ];
});

const perGlobalKind = globalKinds.flatMap((kind) => {
  const of = (name: string): string => `${kind} ${name}`;
  return [
    ...field(of("namespaceSelector"), (namespaceSelector) => calicoObject(kind, { namespaceSelector }), {
      good: ["", "all()", "global()", "team == 'a'", " global() "],
      bad: ["global() && has(a)", "team", "!global()"],
    }),
    ...field(of("host options"), (spec) => calicoObject(kind, spec), {
      good: [
        { applyOnForward: true },
        { applyOnForward: true, doNotTrack: true },
        { applyOnForward: true, preDNAT: true, ingress: [{ action: "Allow" }] },
        { applyOnForward: true, doNotTrack: true, preDNAT: false, egress: [{ action: "Deny" }] },
        { applyOnForward: true, preDNAT: true, types: ["Ingress"] },
      ],
      bad: [
        { doNotTrack: true },
        { preDNAT: true },
        { applyOnForward: false, preDNAT: true },
        { applyOnForward: true, preDNAT: true, doNotTrack: true },
        { applyOnForward: true, preDNAT: true, egress: [{ action: "Allow" }] },
        { applyOnForward: true, preDNAT: true, types: ["Ingress", "Egress"] },
        { applyOnForward: "yes" },
      ],
    }),
  ];
});

const namespacedOnly = (["NetworkPolicy", "StagedNetworkPolicy"] as const).flatMap((kind) =>
  field(`${kind} has no`, (name) => calicoObject(kind, { [String(name)]: name === "namespaceSelector" ? "all()" : true }), {
    good: [],
    bad: ["doNotTrack", "preDNAT", "applyOnForward", "namespaceSelector"],
  }),
);

const staged = (["StagedGlobalNetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy"] as const).flatMap((kind) =>
  field(`${kind} stagedAction`, (stagedAction) => calicoObject(kind, { stagedAction }), { good: ["Set", "Delete", "Learn", "Ignore"], bad: ["set", "", 1] }),
);

const stagedKubernetes = field("StagedKubernetesNetworkPolicy spec", (spec) => calicoObject("StagedKubernetesNetworkPolicy", spec), {
  good: [
    {},
    { podSelector: {} },
    { podSelector: { matchLabels: { a: "b" } }, policyTypes: ["Ingress", "Egress"] },
    { ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80 }, { port: "http", protocol: "UDP" }, { port: 80, endPort: 90 }] }] },
    { egress: [{ to: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] } }] }] },
  ],
  bad: [
    { podSelector: { matchExpressions: [{ key: "a", operator: "In" }] } },
    { podSelector: { matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }] } },
    { podSelector: { matchLabels: { a: "b c" } } },
    { policyTypes: ["ingress"] },
    { ingress: [{ from: [{}] }] },
    { ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/8" }, podSelector: {} }] }] },
    { ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0" } }] }] },
    { ingress: [{ ports: [{ port: 0 }] }] },
    { ingress: [{ ports: [{ port: 90, endPort: 80 }] }] },
    { ingress: [{ ports: [{ endPort: 80 }] }] },
    { ingress: [{ ports: [{ port: "http", endPort: 80 }] }] },
    { ingress: [{ ports: [{ protocol: "ICMP" }] }] },
    { order: 1 },
  ],
});

const tiers = [
  ...field("Tier spec", (spec) => calicoObject("Tier", spec), {
    good: [undefined, {}, { order: 10 }, { order: 1.5, defaultAction: "Pass" }, { defaultAction: "Deny" }],
    bad: [{ defaultAction: "Allow" }, { defaultAction: "deny" }, { order: "1" }, { order: 1, extra: true }],
  }),
  ...field("Tier name", (name) => calicoObject("Tier", {}, { name: String(name) }), {
    good: ["a", "a-1", "x".repeat(63)],
    bad: ["a.b", "A", "x".repeat(64), "-a"],
  }),
  ...field("built-in Tier", (args) => calicoObject("Tier", (args as readonly unknown[])[1], { name: String((args as readonly unknown[])[0]) }), {
    good: [
      ["default", { order: 1_000_000, defaultAction: "Deny" }],
      ["kube-admin", { order: 1_000, defaultAction: "Pass" }],
      ["kube-baseline", { order: 10_000_000, defaultAction: "Pass" }],
    ],
    bad: [
      ["default", {}],
      ["default", { order: 1_000_000, defaultAction: "Pass" }],
      ["default", { order: 5 }],
      ["kube-admin", { order: 1_000 }],
      ["kube-baseline", { order: 1_000, defaultAction: "Pass" }],
    ],
  }),
];

const sets = (["GlobalNetworkSet", "NetworkSet"] as const).flatMap((kind) =>
  field(`${kind} nets`, (nets) => calicoObject(kind, { nets }), {
    good: [[], ["10.0.0.0/8", "fd00::/8", "10.0.0.1"], ["10.0.0.0/8", "10.0.0.0/9"], ["0.0.0.0/0"], many(1000, (i) => `10.${i >> 8}.${i & 255}.0/24`)],
    bad: [["10.0.0.0/33"], ["x"], [""], "10.0.0.0/8", [1], ["10.0.0.0/8\n"]],
  }),
);

const hosts = [
  ...field("HostEndpoint spec", (spec) => calicoObject("HostEndpoint", spec), {
    good: [
      { node: "n1", interfaceName: "eth0" },
      { node: "n1", interfaceName: "*" },
      { node: "n1", expectedIPs: ["10.0.0.1", "fd00::1"] },
      { node: "n1", interfaceName: "eth0.100", profiles: ["a"], ports: [{ name: "ssh", protocol: "TCP", port: 22 }] },
    ],
    bad: [
      undefined,
      {},
      { interfaceName: "eth0" },
      { node: "", interfaceName: "eth0" },
      { node: "n1" },
      { node: "n1", interfaceName: "", expectedIPs: [] },
      { node: "n1", interfaceName: "a name" },
      { node: "n1", interfaceName: "x".repeat(16) },
      { node: "n1", interfaceName: "eth*" },
      { node: "n1", expectedIPs: ["10.0.0.0/8"] },
      { node: "n1", expectedIPs: ["x"] },
      { node: "n1", interfaceName: "eth0", ports: [{ name: "ssh", protocol: "TCP" }] },
      { node: "n1", interfaceName: "eth0", ports: [{ protocol: "TCP", port: 22 }] },
      { node: "n1", interfaceName: "eth0", ports: [{ name: "ssh", port: 22 }] },
      { node: "n1", interfaceName: "eth0", ports: [{ name: "ssh", protocol: "TCP", port: 0 }] },
      { node: "n1", interfaceName: "eth0", ports: [{ name: "ssh", protocol: "ICMP", port: 22 }] },
      { node: "n1", interfaceName: "eth0", ports: [{ name: "s h", protocol: "TCP", port: 22 }] },
      { node: "n1", interfaceName: "eth0", profiles: [""] },
      { node: "n1", interfaceName: "eth0", labels: {} },
    ],
  }),
  ...field("Profile spec", (spec) => calicoObject("Profile", spec), {
    good: [undefined, {}, { ingress: [{ action: "Allow" }], egress: [{ action: "Deny" }], labelsToApply: { a: "b" } }],
    bad: [{ ingress: [{}] }, { labelsToApply: { a: 1 } }, { labelsToApply: { a: "b c" } }, { selector: "all()" }, { egress: [{ action: "Allow", http: {} }] }],
  }),
];

const cnp = (fields: Fields): unknown => calicoObject("ClusterNetworkPolicy", { tier: "Admin", priority: 1, subject: { namespaces: {} }, ...fields });
const accept = (peers: unknown, more: Fields = {}): unknown => cnp({ egress: [{ action: "Accept", to: peers, ...more }] });
const from = (peers: unknown, more: Fields = {}): unknown => cnp({ ingress: [{ action: "Deny", from: peers, ...more }] });
const clusterPolicies = [
  ...field("ClusterNetworkPolicy spec", (spec) => calicoObject("ClusterNetworkPolicy", spec), {
    good: [
      { tier: "Admin", priority: 0, subject: { namespaces: {} } },
      { tier: "Baseline", priority: 1000, subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { a: "b" } } } } },
      { tier: "Admin", priority: 1, subject: { pods: { podSelector: {} } } },
    ],
    bad: [
      undefined,
      {},
      { tier: "Admin", priority: 1 },
      { tier: "Admin", subject: { namespaces: {} } },
      { priority: 1, subject: { namespaces: {} } },
      { tier: "admin", priority: 1, subject: { namespaces: {} } },
      { tier: "Admin", priority: -1, subject: { namespaces: {} } },
      { tier: "Admin", priority: 1001, subject: { namespaces: {} } },
      { tier: "Admin", priority: "1", subject: { namespaces: {} } },
      { tier: "Admin", priority: 1, subject: {} },
      { tier: "Admin", priority: 1, subject: { namespaces: {}, pods: { namespaceSelector: {}, podSelector: {} } } },
      { tier: "Admin", priority: 1, subject: { pods: { namespaceSelector: {} } } },
      { tier: "Admin", priority: 1, subject: { namespaces: { matchExpressions: [{ key: "a", operator: "NotIn" }] } } },
    ],
  }),
  ...field("ClusterNetworkPolicy from", (peers) => from(peers), {
    good: [
      [{ namespaces: {} }],
      [{ pods: { namespaceSelector: {}, podSelector: {} } }, { namespaces: { matchLabels: { a: "b" } } }],
      many(25, () => ({ namespaces: {} })),
    ],
    bad: [
      [],
      [{}],
      [{ namespaces: {}, pods: { namespaceSelector: {}, podSelector: {} } }],
      [{ networks: ["10.0.0.0/8"] }],
      [{ nodes: {} }],
      [{ pods: { namespaceSelector: {} } }],
      many(26, () => ({ namespaces: {} })),
    ],
  }),
  ...field("ClusterNetworkPolicy to", (peers) => accept(peers), {
    good: [[{ namespaces: {} }], [{ nodes: { matchLabels: { a: "b" } } }], [{ networks: ["10.0.0.0/8", "fd00::/8"] }], [{ domainNames: ["*.example.com"] }]],
    bad: [
      [],
      [{}],
      [{ networks: [] }],
      [{ networks: ["10.0.0.0"] }],
      [{ networks: ["x"] }],
      [{ domainNames: ["*"] }],
      [{ networks: ["10.0.0.0/8"], nodes: {} }],
      [{ networks: many(26, (i) => `10.${i}.0.0/16`) }],
    ],
  }),
  ...field("ClusterNetworkPolicy rule", (rule) => cnp({ egress: [rule] }), {
    good: [{ name: "n".repeat(100), action: "Pass", to: [{ namespaces: {} }] }],
    bad: [
      { to: [{ namespaces: {} }] },
      { action: "Accept" },
      { action: "Allow", to: [{ namespaces: {} }] },
      { name: "n".repeat(101), action: "Pass", to: [{ namespaces: {} }] },
      { action: "Accept", from: [{ namespaces: {} }] },
      { action: "Deny", to: [{ domainNames: ["a.example"] }] },
      { action: "Accept", to: [{ networks: ["10.0.0.0/8"] }], protocols: [{ destinationNamedPort: "http" }] },
    ],
  }),
  ...field("ClusterNetworkPolicy protocols", (protocols) => from([{ namespaces: {} }], { protocols }), {
    good: [
      [{ tcp: { destinationPort: { number: 80 } } }],
      [{ udp: { destinationPort: { range: { start: 1, end: 65535 } } } }, { sctp: {} }],
      [{ destinationNamedPort: "http" }],
    ],
    bad: [
      [],
      [{}],
      [{ tcp: {}, udp: {} }],
      [{ tcp: { destinationPort: {} } }],
      [{ tcp: { destinationPort: { number: 0 } } }],
      [{ tcp: { destinationPort: { number: 65536 } } }],
      [{ tcp: { destinationPort: { number: 80, range: { start: 1, end: 2 } } } }],
      [{ tcp: { destinationPort: { range: { start: 2, end: 1 } } } }],
      [{ tcp: { destinationPort: { range: { start: 2, end: 2 } } } }],
      [{ tcp: { destinationPort: { range: { start: 2 } } } }],
      [{ icmp: {} }],
      [{ destinationNamedPort: "" }],
    ],
  }),
  ...field("ClusterNetworkPolicy ingress", (ingress) => cnp({ ingress }), {
    good: [[], many(25, () => ({ action: "Pass", from: [{ namespaces: {} }] }))],
    bad: [many(26, () => ({ action: "Pass", from: [{ namespaces: {} }] })), {}],
  }),
];

export const CALICO_VALIDATION_CASES: readonly ValidationCase[] = [
  ...perPolicyKind,
  ...perGlobalKind,
  ...namespacedOnly,
  ...staged,
  ...stagedKubernetes,
  ...tiers,
  ...sets,
  ...hosts,
  ...clusterPolicies,
];
