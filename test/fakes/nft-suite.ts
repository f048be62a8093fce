/**
 * What every implementation of `Nftables` must do: run on the fake and on the kernel, so that tests with the fake tell
 * about the kernel. `open` gives two connections to one fresh ruleset.
 */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Nftables, NftForeignChange } from "../../agent/drivers/nftables/driver.ts";
import { NftTransactionError } from "../../agent/drivers/nftables/error.ts";
import { tableDrift } from "../../agent/drivers/nftables/state.ts";
import type { NftBaseChain, NftOperation, NftRule, NftRuleset, NftSet, NftTable, NftTransaction } from "../../agent/plan/nft/ruleset.ts";

export type NftSuiteFixture = {
  readonly nft: Nftables;
  /** Another connection to the same ruleset. */
  readonly foreign: Nftables;
  close(): Promise<void>;
};

const table: NftTable = { family: "inet", name: "sedge" };
const other: NftTable = { family: "inet", name: "other" };
const forward: NftBaseChain = { type: "filter", hook: "forward", priority: 0, policy: "accept" };
const pods: NftSet = { name: "pods", key: ["ifname"], data: "verdict" };
const addresses: NftSet = { name: "addresses", key: ["ipv4_addr"] };
const prefixes: NftSet = { name: "prefixes", key: ["ipv4_addr"], intervals: true };
const ports: NftSet = { name: "ports", key: ["ipv4_addr", "inet_proto", "inet_service"] };
const accept: NftRule = { statements: [{ kind: "accept" }] };

const addTable: NftOperation = { kind: "add-table", table };
const addChain = (name: string, base?: NftBaseChain): NftOperation => ({ kind: "add-chain", table, chain: base === undefined ? { name } : { name, base } });
const addRule = (chain: string, rule: NftRule): NftOperation => ({ kind: "add-rule", table, chain, rule });
const addSet = (set: NftSet): NftOperation => ({ kind: "add-set", table, set });
const addKeys = (set: NftSet, ...keys: readonly string[]): NftOperation => ({ kind: "add-elements", table, set, elements: keys.map((key) => ({ key })) });
const deleteKeys = (set: NftSet, ...keys: readonly string[]): NftOperation => ({ kind: "delete-elements", table, set, elements: keys.map((key) => ({ key })) });
const transaction = (...operations: readonly NftOperation[]): NftTransaction => ({ operations });

/** A small whole policy: a hook, a verdict map, a pod chain, sets of all shapes. */
function wholeTable(): { readonly operations: readonly NftOperation[]; readonly ruleset: NftRuleset } {
  const podRules: NftRule[] = [
    { statements: [{ kind: "match", field: "ct state", value: "established,related" }, { kind: "counter" }, { kind: "accept" }], comment: "established" },
    {
      statements: [
        { kind: "lookup", fields: ["ip saddr"], set: "addresses" },
        { kind: "match-any", field: "tcp dport", values: [443, 80] },
        { kind: "accept" },
      ],
    },
    { statements: [{ kind: "lookup", fields: ["ip saddr"], negate: true, set: "prefixes" }, { kind: "drop" }] },
    { statements: [{ kind: "lookup", fields: ["ip daddr", "meta l4proto", "th dport"], set: "ports" }, { kind: "accept" }] },
    { statements: [{ kind: "drop" }], comment: "default deny" },
  ];
  const forwardRules: NftRule[] = [{ statements: [{ kind: "vmap", fields: ["oifname"], map: "pods" }] }];
  const podElements = [{ key: "sdg0", data: { kind: "goto", chain: "pod-0" } as const }];
  const ruleset: NftRuleset = {
    table,
    sets: new Map([
      ["addresses", { set: addresses, elements: [{ key: "10.65.0.1" }, { key: "10.65.0.2", comment: "web" }] }],
      ["prefixes", { set: prefixes, elements: [{ key: "10.0.0.0/8" }, { key: "192.0.2.1-192.0.2.9" }] }],
      ["ports", { set: ports, elements: [{ key: "10.65.0.1 . tcp . 80" }, { key: "10.65.0.1 . sctp . 99" }] }],
      ["pods", { set: pods, elements: podElements }],
    ]),
    chains: new Map([
      ["pod-0", { chain: { name: "pod-0" }, rules: podRules }],
      ["forward", { chain: { name: "forward", base: forward }, rules: forwardRules }],
    ]),
  };
  const operations: NftOperation[] = [addTable];
  for (const { set } of ruleset.sets.values()) operations.push(addSet(set));
  for (const { chain } of ruleset.chains.values()) operations.push({ kind: "add-chain", table, chain });
  for (const { set, elements } of ruleset.sets.values()) operations.push({ kind: "add-elements", table, set, elements });
  for (const [chain, { rules }] of ruleset.chains) for (const rule of rules) operations.push(addRule(chain, rule));
  return { operations, ruleset };
}

