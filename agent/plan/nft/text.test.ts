import { describe, expect, it } from "vitest";
import type { NftOperation, NftRule, NftRuleset, NftTable } from "./ruleset.ts";
import { nftText, operationText, ruleText } from "./text.ts";

const table: NftTable = { family: "inet", name: "sedge" };

describe("nftText", () => {
  it("a table in nft's layout: sets before chains, members sorted and one a line", () => {
    const ruleset: NftRuleset = {
      table,
      chains: new Map([
        [
          "forward",
          {
            chain: { name: "forward", base: { type: "filter", hook: "forward", priority: -10, policy: "drop" } },
            rules: [{ statements: [{ kind: "accept" }], comment: "all" }],
          },
        ],
        ["empty", { chain: { name: "empty", comment: "for later" }, rules: [] }],
      ]),
      sets: new Map([
        [
          "s",
          { set: { name: "s", key: ["ipv4_addr"], intervals: true, comment: "web" }, elements: [{ key: "10.0.0.10" }, { key: "10.0.0.9", comment: "nine" }] },
        ],
        ["m", { set: { name: "m", key: ["ifname"], data: "verdict" }, elements: [{ key: "sdg0", data: { kind: "goto", chain: "empty" } }] }],
      ]),
    };
    expect(nftText(ruleset)).toBe(`table inet sedge {
	set s {
		type ipv4_addr
		flags interval
		comment "web"
		elements = { 10.0.0.9 comment "nine",
			     10.0.0.10 }
	}

	map m {
		type ifname : verdict
		elements = { "sdg0" : goto empty }
	}

	chain forward {
		type filter hook forward priority filter - 10; policy drop;
		accept comment "all"
	}

	chain empty {
		comment "for later"
	}
}
`);
  });
});

describe("ruleText", () => {
  it.each<[string, NftRule["statements"]]>([
    ["meta mark & 0x000000ff == 0x00000001 drop", [{ kind: "match", field: "meta mark", mask: 0xff, value: 1 }, { kind: "drop" }]],
    ["meta mark != 0x00010000/16", [{ kind: "match", field: "meta mark", mask: 0xffff0000, value: 0x10000, op: "!=" }]],
    ["meta mark 0x00000001", [{ kind: "match", field: "meta mark", mask: 0xffffffff, value: 1 }]],
    ["meta mark set meta mark & 0xffffff1f | 0x00000010", [{ kind: "set-mark", value: 0x10, mask: 0xf0 }]],
    ["ct state ! invalid", [{ kind: "match", field: "ct state", value: "invalid", op: "!=" }]],
    ["tcp dport { 80-90, 443 }", [{ kind: "match-any", field: "tcp dport", values: [443, "80-90", 85] }]],
  ])("%s", (text, statements) => {
    expect(ruleText({ statements })).toBe(text);
  });

  it("strings that nft cannot hold are refused", () => {
    expect(() => ruleText({ statements: [], comment: 'say "no"' })).toThrow(/quotes/);
  });
});

describe("operationText", () => {
  it.each<[string, NftOperation]>([
    [
      "add chain inet sedge c { type filter hook input priority filter; policy accept; }",
      { kind: "add-chain", table, chain: { name: "c", base: { type: "filter", hook: "input", priority: 0, policy: "accept" } } },
    ],
    ["delete rule inet sedge c handle 7", { kind: "delete-rule", table, chain: "c", handle: 7n }],
    [
      "create element inet sedge t { 10.0.0.1 timeout 1d1h1m1s1ms }",
      {
        kind: "add-elements",
        table,
        set: { name: "t", key: ["ipv4_addr"], timeouts: true },
        elements: [{ key: "10.0.0.1", timeoutMs: 90_061_001 }],
        exclusive: true,
      },
    ],
    [
      'delete element inet sedge m { "sdg0" }',
      { kind: "delete-elements", table, set: { name: "m", key: ["ifname"], data: "verdict" }, elements: [{ key: "sdg0", data: { kind: "drop" } }] },
    ],
  ])("%s", (text, operation) => {
    expect(operationText(operation)).toBe(text);
  });
});
