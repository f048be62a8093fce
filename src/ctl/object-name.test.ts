import { describe, expect, it } from "vitest";
import { isNameProblem, parseObjectName, parsePolicyName, recordKeysOf } from "./object-name.ts";

const text = (value: ReturnType<typeof parsePolicyName> | ReturnType<typeof parseObjectName>): string =>
  isNameProblem(value) ? `! ${value.problem}` : [value.kind ?? "any", value.namespace, value.name].join(" ");

describe("parsePolicyName", () => {
  it.each([
    ["web", "", "any  web"],
    ["web", "shop", "any shop web"],
    ["shop/web", "", "any shop web"],
    ["policy/web", "", "any  web"],
    ["policy/shop/web", "", "any shop web"],
    ["netpol/shop/web", "", "NetworkPolicy shop web"],
    ["networkpolicy/web", "shop", "NetworkPolicy shop web"],
    ["networkpolicies.projectcalico.org/shop/web", "", "CalicoNetworkPolicy shop web"],
    ["caliconp/shop/web", "", "CalicoNetworkPolicy shop web"],
    ["GNP/web", "", "GlobalNetworkPolicy  web"],
    ["cnp/web", "", "ClusterNetworkPolicy  web"],
    ["sgnp/web", "", "StagedGlobalNetworkPolicy  web"],
    ["sknp/shop/web", "shop", "StagedKubernetesNetworkPolicy shop web"],
    // A word that is no kind is a namespace.
    ["gmp/web", "", "any gmp web"],
    ["gnp/shop/web", "", "! GlobalNetworkPolicy is cluster-wide: leave the namespace (shop) away"],
    ["gnp/web", "shop", "! GlobalNetworkPolicy is cluster-wide: leave the namespace (shop) away"],
    ["netpol/web", "", "! NetworkPolicy is in a namespace: netpol/NAMESPACE/web, or -n NAMESPACE"],
    ["shop/web", "data", "! shop/web names namespace shop, and -n data: give one"],
    ["a//b", "", "! a//b: want NAME, KIND/NAME, NAMESPACE/NAME or KIND/NAMESPACE/NAME"],
  ])("%s with -n %j → %s", (name, namespace, expected) => {
    expect(text(parsePolicyName(name, namespace))).toBe(expected);
  });

  it("three words of which the first is no kind: the kinds are listed", () => {
    expect(text(parsePolicyName("gmp/shop/web"))).toMatch(/^! gmp is no kind of policy; known: NetworkPolicy .*, GlobalNetworkPolicy \(cgnp\)/);
  });
});

describe("parseObjectName", () => {
  it.each([
    ["pod/shop/web", "", "Pod shop web"],
    ["pod/web", "shop", "Pod shop web"],
    ["node/n1", "", "Node  n1"],
    ["pod/a/b/c", "", "! pod/a/b/c: want pod/NAME or pod/NAMESPACE/NAME"],
    ["pod/", "", "! pod/: want pod/NAME or pod/NAMESPACE/NAME"],
  ])("%s with -n %j → %s", (name, namespace, expected) => {
    expect(text(parseObjectName(name, namespace))).toBe(expected);
  });

  it("no kind: the kinds are listed, as their users know them", () => {
    expect(text(parseObjectName("pot/x"))).toMatch(/^! pot is no kind that the server watches; known: policy, Node, .*NetworkPolicy\.projectcalico\.org/);
  });
});

describe("recordKeysOf", () => {
  it.each([
    ["shop/web", "", ["shop/web", "policy/KubernetesNetworkPolicy/shop/web", "policy/NetworkPolicy/shop/web"]],
    ["web", "shop", ["web", "policy/KubernetesNetworkPolicy/shop/web", "policy/NetworkPolicy/shop/web"]],
    ["deny-all", "", ["deny-all", "policy/GlobalNetworkPolicy//deny-all", "policy/ClusterNetworkPolicy//deny-all", "policy/Profile//deny-all"]],
    ["gnp/deny-all", "", ["gnp/deny-all", "policy/GlobalNetworkPolicy//deny-all"]],
    ["pod/shop/web-1", "", ["endpoint/shop/web-1"]],
    ["pod/web-1", "shop", ["endpoint/shop/web-1"]],
    ["policy/KubernetesNetworkPolicy/shop/web", "", ["policy/KubernetesNetworkPolicy/shop/web"]],
    ["set/abc/0", "", ["set/abc/0"]],
  ])("%s with -n %j", (name, namespace, keys) => {
    expect(recordKeysOf(name, namespace)).toEqual(keys);
  });
});
