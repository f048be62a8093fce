import { describe, expect, it } from "vitest";
import { FakeNft, FakeNftKernel } from "./fake-nft.ts";
import { describeNftables } from "./nft-suite.ts";

describeNftables("fake", async () => {
  const kernel = new FakeNftKernel();
  return { nft: new FakeNft(kernel), foreign: new FakeNft(kernel), close: async () => undefined };
});

describe("FakeNft", () => {
  it("failNextWith: the next transaction fails once", async () => {
    const nft = new FakeNft();
    const transaction = { operations: [{ kind: "add-table", table: { family: "inet", name: "sedge" } } as const] };
    nft.failNextWith = "EBUSY";
    await expect(nft.apply(transaction)).rejects.toThrow(/EBUSY/);
    await nft.apply(transaction);
    expect(nft.applied).toEqual([transaction]);
    expect(nft.text({ family: "inet", name: "sedge" })).toBe("table inet sedge {\n}\n");
  });
});
