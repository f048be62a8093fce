/**
 * Cluster objects as compute needs them: typed, checked, trimmed to what matters here.
 *
 * Everything is parsed once, at the boundary (`parse-*.ts` in this folder; the datastore calls them). An object that cannot be understood becomes an
 * `invalid` event, never a deletion. Fields that no decision reads are left out, so that a change of them is no event.
 */
import type { Cidr } from "../net/cidr.ts";
import type { IpAddress } from "../net/ip.ts";
import type { NamespaceName, NodeName, PodKey } from "./names.ts";

export type Labels = Readonly<Record<string, string>>;

/** Kubernetes' opaque version string: compare for equality only. */
export type ResourceVersion = string;

/** v1 Node. */
export interface Node {
  readonly kind: "Node";
  readonly name: NodeName;
  readonly resourceVersion: ResourceVersion;
  readonly labels: Labels;
  /** InternalIP addresses of status.addresses (or the annotations projectcalico.org/IPv4Address and IPv6Address, which win), at most one a family, IPv4 first. */
  readonly addresses: readonly IpAddress[];
}

/** v1 Namespace. */
export interface Namespace {
  readonly kind: "Namespace";
  readonly name: NamespaceName;
  readonly resourceVersion: ResourceVersion;
  readonly labels: Labels;
}

export type PortProtocol = "TCP" | "UDP" | "SCTP";

/** A named container port (init containers that restart always included). */
export interface NamedPort {
  readonly name: string;
  readonly protocol: PortProtocol;
  readonly port: number;
}

/** v1 Pod. */
export interface Pod {
  readonly kind: "Pod";
  readonly namespace: NamespaceName;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: ResourceVersion;
  readonly labels: Labels;
  /** spec.nodeName; undefined until scheduled. */
  readonly node: NodeName | undefined;
  readonly serviceAccount: string;
  readonly hostNetwork: boolean;
  /** status.phase is Succeeded or Failed: its addresses are no longer its own. */
  readonly isTerminated: boolean;
  /** status.podIPs. */
  readonly addresses: readonly IpAddress[];
  readonly namedPorts: readonly NamedPort[];
}

/** networking.k8s.io/v1 NetworkPolicy, as written (defaults of the API filled in). */
export interface NetworkPolicy {
  readonly kind: "NetworkPolicy";
  readonly namespace: NamespaceName;
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly podSelector: LabelSelector;
  readonly policyTypes: readonly ("Ingress" | "Egress")[];
  readonly ingress: readonly NetworkPolicyRule[];
  readonly egress: readonly NetworkPolicyRule[];
}

/** One entry of spec.ingress or spec.egress. An empty list of peers (or of ports) is any peer (or any port of any protocol). */
export interface NetworkPolicyRule {
  readonly peers: readonly NetworkPolicyPeer[];
  readonly ports: readonly NetworkPolicyPort[];
}

export type NetworkPolicyPeer =
  | { readonly kind: "pods"; readonly podSelector: LabelSelector | undefined; readonly namespaceSelector: LabelSelector | undefined }
  | { readonly kind: "ipBlock"; readonly cidr: Cidr; readonly except: readonly Cidr[] };

export interface NetworkPolicyPort {
  readonly protocol: PortProtocol;
  /** undefined: every port of the protocol. A string is the name of a container port. */
  readonly port: number | string | undefined;
  /** With a numeric port: the last port of the range. */
  readonly endPort: number | undefined;
}

/** meta/v1 LabelSelector: all of it must hold. */
export interface LabelSelector {
  readonly matchLabels: Labels;
  readonly matchExpressions: readonly LabelRequirement[];
}

export interface LabelRequirement {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  readonly values: readonly string[];
}

/** projectcalico.org/v3 IPPool. */
export interface IpPool {
  readonly kind: "IPPool";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly cidr: Cidr;
  readonly blockSize: number;
  readonly natOutgoing: boolean;
  readonly disabled: boolean;
  /** Selector text over node labels (Calico's language); "all()" when not set. */
  readonly nodeSelector: string;
}

/** projectcalico.org/v3 IPAMBlock: one block of addresses and who has them. */
export interface IpamBlock {
  readonly kind: "IPAMBlock";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly cidr: Cidr;
  /** Node of spec.affinity "host:<node>"; undefined when the block belongs to no node. */
  readonly node: NodeName | undefined;
  /** Addresses in use, by ordinal. */
  readonly allocations: readonly BlockAllocation[];
  readonly isDeleted: boolean;
}

export interface BlockAllocation {
  readonly address: IpAddress;
  readonly handle: string;
  /** From the attributes `namespace` and `pod`; undefined for an address that is not a pod's. */
  readonly pod: PodKey | undefined;
  /** From the attribute `node`. */
  readonly node: NodeName | undefined;
}

/** projectcalico.org/v3 BlockAffinity. */
export interface BlockAffinity {
  readonly kind: "BlockAffinity";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly node: NodeName;
  readonly cidr: Cidr;
  readonly state: "pending" | "confirmed" | "pendingDeletion";
  readonly isDeleted: boolean;
}

export type Resource = Node | Namespace | Pod | NetworkPolicy | IpPool | IpamBlock | BlockAffinity;
export type ResourceKind = Resource["kind"];

/** Every kind that the source lists and watches. */
export const RESOURCE_KINDS = ["Node", "Namespace", "Pod", "NetworkPolicy", "IPPool", "IPAMBlock", "BlockAffinity"] as const satisfies readonly ResourceKind[];

/** Names one object; `namespace` is "" for cluster-wide kinds. */
export interface ResourceKey {
  readonly kind: ResourceKind;
  readonly namespace: string;
  readonly name: string;
}

export function keyOf(resource: Resource): ResourceKey {
  return { kind: resource.kind, namespace: "namespace" in resource ? resource.namespace : "", name: resource.name };
}

/** "NetworkPolicy shop/allow-web", for people. */
export function describeKey(key: ResourceKey): string {
  return `${key.kind} ${key.namespace === "" ? "" : `${key.namespace}/`}${key.name}`;
}
