/**
 * Floating addresses of the pods that are connected here: maps and rules that lead to the pod's own address, and back. Pure.
 *
 *   floating-v4            floating address → the pod's: destinations, before routing (prerouting) and for the node's own packets (output)
 *   floating-hairpin-v4    pod's address . the same → floating address: the source of what a pod sends to itself by its floating address, as the pod would
 *                          otherwise have to answer itself on a connection that it knows by other addresses
 *
 * Invariant: policy is judged behind the translation, so it sees the pod's own address alone. A look in a map whatever the number; a node without such pods
 * has neither the maps nor the chains. Rejected: a rule each, as the cost of a new connection would grow with the number of pods.
 */
import type { PodKey } from "../../src/model/names.ts";
import type { RecordKey, RecordValue } from "../../src/model/record.ts";
import { type IpAddress, type IpVersion, ipVersion } from "../../src/net/ip.ts";
import type { PlannedSet } from "./address-sets.ts";
import { floatingHairpinMap, floatingMap } from "./names.ts";
import type { NftElement, NftRule } from "./nft/ruleset.ts";
import { ADDRESS_TYPES } from "./nft/values.ts";
import { endpointRecord, type PlannedEndpoint } from "./planned-endpoint.ts";

export interface FloatingAddress {
  readonly podKey: PodKey;
  readonly interfaceName: string;
  readonly address: IpAddress;
  /** The pod's own, of the same family. */
  readonly target: IpAddress;
}

const VERSIONS: readonly IpVersion[] = [4, 6];

/** One entry an address, also while two records name it (between two commits): the first pod has it. */
export function floatingAddresses(records: ReadonlyMap<RecordKey, RecordValue>, endpoints: readonly PlannedEndpoint[]): readonly FloatingAddress[] {
  const found = new Map<IpAddress, FloatingAddress>();
  for (const endpoint of endpoints) {
    const { podKey, interfaceName, addresses } = endpoint;
    for (const address of endpointRecord(records, endpoint)?.floating ?? []) {
      const target = addresses.find((own) => ipVersion(own) === ipVersion(address));
      if (target !== undefined && !found.has(address)) found.set(address, { podKey, interfaceName, address, target });
    }
  }
  return [...found.values()];
}

/** Empty when there are none. */
export function floatingMaps(floating: readonly FloatingAddress[]): readonly PlannedSet[] {
  if (floating.length === 0) return [];
  return VERSIONS.flatMap((version): readonly PlannedSet[] => {
    const type = ADDRESS_TYPES[version];
    const ofVersion = floating.filter(({ address }) => ipVersion(address) === version);
    const hairpins = new Map<string, NftElement>();
    // Of several addresses of one pod the first.
    for (const { address, target } of ofVersion) {
      const key = `${target} . ${target}`;
      if (!hairpins.has(key)) hairpins.set(key, { key, data: address });
    }
    return [
      { set: { name: floatingMap(version), key: [type], data: type }, elements: ofVersion.map(({ address, target }) => ({ key: address, data: target })) },
      { set: { name: floatingHairpinMap(version), key: [type, type], data: type }, elements: [...hairpins.values()] },
    ];
  });
}

export function destinationRules(): readonly NftRule[] {
  return VERSIONS.map((version) => ({
    statements: [{ kind: "nat-map", nat: "dnat", version, fields: [version === 4 ? "ip daddr" : "ip6 daddr"], map: floatingMap(version) }],
  }));
}

export function hairpinRules(): readonly NftRule[] {
  return VERSIONS.map((version) => ({
    statements: [
      {
        kind: "nat-map",
        nat: "snat",
        version,
        fields: version === 4 ? ["ip saddr", "ip daddr"] : ["ip6 saddr", "ip6 daddr"],
        map: floatingHairpinMap(version),
      },
    ],
  }));
}
