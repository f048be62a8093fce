import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import { type Pool, type RecordValue, recordKey } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { poolsOf } from "./node-pools.ts";

const pool = (name: string, more: Partial<Pool> = {}): Pool => ({
  kind: "pool",
  name,
  cidr: parseCidr("10.0.0.0/16"),
  natOutgoing: false,
  disabled: false,
  blockSize: 26,
  ...more,
});
const records = (...values: readonly RecordValue[]): Map<string, RecordValue> => new Map(values.map((value) => [recordKey(value), value]));

describe("poolsOf", () => {
  it("a pool that does not select the node is for those who name it; a disabled one stays disabled", () => {
    const own = { kind: "node-pools", node: "n1" as NodeName, excluded: ["east", "off"] } as const;
    const all = records(pool("all"), pool("east"), pool("off", { disabled: true }), own);
    expect(poolsOf("n1", all)).toEqual([pool("all"), pool("east", { disabled: true, isSelective: true }), pool("off", { disabled: true })]);
    expect(poolsOf("n2", all)).toEqual([pool("all"), pool("east"), pool("off", { disabled: true })]);
  });
});
