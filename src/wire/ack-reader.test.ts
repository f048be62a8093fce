import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AckReader } from "./ack-reader.ts";
import { AgentMessage } from "./gen/sedge/sync/v1/sync.ts";

const encode = (received: bigint, programmed: bigint, failed: { key: string; reason: string }[] = [], heldUs?: number, programmedHeldUs?: number): Uint8Array =>
  AgentMessage.encode({
    message: { $case: "ack", value: { receivedRevision: received, programmedRevision: programmed, failed, heldUs, programmedHeldUs } },
  }).finish();

describe("AckReader", () => {
  it("reads what the generated code writes, up to 2^49, and leaves the rest to it", () => {
    const reader = new AckReader();
    const held = fc.option(fc.nat(2 ** 32 - 1), { nil: undefined });
    const revision = fc.oneof(fc.bigInt({ min: 0n, max: 300n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
    fc.assert(
      fc.property(revision, revision, fc.boolean(), held, held, (received, programmed, hasFailure, heldUs, programmedHeldUs) => {
        const isPlain = received < 2n ** 49n && programmed < 2n ** 49n && !hasFailure;
        expect(reader.read(encode(received, programmed, hasFailure ? [{ key: "k", reason: "r" }] : [], heldUs, programmedHeldUs))).toBe(isPlain);
        if (!isPlain) return;
        expect([BigInt(reader.received), BigInt(reader.programmed)]).toEqual([received, programmed]);
        expect([reader.heldUs, reader.programmedHeldUs]).toEqual([heldUs ?? -1, programmedHeldUs ?? -1]);
      }),
    );
  });

  it("whatever it reads, the generated code reads as the same", () => {
    const reader = new AckReader();
    const byte = fc.oneof(fc.constantFrom(0x12, 0x08, 0x10, 0x20, 0x28, 0x80, 0x00, 0x04), fc.integer({ min: 0, max: 255 }));
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
            programmedHeldUs: reader.programmedHeldUs < 0 ? undefined : reader.programmedHeldUs,
          },
        });
      }),
      { numRuns: 2_000 },
    );
  });
});
