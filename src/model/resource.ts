/**
 * Cluster objects as compute needs them: typed, checked, trimmed to what matters here.
 *
 * Everything is parsed once, at the boundary (`parse-*.ts` in this folder; the datastore calls them). An object that cannot be understood becomes an
 * `invalid` event, never a deletion. Fields that no decision reads are left out, so that a change of them is no event.
 * Above 500 lines, of types alone: every kind is a member of the one union `Resource`, and they share the types of labels, rules and keys.
 */
import type { Cidr } from "../net/cidr.ts";
import type { IpAddress } from "../net/ip.ts";
import type { NamespaceName, NodeName, PodKey } from "./names.ts";
import type { StatedSettings } from "./stated-settings.ts";

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
  /** Log what policies deny to and from its pods, whatever API the policies are of. Absent: false. */
  readonly logsDenied?: true;
  /** As of a pod, for pods that do not say it themselves. */
  readonly addressing?: Labels;
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
  /** Annotations cni.projectcalico.org/… without that prefix, of those that say which addresses a pod wants; absent: none. */
  readonly addressing?: Labels;
  /** Annotations that limit its traffic (LIMIT_ANNOTATIONS), with their keys; absent: none. */
  readonly trafficAnnotations?: Labels;
  /** Annotation cni.projectcalico.org/floatingIPs, and metadata.creationTimestamp: of two pods with one address the older has it. Absent: none. */
  readonly floating?: { readonly text: string; readonly createdAt: string };
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
  /** Selector text over namespace labels; absent: all namespaces. */
  readonly namespaceSelector?: string;
  /** Only for pods that ask for it. It reads as disabled then. */
  readonly isManual?: true;
  /** metadata.creationTimestamp: of two pools that overlap the older one is used. */
  readonly createdAt?: string;
  /** It is being deleted and goes when its last address is free. It reads as disabled. */
  readonly isDeleting?: true;
}

/** projectcalico.org/v3 FelixConfiguration: what of it has a meaning here. */
export interface FelixConfiguration {
  readonly kind: "FelixConfiguration";
  /** "default": of all nodes; "node.NAME": of that one, before any other. */
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  /** Of several with a selector that match, the oldest holds. */
  readonly createdAt: string;
  /** Of nodes, for objects of other names; "" when there is none. */
  readonly nodeSelector: string;
  readonly settings: StatedSettings;
  /** Of `default`; undefined: not said. */
  readonly floatingIps: boolean | undefined;
  /** Fields that are set and have no meaning here, sorted. */
  readonly unused: readonly string[];
}

/** projectcalico.org/v3 IPReservation: addresses that are given to nobody who does not ask for them. */
export interface IpReservation {
  readonly kind: "IPReservation";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly reservedCidrs: readonly Cidr[];
}

/** projectcalico.org/v3 IPAMConfiguration, of which "default" counts. */
export interface IpamConfiguration {
  readonly kind: "IPAMConfiguration";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  /** No address of another node's block is given. */
  readonly strictAffinity: boolean;
  /** Blocks that a node may have of one family. */
  readonly maxBlocksPerHost: number;
  /** False: nodes keep to the blocks that they have. */
  readonly autoAllocateBlocks: boolean;
  /** undefined: the agents' own setting. */
  readonly ipCooldownSeconds: number | undefined;
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
  /** Names the node's present holding of the block, from annotation sedge.network/claim: another holding, or another life of the node, has another. */
  readonly claim?: string;
}

export interface BlockAllocation {
  readonly address: IpAddress;
  readonly handle: string;
  /** From the attributes `namespace` and `pod`; undefined for an address that is not a pod's. */
  readonly pod: PodKey | undefined;
  /** From the attribute `node`. */
  readonly node: NodeName | undefined;
  readonly loan?: BlockLoan;
}

