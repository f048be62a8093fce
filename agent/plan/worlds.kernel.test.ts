import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { RecordValue } from "../../src/model/record.ts";
import { A, B, recordMap, SETTINGS, world } from "../../test/fakes/plan-worlds.ts";
import { createNetns, whyNoKernel } from "../../test/kernel/netns.ts";
import { NftDriver } from "../drivers/nftables/driver.ts";
import { tableDrift } from "../drivers/nftables/state.ts";
import { diffRulesets } from "./diff.ts";
import { TABLE } from "./names.ts";
import type { NftRuleset } from "./nft/ruleset.ts";
import { desiredRuleset, PlanCache } from "./ruleset.ts";

const HOSTS: readonly RecordValue[] = ["eth0", "*"].map((interfaceName, i) => ({
  kind: "host",
  name: `h${i}`,
  interfaceName,
  addresses: [],
  stack: "stack/x",
  forwardStack: "stack/y",
  preDnatStack: "stack/x",
  untrackedStack: "stack/y",
}));

describe.skipIf(whyNoKernel() !== undefined)("random worlds in the kernel", () => {
  it("any worlds, one after the other → the kernel takes each difference, and what it says back is what was planned", async () => {
    await using netns = await createNetns("sgworlds");
    using nft = NftDriver.open({ netns: netns.path });
    const cache = new PlanCache({ largeAbove: 1, smallUpTo: 0 });
    let installed: NftRuleset | undefined;
    await fc.assert(
      fc.asyncProperty(world, fc.boolean(), fc.subarray([A, B]), async (values, hasHosts, endpoints) => {
        const records = recordMap(hasHosts ? [...values, ...HOSTS] : values);
        const { ruleset } = desiredRuleset({ records, undecodable: new Map(), endpoints, settings: SETTINGS }, cache);
        await nft.apply(diffRulesets(installed, ruleset));
        installed = ruleset;
        expect(tableDrift(ruleset, await nft.readTable(TABLE))).toEqual([]);
      }),
      { numRuns: 120 },
    );
  }, 120_000);
});
