/** Builders of typed cluster objects for tests: everything that a test does not state has its usual value. */
import type { NamespaceName, NodeName } from "../../src/model/names.ts";
import { podKey } from "../../src/model/names.ts";
import type {
  BlockAffinity,
  IpamBlock,
  IpPool,
  LabelSelector,
  Labels,
  Namespace,
  NetworkPolicy,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  Node,
  Pod,
} from "../../src/model/resource.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { parseIp } from "../../src/net/ip.ts";

export const selector = (matchLabels: Labels, ...matchExpressions: LabelSelector["matchExpressions"]): LabelSelector => ({ matchLabels, matchExpressions });
export const node = (name: string, ...addresses: string[]): Node => ({
  kind: "Node",
  name: name as NodeName,
  resourceVersion: "1",
  labels: {},
  addresses: addresses.map(parseIp),
});
export const namespace = (name: string, labels: Labels): Namespace => ({ kind: "Namespace", name: name as NamespaceName, resourceVersion: "1", labels });

export function pod(
  name: string,
  options: Partial<Omit<Pod, "addresses" | "node" | "namespace">> & { readonly in?: string; readonly on?: string; readonly ips?: readonly string[] },
): Pod {
  const { in: where = "shop", on, ips = [], ...rest } = options;
  return {
    kind: "Pod",
    namespace: where as NamespaceName,
    name,
    uid: `uid-${name}`,
    resourceVersion: "1",
    labels: {},
    node: on as NodeName | undefined,
    serviceAccount: "default",
    hostNetwork: false,
    isTerminated: false,
    addresses: ips.map(parseIp),
    namedPorts: [],
    ...rest,
  };
}

export function policy(name: string, options: Partial<Omit<NetworkPolicy, "namespace">> & { readonly in?: string }): NetworkPolicy {
  const { in: where = "shop", ...rest } = options;
  return {
    kind: "NetworkPolicy",
    namespace: where as NamespaceName,
    name,
    resourceVersion: "1",
    podSelector: selector({}),
    policyTypes: ["Ingress"],
    ingress: [],
    egress: [],
    ...rest,
  };
}

export const peer = (podSelector: LabelSelector | undefined, namespaceSelector?: LabelSelector): NetworkPolicyPeer => ({
  kind: "pods",
  podSelector,
  namespaceSelector,
});
export const tcp = (port: number | string | undefined): NetworkPolicyPort => ({ protocol: "TCP", port, endPort: undefined });
export const block = (
  cidr: string,
  owner: string | undefined,
  allocations: readonly { readonly ip: string; readonly pod: string; readonly on?: string }[] = [],
): IpamBlock => ({
  kind: "IPAMBlock",
  name: cidr.replace(/[./]/g, "-"),
  resourceVersion: "1",
  cidr: parseCidr(cidr),
  node: owner as NodeName | undefined,
  allocations: allocations.map(({ ip, pod: owner, on }) => ({
    address: parseIp(ip),
    handle: owner,
    pod: podKey("shop", owner),
    node: on as NodeName | undefined,
  })),
  isDeleted: false,
});
export const affinity = (owner: string, cidr: string, state: BlockAffinity["state"]): BlockAffinity => ({
  kind: "BlockAffinity",
  name: `${owner}-${cidr.replace(/[./]/g, "-")}`,
  resourceVersion: "1",
  node: owner as NodeName,
  cidr: parseCidr(cidr),
  state,
  isDeleted: false,
});
export const pool = (name: string, cidr: string, disabled: boolean): IpPool => ({
  kind: "IPPool",
  name,
  resourceVersion: "1",
  cidr: parseCidr(cidr),
  blockSize: 26,
  natOutgoing: true,
  disabled,
  nodeSelector: "all()",
});
