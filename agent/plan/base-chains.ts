/**
 * The chains that hang on the kernel's hooks: the same on every node, whatever the view says.
 *
 *   prerouting raw      source of a packet from a pod must be that pod's own; an unknown interface of ours: drop
 *   forward filter-10   egress of the pod that sends     (accept ends only this base chain, so that the next one still judges)
 *   forward filter-5    ingress of the pod that receives
 *   input filter-10     pod to its own host: the pod's egress, then accepted
 *   output filter-10    host to pods: always, but not to an unknown interface of ours
 *   postrouting srcnat  masquerade from pools that want it to addresses outside all pools
 *   floating-* dstnat-5 floating addresses to the pods' own, before Services; only on a node with such pods (floating.ts)
 *
 * Invariant: a packet of an interface with our prefix passes only through an entry in our maps; everything else is accepted here and left to others.
 * Rejected: one forward chain with marks for "egress said yes": accept in two base chains says the same without state.
 */
import type { EndpointToHostAction } from "../../src/model/stated-settings.ts";
import { destinationRules, hairpinRules } from "./floating.ts";
import { HOST_INPUT_CHAIN, HOST_OUTPUT_CHAIN } from "./host-chains.ts";
import { allowedSet, FROM_ENDPOINT_MAP, INTERFACES_SET, LIMIT_FROM_MAP, LIMIT_TO_MAP, natPoolsSet, poolsSet, TO_ENDPOINT_MAP } from "./names.ts";
import type { NftBaseChain, NftMatch, NftRule, NftStatement } from "./nft/ruleset.ts";
import type { PlannedChain } from "./policy-chains.ts";

/** Before kube-proxy's and other filters at 0, after destination NAT. */
const EGRESS_PRIORITY = -10;
const INGRESS_PRIORITY = -5;
const RAW_PRIORITY = -300;
const SOURCE_NAT_PRIORITY = 100;
/** Before kube-proxy's, at -100: of all destination NAT the first that matches holds. */
const FLOATING_PRIORITY = -105;

/**
 * Types 130 to 133, 135 and 136: multicast listeners (RFC 2710), router solicitation, neighbour solicitation and advertisement (RFC 4861): without them IPv6
 * does not work at all. Not 134: a pod that advertises itself as a router would change the host's routes.
 */
const NEIGHBOUR_DISCOVERY = [
  "mld-listener-query",
  "mld-listener-report",
  "mld-listener-done",
  "nd-router-solicit",
  "nd-neighbor-solicit",
  "nd-neighbor-advert",
] as const;

const ACCEPT: NftStatement = { kind: "accept" };
const DROP: readonly NftStatement[] = [{ kind: "counter" }, { kind: "drop" }];
const ESTABLISHED: NftRule = { statements: [{ kind: "match", field: "ct state", value: "established,related" }, ACCEPT] };
/**
 * Not for SCTP, where "invalid" is no more than "not seen from its beginning" (conntrack picks up no association on the way, as it does for TCP) or a
 * checksum that is left to the receiver: policy judges such a packet as it judges a new one.
 */
const INVALID: NftRule = {
  statements: [{ kind: "match", field: "meta l4proto", op: "!=", value: "sctp" }, { kind: "match", field: "ct state", value: "invalid" }, ...DROP],
};

export interface BaseChainSettings {
  readonly interfacePrefix: string;
  /** Whether the host's own traffic goes through the chains of host endpoints. */
  readonly hasHosts: boolean;
  /** Whether any pod has limits (limit-chains.ts). */
  readonly hasLimits: boolean;
  /** Whether any pod has a floating address (floating.ts). */
  readonly hasFloating: boolean;
  /** "accept" and "return" end our chains alike: other tables' rules still judge. */
  readonly endpointToHostAction: EndpointToHostAction;
}

const bySettings = new Map<string, readonly PlannedChain[]>();

/** The same objects for the same settings, so that comparing them costs nothing. */
export function baseChains(settings: BaseChainSettings): readonly PlannedChain[] {
  const key = `${settings.interfacePrefix} ${settings.hasHosts} ${settings.hasLimits} ${settings.hasFloating} ${settings.endpointToHostAction}`;
  const chains = bySettings.get(key) ?? makeBaseChains(settings);
  bySettings.set(key, chains);
  return chains;
}

