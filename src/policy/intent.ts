/**
 * A policy of any API after conversion: one form, with selectors still to be resolved to sets of addresses. Compute takes it from here.
 */

import type { Problem } from "../model/event.ts";
import type { IcmpMatch, PortRange, RuleAction } from "../model/record.ts";
import type { Cidr } from "../net/cidr.ts";
import type { IpVersion } from "../net/ip.ts";
import type { Selector } from "../selector/selector.ts";

export interface PolicyIntent {
  /** "KubernetesNetworkPolicy" for networking.k8s.io/v1; the others have the name of their kind. */
  readonly policyKind: string;
  readonly namespace: string;
  readonly name: string;
  readonly tier: string;
  /** Ascending; undefined is last. Kubernetes policies are at 1000 in tier "default". */
  readonly order: number | undefined;
  /** Endpoints that it applies to. */
  readonly subject: Selector;
  /** undefined: it does not apply to that direction; []: it applies and allows nothing. */
  readonly ingress: readonly IntentRule[] | undefined;
  readonly egress: readonly IntentRule[] | undefined;
  /** Absent: "normal". */
  readonly stage?: PolicyStage;
  /** A normal policy that host endpoints use for what they forward, too. */
  readonly appliesOnForward?: true;
  /** The hint AssumeNeededOnEveryNode: for nodes without an endpoint that it applies to, too. */
  readonly isEverywhere?: true;
}

/** Where a packet meets the policy. Untracked and preDnat policies apply to host endpoints only; a profile comes after the last tier. */
export type PolicyStage = "normal" | "untracked" | "preDnat" | "profile";

export interface IntentRule {
  readonly action: RuleAction;
  /** IP protocol number; 0 is any. */
  readonly protocol: number;
  readonly source: IntentSide;
  readonly destination: IntentSide;
  /** Index of the rule as written in spec.ingress or spec.egress. */
  readonly origin: number;
  /** The rest as in records. */
  readonly ipVersion?: IpVersion;
  readonly notProtocol?: number;
  readonly icmp?: IcmpMatch;
  readonly notIcmp?: IcmpMatch;
  readonly name?: string;
}

/** Everything stated must hold. */
export interface IntentSide {
  readonly nets: readonly Cidr[];
  readonly notNets: readonly Cidr[];
  /** The address is one of an endpoint's that matches. */
  readonly selector: Selector | undefined;
  readonly notSelector: Selector | undefined;
  /** The port is in a range, or is a named port (with the rule's protocol, of any protocol with 0) of an endpoint that matches `selector` (any endpoint without one). */
  readonly ports: readonly PortRange[];
  readonly namedPorts: readonly string[];
  /** The selectors mean network sets and host endpoints too, not pods alone. */
  readonly includesSets?: true;
  /** Absent: none. */
  readonly notPorts?: readonly PortRange[];
  readonly notNamedPorts?: readonly string[];
  /** The address is one of a node's that matches; labels are those of the node. */
  readonly nodes?: Selector;
  /** The address is one of the Service's ready endpoints; with `hasPorts`, address, protocol and port are. */
  readonly service?: { readonly namespace: string; readonly name: string; readonly hasPorts: boolean };
}

/** A side that states nothing. */
export const ANY_SIDE: IntentSide = { nets: [], notNets: [], selector: undefined, notSelector: undefined, ports: [], namedPorts: [] };

/** What a policy became. With problems it is narrower than written: a rule that could not be converted lets nothing more through. */
export interface Converted {
  /** undefined: not even to whom it applies could be understood; it is in force nowhere. */
  readonly intent: PolicyIntent | undefined;
  readonly problems: readonly Problem[];
  /** false: the object says something that is no valid text of its language; what is in force is a stand-in. */
  readonly isUnderstood: boolean;
}
