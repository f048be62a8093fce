/**
 * A cluster made of manifests: the records that the server would make of it, and who has which address.
 *
 * The records come out of the same code as the server's. What manifests leave out is filled in as a cluster would: a namespace that is used exists;
 * a pod that is not scheduled is on a node of its own; a pod without addresses gets some that nothing else has.
 */
import { Compute } from "../compute/compute.ts";
import type { NamespaceName, NodeName } from "../model/names.ts";
import { NAMESPACE_NAME_LABEL } from "../model/parse-namespace.ts";
import { parseResource, RESOURCE_INFO, resourceKindOf } from "../model/parse-resource.ts";
import type { Endpoint, HostEndpoint as HostRecord, Policy, RecordKey, SetShard, Stack } from "../model/record.ts";
import {
  type AnyPolicy,
  describeKey,
  type HostEndpoint,
  keyOf,
  type Namespace,
  type Node,
  type Pod,
  RESOURCE_KINDS,
  type Resource,
} from "../model/resource.ts";
import { cidrAddressAt, parseCidr } from "../net/cidr.ts";
import { type IpAddress, type IpVersion, ipVersion } from "../net/ip.ts";
import { convertPolicy } from "../policy/convert-policy.ts";
import type { SetLookup } from "../policy/evaluate.ts";
import { setsOfShards } from "../policy/shard-sets.ts";
import { wholeStack } from "../policy/stack-lists.ts";
import type { SourcedObject, SourcedProblem } from "./manifests.ts";

export interface World {
  /** By "namespace/name". */
  readonly pods: ReadonlyMap<string, WorldPod>;
  /** Pods by the addresses that are theirs alone (not those on the host's network). */
  readonly podOfAddress: ReadonlyMap<IpAddress, WorldPod>;
  /** Names of nodes by address, also as known from pods on the host's network. */
  readonly nodeOfAddress: ReadonlyMap<IpAddress, NodeName>;
  readonly policy: (key: RecordKey) => Policy | undefined;
  readonly sets: SetLookup;
  /** Host endpoints, with the stack for packets of the host itself. */
  readonly hosts: readonly WorldHost[];
  /** Kinds in the manifests that have no part in this, with how often. */
  readonly ignored: ReadonlyMap<string, number>;
  /** Parts of policies that are not enforced as written, and what is done instead. */
  readonly notices: readonly SourcedProblem[];
}

export interface WorldHost {
  readonly host: HostEndpoint;
  readonly stack: Stack | undefined;
}

export interface WorldPod {
  readonly pod: Pod;
  readonly addresses: readonly IpAddress[];
  /** undefined: no policy applies to it. */
  readonly stack: Stack | undefined;
}

export type WorldResult = { readonly ok: true; readonly world: World } | { readonly ok: false; readonly problems: readonly SourcedProblem[] };

/** Addresses for pods that have none: reserved for benchmarks (RFC 2544) and for documentation (RFC 3849), so no policy means them. */
const SPARE_PREFIXES: Readonly<Record<IpVersion, ReturnType<typeof parseCidr>>> = { 4: parseCidr("198.18.0.0/15"), 6: parseCidr("2001:db8::/64") };

/** Kinds of other APIs that would change verdicts: ignoring them would give wrong answers. */
const DECIDING_KIND = /networkpolicy$|networkset$|^tier$|^hostendpoint$/i;

export function buildWorld(manifests: readonly SourcedObject[]): WorldResult {
  const problems: SourcedProblem[] = [];
  const notices: SourcedProblem[] = [];
  const ignored = new Map<string, number>();
  const resources = new Map<string, { readonly resource: Resource; readonly source: string }>();
  for (const { source, object } of manifests) {
    const placed = withNamespace(object);
    const foreign = foreignKind(placed);
    if (foreign !== undefined) {
      ignored.set(foreign, (ignored.get(foreign) ?? 0) + 1);
      continue;
    }
    const parsed = parseResource(placed, { isStrict: true });
    const where = `${source}, ${describeObject(placed)}`;
    if (!parsed.ok) {
      problems.push(...parsed.problems.map(({ field, message }) => ({ source: where, message: field === "" ? message : `${field}: ${message}` })));
      continue;
    }
    const name = describeKey(keyOf(parsed.value));
    const before = resources.get(name);
    const policy = policyOf(parsed.value);
    const converted = policy === undefined ? undefined : convertPolicy(policy);
    const found = (converted?.problems ?? []).map(({ field, message }) => ({ source: where, message: `${field}: ${message}` }));
    if (converted?.isUnderstood === false) problems.push(...found);
    else notices.push(...found);
    if (before === undefined) resources.set(name, { resource: parsed.value, source });
    else if (!isSame(before.resource, parsed.value)) problems.push({ source: where, message: `is another one than in ${before.source}; keep one of them` });
  }
  const all = [...resources.values()];
  problems.push(...sharedAddresses(all));
  return problems.length > 0
    ? { ok: false, problems }
    : {
        ok: true,
        world: {
          ...worldOf(
            all.map(({ resource }) => resource),
            ignored,
          ),
          notices,
        },
      };
}

