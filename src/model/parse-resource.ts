/** Any object that the program reads, by its apiVersion and kind. */
import type { Parsed } from "./event.ts";
import type { ParseOptions } from "./field.ts";
import { parseBlockAffinity } from "./parse-block-affinity.ts";
import { parseCalicoNetworkPolicy, parseGlobalNetworkPolicy, parseProfile } from "./parse-calico-policy.ts";
import { parseClusterNetworkPolicy } from "./parse-cluster-network-policy.ts";
import { parseFelixConfiguration } from "./parse-felix-configuration.ts";
import { parseHostEndpoint } from "./parse-host-endpoint.ts";
import { parseIpPool } from "./parse-ip-pool.ts";
import { parseIpReservation } from "./parse-ip-reservation.ts";
import { parseIpamBlock } from "./parse-ipam-block.ts";
import { parseIpamConfiguration } from "./parse-ipam-configuration.ts";
import { parseNamespace } from "./parse-namespace.ts";
import { parseNetworkPolicy } from "./parse-network-policy.ts";
import { parseGlobalNetworkSet, parseNetworkSet } from "./parse-network-set.ts";
import { parseNode } from "./parse-node.ts";
import { parsePod } from "./parse-pod.ts";
import { parseEndpointSlice, parseServiceAccount } from "./parse-service.ts";
import { parseStagedGlobalNetworkPolicy, parseStagedKubernetesNetworkPolicy, parseStagedNetworkPolicy } from "./parse-staged-policy.ts";
import { parseTier } from "./parse-tier.ts";
import { RESOURCE_KINDS, type Resource, type ResourceKey, type ResourceKind } from "./resource.ts";

interface KindInfo {
  /** As objects state it, where that is another word than ours. */
  readonly writtenKind?: string;
  readonly groupVersions: readonly string[];
  readonly isNamespaced: boolean;
  readonly parse: (object: unknown, options?: ParseOptions) => Parsed<Resource>;
}

const CALICO = ["projectcalico.org/v3", "crd.projectcalico.org/v1"];

/** Where each kind lives and who parses it. */
export const RESOURCE_INFO: Readonly<Record<ResourceKind, KindInfo>> = {
  Node: { groupVersions: ["v1"], isNamespaced: false, parse: parseNode },
  Namespace: { groupVersions: ["v1"], isNamespaced: false, parse: parseNamespace },
  Pod: { groupVersions: ["v1"], isNamespaced: true, parse: parsePod },
  NetworkPolicy: { groupVersions: ["networking.k8s.io/v1"], isNamespaced: true, parse: parseNetworkPolicy },
  IPPool: { groupVersions: CALICO, isNamespaced: false, parse: parseIpPool },
  IPReservation: { groupVersions: CALICO, isNamespaced: false, parse: parseIpReservation },
  IPAMConfiguration: { groupVersions: CALICO, isNamespaced: false, parse: parseIpamConfiguration },
  IPAMBlock: { groupVersions: CALICO, isNamespaced: false, parse: parseIpamBlock },
  BlockAffinity: { groupVersions: CALICO, isNamespaced: false, parse: parseBlockAffinity },
  ServiceAccount: { groupVersions: ["v1"], isNamespaced: true, parse: parseServiceAccount },
  EndpointSlice: { groupVersions: ["discovery.k8s.io/v1"], isNamespaced: true, parse: parseEndpointSlice },
  Tier: { groupVersions: CALICO, isNamespaced: false, parse: parseTier },
  GlobalNetworkPolicy: { groupVersions: CALICO, isNamespaced: false, parse: parseGlobalNetworkPolicy },
  CalicoNetworkPolicy: { writtenKind: "NetworkPolicy", groupVersions: CALICO, isNamespaced: true, parse: parseCalicoNetworkPolicy },
  ClusterNetworkPolicy: { groupVersions: ["policy.networking.k8s.io/v1alpha2"], isNamespaced: false, parse: parseClusterNetworkPolicy },
  StagedGlobalNetworkPolicy: { groupVersions: CALICO, isNamespaced: false, parse: parseStagedGlobalNetworkPolicy },
  StagedNetworkPolicy: { groupVersions: CALICO, isNamespaced: true, parse: parseStagedNetworkPolicy },
  StagedKubernetesNetworkPolicy: { groupVersions: CALICO, isNamespaced: true, parse: parseStagedKubernetesNetworkPolicy },
  GlobalNetworkSet: { groupVersions: CALICO, isNamespaced: false, parse: parseGlobalNetworkSet },
  NetworkSet: { groupVersions: CALICO, isNamespaced: true, parse: parseNetworkSet },
  HostEndpoint: { groupVersions: CALICO, isNamespaced: false, parse: parseHostEndpoint },
  Profile: { groupVersions: CALICO, isNamespaced: false, parse: parseProfile },
  FelixConfiguration: { groupVersions: CALICO, isNamespaced: false, parse: parseFelixConfiguration },
};

/** The kind as objects state it: Calico and Kubernetes both have a NetworkPolicy. */
export function writtenKindOf(kind: ResourceKind): string {
  return RESOURCE_INFO[kind].writtenKind ?? kind;
}

/** Parses an object by its apiVersion and kind; one of another kind is a problem of the field "kind". */
export function parseResource(object: unknown, options: ParseOptions = {}): Parsed<Resource> {
  const kind = resourceKindOf(object);
  if (kind !== undefined) return RESOURCE_INFO[kind].parse(object, options);
  const { apiVersion, kind: written } = identityOf(object);
  const known = RESOURCE_KINDS.map((name) => `${RESOURCE_INFO[name].groupVersions[0]} ${writtenKindOf(name)}`).join(", ");
  return {
    ok: false,
    problems: [{ field: "kind", message: `${JSON.stringify(apiVersion)} ${JSON.stringify(written)} is not a kind that is read here; known: ${known}` }],
  };
}

/** The kind of an object, undefined when it is none that the program reads. */
export function resourceKindOf(object: unknown): ResourceKind | undefined {
  const { apiVersion, kind } = identityOf(object);
  return RESOURCE_KINDS.find((name) => writtenKindOf(name) === kind && RESOURCE_INFO[name].groupVersions.includes(apiVersion));
}

/** Names an object of a known kind even when the rest of it cannot be understood; undefined when it has no name. */
export function resourceKeyOf(kind: ResourceKind, object: unknown): ResourceKey | undefined {
  const { name, namespace } = identityOf(object);
  if (name === "") return undefined;
  return { kind, namespace: RESOURCE_INFO[kind].isNamespaced ? namespace : "", name };
}

interface Identity {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

function identityOf(object: unknown): Identity {
  const metadata = memberOf(object, "metadata");
  return { apiVersion: textOf(object, "apiVersion"), kind: textOf(object, "kind"), namespace: textOf(metadata, "namespace"), name: textOf(metadata, "name") };
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
}

function textOf(value: unknown, name: string): string {
  const text = memberOf(value, name);
  return typeof text === "string" ? text : "";
}
