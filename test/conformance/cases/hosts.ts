/**
 * Host endpoints on the cases' world, for packets: the first node's own traffic, what it forwards, what comes before NAT and before connection tracking.
 *
 * Each has a policy that lets pings of the node pass, because packets are known to be lost by echoes between the hosts. The node's own pods are x/a, y/a, z/a.
 */
import type { ObjectCase } from "./calico.ts";
import { calicoObject } from "./calico-validation.ts";
import { CASE_PLACES, type CasePlace } from "./case.ts";

export const HOST_PLACES: ReadonlyMap<string, CasePlace> = new Map<string, CasePlace>([
  ...CASE_PLACES,
  ["n1", { v4: "172.30.90.11", v6: "fd30:90::11" }],
  ["n2", { v4: "172.30.90.12", v6: "fd30:90::12" }],
]);

type Spec = Readonly<Record<string, unknown>>;

const host = (name: string, spec: Spec): unknown => ({
  apiVersion: "projectcalico.org/v3",
  kind: "HostEndpoint",
  metadata: { name, labels: { role: "node" } },
  spec: { node: "n1", ...spec },
});
const policy = (name: string, spec: Spec): unknown => calicoObject("GlobalNetworkPolicy", { selector: "role == 'node'", ...spec }, { name });
const allow = (rule: Spec = {}): Spec => ({ action: "Allow", ...rule });
const deny = (rule: Spec = {}): Spec => ({ action: "Deny", ...rule });
const tcp = (...ports: number[]): Spec => ({ protocol: "TCP", destination: { ports } });
const udp = (...ports: number[]): Spec => ({ protocol: "UDP", destination: { ports } });

const ETH0 = host("n1-eth0", { interfaceName: "eth0" });
const ALL = host("n1-all", { interfaceName: "*" });
const PINGS = [allow({ protocol: "ICMP" }), allow({ protocol: "ICMPv6" })];
const ECHOES = policy("echoes", { order: -1000, ingress: PINGS, egress: PINGS });
const OPEN = policy("open", { order: 1000, ingress: [allow()], egress: [allow()] });

/** Closed: whatever is not for the node itself goes on as before. */
const CLOSED: Pick<ObjectCase, "allow" | "deny"> = {
  allow: [
    "n1 > x/a 80/TCP",
    "n1 > z/a 82/UDP v6",
    "x/a > n1 80/TCP",
    "x/a > n1 80/UDP v6",
    "outside > x/a 80/TCP",
    "x/a > outside 81/UDP v6",
    "x/b > y/a 80/SCTP",
    "outside > n1 ICMP",
    "n1 > outside ICMP v6",
    "outside > n2 80/TCP",
  ],
  deny: ["outside > n1 80/TCP", "outside > n1 80/UDP v6", "outside > n1 81/SCTP", "n2 > n1 80/TCP", "x/b > n1 80/TCP", "x/b > n1 80/UDP v6"],
};

