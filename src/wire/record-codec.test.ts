import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { recordValue } from "../../test/fakes/record-arbitrary.ts";
import type { NodeName } from "../model/names.ts";
import { type RecordValue, recordKey } from "../model/record.ts";
import { parseCidr } from "../net/cidr.ts";
import { parseIp } from "../net/ip.ts";
import { contentHash, seedOf } from "./digest.ts";
import { WireError } from "./error.ts";
import * as gen from "./gen/sedge/sync/v1/records.ts";
import { decodeRecord, encodeRecord, readRecord, seal, verifyRecord } from "./record-codec.ts";

const SEED = seedOf("3a1f");

describe("record codec", () => {
  it("decode of encode is the value, whatever the kind", () => {
    fc.assert(
      fc.property(recordValue, (value) => {
        const { key, bytes, hash } = encodeRecord(value, SEED);
        expect(decodeRecord(bytes)).toEqual({ key, bytes, hash, value, problem: "" });
        expect(key).toBe(recordKey(value));
        expect(verifyRecord(bytes, SEED)).toEqual({ key, bytes, hash });
      }),
    );
  });

  it("the bytes are what the generated code makes of the same content", () => {
    fc.assert(
      fc.property(recordValue, (value) => {
        const { bytes, hash } = encodeRecord(value, SEED);
        const message = gen.Record.decode(bytes);
        expect(message.hash).toBe(hash);
        expect(Buffer.from(gen.Record.encode(message).finish())).toEqual(Buffer.from(bytes));
      }),
    );
  });

  it("the hash is XXH64 of all before the last 9 bytes, and the seed is the cluster's", () => {
    const value: RecordValue = { kind: "pool", name: "p", cidr: parseCidr("10.0.0.0/16"), natOutgoing: true, disabled: false, blockSize: 26 };
    const { bytes, hash } = encodeRecord(value, SEED);
    expect(contentHash(bytes.subarray(0, bytes.length - 9), SEED)).toBe(hash);
    expect(bytes.at(-9)).toBe(0x79);
    expect(encodeRecord(value, seedOf("another")).hash).not.toBe(hash);
  });

  it("the order in which a list was made does not show", () => {
    const blocks = [parseCidr("10.0.1.0/26"), parseCidr("10.0.0.64/26"), parseCidr("fd00::/122")];
    const addresses = [parseIp("fd00::1"), parseIp("10.0.0.1")];
    const one = encodeRecord({ kind: "node", name: "n1" as NodeName, addresses, blocks }, SEED);
    const two = encodeRecord({ kind: "node", name: "n1" as NodeName, addresses: addresses.toReversed(), blocks: blocks.toReversed() }, SEED);
    expect(two.bytes).toEqual(one.bytes);
    const set = (members: string[]): Uint8Array => encodeRecord({ kind: "set", id: "s", shard: "", type: "address", members }, SEED).bytes;
    expect(set(["10.0.0.9", "fd00::1", "10.0.0.10"])).toEqual(set(["fd00::1", "10.0.0.10", "10.0.0.9"]));
    expect(decodeRecord(set(["10.0.0.9", "fd00::1", "10.0.0.10"])).value).toMatchObject({ members: ["10.0.0.9", "10.0.0.10", "fd00::1"] });
  });

  const known = encodeRecord({ kind: "stack", id: "s", tiers: [], noMatchAction: "allow" }, SEED);
  const content = known.bytes.subarray(0, known.bytes.length - 9);
  const unknownCases: readonly (readonly [string, Uint8Array])[] = [
    ["a kind of a later version", Buffer.concat([Buffer.from([0x0a, 7]), Buffer.from("stack/s"), Buffer.from([0x6a, 1, 0])])],
    [
      "an action of a later version",
      gen.Record.encode({
        key: "stack/s",
        value: { $case: "stack", value: { id: "s", tiers: [], noMatchAction: 9 as gen.Action, profiles: [], logDenied: false } },
        hash: 0n,
      }).finish(),
    ],
    [
      "a field of a later version",
      Buffer.concat([content.subarray(0, 9), Buffer.from([0x2a, (content[10] ?? 0) + 2]), content.subarray(11), Buffer.from([0x78, 1])]),
    ],
    [
      "an address of 5 bytes",
      gen.Record.encode({
        key: "endpoint/a/b",
        value: {
          $case: "endpoint",
          value: { namespace: "a", pod: "b", uid: "", stack: "", addresses: [Buffer.alloc(5)], addressRequest: undefined, limits: undefined, floating: [] },
        },
        hash: 0n,
      }).finish(),
    ],
    [
      "another key than its value's",
      gen.Record.encode({
        key: "stack/t",
        value: { $case: "stack", value: { id: "s", tiers: [], noMatchAction: 1, profiles: [], logDenied: false } },
        hash: 0n,
      }).finish(),
    ],
  ];
  it.each(unknownCases)("A9 %s → kept as bytes with a reason, never dropped", (_, bytes) => {
    const sealed = seal("", bytes, SEED);
    const decoded = decodeRecord(sealed.bytes);
    expect(decoded.value).toBeUndefined();
    expect(decoded.problem).not.toBe("");
    expect(decoded.bytes).toBe(sealed.bytes);
    expect(decoded.hash).toBe(sealed.hash);
  });

  it.each([
    ["nothing", new Uint8Array()],
    ["no hash at the end", content],
    ["cut off", known.bytes.subarray(0, 12)],
    ["an endless key length", new Uint8Array(20).fill(0xff).fill(0x0a, 0, 1)],
    ["a key that is not UTF-8", seal("", Buffer.from([0x0a, 1, 0xff]), SEED).bytes],
  ])("%s → malformed", (_, bytes) => {
    expect(() => readRecord(bytes)).toThrow(WireError);
  });

  it("any flipped bit is found by the hash or by the form", () => {
    fc.assert(
      fc.property(recordValue, fc.nat(), (value, at) => {
        const bytes = Uint8Array.from(encodeRecord(value, SEED).bytes);
        const bit = at % (bytes.length * 8);
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(() => verifyRecord(bytes, SEED)).toThrow(WireError);
      }),
    );
  });
});
