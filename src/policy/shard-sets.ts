/** Set membership from set records: the union of a set's shards. For evaluation, not for the kernel. */

import type { SetShard } from "../model/record.ts";
import { type Cidr, cidrContains, tryParseCidr } from "../net/cidr.ts";
import type { IpAddress } from "../net/ip.ts";
import type { SetLookup } from "./evaluate.ts";

/** Protocols that a member of an address-port set may name, by IP protocol number. */
const MEMBER_PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [6, "tcp"],
  [17, "udp"],
  [132, "sctp"],
]);

interface SetContent {
  readonly members: Set<string>;
  readonly prefixes: Cidr[];
}

/** Lookup over the shards of one view. */
export function setsOfShards(shards: Iterable<SetShard>): SetLookup {
  const sets = new Map<string, SetContent>();
  for (const shard of shards) {
    const content = sets.get(shard.id) ?? { members: new Set(), prefixes: [] };
    sets.set(shard.id, content);
    for (const member of shard.members) {
      const prefix = shard.type === "prefix" ? tryParseCidr(member) : undefined;
      if (prefix === undefined) content.members.add(member);
      else content.prefixes.push(prefix);
    }
  }
  return {
    hasAddress(setId: string, address: IpAddress): boolean {
      const content = sets.get(setId);
      return content !== undefined && (content.members.has(address) || content.prefixes.some((prefix) => cidrContains(prefix, address)));
    },
    hasAddressPort(setId: string, address: IpAddress, protocol: number, port: number): boolean {
      return sets.get(setId)?.members.has(`${address},${MEMBER_PROTOCOLS.get(protocol) ?? "?"}:${port}`) === true;
    },
  };
}
