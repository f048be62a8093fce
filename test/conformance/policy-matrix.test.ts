/** The matrix and random worlds without packets: `sedge policy evaluate` against NetworkPolicy read literally. */
import { describe, expect, it } from "vitest";
import type { NaivePolicy } from "./naive-network-policy.ts";
import { allProbes, caseWorld, evaluatedVerdicts, literalVerdicts, worldManifests } from "./packet-world.ts";
import { matrixProbes, policyMatrix } from "./policy-matrix.ts";
import { randomProbes, randomWorld } from "./random-policies.ts";
import { smallerPolicies } from "./smaller-policies.ts";

const RANDOM_WORLDS = 60;
const PROBES_PER_WORLD = 500;

describe("matrix", () => {
  it("every case: both evaluators agree on every probe", () => {
    const probes = matrixProbes();
    for (const { name, policies } of policyMatrix()) {
      const world = caseWorld(policies);
      expect(evaluatedVerdicts(world, probes), name).toEqual(literalVerdicts(world, probes));
    }
  });

  it("has several hundred cases, each of another name, and verdicts of both kinds for every protocol and family", () => {
    const cases = policyMatrix();
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
    expect(cases.length).toBeGreaterThan(500);
    const probes = matrixProbes();
    const seen = new Set<string>();
    for (const { policies } of cases) {
      for (const [i, verdict] of literalVerdicts(caseWorld(policies), probes).entries()) seen.add(`${probes[i]?.protocol} ${probes[i]?.version} ${verdict}`);
    }
    expect(seen.size).toBe(16);
  });
});

describe("random worlds", () => {
  it("both evaluators agree", () => {
    for (let seed = 1; seed <= RANDOM_WORLDS; seed++) {
      const world = randomWorld(seed);
      const probes = randomProbes(world, seed, PROBES_PER_WORLD);
      expect(evaluatedVerdicts(world, probes), `seed ${seed}: ${JSON.stringify(world.policies)}`).toEqual(literalVerdicts(world, probes));
    }
  });

  it("a seed is always the same world, another seed another one", () => {
    expect(worldManifests(randomWorld(5))).toEqual(worldManifests(randomWorld(5)));
    expect(worldManifests(randomWorld(5))).not.toEqual(worldManifests(randomWorld(6)));
    expect(randomProbes(caseWorld([]), 5, 10)).toEqual(randomProbes(caseWorld([]), 5, 10));
    expect(new Set(randomProbes(caseWorld([]), 5, 100)).size).toBe(100);
    expect(allProbes(caseWorld([])).length).toBe(2_880);
  });
});

describe("smallerPolicies", () => {
  it("leaves out one policy, rule, peer or port at a time, and no value that a policy cannot do without", () => {
    const policies: NaivePolicy[] = [
      {
        metadata: { namespace: "x", name: "p" },
        spec: {
          podSelector: { matchExpressions: [{ key: "a", operator: "In", values: ["b"] }] },
          policyTypes: ["Ingress"],
          ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 1 }] }],
        },
      },
    ];
    const smaller = [...smallerPolicies(policies)].map((list) => JSON.stringify(list.map(({ spec }) => spec)));
    expect(smaller).toEqual([
      "[]",
      '[{"podSelector":{"matchExpressions":[]},"policyTypes":["Ingress"],"ingress":[{"from":[{"podSelector":{}}],"ports":[{"port":1}]}]}]',
      '[{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]},"policyTypes":["Ingress"],"ingress":[]}]',
      '[{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]},"policyTypes":["Ingress"],"ingress":[{"from":[],"ports":[{"port":1}]}]}]',
      '[{"podSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]},"policyTypes":["Ingress"],"ingress":[{"from":[{"podSelector":{}}],"ports":[]}]}]',
    ]);
  });
});
