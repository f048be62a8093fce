import { expect, it } from "vitest";
import type { NodeName } from "../src/model/names.ts";
import { type RecordValue, recordKey } from "../src/model/record.ts";
import { seedOf } from "../src/wire/digest.ts";
import { explainRecord } from "./explain.ts";
import { Table } from "./table/table.ts";

const NODE = "n1" as NodeName;
const POLICY = "policy/KubernetesNetworkPolicy/shop/web";

it("a policy in a list: by the list, the stack that names it, and the pod", () => {
  const table = new Table({ seed: seedOf("u") });
  const values: readonly RecordValue[] = [
    { kind: "policy", policyKind: "KubernetesNetworkPolicy", namespace: "shop", name: "web", tier: "default", ingress: [], egress: [] },
    { kind: "policy-list", stack: "x", part: "ingress-1", policies: [POLICY] },
    {
      kind: "stack",
      id: "x",
      tiers: [{ name: "default", defaultAction: "deny", ingress: ["policies/x/ingress-1"], egress: [] }],
      noMatchAction: "allow",
    },
    { kind: "endpoint", namespace: "shop", pod: "a", uid: "", stack: "stack/x", addresses: [] },
  ];
  table.commit(
    values.map((value) => ({ key: recordKey(value), value, isRemoved: false, entered: [NODE], left: [] })),
    1n,
  );
  const { inView, reasons } = explainRecord({ node: NODE, key: POLICY }, { table, describe: () => undefined });
  expect([inView, reasons.map(({ by, because }) => `${by} < ${because}`)]).toEqual([
    true,
    [`${POLICY} < policies/x/ingress-1`, "policies/x/ingress-1 < stack/x", "stack/x < endpoint/shop/a", "endpoint/shop/a < node/n1"],
  ]);
});
