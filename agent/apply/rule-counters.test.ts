import { describe, expect, it } from "vitest";
import { podKey } from "../../src/model/names.ts";
import { type RecordValue, type Rule, type RuleSide, recordKey } from "../../src/model/record.ts";
import { parseIp } from "../../src/net/ip.ts";
import { FakeNft } from "../../test/fakes/fake-nft.ts";
import { desiredRuleset } from "../plan/ruleset.ts";
import { KernelTable } from "./kernel-table.ts";

const NOTHING: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };
const rule = (origin: number, part: Partial<Rule> = {}): Rule => ({ action: "allow", protocol: 6, source: NOTHING, destination: NOTHING, origin, ...part });
const POD = { podKey: podKey("shop", "a"), interfaceName: "calia", addresses: [parseIp("10.0.0.1")] };

function world(rules: readonly Rule[]): readonly RecordValue[] {
  return [
    { kind: "policy", policyKind: "K", namespace: "shop", name: "p", tier: "default", ingress: rules, egress: [] },
    ...["x", "y"].map(
      (id): RecordValue => ({
        kind: "stack",
        id,
        tiers: [{ name: "default", defaultAction: "deny", ingress: ["policy/K/shop/p"], egress: [] }],
        noMatchAction: "allow",
      }),
    ),
    { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "stack/x", addresses: [] },
    { kind: "endpoint", namespace: "shop", pod: "b", uid: "", stack: "stack/y", addresses: [] },
  ];
}

async function apply(table: KernelTable, rules: readonly Rule[]): Promise<void> {
  const records = new Map(world(rules).map((value) => [recordKey(value), value]));
  await table.apply(desiredRuleset({ records, undecodable: new Map(), endpoints: [POD], settings: { nodeName: "n1", interfacePrefix: "cali" } }).ruleset);
}

describe("RuleCounters", () => {
  it("a rule that became several, and one written out in two stacks → one sum; rewritten chains go on from it; a gone policy is gone", async () => {
    const nft = new FakeNft();
    const table = new KernelTable(nft);
    let packets = 3n;
    nft.counted = () => packets;
    const both = rule(0, { source: { ...NOTHING, sets: ["s"] } });
    await apply(table, [both]);
    expect(await table.counts()).toEqual([{ policy: "policy/K/shop/p", direction: "ingress", rule: 0, action: "allow", packets: 6, bytes: 600 }]);
    packets = 5n;
    // Read once more before it is rewritten; what is written then begins at zero.
    nft.apply = async (transaction) => {
      await FakeNft.prototype.apply.call(nft, transaction);
      packets = 1n;
    };
    await apply(table, [both, rule(1, { action: "pass" })]);
    const counts = await table.counts();
    // 2 x 5 of the shared chain, then 1 for each of its two kernel rules in each of two stacks.
    expect(counts.map(({ rule: origin, packets: sum }) => [origin, sum])).toEqual([
      [0, 14],
      [1, 2],
    ]);
    await apply(table, []);
    expect(await table.counts()).toEqual([]);
  });
});
