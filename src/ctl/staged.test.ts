import { describe, expect, it } from "vitest";
import type { SourcedObject } from "./manifests.ts";
import { policyDiff } from "./policy-diff.ts";
import { promotionsOf } from "./staged.ts";
import { stagedText, stagedVerdict } from "./trace-staged.ts";

const CALICO = "projectcalico.org/v3";
const object = (apiVersion: string, kind: string, name: string, spec: object, metadata: object = {}): SourcedObject => ({
  source: "the API",
  object: { apiVersion, kind, metadata: { name, ...metadata }, spec },
});
const pod = (name: string): SourcedObject => object("v1", "Pod", name, { containers: [] }, { namespace: "shop", labels: { app: name } });
const PODS = [pod("web"), pod("client")];
const deny = { selector: "app == 'web'", types: ["Ingress"], ingress: [{ action: "Deny" }] };
const stagedGlobal = (action: object = {}): SourcedObject => object(CALICO, "StagedGlobalNetworkPolicy", "g", { ...deny, ...action });
const enforced = object(CALICO, "GlobalNetworkPolicy", "g", deny);

/** "shop/client shop/web deny", each pair once. */
function diff(world: readonly SourcedObject[], staged: readonly SourcedObject[]): readonly string[] {
  const promotions = promotionsOf(staged);
  const change = promotions.flatMap(({ becomes }) => becomes ?? []);
  const removed = promotions.flatMap(({ removes }) => removes ?? []);
  return [...new Set(policyDiff({ world: [...world, ...staged], change, removed }).map(({ from, to, after }) => `${from} ${to} ${after}`))];
}

describe("promotionsOf", () => {
  it.each<[string, SourcedObject, readonly SourcedObject[], readonly string[]]>([
    ["Set, where there was nothing", stagedGlobal(), [], ["shop/client shop/web deny"]],
    ["Set, in the place of the enforced one", stagedGlobal({ ingress: [{ action: "Allow" }] }), [enforced], ["shop/client shop/web allow"]],
    ["Learn is as Set", stagedGlobal({ stagedAction: "Learn" }), [], ["shop/client shop/web deny"]],
    ["Delete takes the enforced one away", stagedGlobal({ stagedAction: "Delete" }), [enforced], ["shop/client shop/web allow"]],
    ["Delete of what is not there", stagedGlobal({ stagedAction: "Delete" }), [], []],
    ["Ignore", stagedGlobal({ stagedAction: "Ignore" }), [], []],
    ["of a namespace", object(CALICO, "StagedNetworkPolicy", "n", deny, { namespace: "shop" }), [], ["shop/client shop/web deny"]],
    [
      "of Kubernetes' kind, which isolates the pods that it selects",
      object(CALICO, "StagedKubernetesNetworkPolicy", "k", { podSelector: { matchLabels: { app: "web" } } }, { namespace: "shop" }),
      [],
      ["shop/client shop/web deny"],
    ],
  ])("%s", (_name, staged, world, expected) => {
    expect(diff([...PODS, ...world], [staged])).toEqual(expected);
  });

  it("by the staged kind, by the enforced one, by name, in a namespace", () => {
    const both = [stagedGlobal(), object(CALICO, "StagedNetworkPolicy", "g", deny, { namespace: "shop" })];
    const found = (kind: Parameters<typeof promotionsOf>[1]): readonly string[] => promotionsOf(both, kind).map(({ staged }) => staged);
    expect(found([{ kind: "StagedGlobalNetworkPolicy", namespace: "", name: "g" }])).toEqual(["StagedGlobalNetworkPolicy g"]);
    expect(found([{ kind: "CalicoNetworkPolicy", namespace: "shop", name: "g" }])).toEqual(["StagedNetworkPolicy shop/g"]);
    expect(found([{ kind: undefined, namespace: "", name: "g" }])).toEqual(["StagedGlobalNetworkPolicy g", "StagedNetworkPolicy shop/g"]);
    expect(found([{ kind: undefined, namespace: "", name: "h" }])).toEqual([]);
  });
});

describe("stagedVerdict", () => {
  it("says what all staged policies together would decide, and which they are", () => {
    const question = { from: "shop/client", to: "shop/web", protocol: "TCP", port: 80 };
    const verdict = stagedVerdict([...PODS, stagedGlobal()], question);
    expect(verdict).toMatchObject({ verdict: "deny", egress: { verdict: "allow" }, promoted: ["StagedGlobalNetworkPolicy g (Set)"] });
    expect(stagedText(verdict).split("\n")).toEqual([
      "staged (not in force): if all were promoted: deny",
      expect.stringMatching(/^ {2}egress: allow: /),
      expect.stringMatching(/^ {2}ingress: deny: .*GlobalNetworkPolicy g/),
      "  promoted: StagedGlobalNetworkPolicy g (Set)",
      "",
    ]);
    expect(stagedText(stagedVerdict(PODS, question))).toBe("staged (not in force): there is no staged policy\n");
    expect(() => stagedVerdict(PODS, { ...question, from: "shop/none" })).toThrow("--staged: shop/none to shop/web: from");
  });
});