/** `node` of the allocation has the address out of another's block, or asks for it. From attributes sedge.network/loan, …/loan-claim, …/loan-state. */
export interface BlockLoan {
  /** The same from the question to the end. */
  readonly id: string;
  /** Names the present life of the borrower. */
  readonly claim: string;
  /** False: the block's node has not given it away yet, and can give it to a pod of its own. */
  readonly isAgreed: boolean;
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

/** v1 ServiceAccount, for the labels that its pods inherit. */
export interface ServiceAccount {
  readonly kind: "ServiceAccount";
  readonly namespace: NamespaceName;
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly labels: Labels;
}

/** discovery.k8s.io/v1 EndpointSlice of a Service. */
export interface EndpointSlice {
  readonly kind: "EndpointSlice";
  readonly namespace: NamespaceName;
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  /** Of the label kubernetes.io/service-name; "" for a slice of nothing known here. */
  readonly service: string;
  /** Of the endpoints that are ready. */
  readonly addresses: readonly IpAddress[];
  readonly ports: readonly EndpointPort[];
  /** All of them, in the slice's order. */
  readonly endpoints: readonly ServiceEndpoint[];
}

/** One endpoint. The conditions are as their meaning is: absent `ready` and `serving` count as true (KEP-1672). */
export interface ServiceEndpoint {
  readonly addresses: readonly IpAddress[];
  /** The pod, as "namespace/name"; "" when the slice does not say. */
  readonly target: string;
  readonly isReady: boolean;
  readonly isServing: boolean;
  readonly isTerminating: boolean;
  /** "" when not known. */
  readonly zone: string;
  /** Zones whose clients should use it (KEP-2433); empty: no hint. */
  readonly forZones: readonly string[];
}

export interface EndpointPort {
  readonly protocol: PortProtocol;
  readonly port: number;
}

/** projectcalico.org/v3 Tier. */
export interface Tier {
  readonly kind: "Tier";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  /** Ascending; undefined is last. */
  readonly order: number | undefined;
  readonly defaultAction: "Deny" | "Pass" | "Reject";
}

/** What projectcalico.org/v3 GlobalNetworkPolicy and NetworkPolicy have in common; selectors are texts of Calico's language, "" where none is stated. */
export interface CalicoPolicyFields {
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly tier: string;
  readonly order: number | undefined;
  readonly selector: string;
  readonly serviceAccountSelector: string;
  readonly types: readonly ("Ingress" | "Egress")[];
  readonly ingress: readonly CalicoRule[];
  readonly egress: readonly CalicoRule[];
  /** performanceHints has AssumeNeededOnEveryNode. */
  readonly isNeededEverywhere?: true;
  /**
   * To whom it applies, in which directions or at which place could not be read. What could not be read is as wide and as early as it may be; conversion
   * sees to it that nothing more gets through by its rules than if it was meant for the endpoint.
   */
  readonly isStandIn?: true;
}

export interface GlobalNetworkPolicy extends CalicoPolicyFields {
  readonly kind: "GlobalNetworkPolicy";
  readonly namespaceSelector: string;
  readonly doNotTrack: boolean;
  readonly preDNAT: boolean;
  readonly applyOnForward: boolean;
}

/** projectcalico.org/v3 NetworkPolicy; its API calls it NetworkPolicy too. */
export interface CalicoNetworkPolicy extends CalicoPolicyFields {
  readonly kind: "CalicoNetworkPolicy";
  readonly namespace: NamespaceName;
}

export interface CalicoRule {
  /** Reject: a Deny with the annotation sedge.network/deny-action: Reject. */
  readonly action: "Allow" | "Deny" | "Log" | "Pass" | "Reject";
  readonly ipVersion: 4 | 6 | undefined;
  /** IP protocol numbers. */
  readonly protocol: number | undefined;
  readonly notProtocol: number | undefined;
  readonly icmp: CalicoIcmp | undefined;
  readonly notIcmp: CalicoIcmp | undefined;
  readonly source: CalicoEntityRule;
  readonly destination: CalicoEntityRule;
  /** It has an http clause: only a layer 7 proxy could enforce it. */
  readonly hasHttp: boolean;
  /** From metadata.annotations; "" when it has no name. */
  readonly name: string;
  /** It could not be read; `action` says what it was to do. */
  readonly isBroken: boolean;
}

export interface CalicoIcmp {
  readonly type: number;
  readonly code: number | undefined;
}

export interface CalicoEntityRule {
  readonly nets: readonly Cidr[];
  readonly notNets: readonly Cidr[];
  readonly selector: string;
  readonly notSelector: string;
  readonly namespaceSelector: string;
  readonly services: { readonly name: string; readonly namespace: string } | undefined;
  readonly ports: readonly CalicoPort[];
  readonly notPorts: readonly CalicoPort[];
  readonly serviceAccounts: { readonly names: readonly string[]; readonly selector: string } | undefined;
}

/** A range, or the name of a port. */
export type CalicoPort = { readonly first: number; readonly last: number } | string;

/** projectcalico.org/v3 GlobalNetworkSet. */
export interface GlobalNetworkSet {
  readonly kind: "GlobalNetworkSet";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly labels: Labels;
  readonly nets: readonly Cidr[];
}

/** projectcalico.org/v3 NetworkSet: it has its namespace's labels as well. */
export interface NetworkSet {
  readonly kind: "NetworkSet";
  readonly namespace: NamespaceName;
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly labels: Labels;
  readonly nets: readonly Cidr[];
}

/** projectcalico.org/v3 HostEndpoint. */
export interface HostEndpoint {
  readonly kind: "HostEndpoint";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly labels: Labels;
  readonly node: NodeName;
  /** "*" for all, "" for the one with an address of `expectedIPs`. */
  readonly interfaceName: string;
  readonly expectedIPs: readonly IpAddress[];
  readonly profiles: readonly string[];
  readonly ports: readonly NamedPort[];
}

/** projectcalico.org/v3 Profile, for host endpoints; those of namespaces and service accounts follow from these objects themselves. */
export interface Profile {
  readonly kind: "Profile";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly labelsToApply: Labels;
  readonly ingress: readonly CalicoRule[];
  readonly egress: readonly CalicoRule[];
}

/** policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy. */
export interface ClusterNetworkPolicy {
  readonly kind: "ClusterNetworkPolicy";
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly tier: "Admin" | "Baseline";
  readonly priority: number;
  readonly subject: ClusterPods;
  readonly ingress: readonly ClusterPolicyRule[];
  readonly egress: readonly ClusterPolicyRule[];
  /** As with Calico's policies. */
  readonly isStandIn?: true;
}

/** Pods of namespaces; `podSelector` undefined: all of them. */
export interface ClusterPods {
  readonly namespaceSelector: LabelSelector;
  readonly podSelector: LabelSelector | undefined;
}

export interface ClusterPolicyRule {
  readonly name: string;
  readonly action: "Accept" | "Deny" | "Pass";
  readonly peers: readonly ClusterPolicyPeer[];
  /** Empty: any protocol and port. */
  readonly protocols: readonly ClusterPolicyProtocol[];
}

export type ClusterPolicyPeer =
  | ({ readonly kind: "pods" } & ClusterPods)
  | { readonly kind: "nodes"; readonly selector: LabelSelector }
  | { readonly kind: "networks"; readonly networks: readonly Cidr[] }
  /** Of a kind that is not enforced here (domainNames, or one of a later version): the rule fails closed. */
  | { readonly kind: "unknown"; readonly field: string };

export type ClusterPolicyProtocol =
  | { readonly kind: "ports"; readonly protocol: PortProtocol; readonly first: number; readonly last: number }
  /** A container port of the destination, whatever its protocol. */
  | { readonly kind: "named"; readonly name: string }
  | { readonly kind: "unknown"; readonly field: string };

/** A policy that is kept and shown and not enforced. */
export interface StagedPolicy {
  readonly kind: "StagedGlobalNetworkPolicy" | "StagedNetworkPolicy" | "StagedKubernetesNetworkPolicy";
  readonly namespace: NamespaceName;
  readonly name: string;
  readonly resourceVersion: ResourceVersion;
  readonly stagedAction: "Set" | "Delete" | "Learn" | "Ignore";
  /** What would be enforced. */
  readonly policy: GlobalNetworkPolicy | CalicoNetworkPolicy | NetworkPolicy;
}

/** Policies of every API that are enforced. */
export type AnyPolicy = NetworkPolicy | GlobalNetworkPolicy | CalicoNetworkPolicy | ClusterNetworkPolicy | Profile;

export type Resource =
  | Node
  | Namespace
  | Pod
  | NetworkPolicy
  | IpPool
  | IpReservation
  | IpamConfiguration
  | IpamBlock
  | BlockAffinity
  | ServiceAccount
  | EndpointSlice
  | Tier
  | GlobalNetworkPolicy
  | CalicoNetworkPolicy
  | ClusterNetworkPolicy
  | StagedPolicy
  | GlobalNetworkSet
  | NetworkSet
  | HostEndpoint
  | Profile
  | FelixConfiguration;
export type ResourceKind = Resource["kind"];

/** Every kind that the source lists and watches. */
export const RESOURCE_KINDS = [
  "Node",
  "Namespace",
  "Pod",
  "NetworkPolicy",
  "IPPool",
  "IPReservation",
  "IPAMConfiguration",
  "IPAMBlock",
  "BlockAffinity",
  "ServiceAccount",
  "EndpointSlice",
  "Tier",
  "GlobalNetworkPolicy",
  "CalicoNetworkPolicy",
  "ClusterNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
  "GlobalNetworkSet",
  "NetworkSet",
  "HostEndpoint",
  "Profile",
  "FelixConfiguration",
] as const satisfies readonly ResourceKind[];

/** Names one object; `namespace` is "" for cluster-wide kinds. */
export interface ResourceKey {
  readonly kind: ResourceKind;
  readonly namespace: string;
  readonly name: string;
}

export function keyOf(resource: Resource): ResourceKey {
  return { kind: resource.kind, namespace: "namespace" in resource ? resource.namespace : "", name: resource.name };
}

/** "NetworkPolicy shop/allow-web", for people. No two objects have the same. */
export function describeKey(key: ResourceKey): string {
  return `${describeKind(key.kind)} ${key.namespace === "" ? "" : `${key.namespace}/`}${key.name}`;
}

/** The kind as its users know it. Calico and Kubernetes both have a NetworkPolicy: Calico's is written with its group, as kubectl takes it. */
export function describeKind(kind: ResourceKind): string {
  return kind === "CalicoNetworkPolicy" ? "NetworkPolicy.projectcalico.org" : kind;
}
