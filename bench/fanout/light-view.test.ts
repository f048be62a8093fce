import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { recordKey } from "../../src/model/record.ts";
import { addDigest, bucketOf, seedOf } from "../../src/wire/digest.ts";
import { encodeRecord } from "../../src/wire/record-codec.ts";
import { decodeServerMessage, encodeUpdate, type RawUpdate } from "../../src/wire/update-codec.ts";
import { View } from "../../src/wire/view.ts";
import { recordValue } from "../../test/fakes/record-arbitrary.ts";
import { isSharedKey, LightView } from "./light-view.ts";

const SEED = seedOf("u");
const BITS = 3;
const NOTHING: RawUpdate = { buckets: [], upserts: [], removed: [], commit: true, revision: 1n, digest: undefined, committedAtUnixUs: 1_790_000_000_000_000n };

describe("light view", () => {
  it("has the digest of the own records of a whole view, after any updates", () => {
    const step = fc.record({ values: fc.array(recordValue, { maxLength: 6 }), removed: fc.array(recordValue, { maxLength: 3 }), isAnswer: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (steps) => {
        const light = new LightView();
        const view = new View(SEED);
        view.begin({ seed: SEED, epoch: "e", bucketBits: BITS });
        for (const { values, removed, isAnswer } of steps) {
          const records = [...new Map(values.map((value) => [recordKey(value), encodeRecord(value, SEED).bytes])).entries()];
          const indexes = [...new Set(records.map(([key]) => bucketOf(key, SEED, BITS)))];
          const buckets = indexes.map((index) => ({
            index,
            records: records.filter(([key]) => bucketOf(key, SEED, BITS) === index).map(([, bytes]) => bytes),
          }));
          const content = isAnswer
            ? { buckets }
            : { upserts: records.map(([, bytes]) => bytes), removed: removed.map(recordKey).filter((key) => !records.some(([other]) => other === key)) };
          const message = encodeUpdate({ ...NOTHING, ...content });
          const decoded = decodeServerMessage(message);
          if (decoded?.$case === "update") view.stage(decoded.value);
          view.commit();
          const end = light.apply(Buffer.from(updateOf(message)), { seed: SEED, bits: BITS });
          expect(end).toEqual({ isCommit: true, isAnswer: false, revision: 1, committedAtUnixUs: 1_790_000_000_000_000, records: records.length });
        }
        let own = 0n;
        for (const { key, hash } of view.records.values()) if (!isSharedKey(key)) own = addDigest(own, hash);
        expect(light.digest).toBe(own);
        expect(light.bucketDigests(SEED, BITS).reduce(addDigest, 0n)).toBe(own);
      }),
    );
  });
});

/** Without the tag and length that ServerMessage puts before it. */
function updateOf(message: Uint8Array): Uint8Array {
  let at = 1;
  while ((message[at] ?? 0) >= 0x80) at++;
  return message.subarray(at + 1);
}
