import { randomUUID } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { affinityName, blockName } from "../../src/ipam/block.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { BlockAffinity, IpamBlock, IpamConfiguration, IpPool } from "../../src/model/resource.ts";
import { type Cidr, cidrAddressAt, parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, parseIp } from "../../src/net/ip.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { MemoryAddressStore } from "../../test/fakes/memory-address-store.ts";
import { AddressBook } from "./address-book.ts";
import { BlockClaims, type Claimed, type ClaimRequest } from "./block-claims.ts";
import { Borrowing } from "./borrowing.ts";

const N1 = "n1" as NodeName;
const N2 = "n2" as NodeName;
const POOL: IpPool = {
  kind: "IPPool",
  name: "p4",
  resourceVersion: "1",
  cidr: parseCidr("10.65.0.0/24"),
  blockSize: 26,
  natOutgoing: false,
  disabled: false,
  nodeSelector: "all()",
};

const IPAM: IpamConfiguration = {
  kind: "IPAMConfiguration",
  name: "default",
  resourceVersion: "1",
  strictAffinity: false,
  maxBlocksPerHost: 20,
  autoAllocateBlocks: true,
  ipCooldownSeconds: undefined,
};

function fixture(
  pools: readonly IpPool[] = [POOL],
  store = new MemoryAddressStore(),
  floatingNodeOf: (address: IpAddress) => NodeName | undefined = () => undefined,
): { store: MemoryAddressStore; book: AddressBook; claims: BlockClaims } {
  const book = new AddressBook();
  for (const name of [N1, N2]) book.apply({ kind: "upsert", resource: { kind: "Node", name, resourceVersion: "1", labels: { zone: name }, addresses: [] } });
  for (const resource of pools) book.apply({ kind: "upsert", resource });
  const borrowing = new Borrowing({ book, store, clock: new ManualClock(), newId: randomUUID, floatingNodeOf });
  return { store, book, claims: new BlockClaims({ book, store, borrowing, newId: randomUUID, floatingNodeOf }) };
}

const blockOf = (cidr: Cidr, node: NodeName | undefined, used = 0): IpamBlock => ({
  kind: "IPAMBlock",
  name: blockName(cidr),
  resourceVersion: "",
  cidr,
  node,
  isDeleted: false,
  allocations: Array.from({ length: used }, (_, i) => ({ address: cidrAddressAt(cidr, i), handle: `h${i}`, pod: undefined, node })),
});
const affinityOf = (cidr: Cidr, node: NodeName, state: BlockAffinity["state"]): BlockAffinity => ({
  kind: "BlockAffinity",
  name: affinityName(node, cidr),
  resourceVersion: "",
  node,
  cidr,
  state,
  isDeleted: false,
});
async function claimBlock(claims: BlockClaims, request: Omit<ClaimRequest, "version">): Promise<Extract<Claimed, { kind: "block" }>> {
  const claimed = await claims.claim({ ...request, version: 4 });
  if (claimed.kind !== "block") throw new Error("addresses were borrowed");
  return claimed;
}
const ask = (claims: BlockClaims, node = N1, full: readonly Cidr[] = []): ReturnType<typeof claimBlock> => claimBlock(claims, { node, full });

/** What must hold of the API whatever happened: a confirmed affinity's block says the same node, and no block has two confirmed affinities. */
function expectSound(store: MemoryAddressStore): void {
  const confirmed = [...store.objects.values()].filter((object) => object.kind === "BlockAffinity" && object.state === "confirmed") as BlockAffinity[];
  for (const { node, cidr } of confirmed) expect(store.find("IPAMBlock", blockName(cidr))?.node).toBe(node);
  expect(new Set(confirmed.map(({ cidr }) => cidr)).size).toBe(confirmed.length);
}

