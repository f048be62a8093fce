/** projectcalico.org/v3 GlobalNetworkSet and NetworkSet: prefixes under labels. Of one with prefixes that cannot be read, the others are in force. */
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseClosed } from "./field.ts";
import { TOP_LEVEL } from "./parse-calico-policy.ts";
import { readNets } from "./parse-calico-rule.ts";
import { OBJECT_META, readMetadata, readNamespace } from "./parse-metadata.ts";
import type { GlobalNetworkSet, NetworkSet } from "./resource.ts";

export function parseGlobalNetworkSet(object: unknown, options: ParseOptions = {}): Parsed<GlobalNetworkSet> {
  return parseClosed(object, options, (root) => {
    const set = readSet(root);
    return { value: { kind: "GlobalNetworkSet", ...set }, isUsable: set.name !== "" };
  });
}

export function parseNetworkSet(object: unknown, options: ParseOptions = {}): Parsed<NetworkSet> {
  return parseClosed(object, options, (root) => {
    const namespace = readNamespace(root);
    const set = readSet(root);
    return { value: { kind: "NetworkSet", namespace, ...set }, isUsable: set.name !== "" && namespace !== "" };
  });
}

function readSet(root: Field): Omit<GlobalNetworkSet, "kind"> {
  root.object(TOP_LEVEL);
  root.child("metadata").object(OBJECT_META);
  const { name, resourceVersion, labels } = readMetadata(root);
  const nets = readNets(root.child("spec").object(["nets"]).child("nets"), Number.POSITIVE_INFINITY);
  return { name, resourceVersion, labels, nets };
}