function makeBaseChains({ interfacePrefix, hasHosts, hasLimits, hasFloating, endpointToHostAction }: BaseChainSettings): readonly PlannedChain[] {
  const ours = `${interfacePrefix}*`;
  const from: NftMatch = { kind: "match", field: "iifname", value: ours };
  const to: NftMatch = { kind: "match", field: "oifname", value: ours };
  const base = (name: string, on: Omit<NftBaseChain, "policy">, rules: readonly NftRule[]): PlannedChain => ({
    chain: { name, base: { ...on, policy: "accept" } },
    rules,
  });
  const go = (match: NftMatch, chain: string): NftRule => ({ statements: [match, { kind: "goto", chain }] });
  const limited = (field: "iifname" | "oifname", map: string): readonly NftRule[] =>
    hasLimits ? [{ statements: [{ kind: "vmap", fields: [field], map }] }] : [];
  return [
    { chain: { name: "check-source" }, rules: checkSourceRules() },
    { chain: { name: "from-pod" }, rules: [...limited("iifname", LIMIT_FROM_MAP), ESTABLISHED, INVALID, ...dispatch("iifname", FROM_ENDPOINT_MAP)] },
    { chain: { name: "to-pod" }, rules: [...limited("oifname", LIMIT_TO_MAP), ESTABLISHED, INVALID, ...dispatch("oifname", TO_ENDPOINT_MAP)] },
    {
      chain: { name: "pod-to-host" },
      rules: [
        ...limited("iifname", LIMIT_FROM_MAP),
        ESTABLISHED,
        INVALID,
        { statements: [neighbourDiscovery(), ACCEPT] },
        ...(endpointToHostAction === "drop" ? [{ statements: DROP, comment: "pods do not reach their host" }] : dispatch("iifname", FROM_ENDPOINT_MAP)),
      ],
    },
    base("prerouting", { type: "filter", hook: "prerouting", priority: RAW_PRIORITY }, [go(from, "check-source")]),
    base("forward-egress", { type: "filter", hook: "forward", priority: EGRESS_PRIORITY }, [go(from, "from-pod")]),
    base("forward-ingress", { type: "filter", hook: "forward", priority: INGRESS_PRIORITY }, [go(to, "to-pod")]),
    base("input", { type: "filter", hook: "input", priority: EGRESS_PRIORITY }, [
      go(from, "pod-to-host"),
      ...(hasHosts ? [{ statements: [{ kind: "goto", chain: HOST_INPUT_CHAIN }] } satisfies NftRule] : []),
    ]),
    base("output", { type: "filter", hook: "output", priority: EGRESS_PRIORITY }, [
      { statements: [to, { kind: "lookup", fields: ["oifname"], negate: true, set: INTERFACES_SET }, ...DROP], comment: "unknown interface" },
      ...(hasHosts ? ([{ statements: [to, ACCEPT] }, { statements: [{ kind: "goto", chain: HOST_OUTPUT_CHAIN }] }] satisfies readonly NftRule[]) : []),
    ]),
    base("postrouting", { type: "nat", hook: "postrouting", priority: SOURCE_NAT_PRIORITY }, [...(hasFloating ? hairpinRules() : []), ...masqueradeRules()]),
    ...(hasFloating
      ? (["prerouting", "output"] as const).map((hook) => base(`floating-${hook}`, { type: "nat", hook, priority: FLOATING_PRIORITY }, destinationRules()))
      : []),
  ];
}

function checkSourceRules(): readonly NftRule[] {
  const fromOwn = (version: 4 | 6): NftRule => ({
    statements: [{ kind: "lookup", fields: ["iifname", version === 4 ? "ip saddr" : "ip6 saddr"], set: allowedSet(version) }, ACCEPT],
  });
  const discoveryFrom = (source: string): NftRule => ({ statements: [{ kind: "match", field: "ip6 saddr", value: source }, neighbourDiscovery(), ACCEPT] });
  return [
    { statements: [{ kind: "lookup", fields: ["iifname"], negate: true, set: INTERFACES_SET }, ...DROP], comment: "unknown interface" },
    fromOwn(4),
    fromOwn(6),
    discoveryFrom("fe80::/10"),
    // Duplicate address detection asks from the unspecified address (RFC 4862).
    discoveryFrom("::"),
    { statements: DROP, comment: "source is not the pod's own" },
  ];
}

function neighbourDiscovery(): NftMatch {
  return { kind: "match-any", field: "icmpv6 type", values: NEIGHBOUR_DISCOVERY };
}

function dispatch(field: "iifname" | "oifname", map: string): readonly NftRule[] {
  return [{ statements: [{ kind: "vmap", fields: [field], map }] }, { statements: DROP, comment: "unknown interface" }];
}

function masqueradeRules(): readonly NftRule[] {
  const rule = (version: 4 | 6): NftRule => {
    const family = version === 4 ? "ip" : "ip6";
    return {
      statements: [
        { kind: "lookup", fields: [`${family} saddr`], set: natPoolsSet(version) },
        { kind: "lookup", fields: [`${family} daddr`], negate: true, set: poolsSet(version) },
        { kind: "masquerade" },
      ],
    };
  };
  return [rule(4), rule(6)];
}
