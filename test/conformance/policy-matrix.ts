/**
 * NetworkPolicies by table: each direction with each kind of peer and each kind of port, each policyTypes with each presence of rules, and pairs of
 * policies, in the manner of Cyclonus (github.com/mattfenwick/cyclonus). Expected verdicts are computed, by two evaluators.
 */
import type { PacketProbe } from "../kernel/packets.ts";
import { policy } from "./cases/case.ts";
import { LISTENING_PORTS, OUTSIDE, PODS } from "./cases/world.ts";
import type { NaivePeer, NaivePolicy, NaivePort, NaiveSelector } from "./naive-network-policy.ts";

export interface MatrixCase {
  readonly name: string;
  readonly policies: readonly NaivePolicy[];
}

const own = { v4: PODS[0]?.v4 ?? "", v6: PODS[0]?.v6 ?? "" };
const RED: NaiveSelector = { matchLabels: { team: "red" } };
const BLUE: NaiveSelector = { matchLabels: { team: "blue" } };

const PEERS: Readonly<Record<string, readonly NaivePeer[] | undefined>> = {
  "no list": undefined,
  "empty list": [],
  "pods, all": [{ podSelector: {} }],
  "pods by label": [{ podSelector: { matchLabels: { pod: "b" } } }],
  "pods by expression": [{ podSelector: { matchExpressions: [{ key: "tier", operator: "In", values: ["front", "back"] }] } }],
  "pods that lack a label": [{ podSelector: { matchExpressions: [{ key: "tier", operator: "DoesNotExist" }] } }],
  "namespaces, all": [{ namespaceSelector: {} }],
  "namespaces by label": [{ namespaceSelector: BLUE }],
  "namespaces by exclusion": [{ namespaceSelector: { matchExpressions: [{ key: "team", operator: "NotIn", values: ["blue"] }] } }],
  "namespace by name": [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "z" } } }],
  "pods of namespaces": [{ namespaceSelector: BLUE, podSelector: { matchLabels: { pod: "a" } } }],
  "block of all": [{ ipBlock: { cidr: "0.0.0.0/0" } }, { ipBlock: { cidr: "::/0" } }],
  "block without pods": [{ ipBlock: { cidr: "0.0.0.0/0", except: ["10.65.0.0/16"] } }],
  "block with a hole": [
    { ipBlock: { cidr: "10.65.0.0/16", except: ["10.65.2.0/24", `${own.v4}/32`] } },
    { ipBlock: { cidr: "fd00:65::/64", except: ["fd00:65::2:0/112"] } },
  ],
  "block of one": [{ ipBlock: { cidr: `${OUTSIDE.v4}/32` } }, { ipBlock: { cidr: `${OUTSIDE.v6}/128` } }],
  several: [
    { podSelector: { matchLabels: { pod: "c" } } },
    { namespaceSelector: RED, podSelector: { matchLabels: { pod: "b" } } },
    { ipBlock: { cidr: "fd00:31::/32" } },
  ],
};

const PORTS: Readonly<Record<string, readonly NaivePort[] | undefined>> = {
  "no list": undefined,
  "empty list": [],
  "any TCP": [{}],
  "any UDP": [{ protocol: "UDP" }],
  "any SCTP": [{ protocol: "SCTP" }],
  "80": [{ port: 80 }],
  "81/UDP": [{ protocol: "UDP", port: 81 }],
  "80/SCTP": [{ protocol: "SCTP", port: 80 }],
  "a name": [{ port: "web" }],
  names: [
    { protocol: "UDP", port: "web-udp" },
    { protocol: "SCTP", port: "web-sctp" },
  ],
  "nobody's name": [{ port: "nobody" }],
  "a range": [{ port: 80, endPort: 81 }],
  ranges: [
    { protocol: "UDP", port: 1, endPort: 80 },
    { protocol: "SCTP", port: 81, endPort: 65535 },
  ],
  "name and numbers": [{ port: "alt" }, { port: 82 }, { protocol: "UDP", port: 80 }],
};

