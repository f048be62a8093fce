/**
 * What Typha's caches hold for the bench's cluster: Calico's key/value pairs, keys as paths and values as JSON, with the field names of Calico's model
 * (libcalico-go/lib/backend/model). Only what the generated objects have is written, so that the sizes are lower bounds: no annotations, no creation times, no
 * allocations inside blocks, none of the settings, services and host data that a real cluster has.
 */
import type { ClusterEvent } from "../../src/model/event.ts";
import type { Resource } from "../../src/model/resource.ts";

/** Which of Typha's data sets a pair is in: every node has a connection for each. */
export type Syncer = "felix" | "bgp" | "tunnel-ip-allocation";

export interface KeyValue {
  readonly syncers: readonly Syncer[];
  readonly key: string;
  /** Undefined: deleted. */
  readonly value: string | undefined;
  readonly revision: string;
}

const ALL: readonly Syncer[] = ["felix", "bgp", "tunnel-ip-allocation"];
const FELIX: readonly Syncer[] = ["felix"];

/** Pairs that the event changes. Deletions name the keys alone; of a deleted pod the node is not known, but all names of nodes are equally long. */
export function keyValuesOf(event: ClusterEvent): KeyValue[] {
  if (event.kind === "upsert") return pairsOf(event.resource);
  if (event.kind !== "delete" || event.key.kind !== "Pod") return [];
  const { namespace, name } = event.key;
  return [{ syncers: FELIX, key: workloadKey("node-00000", namespace, name), value: undefined, revision: "0" }];
}

function pairsOf(resource: Resource): KeyValue[] {
  const revision = resource.resourceVersion;
  const pair = (syncers: readonly Syncer[], key: string, value: unknown): KeyValue => ({ syncers, key, value: JSON.stringify(value), revision });
  switch (resource.kind) {
    case "IPPool":
      return [
        pair(ALL, `/calico/v1/ipam/v4/pool/${resource.cidr.replace("/", "-")}`, {
          cidr: resource.cidr,
          ipip: "",
          ipip_mode: "",
          vxlan_mode: "",
          masquerade: resource.natOutgoing,
          ipam: true,
          disabled: resource.disabled,
        }),
      ];
    case "Node":
      return [
        pair(ALL, `/calico/resources/v3/projectcalico.org/nodes/${resource.name}`, {
          kind: "Node",
          apiVersion: "projectcalico.org/v3",
          metadata: { name: resource.name, labels: resource.labels },
          spec: {
            bgp: { ipv4Address: `${resource.addresses[0] ?? ""}/24` },
            addresses: resource.addresses.map((address) => ({ address, type: "InternalIP" })),
            orchRefs: [{ nodeName: resource.name, orchestrator: "k8s" }],
          },
          status: {},
        }),
      ];
    case "IPAMBlock":
      return [
        pair(FELIX, `/calico/ipam/v2/assignment/ipv4/block/${resource.cidr.replace("/", "-")}`, {
          cidr: resource.cidr,
          affinity: `host:${resource.node ?? ""}`,
          allocations: [],
          unallocated: [],
          attributes: [],
          sequenceNumber: 0,
          sequenceNumberForAllocation: {},
          deleted: false,
        }),
      ];
    case "BlockAffinity":
      return [
        {
          ...pair(["bgp"], `/calico/ipam/v2/host/${resource.node}/ipv4/block/${resource.cidr.replace("/", "-")}`, { state: resource.state, deleted: false }),
        },
      ];
    case "Namespace": {
      const labels = Object.fromEntries(Object.entries(resource.labels).map(([name, value]) => [`pcns.${name}`, value]));
      const profile = `kns.${resource.name}`;
      const allow = [{ action: "allow" }];
      return [
        pair(FELIX, `/calico/v1/policy/profile/${profile}/labels`, labels),
        pair(FELIX, `/calico/v1/policy/profile/${profile}/rules`, { inbound_rules: allow, outbound_rules: allow }),
      ];
    }
    case "Pod":
      if (resource.node === undefined) return [];
      return [
        pair(FELIX, workloadKey(resource.node, resource.namespace, resource.name), {
          state: "active",
          name: "cali0123456789a",
          active_instance_id: "",
          mac: null,
          profile_ids: [`kns.${resource.namespace}`, `ksa.${resource.namespace}.${resource.serviceAccount}`],
          ipv4_nets: resource.addresses.map((address) => `${address}/32`),
          ipv6_nets: [],
          labels: {
            ...resource.labels,
            "projectcalico.org/namespace": resource.namespace,
            "projectcalico.org/orchestrator": "k8s",
            "projectcalico.org/serviceaccount": resource.serviceAccount,
          },
        }),
      ];
    case "NetworkPolicy":
      return [
        pair(FELIX, `/calico/v1/policy/tier/default/policy/${resource.namespace}%2fknp.default.${resource.name}`, {
          namespace: resource.namespace,
          tier: "default",
          order: 1000,
          inbound_rules: resource.ingress.map((rule) => ({
            action: "allow",
            protocol: "TCP",
            src_selector: rule.peers.map((peer) => JSON.stringify(peer)).join(" || "),
            dst_ports: rule.ports.map((port) => ("port" in port ? port.port : "")),
          })),
          selector: `projectcalico.org/namespace == '${resource.namespace}' && projectcalico.org/orchestrator == 'k8s'`,
          types: ["ingress"],
        }),
      ];
    default:
      return [];
  }
}

function workloadKey(node: string, namespace: string, pod: string): string {
  return `/calico/v1/host/${node}/workload/k8s/${namespace}%2f${pod}/endpoint/eth0`;
}
