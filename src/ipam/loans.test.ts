import { describe, expect, it } from "vitest";
import { type NodeName, podKey } from "../model/names.ts";
import type { BlockAllocation, IpamBlock } from "../model/resource.ts";
import { parseCidr } from "../net/cidr.ts";
import { type IpAddress, parseIp } from "../net/ip.ts";
import { askedAllocation, mergeLoanReport, mergeOwnerReport } from "./loans.ts";

const [N1, N2] = ["n1" as NodeName, "n2" as NodeName];
const at = (last: number): IpAddress => parseIp(`10.0.0.${last}`);
const own = (last: number): BlockAllocation => ({ address: at(last), handle: `net.c${last}`, pod: podKey("shop", `p${last}`), node: N1 });
const asked = (last: number, id: string, isAgreed = false): BlockAllocation => askedAllocation({ address: at(last), node: N2, id, isAgreed });
const block = (...allocations: readonly BlockAllocation[]): IpamBlock => ({
  kind: "IPAMBlock",
  name: "10-0-0-0-26",
  resourceVersion: "1",
  cidr: parseCidr("10.0.0.0/26"),
  node: N1,
  allocations,
  isDeleted: false,
});
const agreed = (last: number, id: string): BlockAllocation => asked(last, id, true);
const report = (
  of: IpamBlock,
  pods: readonly BlockAllocation[],
  lent: Readonly<Record<number, string>> = {},
  declined: readonly string[] = [],
): ReturnType<typeof mergeOwnerReport> =>
  mergeOwnerReport(of, {
    node: N1,
    allocations: pods,
    lent: new Map(Object.entries(lent).map(([last, id]) => [at(Number(last)), id])),
    declined: new Set(declined),
  });

describe("a report of the block's node", () => {
  it.each<[string, ReturnType<typeof report>, object]>([
    ["agrees by id", report(block(asked(9, "a")), [own(1)], { 9: "a" }), { allocations: [own(1), agreed(9, "a")], ended: [] }],
    ["agreed before: stays", report(block(agreed(9, "a")), [], { 9: "a" }), { allocations: [agreed(9, "a")], ended: [] }],
    ["does not know of the question yet", report(block(asked(9, "a")), []), { allocations: [asked(9, "a")], ended: [] }],
    ["declines", report(block(asked(9, "a")), [], {}, ["a"]), { allocations: [], ended: [] }],
    ["declining what was agreed changes nothing", report(block(agreed(9, "a")), [], {}, ["a"]), { allocations: [agreed(9, "a")], ended: [] }],
    ["a pod of its own wins over a question", report(block(asked(9, "a")), [own(9)]), { allocations: [own(9)], ended: [] }],
    ["over is over: the loan is nobody's", report(block(), [], { 9: "a" }), { allocations: [], ended: [at(9)] }],
    [
      "asked anew under another id: the old loan is over, the new one not agreed",
      report(block(asked(9, "b")), [], { 9: "a" }),
      { allocations: [asked(9, "b")], ended: [at(9)] },
    ],
    [
      "what is on loan is never called over, whatever id the node has",
      report(block(agreed(9, "b")), [], { 9: "a" }),
      { allocations: [agreed(9, "b")], ended: [] },
    ],
  ])("%s", (_what, found, expected) => expect(found).toEqual({ kind: "merged", ...expected }));

  it("a pod at an address that is on loan is refused by name", () => {
    expect(report(block(agreed(9, "a")), [own(9)])).toEqual({ kind: "refused", reason: "address 10.0.0.9 is held by sedge-loan-n2 of node n2" });
  });
});

describe("a report of a borrower", () => {
  const pod: BlockAllocation = { address: at(9), handle: "net.x", pod: podKey("shop", "x"), node: N2 };
  const base = { node: N2, address: at(9), claim: "a", allocation: pod } as const;

  it("puts its pod there and takes it away; the loan stays", () => {
    const withPod = mergeLoanReport(block(own(1), agreed(9, "a")), base);
    expect(withPod).toEqual([own(1), { ...pod, loan: { id: "a", claim: "a", isAgreed: true } }]);
    expect(mergeLoanReport(block(...(withPod ?? [])), { ...base, allocation: undefined })).toEqual([own(1), agreed(9, "a")]);
  });

  it.each<[string, IpamBlock, object]>([
    ["not agreed yet", block(asked(9, "a")), {}],
    ["of an earlier life", block(agreed(9, "a")), { claim: "older" }],
    ["of another node", block(agreed(9, "a")), { node: "n3" }],
    ["not on loan", block(own(9)), {}],
    ["over", block(), {}],
  ])("%s → nothing", (_what, of, more) => expect(mergeLoanReport(of, { ...base, ...more })).toBeUndefined());
});
