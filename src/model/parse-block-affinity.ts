/** projectcalico.org/v3 BlockAffinity: a node's claim to a block. */
import type { Parsed } from "./event.ts";
import { type ParseOptions, parseFields } from "./field.ts";
import type { NodeName } from "./names.ts";
import { NO_CIDR, readExactCidr } from "./parse-ip-pool.ts";
import { readFlag } from "./parse-ipam-block.ts";
import { readMetadata } from "./parse-metadata.ts";
import type { BlockAffinity } from "./resource.ts";

const STATES = ["pending", "confirmed", "pendingDeletion"] as const;

export function parseBlockAffinity(object: unknown, options: ParseOptions = {}): Parsed<BlockAffinity> {
  return parseFields(object, options, (root) => {
    const metadata = readMetadata(root);
    const spec = root.child("spec").object(["state", "node", "type", "cidr", "deleted"]);
    if (spec.child("state").isAbsent) spec.child("state").problem(`is required: one of ${STATES.join(", ")}`);
    return {
      kind: "BlockAffinity",
      name: metadata.name,
      resourceVersion: metadata.resourceVersion,
      node: spec.child("node").requiredString("the node that claims the block") as NodeName,
      cidr: readExactCidr(spec.child("cidr")) ?? NO_CIDR,
      state: spec.child("state").oneOf(STATES) ?? "pending",
      isDeleted: readFlag(spec.child("deleted")),
    };
  });
}
