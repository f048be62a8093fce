/** projectcalico.org/v3 IPAMBlock: who has which address of a block. */
import { cidrAddressAt, cidrLength, cidrVersion } from "../net/cidr.ts";
import { ipBits } from "../net/ip.ts";
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseFields } from "./field.ts";
import { type NodeName, type PodKey, podKey } from "./names.ts";
import { NO_CIDR, readExactCidr } from "./parse-ip-pool.ts";
import { readMetadata } from "./parse-metadata.ts";
import type { BlockAllocation, BlockLoan, IpamBlock } from "./resource.ts";

const HOST_AFFINITY = "host:";
/** Largest block, in bits of host part: 4,096 addresses. */
const MAX_HOST_BITS = 12;

interface Owner {
  readonly handle: string;
  readonly pod: PodKey | undefined;
  readonly node: NodeName | undefined;
  readonly loan?: BlockLoan;
}

/** Annotation that has `claim`. */
export const CLAIM_ANNOTATION = "sedge.network/claim";
/** Attributes of an address on loan. */
export const LOAN_ATTRIBUTES = { id: "sedge.network/loan", claim: "sedge.network/loan-claim", state: "sedge.network/loan-state" } as const;

export function parseIpamBlock(object: unknown, options: ParseOptions = {}): Parsed<IpamBlock> {
  return parseFields(object, options, (root) => {
    const metadata = readMetadata(root);
    const claim = root.child("metadata").object().child("annotations").object().child(CLAIM_ANNOTATION).string() ?? "";
    const spec = root.child("spec").object();
    const cidr = readExactCidr(spec.child("cidr"));
    const affinity = spec.child("affinity").string() ?? "";
    const hostBits = cidr === undefined ? 0 : ipBits(cidrVersion(cidr)) - cidrLength(cidr);
    if (hostBits > MAX_HOST_BITS) spec.child("cidr").problem(`a block has at most ${2 ** MAX_HOST_BITS} addresses`);
    const owners = spec.child("attributes").items().map(readOwner);
    const allocations = spec
      .child("allocations")
      .items()
      .flatMap((item, ordinal): BlockAllocation[] => {
        const index = item.integer({ min: 0, max: Math.max(0, owners.length - 1) });
        if (index === undefined || cidr === undefined) return [];
        if (ordinal >= 2 ** hostBits) {
          item.problem(`${cidr} has no address number ${ordinal}`);
          return [];
        }
        const owner = owners[index];
        if (owner === undefined) item.problem("there are no attributes");
        return owner === undefined ? [] : [{ address: cidrAddressAt(cidr, ordinal), ...owner }];
      });
    return {
      kind: "IPAMBlock",
      name: metadata.name,
      resourceVersion: metadata.resourceVersion,
      cidr: cidr ?? NO_CIDR,
      node: affinity.startsWith(HOST_AFFINITY) ? (affinity.slice(HOST_AFFINITY.length) as NodeName) : undefined,
      allocations,
      isDeleted: readFlag(spec.child("deleted")),
      ...(claim === "" ? {} : { claim }),
    };
  });
}

/** One entry of spec.attributes. An owner that has released the address keeps it for a while: it is in use, and no pod's. */
function readOwner(field: Field): Owner {
  const attributes = field.child("secondary").object();
  const namespace = attributes.child("namespace").string() ?? "";
  const pod = attributes.child("pod").string() ?? "";
  const node = attributes.child("node").string() ?? "";
  const isReleased = !field.child("releasedAt").isAbsent;
  const id = attributes.child(LOAN_ATTRIBUTES.id).string() ?? "";
  const loan = {
    id,
    claim: attributes.child(LOAN_ATTRIBUTES.claim).string() ?? id,
    isAgreed: (attributes.child(LOAN_ATTRIBUTES.state).oneOf(["asked", "agreed"] as const) ?? "agreed") === "agreed",
  };
  return {
    handle: field.child("handle_id").string() ?? "",
    pod: pod === "" || isReleased ? undefined : podKey(namespace, pod),
    node: node === "" ? undefined : (node as NodeName),
    ...(id === "" ? {} : { loan }),
  };
}

/** A boolean, or its text: crd.projectcalico.org/v1 has "true". */
export function readFlag(field: Field): boolean {
  if (field.value === "true" || field.value === "false" || field.value === "") return field.value === "true";
  return field.boolean() ?? false;
}
