/** Builders of typed objects of Calico's kinds and of what belongs to them: everything that a test does not state has its usual value. */
import type { NamespaceName, NodeName } from "../../src/model/names.ts";
import type {
  CalicoEntityRule,
  CalicoNetworkPolicy,
  CalicoRule,
  ClusterNetworkPolicy,
  EndpointSlice,
  GlobalNetworkPolicy,
  GlobalNetworkSet,
  HostEndpoint,
  Labels,
  NetworkSet,
  Profile,
  ServiceAccount,
  Tier,
} from "../../src/model/resource.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";

const NO_ENTITY: CalicoEntityRule = {
  nets: [],
  notNets: [],
  selector: "",
  notSelector: "",
  namespaceSelector: "",
  services: undefined,
  ports: [],
  notPorts: [],
  serviceAccounts: undefined,
};

type RuleOptions = Partial<Omit<CalicoRule, "source" | "destination">> & {
  readonly source?: Partial<CalicoEntityRule>;
  readonly destination?: Partial<CalicoEntityRule>;
};

export function calicoRule(action: CalicoRule["action"], { source, destination, ...rest }: RuleOptions = {}): CalicoRule {
  return {
    action,
    ipVersion: undefined,
    protocol: undefined,
    notProtocol: undefined,
    icmp: undefined,
    notIcmp: undefined,
    source: { ...NO_ENTITY, ...source },
    destination: { ...NO_ENTITY, ...destination },
    hasHttp: false,
    name: "",
    isBroken: false,
    ...rest,
  };
}

const POLICY = {
  resourceVersion: "1",
  tier: "default",
  order: undefined,
  selector: "",
  serviceAccountSelector: "",
  types: ["Ingress"],
  ingress: [],
  egress: [],
} as const;

export function globalPolicy(name: string, options: Partial<GlobalNetworkPolicy> = {}): GlobalNetworkPolicy {
  return { kind: "GlobalNetworkPolicy", ...POLICY, name, namespaceSelector: "", doNotTrack: false, preDNAT: false, applyOnForward: false, ...options };
}

export function calicoPolicy(name: string, options: Partial<CalicoNetworkPolicy> & { readonly in?: string } = {}): CalicoNetworkPolicy {
  const { in: where = "shop", ...rest } = options;
  return { kind: "CalicoNetworkPolicy", ...POLICY, namespace: where as NamespaceName, name, ...rest };
}

export function clusterPolicy(name: string, options: Partial<ClusterNetworkPolicy> = {}): ClusterNetworkPolicy {
  const subject = { namespaceSelector: { matchLabels: {}, matchExpressions: [] }, podSelector: undefined };
  return { kind: "ClusterNetworkPolicy", name, resourceVersion: "1", tier: "Admin", priority: 1, subject, ingress: [], egress: [], ...options };
}

export const tier = (name: string, order: number | undefined, defaultAction: Tier["defaultAction"] = "Deny"): Tier => ({
  kind: "Tier",
  name,
  resourceVersion: "1",
  order,
  defaultAction,
});
export const globalSet = (name: string, labels: Labels, ...nets: string[]): GlobalNetworkSet => ({
  kind: "GlobalNetworkSet",
  name,
  resourceVersion: "1",
  labels,
  nets: [...new Set(nets.map(parseCidr))],
});
export const networkSet = (name: string, labels: Labels, ...nets: string[]): NetworkSet => ({
  ...globalSet(name, labels, ...nets),
  kind: "NetworkSet",
  namespace: "shop" as NamespaceName,
});
export const serviceAccount = (name: string, labels: Labels): ServiceAccount => ({
  kind: "ServiceAccount",
  namespace: "shop" as NamespaceName,
  name,
  resourceVersion: "1",
  labels,
});
export function hostEndpoint(name: string, node: string, labels: Labels, options: Partial<HostEndpoint>): HostEndpoint {
  return {
    kind: "HostEndpoint",
    name,
    resourceVersion: "1",
    labels,
    node: node as NodeName,
    interfaceName: "",
    expectedIPs: [],
    profiles: [],
    ports: [],
    ...options,
  };
}
export const profile = (name: string, ingress: readonly CalicoRule[], egress: readonly CalicoRule[] = []): Profile => ({
  kind: "Profile",
  name,
  resourceVersion: "1",
  labelsToApply: {},
  ingress,
  egress,
});
export const slice = (name: string, namespace: string, service: string, addresses: readonly string[], ports: readonly number[]): EndpointSlice => ({
  kind: "EndpointSlice",
  namespace: namespace as NamespaceName,
  name,
  resourceVersion: "1",
  service,
  addresses: addresses.map(parseIp),
  ports: ports.map((port) => ({ protocol: "TCP", port })),
  endpoints: addresses.map((address) => ({
    addresses: [parseIp(address)],
    target: "",
    isReady: true,
    isServing: true,
    isTerminating: false,
    zone: "",
    forZones: [],
  })),
});
