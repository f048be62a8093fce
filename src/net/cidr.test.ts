import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { mergeCidrs, mergedRanges, subtractCidrs } from "./address-ranges.ts";
import {
  type Cidr,
  cidrAddressAt,
  cidrContains,
  cidrContainsCidr,
  cidrOf,
  cidrOrdinal,
  cidrRange,
  cidrsOverlap,
  compareCidrs,
  hasHostBits,
  parseCidr,
  tryParseCidr,
} from "./cidr.ts";
import { type IpAddress, ipFromBytes, parseIp } from "./ip.ts";

/** A small corner of each family, so that prefixes meet. */
const address: fc.Arbitrary<IpAddress> = fc
  .tuple(fc.boolean(), fc.nat(255))
  .map(([isV4, low]) => (isV4 ? parseIp(`10.0.0.${low}`) : parseIp(`fd00::${low.toString(16)}`)));
const cidr: fc.Arbitrary<Cidr> = fc.tuple(address, fc.integer({ min: 22, max: 32 })).map(([ip, length]) => cidrOf(ip, ip.includes(":") ? length + 96 : length));
const cidrs = fc.array(cidr, { maxLength: 6 });

function check(predicate: (ip: IpAddress, a: readonly Cidr[], b: readonly Cidr[]) => void): void {
  fc.assert(fc.property(address, cidrs, cidrs, predicate), { numRuns: 300 });
}

describe("parseCidr", () => {
  it.each([
    ["10.0.0.0/8", "10.0.0.0/8"],
    ["10.1.2.3/8", "10.0.0.0/8"],
    ["0.0.0.0/0", "0.0.0.0/0"],
    ["1.2.3.4/32", "1.2.3.4/32"],
    ["FD00:0::1/64", "fd00::/64"],
    ["::/0", "::/0"],
    ["fd00::7f/121", "fd00::/121"],
  ])("%s is %s", (text, canonical) => {
    expect(parseCidr(text)).toBe(canonical);
  });

  it.each(["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0/8", "::/129", "/8", "10.0.0.0/ 8"])(
    "%j is none",
    (text) => {
      expect(tryParseCidr(text)).toBeUndefined();
    },
  );

  it("hasHostBits", () => {
    expect([hasHostBits("10.0.0.1/8"), hasHostBits("10.0.0.0/8"), hasHostBits("fd00:0::/64"), hasHostBits("x")]).toEqual([true, false, false, false]);
  });
});

describe("prefix arithmetic", () => {
  it("contains exactly the addresses from the first to the last", () => {
    check((ip, [prefix]) => {
      fc.pre(prefix !== undefined);
      const { first, last } = cidrRange(prefix);
      const ordinal = cidrOrdinal(prefix, ip);
      expect(ordinal !== undefined).toBe(cidrContains(prefix, ip));
      if (ordinal !== undefined) expect(cidrAddressAt(prefix, ordinal)).toBe(ip);
      expect(cidrContains(prefix, ipFromBytes(first)) && cidrContains(prefix, ipFromBytes(last))).toBe(true);
    });
  });

  it("two prefixes are nested or apart", () => {
    fc.assert(
      fc.property(cidr, cidr, address, (a, b, ip) => {
        expect(cidrsOverlap(a, b)).toBe(cidrContainsCidr(a, b) || cidrContainsCidr(b, a));
        if (cidrContainsCidr(a, b) && cidrContains(b, ip)) expect(cidrContains(a, ip)).toBe(true);
        if (cidrContains(a, ip) && cidrContains(b, ip)) expect(cidrsOverlap(a, b)).toBe(true);
        expect(Math.sign(compareCidrs(a, b))).toBe(-Math.sign(compareCidrs(b, a)) + 0);
      }),
    );
  });

  it("cidrAddressAt refuses what is outside", () => {
    expect(cidrAddressAt(parseCidr("fd00::/64"), 2 ** 40)).toBe("fd00::100:0:0");
    expect(() => cidrAddressAt(parseCidr("10.0.0.0/26"), 64)).toThrow(RangeError);
    expect(() => cidrAddressAt(parseCidr("10.0.0.0/26"), -1)).toThrow(RangeError);
  });
});

describe("mergeCidrs, mergedRanges, subtractCidrs", () => {
  const inAny = (list: readonly Cidr[], ip: IpAddress): boolean => list.some((prefix) => cidrContains(prefix, ip));

  it("keep exactly the addresses, without overlap", () => {
    check((ip, a, b) => {
      const merged = mergeCidrs(a);
      const rest = subtractCidrs(a, b);
      expect(inAny(merged, ip)).toBe(inAny(a, ip));
      expect(inAny(rest, ip)).toBe(inAny(a, ip) && !inAny(b, ip));
      for (const list of [merged, rest]) {
        expect([...list].sort(compareCidrs)).toEqual(list);
        for (const [i, prefix] of list.entries()) for (const other of list.slice(i + 1)) expect(cidrsOverlap(prefix, other)).toBe(false);
      }
    });
  });

  it("reach the ends of the address space", () => {
    expect(mergeCidrs(["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"].map(parseCidr))).toEqual(["0.0.0.0/0", "::/0"]);
    expect(mergedRanges(["255.255.255.255/32", "::/0", "255.255.255.254/32"].map(parseCidr))).toEqual([
      { first: "255.255.255.254", last: "255.255.255.255" },
      { first: "::", last: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    ]);
    expect(subtractCidrs([parseCidr("0.0.0.0/0")], [parseCidr("0.0.0.0/2")])).toEqual(["64.0.0.0/2", "128.0.0.0/1"]);
  });
});
