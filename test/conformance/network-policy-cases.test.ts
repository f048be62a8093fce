/** The table of cases: the verdicts written down by hand, the independent evaluator and the program all agree. */
import { describe, expect, it } from "vitest";
import { evaluate } from "../../src/ctl/policy-evaluate.ts";
import { policyManifest, probesOf } from "./cases/case.ts";
import { PORT_AND_BLOCK_CASES } from "./cases/ports-and-blocks.ts";
import { SELECTOR_CASES } from "./cases/selectors.ts";
import { NAMESPACE_LABELS, WORLD_MANIFESTS } from "./cases/world.ts";
import { isAllowed } from "./naive-network-policy.ts";

const CASES = [...SELECTOR_CASES, ...PORT_AND_BLOCK_CASES];

describe("NetworkPolicy", () => {
  it.each(CASES.map((given) => [given.name, given] as const))("%s", (_name, given) => {
    const probes = probesOf(given);
    const results = evaluate({
      manifests: [...WORLD_MANIFESTS, ...given.policies.map(policyManifest)],
      probes: probes.map(({ from, to, port, protocol }) => ({ from: from.text, to: to.text, port, protocol })),
    });
    const world = { namespaces: NAMESPACE_LABELS, policies: given.policies };
    const expected = probes.map(({ text, verdict }) => `${text}: ${verdict}`);
    expect(probes.map((probe) => `${probe.text}: ${isAllowed(world, probe, "egress") && isAllowed(world, probe, "ingress") ? "allow" : "deny"}`)).toEqual(
      expected,
    );
    expect(probes.map(({ text }, i) => `${text}: ${results[i]?.verdict ?? "none"}`)).toEqual(expected);
  });

  it("the table covers both verdicts, every protocol and both families, in no small number", () => {
    const probes = CASES.flatMap((given) => probesOf(given));
    expect(new Set(CASES.map(({ name }) => name)).size).toBe(CASES.length);
    expect(probes.length).toBeGreaterThanOrEqual(150);
    for (const protocol of ["TCP", "UDP", "SCTP", "ICMP"]) {
      for (const verdict of ["allow", "deny"])
        expect(probes.filter((probe) => probe.protocol === protocol && probe.verdict === verdict).length, `${protocol} ${verdict}`).toBeGreaterThan(3);
    }
    expect(probes.filter(({ text }) => text.endsWith(" v6")).length).toBeGreaterThan(20);
  });
});
