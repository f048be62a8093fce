/** What the parsers and the conversion take and refuse. */
import { describe, expect, it } from "vitest";
import { parseResource } from "../../src/model/parse-resource.ts";
import type { Resource } from "../../src/model/resource.ts";
import { convertPolicy } from "../../src/policy/convert-policy.ts";
import { CALICO_VALIDATION_CASES } from "./cases/calico-validation.ts";

/** What is wrong with an object, "" when nothing is. */
function problemOf(object: unknown): string {
  const parsed = parseResource(object, { isStrict: true });
  if (!parsed.ok) return parsed.problems.map(({ field, message }) => `${field}: ${message}`).join("; ");
  const policy = policyOf(parsed.value);
  if (policy === undefined) return "";
  const { isUnderstood, problems } = convertPolicy(policy);
  return isUnderstood ? "" : problems.map(({ field, message }) => `${field}: ${message}`).join("; ");
}

function policyOf(resource: Resource): Parameters<typeof convertPolicy>[0] | undefined {
  switch (resource.kind) {
    case "StagedGlobalNetworkPolicy":
    case "StagedNetworkPolicy":
    case "StagedKubernetesNetworkPolicy":
      return resource.policy;
    case "GlobalNetworkPolicy":
    case "CalicoNetworkPolicy":
    case "ClusterNetworkPolicy":
    case "Profile":
      return resource;
    default:
      return undefined;
  }
}

describe("validation", () => {
  it("takes what is good, and refuses what is not, with a field and advice", () => {
    const wrong = CALICO_VALIDATION_CASES.flatMap(({ name, isValid, object }) => {
      const problem = problemOf(object);
      return (problem === "") === isValid ? [] : [`${name}: ${problem === "" ? "taken" : problem}`];
    });
    expect(wrong).toEqual([]);
  });

  it("is several hundred cases of both kinds", () => {
    const good = CALICO_VALIDATION_CASES.filter(({ isValid }) => isValid).length;
    expect([good > 400, CALICO_VALIDATION_CASES.length - good > 400]).toEqual([true, true]);
  });
});
