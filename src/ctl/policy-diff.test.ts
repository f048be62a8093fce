import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SourcedObject } from "./manifests.ts";
import { DiffError, type PolicyDifference, policyDiff } from "./policy-diff.ts";
import { evaluate } from "./policy-evaluate.ts";

const pod = (name: string, ips: readonly string[] = [], port?: object): unknown => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "shop", labels: { app: name } },
  spec: { containers: port === undefined ? [] : [{ ports: [port] }] },
  status: { podIPs: ips.map((ip) => ({ ip })) },
});
const policy = (name: string, spec: object): unknown => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name, namespace: "shop" },
  spec,
});
const web = { matchLabels: { app: "web" } };
const fromA = [{ podSelector: { matchLabels: { app: "a" } } }];
const PODS = [pod("web", [], { name: "http", containerPort: 8080 }), pod("a"), pod("b")];
const sourced = (objects: readonly unknown[]): SourcedObject[] => objects.map((object, i) => ({ source: `object ${i}`, object }));
const diff = (world: readonly unknown[], change: readonly unknown[], prune = false): PolicyDifference[] =>
  policyDiff({ world: sourced(world), change: sourced(change), prune });
const brief = (differences: readonly PolicyDifference[]): string[] =>
  differences.map(({ from, to, protocol, port, after }) => `${from} ${to} ${protocol} ${port.first}-${port.last} ${after}`);

describe("policy diff", () => {
  it("a first policy denies all but what it allows, and says which policy does", () => {
    const found = diff(PODS, [policy("p", { podSelector: web, ingress: [{ from: fromA, ports: [{ port: 80, endPort: 90 }] }] })]);
    expect(brief(found)).toEqual([
      "shop/a shop/web TCP 1-79 deny",
      "shop/a shop/web TCP 91-65535 deny",
      "shop/a shop/web UDP 1-65535 deny",
      "shop/a shop/web SCTP 1-65535 deny",
      "shop/b shop/web TCP 1-65535 deny",
      "shop/b shop/web UDP 1-65535 deny",
      "shop/b shop/web SCTP 1-65535 deny",
    ]);
    expect(found[0]).toMatchObject({ before: "allow", decidedBy: ["ingress: shop/web is isolated, and no ingress rule of NetworkPolicy shop/p allows it"] });
  });

  it("replaces the policy of the same name; a named port is the pod's", () => {
    const closed = policy("p", { podSelector: web });
    const open = policy("p", { podSelector: web, ingress: [{ from: fromA, ports: [{ port: "http" }] }] });
    const found = diff([...PODS, closed], [open]);
    expect(brief(found)).toEqual(["shop/a shop/web TCP 8080-8080 allow"]);
    expect(found[0]?.decidedBy[1]).toBe("ingress: allowed by ingress rule 0 of NetworkPolicy shop/p");
  });

  it("egress at the source, and policies that are pruned", () => {
    const noEgress = policy("e", { podSelector: { matchLabels: { app: "b" } }, policyTypes: ["Egress"] });
    expect(new Set(diff(PODS, [noEgress]).map(({ from, after }) => `${from} ${after}`))).toEqual(new Set(["shop/b deny"]));
    expect(diff([...PODS, noEgress], [])).toEqual([]);
    expect(new Set(diff([...PODS, noEgress], [], true).map(({ from, after }) => `${from} ${after}`))).toEqual(new Set(["shop/b allow"]));
  });

  it("a pod's labels move it into a set; both families are compared", () => {
    const p = policy("p", { podSelector: web, ingress: [{ from: fromA, ports: [{ port: 80 }] }] });
    const relabelled = { ...(pod("b") as object), metadata: { name: "b", namespace: "shop", labels: { app: "a" } } };
    expect(brief(diff([...PODS, p], [relabelled]))).toContain("shop/b shop/web TCP 80-80 allow");
    const dual = [pod("web", ["10.0.0.1", "fd00::1"]), pod("a", ["10.0.0.2", "fd00::2"])];
    const sixOnly = policy("p", { podSelector: web, ingress: [{ from: [{ ipBlock: { cidr: "fd00::/64" } }] }] });
    expect(new Set(diff(dual, [sixOnly]).map(({ ipVersion }) => ipVersion))).toEqual(new Set([4]));
    const fourOnly = policy("p", { podSelector: web, ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/8" } }] }] });
    expect(new Set(diff(dual, [fourOnly]).map(({ ipVersion }) => ipVersion))).toEqual(new Set([6]));
  });

  it("what cannot be understood is an error, not a difference", () => {
    expect(() => diff(PODS, [policy("p", { ingres: [] })])).toThrow(DiffError);
  });

  const port = fc.integer({ min: 1, max: 12 });
  const rules = fc.array(fc.record({ app: fc.constantFrom("web", "a", "b"), port, width: fc.integer({ min: 0, max: 3 }) }), { maxLength: 3 });
  const spec = fc.record({ subject: fc.constantFrom("web", "a", "b"), rules, isEgress: fc.boolean() }).map(({ subject, rules: list, isEgress }) => {
    const written = list.map(({ app, port: first, width }) => ({
      [isEgress ? "to" : "from"]: [{ podSelector: { matchLabels: { app } } }],
      ports: [{ port: first, endPort: first + width }],
    }));
    return { podSelector: { matchLabels: { app: subject } }, policyTypes: [isEgress ? "Egress" : "Ingress"], [isEgress ? "egress" : "ingress"]: written };
  });
  const policies = fc.array(spec, { maxLength: 3 }).map((specs) => specs.map((one, i) => policy(`p${i}`, one)));

  it("equal manifests have no difference", () => {
    fc.assert(fc.property(policies, (list) => diff([...PODS, ...list], [...PODS, ...list], true).length === 0));
  });

  it("the differences are those of the evaluation of every port", () => {
    const names = ["shop/web", "shop/a", "shop/b"];
    const probes = names.flatMap((from) => names.flatMap((to) => (from === to ? [] : Array.from({ length: 17 }, (_, i) => ({ from, to, port: i + 1 })))));
    fc.assert(
      fc.property(policies, policies, (was, is) => {
        const before = evaluate({ manifests: [...PODS, ...was], probes });
        const after = evaluate({ manifests: [...PODS, ...is], probes });
        const expected = probes.flatMap((probe, i) => (before[i]?.verdict === after[i]?.verdict ? [] : [`${probe.from} ${probe.to} ${probe.port}`]));
        const found = diff([...PODS, ...was], is, true).filter(({ protocol }) => protocol === "TCP");
        const isFound = (probe: (typeof probes)[number]): boolean =>
          found.some((one) => one.from === probe.from && one.to === probe.to && one.port.first <= probe.port && probe.port <= one.port.last);
        expect(probes.filter(isFound).map((probe) => `${probe.from} ${probe.to} ${probe.port}`)).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });
});
