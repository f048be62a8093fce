import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { namespace, pod, policy } from "../../test/fakes/cluster-objects.ts";
import type { PolicyList, RecordChange, RecordKey, RecordValue } from "../model/record.ts";
import { keyOf, type Resource } from "../model/resource.ts";
import { wholeStack } from "../policy/stack-lists.ts";
import { Compute } from "./compute.ts";
import { type CutOptions, cutPolicies, LONGEST_WHOLE_LIST, listPlace } from "./policy-lists.ts";

const policyOf = (i: number): { readonly key: RecordKey; readonly place: ReturnType<typeof listPlace> } => {
  const key = `policy/GlobalNetworkPolicy//p${i}`;
  return { key, place: listPlace(key) };
};
type Placed = ReturnType<typeof policyOf>;

function cut(policies: readonly Placed[]): { readonly keys: readonly RecordKey[]; readonly lists: ReadonlyMap<RecordKey, PolicyList> } {
  const lists = new Map<RecordKey, PolicyList>();
  const options: CutOptions = { stack: "x", direction: "ingress", tier: "default", put: (list) => lists.set(`policies/${list.stack}/${list.part}`, list) };
  return { keys: cutPolicies(policies, options), lists };
}

const numbers = fc.uniqueArray(fc.nat(100_000), { minLength: LONGEST_WHOLE_LIST + 2, maxLength: 900 });

describe("cutPolicies", () => {
  it("a short list stays whole", () => {
    const policies = Array.from({ length: LONGEST_WHOLE_LIST }, (_, i) => policyOf(i));
    expect(cut(policies)).toEqual({ keys: policies.map(({ key }) => key), lists: new Map() });
  });

  it("lists add up to what was cut, in its order, each named once", () => {
    fc.assert(
      fc.property(numbers, (list) => {
        const policies = list.map(policyOf);
        const { keys, lists } = cut(policies);
        expect(keys).toEqual([...lists.keys()]);
        expect(keys.flatMap((key) => lists.get(key)?.policies ?? [])).toEqual(policies.map(({ key }) => key));
      }),
    );
  });

  it("a policy more or less, anywhere → two lists at most are others, and none has another name", () => {
    fc.assert(
      fc.property(numbers, fc.nat(), fc.integer({ min: 200_000, max: 900_000 }), (list, at, more) => {
        const before = list.map(policyOf);
        const after = before.toSpliced(at % before.length, 0, policyOf(more));
        const [old, now] = [cut(before).lists, cut(after).lists];
        const changed = [...new Set([...old.keys(), ...now.keys()])].filter((key) => JSON.stringify(old.get(key)) !== JSON.stringify(now.get(key)));
        expect(changed.length).toBeLessThanOrEqual(2);
        expect(Math.abs(old.size - now.size)).toBeLessThanOrEqual(1);
      }),
    );
  });
});

describe("Compute: a thousand policies on one selector", () => {
  const COUNT = 1_000;
  const resources: readonly Resource[] = [namespace("shop", {}), pod("a", { on: "n1" }), ...Array.from({ length: COUNT }, (_, i) => policy(`p-${i}`, {}))];
  const held = new Map<RecordKey, RecordValue>();
  const take = (changes: readonly RecordChange[]): readonly RecordChange[] => {
    for (const { key, value, isRemoved } of changes) {
      if (isRemoved) held.delete(key);
      else if (value !== undefined) held.set(key, value);
    }
    return changes;
  };
  /** The policies of the one stack, in order. */
  const named = (): readonly RecordKey[] => {
    const stack = [...held.values()].find((value) => value.kind === "stack");
    return stack === undefined ? [] : wholeStack(stack, (key) => held.get(key)).tiers.flatMap(({ ingress }) => ingress);
  };
  const expected = (names: readonly string[]): readonly RecordKey[] => names.map((name) => `policy/KubernetesNetworkPolicy/shop/${name}`).sort();
  const names = Array.from({ length: COUNT }, (_, i) => `p-${i}`);

  it("one more, and one less: it, and a list or two; the end does not depend on the path; a node more has all of them; all gone: nothing is left", () => {
    const compute = new Compute();
    for (const resource of resources) compute.apply({ kind: "upsert", resource });
    take(compute.flush().changes);
    expect(named()).toEqual(expected(names));
    for (const name of ["p-500a", "a", "zz", "p-1b"]) {
      compute.apply({ kind: "upsert", resource: policy(name, {}) });
      const changes = take(compute.flush().changes);
      expect(changes.length).toBeLessThanOrEqual(4);
      expect(named()).toEqual(expected([...names, name]));
      compute.apply({ kind: "delete", key: keyOf(policy(name, {})) });
      expect(take(compute.flush().changes).length).toBeLessThanOrEqual(4);
      expect(named()).toEqual(expected(names));
    }
    const other = new Compute();
    for (const resource of resources.toReversed()) other.apply({ kind: "upsert", resource });
    const sorted = [...held].sort(([a], [b]) => (a < b ? -1 : 1));
    expect(other.flush().changes.map(({ key, value }) => [key, value])).toEqual(sorted);

    compute.apply({ kind: "upsert", resource: pod("b", { on: "n2" }) });
    const entered = new Set(
      take(compute.flush().changes).flatMap(({ key, entered: nodes }) => (nodes.includes(pod("b", { on: "n2" }).node ?? ("" as never)) ? [key] : [])),
    );
    expect([...held.keys()].filter((key) => key !== "endpoint/shop/a" && !entered.has(key))).toEqual([]);

    for (const name of names) compute.apply({ kind: "delete", key: keyOf(policy(name, {})) });
    take(compute.flush().changes);
    expect([...held.keys()].sort()).toEqual(["endpoint/shop/a", "endpoint/shop/b"]);
  });

  it("fewer than are cut: the stack names the policies themselves", () => {
    const compute = new Compute();
    held.clear();
    for (const resource of resources) compute.apply({ kind: "upsert", resource });
    take(compute.flush().changes);
    for (const name of names.slice(LONGEST_WHOLE_LIST)) compute.apply({ kind: "delete", key: keyOf(policy(name, {})) });
    take(compute.flush().changes);
    expect([...held.values()].filter(({ kind }) => kind === "policy-list")).toEqual([]);
    expect(named()).toEqual(expected(names.slice(0, LONGEST_WHOLE_LIST)));
  });
});
