import { describe, expect, it } from "vitest";
import type { NftOperation, NftSet } from "./nft/ruleset.ts";
import { stagesOf } from "./stages.ts";

const table = { family: "inet", name: "sedge" } as const;
const map: NftSet = { name: "from-endpoint", key: ["ifname"], data: "verdict" };
const set = (name: string): NftSet => ({ name, key: ["ipv4_addr"] });
const drop = { statements: [{ kind: "drop" }] } as const;

const addChain = (name: string): NftOperation => ({ kind: "add-chain", table, chain: { name } });
const addRule = (chain: string): NftOperation => ({ kind: "add-rule", table, chain, rule: drop });
const lead = (chain: string): NftOperation => ({ kind: "add-elements", table, set: map, elements: [{ key: "cali1", data: { kind: "goto", chain } }] });
const addMember = (name: string): NftOperation => ({ kind: "add-elements", table, set: set(name), elements: [{ key: "10.0.0.1" }] });

describe("stagesOf", () => {
  it("a map that is to lead to a new chain: the chain, its rules and the sets that are new come first, all that changes anything comes last", () => {
    const first: readonly NftOperation[] = [{ kind: "add-set", table, set: set("new") }, addMember("new"), addChain("new"), addRule("new")];
    const last: readonly NftOperation[] = [
      addMember("old"),
      { kind: "flush-chain", table, chain: "old" },
      addRule("old"),
      lead("new"),
      { kind: "delete-chain", table, chain: "gone" },
    ];
    const mixed = [...last.slice(0, 1), ...first.slice(0, 3), ...last.slice(1, 3), ...first.slice(3), ...last.slice(3)];
    expect(stagesOf({ operations: mixed })).toEqual([{ operations: first }, { operations: last }]);
  });

  it("a base chain comes last, with its rules: the kernel leads to it as soon as it is there", () => {
    const base: NftOperation = { kind: "add-chain", table, chain: { name: "base", base: { type: "filter", hook: "input", priority: 0, policy: "accept" } } };
    const operations = [addChain("new"), base, addRule("new"), addRule("base"), lead("new")];
    expect(stagesOf({ operations })).toEqual([{ operations: [addChain("new"), addRule("new")] }, { operations: [base, addRule("base"), lead("new")] }]);
  });

  it.each<readonly [string, readonly NftOperation[]]>([
    ["a map that leads to a chain that is there", [addRule("old"), lead("old")]],
    ["a new chain that only rules lead to", [addChain("new"), addRule("new"), { kind: "flush-chain", table, chain: "old" }, addRule("old")]],
    [
      "a table that is made anew",
      [{ kind: "add-table", table }, { kind: "delete-table", table }, { kind: "add-table", table }, addChain("new"), addRule("new"), lead("new")],
    ],
    ["nothing", []],
  ])("one stage: %s", (_what, operations) => {
    expect(stagesOf({ operations })).toEqual([{ operations }]);
  });
});
