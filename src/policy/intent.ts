/**
 * A policy of any API after conversion: one form, with selectors still to be resolved to sets of addresses. Compute takes it from here.
 */

import type { PortRange, RuleAction } from "../model/record.ts";
import type { Cidr } from "../net/cidr.ts";
import type { Selector } from "../selector/selector.ts";

export interface PolicyIntent {
  /** "KubernetesNetworkPolicy", … */
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
}

export interface IntentRule {
  readonly action: RuleAction;
  /** IP protocol number; 0 is any. */
  readonly protocol: number;
  readonly source: IntentSide;
  readonly destination: IntentSide;
  /** Index of the rule as written in spec.ingress or spec.egress. */
  readonly origin: number;
}

/** Everything stated must hold. */
export interface IntentSide {
  readonly nets: readonly Cidr[];
  readonly notNets: readonly Cidr[];
  /** The address is one of an endpoint's that matches. */
  readonly selector: Selector | undefined;
  readonly notSelector: Selector | undefined;
  /** The port is in a range, or is a named port (with the rule's protocol) of an endpoint that matches `selector` (any endpoint without one). */
  readonly ports: readonly PortRange[];
  readonly namedPorts: readonly string[];
}
