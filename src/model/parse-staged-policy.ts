/** Staged policies: the policy that would be enforced, and what its author means to do with it. They are shown and compared, never enforced. */
import type { Parsed } from "./event.ts";
import { type Field, type ParseOptions, parseFields } from "./field.ts";
import type { NamespaceName } from "./names.ts";
import { readGlobalPolicy, readNamespacedPolicy } from "./parse-calico-policy.ts";
import { readNetworkPolicy } from "./parse-network-policy.ts";
import type { StagedPolicy } from "./resource.ts";

export function parseStagedGlobalNetworkPolicy(object: unknown, options: ParseOptions = {}): Parsed<StagedPolicy> {
  return parseFields(object, options, (root) => {
    const { value } = readGlobalPolicy(root, ["stagedAction"]);
    return staged("StagedGlobalNetworkPolicy", root, value);
  });
}

export function parseStagedNetworkPolicy(object: unknown, options: ParseOptions = {}): Parsed<StagedPolicy> {
  return parseFields(object, options, (root) => {
    const { value } = readNamespacedPolicy(root, ["stagedAction"]);
    return staged("StagedNetworkPolicy", root, value);
  });
}

export function parseStagedKubernetesNetworkPolicy(object: unknown, options: ParseOptions = {}): Parsed<StagedPolicy> {
  return parseFields(object, options, (root) => staged("StagedKubernetesNetworkPolicy", root, readNetworkPolicy(root, ["stagedAction"])));
}

function staged(kind: StagedPolicy["kind"], root: Field, policy: StagedPolicy["policy"]): StagedPolicy {
  const stagedAction =
    root
      .child("spec")
      .child("stagedAction")
      .oneOf(["Set", "Delete", "Learn", "Ignore"] as const) ?? "Set";
  const namespace = "namespace" in policy ? policy.namespace : ("" as NamespaceName);
  return { kind, namespace, name: policy.name, resourceVersion: policy.resourceVersion, stagedAction, policy };
}
