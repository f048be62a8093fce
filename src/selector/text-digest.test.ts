import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hexDigest, sha224Of } from "./text-digest.ts";

describe("hexDigest and sha224Of", () => {
  it("= those of node:crypto, whatever was digested before", () => {
    const text = fc.oneof(fc.string({ maxLength: 80 }), fc.string({ unit: "grapheme", maxLength: 80 }), fc.string({ minLength: 500, maxLength: 530 }));
    fc.assert(
      fc.property(fc.array(fc.tuple(text, fc.boolean()), { maxLength: 10 }), (list) => {
        for (const [one, isShort] of list) {
          if (isShort) expect(Buffer.from(sha224Of(one)).toString("hex")).toBe(createHash("sha224").update(one).digest("hex"));
          else expect(hexDigest(one, 20)).toBe(createHash("sha256").update(one).digest("hex").slice(0, 40));
        }
      }),
    );
  });
});
