import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Attributes, listAttributes } from "./attributes.ts";
import { decodeReply, MessageWriter, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_ERROR, splitMessages } from "./message.ts";

describe("MessageWriter and Attributes", () => {
  it("what is written is read, each message for itself, with every padding", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            type: fc.integer({ min: 16, max: 0xffff }),
            raw: fc.uint8Array({ maxLength: 40 }),
            text: fc.stringMatching(/^[a-z]{0,20}$/),
            number: fc.nat(0xffffffff),
          }),
          { maxLength: 6 },
        ),
        (contents) => {
          // A small buffer, so that it has to grow within a message and within a nest.
          const writer = new MessageWriter(16);
          for (const [index, { type, raw, text, number }] of contents.entries()) {
            writer.begin({ type, flags: 1, sequence: index });
            writer.header([2, 0, 0, 0]);
            writer.raw(1, raw);
            const nest = writer.beginNest(2);
            writer.string(1, text);
            writer.u32(2, number);
            writer.u32Be(3, number);
            writer.u16Be(4, number & 0xffff);
            writer.u64Be(5, BigInt(number) << 16n);
            writer.endNest(nest);
            writer.end();
          }
          const messages = splitMessages(writer.bytes());
          expect(messages.map(({ type, sequence }) => [type, sequence])).toEqual(contents.map(({ type }, index) => [type, index]));
          for (const [index, { raw, text, number }] of contents.entries()) {
            const attributes = new Attributes(messages[index]?.payload.subarray(4) ?? Buffer.alloc(0));
            expect([...(attributes.raw(1) ?? [])]).toEqual([...raw]);
            const nested = attributes.nested(2);
            expect([nested?.string(1), nested?.u32(2), nested?.u32Be(3), nested?.u16Be(4), nested?.u64Be(5)]).toEqual([
              text,
              number,
              number,
              number & 0xffff,
              BigInt(number) << 16n,
            ]);
          }
        },
      ),
    );
  });

  it("a nest longer than 64 KiB is refused when it ends", () => {
    const writer = new MessageWriter();
    writer.begin({ type: 16, flags: 0, sequence: 1 });
    const nest = writer.beginNest(1);
    for (let index = 0; index < 3; index += 1) writer.raw(1, new Uint8Array(30_000));
    expect(() => writer.endNest(nest)).toThrow(RangeError);
  });

  it("cut off or nonsensical bytes end the walk and never throw", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const buffer = Buffer.from(bytes);
        for (const message of splitMessages(buffer)) decodeReply(message);
        listAttributes(buffer);
        const attributes = new Attributes(buffer);
        for (let type = 0; type < 8; type += 1) attributes.u32(type);
      }),
    );
  });
});

describe("decodeReply", () => {
  it("errno and the kernel's words, after a capped request", () => {
    const writer = new MessageWriter();
    writer.begin({ type: NLMSG_ERROR, flags: NLM_F_CAPPED | NLM_F_ACK_TLVS, sequence: 9 });
    // errno -17, then the header of the request, whose length (100) is not that of what follows.
    writer.header([0xef, 0xff, 0xff, 0xff, 100, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    writer.string(1, "Interface already exists");
    writer.u32(2, 40);
    writer.end();
    const [message] = splitMessages(writer.bytes());
    expect(message === undefined ? undefined : decodeReply(message)).toEqual({ errno: 17, reason: "Interface already exists", offset: 40 });
  });
});
