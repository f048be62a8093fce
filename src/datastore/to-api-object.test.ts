import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { affinityName, blockName } from "../ipam/block.ts";
import { type NodeName, podKey } from "../model/names.ts";
import { RESOURCE_INFO } from "../model/parse-resource.ts";
import type { BlockAffinity, IpamBlock, IpPool } from "../model/resource.ts";
import { cidrAddressAt, parseCidr } from "../net/cidr.ts";
import type { JsonObject } from "./json-object.ts";
import { parseLosslessJson } from "./lossless-json.ts";
import { toApiObject } from "./to-api-object.ts";

const CIDR = parseCidr("10.65.0.64/29");
const NODE = "n1" as NodeName;

function block(ordinals: readonly number[], cidr = CIDR): IpamBlock {
  return {
    kind: "IPAMBlock",
    name: blockName(cidr),
    resourceVersion: "",
    cidr,
    node: NODE,
    allocations: ordinals.map((ordinal) => ({
      address: cidrAddressAt(cidr, ordinal),
      handle: `h${ordinal}`,
      pod: podKey("shop", `web-${ordinal}`),
      node: NODE,
    })),
    isDeleted: false,
  };
}

/** Through text, as over the wire. */
function written(object: JsonObject): JsonObject {
  return parseLosslessJson(JSON.stringify(object)) as JsonObject;
}

