/**
 * projectcalico.org/v3 GlobalNetworkPolicy, NetworkPolicy and Profile, with Calico's defaults.
 *
 * An object with problems is not lost: what could not be read in its rules is kept as broken rules (see parse-calico-rule.ts), and where its subject, its
 * place or its directions could not be read it is a stand-in for all that it may have meant (see resource.ts).
 */
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseClosed } from "./field.ts";
import { dnsLabelProblem, dnsSubdomainProblem } from "./name-syntax.ts";
import { denyActionOf, readCalicoRules, readSelectorText } from "./parse-calico-rule.ts";
import { type Metadata, OBJECT_META, readCheckedLabels, readMetadata, readNamespace, reportIf } from "./parse-metadata.ts";
import type { CalicoNetworkPolicy, CalicoPolicyFields, GlobalNetworkPolicy, Profile } from "./resource.ts";

export const TOP_LEVEL: readonly string[] = ["apiVersion", "kind", "metadata", "spec", "status"];
export const DEFAULT_TIER = "default";

const POLICY = "tier order ingress egress selector types serviceAccountSelector performanceHints".split(" ");
const GLOBAL_POLICY = [...POLICY, "doNotTrack", "preDNAT", "applyOnForward", "namespaceSelector"];
const HINTS = ["AssumeNeededOnEveryNode"] as const;

export function parseGlobalNetworkPolicy(object: unknown, options: ParseOptions = {}): Parsed<GlobalNetworkPolicy> {
  return parseClosed(object, options, (root) => readGlobalPolicy(root, []));
}

export function parseCalicoNetworkPolicy(object: unknown, options: ParseOptions = {}): Parsed<CalicoNetworkPolicy> {
  return parseClosed(object, options, (root) => readNamespacedPolicy(root, []));
}

export interface ReadPolicy<T> {
  readonly value: T;
  /** It can be told from others. */
  readonly isUsable: boolean;
}

/** `more`: fields of spec that a staged form has besides. */
export function readGlobalPolicy(root: Field, more: readonly string[]): ReadPolicy<GlobalNetworkPolicy> {
  const spec = root.child("spec");
  const metadata = readPolicyMetadata(root, spec, [...GLOBAL_POLICY, ...more]);
  const before = root.problemCount;
  const namespaceSelector = readSelectorText(spec.child("namespaceSelector"));
  const applyOnForward = spec.child("applyOnForward");
  const flags = {
    doNotTrack: spec.child("doNotTrack").boolean() ?? false,
    preDNAT: spec.child("preDNAT").boolean() ?? false,
    applyOnForward: applyOnForward.boolean() ?? !applyOnForward.isAbsent,
  };
  const fields = readFields(spec, metadata, before);
  if (flags.preDNAT && flags.doNotTrack) spec.child("preDNAT").problem("cannot be used together with doNotTrack");
  if (flags.preDNAT && fields.egress.length > 0) spec.child("egress").problem("a policy with preDNAT has ingress rules only");
  if (flags.preDNAT && fields.types.includes("Egress")) spec.child("types").problem("a policy with preDNAT applies to Ingress only");
  for (const name of ["doNotTrack", "preDNAT"] as const)
    if (flags[name] && !flags.applyOnForward) spec.child("applyOnForward").problem(`must be true with ${name}`);
  return {
    value: { kind: "GlobalNetworkPolicy", ...fields, namespaceSelector, ...flags },
    isUsable: metadata.name !== "",
  };
}

export function readNamespacedPolicy(root: Field, more: readonly string[]): ReadPolicy<CalicoNetworkPolicy> {
  const spec = root.child("spec");
  const metadata = readPolicyMetadata(root, spec, [...POLICY, ...more]);
  const namespace = readNamespace(root);
  const fields = readFields(spec, metadata, root.problemCount);
  return { value: { kind: "CalicoNetworkPolicy", namespace, ...fields }, isUsable: metadata.name !== "" && namespace !== "" };
}

