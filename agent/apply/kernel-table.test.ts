import { describe, expect, it } from "vitest";
import { FakeNft } from "../../test/fakes/fake-nft.ts";
import { TABLE } from "../plan/names.ts";
import type { NftChain, NftElement, NftRule, NftRuleset, NftSet, NftTransaction } from "../plan/nft/ruleset.ts";
import { KernelTable } from "./kernel-table.ts";

const map: NftSet = { name: "from-endpoint", key: ["ifname"], data: "verdict" };
const drop: NftRule = { statements: [{ kind: "drop" }] };

/** One interface, whose packets go to that chain. */
function leadingTo(name: string): NftRuleset {
  const elements: readonly NftElement[] = [{ key: "cali1", data: { kind: "goto", chain: name } }];
  return {
    table: TABLE,
    chains: new Map<string, { readonly chain: NftChain; readonly rules: readonly NftRule[] }>([[name, { chain: { name }, rules: [drop] }]]),
    sets: new Map([[map.name, { set: map, elements }]]),
  };
}

/** Refuses the second transaction from when it is told to. */
class RefusingNft extends FakeNft {
  refusesSecond = false;

  override async apply(transaction: NftTransaction): Promise<void> {
    await super.apply(transaction);
    if (this.refusesSecond) this.failNextWith = "EINVAL";
    this.refusesSecond = false;
  }
}

describe("KernelTable", () => {
  it("a chain that a map is to lead to is there one commit earlier, and the old one goes with the change", async () => {
    const nft = new FakeNft();
    const table = new KernelTable(nft);
    await table.apply(leadingTo("a"));
    nft.applied.length = 0;
    await table.apply(leadingTo("b"));
    expect(nft.applied.map(({ operations }) => operations.map(({ kind }) => kind))).toEqual([
      ["add-chain", "add-rule"],
      ["delete-elements", "add-elements", "flush-chain", "delete-chain"],
    ]);
  });

  it("the change is refused after its preparation went in: tried again from what is there, and nobody else is blamed", async () => {
    const nft = new RefusingNft();
    const table = new KernelTable(nft);
    await table.apply(leadingTo("a"));
    nft.refusesSecond = true;
    await expect(table.apply(leadingTo("b"))).rejects.toThrow("EINVAL");
    expect(await table.apply(leadingTo("b"))).toMatchObject({ repaired: [] });
    expect([...((await nft.readTable(TABLE))?.chains.keys() ?? [])]).toEqual(["b"]);
  });
});