/** The pods that policies apply to, with peers of every kind. */
const SUBJECTS = ["x/a", "x/c"];
const PLACES = ["x/b", "y/a", "y/b", "z/c", "outside", "n1", "n2"];

export function policyMatrix(): MatrixCase[] {
  return [...peersAndPorts(), ...typesAndRules(), ...pairs()];
}

/** To and from the subjects, every protocol, port and family. */
export function matrixProbes(): PacketProbe[] {
  const among = SUBJECTS.flatMap((subject) => SUBJECTS.filter((other) => other !== subject).map((other) => [subject, other] as const));
  const ways = [...among, ...SUBJECTS.flatMap((subject) => PLACES.flatMap((place) => [[subject, place] as const, [place, subject] as const]))];
  return ways.flatMap(([from, to]) =>
    ([4, 6] as const).flatMap((version) => [
      ...(["TCP", "UDP", "SCTP"] as const).flatMap((protocol) => LISTENING_PORTS.map((port): PacketProbe => ({ from, to, version, protocol, port }))),
      { from, to, version, protocol: "ICMP" as const, port: 0 },
    ]),
  );
}

function peersAndPorts(): MatrixCase[] {
  return (["ingress", "egress"] as const).flatMap((direction) =>
    Object.entries(PEERS).flatMap(([peerName, peers]) =>
      Object.entries(PORTS).map(([portName, ports]) => {
        const list = direction === "ingress" ? "from" : "to";
        const rule = { ...(peers === undefined ? {} : { [list]: peers }), ...(ports === undefined ? {} : { ports }) };
        const types = direction === "ingress" ? ["Ingress"] : ["Egress"];
        return {
          name: `${direction}, peers: ${peerName}, ports: ${portName}`,
          policies: [policy({ podSelector: {}, policyTypes: types, [direction]: [rule] })],
        };
      }),
    ),
  );
}

function typesAndRules(): MatrixCase[] {
  const types = [undefined, [], ["Ingress"], ["Egress"], ["Ingress", "Egress"]];
  const rules = { absent: undefined, none: [], open: [{}], "80": [{ ports: [{ port: 80 }] }] } as const;
  return types.flatMap((policyTypes) =>
    Object.entries(rules).flatMap(([ingressName, ingress]) =>
      Object.entries(rules).map(([egressName, egress]) => ({
        name: `policyTypes ${policyTypes?.join("+") ?? "absent"}, ingress ${ingressName}, egress ${egressName}`,
        policies: [
          policy({
            podSelector: { matchLabels: { pod: "a" } },
            ...(policyTypes === undefined ? {} : { policyTypes }),
            ...(ingress === undefined ? {} : { ingress }),
            ...(egress === undefined ? {} : { egress }),
          }),
        ],
      })),
    ),
  );
}

/** Two policies on the same pods: what either allows passes; and egress of one against ingress of the other. */
function pairs(): MatrixCase[] {
  const chosen = ["pods, all", "namespaces by label", "block with a hole", "several"];
  return chosen.flatMap((first) =>
    chosen.map((second) => ({
      name: `two policies, ${first} on 80, ${second} on 81 and egress to ${first}`,
      policies: [
        policy({ podSelector: {}, ingress: [{ from: PEERS[first] ?? [], ports: [{ port: 80 }, { protocol: "UDP", port: 80 }] }] }, { name: "one" }),
        policy(
          {
            podSelector: { matchExpressions: [{ key: "pod", operator: "NotIn", values: ["b"] }] },
            policyTypes: ["Ingress", "Egress"],
            ingress: [{ from: PEERS[second] ?? [], ports: [{ port: 81 }, { protocol: "SCTP", port: 81 }] }],
            egress: [{ to: PEERS[first] ?? [] }],
          },
          { name: "two" },
        ),
        policy({ podSelector: {}, policyTypes: ["Ingress"], ingress: [{ from: PEERS[second] ?? [] }] }, { namespace: "y", name: "three" }),
      ],
    })),
  );
}