describe("which block", () => {
  const pool = (name: string, cidr: string, more: Partial<IpPool> = {}): IpPool => ({ ...POOL, name, cidr: parseCidr(cidr), ...more });
  const configuration = (more: Partial<IpamConfiguration>): IpamConfiguration => ({ ...IPAM, ...more });

  it("of no pool that selects namespaces or is manual, unless it is named", async () => {
    const { claims } = fixture([
      pool("gold", "10.1.0.0/24", { namespaceSelector: "tier == 'gold'" }),
      pool("manual", "10.2.0.0/24", { disabled: true, isManual: true }),
      pool("open", "10.3.0.0/24"),
    ]);
    expect((await ask(claims)).pool.name).toBe("open");
    expect((await claimBlock(claims, { node: N1, full: [], pools: ["manual", "gold"] })).pool.name).toBe("manual");
    await expect(claims.claim({ node: N1, version: 4, full: [], pools: ["none"] })).rejects.toMatchObject({ problem: "no-free-block" });
  });

  it("a named pool is taken whatever nodes it selects, a disabled one never", async () => {
    const { claims } = fixture([pool("west", "10.1.0.0/24", { nodeSelector: "zone == 'n2'" }), pool("off", "10.2.0.0/24", { disabled: true })]);
    await expect(ask(claims)).rejects.toMatchObject({ problem: "no-free-block" });
    expect((await claimBlock(claims, { node: N1, full: [], pools: ["west"] })).pool.name).toBe("west");
    await expect(claims.claim({ node: N1, version: 4, full: [], pools: ["off"] })).rejects.toMatchObject({ problem: "no-free-block" });
  });

  it("none beyond maxBlocksPerHost; those that the node has still count", async () => {
    const { book, claims } = fixture();
    book.apply({ kind: "upsert", resource: configuration({ maxBlocksPerHost: 1 }) });
    const { block } = await ask(claims);
    expect((await ask(claims)).block.cidr).toBe(block.cidr);
    await expect(ask(claims, N1, [block.cidr])).rejects.toThrow("maxBlocksPerHost");
    expect((await ask(claims, N2)).block.cidr).not.toBe(block.cidr);
  });

  it("no new one when autoAllocateBlocks is false", async () => {
    const { book, claims } = fixture();
    book.apply({ kind: "upsert", resource: configuration({ autoAllocateBlocks: false }) });
    await expect(ask(claims)).rejects.toThrow("autoAllocateBlocks");
  });

  it("none that is reserved as a whole", async () => {
    const { book, claims } = fixture();
    book.apply({
      kind: "upsert",
      resource: {
        kind: "IPReservation",
        name: "r",
        resourceVersion: "1",
        reservedCidrs: [parseCidr("10.65.0.0/25"), parseCidr("10.65.0.128/26"), parseCidr("10.65.0.192/32")],
      },
    });
    const { block } = await ask(claims);
    expect(block.cidr).toBe("10.65.0.192/26");
    await expect(ask(claims, N1, [block.cidr])).rejects.toMatchObject({ problem: "no-free-block" });
  });
});

