/** GlobalNetworkPolicy and NetworkPolicy of projectcalico.org/v3, and their staged forms. */
import { PROGRAMMED_COLUMN } from "./conditions.ts";
import type { Definition } from "./definition.ts";
import { rules } from "./rule.ts";
import { column, rule, type Schema } from "./schema.ts";
import { GLOBAL_ALONE, selector } from "./selector.ts";

export const policyTypes: Schema = {
  description: "Directions that the policy applies to; when none is written, those that it has rules for, and Ingress when it has none.",
  type: "array",
  maxItems: 2,
  items: { type: "string", enum: ["Ingress", "Egress"] },
  "x-kubernetes-list-type": "set",
};

export const stagedAction: Schema = {
  description: "What is meant to become of the enforced policy: Set, Delete, or Ignore this one; Learn: it was proposed by a tool.",
  type: "string",
  enum: ["Set", "Delete", "Learn", "Ignore"],
  default: "Set",
};

export const STAGED_ACTION_COLUMN = column("Action", "string", ".spec.stagedAction");
export const TIER_COLUMN = column("Tier", "string", ".spec.tier");
export const ORDER_COLUMN = column("Order", "number", ".spec.order");
const SELECTOR_COLUMN = column("Selector", "string", ".spec.selector", 1);
const COLUMNS = [TIER_COLUMN, ORDER_COLUMN, SELECTOR_COLUMN];
const ENFORCED_COLUMNS = [TIER_COLUMN, ORDER_COLUMN, PROGRAMMED_COLUMN, SELECTOR_COLUMN];

const policyProperties: Schema = {
  tier: { description: "Tier that the policy is in.", type: "string", default: "default", maxLength: 63, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" },
  order: { description: "Place in the tier, ascending; policies without are last.", type: "number" },
  selector: selector("Endpoints that the policy applies to; empty for all."),
  serviceAccountSelector: selector("Only pods of service accounts with labels like this."),
  types: policyTypes,
  ingress: rules("ingress"),
  egress: rules("egress"),
  performanceHints: {
    description: "AssumeNeededOnEveryNode: every node has the policy and its sets before an endpoint there needs them.",
    type: "array",
    maxItems: 1,
    items: { type: "string", enum: ["AssumeNeededOnEveryNode"] },
    "x-kubernetes-list-type": "set",
  },
};

const globalProperties: Schema = {
  ...policyProperties,
  namespaceSelector: selector("Only pods in namespaces with labels like this; global() for host endpoints.", [GLOBAL_ALONE]),
  doNotTrack: { description: "Before connection tracking; for host endpoints.", type: "boolean" },
  preDNAT: { description: "Before destination NAT; for host endpoints.", type: "boolean" },
  applyOnForward: { description: "On host endpoints also for what the host forwards.", type: "boolean" },
};

const globalRules = [
  rule("!(has(self.preDNAT) && self.preDNAT && has(self.doNotTrack) && self.doNotTrack)", "preDNAT and doNotTrack cannot both be true"),
  rule("!(has(self.preDNAT) && self.preDNAT) || !has(self.egress) || size(self.egress) == 0", "a policy with preDNAT has ingress rules only"),
  rule("!(has(self.preDNAT) && self.preDNAT) || !has(self.types) || !('Egress' in self.types)", "a policy with preDNAT applies to Ingress only"),
  rule(
    "!((has(self.preDNAT) && self.preDNAT) || (has(self.doNotTrack) && self.doNotTrack)) || (has(self.applyOnForward) && self.applyOnForward)",
    "applyOnForward must be true with preDNAT or doNotTrack",
  ),
];

export const CALICO_POLICIES: readonly Definition[] = [
  {
    kind: "GlobalNetworkPolicy",
    plural: "globalnetworkpolicies",
    shortNames: ["gnp", "cgnp", "calicoglobalnetworkpolicies"],
    description: "Rules for endpoints of the whole cluster, and for hosts.",
    hasStatus: true,
    columns: ENFORCED_COLUMNS,
    isSpecOptional: true,
    spec: { type: "object", properties: globalProperties, "x-kubernetes-validations": globalRules },
  },
  {
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    shortNames: ["caliconp", "caliconetworkpolicy", "caliconetworkpolicies"],
    isNamespaced: true,
    description: "Rules for endpoints of its namespace, with tiers, orders and actions.",
    hasStatus: true,
    columns: ENFORCED_COLUMNS,
    isSpecOptional: true,
    spec: { type: "object", properties: policyProperties },
  },
  {
    kind: "StagedGlobalNetworkPolicy",
    plural: "stagedglobalnetworkpolicies",
    shortNames: ["sgnp"],
    description: "A GlobalNetworkPolicy that is shown and compared, not enforced.",
    hasStatus: true,
    columns: [STAGED_ACTION_COLUMN, ...COLUMNS],
    isSpecOptional: true,
    spec: { type: "object", properties: { stagedAction, ...globalProperties }, "x-kubernetes-validations": globalRules },
  },
  {
    kind: "StagedNetworkPolicy",
    plural: "stagednetworkpolicies",
    shortNames: ["snp"],
    isNamespaced: true,
    description: "A NetworkPolicy that is shown and compared, not enforced.",
    hasStatus: true,
    columns: [STAGED_ACTION_COLUMN, ...COLUMNS],
    isSpecOptional: true,
    spec: { type: "object", properties: { stagedAction, ...policyProperties } },
  },
];
