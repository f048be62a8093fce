/** The whole way from manifests to verdicts, against an evaluator that knows nothing of records, on worlds made at random. */
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { evaluate } from "../../src/ctl/policy-evaluate.ts";
import { ipVersion, parseIp } from "../../src/net/ip.ts";
import {
  isAllowed,
  type NaivePeer,
  type NaivePod,
  type NaivePolicy,
  type NaivePort,
  type NaiveRule,
  type NaiveSelector,
  type NaiveWorld,
} from "./naive-network-policy.ts";

const NAMESPACES = ["alpha", "beta", "gamma"] as const;
const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const;
const namespace = fc.constantFrom(...NAMESPACES);
const key = fc.constantFrom("app", "tier", "x.io/env");
const value = fc.constantFrom("a", "b", "");
const labels = fc.dictionary(key, value, { maxKeys: 3 });
const protocol = fc.constantFrom(...PROTOCOLS);
const portName = fc.constantFrom("web", "dns");
const portNumber = fc.integer({ min: 1, max: 6 });

const expression = fc
  .tuple(key, fc.constantFrom("In", "NotIn", "Exists", "DoesNotExist"), fc.uniqueArray(value, { minLength: 1, maxLength: 2 }))
  .map(([name, operator, values]) => ({
    key: name,
    operator,
    ...(operator === "In" || operator === "NotIn" ? { values } : {}),
  }));
const selector: fc.Arbitrary<NaiveSelector> = fc.record(
  { matchLabels: fc.dictionary(key, value, { maxKeys: 1 }), matchExpressions: fc.array(expression, { maxLength: 2 }) },
  { requiredKeys: [] },
);
const byName = namespace.map((name): NaiveSelector => ({ matchLabels: { "kubernetes.io/metadata.name": name } }));

/** Blocks around the pods' addresses; excepts are true subnets. */
const ipBlock = fc.constantFrom(
  { cidr: "10.0.0.0/8" },
  { cidr: "10.0.0.0/29", except: ["10.0.0.2/31", "10.0.0.4/32"] },
  { cidr: "10.0.0.1/30" },
  { cidr: "0.0.0.0/0", except: ["10.0.0.0/30"] },
  { cidr: "::/0" },
  { cidr: "fd00::/125", except: ["fd00::3/128"] },
);
const peer: fc.Arbitrary<NaivePeer> = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: fc.oneof(selector, byName) }),
  fc.record({ podSelector: selector, namespaceSelector: fc.oneof(selector, byName) }),
  ipBlock.map((block) => ({ ipBlock: block })),
);
const port: fc.Arbitrary<NaivePort> = fc.oneof(
  fc.record({ protocol, port: portNumber }, { requiredKeys: ["port"] }),
  fc.record({ protocol }, { requiredKeys: [] }),
  fc.record({ protocol, port: portName }, { requiredKeys: ["port"] }),
  fc.tuple(portNumber, fc.nat(3)).map(([first, more]) => ({ port: first, endPort: first + more })),
);
const rules = (peers: "from" | "to"): fc.Arbitrary<NaiveRule[]> =>
  fc.array(fc.record({ [peers]: fc.array(peer, { maxLength: 3 }), ports: fc.array(port, { maxLength: 3 }) }, { requiredKeys: [] }), { maxLength: 3 });
const policySpec: fc.Arbitrary<NaivePolicy["spec"]> = fc.record(
  {
    podSelector: fc.oneof({ weight: 2, arbitrary: fc.constant({}) }, selector),
    policyTypes: fc.subarray(["Ingress", "Egress"]),
    ingress: rules("from"),
    egress: rules("to"),
  },
  { requiredKeys: ["podSelector"] },
);

interface WorldPod extends NaivePod {
  readonly name: string;
  readonly addresses: readonly string[];
}

const pods = fc
  .array(
    fc.record({
      namespace,
      labels,
      families: fc.constantFrom("4", "6", "46"),
      ports: fc.array(fc.record({ name: portName, protocol, port: portNumber }), { maxLength: 3 }),
    }),
    {
      minLength: 1,
      maxLength: 6,
    },
  )
  .map((list) =>
    list.map(
      ({ families, ...pod }, i): WorldPod => ({
        ...pod,
        name: `p${i}`,
        addresses: families.split("").map((family) => (family === "4" ? `10.0.0.${i + 1}` : `fd00::${i + 1}`)),
      }),
    ),
  );
