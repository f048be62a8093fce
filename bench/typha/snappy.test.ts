import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compressBlock, snappyStreamBytes } from "./snappy.ts";

/** From the format description alone: tag by tag. */
function decompress(bytes: Uint8Array): number[] {
  let at = 0;
  let size = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++] ?? 0;
    size += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) break;
  }
  const out: number[] = [];
  const copy = (offset: number, length: number): void => {
    for (let i = 0; i < length; i++) out.push(out[out.length - offset] ?? Number.NaN);
  };
  while (at < bytes.length) {
    const tag = bytes[at++] ?? 0;
    const high = tag >> 2;
    switch (tag & 3) {
      case 0: {
        let length = high + 1;
        if (high === 60) length = (bytes[at++] ?? 0) + 1;
        if (high === 61) {
          length = (bytes[at] ?? 0) + (bytes[at + 1] ?? 0) * 256 + 1;
          at += 2;
        }
        out.push(...bytes.subarray(at, at + length));
        at += length;
        break;
      }
      case 1:
        copy(((tag >> 5) << 8) + (bytes[at] ?? 0), (high & 7) + 4);
        at += 1;
        break;
      case 2:
        copy((bytes[at] ?? 0) + (bytes[at + 1] ?? 0) * 256, high + 1);
        at += 2;
        break;
      default:
        throw new Error("a tag that is never written");
    }
  }
  expect(out.length).toBe(size);
  return out;
}

describe("snappy", () => {
  it("what is compressed is the same again", () => {
    const text = fc
      .array(fc.constantFrom("/calico/v1/host/", "node-00001", '{"state":"active"', "x", "\u0000"), { maxLength: 400 })
      .map((words) => words.join(""));
    const data = fc.oneof(
      fc.uint8Array({ maxLength: 2_000 }),
      text.map((value) => Buffer.from(value)),
    );
    fc.assert(
      fc.property(data, (bytes) => {
        expect(decompress(compressBlock(bytes))).toEqual([...bytes]);
      }),
    );
  });

  it("long runs and far copies", () => {
    const far = Buffer.concat([Buffer.alloc(70, 7), Buffer.from(Array.from({ length: 5_000 }, (_, i) => (i * i * 31) & 255)), Buffer.alloc(70, 7)]);
    for (const bytes of [Buffer.alloc(65_536, 1), Buffer.alloc(65, 2), Buffer.alloc(68, 3), far]) expect(decompress(compressBlock(bytes))).toEqual([...bytes]);
  });

  it("noise is not made larger than its chunk's header", () => {
    const noise = Uint8Array.from({ length: 10_000 }, (_, i) => (Math.imul(i + 1, 2_654_435_761) >>> 13) & 255);
    expect(snappyStreamBytes(noise)).toBeLessThanOrEqual(noise.length + 18);
    expect(snappyStreamBytes(Buffer.from("abcdefgh".repeat(10_000)))).toBeLessThan(6_000);
  });
});
