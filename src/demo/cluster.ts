/** The cluster's objects for the demo: what a real cluster's scheduler, kubelets and its operator would have written. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parse as parseYaml } from "yaml";
import { type ApiClient, nameOf, type ObjectName } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import { API_RESOURCES, type ApiResource, objectPath } from "../datastore/api-resources.ts";
import type { JsonObject } from "../datastore/json-object.ts";
import type { ResourceKind } from "../model/resource.ts";
import { NODES } from "./network.ts";
import { type DemoPod, NAMESPACES, PODS, POLICIES } from "./scenario.ts";

const FIELD_MANAGER = "sedge-demo";
const CRD_FOLDER = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), "manifests", "crds");
const CRD: ApiResource = {
  kind: "CustomResourceDefinition",
  group: "apiextensions.k8s.io",
  version: "v1",
  plural: "customresourcedefinitions",
  isNamespaced: false,
  hasProtobuf: false,
};

const POOLS = [
  { name: "demo-ipv4", cidr: "10.77.0.0/16", blockSize: 26 },
  { name: "demo-ipv6", cidr: "fd77::/48", blockSize: 122 },
];

/** Server-side apply; resolves to the object as stored. */
async function apply(api: ApiClient, resource: ApiResource, object: JsonObject, subresource?: string): Promise<JsonObject> {
  return await api.patch(resource, nameOf(object), object, {
    type: "apply",
    fieldManager: FIELD_MANAGER,
    ...(subresource === undefined ? {} : { subresource }),
  });
}

/** Applies the CRDs and waits until the server serves them (10 s). */
export async function installCrds(api: ApiClient): Promise<void> {
  const files = readdirSync(CRD_FOLDER).filter((file) => file.endsWith(".yaml"));
  for (const file of files) await apply(api, CRD, parseYaml(readFileSync(join(CRD_FOLDER, file), "utf8")) as JsonObject);
  for (const kind of ["IPPool", "IPAMBlock", "BlockAffinity"] as const) {
    await poll(`the API serves ${kind}`, 10_000, async () => {
      try {
        await api.list(API_RESOURCES[kind], { query: { limit: 1 } });
        return true;
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return false;
        throw error;
      }
    });
  }
}

/** Nodes, pools and namespaces; pods come one by one. */
export async function createCluster(api: ApiClient): Promise<void> {
  for (const { name, addressV4, addressV6 } of NODES) {
    const node = { apiVersion: "v1", kind: "Node", metadata: { name, labels: { "kubernetes.io/hostname": name } } };
    await apply(api, API_RESOURCES.Node, node);
    const addresses = [addressV4, addressV6].map((address) => ({ type: "InternalIP", address }));
    await api.patch(API_RESOURCES.Node, { name }, { status: { addresses } }, { type: "merge", subresource: "status" });
  }
  for (const { name, ...pool } of POOLS)
    await apply(api, API_RESOURCES.IPPool, { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec: { ...pool, natOutgoing: false } });
  for (const [name, labels] of Object.entries(NAMESPACES)) await createNamespace(api, name, labels);
}

/** A namespace of that name that is being deleted (by an earlier run) is finished off first. */
async function createNamespace(api: ApiClient, name: string, labels: Readonly<Record<string, string>>): Promise<void> {
  await finishNamespace(api, name);
  await apply(api, API_RESOURCES.Namespace, { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
}

/** The pod as the scheduler leaves it: bound to its node, no address yet. */
export async function createPodObject(api: ApiClient, pod: DemoPod): Promise<void> {
  const containers = [{ name: "app", image: "sedge/demo", ports: pod.ports.map(({ name, port }) => ({ name, containerPort: port, protocol: "TCP" })) }];
  await apply(api, API_RESOURCES.Pod, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace: pod.namespace, name: pod.name, labels: pod.labels },
    spec: { nodeName: pod.node, automountServiceAccountToken: false, terminationGracePeriodSeconds: 0, containers },
  });
}

/** What the kubelet writes when the sandbox is up. */
export async function setPodRunning(api: ApiClient, pod: DemoPod, addresses: readonly string[]): Promise<void> {
  const status = { phase: "Running", podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) };
  await api.patch(API_RESOURCES.Pod, pod, { status }, { type: "merge", subresource: "status" });
}

/** Resolves to metadata.resourceVersion of the object as stored. */
export async function applyPolicy(api: ApiClient, manifest: JsonObject): Promise<string> {
  const stored = await apply(api, API_RESOURCES.NetworkPolicy, manifest);
  return String((stored["metadata"] as JsonObject)["resourceVersion"]);
}

/** Deletes what the demo made; what is gone already is fine. Only for an API that outlives the demo. */
export async function deleteCluster(api: ApiClient): Promise<void> {
  for (const { manifest } of POLICIES) await remove(api, "NetworkPolicy", manifest.metadata);
  for (const pod of PODS) await remove(api, "Pod", pod);
  for (const name of Object.keys(NAMESPACES)) {
    await remove(api, "Namespace", { name });
    await finishNamespace(api, name);
  }
  const demoNodes = new Set(NODES.map(({ name }) => `host:${name}`));
  for (const block of await all(api, "IPAMBlock"))
    if (demoNodes.has(String((block["spec"] as JsonObject)["affinity"]))) await remove(api, "IPAMBlock", nameOf(block));
  const nodeNames = new Set(NODES.map(({ name }) => name));
  for (const affinity of await all(api, "BlockAffinity"))
    if (nodeNames.has(String((affinity["spec"] as JsonObject)["node"]))) await remove(api, "BlockAffinity", nameOf(affinity));
  for (const { name } of POOLS) await remove(api, "IPPool", { name });
  for (const { name } of NODES) await remove(api, "Node", { name });
}

async function all(api: ApiClient, kind: ResourceKind): Promise<JsonObject[]> {
  const { items } = (await api.requestJson("GET", objectPath(API_RESOURCES[kind], "").replace(/\/$/, ""))) as { items?: JsonObject[] };
  return items ?? [];
}

async function remove(api: ApiClient, kind: ResourceKind, { name, namespace }: ObjectName): Promise<void> {
  try {
    await api.requestJson("DELETE", objectPath(API_RESOURCES[kind], name, namespace ?? ""), { query: { gracePeriodSeconds: 0 } });
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
  }
}

/** An API server without a namespace controller leaves a deleted namespace in Terminating: once it is empty the demo takes the finalizer off its own. */
async function finishNamespace(api: ApiClient, name: string): Promise<void> {
  for (let tries = 0; tries < 20; tries++) {
    let namespace: JsonObject;
    try {
      namespace = await api.get(API_RESOURCES.Namespace, { name });
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return;
      throw error;
    }
    if ((namespace["metadata"] as JsonObject)["deletionTimestamp"] === undefined) return;
    if (tries > 10) {
      for (const kind of ["Pod", "NetworkPolicy"] as const) {
        const inside = (await all(api, kind)).filter((object) => nameOf(object).namespace === name);
        for (const object of inside) await remove(api, kind, nameOf(object));
      }
      await api
        .requestJson("PUT", `${objectPath(API_RESOURCES.Namespace, name)}/finalize`, { body: { ...namespace, spec: { finalizers: [] } } })
        .catch((error: unknown) => {
          if (!(error instanceof ApiError)) throw error;
        });
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Asks again every 20 ms until it is so; throws with the name of what did not come when the time is over. */
export async function poll(what: string, timeoutMs: number, isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