export const HOST_CASES: readonly ObjectCase[] = [
  { name: "one interface, no rule but for pings: closed", objects: [ETH0, ECHOES], ...CLOSED },
  { name: "every interface, no rule but for pings: closed", objects: [ALL, ECHOES], ...CLOSED },
  {
    name: "the interface by its address",
    objects: [host("n1-address", { interfaceName: "eth0", expectedIPs: ["172.30.90.11", "fd30:90::11"] }), ECHOES],
    ...CLOSED,
  },
  {
    name: "rules of both directions, sets and pods as peers",
    objects: [
      ETH0,
      ECHOES,
      {
        apiVersion: "projectcalico.org/v3",
        kind: "GlobalNetworkSet",
        metadata: { name: "office", labels: { role: "office" } },
        spec: { nets: ["172.31.0.0/16"] },
      },
      policy("p", {
        ingress: [allow({ ...tcp(80), source: { selector: "role == 'office'" } }), allow({ ...udp(81), source: { selector: "pod == 'b'" } })],
        egress: [],
      }),
    ],
    allow: ["outside > n1 80/TCP", "x/b > n1 81/UDP", "z/b > n1 81/UDP v6", "n1 > x/a 80/TCP"],
    deny: ["outside > n1 80/TCP v6", "outside > n1 81/TCP", "x/b > n1 80/TCP", "x/c > n1 81/UDP", "outside > n1 81/UDP"],
  },
  {
    name: "a profile allows what no policy decides",
    objects: [host("n1-eth0", { interfaceName: "eth0", profiles: ["projectcalico-default-allow"] })],
    allow: ["outside > n1 80/TCP", "n1 > outside 80/UDP v6", "x/b > n1 81/SCTP"],
    deny: [],
  },
  {
    name: "a policy without applyOnForward says nothing about what is forwarded",
    objects: [ETH0, ECHOES, policy("p", { ingress: [deny()], egress: [deny()] })],
    allow: ["outside > x/a 80/TCP", "x/a > outside 80/TCP v6", "x/b > y/a 80/UDP"],
    deny: ["outside > n1 80/TCP"],
  },
  {
    name: "applyOnForward: by the interface that it came in by, and leaves by",
    objects: [ETH0, ECHOES, policy("p", { applyOnForward: true, ingress: [deny(tcp(81)), allow()], egress: [deny(udp(82)), allow()] })],
    allow: ["outside > x/a 80/TCP", "x/a > outside 81/TCP", "x/a > outside 80/UDP v6", "x/b > y/a 82/UDP", "outside > n1 80/TCP", "x/a > y/a 81/TCP"],
    deny: ["outside > x/a 81/TCP", "x/b > y/a 81/TCP v6", "x/a > outside 82/UDP", "y/a > x/b 82/UDP v6", "outside > n1 81/TCP"],
  },
  {
    name: "applyOnForward: what no rule decides is denied, in the directions that it has",
    objects: [ETH0, ECHOES, policy("p", { applyOnForward: true, ingress: [allow(tcp(80))] })],
    allow: ["outside > x/a 80/TCP", "outside > n1 80/TCP v6", "x/a > outside 81/TCP", "x/a > x/b 81/UDP v6"],
    deny: ["outside > x/a 81/TCP", "x/b > y/a 80/UDP", "outside > n1 81/TCP"],
  },
  {
    name: "preDNAT: what comes in, for the node and for what is behind it; the rest as before",
    objects: [
      ETH0,
      ECHOES,
      OPEN,
      policy("p", { order: 1, applyOnForward: true, preDNAT: true, ingress: [deny(udp(81)), deny({ ...tcp(82), source: { selector: "pod == 'b'" } })] }),
    ],
    allow: ["outside > n1 80/UDP", "outside > x/a 80/UDP v6", "x/a > outside 81/UDP", "outside > n1 82/TCP", "x/c > y/a 82/TCP v6"],
    deny: ["outside > n1 81/UDP", "outside > x/a 81/UDP v6", "x/b > y/a 82/TCP", "x/b > n1 82/TCP v6"],
  },
  {
    name: "doNotTrack: denied before it is tracked, for the node and for what is behind it",
    objects: [ETH0, ECHOES, OPEN, policy("p", { order: 1, applyOnForward: true, doNotTrack: true, ingress: [deny(tcp(82))], egress: [deny(udp(82))] })],
    allow: ["outside > n1 80/TCP", "outside > x/a 81/TCP v6", "x/a > outside 82/TCP", "n1 > outside 81/UDP"],
    deny: ["outside > n1 82/TCP", "outside > x/a 82/TCP v6", "x/b > n1 82/TCP"],
  },
  {
    name: "doNotTrack: allowed both ways by rules of its own, with everything else closed",
    objects: [
      ETH0,
      ECHOES,
      policy("p", {
        order: 1,
        applyOnForward: true,
        doNotTrack: true,
        ingress: [allow(udp(80)), allow(tcp(80))],
        egress: [allow({ protocol: "UDP", source: { ports: [80] } }), allow({ protocol: "TCP", source: { ports: [80] } })],
      }),
    ],
    allow: ["outside > n1 80/UDP", "outside > n1 80/UDP v6", "outside > n1 80/TCP", "x/b > n1 80/TCP v6"],
    deny: ["outside > n1 81/UDP", "outside > n1 81/TCP v6"],
  },
  {
    name: "a tier before the others, for the node and for pods alike",
    objects: [
      ETH0,
      ECHOES,
      OPEN,
      calicoObject("Tier", { order: 1 }, { name: "first" }),
      policy("first.a", { tier: "first", order: 1, selector: "role == 'node' || pod == 'a'", ingress: [...PINGS, deny(tcp(81)), { action: "Pass" }] }),
    ],
    allow: ["outside > n1 80/TCP", "outside > x/a 80/TCP", "outside > x/b 81/TCP"],
    deny: ["outside > n1 81/TCP", "outside > x/a 81/TCP v6", "x/b > y/a 81/TCP"],
  },
  {
    name: "a host endpoint as peer of a pod's policy: by its addresses",
    objects: [
      host("n1-address", { interfaceName: "eth0", expectedIPs: ["172.30.90.11", "fd30:90::11"], profiles: ["projectcalico-default-allow"] }),
      policy("p", { selector: "pod == 'b'", ingress: [allow({ source: { selector: "role == 'node'" } })] }),
    ],
    allow: ["n1 > x/b 80/TCP", "n1 > z/b 80/UDP v6", "n2 > x/b 80/TCP", "n1 > x/c 80/TCP"],
    deny: ["outside > x/b 80/TCP", "x/a > x/b 80/TCP", "x/c > z/b ICMP v6"],
  },
  {
    name: "a policy for all() is for host endpoints too",
    objects: [ETH0, ECHOES, policy("p", { selector: "all()", order: 1, ingress: [allow(tcp(80))] })],
    allow: ["outside > n1 80/TCP", "outside > x/a 80/TCP", "x/a > outside 81/TCP"],
    deny: ["outside > n1 81/TCP", "outside > x/a 81/TCP v6", "x/b > x/c 80/UDP"],
  },
  {
    name: "a policy for what is in namespaces leaves host endpoints out",
    objects: [ETH0, ECHOES, OPEN, policy("p", { selector: "", namespaceSelector: "all()", order: 1, ingress: [deny()] })],
    allow: ["outside > n1 80/TCP", "x/b > n1 81/UDP v6", "n1 > x/a 80/TCP"],
    deny: ["outside > x/a 80/TCP", "x/a > y/a 80/TCP"],
  },
  {
    name: "a policy for what is in no namespace is for host endpoints alone",
    objects: [ETH0, ECHOES, policy("p", { selector: "", namespaceSelector: "global()", order: 1, ingress: [allow(tcp(80))] })],
    allow: ["outside > n1 80/TCP", "outside > x/a 81/TCP", "x/b > y/a 80/UDP v6"],
    deny: ["outside > n1 81/TCP", "x/b > n1 80/UDP"],
  },
];
