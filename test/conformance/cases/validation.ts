/** NetworkPolicy specs that a cluster takes or refuses. Which, the real API server says; here they are only collected, good ones and bad ones mixed. */

const from = (peer: unknown): unknown => ({ podSelector: {}, ingress: [{ from: [peer] }] });
const block = (ipBlock: unknown): unknown => from({ ipBlock });
const port = (entry: unknown): unknown => ({ podSelector: {}, ingress: [{ ports: [entry] }] });
const labels = (matchLabels: unknown): unknown => ({ podSelector: { matchLabels } });
const requirement = (entry: unknown): unknown => ({ podSelector: { matchExpressions: [entry] } });

export const VALIDATION_SPECS: readonly unknown[] = [
  // Shape.
  undefined,
  null,
  {},
  [],
  "x",
  5,
  { podselector: {} },
  { podSelector: {}, extra: 1 },
  ...[null, [], "a"].map((podSelector) => ({ podSelector })),
  ...[null, [], [null], {}, [[]], ["x"], [{}], [{ from: null, ports: null }], [{ to: [] }], [{ from: {} }], [{ ports: {} }]].map((ingress) => ({
    podSelector: {},
    ingress,
  })),
  ...[null, [], [null], [{}], [{ from: [] }], [{ to: [{}] }], [{ to: [{ podSelector: {} }] }]].map((egress) => ({ podSelector: {}, egress })),
  // Policy types.
  ...[null, [], ["Ingress"], ["Egress", "Ingress"], ["Ingress", "Ingress"], ["Ingress", "Egress", "Ingress"], ["ingress"], [""], [null], "Ingress", [1]].map(
    (policyTypes) => ({
      podSelector: {},
      policyTypes,
    }),
  ),
  // Peers.
  ...[null, {}, { podSelector: null }, { podSelector: {} }, { namespaceSelector: {} }, { podSelector: {}, namespaceSelector: {} }, { pods: {} }, "x"].map(from),
  ...[{ ipBlock: { cidr: "10.0.0.0/8" }, podSelector: {} }, { ipBlock: { cidr: "10.0.0.0/8" }, namespaceSelector: {} }, { ipBlock: {} }, { ipBlock: null }].map(
    from,
  ),
  // Address blocks.
  ...["10.0.0.0/8", "10.1.2.3/8", "0.0.0.0/0", "::/0", "fd00::/64", "fd00::1/64", "FD00::/64", "1.2.3.4/32", "fd00::1/128"].map((cidr) => block({ cidr })),
  ...["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "fd00::/129", "x", "10.0.0.256/8", " 10.0.0.0/8", "10.0.0.0/8 ", "10.0.0.0/ 8", 10, null].map(
    (cidr) => block({ cidr }),
  ),
  ...[null, [], ["10.1.0.0/16"], ["10.1.2.3/16"], ["10.0.0.0/9", "10.0.0.0/10"], ["10.1.0.0/16", "10.1.0.0/16"]].map((except) =>
    block({ cidr: "10.0.0.0/8", except }),
  ),
  ...[["10.0.0.0/8"], ["10.0.0.0/7"], ["11.0.0.0/16"], ["fd00::/64"], ["10.1.0.0"], [""], [null], "10.1.0.0/16"].map((except) =>
    block({ cidr: "10.0.0.0/8", except }),
  ),
  ...[["fd00:0:0:1::/64"], ["fd01::/64"], ["fd00::/16"]].map((except) => block({ cidr: "fd00::/16", except })),
  // Ports.
  ...[
    null,
    {},
    { port: 80 },
    { protocol: "UDP" },
    { protocol: "SCTP", port: 1 },
    { protocol: null, port: 65535 },
    { port: "web" },
    { port: "a" },
    { port: "a-1" },
  ].map(port),
  ...[0, 65536, -1, 1.5, "80", "", "Web", "a--b", "-a", "a-", "a23456789012345", "a234567890123456", "a_b", "a.b", "1a", true, [], null].map((number) =>
    port({ port: number }),
  ),
  ...["tcp", "", "ICMP", "TCP ", 6].map((protocol) => port({ protocol, port: 80 })),
  ...[80, 81, 65535, 79, 0, 65536, "81", null].map((endPort) => port({ port: 80, endPort })),
  ...[{ endPort: 80 }, { port: "web", endPort: 80 }, { protocol: "UDP", endPort: 80 }, { port: 80, endport: 81 }].map(port),
  // Labels.
  ...[
    null,
    {},
    { a: "b" },
    { a: "" },
    { "x.io/a": "b" },
    { "a_b.c-d": "E_f.g-1" },
    { ["a".repeat(63)]: "b" },
    { a: "b".repeat(63) },
    { [`${"x".repeat(63)}.io/a`]: "b" },
  ].map(labels),
  ...[
    { "": "b" },
    { "a b": "c" },
    { "a/b/c": "d" },
    { "/a": "b" },
    { "a/": "b" },
    { "X.io/a": "b" },
    { "x_y/a": "b" },
    { "-a": "b" },
    { "a.": "b" },
    { ["a".repeat(64)]: "b" },
  ].map(labels),
  ...[
    { a: "b c" },
    { a: "-b" },
    { a: "b." },
    { a: "b".repeat(64) },
    { a: "b/c" },
    { a: 1 },
    { a: true },
    { a: null },
    { [`${"x".repeat(254)}/a`]: "b" },
    [],
    "a=b",
  ].map(labels),
  // Requirements.
  ...[
    { key: "a", operator: "In", values: ["b"] },
    { key: "a", operator: "In", values: ["b", "b", ""] },
    { key: "a", operator: "NotIn", values: ["b"] },
    { key: "a", operator: "Exists" },
    { key: "a", operator: "DoesNotExist", values: [] },
    { key: "a", operator: "Exists", values: null },
    { key: "a", operator: "In" },
    { key: "a", operator: "In", values: [] },
    { key: "a", operator: "NotIn" },
    { key: "a", operator: "Exists", values: ["b"] },
    { key: "a", operator: "DoesNotExist", values: [""] },
    { key: "a", operator: "in", values: ["b"] },
    { key: "a", operator: "Gt", values: ["1"] },
    { key: "a", operator: "" },
    { key: "a" },
    { key: "a", operator: "In", values: ["b c"] },
    { key: "a", operator: "In", values: [1] },
    { key: "a", operator: "In", values: [null] },
    { key: "a", operator: "In", values: "b" },
    { key: "", operator: "Exists" },
    { operator: "Exists" },
    { key: "a b", operator: "Exists" },
    { key: "a/b/c", operator: "Exists" },
    { key: "a", operator: "Exists", value: "b" },
    null,
    {},
  ].map(requirement),
  { podSelector: { matchLabels: { a: "b" }, matchExpressions: [{ key: "a", operator: "NotIn", values: ["c"] }] } },
  { podSelector: { matchLabel: { a: "b" } } },
];