function readPolicyMetadata(root: Field, spec: Field, known: readonly string[]): Metadata {
  root.object(TOP_LEVEL);
  root.child("metadata").object(OBJECT_META);
  spec.object(known);
  const metadata = readMetadata(root);
  if (metadata.name !== "") reportIf(root.child("metadata").child("name"), dnsSubdomainProblem(metadata.name));
  return metadata;
}

/** `before`: problems that have nothing to do with whom it is for. */
function readFields(spec: Field, metadata: Metadata, before: number): CalicoPolicyFields {
  const tier = spec.child("tier").string() || DEFAULT_TIER;
  const head = {
    name: metadata.name,
    resourceVersion: metadata.resourceVersion,
    tier,
    order: readOrder(spec.child("order")),
    selector: readSelectorText(spec.child("selector")),
    serviceAccountSelector: readSelectorText(spec.child("serviceAccountSelector")),
  };
  if (tierNameProblem(tier) !== undefined) reportIf(spec.child("tier"), tierNameProblem(tier));
  const isOrderKnown = head.order !== undefined || spec.child("order").isAbsent;
  const untyped = spec.problemCount;
  const types = spec.isMisshapen ? BOTH : readTypes(spec);
  const areTypesKnown = spec.problemCount === untyped;
  const isStandIn = spec.problemCount > before || spec.isMisshapen;
  const rejects = denyActionOf(spec, metadata.annotations, false);
  const hints = spec
    .child("performanceHints")
    .items()
    .map((hint) => hint.oneOf(HINTS));
  const ingress = readCalicoRules(spec.child("ingress"), "ingress", { rejects });
  const egress = readCalicoRules(spec.child("egress"), "egress", { rejects });
  const isNeededEverywhere = hints.includes("AssumeNeededOnEveryNode");
  const value = { ...head, types, ingress, egress, ...(isNeededEverywhere ? { isNeededEverywhere } : {}) };
  if (!isStandIn) return value;
  // Before all others of its tier, as any of them could allow what it was meant to deny.
  const order = isOrderKnown ? head.order : Number.NEGATIVE_INFINITY;
  return { ...value, order, types: areTypesKnown ? types : BOTH, isStandIn };
}

const BOTH = ["Ingress", "Egress"] as const;

/** A number; absent for last. */
export function readOrder(field: Field): number | undefined {
  if (field.isAbsent) return undefined;
  if (typeof field.value === "number" && Number.isFinite(field.value)) return field.value;
  field.problem(`must be a number, not ${JSON.stringify(field.value)}`);
  return undefined;
}

/** Name of a tier: a DNS label. */
export function tierNameProblem(name: string): string | undefined {
  return dnsLabelProblem(name);
}

/** None written: what there are rules for, and Ingress when there are none. */
function readTypes(spec: Field): readonly ("Ingress" | "Egress")[] {
  const field = spec.child("types");
  const items = field.items();
  const types = items.flatMap((item) => {
    if (item.isAbsent) item.problem("must be Ingress or Egress");
    return item.oneOf(["Ingress", "Egress"] as const) ?? [];
  });
  if (new Set(types).size < types.length) field.problem("must not have an entry twice");
  if (items.length > 0) return [...new Set(types)];
  const hasEgress = isNonEmptyList(spec.child("egress").value);
  if (!hasEgress) return ["Ingress"];
  return isNonEmptyList(spec.child("ingress").value) ? ["Ingress", "Egress"] : ["Egress"];
}

function isNonEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0;
}

export function parseProfile(object: unknown, options: ParseOptions = {}): Parsed<Profile> {
  return parseClosed(object, options, (root) => {
    const spec = root.child("spec");
    const metadata = readPolicyMetadata(root, spec, ["ingress", "egress", "labelsToApply"]);
    const rejects = denyActionOf(spec, metadata.annotations, false);
    const value: Profile = {
      kind: "Profile",
      name: metadata.name,
      resourceVersion: metadata.resourceVersion,
      labelsToApply: readCheckedLabels(spec.child("labelsToApply")),
      ingress: readCalicoRules(spec.child("ingress"), "ingress", { rejects }),
      egress: readCalicoRules(spec.child("egress"), "egress", { rejects }),
    };
    return { value, isUsable: metadata.name !== "" };
  });
}
