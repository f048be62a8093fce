/** ClusterNetworkPolicies through manifests, compute and the evaluator: the suite's table, and random ones against an independent evaluator. */
import { describe, expect, it } from "vitest";
import { describeProbe } from "../kernel/packets.ts";
import { probesOf } from "./cases/case.ts";
import { CLUSTER_POLICY_SUITE, HOUSE_PLACES } from "./cases/cluster-policy-suite.ts";
import { houseManifests, houseWorld, literalHouseVerdicts } from "./cluster-policy-world.ts";
import { packetProbes } from "./packet-judge.ts";
import { evaluatedVerdicts } from "./packet-world.ts";
import { randomHousePolicies, randomHouseProbes } from "./random-cluster-policies.ts";

const RANDOM_SETS = Number(process.env["SEDGE_RUNS"] ?? 300);
const PROBES_PER_SET = 60;

describe("the table", () => {
  it.each(CLUSTER_POLICY_SUITE.map((given) => [given.name, given] as const))("%s", (_name, given) => {
    const rows = probesOf(given, HOUSE_PLACES);
    const probes = packetProbes(rows);
    const evaluated = evaluatedVerdicts(houseWorld(given), probes, houseManifests(given));
    const literal = literalHouseVerdicts(given, probes);
    expect(rows.map(({ text }, i) => `${text}: ${evaluated[i]}, literally ${literal[i]}`)).toEqual(
      rows.map(({ text, verdict }) => `${text}: ${verdict}, literally ${verdict}`),
    );
  });

  it("is as long as the suite, and names each case once", () => {
    const verdicts = CLUSTER_POLICY_SUITE.map(({ allow, deny }) => [allow.length, deny.length] as const);
    const [allowed, denied] = [0, 1].map((i) => verdicts.reduce((sum, counts) => sum + (counts[i] ?? 0), 0)) as [number, number];
    expect([allowed > 301, denied > 301]).toEqual([true, true]);
    expect(new Set(CLUSTER_POLICY_SUITE.map(({ name }) => name)).size).toBe(CLUSTER_POLICY_SUITE.length);
  });
});

it("random policies: as the independent evaluator says", () => {
  let allowed = 0;
  for (let seed = 1; seed <= RANDOM_SETS; seed++) {
    const given = randomHousePolicies(seed);
    const probes = randomHouseProbes(seed, PROBES_PER_SET);
    const evaluated = evaluatedVerdicts(houseWorld(given), probes, houseManifests(given));
    const literal = literalHouseVerdicts(given, probes);
    allowed += literal.filter((verdict) => verdict === "allow").length;
    const wrong = probes.flatMap((probe, i) => (evaluated[i] === literal[i] ? [] : [`${describeProbe(probe)}: ${evaluated[i]}, literally ${literal[i]}`]));
    expect(wrong, `seed ${seed}: ${JSON.stringify(given)}`).toEqual([]);
  }
  const share = allowed / (RANDOM_SETS * PROBES_PER_SET);
  expect([share > 0.2, share < 0.9]).toEqual([true, true]);
});
