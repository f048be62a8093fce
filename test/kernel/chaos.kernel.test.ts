/** Programs are killed, frozen and robbed of their state while every pair of pods is probed: see chaos.ts. The long form is soak.ts. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasCniExecutable } from "../fakes/cni-caller.ts";
import { Chaos } from "./chaos.ts";
import { Cluster } from "./cluster.ts";
import { whyNoKernel } from "./netns.ts";

const noKernel = whyNoKernel() ?? (hasCniExecutable() ? undefined : "needs dist/cni/sedge-cni: node scripts/build-cni.mjs");
const SEED = 20_261;
const BUDGET_MS = 40_000;

describe.skipIf(noKernel !== undefined)(`a cluster whose programs are killed at random, seed ${SEED} [${noKernel ?? "kernel"}]`, () => {
  let cluster: Cluster;
  let chaos: Chaos;

  beforeAll(async () => {
    cluster = await Cluster.start();
    chaos = new Chaos({ seed: SEED, cluster });
    await chaos.begin();
  });

  afterAll(async () => {
    chaos.traffic.stop();
    await cluster[Symbol.asyncDispose]();
  });

  it("no denied packet passes, no allowed one is lost, no flow breaks, and everything converges after each round", async () => {
    const until = performance.now() + BUDGET_MS;
    while (performance.now() < until && chaos.failures.length === 0) await chaos.round();
    await chaos.end();
    expect(chaos.failures).toEqual([]);
    // The account is of something: both verdicts were seen, at the rate asked for within a factor of two.
    const { passed, deniedSilently, sent, flowBytes } = chaos.traffic.counts;
    expect({ passed: passed > 1_000, denied: deniedSilently > 1_000, sent: sent > 5_000, flows: flowBytes > 10_000 }).toEqual({
      passed: true,
      denied: true,
      sent: true,
      flows: true,
    });
    expect(chaos.rounds).toBeGreaterThan(3);
  });
});
