import { describe, expect, it } from "vitest";
import type { NftOperation, NftSet, NftTable } from "../../plan/nft/ruleset.ts";
import { Attributes, listAttributes } from "../netlink/attributes.ts";
import { NLM_F_ACK, splitMessages } from "../netlink/message.ts";
import { encodeTransaction } from "./encode.ts";
import { decodeExpressions } from "./expression.ts";
import { expressionsFingerprint, lowerRule, ruleFingerprint } from "./lower.ts";
import { NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFT_MSG, NFTA_RULE, NFTA_SET_ELEM_LIST, nftMessageType } from "./protocol.ts";

const table: NftTable = { family: "inet", name: "sedge" };
const set: NftSet = { name: "s", key: ["ipv4_addr"] };

describe("encodeTransaction", () => {
  it("one batch: begin, messages whose numbers lead back to their operation, end; the last asks for an answer", () => {
    const operations: NftOperation[] = [
      { kind: "add-table", table },
      { kind: "add-chain", table, chain: { name: "c" } },
      // Two messages more for the anonymous set.
      { kind: "add-rule", table, chain: "c", rule: { statements: [{ kind: "match-any", field: "tcp dport", values: [1, 2] }, { kind: "drop" }] } },
      { kind: "flush-chain", table, chain: "c" },
    ];
    const { bytes, messages } = encodeTransaction({ operations }, 100);
    const sent = splitMessages(bytes);
    expect(sent.map(({ type }) => type)).toEqual([
      NFNL_MSG_BATCH_BEGIN,
      ...[NFT_MSG.newTable, NFT_MSG.newChain, NFT_MSG.newSet, NFT_MSG.newSetElem, NFT_MSG.newRule, NFT_MSG.delRule].map(nftMessageType),
      NFNL_MSG_BATCH_END,
    ]);
    expect(sent.map(({ sequence }) => sequence)).toEqual([100, 101, 102, 103, 104, 105, 106, 107]);
    expect(messages.map(({ operation }) => operation)).toEqual([0, 1, 2, 2, 2, 3]);
    expect(sent.map(({ flags }) => (flags & NLM_F_ACK) !== 0)).toEqual([false, false, false, false, false, false, true, false]);
  });

  it("long element lists are cut into messages that each fit a nest, none lost, in order", () => {
    const elements = Array.from({ length: 20_000 }, (_, index) => ({ key: `10.0.${index >> 8}.${index & 255}` }));
    const { bytes, messages } = encodeTransaction({ operations: [{ kind: "add-elements", table, set, elements }] }, 1);
    expect(messages.length).toBeGreaterThan(1);
    const sent = splitMessages(bytes).slice(1, -1);
    const lists = sent.map(({ payload }) => new Attributes(payload.subarray(4)).raw(NFTA_SET_ELEM_LIST.elements) ?? Buffer.alloc(0));
    expect(lists.reduce((sum, list) => sum + listAttributes(list).length, 0)).toBe(20_000);
    expect(Math.max(...lists.map(({ length }) => length))).toBeLessThan(65_536);
  });

  it("no elements, no message: an empty list would flush the set", () => {
    const { messages } = encodeTransaction(
      {
        operations: [
          { kind: "delete-elements", table, set, elements: [] },
          { kind: "add-elements", table, set, elements: [] },
        ],
      },
      1,
    );
    expect(messages).toEqual([]);
  });

  it.each<[string, NftOperation, RegExp]>([
    [
      "an element without the data its map needs",
      { kind: "add-elements", table, set: { name: "m", key: ["ifname"], data: "verdict" }, elements: [{ key: "sdg0" }] },
      /sdg0 of m/,
    ],
    ["an element with data its set has not", { kind: "add-elements", table, set, elements: [{ key: "10.0.0.1", data: { kind: "drop" } }] }, /10\.0\.0\.1 of s/],
    ["intervals of marks", { kind: "add-set", table, set: { name: "k", key: ["mark"], intervals: true } }, /set k/],
    ["a comment that the kernel would cut", { kind: "add-rule", table, chain: "c", rule: { statements: [], comment: "x".repeat(128) } }, /longer than 127/],
    ["a mark outside its mask", { kind: "add-rule", table, chain: "c", rule: { statements: [{ kind: "set-mark", value: 0x100, mask: 0xff }] } }, /0x100/],
    [
      "a prefix compared by size",
      { kind: "add-rule", table, chain: "c", rule: { statements: [{ kind: "match", field: "ip saddr", op: "<", value: "10.0.0.0/8" }] } },
      /ip saddr/,
    ],
    ["no values", { kind: "add-rule", table, chain: "c", rule: { statements: [{ kind: "match-any", field: "tcp dport", values: [] }] } }, /no values/],
  ])("refused with the object named: %s", (_, operation, message) => {
    expect(() => encodeTransaction({ operations: [operation] }, 1)).toThrow(message);
  });
});

describe("ruleFingerprint", () => {
  it("a rule's bytes decode to its fingerprint", () => {
    const rule = {
      statements: [
        { kind: "match", field: "ip saddr", value: "10.0.0.0/9" },
        { kind: "lookup", fields: ["iifname", "ip daddr"], set: "x", negate: true },
        { kind: "limit", rate: 10, per: "second", burst: 5 },
        { kind: "log", prefix: "p", group: 3 },
        { kind: "goto", chain: "c" },
      ],
    } as const;
    const { bytes } = encodeTransaction({ operations: [{ kind: "add-rule", table, chain: "c", rule }] }, 1);
    const payload = splitMessages(bytes)[1]?.payload ?? Buffer.alloc(0);
    const list = new Attributes(payload.subarray(4)).raw(NFTA_RULE.expressions) ?? Buffer.alloc(0);
    expect(expressionsFingerprint(decodeExpressions(list), () => undefined)).toBe(ruleFingerprint("inet", rule));
  });

  it("differs when what a rule does differs, not when only the spelling does", () => {
    const of = (value: string | number): string => ruleFingerprint("inet", { statements: [{ kind: "match-any", field: "meta l4proto", values: [value, 17] }] });
    expect(of("tcp")).toBe(of(6));
    expect(of("tcp")).not.toBe(of("sctp"));
    const field = (name: "ip saddr" | "ip daddr"): string => ruleFingerprint("inet", { statements: [{ kind: "match", field: name, value: "10.0.0.1" }] });
    expect(field("ip saddr")).not.toBe(field("ip daddr"));
  });

  it("dependencies are stated once, and not at all in a table of one family", () => {
    const rule = {
      statements: [
        { kind: "match", field: "ip saddr", value: "10.0.0.1" },
        { kind: "match", field: "ip daddr", value: "10.0.0.2" },
      ],
    } as const;
    const loads = (family: "inet" | "ip"): string[] => lowerRule(family, rule).expressions.map(({ name }) => name);
    expect(loads("inet")).toEqual(["meta", "cmp", "payload", "cmp", "payload", "cmp"]);
    expect(loads("ip")).toEqual(["payload", "cmp", "payload", "cmp"]);
  });
});
