/** The whole way from manifests to verdicts, against an evaluator that knows nothing of records, on worlds made at random. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { evaluate } from "../../src/ctl/policy-evaluate.ts";
import { ipVersion, parseIp } from "../../src/net/ip.ts";
import { isAllowed, type NaiveEnd, type NaivePeer, type NaivePod, type NaivePolicy, type NaivePort, type NaiveRule, type NaiveSelector } from "./naive-network-policy.ts";

const NAMESPACES = ["alpha", "beta", "gamma"] as const;
const PROTOCOLS = ["TCP", "UDP", "SCTP"] as const;
const namespace = fc.constantFrom(...NAMESPACES);
const key = fc.constantFrom("app", "tier", "x.io/env");
const value = fc.constantFrom("a", "b", "");
const labels = fc.dictionary(key, value, { maxKeys: 3 });
const protocol = fc.constantFrom(...PROTOCOLS);
const portName = fc.constantFrom("web", "dns");
const portNumber = fc.integer({ min: 1, max: 6 });

const expression = fc.tuple(key, fc.constantFrom("In", "NotIn", "Exists", "DoesNotExist"), fc.uniqueArray(value, { minLength: 1, maxLength: 2 })).map(([name, operator, values]) => ({
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
  { podSelector: selector, policyTypes: fc.subarray(["Ingress", "Egress"]), ingress: rules("from"), egress: rules("to") },
  { requiredKeys: ["podSelector"] },
);

interface WorldPod extends NaivePod {
  readonly name: string;
  readonly addresses: readonly string[];
}

const pods = fc
  .array(fc.record({ namespace, labels, families: fc.constantFrom("4", "6", "46"), ports: fc.array(fc.record({ name: portName, protocol, port: portNumber }), { maxLength: 3 }) }), {
    minLength: 1,
    maxLength: 6,
  })
  .map((list) =>
    list.map(
      ({ families, ...pod }, i): WorldPod => ({ ...pod, name: `p${i}`, addresses: [...families].map((family) => (family === "4" ? `10.0.0.${i + 1}` : `fd00::${i + 1}`)) }),
    ),
  );
const world = fc.record({
  namespaceLabels: fc.tuple(labels, labels, labels),
  pods,
  policies: fc.array(fc.tuple(namespace, policySpec), { maxLength: 4 }).map((list) => list.map(([ns, spec], i): NaivePolicy => ({ metadata: { namespace: ns, name: `n${i}` }, spec }))),
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

/** Pods by name and outsiders by address, each with each. */
function endsOf(list: readonly WorldPod[]): (readonly [text: string, pod: WorldPod | undefined, addresses: readonly string[]])[] {
  return [...list.map((pod) => [`${pod.namespace}/${pod.name}`, pod, pod.addresses] as const), ...["10.0.0.5", "192.168.9.9", "fd00::9"].map((address) => [address, list.find((pod) => pod.addresses.includes(address)), [address]] as const)];
}

it("manifests, records and verdicts agree with NetworkPolicy read literally", () => {
  fc.assert(
    fc.property(world, protocol, portNumber, ({ namespaceLabels, pods: list, policies }, ofProtocol, atPort) => {
      const namespaces = Object.fromEntries(NAMESPACES.map((name, i) => [name, namespaceLabels[i] ?? {}]));
      const manifests = [
        ...Object.entries(namespaces).map(([name, own]) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels: own } })),
        ...list.map(podManifest),
        ...policies.map((policy) => ({ apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", ...policy })),
      ];
      const ends = endsOf(list);
      const pairs = ends.flatMap((from) => ends.map((to) => [from, to] as const));
      const results = evaluate({ manifests, probes: pairs.map(([from, to]) => ({ from: from[0], to: to[0], port: atPort, protocol: ofProtocol })) });
      for (const [i, [from, to]] of pairs.entries()) {
        const expected = expectedOf({ from, to });
        expect({ from: from[0], to: to[0], egress: results[i]?.egress.verdict, ingress: results[i]?.ingress.verdict }).toEqual({ from: from[0], to: to[0], ...expected });
        expect(results[i]?.verdict).toBe(expected.egress === "allow" && expected.ingress === "allow" ? "allow" : "deny");
      }

      function expectedOf({ from, to }: { readonly from: (typeof ends)[number]; readonly to: (typeof ends)[number] }): { egress: string; ingress: string } {
        if (from[1] !== undefined && from[1] === to[1]) return { egress: "allow", ingress: "allow" };
        const source = from[2].find((address) => to[2].some((other) => ipVersion(parseIp(other)) === ipVersion(parseIp(address))));
        const destination = to[2].find((address) => source !== undefined && ipVersion(parseIp(address)) === ipVersion(parseIp(source)));
        if (source === undefined || destination === undefined) return { egress: "deny", ingress: "deny" };
        const end = (address: string, pod: WorldPod | undefined): NaiveEnd => ({ address, pod });
        const probe = { from: end(source, from[1]), to: end(destination, to[1]), protocol: ofProtocol, port: atPort };
        const verdict = (direction: "ingress" | "egress"): string => (isAllowed({ namespaces, policies }, probe, direction) ? "allow" : "deny");
        return { egress: verdict("egress"), ingress: verdict("ingress") };
      }
    }),
    { numRuns: 300 },
  );
});
