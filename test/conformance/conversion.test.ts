/** What policies mean after conversion. */
import { describe, expect, it } from "vitest";
import { parseResource } from "../../src/model/parse-resource.ts";
import type { AnyPolicy } from "../../src/model/resource.ts";
import { convertPolicy } from "../../src/policy/convert-policy.ts";
import { CONVERSION_CASES, type ConversionCase } from "./cases/conversion.ts";
import { convertedText } from "./intent-text.ts";

const API_VERSIONS: Readonly<Record<string, string>> = {
  ClusterNetworkPolicy: "policy.networking.k8s.io/v1alpha2",
  KubernetesNetworkPolicy: "networking.k8s.io/v1",
};

function parsed({ kind, spec }: ConversionCase): AnyPolicy {
  const isNamespaced = kind === "NetworkPolicy" || kind === "KubernetesNetworkPolicy";
  const result = parseResource({
    apiVersion: API_VERSIONS[kind] ?? "projectcalico.org/v3",
    kind: kind === "KubernetesNetworkPolicy" ? "NetworkPolicy" : kind,
    metadata: { name: "p", ...(isNamespaced ? { namespace: "shop" } : {}) },
    ...(spec === undefined ? {} : { spec }),
  });
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.value as AnyPolicy;
}

describe("convertPolicy", () => {
  it.each(CONVERSION_CASES.map((given) => [given.name, given] as const))("%s", (_name, given) => {
    expect(convertedText(convertPolicy(parsed(given)))).toEqual(given.expected);
  });

  it("the table names each case once", () => {
    expect(new Set(CONVERSION_CASES.map(({ name }) => name)).size).toBe(CONVERSION_CASES.length);
    expect(CONVERSION_CASES.length).toBeGreaterThan(100);
  });
});
