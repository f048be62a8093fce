/**
 * Where each kind lives in the Kubernetes API: group, version, plural, and whether the server can send it as protobuf.
 *
 * Rejected: asking discovery. The kinds are a closed set that the parsers know; discovery would only add a way to fail at start.
 */
import type { ResourceKind } from "../model/resource.ts";

export interface ApiResource {
  readonly kind: string;
  /** "" for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly isNamespaced: boolean;
  /** Built-in kinds with a message here come as protobuf when asked; all others as JSON. */
  readonly hasProtobuf: boolean;
}

const builtIn = { isNamespaced: false, hasProtobuf: true } as const;
const calico = { group: "projectcalico.org", version: "v3", isNamespaced: false, hasProtobuf: false } as const;

export const API_RESOURCES: Readonly<Record<ResourceKind, ApiResource>> = {
  Node: { ...builtIn, kind: "Node", group: "", version: "v1", plural: "nodes" },
  Namespace: { ...builtIn, kind: "Namespace", group: "", version: "v1", plural: "namespaces" },
  Pod: { ...builtIn, kind: "Pod", group: "", version: "v1", plural: "pods", isNamespaced: true },
  NetworkPolicy: { ...builtIn, kind: "NetworkPolicy", group: "networking.k8s.io", version: "v1", plural: "networkpolicies", isNamespaced: true },
  IPPool: { ...calico, kind: "IPPool", plural: "ippools" },
  IPReservation: { ...calico, kind: "IPReservation", plural: "ipreservations" },
  IPAMConfiguration: { ...calico, kind: "IPAMConfiguration", plural: "ipamconfigurations" },
  IPAMBlock: { ...calico, kind: "IPAMBlock", plural: "ipamblocks" },
  BlockAffinity: { ...calico, kind: "BlockAffinity", plural: "blockaffinities" },
  ServiceAccount: { ...builtIn, kind: "ServiceAccount", group: "", version: "v1", plural: "serviceaccounts", isNamespaced: true, hasProtobuf: false },
  EndpointSlice: {
    ...builtIn,
    kind: "EndpointSlice",
    group: "discovery.k8s.io",
    version: "v1",
    plural: "endpointslices",
    isNamespaced: true,
    hasProtobuf: false,
  },
  Tier: { ...calico, kind: "Tier", plural: "tiers" },
  GlobalNetworkPolicy: { ...calico, kind: "GlobalNetworkPolicy", plural: "globalnetworkpolicies" },
  CalicoNetworkPolicy: { ...calico, kind: "NetworkPolicy", plural: "networkpolicies", isNamespaced: true },
  ClusterNetworkPolicy: { ...calico, kind: "ClusterNetworkPolicy", group: "policy.networking.k8s.io", version: "v1alpha2", plural: "clusternetworkpolicies" },
  StagedGlobalNetworkPolicy: { ...calico, kind: "StagedGlobalNetworkPolicy", plural: "stagedglobalnetworkpolicies" },
  StagedNetworkPolicy: { ...calico, kind: "StagedNetworkPolicy", plural: "stagednetworkpolicies", isNamespaced: true },
  StagedKubernetesNetworkPolicy: { ...calico, kind: "StagedKubernetesNetworkPolicy", plural: "stagedkubernetesnetworkpolicies", isNamespaced: true },
  GlobalNetworkSet: { ...calico, kind: "GlobalNetworkSet", plural: "globalnetworksets" },
  NetworkSet: { ...calico, kind: "NetworkSet", plural: "networksets", isNamespaced: true },
  HostEndpoint: { ...calico, kind: "HostEndpoint", plural: "hostendpoints" },
  Profile: { ...calico, kind: "Profile", plural: "profiles" },
  FelixConfiguration: { ...calico, kind: "FelixConfiguration", plural: "felixconfigurations" },
};

/** "v1", "projectcalico.org/v3". */
export function apiVersionOf(resource: ApiResource): string {
  return resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
}

/** Path of all objects of the kind, in one namespace when given. */
export function collectionPath(resource: ApiResource, namespace = ""): string {
  const root = resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const scope = resource.isNamespaced && namespace !== "" ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${root}${scope}/${resource.plural}`;
}

export function objectPath(resource: ApiResource, name: string, namespace = "", subresource = ""): string {
  const path = `${collectionPath(resource, namespace)}/${encodeURIComponent(name)}`;
  return subresource === "" ? path : `${path}/${subresource}`;
}