async function failuresOf(nft: Nftables, refused: NftTransaction): Promise<string[]> {
  try {
    await nft.apply(refused);
    return [];
  } catch (error) {
    if (!(error instanceof NftTransactionError)) throw error;
    return error.failures.map(({ index, code }) => `${index} ${code}`);
  }
}

export function describeNftables(name: string, open: () => Promise<NftSuiteFixture>): void {
  describe(`Nftables: ${name}`, () => {
    let fixture: NftSuiteFixture;
    let nft: Nftables;

    beforeEach(async () => {
      fixture = await open();
      nft = fixture.nft;
    });
    afterEach(async () => {
      await fixture.close();
    });

    it("a table that is not there reads as undefined, and drifts as missing", async () => {
      expect(await nft.readTable(table)).toBeUndefined();
      expect(tableDrift(wholeTable().ruleset, await nft.readTable(table))).toEqual([{ kind: "table-missing" }]);
    });

    it("what was applied reads back without drift, also by a connection that did not apply it", async () => {
      const { operations, ruleset } = wholeTable();
      await nft.apply({ operations });
      expect(tableDrift(ruleset, await fixture.foreign.readTable(table))).toEqual([]);
      const state = await nft.readTable(table);
      expect([...(state?.chains.keys() ?? [])].sort()).toEqual(["forward", "pod-0"]);
      expect(state?.chains.get("pod-0")?.rules.map(({ comment }) => comment)).toEqual(["established", undefined, undefined, undefined, "default deny"]);
      expect(state?.sets.get("prefixes")).toEqual({ set: prefixes, elements: [{ key: "10.0.0.0/8" }, { key: "192.0.2.1-192.0.2.9" }] });
      expect(state?.sets.get("pods")?.elements).toEqual([{ key: "sdg0", data: { kind: "goto", chain: "pod-0" } }]);
    });

    it("applying the same table twice in one chain-wise form changes nothing", async () => {
      const { operations, ruleset } = wholeTable();
      await nft.apply({ operations });
      await nft.apply(
        transaction(
          ...operations.filter(({ kind }) => kind !== "add-rule"),
          ...["pod-0", "forward"].map((chain): NftOperation => ({ kind: "flush-chain", table, chain })),
          ...operations.filter(({ kind }) => kind === "add-rule"),
        ),
      );
      expect(tableDrift(ruleset, await nft.readTable(table))).toEqual([]);
    });

    it("the whole table is replaced in one transaction", async () => {
      await nft.apply(transaction(addTable, addChain("old"), addRule("old", accept)));
      const { operations, ruleset } = wholeTable();
      await nft.apply(transaction({ kind: "delete-table", table }, ...operations));
      expect(tableDrift(ruleset, await nft.readTable(table))).toEqual([]);
    });

    it("add, delete, add replaces the table whether it exists or not", async () => {
      const { operations, ruleset } = wholeTable();
      for (let round = 0; round < 2; round += 1) {
        await nft.apply(transaction(addTable, { kind: "delete-table", table }, ...operations));
        expect(tableDrift(ruleset, await nft.readTable(table))).toEqual([]);
      }
    });

    it("each kind of drift is found", async () => {
      const { operations, ruleset } = wholeTable();
      await nft.apply({ operations });
      await fixture.foreign.apply(
        transaction(
          addChain("extra"),
          addSet({ name: "surplus", key: ["inet_service"] }),
          addKeys(addresses, "10.65.0.99"),
          deleteKeys(addresses, "10.65.0.1"),
          addRule("forward", accept),
          addChain("forward", { ...forward, policy: "drop" }),
        ),
      );
      expect(tableDrift(ruleset, await nft.readTable(table))).toEqual([
        { kind: "chain-differs", chain: "forward" },
        { kind: "rules-differ", chain: "forward" },
        { kind: "chain-extra", chain: "extra" },
        { kind: "elements-differ", set: "addresses", missing: [{ key: "10.65.0.1" }], extra: [{ key: "10.65.0.99" }] },
        { kind: "set-extra", set: "surplus" },
      ]);
    });

    it.each<[string, NftOperation[], string[]]>([
      ["rule to a missing chain", [addRule("nope", accept)], ["0 ENOENT"]],
      ["rule that jumps to a missing chain", [addRule("forward", { statements: [{ kind: "jump", chain: "nope" }] })], ["0 ENOENT"]],
      [
        "rule that looks into a missing set",
        [addRule("forward", { statements: [{ kind: "lookup", fields: ["ip saddr"], set: "nope" }, { kind: "drop" }] })],
        ["0 ENOENT"],
      ],
      ["jump to a base chain", [addRule("pod-0", { statements: [{ kind: "jump", chain: "forward" }] })], ["0 EOPNOTSUPP"]],
      [
        "map element to a missing chain",
        [{ kind: "add-elements", table, set: pods, elements: [{ key: "sdg9", data: { kind: "jump", chain: "nope" } }] }],
        ["0 ENOENT"],
      ],
      [
        "map element that is there with another verdict",
        [{ kind: "add-elements", table, set: pods, elements: [{ key: "sdg0", data: { kind: "drop" } }] }],
        ["0 EEXIST"],
      ],
      ["exclusive element that exists", [{ kind: "add-elements", table, set: addresses, elements: [{ key: "10.65.0.1" }], exclusive: true }], ["0 EEXIST"]],
      ["element to a missing set", [addKeys({ name: "nope", key: ["ipv4_addr"] }, "10.0.0.1")], ["0 ENOENT"]],
      ["deleting an element that is not there", [deleteKeys(addresses, "10.65.0.77")], ["0 ENOENT"]],
      ["set that exists with another type", [addSet({ name: "addresses", key: ["inet_service"] })], ["0 EEXIST"]],
      ["deleting a set in use", [{ kind: "delete-set", table, set: "addresses" }], ["0 EBUSY"]],
      ["deleting a chain that a map leads to", [{ kind: "delete-chain", table, chain: "pod-0" }], ["0 EBUSY"]],
      ["deleting a missing chain", [{ kind: "delete-chain", table, chain: "nope" }], ["0 ENOENT"]],
      ["flushing a missing chain", [{ kind: "flush-chain", table, chain: "nope" }], ["0 ENOENT"]],
      ["deleting a missing set", [{ kind: "delete-set", table, set: "nope" }], ["0 ENOENT"]],
      ["deleting a missing rule", [{ kind: "delete-rule", table, chain: "forward", handle: 4711n }], ["0 ENOENT"]],
      ["deleting a missing table", [{ kind: "delete-table", table: other }], ["0 ENOENT"]],
      ["chain in a missing table", [{ kind: "add-chain", table: other, chain: { name: "x" } }], ["0 ENOENT"]],
      [
        "two faults among sound operations",
        [addChain("new"), addRule("nope", accept), addKeys(addresses, "10.65.0.3"), deleteKeys(addresses, "10.65.0.77")],
        ["1 ENOENT", "3 ENOENT"],
      ],
    ])("refused whole, with the operation named: %s", async (_, operations, expected) => {
      const { operations: setup, ruleset } = wholeTable();
      await nft.apply({ operations: setup });
      expect(await failuresOf(nft, transaction(addTable, ...operations))).toEqual(
        expected.map((text) => text.replace(/^\d+/, (index) => String(Number(index) + 1))),
      );
      expect(tableDrift(ruleset, await nft.readTable(table))).toEqual([]);
    });

    it("an interval that overlaps one that is there is refused", async () => {
      await nft.apply(transaction(addTable, addSet(prefixes), addKeys(prefixes, "10.0.0.0/8")));
      expect(await failuresOf(nft, transaction(addKeys(prefixes, "10.65.0.0/16")))).toHaveLength(1);
      await nft.apply(transaction(deleteKeys(prefixes, "10.0.0.0/8"), addKeys(prefixes, "10.65.0.0/16", "10.65.3.0/24", "10.66.0.1")));
      expect((await nft.readTable(table))?.sets.get("prefixes")?.elements).toEqual([{ key: "10.65.0.0/16" }, { key: "10.66.0.1" }]);
    });

    it("elements change one by one; adjacent intervals stay apart; the ends of the address space work", async () => {
      await nft.apply(transaction(addTable, addSet(prefixes), addKeys(prefixes, "0.0.0.0/8", "10.65.0.0/25", "10.65.0.128/25", "255.0.0.0/8")));
      await nft.apply(transaction(deleteKeys(prefixes, "10.65.0.128/25", "255.0.0.0/8"), addKeys(prefixes, "10.65.1.0/25", "255.255.255.255")));
      const state = await nft.readTable(table);
      expect(state?.sets.get("prefixes")?.elements.map(({ key }) => key)).toEqual(["0.0.0.0/8", "10.65.0.0/25", "10.65.1.0/25", "255.255.255.255"]);
      await nft.apply(transaction({ kind: "flush-set", table, set: "prefixes" }, addKeys(prefixes, "0.0.0.0/0")));
      expect((await nft.readTable(table))?.sets.get("prefixes")?.elements).toEqual([{ key: "0.0.0.0/0" }]);
    });

    it("a verdict changes by delete and add in one transaction", async () => {
      await nft.apply(
        transaction(addTable, addChain("a"), addChain("b"), addSet(pods), {
          kind: "add-elements",
          table,
          set: pods,
          elements: [{ key: "sdg0", data: { kind: "jump", chain: "a" } }],
        }),
      );
      await nft.apply(
        transaction(
          deleteKeys(pods, "sdg0"),
          { kind: "add-elements", table, set: pods, elements: [{ key: "sdg0", data: { kind: "jump", chain: "b" } }] },
          { kind: "delete-chain", table, chain: "a" },
        ),
      );
      expect((await nft.readTable(table))?.sets.get("pods")?.elements).toEqual([{ key: "sdg0", data: { kind: "jump", chain: "b" } }]);
    });

    it("a rule is deleted by the handle that was read", async () => {
      await nft.apply(transaction(addTable, addChain("c"), addRule("c", { statements: [{ kind: "drop" }] }), addRule("c", accept)));
      const [first] = (await nft.readTable(table))?.chains.get("c")?.rules ?? [];
      await nft.apply(transaction({ kind: "delete-rule", table, chain: "c", handle: first?.handle ?? 0n }));
      expect((await nft.readTable(table))?.chains.get("c")?.rules.map(({ fingerprint }) => fingerprint)).toEqual(["accept"]);
    });

    it("other tables are not touched, and a value without meaning is refused before anything is sent", async () => {
      await fixture.foreign.apply(transaction({ kind: "add-table", table: other }, { kind: "add-chain", table: other, chain: { name: "theirs" } }));
      const { operations } = wholeTable();
      await nft.apply({ operations });
      await nft.apply(transaction({ kind: "delete-table", table }));
      expect([...((await nft.readTable(other))?.chains.keys() ?? [])]).toEqual(["theirs"]);
      await nft.apply({ operations });
      await expect(nft.apply(transaction(addChain("new"), addKeys(addresses, "10.0.0.999")))).rejects.toThrow(/10\.0\.0\.999/);
      await expect(
        nft.apply(
          transaction(
            addChain("new"),
            addRule("new", {
              statements: [
                { kind: "match", field: "ip saddr", value: "10.0.0.1" },
                { kind: "match", field: "ip6 daddr", value: "fd00::1" },
              ],
            }),
          ),
        ),
      ).rejects.toThrow(/ipv6/);
      expect((await nft.readTable(table))?.chains.has("new")).toBe(false);
    });

    it("generation grows with each commit of anyone", async () => {
      const before = await nft.generation();
      await nft.apply(transaction(addTable));
      const between = await nft.generation();
      await fixture.foreign.apply(transaction({ kind: "add-table", table: other }));
      expect(between).toBeGreaterThan(before);
      expect(await nft.generation()).toBeGreaterThan(between);
    });

    it("watch: foreign changes to our table are told; our own, and those to other tables, are not", async () => {
      await nft.apply(transaction(addTable));
      const stop = new AbortController();
      const seen: NftForeignChange[] = [];
      let wake: () => void = () => undefined;
      const told = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const watching = nft.watch(
        table,
        (change) => {
          seen.push(change);
          wake();
        },
        stop.signal,
      );
      await nft.apply(transaction(addChain("ours")));
      await fixture.foreign.apply(transaction({ kind: "add-table", table: other }));
      await fixture.foreign.apply(transaction(addChain("theirs")));
      await told;
      stop.abort();
      await watching;
      expect(seen).toHaveLength(1);
      expect(seen[0]?.kind).toBe("changed");
    });
  });
}
