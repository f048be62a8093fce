import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addTo, bucketBitsFor, bucketOf, bucketOfHash, coarser, contentHash, keyHashOf, seedOf, subtractFrom } from "./digest.ts";

describe("digests", () => {
  // Vectors of the xxHash specification (xxhsum -H64 and -H32 of the empty input and of "a").
  it("hashes are XXH64 and XXH32", () => {
    expect(contentHash(new Uint8Array(), 0n)).toBe(0xef46db3751d8e999n);
    expect(seedOf("a")).toBe(0xd24ec4f1a98c6e5bn);
    expect(keyHashOf("a", 0n)).toBe(0x550d7456);
    expect(keyHashOf("a", 0xabcd_0000_0000_0000n)).toBe(0x550d7456);
  });

  it("a bucket is the upper bits of the key hash, 0 to 12 of them", () => {
    expect(bucketOfHash(0xffff_ffff, 0)).toBe(0);
    expect(bucketOfHash(0xffff_ffff, 12)).toBe(4095);
    fc.assert(fc.property(fc.string(), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (key, seed) => bucketOf(key, seed, 5) === bucketOf(key, seed, 12) >> 7));
  });

  it("bucketBitsFor: about 32 records a bucket, at most 12 bits", () => {
    expect([0, 32, 33, 1000, 10 ** 9].map(bucketBitsFor)).toEqual([0, 0, 1, 5, 12]);
  });

  it("sums wrap, do not depend on order, and coarser ones are the sums of finer", () => {
    const entry = fc.tuple(fc.nat(4095), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
    fc.assert(
      fc.property(fc.array(entry), fc.array(entry), fc.nat(12), (kept, gone, bits) => {
        const fine = new BigUint64Array(4096);
        for (const [index, hash] of [...gone, ...kept]) addTo(fine, index, hash);
        for (const [index, hash] of gone.toReversed()) subtractFrom(fine, index, hash);
        const naive = Array.from({ length: 2 ** bits }, () => 0n);
        for (const [index, hash] of kept) naive[index >> (12 - bits)] = BigInt.asUintN(64, (naive[index >> (12 - bits)] ?? 0n) + hash);
        expect([...coarser(fine, bits)]).toEqual(naive);
      }),
    );
  });
});
