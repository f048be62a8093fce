/** The kinds that are policies, the words by which people call them, and which of them have a status to write. */
import { describeKind, type ResourceKind } from "./resource.ts";

export interface PolicyKind {
  readonly isNamespaced: boolean;
  /** Never enforced: shown and compared. */
  readonly isStaged: boolean;
  /** The API has `status.conditions` for it. networking.k8s.io/v1 NetworkPolicy has none any more: KEP-2943 was withdrawn. */
  readonly hasStatus: boolean;
  /** Lower case; kubectl's short names among them. */
  readonly words: readonly string[];
}

const enforced = { isStaged: false, hasStatus: true } as const;
const staged = { isStaged: true, hasStatus: true } as const;

export const POLICY_KINDS = {
  NetworkPolicy: {
    isNamespaced: true,
    isStaged: false,
    hasStatus: false,
    words: ["policy", "networkpolicy", "networkpolicies", "netpol", "networkpolicy.networking.k8s.io", "networkpolicies.networking.k8s.io"],
  },
  CalicoNetworkPolicy: {
    ...enforced,
    isNamespaced: true,
    words: ["networkpolicy.projectcalico.org", "networkpolicies.projectcalico.org", "caliconp", "caliconetworkpolicy", "caliconetworkpolicies"],
  },
  GlobalNetworkPolicy: { ...enforced, isNamespaced: false, words: ["globalnetworkpolicy", "globalnetworkpolicies", "gnp", "cgnp"] },
  ClusterNetworkPolicy: { ...enforced, isNamespaced: false, words: ["clusternetworkpolicy", "clusternetworkpolicies", "cnp"] },
  Profile: { isNamespaced: false, isStaged: false, hasStatus: false, words: ["profile", "profiles"] },
  StagedGlobalNetworkPolicy: { ...staged, isNamespaced: false, words: ["stagedglobalnetworkpolicy", "stagedglobalnetworkpolicies", "sgnp"] },
  StagedNetworkPolicy: { ...staged, isNamespaced: true, words: ["stagednetworkpolicy", "stagednetworkpolicies", "snp"] },
  StagedKubernetesNetworkPolicy: { ...staged, isNamespaced: true, words: ["stagedkubernetesnetworkpolicy", "stagedkubernetesnetworkpolicies", "skp", "sknp"] },
} as const satisfies Partial<Record<ResourceKind, PolicyKind>>;

export type PolicyKindName = keyof typeof POLICY_KINDS;

export const POLICY_KIND_NAMES = Object.keys(POLICY_KINDS) as readonly PolicyKindName[];

/** Kinds that have a status to write. */
export const STATUS_KINDS: ReadonlySet<ResourceKind> = new Set(POLICY_KIND_NAMES.filter((kind) => POLICY_KINDS[kind].hasStatus));

export function isPolicyKindName(kind: string): kind is PolicyKindName {
  return Object.hasOwn(POLICY_KINDS, kind);
}

/** By any word that people have for it, in any case; undefined: none is called so. */
export function policyKindOfWord(word: string): PolicyKindName | undefined {
  const lower = word.toLowerCase();
  return POLICY_KIND_NAMES.find((kind) => (POLICY_KINDS[kind].words as readonly string[]).includes(lower) || describeKind(kind).toLowerCase() === lower);
}
