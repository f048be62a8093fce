/**
 * Limits of a pod's packets and connections, as chains that its packets pass before policy: also those of connections that are established.
 *
 * `limits/<interface>/egress`, jumped to from a map by interface, so that a node without limits has neither the map's rule nor the lookup. Bandwidth is not
 * here: a queue that delays is the interface's (agent/pods/shaper.ts), a rule can only drop. Packets of the host itself to its pods are not limited.
 */
import type { TrafficLimits } from "../../src/model/traffic-limits.ts";
import { type Direction, poolsSet } from "./names.ts";
import type { NftRule, NftStatement } from "./nft/ruleset.ts";
import type { PlannedChain } from "./policy-chains.ts";

const DROP: readonly NftStatement[] = [{ kind: "counter" }, { kind: "drop" }];

/** undefined: no packet of the direction is limited. */
export function limitChain(interfaceName: string, direction: Direction, limits: TrafficLimits): PlannedChain | undefined {
  const { packetsPerSecond, packetBurst = 5, maxConnections } = limits[direction];
  const rules: NftRule[] = [];
  if (packetsPerSecond !== undefined)
    rules.push({
      statements: [{ kind: "limit", rate: packetsPerSecond, per: "second", burst: packetBurst, over: true }, ...DROP],
      comment: `${direction}PacketRate`,
    });
  if (maxConnections !== undefined)
    rules.push({
      statements: [{ kind: "match", field: "ct state", value: "new" }, { kind: "ct-count-over", count: maxConnections }, ...DROP],
      comment: `${direction}MaxConnections`,
    });
  const { dscp } = limits;
  if (direction === "egress" && dscp !== undefined)
    for (const version of [4, 6] as const)
      rules.push({
        statements: [
          { kind: "lookup", fields: [version === 4 ? "ip daddr" : "ip6 daddr"], negate: true, set: poolsSet(version) },
          { kind: "set-dscp", version, dscp },
        ],
        comment: "dscp",
      });
  return rules.length === 0 ? undefined : { chain: { name: `limits/${interfaceName}/${direction}` }, rules };
}
