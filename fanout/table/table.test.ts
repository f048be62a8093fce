import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import { type RecordChange, type RecordKey, type RecordValue, recordKey, SHARED_RECORD_KINDS } from "../../src/model/record.ts";
import { addTo, bucketOf, seedOf } from "../../src/wire/digest.ts";
import { encodeRecord } from "../../src/wire/record-codec.ts";
import { recordValue } from "../../test/fakes/record-arbitrary.ts";
import { Table } from "./table.ts";

const SEED = seedOf("u");
const NODES = ["n1", "n2", "n3"].map((name) => name as NodeName);
const isShared = (key: RecordKey): boolean => SHARED_RECORD_KINDS.some((kind) => key.startsWith(`${kind}/`));

type Step = {
  readonly value: RecordValue;
  readonly isRemoved: boolean;
  readonly entered: readonly NodeName[];
  readonly left: readonly NodeName[];
  readonly hasValue: boolean;
};
const step: fc.Arbitrary<Step> = fc.record({
  value: recordValue,
  isRemoved: fc.boolean(),
  entered: fc.subarray(NODES),
  left: fc.subarray(NODES),
  hasValue: fc.boolean(),
});

/** The table, computed naively. */
class Naive {
  readonly records = new Map<RecordKey, { value: RecordValue; audience: Set<NodeName> }>();

  apply({ value, isRemoved, entered, left, hasValue }: Step): RecordChange | undefined {
    const key = recordKey(value);
    const known = this.records.get(key);
    if (isRemoved) {
      this.records.delete(key);
      return { key, value: undefined, isRemoved: true, entered: [], left: [] };
    }
    if (known === undefined && !hasValue) return undefined;
    const record = known ?? { value, audience: new Set() };
    if (hasValue) record.value = value;
    if (!isShared(key)) {
      for (const node of left) record.audience.delete(node);
      for (const node of entered) record.audience.add(node);
    }
    this.records.set(key, record);
    return { key, value: hasValue ? value : undefined, isRemoved: false, entered: isShared(key) ? [] : entered, left: isShared(key) ? [] : left };
  }

  view(node: NodeName): Map<RecordKey, bigint> {
    const view = new Map<RecordKey, bigint>();
    for (const [key, { value, audience }] of this.records) if (isShared(key) || audience.has(node)) view.set(key, encodeRecord(value, SEED).hash);
    return view;
  }
}

describe("table", () => {
  it("S11 views and digests at every resolution equal the naive computation, after any commits", () => {
    fc.assert(
      fc.property(fc.array(fc.array(step, { maxLength: 6 }), { maxLength: 12 }), (commits) => {
        const table = new Table({ seed: SEED });
        const naive = new Naive();
        for (const name of NODES) table.nodes.hold(table.nodes.idOf(name));
        for (const steps of commits) {
          const before = new Map(NODES.map((node) => [node, naive.view(node)]));
          const commit = table.commit(
            steps.flatMap((one) => naive.apply(one) ?? []),
            5n,
          );
          for (const name of NODES) {
            const node = table.nodes.idOf(name);
            const view = naive.view(name);
            expect(new Map([...table.view(node)].map(({ key, hash }) => [key, hash]))).toEqual(view);
            expect(table.viewSize(node)).toBe(view.size);
            for (const bits of [0, 1, 5, 8, 9, 12]) {
              const digests = new BigUint64Array(2 ** bits);
              for (const [key, hash] of view) addTo(digests, bucketOf(key, SEED, bits), hash);
              expect(table.bucketDigests(node, bits)).toEqual(digests);
              if (bits === 0) expect(table.viewDigest(node)).toBe(digests[0]);
            }
            // Whoever's view changed is told so.
            for (const key of new Set([...view.keys(), ...(before.get(name)?.keys() ?? [])])) {
              if (view.get(key) === before.get(name)?.get(key)) continue;
              expect(commit?.touched.some((touched) => touched.key === key && (touched.nodes === undefined || touched.nodes.has(node)))).toBe(true);
            }
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  it("S11 a node with many records has the digests of a naive computation, before and after it has few again", () => {
    const table = new Table({ seed: SEED });
    const name = "n" as NodeName;
    table.nodes.hold(table.nodes.idOf(name));
    const node = table.nodes.idOf(name);
    const keys = Array.from({ length: 600 }, (_, i) => `stack/s${i}` as const);
    const expectRight = (): void => {
      for (const bits of [0, 4, 8, 10]) {
        const digests = new BigUint64Array(2 ** bits);
        for (const { key, hash } of table.view(node)) addTo(digests, bucketOf(key, SEED, bits), hash);
        expect(table.bucketDigests(node, bits)).toEqual(digests);
      }
    };
    for (const key of keys) {
      const value = { kind: "stack", id: key.slice(6), tiers: [], noMatchAction: "allow" } as const;
      table.commit([{ key, value, isRemoved: false, entered: [name], left: [] }], 1n);
      if (table.viewSize(node) % 200 === 0) expectRight();
    }
    for (const key of keys) {
      table.commit([{ key, value: undefined, isRemoved: true, entered: [], left: [] }], 1n);
      if (table.viewSize(node) % 100 === 0) expectRight();
    }
    expect(table.viewSize(node)).toBe(0);
  });

  it("S20 nodes that come and go leave nothing behind, and no number is given twice", () => {
    const table = new Table({ seed: SEED });
    const numbers = new Set<number>();
    for (let i = 0; i < 100; i++) {
      const value = { kind: "stack", id: "a", tiers: [], noMatchAction: i % 2 === 0 ? "allow" : "deny" } as const;
      const [name, last] = [`n${i}` as NodeName, `n${i - 1}` as NodeName];
      table.commit([{ key: "stack/a", value, isRemoved: false, entered: [name], left: [last] }], 1n);
      numbers.add(table.nodes.findId(name) ?? -1);
      expect([table.nodes.findId(last), table.nodes.size]).toEqual([undefined, 1]);
    }
    expect(numbers.size).toBe(100);
    table.commit([{ key: "stack/a", value: undefined, isRemoved: true, entered: [], left: [] }], 1n);
    expect(table.nodes.size).toBe(0);
  });

  it("a commit that changes nothing is no revision", () => {
    const table = new Table({ seed: SEED });
    const change: RecordChange = {
      key: "stack/a",
      value: { kind: "stack", id: "a", tiers: [], noMatchAction: "allow" },
      isRemoved: false,
      entered: [NODES[0] ?? ("" as NodeName)],
      left: [],
    };
    expect(table.commit([change], 1n)?.revision).toBe(1n);
    expect(table.commit([change], 2n)).toBeUndefined();
    expect(table.commit([{ ...change, key: "stack/b", value: undefined, isRemoved: true }], 3n)).toBeUndefined();
    expect(table.revision).toBe(1n);
    expect([...table.countByKind]).toEqual([["stack", 1]]);
  });
});
