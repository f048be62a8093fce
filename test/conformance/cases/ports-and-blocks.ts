/** Cases on ports, protocols and address blocks. */
import { type ConformanceCase, policy } from "./case.ts";

export const PORT_AND_BLOCK_CASES: readonly ConformanceCase[] = [
  {
    name: "a port without protocol is TCP",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] })],
    allow: ["y/a > x/a 80/TCP", "outside > x/a 80/TCP", "y/a > x/a 80/TCP v6"],
    deny: ["y/a > x/a 81/TCP", "y/a > x/a 80/UDP", "y/a > x/a 80/SCTP", "y/a > x/a ICMP", "y/a > x/a 81/TCP v6"],
  },
  {
    name: "UDP port",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{ protocol: "UDP", port: 81 }] }] })],
    allow: ["y/a > x/a 81/UDP", "y/a > x/a 81/UDP v6"],
    deny: ["y/a > x/a 80/UDP", "y/a > x/a 81/TCP", "y/a > x/a 81/SCTP"],
  },
  {
    name: "SCTP port",
    policies: [policy({ podSelector: {}, policyTypes: ["Egress"], egress: [{ ports: [{ protocol: "SCTP", port: 80 }] }] })],
    allow: ["x/a > y/a 80/SCTP", "x/a > y/a 80/SCTP v6"],
    deny: ["x/a > y/a 81/SCTP", "x/a > y/a 80/TCP", "x/a > y/a 80/UDP"],
  },
  {
    name: "protocol without port: all its ports, no other protocol",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{ protocol: "UDP" }] }] })],
    allow: ["y/a > x/a 80/UDP", "y/a > x/a 82/UDP"],
    deny: ["y/a > x/a 80/TCP", "y/a > x/a 80/SCTP", "y/a > x/a ICMP"],
  },
  {
    name: "an empty port is every TCP port",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{}] }] })],
    allow: ["y/a > x/a 80/TCP", "y/a > x/a 82/TCP"],
    deny: ["y/a > x/a 80/UDP", "y/a > x/a ICMP"],
  },
  {
    name: "several ports and protocols in one rule",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{ port: 80 }, { port: 82 }, { protocol: "UDP", port: 81 }] }] })],
    allow: ["y/a > x/a 80/TCP", "y/a > x/a 82/TCP", "y/a > x/a 81/UDP"],
    deny: ["y/a > x/a 81/TCP", "y/a > x/a 80/UDP", "y/a > x/a 82/SCTP"],
  },
  {
    name: "range of ports, both ends in it",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{ port: 80, endPort: 81 }] }] })],
    allow: ["y/a > x/a 80/TCP", "y/a > x/a 81/TCP", "y/a > x/a 81/TCP v6"],
    deny: ["y/a > x/a 82/TCP", "y/a > x/a 80/UDP"],
  },
  {
    name: "range of one port, and a range to the last",
    policies: [
      policy({
        podSelector: {},
        ingress: [
          {
            ports: [
              { port: 81, endPort: 81 },
              { protocol: "UDP", port: 82, endPort: 65535 },
            ],
          },
        ],
      }),
    ],
    allow: ["y/a > x/a 81/TCP", "y/a > x/a 82/UDP"],
    deny: ["y/a > x/a 80/TCP", "y/a > x/a 82/TCP", "y/a > x/a 81/UDP"],
  },
  {
    name: "overlapping ranges are their union",
    policies: [policy({ podSelector: {}, policyTypes: ["Egress"], egress: [{ ports: [{ port: 1, endPort: 80 }, { port: 70, endPort: 81 }, { port: 81 }] }] })],
    allow: ["x/a > y/a 80/TCP", "x/a > y/a 81/TCP"],
    deny: ["x/a > y/a 82/TCP"],
  },
  {
    name: "named port on ingress: the number that the destination gives it",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{ port: "web" }] }] })],
    allow: ["y/a > x/a 80/TCP", "y/a > x/c 81/TCP", "y/a > x/c 81/TCP v6", "outside > x/b 80/TCP"],
    deny: ["y/a > x/a 81/TCP", "y/a > x/c 80/TCP", "y/a > x/a 80/UDP"],
  },
  {
    name: "named port on egress: the number that the peer gives it",
    policies: [
      policy({
        podSelector: {},
        policyTypes: ["Egress"],
        egress: [{ to: [{ namespaceSelector: { matchLabels: { team: "blue" } } }], ports: [{ port: "web" }] }],
      }),
    ],
    allow: ["x/a > y/a 80/TCP", "x/a > y/c 81/TCP", "x/a > y/c 81/TCP v6"],
    deny: ["x/a > y/a 81/TCP", "x/a > y/c 80/TCP", "x/a > z/a 80/TCP", "x/a > outside 80/TCP"],
  },
  {
    name: "named port on egress without peers: any pod that has it",
    policies: [policy({ podSelector: {}, policyTypes: ["Egress"], egress: [{ ports: [{ port: "alt" }] }] })],
    allow: ["x/a > y/a 81/TCP", "x/a > z/c 80/TCP"],
    deny: ["x/a > y/a 80/TCP", "x/a > outside 81/TCP"],
  },
  {
    name: "named ports of UDP and SCTP",
    policies: [
      policy({
        podSelector: {},
        ingress: [
          {
            ports: [
              { protocol: "UDP", port: "web-udp" },
              { protocol: "SCTP", port: "web-sctp" },
            ],
          },
        ],
      }),
    ],
    allow: ["y/a > x/a 80/UDP", "y/a > x/c 81/UDP", "y/a > x/a 80/SCTP"],
    deny: ["y/a > x/a 81/UDP", "y/a > x/a 80/TCP", "y/a > x/c 80/SCTP"],
  },
  {
    name: "a name with another protocol, or that nobody has, matches nothing",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{ protocol: "UDP", port: "web" }, { port: "nobody" }] }] })],
    allow: [],
    deny: ["y/a > x/a 80/UDP", "y/a > x/a 80/TCP", "y/a > x/c 81/TCP"],
  },
  {
    name: "name and number in one rule: either",
    policies: [policy({ podSelector: {}, ingress: [{ ports: [{ port: "web" }, { port: 82 }] }] })],
    allow: ["y/a > x/a 80/TCP", "y/a > x/a 82/TCP", "y/a > x/c 81/TCP", "y/a > x/c 82/TCP"],
    deny: ["y/a > x/a 81/TCP", "y/a > x/c 80/TCP"],
  },
  {
    name: "peers and ports of one rule both have to hold, rules are alternatives",
    policies: [
      policy({
        podSelector: { matchLabels: { pod: "a" } },
        ingress: [
          { from: [{ podSelector: { matchLabels: { pod: "b" } } }], ports: [{ port: 80 }] },
          { from: [{ namespaceSelector: { matchLabels: { team: "blue" } } }], ports: [{ port: 81 }] },
        ],
      }),
    ],
    allow: ["x/b > x/a 80/TCP", "y/b > x/a 81/TCP"],
    deny: ["x/b > x/a 81/TCP", "y/b > x/a 80/TCP", "x/c > x/a 80/TCP"],
  },
  {
    name: "ipBlock of an address outside, on ingress and egress",
    policies: [
      policy({
        podSelector: {},
        policyTypes: ["Ingress", "Egress"],
        ingress: [{ from: [{ ipBlock: { cidr: "172.31.0.0/24" } }] }],
        egress: [{ to: [{ ipBlock: { cidr: "172.31.0.1/32" } }] }],
      }),
    ],
    allow: ["outside > x/a 80/TCP", "x/a > outside 80/TCP", "outside > x/a ICMP"],
    deny: ["y/a > x/a 80/TCP", "x/a > y/a 80/TCP", "outside > x/a 80/TCP v6", "x/a > outside 80/TCP v6"],
  },
  {
    name: "ipBlock of all IPv4 says nothing of IPv6",
    policies: [policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "0.0.0.0/0" } }] }] })],
    allow: ["outside > x/a 80/TCP", "y/a > x/a 80/TCP"],
    deny: ["outside > x/a 80/TCP v6", "y/a > x/a 80/TCP v6"],
  },
  {
    name: "ipBlock of all IPv6 says nothing of IPv4",
    policies: [policy({ podSelector: {}, policyTypes: ["Egress"], egress: [{ to: [{ ipBlock: { cidr: "::/0" } }] }] })],
    allow: ["x/a > outside 80/TCP v6", "x/a > y/a 80/TCP v6"],
    deny: ["x/a > outside 80/TCP", "x/a > y/a 80/TCP"],
  },
  {
    name: "both families as two blocks",
    policies: [policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "0.0.0.0/0" } }, { ipBlock: { cidr: "::/0" } }] }] })],
    allow: ["outside > x/a 80/TCP", "outside > x/a 80/TCP v6", "y/a > x/a 81/UDP v6"],
    deny: [],
  },
  {
    name: "except takes addresses out",
    policies: [policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "10.65.0.0/16", except: ["10.65.2.0/24"] } }] }] })],
    allow: ["z/a > x/a 80/TCP", "x/b > x/a 80/TCP"],
    deny: ["y/a > x/a 80/TCP", "outside > x/a 80/TCP"],
  },
  {
    name: "several excepts, down to one address",
    policies: [
      policy({ podSelector: {}, policyTypes: ["Egress"], egress: [{ to: [{ ipBlock: { cidr: "10.65.0.0/16", except: ["10.65.2.1/32", "10.65.3.2/31"] } }] }] }),
    ],
    allow: ["x/a > y/b 80/TCP", "x/a > z/a 80/TCP"],
    deny: ["x/a > y/a 80/TCP", "x/a > z/b 80/TCP", "x/a > z/c 80/TCP"],
  },
  {
    name: "overlapping excepts",
    policies: [
      policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["10.65.2.0/24", "10.65.2.0/30", "10.65.0.0/16"] } }] }] }),
    ],
    allow: [],
    deny: ["y/a > x/a 80/TCP", "z/a > x/a 80/TCP", "outside > x/a 80/TCP"],
  },
  {
    name: "what one block takes out another may allow",
    policies: [
      policy({
        podSelector: {},
        ingress: [{ from: [{ ipBlock: { cidr: "10.65.0.0/16", except: ["10.65.2.0/24"] } }, { ipBlock: { cidr: "10.65.2.2/32" } }] }],
      }),
    ],
    allow: ["z/a > x/a 80/TCP", "y/b > x/a 80/TCP"],
    deny: ["y/a > x/a 80/TCP", "y/c > x/a 80/TCP"],
  },
  {
    name: "except of IPv6",
    policies: [policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "fd00::/16", except: ["fd00:65::2:0/112"] } }] }] })],
    allow: ["z/a > x/a 80/TCP v6", "outside > x/a 80/TCP v6"],
    deny: ["y/a > x/a 80/TCP v6", "z/a > x/a 80/TCP"],
  },
  {
    name: "host bits in a block are not looked at",
    policies: [policy({ podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: "10.65.2.77/24" } }] }] })],
    allow: ["y/a > x/a 80/TCP", "y/c > x/a 80/TCP"],
    deny: ["z/a > x/a 80/TCP"],
  },
  {
    name: "block and ports",
    policies: [
      policy({
        podSelector: {},
        policyTypes: ["Egress"],
        egress: [{ to: [{ ipBlock: { cidr: "172.16.0.0/12" } }], ports: [{ port: 80 }, { protocol: "UDP", port: 80, endPort: 82 }] }],
      }),
    ],
    allow: ["x/a > outside 80/TCP", "x/a > outside 81/UDP"],
    deny: ["x/a > outside 81/TCP", "x/a > outside 80/SCTP", "x/a > y/a 80/TCP", "x/a > outside ICMP"],
  },
  {
    name: "block, pods and namespaces as peers of one rule",
    policies: [
      policy({
        podSelector: {},
        ingress: [
          {
            from: [
              { ipBlock: { cidr: "172.31.0.1/32" } },
              { podSelector: { matchLabels: { pod: "c" } } },
              { namespaceSelector: { matchLabels: { stage: "test" } } },
            ],
            ports: [{ port: 82 }],
          },
        ],
      }),
    ],
    allow: ["outside > x/a 82/TCP", "x/c > x/a 82/TCP", "y/b > x/a 82/TCP"],
    deny: ["z/c > x/a 82/TCP", "outside > x/a 80/TCP", "x/b > x/a 82/TCP"],
  },
];
