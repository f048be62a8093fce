/** v1 Namespace. Each one carries its name as a label, which the API server sees to; manifests may leave it out. */
import type { Parsed } from "./event.ts";
import { type ParseOptions, parseFields } from "./field.ts";
import { dnsLabelProblem } from "./name-syntax.ts";
import type { NamespaceName } from "./names.ts";
import { readAddressing, readMetadata, reportIf } from "./parse-metadata.ts";
import type { Namespace } from "./resource.ts";

/** Label of a namespace whose value is its name. */
export const NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name";

/** Annotation of a namespace: "true" to log what policies deny to and from its pods. */
export const LOG_DENIED_ANNOTATION = "sedge.network/log-denied";

export function parseNamespace(object: unknown, options: ParseOptions = {}): Parsed<Namespace> {
  return parseFields(object, options, (root) => {
    const metadata = readMetadata(root);
    if (metadata.name !== "") reportIf(root.child("metadata").child("name"), dnsLabelProblem(metadata.name));
    return {
      kind: "Namespace",
      name: metadata.name as NamespaceName,
      resourceVersion: metadata.resourceVersion,
      labels: { ...metadata.labels, [NAMESPACE_NAME_LABEL]: metadata.name },
      ...(metadata.annotations[LOG_DENIED_ANNOTATION] === "true" ? { logsDenied: true } : {}),
      ...readAddressing(metadata.annotations),
    };
  });
}
