/**
 * The ports of a rule as nft matches.
 *
 * Invariant: ports are looked at only in packets of a protocol that has them: in any other, the bytes in that place mean something else.
 */
import type { PortRange, Rule, SetType } from "../../src/model/record.ts";
import type { IpVersion } from "../../src/net/ip.ts";
import { setName } from "./names.ts";
import type { NftField, NftMatch } from "./nft/ruleset.ts";

export type End = "source" | "destination";

/** Protocols with ports that a rule can state. */
export const PORT_PROTOCOLS: ReadonlyMap<number, string> = new Map([
  [6, "tcp"],
  [17, "udp"],
  [132, "sctp"],
]);
export const PORT_PROTOCOL_NAMES: readonly string[] = [...PORT_PROTOCOLS.values()];

export function isPortProtocol(protocol: number | undefined): boolean {
  return protocol !== undefined && PORT_PROTOCOLS.has(protocol);
}

export function hasPorts({ source, destination }: Rule): boolean {
  return [source, destination].some(({ ports, portSets }) => ports.length + portSets.length > 0);
}

export function hasNotPorts({ source, destination }: Rule): boolean {
  return [source, destination].some(({ notPorts = [], notPortSets = [] }) => notPorts.length + notPortSets.length > 0);
}

export function addressField(end: End, version: IpVersion): NftField {
  const word = end === "source" ? "saddr" : "daddr";
  return version === 4 ? `ip ${word}` : `ip6 ${word}`;
}

/**
 * Ways to satisfy one side's ports: the ranges, or any of the named-port sets, and each of them outside all that is excluded. One empty way when nothing
 * is stated; none when nothing can match. `version` undefined: the side names no set.
 */
export function portAlternatives(
  rule: Rule,
  end: End,
  version: IpVersion | undefined,
  { use }: { use(set: { readonly id: string; readonly type: SetType; readonly isByLength: boolean }): void },
): readonly (readonly NftMatch[])[] {
  const { ports, portSets, notPorts = [], notPortSets = [] } = rule[end];
  const isStated = ports.length + portSets.length > 0;
  if (rule.protocol !== 0 && !isPortProtocol(rule.protocol)) return isStated ? [] : [[]];
  const word = end === "source" ? "sport" : "dport";
  const field = `${PORT_PROTOCOLS.get(rule.protocol) ?? "th"} ${word}` as NftField;
  const lookup = (id: string, negate: boolean): readonly NftMatch[] => {
    if (version === undefined) return [];
    use({ id, type: "address-port", isByLength: false });
    const fields: readonly NftField[] = [addressField(end, version), "meta l4proto", `th ${word}`];
    return [{ kind: "lookup", fields, set: setName(id, "address-port", version), ...(negate ? { negate } : {}) }];
  };
  // Of a rule for all protocols only what has no ports comes here with exclusions: they say nothing about it.
  const exclusions = rule.protocol === 0 ? [] : [...rangesMatch(field, notPorts, true), ...notPortSets.flatMap((id) => lookup(id, true))];
  if (!isStated) return [exclusions];
  const ways = [rangesMatch(field, ports, false), ...portSets.map((id) => lookup(id, false))];
  return ways.filter((way) => way.length > 0).map((way) => [...way, ...exclusions]);
}

function rangesMatch(field: NftField, ports: readonly PortRange[], negate: boolean): readonly NftMatch[] {
  const ranges = mergePorts(ports).map(({ first, last }) => (first === last ? String(first) : `${first}-${last}`));
  const [only] = ranges;
  if (only === undefined) return [];
  if (ranges.length === 1) return [{ kind: "match", field, value: only, ...(negate ? { op: "!=" as const } : {}) }];
  return [{ kind: "match-any", field, values: ranges, ...(negate ? { negate } : {}) }];
}

/** Sorted and disjoint: the kernel refuses overlapping intervals in one set. */
function mergePorts(ports: readonly PortRange[]): readonly PortRange[] {
  const merged: { first: number; last: number }[] = [];
  // A range that ends before it begins holds nothing.
  const sorted = ports.filter(({ first, last }) => first <= last).sort((a, b) => a.first - b.first);
  for (const { first, last } of sorted) {
    const previous = merged.at(-1);
    if (previous !== undefined && first <= previous.last + 1) previous.last = Math.max(previous.last, last);
    else merged.push({ first, last });
  }
  return merged;
}
