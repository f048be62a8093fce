import { describe, expect, it } from "vitest";
import { parseNetworkPolicy } from "./parse-network-policy.ts";

const policy = (spec: unknown): unknown => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { namespace: "shop", name: "p", resourceVersion: "7" },
  spec,
});
const problems = (object: unknown, isStrict = false): string[] => {
  const parsed = parseNetworkPolicy(object, { isStrict });
  return parsed.ok ? [] : parsed.problems.map(({ field, message }) => `${field}: ${message}`);
};
const fields = (object: unknown, isStrict = false): string[] => problems(object, isStrict).map((text) => text.slice(0, text.indexOf(": ")));

describe("parseNetworkPolicy", () => {
  it("reads all of a policy", () => {
    const object = policy({
      podSelector: { matchLabels: { app: "web" }, matchExpressions: [{ key: "x.io/tier", operator: "In", values: ["a", ""] }] },
      policyTypes: ["Egress", "Ingress"],
      ingress: [
        {
          from: [{ podSelector: {} }, { namespaceSelector: { matchLabels: { a: "b" } }, podSelector: null }],
          ports: [{ port: "http" }, { protocol: "UDP", port: 1, endPort: 9 }],
        },
      ],
      egress: [{ to: [{ ipBlock: { cidr: "10.1.2.3/8", except: ["10.1.0.0/16"] } }] }, {}],
    });
    expect(parseNetworkPolicy(object)).toEqual({
      ok: true,
      value: {
        kind: "NetworkPolicy",
        namespace: "shop",
        name: "p",
        resourceVersion: "7",
        podSelector: { matchLabels: { app: "web" }, matchExpressions: [{ key: "x.io/tier", operator: "In", values: ["a", ""] }] },
        policyTypes: ["Egress", "Ingress"],
        ingress: [
          {
            peers: [
              { kind: "pods", podSelector: { matchLabels: {}, matchExpressions: [] }, namespaceSelector: undefined },
              { kind: "pods", podSelector: undefined, namespaceSelector: { matchLabels: { a: "b" }, matchExpressions: [] } },
            ],
            ports: [
              { protocol: "TCP", port: "http", endPort: undefined },
              { protocol: "UDP", port: 1, endPort: 9 },
            ],
          },
        ],
        egress: [
          { peers: [{ kind: "ipBlock", cidr: "10.0.0.0/8", except: ["10.1.0.0/16"] }], ports: [] },
          { peers: [], ports: [] },
        ],
      },
    });
  });

  it.each([
    [undefined, ["Ingress"]],
    [{}, ["Ingress"]],
    [{ policyTypes: [] }, ["Ingress"]],
    [{ egress: [] }, ["Ingress"]],
    [{ egress: [{}] }, ["Ingress", "Egress"]],
    [{ policyTypes: ["Ingress"], egress: [{}] }, ["Ingress"]],
  ])("policyTypes of %j", (spec, types) => {
    const parsed = parseNetworkPolicy(policy(spec));
    expect(parsed.ok && parsed.value.policyTypes).toEqual(types);
  });

  const from = (peer: unknown): unknown => policy({ ingress: [{ from: [peer] }] });
  const ports = (port: unknown): unknown => policy({ ingress: [{ ports: [port] }] });
  const requirement = (expression: unknown): unknown => policy({ podSelector: { matchExpressions: [expression] } });
  const longName = "a".repeat(64);

  it.each<[string, unknown, string[]]>([
    ["not an object", 5, [""]],
    ["nothing", null, [""]],
    ["metadata is a text", { metadata: "p" }, ["metadata", "metadata.name", "metadata.namespace"]],
    ["no namespace", { metadata: { name: "p" } }, ["metadata.namespace"]],
    ["name", { metadata: { name: "P_", namespace: "a b" } }, ["metadata.name", "metadata.namespace"]],
    ["spec is a list", policy([]), ["spec"]],
    ["ingress is an object", policy({ ingress: {} }), ["spec.ingress"]],
    ["policyTypes", policy({ policyTypes: ["ingress", null] }), ["spec.policyTypes[0]", "spec.policyTypes[1]"]],
    ["empty peer", from({}), ["spec.ingress[0].from[0]"]],
    ["null peer", from(null), ["spec.ingress[0].from[0]"]],
    ["ipBlock and selector", from({ ipBlock: { cidr: "10.0.0.0/8" }, podSelector: {} }), ["spec.ingress[0].from[0]"]],
    ["no cidr", from({ ipBlock: {} }), ["spec.ingress[0].from[0].ipBlock.cidr"]],
    ["bad cidr", from({ ipBlock: { cidr: "10.0.0.0/33" } }), ["spec.ingress[0].from[0].ipBlock.cidr"]],
    ["an address is no prefix", from({ ipBlock: { cidr: "10.0.0.1" } }), ["spec.ingress[0].from[0].ipBlock.cidr"]],
    ["except outside", from({ ipBlock: { cidr: "10.0.0.0/8", except: ["11.0.0.0/16"] } }), ["spec.ingress[0].from[0].ipBlock.except[0]"]],
    ["except equal", from({ ipBlock: { cidr: "10.0.0.0/8", except: ["10.0.0.0/8"] } }), ["spec.ingress[0].from[0].ipBlock.except[0]"]],
    ["except larger", from({ ipBlock: { cidr: "10.0.0.0/8", except: ["10.0.0.0/7"] } }), ["spec.ingress[0].from[0].ipBlock.except[0]"]],
    ["except of the other family", from({ ipBlock: { cidr: "10.0.0.0/8", except: ["fd00::/64"] } }), ["spec.ingress[0].from[0].ipBlock.except[0]"]],
    ["port 0", ports({ port: 0 }), ["spec.ingress[0].ports[0].port"]],
    ["port too high", ports({ port: 65536 }), ["spec.ingress[0].ports[0].port"]],
    ["port is no whole number", ports({ port: 1.5 }), ["spec.ingress[0].ports[0].port"]],
    ["port number in quotes", ports({ port: "80" }), ["spec.ingress[0].ports[0].port"]],
    ["port name", ports({ port: "Web" }), ["spec.ingress[0].ports[0].port"]],
    ["port name too long", ports({ port: "a234567890123456" }), ["spec.ingress[0].ports[0].port"]],
    ["port name with --", ports({ port: "a--b" }), ["spec.ingress[0].ports[0].port"]],
    ["protocol", ports({ protocol: "tcp", port: 80 }), ["spec.ingress[0].ports[0].protocol"]],
    ["endPort before port", ports({ port: 80, endPort: 79 }), ["spec.ingress[0].ports[0].endPort"]],
    ["endPort without port", ports({ endPort: 79 }), ["spec.ingress[0].ports[0].endPort"]],
    ["endPort with a name", ports({ port: "web", endPort: 79 }), ["spec.ingress[0].ports[0].endPort"]],
    ["label value is a number", policy({ podSelector: { matchLabels: { a: 1 } } }), ["spec.podSelector.matchLabels[a]"]],
    ["label syntax", policy({ podSelector: { matchLabels: { "a b": "-x" } } }), ["spec.podSelector.matchLabels", "spec.podSelector.matchLabels"]],
    ["label name too long", policy({ podSelector: { matchLabels: { [longName]: "x" } } }), ["spec.podSelector.matchLabels"]],
    ["operator", requirement({ key: "a", operator: "in", values: ["x"] }), ["spec.podSelector.matchExpressions[0].operator"]],
    ["no operator, no key", requirement({}), ["spec.podSelector.matchExpressions[0].key", "spec.podSelector.matchExpressions[0].operator"]],
    ["In without values", requirement({ key: "a", operator: "In" }), ["spec.podSelector.matchExpressions[0].values"]],
    ["NotIn without values", requirement({ key: "a", operator: "NotIn", values: [] }), ["spec.podSelector.matchExpressions[0].values"]],
    ["Exists with values", requirement({ key: "a", operator: "Exists", values: ["x"] }), ["spec.podSelector.matchExpressions[0].values"]],
    ["value syntax", requirement({ key: "a", operator: "In", values: ["x y"] }), ["spec.podSelector.matchExpressions[0].values[0]"]],
    ["key with two slashes", requirement({ key: "a/b/c", operator: "Exists" }), ["spec.podSelector.matchExpressions[0].key"]],
    [
      "several problems",
      policy({ policyTypes: ["X"], ingress: [{ from: [{}], ports: [{ port: 0 }] }], egress: [{ to: 5 }] }),
      ["spec.ingress[0].from[0]", "spec.ingress[0].ports[0].port", "spec.egress[0].to", "spec.policyTypes[0]"],
    ],
  ])("refuses %s", (_name, object, expected) => {
    expect(fields(object)).toEqual(expected);
  });

  it("says what to write instead", () => {
    expect(problems(ports({ port: "80" }))[0]).toContain("write 80 without quotes");
    expect(problems(policy({ podSelector: { matchLabels: { a: true } } }))[0]).toContain('put it in quotes: "true"');
  });

  it("unknown fields: refused in strict reading only", () => {
    const object = policy({ podselector: {}, ingress: [{ to: [], from: [{ podSelector: { labels: {} } }], ports: [{ ports: 1 }] }] });
    expect(fields(object)).toEqual([]);
    expect(fields(object, true)).toEqual([
      "spec.podselector",
      "spec.ingress[0].to",
      "spec.ingress[0].from[0].podSelector.labels",
      "spec.ingress[0].ports[0].ports",
    ]);
    expect(problems(object, true)[0]).toContain("write podSelector");
  });
});
