/** Cases on who is isolated and who is a peer: pod selectors, namespace selectors, both, expressions, policy types. */
import { type ConformanceCase, policy } from "./case.ts";

export const SELECTOR_CASES: readonly ConformanceCase[] = [
  {
    name: "no policy: everything passes",
    policies: [],
    allow: [
      "x/a > y/b 80/TCP",
      "x/a > y/b 80/UDP",
      "y/c > x/a 81/SCTP",
      "outside > x/a 80/TCP",
      "x/a > outside 80/TCP",
      "x/a > y/b ICMP",
      "x/a > y/b 80/TCP v6",
    ],
    deny: [],
  },
  {
    name: "empty podSelector, no rules: no ingress to the namespace, egress as before",
    policies: [policy({ podSelector: {} })],
    allow: ["x/a > y/a 80/TCP", "y/a > z/a 80/TCP", "x/a > outside 80/UDP"],
    deny: ["x/b > x/a 80/TCP", "y/a > x/a 80/TCP", "outside > x/b 81/UDP", "y/a > x/c ICMP", "y/a > x/a 80/TCP v6"],
  },
  {
    name: "policyTypes Egress without rules: no egress, ingress as before",
    policies: [policy({ podSelector: {}, policyTypes: ["Egress"] })],
    allow: ["y/a > x/a 80/TCP", "outside > x/a 80/TCP", "y/a > z/a 80/UDP"],
    deny: ["x/a > y/a 80/TCP", "x/a > x/b 80/SCTP", "x/a > outside 80/TCP", "x/b > y/b ICMP", "x/a > y/a 80/TCP v6"],
  },
  {
    name: "both types without rules: neither",
    policies: [policy({ podSelector: { matchLabels: { pod: "a" } }, policyTypes: ["Ingress", "Egress"] })],
    allow: ["x/b > y/b 80/TCP", "y/b > x/c 80/TCP"],
    deny: ["x/a > y/a 80/TCP", "y/a > x/a 80/TCP", "x/b > x/a 80/TCP", "x/a > x/b 80/TCP"],
  },
  {
    name: "ingress rules under policyTypes Egress are not looked at",
    policies: [policy({ podSelector: {}, policyTypes: ["Egress"], ingress: [{ from: [{ podSelector: { matchLabels: { pod: "zzz" } } }] }], egress: [{}] })],
    allow: ["y/a > x/a 80/TCP", "x/a > y/a 80/TCP"],
    deny: [],
  },
  {
    name: "egress rules without policyTypes isolate both ways",
    policies: [policy({ podSelector: { matchLabels: { pod: "a" } }, egress: [{ to: [{ podSelector: {} }] }] })],
    allow: ["x/a > x/b 80/TCP", "y/a > x/b 80/TCP"],
    deny: ["x/a > y/a 80/TCP", "x/b > x/a 80/TCP"],
  },
  {
    name: "egress rules under policyTypes Ingress are not looked at",
    policies: [policy({ podSelector: {}, policyTypes: ["Ingress"], egress: [{ to: [{ podSelector: {} }] }] })],
    allow: ["x/a > y/a 80/TCP", "x/a > outside 80/TCP"],
    deny: ["y/a > x/a 80/TCP", "x/b > x/a 80/TCP"],
  },
  {
    name: "one empty rule allows everything",
    policies: [policy({ podSelector: {}, policyTypes: ["Ingress", "Egress"], ingress: [{}], egress: [{}] })],
    allow: ["y/a > x/a 80/TCP", "outside > x/a 80/SCTP", "x/a > outside 80/UDP", "y/a > x/a ICMP", "x/a > y/a 80/TCP v6"],
    deny: [],
  },
  {
    name: "empty lists of peers and ports are no limits",
    policies: [policy({ podSelector: {}, ingress: [{ from: [], ports: [] }] })],
    allow: ["y/a > x/a 80/TCP", "outside > x/b 81/UDP"],
    deny: [],
  },
  {
    name: "podSelector selects by label in its own namespace only",
    policies: [policy({ podSelector: { matchLabels: { pod: "a" } } })],
    allow: ["y/b > x/b 80/TCP", "x/b > y/a 80/TCP"],
    deny: ["x/b > x/a 80/TCP", "y/a > x/a 80/TCP"],
  },
  {
    name: "peer podSelector: pods of the policy's namespace, not their namesakes",
    policies: [policy({ podSelector: { matchLabels: { pod: "a" } }, ingress: [{ from: [{ podSelector: { matchLabels: { pod: "b" } } }] }] })],
    allow: ["x/b > x/a 80/TCP", "x/b > x/a 81/UDP", "x/b > x/a ICMP", "x/b > x/a 80/TCP v6"],
    deny: ["y/b > x/a 80/TCP", "x/c > x/a 80/TCP", "outside > x/a 80/TCP", "y/b > x/a 80/TCP v6"],
  },
  {
    name: "peer podSelector {}: all pods of the namespace, nobody from outside",
    policies: [policy({ podSelector: {}, ingress: [{ from: [{ podSelector: {} }] }] })],
    allow: ["x/b > x/a 80/TCP", "x/c > x/b 80/SCTP"],
    deny: ["y/b > x/a 80/TCP", "outside > x/a 80/TCP"],
  },
  {
    name: "peer namespaceSelector by name",
    policies: [policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "y" } } }] }] })],
    allow: ["y/a > x/a 80/TCP", "y/c > x/b 80/UDP"],
    deny: ["x/b > x/a 80/TCP", "z/a > x/a 80/TCP", "outside > x/a 80/TCP"],
  },
  {
    name: "peer namespaceSelector {}: every pod, no address outside",
    policies: [
      policy({
        podSelector: {},
        policyTypes: ["Ingress", "Egress"],
        ingress: [{ from: [{ namespaceSelector: {} }] }],
        egress: [{ to: [{ namespaceSelector: {} }] }],
      }),
    ],
    allow: ["y/a > x/a 80/TCP", "x/b > x/a 80/TCP", "x/a > z/c 80/TCP", "x/a > y/b ICMP", "x/a > y/b 80/TCP v6"],
    deny: ["outside > x/a 80/TCP", "x/a > outside 80/TCP", "x/a > outside 80/TCP v6"],
  },
  {
    name: "both selectors in one peer: both must hold",
    policies: [
      policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: "blue" } }, podSelector: { matchLabels: { pod: "b" } } }] }] }),
    ],
    allow: ["y/b > x/a 80/TCP"],
    deny: ["y/a > x/a 80/TCP", "x/b > x/a 80/TCP", "z/b > x/a 80/TCP"],
  },
  {
    name: "both selectors as two peers: one suffices",
    policies: [
      policy({
        podSelector: {},
        ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: "blue" } } }, { podSelector: { matchLabels: { pod: "b" } } }] }],
      }),
    ],
    allow: ["y/b > x/a 80/TCP", "y/a > x/a 80/TCP", "x/b > x/a 80/TCP"],
    deny: ["z/b > x/a 80/TCP", "x/c > x/a 80/TCP"],
  },
  {
    name: "namespaceSelector {} with podSelector: such pods everywhere",
    policies: [policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchLabels: { tier: "front" } } }] }] })],
    allow: ["y/a > x/b 80/TCP", "z/a > x/b 80/TCP", "x/a > x/b 80/TCP"],
    deny: ["y/b > x/b 80/TCP", "y/c > x/b 80/TCP"],
  },
  {
    name: "In",
    policies: [policy({ podSelector: { matchExpressions: [{ key: "pod", operator: "In", values: ["a", "b"] }] } })],
    allow: ["y/a > x/c 80/TCP"],
    deny: ["y/a > x/a 80/TCP", "y/a > x/b 80/TCP"],
  },
  {
    name: "NotIn holds where the label is missing",
    policies: [policy({ podSelector: { matchExpressions: [{ key: "tier", operator: "NotIn", values: ["front"] }] } })],
    allow: ["y/a > x/a 80/TCP"],
    deny: ["y/a > x/b 80/TCP", "y/a > x/c 80/TCP"],
  },
  {
    name: "Exists and DoesNotExist",
    policies: [
      policy({
        podSelector: { matchExpressions: [{ key: "tier", operator: "Exists" }] },
        ingress: [{ from: [{ podSelector: { matchExpressions: [{ key: "tier", operator: "DoesNotExist" }] } }] }],
      }),
    ],
    allow: ["y/a > x/c 80/TCP", "x/c > x/a 80/TCP"],
    deny: ["y/c > x/a 80/TCP", "x/b > x/a 80/TCP"],
  },
  {
    name: "labels and expressions all have to hold",
    policies: [
      policy({ podSelector: { matchLabels: { tier: "front" }, matchExpressions: [{ key: "pod", operator: "NotIn", values: ["a"] }] } }),
      policy({ podSelector: { matchLabels: { tier: "back" }, matchExpressions: [{ key: "pod", operator: "In", values: ["b", "c"] }] } }, { name: "q" }),
    ],
    allow: ["y/a > x/a 80/TCP", "y/a > x/c 80/TCP"],
    deny: ["y/a > x/b 80/TCP"],
  },
  {
    name: "namespace NotIn: also namespaces without the label, never addresses outside",
    policies: [
      policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector: { matchExpressions: [{ key: "team", operator: "NotIn", values: ["blue"] }] } }] }] }),
    ],
    allow: ["z/a > x/a 80/TCP", "x/b > x/a 80/TCP"],
    deny: ["y/a > x/a 80/TCP", "outside > x/a 80/TCP"],
  },
  {
    name: "namespace DoesNotExist",
    policies: [
      policy({
        podSelector: {},
        policyTypes: ["Egress"],
        egress: [{ to: [{ namespaceSelector: { matchExpressions: [{ key: "team", operator: "DoesNotExist" }] } }] }],
      }),
    ],
    allow: ["x/a > z/a 80/TCP"],
    deny: ["x/a > y/a 80/TCP", "x/a > x/b 80/TCP", "x/a > outside 80/TCP"],
  },
  {
    name: "namespace Exists and In together",
    policies: [
      policy({
        podSelector: {},
        ingress: [
          {
            from: [
              {
                namespaceSelector: {
                  matchExpressions: [
                    { key: "team", operator: "Exists" },
                    { key: "stage", operator: "In", values: ["test", "dev"] },
                  ],
                },
              },
            ],
          },
        ],
      }),
    ],
    allow: ["y/a > x/a 80/TCP"],
    deny: ["x/b > x/a 80/TCP", "z/a > x/a 80/TCP"],
  },
  {
    name: "rules of several policies add up",
    policies: [
      policy({ podSelector: {} }, { name: "closed" }),
      policy({ podSelector: { matchLabels: { pod: "a" } }, ingress: [{ from: [{ podSelector: { matchLabels: { pod: "b" } } }] }] }, { name: "from-b" }),
      policy(
        { podSelector: { matchLabels: { pod: "a" } }, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: "blue" } } }], ports: [{ port: 81 }] }] },
        { name: "from-blue" },
      ),
    ],
    allow: ["x/b > x/a 80/TCP", "y/c > x/a 81/TCP"],
    deny: ["x/c > x/a 80/TCP", "y/c > x/a 80/TCP", "x/b > x/c 80/TCP"],
  },
  {
    name: "egress of one end and ingress of the other both have to allow",
    policies: [
      policy({
        podSelector: { matchLabels: { pod: "a" } },
        policyTypes: ["Egress"],
        egress: [{ to: [{ namespaceSelector: { matchLabels: { team: "blue" } } }] }],
      }),
      policy(
        { podSelector: { matchLabels: { pod: "b" } }, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: "red" } } }] }] },
        { namespace: "y" },
      ),
      policy({ podSelector: { matchLabels: { pod: "c" } }, ingress: [] }, { namespace: "y", name: "q" }),
    ],
    allow: ["x/a > y/b 80/TCP", "x/a > y/a 80/TCP", "x/b > y/b 80/TCP"],
    deny: ["x/a > y/c 80/TCP", "x/a > z/a 80/TCP", "z/a > y/b 80/TCP"],
  },
];
