/**
 * Model value → object of the API, as Calico writes it, so that Calico's own tools read it.
 *
 * With `previous` (the object that the value was read from) everything that the model does not know stays as it was: labels, annotations, attributes of released
 * addresses, fields of newer versions. Source: apis/v3 IPAMBlockSpec, BlockAffinitySpec, IPPoolSpec and libcalico-go's ipam_block.go.
 */
import { createHash } from "node:crypto";
import { assertNever } from "../model/event.ts";
import { CLAIM_ANNOTATION, LOAN_ATTRIBUTES, parseIpamBlock } from "../model/parse-ipam-block.ts";
import type { BlockAffinity, BlockAllocation, BlockLoan, IpamBlock, IpPool } from "../model/resource.ts";
import { cidrLength, cidrOrdinal, cidrVersion } from "../net/cidr.ts";
import { ipBits } from "../net/ip.ts";
import { API_RESOURCES, apiVersionOf } from "./api-resources.ts";
import { type JsonObject, objectAt, tryJsonObject } from "./json-object.ts";
import { jsonInteger } from "./lossless-json.ts";

export type WritableResource = IpPool | IpamBlock | BlockAffinity;

export interface ToApiObjectOptions {
  readonly previous?: JsonObject | undefined;
  /** First spec.sequenceNumber of a new block: anything that an earlier block of this name has not had, such as the time in microseconds. */
  readonly firstSequenceNumber?: number;
}

export function toApiObject(resource: WritableResource, options: ToApiObjectOptions = {}): JsonObject {
  const api = API_RESOURCES[resource.kind];
  const { spec, labels, annotations } = contentOf(resource, options);
  const metadata = objectAt(options.previous, "metadata");
  const version = resource.resourceVersion === "" ? {} : { resourceVersion: resource.resourceVersion };
  return {
    ...options.previous,
    apiVersion: apiVersionOf(api),
    kind: resource.kind,
    metadata: {
      ...metadata,
      // Left out, the server keeps its own account of who owns which field.
      managedFields: undefined,
      name: resource.name,
      ...version,
      ...(labels === undefined ? {} : { labels: { ...objectAt(metadata, "labels"), ...labels } }),
      ...(annotations === undefined ? {} : { annotations: { ...objectAt(metadata, "annotations"), ...annotations } }),
    },
    spec: { ...objectAt(options.previous, "spec"), ...spec },
  };
}

const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

interface Content {
  readonly spec: JsonObject;
  readonly labels?: JsonObject;
  readonly annotations?: JsonObject;
}

function contentOf(resource: WritableResource, options: ToApiObjectOptions): Content {
  switch (resource.kind) {
    case "IPPool":
      return { spec: poolSpec(resource, objectAt(options.previous, "spec")) };
    case "IPAMBlock":
      return { spec: blockSpec(resource, options), ...(resource.claim === undefined ? {} : { annotations: { [CLAIM_ANNOTATION]: resource.claim } }) };
    case "BlockAffinity":
      return {
        spec: { state: resource.state, node: resource.node, type: "host", cidr: resource.cidr, deleted: resource.isDeleted },
        labels: {
          "projectcalico.org/affinity-type": "host",
          "projectcalico.org/hostname-hash": base32(createHash("sha3-256").update(resource.node).digest()),
          "projectcalico.org/ip-version": String(cidrVersion(resource.cidr)),
        },
      };
    default:
      return assertNever(resource);
  }
}

function poolSpec(pool: IpPool, previous: JsonObject | undefined): JsonObject {
  const defaults = previous === undefined ? { ipipMode: "Never", vxlanMode: "Never", allowedUses: ["Workload", "Tunnel"], assignmentMode: "Automatic" } : {};
  return { ...defaults, cidr: pool.cidr, blockSize: pool.blockSize, natOutgoing: pool.natOutgoing, disabled: pool.disabled, nodeSelector: pool.nodeSelector };
}

