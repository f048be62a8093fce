import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { NftDataType } from "./ruleset.ts";
import { keyFromRanges, keyRanges, keyText, type NftValueType, prefixLength, valueRange, valueText } from "./values.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const ipv4 = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((bytes) => bytes.join("."));

describe("valueRange", () => {
  it.each<[NftValueType, string | number, string, string]>([
    ["ipv4_addr", "10.65.0.1", "0a410001", "0a410001"],
    ["ipv4_addr", "10.65.0.0/26", "0a410000", "0a41003f"],
    ["ipv4_addr", "0.0.0.0/0", "00000000", "ffffffff"],
    ["ipv4_addr", "128.0.0.0/1", "80000000", "ffffffff"],
    // Host bits are cleared, as the kernel compares the prefix only.
    ["ipv4_addr", "10.65.0.77/26", "0a410040", "0a41007f"],
    ["ipv4_addr", "10.0.0.1-10.0.0.9", "0a000001", "0a000009"],
    ["ipv6_addr", "fd00::/64", "fd000000000000000000000000000000", "fd00000000000000ffffffffffffffff"],
    ["inet_service", 80, "0050", "0050"],
    ["inet_service", "80-90", "0050", "005a"],
    ["inet_proto", "sctp", "84", "84"],
    ["inet_proto", "ipv6-icmp", "3a", "3a"],
    ["inet_proto", 99, "63", "63"],
    // Numbers that never were on the wire are in host order.
    ["mark", 0x12345678, "78563412", "78563412"],
    ["ct_state", "established,related", "06000000", "06000000"],
    ["ifname", "eth0", "65746830000000000000000000000000", "65746830000000000000000000000000"],
    ["ether_addr", "aa:bb:cc:00:11:22", "aabbcc001122", "aabbcc001122"],
  ])("%s %s", (type, value, from, to) => {
    const range = valueRange(type, value);
    expect([hex(range.from), hex(range.to)]).toEqual([from, to]);
  });

  it.each<[NftValueType, string | number]>([
    ["ipv4_addr", "10.0.0.256"],
    ["ipv4_addr", "10.0.0"],
    ["ipv4_addr", "10.0.0.01"],
    ["ipv4_addr", "10.0.0.1/33"],
    ["ipv4_addr", "10.0.0.1/08"],
    ["ipv4_addr", "10.0.0.1."],
    ["ipv4_addr", ""],
    ["ipv4_addr", "10.0.0.9-10.0.0.1"],
    ["ipv4_addr", "fd00::1"],
    ["ipv6_addr", "10.0.0.1"],
    ["inet_service", 65_536],
    ["inet_service", "90-80"],
    ["inet_service", "http"],
    ["inet_service", -1],
    ["inet_proto", "toString"],
    ["mark", 2 ** 32],
    ["ct_state", "nonsense"],
    ["ifname", ""],
    ["ifname", "sixteen-letters!"],
    ["ifname", "two words"],
    ["ether_addr", "aa:bb"],
  ])("%s %j is refused with its text in the error", (type, value) => {
    expect(() => valueRange(type, value)).toThrow(RangeError);
    expect(() => valueRange(type, value)).toThrow(String(value).split("-")[0]);
  });
});

describe("keyFromRanges", () => {
  it.each<[NftDataType[], string, string]>([
    [["ipv4_addr"], "10.65.0.0-10.65.0.63", "10.65.0.0/26"],
    [["ipv4_addr"], "10.65.0.1-10.65.0.1", "10.65.0.1"],
    [["ipv4_addr"], "10.65.0.1/32", "10.65.0.1"],
    [["ipv4_addr"], "10.65.0.1-10.65.0.2", "10.65.0.1-10.65.0.2"],
    [["ipv6_addr"], "FD00:0:0::1", "fd00::1"],
    [["ipv4_addr", "inet_proto", "inet_service"], "10.0.0.1 . 6 . 80", "10.0.0.1 . tcp . 80"],
    [["ifname", "ipv4_addr"], "sdg0 . 10.0.0.1", "sdg0 . 10.0.0.1"],
    [["mark"], "16", "0x00000010"],
  ])("%j: %s is canonically %s", (types, key, canonical) => {
    expect(keyFromRanges(types, keyRanges(types, key))).toBe(canonical);
    expect(keyFromRanges(types, keyRanges(types, canonical))).toBe(canonical);
  });

  it("a key with too few fields names the set's fields", () => {
    expect(() => keyRanges(["ipv4_addr", "inet_service"], "10.0.0.1")).toThrow(/"10\.0\.0\.1" has 1 fields, its set has 2 \(ipv4_addr \. inet_service\)/);
  });

  it("prefixes survive the way to bytes and back", () => {
    fc.assert(
      fc.property(ipv4, fc.integer({ min: 0, max: 32 }), (address, length) => {
        const range = valueRange("ipv4_addr", `${address}/${length}`);
        expect(prefixLength(range.from, range.to)).toBe(length);
        const canonical = keyFromRanges(["ipv4_addr"], [range]);
        expect(valueRange("ipv4_addr", canonical)).toEqual(range);
      }),
    );
  });

  it("a range is called a prefix only if it is one", () => {
    fc.assert(
      fc.property(fc.nat(0xffff), fc.nat(0xffff), (a, b) => {
        const [low, high] = [Math.min(a, b), Math.max(a, b)];
        const size = high - low + 1;
        const isPrefix = Number.isInteger(Math.log2(size)) && low % size === 0;
        const bytes = (value: number): Uint8Array => Uint8Array.of(10, 0, value >> 8, value & 255);
        expect(prefixLength(bytes(low), bytes(high)) !== undefined).toBe(isPrefix);
      }),
    );
  });
});

describe("valueText", () => {
  it.each<[NftValueType, string | number, string]>([
    ["inet_proto", 6, "tcp"],
    ["inet_proto", 99, "99"],
    ["mark", 16, "0x00000010"],
    ["ifname", "eth0", '"eth0"'],
    // In the kernel's bit order, however they are written.
    ["ct_state", "new,related,established", "established,related,new"],
    ["icmp_type", 8, "echo-request"],
    ["inet_service", "80-90", "80-90"],
    ["boolean", 0, "missing"],
  ])("%s %s is listed as %s", (type, value, text) => {
    expect(valueText(type, value)).toBe(text);
  });

  it("keyText quotes names within a concatenation", () => {
    expect(keyText(["ifname", "ipv4_addr"], "sdg0 . 10.0.0.1")).toBe('"sdg0" . 10.0.0.1');
  });
});
