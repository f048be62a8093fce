import { utf8ToBytes } from "@noble/hashes/utils.js";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Cidr, cidrAddress, cidrAddressAt, cidrOf, cidrsOverlap, parseCidr } from "../net/cidr.ts";
import { type IpAddress, parseIp } from "../net/ip.ts";
import {
  affinityName,
  blockAddressCount,
  blockAt,
  blockCount,
  blockIndexOf,
  blockName,
  blockOf,
  fnv1a32,
  isBlockOf,
  type PoolShape,
  startIndex,
} from "./block.ts";
import { BlockAllocator } from "./block-allocator.ts";
import { chooseFreeBlock, FreeBlocks } from "./free-blocks.ts";

const pool = (cidr: string, blockSize: number): PoolShape => ({ cidr: parseCidr(cidr), blockSize });
const V4 = pool("10.65.0.0/16", 26);
const V6 = pool("fd00:65::/48", 122);
const SMALL = pool("10.0.0.0/28", 30);

describe("blocks", () => {
  it("are numbered from the pool's beginning", () => {
    expect([blockCount(V4), blockCount(V6), blockAddressCount(parseCidr("fd00::/122"))]).toEqual([1024n, 1n << 74n, 64]);
    expect([blockAt(V4, 0n), blockAt(V4, 1023n)]).toEqual(["10.65.0.0/26", "10.65.255.192/26"]);
    expect(blockAt(V6, (1n << 74n) - 1n)).toBe("fd00:65:0:ffff:ffff:ffff:ffff:ffc0/122");
    expect(() => blockAt(V4, 1024n)).toThrow(RangeError);
    expect([blockOf(V4, parseIp("10.65.0.70")), blockOf(V4, parseIp("10.66.0.0"))]).toEqual(["10.65.0.64/26", undefined]);
    expect([isBlockOf(V4, parseCidr("10.65.0.64/26")), isBlockOf(V4, parseCidr("10.65.0.64/27")), isBlockOf(V4, parseCidr("10.66.0.0/26"))]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it("number and block are each other's inverse", () => {
    fc.assert(
      fc.property(fc.constantFrom(V4, V6, SMALL), fc.bigInt({ min: 0n, max: (1n << 80n) - 1n }), (p, n) => {
        const index = n % blockCount(p);
        const block = blockAt(p, index);
        expect(blockIndexOf(p, cidrAddress(block))).toBe(index);
        expect(isBlockOf(p, block)).toBe(true);
      }),
    );
  });

  it("names of objects", () => {
    expect([blockName(parseCidr("10.0.0.0/26")), blockName(parseCidr("fd00::/122"))]).toEqual(["10-0-0-0-26", "fd00---122"]);
    expect(affinityName("n1.example", parseCidr("10.0.0.0/26"))).toBe("n1.example-10-0-0-0-26");
    const long = affinityName("n".repeat(253), parseCidr("10.0.0.0/26"));
    expect([long.length <= 253, long === affinityName("n".repeat(253), parseCidr("10.0.0.64/26"))]).toEqual([true, false]);
  });

  it("fnv1a32: the published values", () => {
    expect(["", "a", "foobar"].map((text) => fnv1a32(utf8ToBytes(text)))).toEqual([0x811c9dc5, 0xe40c292c, 0xbf9cf968]);
  });
});

describe("FreeBlocks", () => {
  it("finds what a walk over the pool finds, after any adds and deletes", () => {
    const prefix = fc.tuple(fc.nat(40), fc.integer({ min: 26, max: 32 })).map(([low, length]) => cidrOf(parseIp(`10.0.0.${low}`), length));
    const change = fc.record({ cidr: prefix, isAdded: fc.boolean() });
    fc.assert(
      fc.property(fc.array(change), fc.nat(3), (changes, start) => {
        const free = new FreeBlocks(SMALL);
        const taken = new Set<Cidr>();
        for (const { cidr, isAdded } of changes) {
          free[isAdded ? "add" : "delete"](cidr);
          taken[isAdded ? "add" : "delete"](cidr);
        }
        const order = [0, 1, 2, 3].map((i) => blockAt(SMALL, BigInt((start + i) % 4)));
        const expected = order.find((block) => ![...taken].some((cidr) => cidrsOverlap(cidr, block)));
        expect(free.firstFrom(BigInt(start))).toBe(expected);
      }),
      { numRuns: 500 },
    );
  });

  it("a large pool that is full but for one block is searched, not walked", () => {
    const large = pool("10.0.0.0/8", 28);
    const free = new FreeBlocks(large, ["10.0.0.0/9", "10.128.0.0/10", "10.192.0.0/11", "10.224.0.0/12", "10.240.0.0/13"].map(parseCidr));
    for (const other of ["10.248.0.16/28", "192.168.0.0/16", "fd00::/64"].map(parseCidr)) free.add(other);
    expect([free.firstFrom(0n), free.firstFrom(blockIndexOf(large, parseIp("10.248.0.16")) ?? 0n)]).toEqual(["10.248.0.0/28", "10.248.0.32/28"]);
    expect(chooseFreeBlock({ pool: V6, node: "n1", taken: [] })).toBe(blockAt(V6, startIndex(V6, "n1")));
  });
});

describe("chooseFreeBlock", () => {
  it("each node gets its own, until none is left", () => {
    const taken: Cidr[] = [];
    for (let i = 0; i < 4; i++) {
      const block = chooseFreeBlock({ pool: SMALL, node: `n${i}`, taken });
      expect(block !== undefined && isBlockOf(SMALL, block) && !taken.includes(block)).toBe(true);
      if (block !== undefined) taken.push(block);
    }
    expect(chooseFreeBlock({ pool: SMALL, node: "n9", taken })).toBeUndefined();
  });
});

describe("BlockAllocator", () => {
  const block = parseCidr("10.0.0.0/30");
  const address = (i: number): IpAddress => cidrAddressAt(block, i);

  it("gives the longest unused address first, none in cooldown", () => {
    const allocator = new BlockAllocator({ block, cooldownMs: 100, reserved: [address(3)] });
    for (const [i, handle] of ["a", "b"].entries()) expect(allocator.assign(handle, 0)).toEqual({ kind: "assigned", address: address(i) });
    expect(allocator.assign("a", 0)).toEqual({ kind: "assigned", address: address(0) });
    expect([allocator.release(address(1), 10), allocator.release(address(0), 20)]).toEqual([true, true]);
    expect(allocator.assign("c", 20)).toEqual({ kind: "assigned", address: address(2) });
    expect(allocator.assign("d", 109)).toEqual({ kind: "none-free", retryAtMs: 110 });
    expect(allocator.assign("d", 110)).toEqual({ kind: "assigned", address: address(1) });
    expect(allocator.assign("e", 120)).toEqual({ kind: "assigned", address: address(0) });
    expect(allocator.assign("f", 999)).toEqual({ kind: "none-free", retryAtMs: undefined });
  });

  it("a late release does not free another's address", () => {
    const allocator = new BlockAllocator({ block, cooldownMs: 0 });
    allocator.assign("a", 0);
    expect([
      allocator.release(address(0), 1, "b"),
      allocator.release(address(1), 1),
      allocator.release(address(0), 1, "a"),
      allocator.release(address(0), 1, "a"),
    ]).toEqual([false, false, true, false]);
  });

  it("restore: what the journal says, once", () => {
    const allocator = new BlockAllocator({ block, cooldownMs: 0 });
    expect(allocator.restore(address(2), "a")).toBe(true);
    expect(allocator.restore(address(2), "a")).toBe(true);
    expect([allocator.restore(address(2), "b"), allocator.restore(address(1), "a"), allocator.restore(parseIp("10.9.9.9"), "c")]).toEqual([
      false,
      false,
      false,
    ]);
    expect([allocator.handleOf(address(2)), allocator.addressOf("a"), allocator.usedCount, allocator.freeCount]).toEqual(["a", address(2), 1, 3]);
  });

  it("restoreReleased: queue and cooldown as before the restart", () => {
    const allocator = new BlockAllocator({ block, cooldownMs: 100 });
    allocator.restore(address(3), "a");
    expect([allocator.restoreReleased(address(1), 10), allocator.restoreReleased(address(0), 20), allocator.restoreReleased(address(3), 30)]).toEqual([
      true,
      true,
      false,
    ]);
    expect(["b", "c", "d"].map((handle) => allocator.assign(handle, 110))).toEqual([
      { kind: "assigned", address: address(2) },
      { kind: "assigned", address: address(1) },
      { kind: "none-free", retryAtMs: 120 },
    ]);
  });

  it("no address twice, none lost, in any order of calls", () => {
    const call = fc.record({ isAssign: fc.boolean(), handle: fc.constantFrom("a", "b", "c", "d", "e", "f"), after: fc.nat(40) });
    fc.assert(
      fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
        const allocator = new BlockAllocator({ block, cooldownMs: 30 });
        const held = new Map<string, IpAddress>();
        const releasedAt = new Map<IpAddress, number>();
        let now = 0;
        for (const { isAssign, handle, after } of calls) {
          now += after;
          if (isAssign) {
            const result = allocator.assign(handle, now);
            if (result.kind === "none-free") continue;
            const holders = [...held].filter(([, used]) => used === result.address).map(([holder]) => holder);
            expect(holders.filter((holder) => holder !== handle)).toEqual([]);
            if (!held.has(handle)) expect(now - (releasedAt.get(result.address) ?? -30)).toBeGreaterThanOrEqual(30);
            held.set(handle, result.address);
          } else {
            const used = held.get(handle);
            if (used === undefined) continue;
            expect(allocator.release(used, now, handle)).toBe(true);
            held.delete(handle);
            releasedAt.set(used, now);
          }
          expect(allocator.usedCount).toBe(held.size);
          expect(allocator.usedCount + allocator.freeCount).toBe(4);
        }
      }),
    );
  });
});