describe("toApiObject: IPAMBlock", () => {
  it("a new block, as Calico writes it", () => {
    expect(written(toApiObject(block([1, 4]), { firstSequenceNumber: 1_764_000_000_000_000 }))).toEqual({
      apiVersion: "projectcalico.org/v3",
      kind: "IPAMBlock",
      metadata: { name: "10-65-0-64-29" },
      spec: {
        cidr: "10.65.0.64/29",
        affinity: "host:n1",
        allocations: [null, 0, null, null, 1, null, null, null],
        unallocated: [0, 2, 3, 5, 6, 7],
        attributes: [
          { handle_id: "h1", secondary: { namespace: "shop", pod: "web-1", node: "n1" } },
          { handle_id: "h4", secondary: { namespace: "shop", pod: "web-4", node: "n1" } },
        ],
        sequenceNumber: 1_764_000_000_000_000,
        sequenceNumberForAllocation: { "1": 1_764_000_000_000_000, "4": 1_764_000_000_000_000 },
        deleted: false,
        strictAffinity: false,
      },
    });
  });

  it("an update: freed addresses join the end of the queue, kept attributes and unknown fields stay, the number grows by one even beyond 2^53", () => {
    const before = parseLosslessJson(`{"apiVersion":"projectcalico.org/v3","kind":"IPAMBlock",
      "metadata":{"name":"10-65-0-64-29","resourceVersion":"8","labels":{"x":"y"},"managedFields":[{}]},
      "spec":{"cidr":"10.65.0.64/29","affinity":"host:n1","affinityClaimTime":"2026-01-01T00:00:00Z","allocations":[null,0,null,1,null,null,null,null],
        "unallocated":[7,0,2,4,5,6],"attributes":[{"handle_id":"h1","secondary":{"namespace":"shop","pod":"web-1","node":"n1","timestamp":"t"}},{"handle_id":"gone","releasedAt":"2026-01-01T00:00:00Z"}],
        "sequenceNumber":1764000000123456789,"sequenceNumberForAllocation":{"1":1764000000123456700,"3":1764000000123456701},"strictAffinity":false}}`) as JsonObject;
    const parsed = RESOURCE_INFO.IPAMBlock.parse(before);
    if (!parsed.ok || parsed.value.kind !== "IPAMBlock") throw new Error("not a block");
    const [first, released] = parsed.value.allocations;
    if (first === undefined || released === undefined) throw new Error("two allocations are expected");
    const added = { address: cidrAddressAt(CIDR, 7), handle: "h7", pod: podKey("shop", "web-7"), node: NODE };
    const text = JSON.stringify(toApiObject({ ...parsed.value, allocations: [first, released, added] }, { previous: before }));
    const after = JSON.parse(text) as { metadata: JsonObject; spec: JsonObject };
    expect(text).toContain('"sequenceNumber":1764000000123456790');
    expect(text).toContain('"sequenceNumberForAllocation":{"1":1764000000123456700,"3":1764000000123456701,"7":1764000000123456790}');
    expect(after.metadata).toEqual({ name: "10-65-0-64-29", resourceVersion: "8", labels: { x: "y" } });
    expect(after.spec).toMatchObject({
      affinityClaimTime: "2026-01-01T00:00:00Z",
      allocations: [null, 0, null, 1, null, null, null, 2],
      unallocated: [0, 2, 4, 5, 6],
      attributes: [{ secondary: { timestamp: "t" } }, { handle_id: "gone", releasedAt: "2026-01-01T00:00:00Z" }, { handle_id: "h7" }],
    });
    const freed = toApiObject({ ...parsed.value, allocations: [] }, { previous: before });
    expect((freed["spec"] as JsonObject)["unallocated"]).toEqual([7, 0, 2, 4, 5, 6, 1, 3]);
  });

  it("any allocations, over any earlier ones: parses back to the same, and every ordinal is either taken or queued once", () => {
    const ordinals = fc.uniqueArray(fc.integer({ min: 0, max: 63 }), { maxLength: 64 });
    const cidr = fc.constantFrom(parseCidr("10.65.0.64/26"), parseCidr("fd00:65::40/122"));
    fc.assert(
      fc.property(ordinals, ordinals, cidr, (before, after, prefix) => {
        const previous = written(toApiObject(block(before, prefix), { firstSequenceNumber: 1 }));
        const value = block(
          [...after].sort((a, b) => a - b),
          prefix,
        );
        const object = written(toApiObject(value, { previous }));
        expect(RESOURCE_INFO.IPAMBlock.parse(object)).toEqual({ ok: true, value });
        const { allocations, unallocated } = object["spec"] as { allocations: (number | null)[]; unallocated: number[] };
        expect([...unallocated, ...allocations.flatMap((index, ordinal) => (index === null ? [] : [ordinal]))].sort((a, b) => a - b)).toEqual(
          Array.from({ length: 64 }, (_, i) => i),
        );
      }),
    );
  });

  it("an address outside of the block → RangeError that names both", () => {
    const wrong = { ...block([]), allocations: [{ address: cidrAddressAt(parseCidr("10.9.0.0/24"), 1), handle: "h", pod: undefined, node: undefined }] };
    expect(() => toApiObject(wrong)).toThrow("10.9.0.1 is not in 10.65.0.64/29");
  });
});

describe("toApiObject: BlockAffinity and IPPool parse back to themselves", () => {
  const affinity: BlockAffinity = {
    kind: "BlockAffinity",
    name: affinityName(NODE, CIDR),
    resourceVersion: "",
    node: NODE,
    cidr: CIDR,
    state: "pending",
    isDeleted: false,
  };
  const pool: IpPool = {
    kind: "IPPool",
    name: "p",
    resourceVersion: "4",
    cidr: parseCidr("10.65.0.0/16"),
    blockSize: 26,
    natOutgoing: true,
    disabled: false,
    nodeSelector: "all()",
  };

  it.each([affinity, pool])("$kind", (value) => {
    expect(RESOURCE_INFO[value.kind].parse(written(toApiObject(value)))).toEqual({ ok: true, value });
  });
  it("an affinity carries Calico's labels", () => {
    const labels = (toApiObject(affinity)["metadata"] as { labels: Record<string, string> }).labels;
    expect(labels).toEqual({
      "projectcalico.org/affinity-type": "host",
      "projectcalico.org/ip-version": "4",
      "projectcalico.org/hostname-hash": expect.stringMatching(/^[A-Z2-7]{52}$/),
    });
  });
});