describe("block claims", () => {
  it("pending, block, confirmed, in this order", async () => {
    const { store, claims } = fixture();
    const { block, pool } = await ask(claims);
    expect(pool).toBe(POOL);
    expect(store.calls.filter(({ verb }) => verb !== "read").map(({ verb, kind }) => `${verb} ${kind}`)).toEqual([
      "create BlockAffinity",
      "create IPAMBlock",
      "update BlockAffinity",
    ]);
    expect(store.find("BlockAffinity", affinityName(N1, block.cidr))?.state).toBe("confirmed");
    expectSound(store);
  });

  it("an own block with room comes first, unless the node says that it is full; another node never gets it", async () => {
    const { store, claims } = fixture();
    const first = (await ask(claims)).block.cidr;
    expect((await ask(claims)).block.cidr).toBe(first);
    const second = (await ask(claims, N1, [first])).block.cidr;
    const other = (await ask(claims, N2)).block.cidr;
    expect(new Set([first, second, other]).size).toBe(3);
    expectSound(store);
  });

  it("a block that is given again has a new claim: what the node asked for under the old one is void", async () => {
    const { claims, store } = fixture();
    const [first, again] = [await ask(claims), await ask(claims)];
    expect(again.block.cidr).toBe(first.block.cidr);
    expect([first.block.claim === undefined, again.block.claim === first.block.claim]).toEqual([false, false]);
    expect(store.find("IPAMBlock", again.block.name)?.claim).toBe(again.block.claim);
  });

  it("a reserved address is lent to nobody who does not name it", async () => {
    const small = { ...POOL, cidr: parseCidr("10.65.0.0/30"), blockSize: 30 };
    const { store, book, claims } = fixture([small]);
    const created = await store.create<"IPAMBlock">(blockOf(small.cidr, undefined));
    if (created.kind === "written") book.setBlock(created.value.name, created.value);
    const reservedCidrs = [parseCidr("10.65.0.1/32"), parseCidr("10.65.0.3/32")];
    book.apply({ kind: "upsert", resource: { kind: "IPReservation", name: "r", resourceVersion: "1", reservedCidrs } });
    const lent = async (request: Partial<ClaimRequest>): Promise<readonly string[]> => {
      const claimed = await claims.claim({ node: N1, version: 4, full: [], borrow: 4, ...request });
      return claimed.kind === "borrowed" ? claimed.addresses.map(({ address }) => address) : [];
    };
    expect(await lent({})).toEqual(["10.65.0.2", "10.65.0.0"]);
    expect(await lent({ full: [parseCidr("10.65.0.2/32"), parseCidr("10.65.0.0/32")], address: parseIp("10.65.0.3") })).toEqual(["10.65.0.3"]);
  });

  it("an address of another node's block, when strictAffinity says no → no-free-block", async () => {
    const { book, claims } = fixture();
    const { block } = await ask(claims, N2);
    book.apply({ kind: "upsert", resource: { ...IPAM, strictAffinity: true } });
    const address = cidrAddressAt(block.cidr, 5);
    await expect(claims.claim({ node: N1, version: 4, full: [], address })).rejects.toMatchObject({
      problem: "no-free-block",
      message: expect.stringContaining("strictAffinity true") as string,
    });
  });

  it("a floating address is lent to nobody, also out of a block that no node has, and no node has it by naming it", async () => {
    const small = { ...POOL, cidr: parseCidr("10.65.0.0/30"), blockSize: 30 };
    const { store, book, claims } = fixture([small], undefined, (address) => (address === "10.65.0.3" || address === "10.65.0.2" ? N2 : undefined));
    const created = await store.create<"IPAMBlock">(blockOf(small.cidr, undefined));
    if (created.kind === "written") book.setBlock(created.value.name, created.value);
    const claimed = await claims.claim({ node: N1, version: 4, full: [], borrow: 4 });
    expect(claimed.kind === "borrowed" && claimed.addresses.map(({ address }) => address)).toEqual(["10.65.0.1", "10.65.0.0"]);
    await expect(claims.claim({ node: N1, version: 4, full: [], address: parseIp("10.65.0.3") })).rejects.toMatchObject({
      problem: "no-free-block",
      message: "address 10.65.0.3 is a floating address of a pod on node n2",
    });
  });

  it("a block without free addresses is not given again", async () => {
    const { store, book, claims } = fixture();
    const cidr = parseCidr("10.65.0.0/26");
    book.setBlock(blockName(cidr), store.put(blockOf(cidr, N1, 64)) as IpamBlock);
    expect((await ask(claims)).block.cidr).not.toBe(cidr);
  });

  it("a claim that broke off is taken up: with its block, without it, or with the block gone to another", async () => {
    for (const block of [undefined, N1, N2]) {
      const { store, book, claims } = fixture();
      const cidr = parseCidr("10.65.0.64/26");
      const affinity = store.put(affinityOf(cidr, N1, "pending")) as BlockAffinity;
      book.setAffinity(affinity.name, affinity);
      if (block !== undefined) store.put(blockOf(cidr, block));
      const given = (await ask(claims)).block.cidr;
      expect(given === cidr).toBe(block !== N2);
      expect(store.find("BlockAffinity", affinity.name)?.state).toBe(block === N2 ? undefined : "confirmed");
      expectSound(store);
    }
  });

  it("a block that exists though the watch has not told is not overwritten", async () => {
    const { store, claims } = fixture();
    for (let i = 0; i < 3; i++) store.put(blockOf(parseCidr(`10.65.0.${i * 64}/26`), N2));
    expect((await ask(claims)).block.cidr).toBe("10.65.0.192/26");
    await expect(ask(claims, N1, [parseCidr("10.65.0.192/26")])).rejects.toMatchObject({ problem: "no-free-block" });
    expectSound(store);
  });

  it("unknown node → unknown-object; no pool, disabled pool, foreign selector, other family, full pool → no-free-block with the reason", async () => {
    const { claims } = fixture();
    await expect(ask(claims, "n9" as NodeName)).rejects.toMatchObject({ problem: "unknown-object" });
    const pools: readonly (readonly IpPool[])[] = [
      [],
      [{ ...POOL, disabled: true }],
      [{ ...POOL, nodeSelector: "zone == 'n2'" }],
      [{ ...POOL, cidr: parseCidr("fd00::/120"), blockSize: 122 }],
    ];
    for (const list of pools)
      await expect(ask(fixture(list).claims)).rejects.toMatchObject({
        problem: "no-free-block",
        message: expect.stringContaining("no enabled IPv4 pool") as string,
      });
    const full: Cidr[] = [];
    for (let i = 0; i < 4; i++) full.push((await ask(claims, N1, full)).block.cidr);
    await expect(ask(claims, N1, full)).rejects.toMatchObject({ problem: "no-free-block", message: expect.stringContaining("p4 (10.65.0.0/24)") as string });
  });

  it("two servers, any failures at any call: no block is given to two nodes, and afterwards every node can claim", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(9), { maxLength: 60 }),
        fc.array(fc.record({ node: fc.constantFrom(N1, N2), server: fc.nat(1) }), { maxLength: 4 }),
        async (faults, asks) => {
          const store = new MemoryAddressStore();
          const servers = [fixture([POOL], store), fixture([POOL], store)] as const;
          let call = 0;
          store.before = async () => {
            for (let i = 0; i < (faults[call % Math.max(1, faults.length)] ?? 0) % 3; i++) await Promise.resolve();
            if (faults[call++] === 9) throw new Error("API down");
          };
          const given = await Promise.allSettled(asks.map(({ node, server }) => ask((server === 0 ? servers[0] : servers[1]).claims, node)));
          const owners = new Map<Cidr, NodeName>();
          for (const [i, result] of given.entries()) {
            if (result.status === "rejected") continue;
            const node = asks[i]?.node;
            expect(result.value.block.node).toBe(node);
            expect(owners.get(result.value.block.cidr) ?? node).toBe(node);
            owners.set(result.value.block.cidr, result.value.block.node ?? N1);
          }
          expectSound(store);
          store.before = () => undefined;
          const fresh = fixture([POOL], store);
          for (const resource of store.objects.values()) fresh.book.apply({ kind: "upsert", resource });
          for (const node of [N1, N2]) expect((await ask(fresh.claims, node)).block.node).toBe(node);
          expectSound(store);
        },
      ),
    );
  });
});
