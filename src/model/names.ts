/** Names of cluster objects. Branded, so that a node's name is not passed where a pod's is wanted; only parsers and tests cast. */
import type { Brand } from "../net/ip.ts";

export type { Brand } from "../net/ip.ts";

/** metadata.name of a Node. */
export type NodeName = Brand<string, "NodeName">;
/** metadata.name of a Namespace. */
export type NamespaceName = Brand<string, "NamespaceName">;
/** "<namespace>/<pod>". */
export type PodKey = Brand<string, "PodKey">;

export function podKey(namespace: string, pod: string): PodKey {
  return `${namespace}/${pod}` as PodKey;
}
