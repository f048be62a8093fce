/** The tables of Calico's kinds and of ClusterNetworkPolicy, through manifests, compute and the evaluator. */
import { describe, expect, it } from "vitest";
import { evaluate } from "../../src/ctl/policy-evaluate.ts";
import { CALICO_CASES, CLUSTER_POLICY_CASES, type ObjectCase } from "./cases/calico.ts";
import { CALICO_CORNERS } from "./cases/calico-corners.ts";
import { probesOf } from "./cases/case.ts";
import { WORLD_MANIFESTS } from "./cases/world.ts";
import { PROBE_SOURCE_PORT } from "./packet-world.ts";

function play({ objects, ...rows }: ObjectCase): void {
  const probes = probesOf(rows);
  const results = evaluate({
    manifests: [...WORLD_MANIFESTS, ...objects],
    probes: probes.map(({ from, to, port, protocol }) => {
      // A ping, as packets are.
      const rest = protocol === "ICMP" ? { icmpType: from.address.includes(":") ? 128 : 8, icmpCode: 0 } : { port, sourcePort: PROBE_SOURCE_PORT };
      return { from: from.text, to: to.text, protocol, ...rest };
    }),
  });
  expect(probes.map(({ text }, i) => `${text}: ${results[i]?.verdict ?? "none"}`)).toEqual(probes.map(({ text, verdict }) => `${text}: ${verdict}`));
}

describe("Calico's policies", () => {
  it.each(CALICO_CASES.map((given) => [given.name, given] as const))("%s", (_name, given) => play(given));
});

describe("corners", () => {
  it.each(CALICO_CORNERS.map((given) => [given.name, given] as const))("%s", (_name, given) => play(given));
});

describe("ClusterNetworkPolicy", () => {
  it.each(CLUSTER_POLICY_CASES.map((given) => [given.name, given] as const))("%s", (_name, given) => play(given));
});

it("the tables name each case once, and have verdicts of both kinds", () => {
  const cases = [...CALICO_CASES, ...CALICO_CORNERS, ...CLUSTER_POLICY_CASES];
  expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
  expect([cases.flatMap(({ allow }) => allow).length > 150, cases.flatMap(({ deny }) => deny).length > 150]).toEqual([true, true]);
});
