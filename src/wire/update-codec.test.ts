import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { recordValue } from "../../test/fakes/record-arbitrary.ts";
import { WireError } from "./error.ts";
import { Record as WireRecord } from "./gen/sedge/sync/v1/records.ts";
import { ServerMessage } from "./gen/sedge/sync/v1/sync.ts";
import { encodeRecord } from "./record-codec.ts";
import { decodeBareUpdate, decodeServerMessage, encodeBareUpdate, encodeHeartbeat, encodeServerMessage, encodeUpdate, type RawUpdate } from "./update-codec.ts";

const u64 = fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 300n }));
const record = recordValue.map((value): Uint8Array => Uint8Array.from(encodeRecord(value, 7n).bytes));
const rawUpdate: fc.Arbitrary<Required<RawUpdate>> = fc.record({
  buckets: fc.array(fc.record({ index: fc.nat(4095), records: fc.array(record, { maxLength: 3 }) }), { maxLength: 3 }),
  upserts: fc.array(record, { maxLength: 3 }),
  removed: fc.array(fc.string({ unit: "grapheme" }), { maxLength: 3 }),
  commit: fc.boolean(),
  revision: u64,
  digest: fc.option(u64, { nil: undefined }),
  committedAtUnixUs: u64,
  upstream: fc.array(u64, { maxLength: 4 }),
});

describe("update codec", () => {
  it("encodes the same bytes as the generated code", () => {
    fc.assert(
      fc.property(rawUpdate, (update) => {
        const generated = ServerMessage.encode({
          message: {
            $case: "update",
            value: {
              ...update,
              removed: [...update.removed],
              upstream: [...update.upstream],
              upserts: update.upserts.map((bytes) => WireRecord.decode(bytes)),
              buckets: update.buckets.map(({ index, records }) => ({ index, records: records.map((bytes) => WireRecord.decode(bytes)) })),
            },
          },
        }).finish();
        expect(Buffer.from(encodeUpdate(update)).equals(generated)).toBe(true);
      }),
    );
  });

  it("decode of encode is the update", () => {
    fc.assert(
      fc.property(rawUpdate, (update) => {
        const { upstream, ...rest } = update;
        const value = upstream.length === 0 ? rest : update;
        expect(decodeServerMessage(encodeUpdate(update))).toEqual({ $case: "update", value });
        expect(decodeBareUpdate(encodeBareUpdate(update))).toEqual(value);
      }),
    );
  });

  it("other messages go through the generated code", () => {
    const heartbeat = { $case: "heartbeat", value: { revision: 5n, digest: 9n, upstreamAgeMs: 1n, stale: true, ackIntervalMs: 0 } } as const;
    expect(decodeServerMessage(encodeServerMessage(heartbeat))).toEqual(heartbeat);
  });

  it("a heartbeat has the same bytes as from the generated code", () => {
    fc.assert(
      fc.property(
        fc.record({ revision: u64, digest: fc.option(u64, { nil: undefined }), upstreamAgeMs: u64, stale: fc.boolean(), ackIntervalMs: fc.nat() }),
        (heartbeat) => {
          expect(Buffer.from(encodeHeartbeat(heartbeat)).equals(encodeServerMessage({ $case: "heartbeat", value: heartbeat }))).toBe(true);
        },
      ),
    );
  });

  it("a message or field of a later version is skipped", () => {
    expect(decodeServerMessage(Buffer.from([0x7a, 1, 0]))).toBeUndefined();
    expect(decodeServerMessage(Buffer.from([0x12, 5, 0x7a, 1, 0, 0x20, 1]))).toMatchObject({ value: { commit: true } });
  });

  it.each([
    ["garbage", Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
    ["a length beyond the end", Buffer.from([0x12, 100, 1])],
    ["a known field of another type", Buffer.from([0x12, 2, 0x08, 1])],
  ])("%s → malformed", (_, bytes) => {
    expect(() => decodeServerMessage(bytes)).toThrow(WireError);
  });
});
