/**
 * ClusterNetworkPolicies as the conformance suite of the API has them (kubernetes-sigs/network-policy-api): four namespaces, "houses", of two pods each, and
 * what the pods of one of them may reach and be reached by. Policies and verdicts are written down here from the API's documentation.
 */
import type { ClusterPeer, ClusterPolicy, ClusterProtocol, ClusterRule } from "../naive-cluster-policy.ts";
import type { NaivePolicy } from "../naive-network-policy.ts";
import type { CasePlace } from "./case.ts";
import { type CasePod, OUTSIDE } from "./world.ts";

export interface ClusterPolicyCase {
  readonly name: string;
  readonly clusterPolicies: readonly ClusterPolicy[];
  readonly policies?: readonly NaivePolicy[];
  /** As in ConformanceCase; a pod is named "gryffindor/0". */
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

const PUPILS = { gryffindor: "harry-potter", slytherin: "draco-malfoy", hufflepuff: "cedric-diggory", ravenclaw: "luna-lovegood" } as const;
type House = keyof typeof PUPILS;
const HOUSES = Object.keys(PUPILS) as House[];
const namespaceOf = (house: House): string => `network-policy-conformance-${house}`;

/** Two of each protocol, as the suite's servers listen. */
const PORTS = { TCP: [80, 8080], UDP: [53, 5353], SCTP: [9003, 9005] } as const;
type Transport = keyof typeof PORTS;
const TRANSPORTS = Object.keys(PORTS) as Transport[];

export const HOUSE_PORTS: readonly number[] = Object.values(PORTS).flat();

export const HOUSE_LABELS: Readonly<Record<string, Readonly<Record<string, string>>>> = Object.fromEntries(
  HOUSES.map((house) => [namespaceOf(house), { "conformance-house": house }]),
);

export const HOUSE_PODS: readonly CasePod[] = HOUSES.flatMap((house, h) =>
  [0, 1].map((i): CasePod => {
    const name = `${PUPILS[house]}-${i}`;
    return {
      namespace: namespaceOf(house),
      name,
      labels: { "conformance-house": house, "statefulset.kubernetes.io/pod-name": name },
      node: `n${((h + i) % 3) + 1}`,
      v4: `10.66.${h + 1}.${i + 1}`,
      v6: `fd00:66::${h + 1}:${i + 1}`,
      ports: [
        { name: "web", protocol: "TCP", port: 80 },
        { name: "dns", protocol: "UDP", port: 53 },
        { name: "signal", protocol: "SCTP", port: 9003 },
      ],
    };
  }),
);

export const HOUSE_PLACES: ReadonlyMap<string, CasePlace> = new Map<string, CasePlace>([
  ["outside", OUTSIDE],
  ["n1", { v4: "172.30.90.11", v6: "fd30:90::11" }],
  ["n2", { v4: "172.30.90.12", v6: "fd30:90::12" }],
  ...HOUSE_PODS.map((pod, i): [string, CasePlace] => [`${HOUSES[i >> 1] ?? ""}/${i % 2}`, { v4: pod.v4, v6: pod.v6, pod }]),
]);

type Direction = "ingress" | "egress";
type Tier = ClusterPolicy["spec"]["tier"];
const DIRECTIONS: readonly Direction[] = ["ingress", "egress"];
const TIERS: readonly Tier[] = ["Admin", "Baseline"];

const house = (name: House): ClusterPeer => ({ namespaces: { matchLabels: { "kubernetes.io/metadata.name": namespaceOf(name) } } });
const pupils = (name: House): ClusterPeer => ({
  pods: { namespaceSelector: { matchLabels: { "conformance-house": name } }, podSelector: { matchLabels: { "conformance-house": name } } },
});
const pupil = (name: House, i: number): ClusterPeer => ({
  pods: {
    namespaceSelector: { matchLabels: { "conformance-house": name } },
    podSelector: { matchLabels: { "statefulset.kubernetes.io/pod-name": `${PUPILS[name]}-${i}` } },
  },
});
const EVERY_HOUSE: ClusterPeer = { namespaces: { matchExpressions: [{ key: "conformance-house", operator: "Exists" }] } };
const LINUX: ClusterPeer = { nodes: { matchLabels: { "kubernetes.io/os": "linux" } } };
const EVERYTHING: ClusterPeer = { networks: ["0.0.0.0/0", "::/0"] };

const at = (transport: Transport, number: number): ClusterProtocol => ({ [transport.toLowerCase()]: { destinationPort: { number } } });
const range = (transport: Transport): ClusterProtocol => ({
  [transport.toLowerCase()]: { destinationPort: { range: { start: PORTS[transport][0], end: PORTS[transport][1] } } },
});

interface RuleText {
  readonly action: ClusterRule["action"];
  readonly peers: readonly ClusterPeer[];
  readonly protocols?: readonly ClusterProtocol[];
}

const rulesOf = (direction: Direction, rules: readonly RuleText[]): ClusterRule[] =>
  rules.map(({ action, peers, protocols }) => ({
    action,
    [direction === "ingress" ? "from" : "to"]: peers,
    ...(protocols === undefined ? {} : { protocols }),
  }));

interface PolicyText {
  readonly name?: string;
  readonly tier: Tier;
  readonly priority?: number;
  readonly subject?: Pick<ClusterPeer, "namespaces" | "pods">;
  readonly ingress?: readonly RuleText[];
  readonly egress?: readonly RuleText[];
}

function clusterPolicy({ name = "p", tier, priority = 10, subject = house("gryffindor"), ingress, egress }: PolicyText): ClusterPolicy {
  return {
    metadata: { name },
    spec: {
      tier,
      priority,
      subject,
      ...(ingress === undefined ? {} : { ingress: rulesOf("ingress", ingress) }),
      ...(egress === undefined ? {} : { egress: rulesOf("egress", egress) }),
    },
  };
}

/** "gryffindor/0 > ravenclaw/1 80/TCP", or the other way round; both families. Which of the pods is spread over the rows. */
function rows(direction: Direction, far: House, ports: readonly string[]): string[] {
  return ports.flatMap((port, i) => {
    const [own, other] = [`gryffindor/${i % 2}`, `${far}/${(i + 1) % 2}`];
    const text = direction === "egress" ? `${own} > ${other} ${port}` : `${other} > ${own} ${port}`;
    return [text, `${text} v6`];
  });
}

const portsOf = (transport: Transport, which: readonly number[] = [0, 1]): string[] => which.map((i) => `${PORTS[transport][i]}/${transport}`);

type First = "Accept" | "Deny" | "Pass";

/** Accept, Deny and Pass for one house in different orders; a port denied for the second; a port accepted and all else denied for the third. */
function orderedRules(transports: readonly Transport[], first: First): RuleText[] {
  const [ports1, ports2] = [
    transports.map((transport) => at(transport, PORTS[transport][0])),
    transports.map((transport) => at(transport, PORTS[transport][1])),
  ];
  const actions: readonly First[] = [first, ...(["Accept", "Deny", "Pass"] as const).filter((action) => action !== first)];
  const ofSlytherin: readonly First[] = first === "Pass" ? ["Pass", "Deny"] : ["Deny", "Pass"];
  return [
    ...actions.map((action): RuleText => ({ action, peers: [house("ravenclaw")] })),
    ...ofSlytherin.map((action): RuleText => ({ action, peers: [house("slytherin")], protocols: ports1 })),
    { action: "Accept", peers: [house("hufflepuff")], protocols: ports2 },
    { action: "Deny", peers: [house("hufflepuff")] },
  ];
}

function orderedRows(direction: Direction, transports: readonly Transport[], first: First): Pick<ClusterPolicyCase, "allow" | "deny"> {
  const all = transports.flatMap((transport) => portsOf(transport));
  const [ports1, ports2] = [0, 1].map((i) => transports.flatMap((transport) => portsOf(transport, [i]))) as [string[], string[]];
  const open = [...rows(direction, "hufflepuff", ports2), ...rows(direction, "slytherin", ports2)];
  const closed = rows(direction, "hufflepuff", [...ports1, "ICMP"]);
  const ravenclaw = rows(direction, "ravenclaw", all);
  const slytherin = rows(direction, "slytherin", ports1);
  return {
    allow: [...open, ...(first === "Deny" ? [] : ravenclaw), ...(first === "Pass" ? slytherin : [])],
    deny: [...closed, ...(first === "Deny" ? ravenclaw : []), ...(first === "Pass" ? [] : slytherin)],
  };
}

const FIRSTS: readonly First[] = ["Accept", "Deny", "Pass"];

const ORDERED: readonly ClusterPolicyCase[] = TIERS.flatMap((tier) =>
  [...TRANSPORTS.map((transport) => [transport]), TRANSPORTS].flatMap((transports) =>
    FIRSTS.flatMap((first) => [
      ...DIRECTIONS.map(
        (direction): ClusterPolicyCase => ({
          name: `${tier}: ${direction}, ${transports.join(" and ")}, ${first} first`,
          clusterPolicies: [clusterPolicy({ tier, [direction]: orderedRules(transports, first) })],
          ...orderedRows(direction, transports, first),
        }),
      ),
      {
        name: `${tier}: both directions, ${transports.join(" and ")}, ${first} first`,
        clusterPolicies: [clusterPolicy({ tier, ingress: orderedRules(transports, first), egress: orderedRules(transports, first) })],
        allow: DIRECTIONS.flatMap((direction) => orderedRows(direction, transports, first).allow),
        deny: DIRECTIONS.flatMap((direction) => orderedRows(direction, transports, first).deny),
      },
    ]),
  ),
);

const REST: readonly ClusterPolicyCase[] = TIERS.flatMap((tier): ClusterPolicyCase[] => [
  ...DIRECTIONS.flatMap((direction): ClusterPolicyCase[] => [
    {
      name: `${tier}: ranges of ports, ${direction}`,
      clusterPolicies: [
        clusterPolicy({
          tier,
          [direction]: [
            { action: "Accept", peers: [house("ravenclaw")], protocols: [range("TCP")] },
            { action: "Accept", peers: [house("hufflepuff")], protocols: [range("UDP")] },
            { action: "Accept", peers: [house("slytherin")], protocols: [range("SCTP")] },
            { action: "Deny", peers: [EVERY_HOUSE] },
          ],
        }),
      ],
      allow: [
        ...rows(direction, "ravenclaw", portsOf("TCP")),
        ...rows(direction, "hufflepuff", portsOf("UDP")),
        ...rows(direction, "slytherin", portsOf("SCTP")),
      ],
      deny: [
        ...rows(direction, "ravenclaw", ["53/UDP", "ICMP"]),
        ...rows(direction, "hufflepuff", ["80/TCP", "9003/SCTP"]),
        ...rows(direction, "slytherin", ["80/TCP", "53/UDP"]),
      ],
    },
    {
      name: `${tier}: only ${direction} rules leave the other direction alone`,
      clusterPolicies: [clusterPolicy({ tier, [direction]: [{ action: "Deny", peers: [house("slytherin")] }] })],
      allow: [
        ...rows(direction === "ingress" ? "egress" : "ingress", "slytherin", ["80/TCP", "53/UDP", "9003/SCTP", "ICMP"]),
        ...rows("ingress", "ravenclaw", ["80/TCP"]),
        ...rows("egress", "ravenclaw", ["80/TCP"]),
        "outside > gryffindor/0 80/TCP",
        "gryffindor/1 > outside 80/TCP v6",
      ],
      deny: rows(direction, "slytherin", ["80/TCP", "53/UDP", "9003/SCTP", "ICMP"]),
    },
    {
      name: `${tier}: the lower priority number comes first, ${direction}`,
      clusterPolicies: [
        clusterPolicy({ tier, name: "a", priority: 50, [direction]: [{ action: "Deny", peers: [EVERY_HOUSE] }] }),
        clusterPolicy({ tier, name: "b", priority: 0, [direction]: [{ action: "Accept", peers: [pupils("slytherin")], protocols: [at("TCP", 80)] }] }),
        clusterPolicy({ tier, name: "c", priority: 49, [direction]: [{ action: "Pass", peers: [pupils("ravenclaw")] }] }),
        clusterPolicy({ tier, name: "d", priority: 48, [direction]: [{ action: "Deny", peers: [pupil("ravenclaw", 1)], protocols: [{ tcp: {} }] }] }),
      ],
      allow: [...rows(direction, "slytherin", ["80/TCP"]), ...rows(direction, "ravenclaw", ["53/UDP", "9005/SCTP", "ICMP"])],
      deny: [
        ...rows(direction, "slytherin", ["8080/TCP", "53/UDP", "ICMP"]),
        ...rows(direction, "hufflepuff", ["80/TCP"]),
        ...rows(direction, "ravenclaw", ["80/TCP"]),
      ],
    },
    {
      name: `${tier}: a named port, ${direction}`,
      clusterPolicies: [
        clusterPolicy({
          tier,
          [direction]: [
            { action: "Accept", peers: [house("hufflepuff")], protocols: [{ destinationNamedPort: "web" }, { destinationNamedPort: "signal" }] },
            { action: "Deny", peers: [house("slytherin")], protocols: [{ destinationNamedPort: "dns" }] },
            { action: "Deny", peers: [house("ravenclaw")], protocols: [{ destinationNamedPort: "nobody" }] },
            { action: "Deny", peers: [house("hufflepuff")] },
          ],
        }),
      ],
      allow: [
        ...rows(direction, "hufflepuff", ["80/TCP", "9003/SCTP"]),
        ...rows(direction, "slytherin", ["5353/UDP", "80/TCP", "53/TCP"]),
        ...rows(direction, "ravenclaw", ["80/TCP"]),
      ],
      deny: [...rows(direction, "hufflepuff", ["8080/TCP", "53/UDP", "80/UDP", "ICMP"]), ...rows(direction, "slytherin", ["53/UDP"])],
    },
    {
      name: `${tier}: no peer is a pod on the host's network, ${direction}`,
      clusterPolicies: [clusterPolicy({ tier, [direction]: [{ action: "Deny", peers: [{ namespaces: {} }, { pods: { podSelector: {} } }] }] })],
      allow:
        direction === "egress"
          ? ["gryffindor/0 > n2 80/TCP", "gryffindor/0 > outside 80/TCP"]
          : ["n2 > gryffindor/0 80/TCP", "outside > gryffindor/0 80/TCP v6"],
      deny: HOUSES.filter((name) => name !== "gryffindor").flatMap((name) => rows(direction, name, ["80/TCP"])),
    },
  ]),
  {
    name: `${tier}: pods by labels, the namespaces' selector left out`,
    clusterPolicies: [
      clusterPolicy({
        tier,
        subject: { pods: { podSelector: { matchLabels: { "conformance-house": "gryffindor" } } } },
        egress: [
          { action: "Deny", peers: [{ pods: { podSelector: { matchLabels: { "conformance-house": "ravenclaw" } } } }] },
          { action: "Deny", peers: [pupil("hufflepuff", 0)] },
        ],
        ingress: [
          { action: "Deny", peers: [{ pods: { podSelector: { matchLabels: { "conformance-house": "slytherin" } } } }] },
          { action: "Deny", peers: [pupil("hufflepuff", 0)] },
        ],
      }),
      clusterPolicy({ tier, name: "q", priority: 11, subject: pupil("ravenclaw", 0), egress: [{ action: "Deny", peers: [house("slytherin")] }] }),
    ],
    allow: [
      "gryffindor/0 > hufflepuff/1 80/TCP",
      "hufflepuff/1 > gryffindor/0 80/TCP",
      "slytherin/0 > hufflepuff/0 80/TCP",
      "ravenclaw/1 > slytherin/0 80/TCP",
      "gryffindor/1 > slytherin/1 80/TCP v6",
      "ravenclaw/0 > gryffindor/0 53/UDP",
    ],
    deny: [
      "gryffindor/0 > ravenclaw/0 80/TCP",
      "gryffindor/1 > ravenclaw/1 9003/SCTP v6",
      "gryffindor/0 > hufflepuff/0 80/TCP",
      "slytherin/0 > gryffindor/0 80/TCP",
      "hufflepuff/0 > gryffindor/0 80/TCP",
      "ravenclaw/0 > slytherin/0 80/TCP",
      "ravenclaw/0 > slytherin/1 ICMP v6",
    ],
  },
  {
    name: `${tier}: networks of one address each, before all of both families`,
    clusterPolicies: [
      clusterPolicy({
        tier,
        subject: pupils("gryffindor"),
        egress: [
          { action: "Accept", peers: [{ networks: ["10.66.4.1/32", "fd00:66::4:1/128"] }, { networks: ["10.66.3.1/32", "fd00:66::3:1/128"] }] },
          { action: "Accept", peers: [pupils("slytherin")] },
          { action: "Deny", peers: [EVERYTHING] },
        ],
      }),
    ],
    allow: [
      "gryffindor/0 > ravenclaw/0 80/TCP",
      "gryffindor/0 > ravenclaw/0 80/TCP v6",
      "gryffindor/1 > hufflepuff/0 53/UDP",
      "gryffindor/1 > hufflepuff/0 ICMP v6",
      "gryffindor/0 > slytherin/1 9003/SCTP",
      "gryffindor/0 > slytherin/0 9003/SCTP v6",
      "ravenclaw/1 > gryffindor/0 80/TCP",
      "outside > gryffindor/0 80/TCP",
    ],
    deny: [
      "gryffindor/0 > ravenclaw/1 80/TCP",
      "gryffindor/1 > hufflepuff/1 53/UDP v6",
      "gryffindor/0 > outside 80/TCP",
      "gryffindor/0 > outside ICMP v6",
      "gryffindor/1 > n1 80/TCP",
      "gryffindor/1 > n2 53/UDP v6",
    ],
  },
  {
    name: `${tier}: nodes by their labels`,
    clusterPolicies: [
      clusterPolicy({
        tier,
        subject: pupils("gryffindor"),
        egress: [
          { action: "Accept", peers: [LINUX], protocols: [at("TCP", 80)] },
          { action: "Pass", peers: [LINUX], protocols: [at("UDP", 53)] },
          { action: "Deny", peers: [pupils("slytherin"), LINUX, EVERYTHING] },
        ],
      }),
    ],
    allow: ["gryffindor/1 > n2 80/TCP", "gryffindor/1 > n2 80/TCP v6", "gryffindor/0 > n2 53/UDP", "gryffindor/0 > n2 53/UDP v6"],
    deny: [
      "gryffindor/1 > n2 8080/TCP",
      "gryffindor/1 > n2 5353/UDP v6",
      "gryffindor/0 > n2 9003/SCTP",
      "gryffindor/0 > n1 80/TCP",
      "gryffindor/0 > n1 53/UDP v6",
      "gryffindor/0 > slytherin/0 80/TCP",
      "gryffindor/0 > ravenclaw/0 80/TCP",
      "gryffindor/0 > n2 ICMP",
    ],
  },
]);

const SLYTHERIN_BOTH = (action: ClusterRule["action"]): Pick<PolicyText, "ingress" | "egress"> => ({
  ingress: [{ action, peers: [house("slytherin")] }],
  egress: [{ action, peers: [house("slytherin")] }],
});
const ALLOWING: NaivePolicy = {
  metadata: { namespace: namespaceOf("gryffindor"), name: "from-and-to-slytherin" },
  spec: {
    podSelector: {},
    policyTypes: ["Ingress", "Egress"],
    ingress: [{ from: [{ namespaceSelector: { matchLabels: { "conformance-house": "slytherin" } } }] }],
    egress: [{ to: [{ namespaceSelector: { matchLabels: { "conformance-house": "slytherin" } } }] }],
  },
};
const BASELINE_DENY = clusterPolicy({ tier: "Baseline", name: "default", ...SLYTHERIN_BOTH("Deny") });
const EACH = ["80/TCP", "53/UDP", "9003/SCTP", "ICMP"];
const bothWays = (far: House): string[] => DIRECTIONS.flatMap((direction) => rows(direction, far, EACH));

const TOGETHER: readonly ClusterPolicyCase[] = [
  {
    name: "Admin Deny, a NetworkPolicy that allows, Baseline Deny: Admin decides",
    clusterPolicies: [clusterPolicy({ tier: "Admin", ...SLYTHERIN_BOTH("Deny") }), BASELINE_DENY],
    policies: [ALLOWING],
    allow: [],
    deny: [...bothWays("slytherin"), ...bothWays("ravenclaw")],
  },
  {
    name: "Admin Pass, a NetworkPolicy that allows, Baseline Deny: the NetworkPolicy decides",
    clusterPolicies: [clusterPolicy({ tier: "Admin", ...SLYTHERIN_BOTH("Pass") }), BASELINE_DENY],
    policies: [ALLOWING],
    allow: bothWays("slytherin"),
    deny: bothWays("ravenclaw"),
  },
  {
    name: "Admin Pass, no NetworkPolicy, Baseline Deny: Baseline decides",
    clusterPolicies: [clusterPolicy({ tier: "Admin", ...SLYTHERIN_BOTH("Pass") }), BASELINE_DENY],
    allow: bothWays("ravenclaw"),
    deny: bothWays("slytherin"),
  },
  {
    name: "Admin Pass, no NetworkPolicy, Baseline Pass: allowed",
    clusterPolicies: [clusterPolicy({ tier: "Admin", ...SLYTHERIN_BOTH("Pass") }), clusterPolicy({ tier: "Baseline", name: "b", ...SLYTHERIN_BOTH("Pass") })],
    allow: [...bothWays("slytherin"), ...bothWays("ravenclaw")],
    deny: [],
  },
  {
    name: "Admin Accept before a NetworkPolicy that denies",
    clusterPolicies: [clusterPolicy({ tier: "Admin", ...SLYTHERIN_BOTH("Accept") })],
    policies: [{ metadata: { namespace: namespaceOf("gryffindor"), name: "closed" }, spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] } }],
    allow: bothWays("slytherin"),
    deny: [...bothWays("ravenclaw"), ...bothWays("hufflepuff")],
  },
];

export const CLUSTER_POLICY_SUITE: readonly ClusterPolicyCase[] = [...ORDERED, ...REST, ...TOGETHER];
