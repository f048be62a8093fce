import { describe, expect, it } from "vitest";
import { blockName } from "../../src/ipam/block.ts";
import type { NodeName, PodKey } from "../../src/model/names.ts";
import type { BlockAllocation, IpamBlock } from "../../src/model/resource.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, ipBytes, parseIp } from "../../src/net/ip.ts";
import type { EndpointReport, ReportResult } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { prefixToWire } from "../../src/wire/prefix-codec.ts";
import { MemoryAddressStore } from "../../test/fakes/memory-address-store.ts";
import { AddressBook } from "./address-book.ts";
import { EndpointReports } from "./endpoint-reports.ts";

const N1 = "n1" as NodeName;
const BLOCK = parseCidr("10.0.0.0/26");
const block = (allocations: readonly BlockAllocation[] = [], node: NodeName | undefined = N1): IpamBlock => ({
  kind: "IPAMBlock",
  name: blockName(BLOCK),
  resourceVersion: "",
  cidr: BLOCK,
  node,
  allocations,
  isDeleted: false,
});
const report = (generation: bigint, ...addresses: string[]): EndpointReport => ({
  block: prefixToWire(BLOCK),
  generation,
  allocations: addresses.map((address) => ({
    address: Buffer.from(ipBytes(address as IpAddress)),
    handle: `net.${address}`,
    namespace: "shop",
    pod: `p${address}`,
  })),
  claim: "",
  of: undefined,
  lent: [],
  declined: [],
});

class Fixture {
  readonly store = new MemoryAddressStore();
  readonly results: ReportResult[] = [];
  readonly outcomes: string[] = [];
  readonly reports = new EndpointReports({ book: new AddressBook(), store: this.store, onWrite: (outcome) => this.outcomes.push(outcome) });

  take(message: EndpointReport, session: object = this): void {
    this.reports.take({ session, node: N1, report: message, reply: (result) => this.results.push(result) });
  }

  async settle(): Promise<void> {
    while (this.reports.backlog > 0) await new Promise((resolve) => setImmediate(resolve));
  }

  get addresses(): string[] {
    return this.store.find("IPAMBlock", blockName(BLOCK))?.allocations.map(({ address }) => address) ?? [];
  }
}

describe("endpoint reports", () => {
  it("another node's report of the block → refused; it does not take the place of the holder's that waits, nor its answer", async () => {
    const f = new Fixture();
    f.store.put(block());
    f.take(report(1n, "10.0.0.1"));
    // The first is being written, this one waits behind it.
    f.take(report(2n, "10.0.0.2"));
    const refused: ReportResult[] = [];
    f.reports.take({ session: {}, node: "n2" as NodeName, report: report(99n), reply: (result) => refused.push(result) });
    await f.settle();
    expect(f.results.map(({ generation, error }) => [generation, error])).toEqual([
      [1n, ""],
      [2n, ""],
    ]);
    expect(refused).toMatchObject([{ error: `IPAMBlock ${blockName(BLOCK)} belongs to node n1, not to n2`, retry: false }]);
    expect(f.addresses).toEqual(["10.0.0.2"]);
  });

  it("become the block's allocations; a repeated one writes nothing; an older generation is ignored", async () => {
    const f = new Fixture();
    f.store.put(block());
    f.take(report(2n, "10.0.0.5", "10.0.0.4"));
    await f.settle();
    expect(f.addresses).toEqual(["10.0.0.4", "10.0.0.5"]);
    expect(f.store.find("IPAMBlock", blockName(BLOCK))?.allocations[0]).toEqual({
      address: "10.0.0.4",
      handle: "net.10.0.0.4",
      pod: "shop/p10.0.0.4",
      node: "n1",
    });
    f.take(report(2n, "10.0.0.5", "10.0.0.4"));
    await f.settle();
    f.take(report(1n));
    await f.settle();
    expect(f.outcomes).toEqual(["written", "unchanged"]);
    expect(f.results.map(({ generation, error }) => [generation, error])).toEqual([
      [2n, ""],
      [2n, ""],
    ]);
    // A node that lost its disk counts anew in a new session.
    f.take(report(1n), {});
    await f.settle();
    expect(f.addresses).toEqual([]);
  });

  it("a storm is a few writes, the last of which is the newest", async () => {
    const f = new Fixture();
    f.store.put(block());
    for (let i = 1; i <= 50; i++) f.take(report(BigInt(i), `10.0.0.${i}`));
    await f.settle();
    expect(f.addresses).toEqual(["10.0.0.50"]);
    expect(f.outcomes.length).toBeLessThanOrEqual(2);
    expect(f.results.at(-1)).toMatchObject({ generation: 50n, error: "" });
  });

  it("a conflict is read again; what others hold in the block stays", async () => {
    const f = new Fixture();
    const tunnel: BlockAllocation = { address: parseIp("10.0.0.1"), handle: "vxlan-tunnel-addr-n1", pod: undefined, node: N1 };
    const borrowed: BlockAllocation = { address: parseIp("10.0.0.2"), handle: "h", pod: "a/b" as PodKey, node: "n2" as NodeName };
    f.store.put(block());
    let isFirst = true;
    f.store.before = ({ verb }) => {
      if (verb !== "update" || !isFirst) return;
      isFirst = false;
      f.store.put(block([tunnel, borrowed]));
    };
    f.take(report(1n, "10.0.0.9"));
    await f.settle();
    expect(f.addresses).toEqual(["10.0.0.1", "10.0.0.2", "10.0.0.9"]);
    f.take(report(2n, "10.0.0.2"));
    await f.settle();
    expect(f.results.at(-1)).toMatchObject({ error: "address 10.0.0.2 is held by h of node n2", retry: false });
  });

  it("a report under an older claim writes nothing and says so; loans that are over are told", async () => {
    const f = new Fixture();
    f.store.put({ ...block(), claim: "new" });
    f.take({ ...report(1n, "10.0.0.4"), claim: "old" });
    await f.settle();
    expect(f.results).toMatchObject([{ retry: false, superseded: true, error: expect.stringContaining("later life") as string }]);
    expect(f.addresses).toEqual([]);
    f.take({ ...report(2n, "10.0.0.4"), claim: "new", lent: [{ address: Buffer.from(ipBytes(parseIp("10.0.0.9"))), id: "gone" }] });
    await f.settle();
    expect(f.results.at(-1)).toMatchObject({ error: "", superseded: false, ended: [Buffer.from([10, 0, 0, 9])] });
  });

  const refused: readonly (readonly [string, EndpointReport, IpamBlock | undefined, string, boolean])[] = [
    ["no block", { ...report(1n), block: undefined }, block(), "names no block", false],
    ["another node's block", report(1n), block([], "n2" as NodeName), "belongs to node n2", false],
    ["a block that is gone", report(1n), undefined, "does not exist", true],
    ["an address outside", report(1n, "10.0.1.1"), block(), "not in block", false],
    ["an address twice", report(1n, "10.0.0.1", "10.0.0.1"), block(), "twice", false],
  ];
  it.each(refused)("%s → an error that says so", async (_, message, stored, text, retry) => {
    const f = new Fixture();
    if (stored !== undefined) f.store.put(stored);
    f.take(message);
    await f.settle();
    expect(f.results).toMatchObject([{ retry, error: expect.stringContaining(text) as string }]);
  });

  it("the API is down → come again", async () => {
    const f = new Fixture();
    f.store.put(block());
    f.store.before = () => Promise.reject(new Error("down"));
    f.take(report(1n, "10.0.0.1"));
    await f.settle();
    expect(f.results).toMatchObject([{ retry: true, error: "the API cannot be written now: down" }]);
  });
});
