/** Whom a server asks for addresses, and what it gives out again; that nothing is lost or double is the model's (test/model/borrowing.test.ts). */
import { describe, expect, it } from "vitest";
import { blockName } from "../../src/ipam/block.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { IpamBlock, IpPool } from "../../src/model/resource.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { type IpAddress, parseIp } from "../../src/net/ip.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { MemoryAddressStore } from "../../test/fakes/memory-address-store.ts";
import { AddressBook } from "./address-book.ts";
import { Borrowing } from "./borrowing.ts";

const [N1, N2, N3] = ["n1", "n2", "n3"] as NodeName[] as [NodeName, NodeName, NodeName];
const WAIT_MS = 1_000;
const POOL: IpPool = {
  kind: "IPPool",
  name: "p4",
  resourceVersion: "1",
  cidr: parseCidr("10.65.0.0/28"),
  blockSize: 30,
  natOutgoing: false,
  disabled: false,
  nodeSelector: "all()",
};

class World {
  readonly clock = new ManualClock();
  readonly store = new MemoryAddressStore();
  readonly book = new AddressBook();
  #ids = 0;
  readonly borrowing = new Borrowing({ book: this.book, store: this.store, clock: this.clock, newId: () => `id${++this.#ids}`, waitMs: WAIT_MS });

  constructor() {
    for (const name of [N1, N2, N3]) this.book.apply({ kind: "upsert", resource: { kind: "Node", name, resourceVersion: "1", labels: {}, addresses: [] } });
    this.book.apply({ kind: "upsert", resource: POOL });
  }

  /** A block of four free addresses. */
  async put(cidr: string, node: NodeName | undefined): Promise<string> {
    const name = blockName(parseCidr(cidr));
    const block: IpamBlock = { kind: "IPAMBlock", name, resourceVersion: "", cidr: parseCidr(cidr), node, isDeleted: false, allocations: [] };
    const created = await this.store.create<"IPAMBlock">(block);
    if (created.kind !== "written") throw new Error(created.kind);
    this.book.setBlock(name, created.value);
    return name;
  }

  borrow(known: (address: IpAddress) => boolean = () => false, wanted = 1): ReturnType<Borrowing["borrow"]> {
    return this.borrowing.borrow({ node: N1, pools: [POOL], wanted, known });
  }

  isAsked(block: string): boolean {
    return (this.store.find("IPAMBlock", block)?.allocations ?? []).some(({ loan }) => loan !== undefined);
  }

  async turns(): Promise<void> {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("Borrowing", () => {
  it("a node that did not answer is asked last for 30 s, and first again after them", async () => {
    const world = new World();
    const blocks = [await world.put("10.65.0.0/30", N2), await world.put("10.65.0.4/30", N3)];
    const ask = async (): Promise<boolean[]> => {
      const answer = world.borrow().catch((error: unknown) => error);
      await world.turns();
      const asked = blocks.map((block) => world.isAsked(block));
      await world.clock.advance(WAIT_MS);
      expect(await answer).toMatchObject({ problem: "api-unavailable", message: expect.stringContaining("has not answered yet") });
      expect(blocks.map((block) => world.isAsked(block))).toEqual([false, false]);
      return asked;
    };
    const first = await ask();
    expect(first.filter(Boolean)).toHaveLength(1);
    expect(await ask()).toEqual(first.map((isAsked) => !isAsked));
    await world.clock.advance(30_000);
    expect(await ask()).toEqual(first);
  });

  it("addresses that the node knows of are not given to it as new ones", async () => {
    const world = new World();
    await world.put("10.65.0.0/30", undefined);
    const lent = await world.borrow(undefined, 2);
    const addresses = lent.map(({ address }) => address);
    expect(new Set(addresses).size).toBe(2);
    // Its answer was lost: what is its own is told again, before anything is asked for.
    expect((await world.borrow(undefined, 2)).map(({ address }) => address).toSorted()).toEqual(addresses.toSorted());
    const more = await world.borrow((address) => addresses.includes(address), 2);
    expect(more.map(({ address }) => address).toSorted()).toEqual(
      ["10.65.0.0", "10.65.0.1", "10.65.0.2", "10.65.0.3"].map((text) => parseIp(text)).filter((address) => !addresses.includes(address)),
    );
  });
});