/** The policy that an object is, or for a staged one would be. */
function policyOf(resource: Resource): AnyPolicy | undefined {
  switch (resource.kind) {
    case "NetworkPolicy":
    case "CalicoNetworkPolicy":
    case "GlobalNetworkPolicy":
    case "ClusterNetworkPolicy":
    case "Profile":
      return resource;
    case "StagedGlobalNetworkPolicy":
    case "StagedNetworkPolicy":
    case "StagedKubernetesNetworkPolicy":
      return resource.policy;
    default:
      return undefined;
  }
}

function worldOf(resources: readonly Resource[], ignored: ReadonlyMap<string, number>): Omit<World, "notices"> {
  const nodes = resources.filter((resource): resource is Node => resource.kind === "Node");
  const pods = withAddresses(
    resources.filter((resource): resource is Pod => resource.kind === "Pod"),
    nodes,
  );
  const records = recordsOf(resources, pods);
  const entries = pods.map((pod): [string, WorldPod] => {
    const endpoint = records.endpoints.get(`endpoint/${pod.namespace}/${pod.name}`);
    return [`${pod.namespace}/${pod.name}`, { pod, addresses: pod.addresses, stack: endpoint === undefined ? undefined : records.stacks.get(endpoint.stack) }];
  });
  const live = entries.map(([, pod]) => pod).filter(({ pod }) => !pod.isTerminated);
  const hostAddresses = live.flatMap(({ pod, addresses }) =>
    pod.hostNetwork && pod.node !== undefined ? addresses.map((address) => [address, pod.node] as const) : [],
  );
  const nodeOfAddress = new Map<IpAddress, NodeName>();
  for (const [address, node] of hostAddresses) if (node !== undefined) nodeOfAddress.set(address, node);
  for (const node of nodes) for (const address of node.addresses) nodeOfAddress.set(address, node.name);
  return {
    pods: new Map(entries),
    podOfAddress: new Map(live.filter(({ pod }) => !pod.hostNetwork).flatMap((pod) => pod.addresses.map((address) => [address, pod] as const))),
    nodeOfAddress,
    policy: (key) => records.policies.get(key),
    sets: records.sets,
    hosts: resources
      .filter((resource) => resource.kind === "HostEndpoint")
      .map((host) => ({ host, stack: records.stacks.get(records.hosts.get(`host/${host.name}`)?.stack ?? "") })),
    ignored,
  };
}

/** Pods come with the addresses that they have here; blocks and pools would give them others. */
const ADDRESS_KINDS: ReadonlySet<string> = new Set(["Pod", "IPPool", "IPAMBlock", "BlockAffinity"]);

interface Records {
  readonly endpoints: ReadonlyMap<RecordKey, Endpoint>;
  readonly hosts: ReadonlyMap<RecordKey, HostRecord>;
  readonly stacks: ReadonlyMap<RecordKey, Stack>;
  readonly policies: ReadonlyMap<RecordKey, Policy>;
  readonly sets: SetLookup;
}

function recordsOf(resources: readonly Resource[], pods: readonly Pod[]): Records {
  const compute = new Compute();
  const namespaces = new Set(resources.flatMap((resource) => (resource.kind === "Namespace" ? [resource.name] : [])));
  const used = new Set(resources.flatMap((resource) => ("namespace" in resource && resource.namespace !== "" ? [resource.namespace] : [])));
  for (const name of used) if (!namespaces.has(name)) compute.apply({ kind: "upsert", resource: impliedNamespace(name) });
  for (const resource of resources) {
    if (!ADDRESS_KINDS.has(resource.kind)) compute.apply({ kind: "upsert", resource });
  }
  for (const pod of pods) compute.apply({ kind: "upsert", resource: pod });
  compute.apply({ kind: "status", status: "in-sync" });
  const endpoints = new Map<RecordKey, Endpoint>();
  const hosts = new Map<RecordKey, HostRecord>();
  const stacks = new Map<RecordKey, Stack>();
  const policies = new Map<RecordKey, Policy>();
  const shards: SetShard[] = [];
  const { changes } = compute.flush();
  const lists = new Map(changes.flatMap(({ key, value }) => (value?.kind === "policy-list" ? [[key, value] as const] : [])));
  for (const { key, value } of changes) {
    if (value?.kind === "endpoint") endpoints.set(key, value);
    else if (value?.kind === "host") hosts.set(key, value);
    else if (value?.kind === "stack")
      stacks.set(
        key,
        wholeStack(value, (list) => lists.get(list)),
      );
    else if (value?.kind === "policy") policies.set(key, value);
    else if (value?.kind === "set") shards.push(value);
  }
  return { endpoints, hosts, stacks, policies, sets: setsOfShards(shards) };
}

