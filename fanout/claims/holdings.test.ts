import { describe, expect, it } from "vitest";
import { affinityName, blockName } from "../../src/ipam/block.ts";
import { askedAllocation } from "../../src/ipam/loans.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { BlockAffinity, IpamBlock } from "../../src/model/resource.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";
import { MemoryAddressStore } from "../../test/fakes/memory-address-store.ts";
import { AddressBook } from "./address-book.ts";
import { Holdings } from "./holdings.ts";

const [N1, N2] = ["n1" as NodeName, "n2" as NodeName];
const CIDR = parseCidr("10.0.0.0/26");
const NAME = affinityName(N1, CIDR);

function fixture(
  block: Partial<IpamBlock> | undefined,
  state: BlockAffinity["state"] | undefined = "confirmed",
): { readonly store: MemoryAddressStore; readonly holdings: Holdings } {
  const store = new MemoryAddressStore();
  const base = { resourceVersion: "", cidr: CIDR, isDeleted: false } as const;
  if (block !== undefined) store.put({ kind: "IPAMBlock", name: blockName(CIDR), node: N1, allocations: [], claim: "c1", ...base, ...block });
  if (state !== undefined) store.put({ kind: "BlockAffinity", name: NAME, node: N1, state, ...base });
  let ids = 0;
  return { store, holdings: new Holdings({ book: new AddressBook(), store, newId: () => `new-${++ids}` }) };
}

const left = (store: MemoryAddressStore): readonly string[] => [...store.objects.keys()].sort();
const ALL = [`BlockAffinity/${NAME}`, "IPAMBlock/10-0-0-0-26"];
const asked = askedAllocation({ address: parseIp("10.0.0.9"), node: N2, id: "l", isAgreed: false });

describe("Holdings.release", () => {
  it.each<[string, Partial<IpamBlock> | undefined, BlockAffinity["state"] | undefined, string, readonly string[]]>([
    ["an empty block: all of it goes", {}, "confirmed", "released", []],
    ["with an address: stays", { allocations: [{ ...asked, loan: { id: "l", claim: "l", isAgreed: true } }] }, "confirmed", "in-use", ALL],
    ["with a question: stays", { allocations: [asked] }, "confirmed", "in-use", ALL],
    ["another node's: not this node's", { node: N2 }, "confirmed", "released", ALL],
    ["gone, the affinity left behind by a release that broke off: goes too", undefined, "pendingDeletion", "released", []],
    ["marked by a release that broke off: finished", { isDeleted: true }, "confirmed", "released", []],
    ["marked, the affinity too: finished", { isDeleted: true }, "pendingDeletion", "released", []],
    ["marked, the affinity gone: finished", { isDeleted: true }, undefined, "released", []],
  ])("%s", async (_what, block, state, outcome, objects) => {
    const { store, holdings } = fixture(block, state);
    expect([await holdings.release({ node: N1, cidr: CIDR, claim: "c1" }), left(store)]).toEqual([outcome, objects]);
  });

  it("a release under an older claim does nothing", async () => {
    const { store, holdings } = fixture({ claim: "c2" });
    expect([await holdings.release({ node: N1, cidr: CIDR, claim: "c1" }), left(store)]).toEqual(["released", ALL]);
    expect(store.find("IPAMBlock", blockName(CIDR))?.isDeleted).toBe(false);
  });

  it("an address that is given, or a claim that is renewed, between reading and writing: the write fails, and what is now decides", async () => {
    for (const [change, outcome] of [
      [{ allocations: [asked] }, "in-use"],
      [{ claim: "c2" }, "released"],
    ] as const) {
      const { store, holdings } = fixture({});
      let isFirst = true;
      store.before = ({ kind, verb }) => {
        const block = store.find("IPAMBlock", blockName(CIDR));
        if (!isFirst || verb !== "update" || kind !== "IPAMBlock" || block === undefined) return;
        isFirst = false;
        store.put({ ...block, ...change });
      };
      expect([await holdings.release({ node: N1, cidr: CIDR, claim: "c1" }), left(store)]).toEqual([outcome, ALL]);
    }
  });

  it("the node claims the block anew while an old release finishes: the new affinity stays confirmed", async () => {
    const { store, holdings } = fixture({});
    let isFirst = true;
    store.before = ({ kind, verb }) => {
      // The mark is there, the affinity has been read: another server finishes, and the block is claimed again.
      if (!isFirst || verb !== "update" || kind !== "BlockAffinity") return;
      isFirst = false;
      const affinity = store.find("BlockAffinity", NAME);
      const block = store.find("IPAMBlock", blockName(CIDR));
      if (affinity === undefined || block === undefined) throw new Error("they are there");
      store.put({ ...affinity, state: "confirmed" });
      store.put({ ...block, isDeleted: false, claim: "c2" });
    };
    await holdings.release({ node: N1, cidr: CIDR, claim: "c1" });
    expect([store.find("BlockAffinity", NAME)?.state, store.find("IPAMBlock", blockName(CIDR))?.claim]).toEqual(["confirmed", "c2"]);
  });
});

describe("Holdings.takeOver", () => {
  it("a new claim, and the affinity confirmed from wherever it is", async () => {
    for (const state of ["confirmed", "pending", "pendingDeletion", undefined] as const) {
      const { store, holdings } = fixture({}, state);
      expect((await holdings.takeOver(N1, CIDR))?.claim).toBe("new-1");
      expect(store.find("BlockAffinity", NAME)?.state).toBe("confirmed");
    }
  });

  it("not another node's, and not what is being given back: that is finished", async () => {
    const others = fixture({ node: N2 });
    expect([await others.holdings.takeOver(N1, CIDR), left(others.store)]).toEqual([undefined, ALL]);
    const marked = fixture({ isDeleted: true });
    expect([await marked.holdings.takeOver(N1, CIDR), left(marked.store)]).toEqual([undefined, []]);
  });
});
