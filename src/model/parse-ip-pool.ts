/**
 * projectcalico.org/v3 IPPool.
 *
 * A pool that pods may not take addresses from by themselves (Manual, not for workloads, being deleted) reads as disabled: no new addresses, those
 * in use stay routed.
 */
import { type Cidr, cidrLength, cidrVersion, hasHostBits, tryParseCidr } from "../net/cidr.ts";
import { ipBits } from "../net/ip.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseFields } from "./field.ts";
import { readMetadata } from "./parse-metadata.ts";
import type { IpPool } from "./resource.ts";

/** Keeps a deleted pool until nothing of it is in use; put there and taken away by `sedge controllers`. */
export const POOL_FINALIZER = "sedge.network/addresses";

const SPEC =
  "cidr vxlanMode ipipMode natOutgoing disabled disableBGPExport blockSize nodeSelector namespaceSelector allowedUses assignmentMode ipip nat-outgoing".split(
    " ",
  );

export function parseIpPool(object: unknown, options: ParseOptions = {}): Parsed<IpPool> {
  return parseFields(object, options, (root) => {
    const metadata = readMetadata(root);
    const spec = root.child("spec").object(SPEC);
    const cidr = readExactCidr(spec.child("cidr"));
    const uses = spec
      .child("allowedUses")
      .items()
      .flatMap((use) => use.oneOf(["Workload", "Tunnel", "LoadBalancer"] as const) ?? []);
    const isManual = spec.child("assignmentMode").oneOf(["Automatic", "Manual"] as const) === "Manual";
    const isDisabled = spec.child("disabled").boolean() ?? false;
    const isClosed = isDisabled || metadata.isDeleting || (uses.length > 0 && !uses.includes("Workload"));
    const namespaceSelector = readSelector(spec.child("namespaceSelector"));
    return {
      kind: "IPPool",
      name: metadata.name,
      resourceVersion: metadata.resourceVersion,
      cidr: cidr ?? NO_CIDR,
      blockSize: readBlockSize(spec.child("blockSize"), cidr),
      natOutgoing: spec.child("natOutgoing").boolean() ?? false,
      disabled: isClosed || isManual,
      nodeSelector: readSelector(spec.child("nodeSelector")) ?? "all()",
      ...(namespaceSelector === undefined ? {} : { namespaceSelector }),
      ...(isManual && !isClosed ? { isManual } : {}),
      ...(metadata.createdAt === "" ? {} : { createdAt: metadata.createdAt }),
      ...(metadata.isDeleting ? { isDeleting: true } : {}),
    };
  });
}

/** undefined: everything. */
function readSelector(field: Field): string | undefined {
  const text = field.string()?.trim() ?? "";
  return text === "" || text === "all()" ? undefined : text;
}

/** Stands where a problem was reported, so that reading can go on. */
export const NO_CIDR = "0.0.0.0/0" as Cidr;

/** A required prefix whose host bits are zero. */
export function readExactCidr(field: Field): Cidr | undefined {
  const text = field.requiredString("a prefix, for example 10.65.0.0/16");
  const cidr = tryParseCidr(text);
  if (text !== "" && cidr === undefined) field.problem(`${JSON.stringify(text)} is not a prefix; write ADDRESS/LENGTH, for example 10.65.0.0/16`);
  if (cidr !== undefined && hasHostBits(text)) field.problem(`${JSON.stringify(text)} has host bits; write ${cidr}`);
  return cidr;
}

function readBlockSize(field: Field, cidr: Cidr | undefined): number {
  if (cidr === undefined) return 0;
  const bits = ipBits(cidrVersion(cidr));
  const size = field.isAbsent || field.value === 0 ? bits - 6 : (field.integer({ min: bits - 12, max: bits }) ?? bits);
  if (size < cidrLength(cidr)) field.problem(`a block of /${size} is larger than the pool ${cidr}; set blockSize to at least ${cidrLength(cidr)}`);
  return size;
}