function impliedNamespace(name: NamespaceName): Namespace {
  return { kind: "Namespace", name, resourceVersion: "", labels: { [NAMESPACE_NAME_LABEL]: name } };
}

/** Gives each pod a node and addresses. */
function withAddresses(pods: readonly Pod[], nodes: readonly Node[]): Pod[] {
  const taken = new Set<IpAddress>([...pods, ...nodes].flatMap((owner) => owner.addresses));
  const next: Record<IpVersion, number> = { 4: 1, 6: 1 };
  const spare = (version: IpVersion): IpAddress => {
    for (;;) {
      const address = cidrAddressAt(SPARE_PREFIXES[version], next[version]++);
      if (!taken.has(address)) return address;
    }
  };
  return pods.map((pod) => {
    const node = pod.node ?? (`${pod.namespace}/${pod.name}` as NodeName);
    const host = pod.hostNetwork ? (nodes.find(({ name }) => name === node)?.addresses ?? []) : [];
    const addresses = [pod.addresses, host].find((list) => list.length > 0) ?? [spare(4), spare(6)];
    return { ...pod, node, addresses };
  });
}

/** An address that two running pods claim belongs to neither. */
function sharedAddresses(all: readonly { readonly resource: Resource; readonly source: string }[]): SourcedProblem[] {
  const owners = new Map<IpAddress, string>();
  return all.flatMap(({ resource, source }) => {
    if (resource.kind !== "Pod" || resource.hostNetwork || resource.isTerminated) return [];
    const name = describeKey(keyOf(resource));
    return resource.addresses.flatMap((address) => {
      const owner = owners.get(address);
      if (owner === undefined) owners.set(address, name);
      return owner === undefined ? [] : [{ source: `${source}, ${name}`, message: `status.podIPs: ${address} is the address of ${owner} too` }];
    });
  });
}

/** Kind of an object that has no part in policy; undefined when it is to be parsed (and refused, when it is a policy of an API not known here). */
function foreignKind(object: unknown): string | undefined {
  if (resourceKindOf(object) !== undefined) return undefined;
  const { apiVersion, kind } = (object ?? {}) as { readonly apiVersion?: unknown; readonly kind?: unknown };
  if (typeof apiVersion !== "string" || typeof kind !== "string" || apiVersion === "" || kind === "") return undefined;
  const looksKnown = RESOURCE_KINDS.some((known) => known.toLowerCase() === kind.toLowerCase());
  return looksKnown || DECIDING_KIND.test(kind) ? undefined : kind;
}

/** Objects without a namespace are in "default", as kubectl puts them. */
function withNamespace(object: unknown): unknown {
  const kind = resourceKindOf(object);
  if (kind === undefined || !RESOURCE_INFO[kind].isNamespaced || typeof object !== "object" || object === null) return object;
  const { metadata } = object as { readonly metadata?: unknown };
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata)) return object;
  const { namespace } = metadata as { readonly namespace?: unknown };
  return namespace === undefined || namespace === null || namespace === "" ? { ...object, metadata: { ...metadata, namespace: "default" } } : object;
}

/** Parsed values have one order of fields, so equal ones have equal text. */
function isSame(a: Resource, b: Resource): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function describeObject(object: unknown): string {
  if (typeof object !== "object" || object === null) return "not an object";
  const { kind, metadata } = object as { readonly kind?: unknown; readonly metadata?: { readonly name?: unknown; readonly namespace?: unknown } | null };
  const { name, namespace } = metadata ?? {};
  const place = typeof namespace === "string" ? `${namespace}/` : "";
  return `${typeof kind === "string" ? kind : "object without kind"} ${place}${typeof name === "string" ? name : "without name"}`;
}

/** Family of an address that both lists have, the first of the first list; undefined when there is none. */
export function commonAddresses(
  from: readonly IpAddress[],
  to: readonly IpAddress[],
): { readonly source: IpAddress; readonly destination: IpAddress } | undefined {
  for (const source of from) {
    const destination = to.find((address) => ipVersion(address) === ipVersion(source));
    if (destination !== undefined) return { source, destination };
  }
  return undefined;
}