function blockSpec(block: IpamBlock, { previous, firstSequenceNumber = 0 }: ToApiObjectOptions): JsonObject {
  const size = 2 ** (ipBits(cidrVersion(block.cidr)) - cidrLength(block.cidr));
  const before = objectAt(previous, "spec");
  const sequence = before === undefined ? jsonInteger(BigInt(firstSequenceNumber)) : jsonInteger((bigintOf(before["sequenceNumber"]) ?? 0n) + 1n);
  const kept = keptAttributes(previous);
  const sequencesBefore = objectAt(before, "sequenceNumberForAllocation");
  const attributes: JsonObject[] = [];
  const indexes = new Map<string, number>();
  const allocations: (number | null)[] = Array.from({ length: size }, () => null);
  const sequences: Record<string, unknown> = {};
  for (const allocation of block.allocations) {
    const ordinal = cidrOrdinal(block.cidr, allocation.address);
    if (ordinal === undefined) throw new RangeError(`IPAMBlock ${block.name}: ${allocation.address} is not in ${block.cidr}`);
    const keptHere = kept.get(ordinal);
    const isKept = keptHere !== undefined && sameOwner(keptHere.owner, allocation);
    const attribute = isKept ? keptHere.attribute : attributeOf(allocation);
    const text = JSON.stringify(attribute);
    const index = indexes.get(text) ?? attributes.push(attribute) - 1;
    indexes.set(text, index);
    allocations[ordinal] = index;
    sequences[ordinal] = (isKept ? sequencesBefore?.[ordinal] : undefined) ?? sequence;
  }
  return {
    cidr: block.cidr,
    affinity: block.node === undefined ? undefined : `host:${block.node}`,
    allocations,
    unallocated: freeOrdinals(allocations, before?.["unallocated"]),
    attributes,
    sequenceNumber: sequence,
    sequenceNumberForAllocation: sequences,
    deleted: block.isDeleted,
    strictAffinity: before?.["strictAffinity"] ?? false,
  };
}

function attributeOf({ handle, pod, node, loan }: BlockAllocation): JsonObject {
  const slash = pod?.indexOf("/") ?? -1;
  const owner = pod === undefined ? {} : { namespace: pod.slice(0, slash), pod: pod.slice(slash + 1) };
  const lent =
    loan === undefined
      ? {}
      : { [LOAN_ATTRIBUTES.id]: loan.id, [LOAN_ATTRIBUTES.claim]: loan.claim, [LOAN_ATTRIBUTES.state]: loan.isAgreed ? "agreed" : "asked" };
  return { handle_id: handle, secondary: { ...owner, ...(node === undefined ? {} : { node }), ...lent } };
}

/** Attributes of the object as it was, by ordinal, beside what the model made of them. */
function keptAttributes(previous: JsonObject | undefined): Map<number, { attribute: JsonObject; owner: BlockAllocation }> {
  const kept = new Map<number, { attribute: JsonObject; owner: BlockAllocation }>();
  const parsed = previous === undefined ? undefined : parseIpamBlock(previous);
  if (parsed?.ok !== true) return kept;
  const spec = objectAt(previous, "spec");
  const indexes: unknown = spec?.["allocations"];
  const attributes: unknown = spec?.["attributes"];
  if (!Array.isArray(indexes) || !Array.isArray(attributes)) return kept;
  for (const owner of parsed.value.allocations) {
    const ordinal = cidrOrdinal(parsed.value.cidr, owner.address) ?? -1;
    const index: unknown = indexes[ordinal];
    const attribute = typeof index === "number" ? tryJsonObject(attributes[index]) : undefined;
    if (attribute !== undefined) kept.set(ordinal, { attribute, owner });
  }
  return kept;
}

function sameOwner(a: BlockAllocation, b: BlockAllocation): boolean {
  return a.handle === b.handle && a.pod === b.pod && a.node === b.node && sameLoan(a.loan, b.loan);
}

function sameLoan(a: BlockLoan | undefined, b: BlockLoan | undefined): boolean {
  return a?.id === b?.id && a?.claim === b?.claim && a?.isAgreed === b?.isAgreed;
}

/** The queue of free addresses, longest unused first: those that were free before in their order, then those freed now. */
function freeOrdinals(allocations: readonly (number | null)[], before: unknown): number[] {
  const queue = new Set<number>();
  for (const ordinal of Array.isArray(before) ? before : []) if (typeof ordinal === "number" && allocations[ordinal] === null) queue.add(ordinal);
  for (const [ordinal, index] of allocations.entries()) if (index === null) queue.add(ordinal);
  return [...queue];
}

function bigintOf(value: unknown): bigint | undefined {
  if (typeof value === "number" && Number.isInteger(value)) return BigInt(value);
  const text = tryJsonObject(value)?.["rawJSON"];
  return typeof text === "string" && /^-?\d+$/.test(text) ? BigInt(text) : undefined;
}

/** RFC 4648, without padding. */
function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = (value << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32[(value >> bits) & 31] ?? "";
      value &= (1 << bits) - 1;
    }
  }
  return bits === 0 ? text : text + (BASE32[(value << (5 - bits)) & 31] ?? "");
}
