/** projectcalico.org/v3 IPAMConfiguration. */
import type { Parsed } from "./event.ts";
import { type ParseOptions, parseFields } from "./field.ts";
import { readMetadata } from "./parse-metadata.ts";
import type { IpamConfiguration } from "./resource.ts";

/** The one that counts. */
export const IPAM_CONFIGURATION_NAME = "default";
export const DEFAULT_MAX_BLOCKS_PER_HOST = 20;
const SPEC = ["strictAffinity", "maxBlocksPerHost", "autoAllocateBlocks", "ipCooldownSeconds", "kubeVirtVMAddressPersistence"];

export function parseIpamConfiguration(object: unknown, options: ParseOptions = {}): Parsed<IpamConfiguration> {
  return parseFields(object, options, (root) => {
    const metadata = readMetadata(root);
    const spec = root.child("spec").object(SPEC);
    // Calico writes 0 for "not limited".
    const max = spec.child("maxBlocksPerHost").integer({ min: 0, max: 2 ** 31 - 1 });
    return {
      kind: "IPAMConfiguration",
      name: metadata.name,
      resourceVersion: metadata.resourceVersion,
      strictAffinity: spec.child("strictAffinity").boolean() ?? false,
      maxBlocksPerHost: max === undefined ? DEFAULT_MAX_BLOCKS_PER_HOST : max === 0 ? Number.POSITIVE_INFINITY : max,
      autoAllocateBlocks: spec.child("autoAllocateBlocks").boolean() ?? true,
      ipCooldownSeconds: spec.child("ipCooldownSeconds").integer({ min: 0, max: 86_400 }),
    };
  });
}
