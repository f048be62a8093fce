import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AckReader } from "./ack-reader.ts";
import { AgentMessage } from "./gen/sedge/sync/v1/sync.ts";

const encode = (received: bigint, programmed: bigint, failed: { key: string; reason: string }[] = [], heldUs?: number): Uint8Array =>
  AgentMessage.encode({ message: { $case: "ack", value: { receivedRevision: received, programmedRevision: programmed, failed, heldUs } } }).finish();

describe("AckReader", () => {
  it("reads what the generated code writes, up to 2^49, and leaves the rest to it", () => {
    const reader = new AckReader();
    const revision = fc.oneof(fc.bigInt({ min: 0n, max: 300n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
    fc.assert(
      fc.property(revision, revision, fc.boolean(), fc.option(fc.nat(2 ** 32 - 1), { nil: undefined }), (received, programmed, hasFailure, heldUs) => {
        const isPlain = received < 2n ** 49n && programmed < 2n ** 49n && !hasFailure;
        expect(reader.read(encode(received, programmed, hasFailure ? [{ key: "k", reason: "r" }] : [], heldUs))).toBe(isPlain);
        if (isPlain) expect([BigInt(reader.received), BigInt(reader.programmed), reader.heldUs]).toEqual([received, programmed, heldUs ?? -1]);
      }),
    );
  });

  it("whatever it reads, the generated code reads as the same", () => {
    const reader = new AckReader();
    const byte = fc.oneof(fc.constantFrom(0x12, 0x08, 0x10, 0x20, 0x80, 0x00, 0x04), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 12 }), (tail) => {
        const bytes = Uint8Array.from([0x12, tail.length, ...tail]);
        if (!reader.read(bytes)) return;
        const { message } = AgentMessage.decode(bytes);
        expect(message).toEqual({
          $case: "ack",
          value: {
            receivedRevision: BigInt(reader.received),
            programmedRevision: BigInt(reader.programmed),
            failed: [],
            heldUs: reader.heldUs < 0 ? undefined : reader.heldUs,
          },
        });
      }),
      { numRuns: 2_000 },
    );
  });
});
