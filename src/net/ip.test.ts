import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compareIps, ipBytes, ipFromBytes, ipVersion, parseIp, tryParseIp } from "./ip.ts";

const bytes = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 16, maxLength: 16 }).map((list) => Uint8Array.from(list)),
);

describe("parseIp", () => {
  it.each([
    ["10.0.0.1", "10.0.0.1"],
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["::1", "::1"],
    ["FD00:0:0::2", "fd00::2"],
    ["fd00:0000:0000:0000:0000:0000:0000:0002", "fd00::2"],
    // RFC 5952 4.2.2 and 4.2.3: no "::" for a single group; the first of equally long runs.
    ["1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"],
    ["1:0:0:2:3:0:0:4", "1::2:3:0:0:4"],
    ["1:0:0:2:0:0:0:4", "1:0:0:2::4"],
    ["::ffff:10.0.0.1", "::ffff:a00:1"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ])("%s is %s", (text, canonical) => {
    expect(parseIp(text)).toBe(canonical);
  });

  it.each([
    "",
    "10.0.0",
    "10.0.0.256",
    "10.0.0.01",
    "10.0.0.1.2",
    " 10.0.0.1",
    "10.0.0.1/32",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "12345::",
    "g::",
    "fe80::1%eth0",
    "10.0.0.1::",
    "1:2:3:4:5:6:7:8::",
  ])("%j is none", (text) => {
    expect(tryParseIp(text)).toBeUndefined();
    expect(() => parseIp(text)).toThrow(RangeError);
  });

  it("text of any address parses back to it", () => {
    fc.assert(
      fc.property(bytes, (address) => {
        const text = ipFromBytes(address);
        expect(parseIp(text)).toBe(text);
        expect(ipBytes(text)).toEqual(address);
        expect(ipVersion(text)).toBe(address.length === 4 ? 4 : 6);
      }),
    );
  });
});

describe("compareIps", () => {
  it("IPv4 first, then by number", () => {
    const sorted = ["9.0.0.0", "10.0.0.0", "10.0.0.10", "::1", "::10", "fd00::"].map(parseIp);
    expect([...sorted].reverse().sort(compareIps)).toEqual(sorted);
  });
});