const world = fc.record({
  namespaceLabels: fc.tuple(labels, labels, labels),
  pods,
  policies: fc
    .array(fc.tuple(namespace, policySpec), { maxLength: 4 })
    .map((list) => list.map(([ns, spec], i): NaivePolicy => ({ metadata: { namespace: ns, name: `n${i}` }, spec }))),
});

function podManifest({ namespace: ns, name, labels: own, addresses, ports }: WorldPod): unknown {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace: ns, name, labels: own },
    spec: { nodeName: "n1", containers: ports.map((named) => ({ ports: [{ name: named.name, protocol: named.protocol, containerPort: named.port }] })) },
    status: { podIPs: addresses.map((ip) => ({ ip })) },
  };
}

interface End {
  readonly text: string;
  readonly pod: WorldPod | undefined;
  readonly addresses: readonly string[];
}

/** Pods by name, and addresses: of a pod, when there are five, and of nobody. */
function endsOf(list: readonly WorldPod[]): End[] {
  const pods = list.map((pod) => ({ text: `${pod.namespace}/${pod.name}`, pod, addresses: pod.addresses }));
  const others = ["10.0.0.5", "192.168.9.9", "fd00::9"].map((address) => ({
    text: address,
    pod: list.find((pod) => pod.addresses.includes(address)),
    addresses: [address],
  }));
  return [...pods, ...others];
}

interface Probe {
  readonly from: End;
  readonly to: End;
  readonly protocol: string;
  readonly port: number;
}

type Verdict = "allow" | "deny";

/** What NetworkPolicy read literally says. */
function expectedOf(given: NaiveWorld, { from, to, protocol: ofProtocol, port: atPort }: Probe): { readonly egress: Verdict; readonly ingress: Verdict } {
  if (from.pod !== undefined && from.pod === to.pod) return { egress: "allow", ingress: "allow" };
  const source = from.addresses.find((address) => to.addresses.some((other) => isSameFamily(other, address)));
  const destination = to.addresses.find((address) => source !== undefined && isSameFamily(address, source));
  if (source === undefined || destination === undefined) return { egress: "deny", ingress: "deny" };
  const naive = { from: { address: source, pod: from.pod }, to: { address: destination, pod: to.pod }, protocol: ofProtocol, port: atPort };
  return { egress: isAllowed(given, naive, "egress") ? "allow" : "deny", ingress: isAllowed(given, naive, "ingress") ? "allow" : "deny" };
}

function isSameFamily(a: string, b: string): boolean {
  return ipVersion(parseIp(a)) === ipVersion(parseIp(b));
}

it("manifests, records and verdicts agree with NetworkPolicy read literally", () => {
  fc.assert(
    fc.property(world, ({ namespaceLabels, pods: list, policies }) => {
      const namespaces = Object.fromEntries(NAMESPACES.map((name, i) => [name, namespaceLabels[i] ?? {}]));
      const manifests = [
        ...Object.entries(namespaces).map(([name, own]) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels: own } })),
        ...list.map(podManifest),
        ...policies.map((policy) => ({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", ...policy })),
      ];
      const ends = endsOf(list);
      const probes = ends.flatMap((from) =>
        ends.flatMap((to) => PROTOCOLS.flatMap((ofProtocol) => [1, 2, 3, 4].map((atPort): Probe => ({ from, to, protocol: ofProtocol, port: atPort })))),
      );
      const results = evaluate({ manifests, probes: probes.map((probe) => ({ ...probe, from: probe.from.text, to: probe.to.text })) });
      const differing = probes.flatMap((probe, i) => {
        const expected = expectedOf({ namespaces, policies }, probe);
        const { verdict, egress, ingress } = results[i] ?? {};
        const isSame =
          egress?.verdict === expected.egress &&
          ingress?.verdict === expected.ingress &&
          verdict === (Object.values(expected).includes("deny") ? "deny" : "allow");
        return isSame ? [] : [{ ...probe, from: probe.from.text, to: probe.to.text, expected, verdict, egress, ingress }];
      });
      expect(differing).toEqual([]);
    }),
    { numRuns: 200 },
  );
});
