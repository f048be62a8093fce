/** HPACK against the vectors of RFC 7541 appendix C, against itself, and against garbage. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeHeaders, type Header, HpackDecoder, HpackError } from "./hpack.ts";
import { CODE_LENGTHS, huffmanCodes, tryDecodeHuffman } from "./huffman.ts";

const decoder = (maxTableBytes = 4096, maxListBytes = 65_536): HpackDecoder => new HpackDecoder({ maxTableBytes, maxListBytes });
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

const REQUESTS: readonly (readonly Header[])[] = [
  [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
  ],
  [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
    ["cache-control", "no-cache"],
  ],
  [
    [":method", "GET"],
    [":scheme", "https"],
    [":path", "/index.html"],
    [":authority", "www.example.com"],
    ["custom-key", "custom-value"],
  ],
];
const RESPONSES: readonly (readonly Header[])[] = [
  [
    [":status", "302"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
    ["location", "https://www.example.com"],
  ],
  [
    [":status", "307"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
    ["location", "https://www.example.com"],
  ],
  [
    [":status", "200"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:22 GMT"],
    ["location", "https://www.example.com"],
    ["content-encoding", "gzip"],
    ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
  ],
];

/** A string in Huffman code, made from the table alone. */
function huffman(bytes: Uint8Array): Buffer {
  const codes = huffmanCodes();
  let bits = "";
  for (const byte of bytes) bits += (codes[byte] ?? 0).toString(2).padStart(CODE_LENGTHS[byte] ?? 0, "0");
  bits = bits.padEnd(Math.ceil(bits.length / 8) * 8, "1");
  return Buffer.from(bits.match(/.{8}/g)?.map((octet) => Number.parseInt(octet, 2)) ?? []);
}

describe("HpackDecoder", () => {
  it.each<[string, number, readonly string[], readonly (readonly Header[])[]]>([
    [
      "C.3 requests without Huffman code",
      4096,
      [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
      ],
      REQUESTS,
    ],
    [
      "C.4 requests with Huffman code",
      4096,
      ["8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "8286 84be 5886 a8eb 1064 9cbf", "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"],
      REQUESTS,
    ],
    [
      "C.5 responses without Huffman code, evicting",
      256,
      [
        `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f
         2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
        "4803 3330 37c1 c0bf",
        `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b
         425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
      ],
      RESPONSES,
    ],
    [
      "C.6 responses with Huffman code, evicting",
      256,
      [
        `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
        "4883 640e ffc1 c0bf",
        `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708
         7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`,
      ],
      RESPONSES,
    ],
  ])("RFC 7541 appendix %s", (_, tableBytes, blocks, lists) => {
    const one = decoder(tableBytes);
    expect(blocks.map((block) => one.decode(hex(block)).headers)).toEqual(lists);
  });

  it.each<[string, string]>([
    ["index 0", "80"],
    ["an index beyond both tables", "be"],
    ["a string that is longer than the block", "0085 61"],
    ["a block that ends in an integer", "ff ff"],
    ["an integer without end", `ff${"ff".repeat(12)}00`],
    ["a size update above what was offered", "3fe2 1f"],
    ["a size update after a header", "82 20"],
    ["Huffman code with EOS", "0001 61 84 ffff ffff"],
    ["Huffman code with a byte of padding", "0001 61 82 1fff"],
    ["Huffman code padded with zeros", "0001 61 81 18"],
  ])("%s → HpackError", (_, block) => {
    expect(() => decoder().decode(hex(block))).toThrow(HpackError);
  });

  it("a size update empties the table, and the encoder may grow it again", () => {
    const one = decoder();
    one.decode(hex("4001 6101 62"));
    expect(one.decode(hex("be")).headers).toEqual([["a", "b"]]);
    expect(() => one.decode(hex("20be"))).toThrow(HpackError);
    one.decode(hex("3fe1 1f 4001 6101 62"));
    expect(one.decode(hex("be")).headers).toEqual([["a", "b"]]);
  });

  it("a list above the bound is decoded for the table's sake and not kept", () => {
    const one = decoder(4096, 100);
    const value = "x".repeat(50);
    const bomb = Buffer.concat([hex("4001 61 32"), Buffer.from(value), Buffer.alloc(10_000, 0xbe)]);
    expect(one.decode(bomb)).toEqual({ headers: [["a", value]], isTooLarge: true });
    expect(one.decode(hex("be"))).toEqual({ headers: [["a", value]], isTooLarge: false });
  });

  it("encode, then decode = the same list", () => {
    const name = fc.constantFrom(":status", ":path", "content-type", "te", "x-long", "grpc-status");
    const value = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCodePoint(code)), maxLength: 300 });
    fc.assert(
      fc.property(fc.array(fc.tuple(name, fc.oneof(value, fc.constantFrom("200", "/", "trailers"))), { maxLength: 20 }), (headers) => {
        expect(decoder().decode(encodeHeaders(headers)).headers).toEqual(headers);
      }),
    );
  });

  it("garbage → a list or HpackError, never another error", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 5 }), (blocks) => {
        const one = decoder(200, 1000);
        for (const block of blocks) {
          try {
            expect(one.decode(block).headers.length).toBeLessThanOrEqual(31);
          } catch (error) {
            expect(error).toBeInstanceOf(HpackError);
          }
        }
      }),
    );
  });
});

describe("Huffman code", () => {
  it("any bytes, encoded from the table, decode to themselves", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(tryDecodeHuffman(huffman(bytes))).toEqual(Buffer.from(bytes));
      }),
    );
  });

  it("the codes are those of the RFC at both ends of the table", () => {
    const codes = huffmanCodes();
    expect([codes[48], codes[97], codes[0], codes[255], codes[256]]).toEqual([0x0, 0x3, 0x1ff8, 0x3ffffee, 0x3fffffff]);
  });
});
