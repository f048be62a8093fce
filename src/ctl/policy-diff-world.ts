/** The objects of a policy diff: those of the cluster, from manifests or from its API, and the same after a change was applied to them. */
import { ApiClient } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import { API_RESOURCES, apiVersionOf } from "../datastore/api-resources.ts";
import { findConnection } from "../datastore/kubeconfig.ts";
import { resourceKindOf } from "../model/parse-resource.ts";
import type { ResourceKind } from "../model/resource.ts";
import type { SourcedObject } from "./manifests.ts";

/** Kinds that decide on verdicts, and staged policies, which would. */
const WORLD_KINDS: readonly ResourceKind[] = [
  "Node",
  "Namespace",
  "ServiceAccount",
  "Pod",
  "EndpointSlice",
  "NetworkPolicy",
  "Tier",
  "GlobalNetworkPolicy",
  "CalicoNetworkPolicy",
  "ClusterNetworkPolicy",
  "GlobalNetworkSet",
  "NetworkSet",
  "HostEndpoint",
  "Profile",
  "StagedGlobalNetworkPolicy",
  "StagedNetworkPolicy",
  "StagedKubernetesNetworkPolicy",
];
/** What --prune takes away when the new manifests do not have it. */
const POLICY_KINDS: ReadonlySet<string> = new Set<ResourceKind>(["NetworkPolicy", "GlobalNetworkPolicy", "CalicoNetworkPolicy", "ClusterNetworkPolicy"]);
const PAGE_SIZE = 500;

export interface Change {
  readonly change: readonly SourcedObject[];
  /** Of these only kind, namespace and name count. */
  readonly removed?: readonly SourcedObject[];
  /** Policies that the change lacks go. */
  readonly prune: boolean;
}

/** As `kubectl apply` and `kubectl delete` would: an object takes the place of the one with its kind, namespace and name, others are added. */
export function applyChange(world: readonly SourcedObject[], { change, removed = [], prune }: Change): SourcedObject[] {
  const changed = new Map(change.map((entry) => [identityOf(entry.object), entry]));
  const gone = new Set(removed.map((entry) => identityOf(entry.object)));
  const kept = world.flatMap((entry) => {
    if (gone.has(identityOf(entry.object))) return [];
    const replacement = changed.get(identityOf(entry.object));
    if (replacement !== undefined) return [replacement];
    return prune && POLICY_KINDS.has(resourceKindOf(entry.object) ?? "") ? [] : [entry];
  });
  const present = new Set(world.map(({ object }) => identityOf(object)));
  return [...kept, ...change.filter(({ object }) => !present.has(identityOf(object)))];
}

/** True when the change could move a pod into or out of a set, and not only change rules. */
export function changesMembers(change: readonly SourcedObject[]): boolean {
  return change.some(({ object }) => {
    const kind = resourceKindOf(object);
    return kind !== undefined && kind !== "Tier" && !POLICY_KINDS.has(kind);
  });
}

/** Kind, namespace ("default" where a namespaced object has none) and name. */
function identityOf(object: unknown): string {
  const { apiVersion, kind, metadata } = (object ?? {}) as { readonly apiVersion?: unknown; readonly kind?: unknown; readonly metadata?: unknown };
  const { namespace, name } = (metadata ?? {}) as { readonly namespace?: unknown; readonly name?: unknown };
  const known = resourceKindOf(object);
  const isNamespaced = known !== undefined && API_RESOURCES[known].isNamespaced;
  const place = typeof namespace === "string" && namespace !== "" ? namespace : isNamespaced ? "default" : "";
  return JSON.stringify([known ?? [apiVersion, kind], place, name]);
}

/** Everything of the cluster that decides on verdicts. A kind whose definition is not installed has no objects. Throws DatastoreError. */
export async function readWorld(kubeconfig: string | undefined, environment: Readonly<Record<string, string | undefined>>): Promise<SourcedObject[]> {
  const client = new ApiClient({ connection: await findConnection({ file: kubeconfig, environment }), userAgent: "sedge-policy-diff" });
  try {
    const objects: SourcedObject[] = [];
    for (const kind of WORLD_KINDS) objects.push(...(await readKind(client, kind)));
    return objects;
  } finally {
    client.close();
  }
}

async function readKind(client: ApiClient, kind: ResourceKind): Promise<SourcedObject[]> {
  const resource = API_RESOURCES[kind];
  const objects: SourcedObject[] = [];
  let next = "";
  try {
    do {
      const { items, continueToken } = await client.list(resource, { query: { limit: PAGE_SIZE, ...(next === "" ? {} : { continue: next }) } });
      // Items of a list leave out what all of them share.
      const shared = { apiVersion: apiVersionOf(resource), kind: resource.kind };
      for (const item of items) objects.push({ source: "the API", object: typeof item === "object" && item !== null ? { ...item, ...shared } : item });
      next = continueToken;
    } while (next !== "");
  } catch (error) {
    if (error instanceof ApiError && error.status === 404 && isCustom(kind)) return [];
    throw error;
  }
  return objects;
}

/** Kinds that a cluster has only when their definitions are installed. A cluster without one of the others is no cluster, but a wrong address. */
function isCustom(kind: ResourceKind): boolean {
  return ["projectcalico.org", "policy.networking.k8s.io"].includes(API_RESOURCES[kind].group);
}
