/** metadata of any object, and its labels. */
import type { Field } from "./field.ts";
import { dnsLabelProblem, labelKeyProblem, labelValueProblem } from "./name-syntax.ts";
import type { NamespaceName } from "./names.ts";
import type { Labels, ResourceVersion } from "./resource.ts";
import { LIMIT_ANNOTATIONS } from "./traffic-limits.ts";

export interface Metadata {
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: ResourceVersion;
  readonly labels: Labels;
  readonly annotations: Labels;
  /** RFC 3339, as the server wrote it; "" for an object that no server has stored. */
  readonly createdAt: string;
  /** The object is being deleted, and waits for its finalizers. */
  readonly isDeleting: boolean;
}

/** Fields of metadata. */
export const OBJECT_META = (
  "name generateName namespace selfLink uid resourceVersion generation creationTimestamp deletionTimestamp " +
  "deletionGracePeriodSeconds labels annotations ownerReferences finalizers managedFields"
).split(" ");

export function readMetadata(root: Field): Metadata {
  const metadata = root.child("metadata");
  return {
    name: metadata.child("name").requiredString("the object's name"),
    uid: metadata.child("uid").string() ?? "",
    resourceVersion: metadata.child("resourceVersion").string() ?? "",
    labels: readLabels(metadata.child("labels")),
    annotations: readStrings(metadata.child("annotations")),
    createdAt: metadata.child("creationTimestamp").string() ?? "",
    isDeleting: !metadata.child("deletionTimestamp").isAbsent,
  };
}

const ADDRESSING_PREFIX = "cni.projectcalico.org/";
const ADDRESSING = ["ipAddrs", "ipv4pools", "ipv6pools", "ipFamilies", "hwAddr"];

/** The annotations that say which addresses a pod, or the pods of a namespace, want. They are understood where addresses are given. */
export function readAddressing(annotations: Labels): { readonly addressing?: Labels } {
  const entries = ADDRESSING.flatMap((name) => {
    const text = annotations[`${ADDRESSING_PREFIX}${name}`] ?? "";
    return text === "" ? [] : [[name, text] as const];
  });
  return entries.length === 0 ? {} : { addressing: Object.fromEntries(entries) };
}

/** The annotations that limit a pod's traffic, with their keys. They are understood in traffic-limits.ts. */
export function readLimitAnnotations(annotations: Labels): { readonly trafficAnnotations?: Labels } {
  const entries = LIMIT_ANNOTATIONS.flatMap((key) => {
    const text = annotations[key];
    return text === undefined ? [] : [[key, text] as const];
  });
  return entries.length === 0 ? {} : { trafficAnnotations: Object.fromEntries(entries) };
}

/** metadata.namespace of an object that lives in one. */
export function readNamespace(root: Field): NamespaceName {
  const field = root.child("metadata").child("namespace");
  const namespace = field.requiredString("the namespace that the object is in");
  if (namespace !== "") reportIf(field, dnsLabelProblem(namespace));
  return namespace as NamespaceName;
}

/** An object's labels. Their syntax is checked in strict reading only: the API server has checked it otherwise. */
export function readLabels(field: Field): Labels {
  const labels = readStrings(field);
  if (field.isStrict) checkLabels(field, labels);
  return labels;
}

/** matchLabels, or any other labels that must be well-formed. */
export function readCheckedLabels(field: Field): Labels {
  const labels = readStrings(field);
  checkLabels(field, labels);
  return labels;
}

export function reportIf(field: Field, problem: string | undefined): void {
  if (problem !== undefined) field.problem(problem);
}

function checkLabels(field: Field, labels: Labels): void {
  for (const [key, value] of Object.entries(labels)) {
    reportIf(field, labelKeyProblem(key));
    reportIf(field, labelValueProblem(value));
  }
}

/** In order of keys: the order in which a person wrote them means nothing. */
function readStrings(field: Field): Labels {
  const entries = field.entries().sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, value]) => [key, value.string() ?? ""]));
}
