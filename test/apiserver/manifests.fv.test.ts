/** manifests/ on a real kube-apiserver: every object is accepted, and each program's account may do exactly what the program does. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse as parseYaml } from "yaml";
import { ClusterStatusWriter, SEDGE_STATUS } from "../../fanout/tier/cluster-status-writer.ts";
import { Members } from "../../fanout/tier/members.ts";
import { TierController } from "../../src/controllers/tiers.ts";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { ApiError } from "../../src/datastore/api-error.ts";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { clusterUid } from "../../src/datastore/cluster-uid.ts";
import type { ApiConnection } from "../../src/datastore/connection.ts";
import { readCrdManifests } from "../../src/datastore/embedded/start.ts";
import { type JsonObject, objectAt } from "../../src/datastore/json-object.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { Leader } from "../../src/datastore/lease.ts";
import { ClusterSource } from "../../src/datastore/source.ts";
import { AddressWriter } from "../../src/datastore/writer.ts";
import { affinityName, blockName } from "../../src/ipam/block.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NodeName } from "../../src/model/names.ts";
import { RESOURCE_KINDS, type ResourceKind } from "../../src/model/resource.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { renderCluster, renderNamespace } from "../../src/operator/render/cluster.ts";
import { renderMonitoring } from "../../src/operator/render/monitoring.ts";
import type { KubeObject } from "../../src/operator/render/object.ts";
import { DEFAULT_VALUES, DEFAULT_NAMESPACE as NAMESPACE } from "../../src/operator/render/values.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { type KubeApiserver, kubeApiserverAvailable, startKubeApiserver } from "./start.ts";

const unavailable = kubeApiserverAvailable();
const groups = renderCluster({ namespace: NAMESPACE, values: DEFAULT_VALUES });
const objects = groups.flatMap((group) => group.objects);

describe.skipIf(unavailable !== undefined)(`manifests on kube-apiserver${unavailable === undefined ? "" : ` (${unavailable})`}`, () => {
  let server: KubeApiserver;
  let connection: ApiConnection;
  let admin: ApiClient;
  /** What the API server itself grants to every account: to ask who it is and what it may do, and the like. */
  let everybodys: ReadonlySet<string>;
  beforeAll(async () => {
    server = await startKubeApiserver();
    connection = await findConnection({ file: server.kubeconfig, environment: {} });
    admin = new ApiClient({ connection });
    for (const crd of readCrdManifests()) await admin.requestJson("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", { body: crd });
    for (const kind of RESOURCE_KINDS) while (!(await isServed(admin, kind))) await systemClock.sleep(50);
    await create(renderNamespace(NAMESPACE));
    for (const object of objects.filter(({ kind }) => kind === "ServiceAccount" || /Role/.test(kind))) await create(object);
    await create({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: BARE, namespace: NAMESPACE } });
    const bare = await clientOf(BARE);
    everybodys = new Set(await allRules(bare));
    bare.close();
  }, 180_000);
  afterAll(async () => {
    admin.close();
    await server.stop();
  }, 60_000);

  const create = (object: KubeObject, query: Record<string, string> = {}): Promise<JsonObject> =>
    admin.requestJson("POST", collectionOf(object), { body: object, query });

  /** A client that is a service account of the manifests and nobody else. */
  const clientOf = async (account: string): Promise<ApiClient> => {
    const path = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${account}/token`;
    const answer = await admin.requestJson("POST", path, { body: { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: {} } });
    const { token } = answer["status"] as { token: string };
    const { ca } = await connection.credentials();
    const credentials = { headers: { authorization: `Bearer ${token}` }, ...(ca === undefined ? {} : { ca }) };
    return new ApiClient({ connection: { url: connection.url, origin: account, credentials: () => Promise.resolve(credentials) } });
  };

  it.each(
    objects.filter(({ kind }) => kind !== "ServiceAccount" && !/Role/.test(kind)).map((object) => [`${object.kind} ${object.metadata.name}`, object] as const),
  )("%s is accepted, with no field unknown", async (_name, object) => {
    await expect(create(object, { dryRun: "All", fieldValidation: "Strict" })).resolves.toMatchObject({ kind: object.kind });
  });

  it("the example of an autoscaler is accepted, with no field unknown", async () => {
    const example = parseYaml(renderMonitoring().get("autoscaler.yaml") ?? "") as KubeObject;
    await expect(create(example, { dryRun: "All", fieldValidation: "Strict" })).resolves.toMatchObject({ kind: "HorizontalPodAutoscaler" });
  });

  it("the server's account: the real source reaches in-sync and follows, the real writer claims and reports", async () => {
    const client = await clientOf("sedge-fanout");
    expect(await clusterUid(client)).not.toBe("");
    const stop = new AbortController();
    const events: ClusterEvent[] = [];
    let wake = (): void => undefined;
    const source = new ClusterSource({
      client,
      clock: systemClock,
      log: silentLogger(),
      sink: (batch) => {
        events.push(...batch);
        wake();
      },
    });
    const running = source.run(stop.signal);
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition())
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    };
    await until(() => source.status === "in-sync");
    expect(source.counters().reconnectsRefused).toBe(0);

    const cidr = parseCidr("10.81.0.0/26");
    const node = "n1" as NodeName;
    const writer = new AddressWriter({ client, clock: systemClock });
    const affinity = { kind: "BlockAffinity", name: affinityName(node, cidr), resourceVersion: "", cidr, node, state: "pending", isDeleted: false } as const;
    const block = { kind: "IPAMBlock", name: blockName(cidr), resourceVersion: "", cidr, node, allocations: [], isDeleted: false } as const;
    const claimed = await writer.create<"BlockAffinity">(affinity);
    const made = await writer.create<"IPAMBlock">(block);
    if (claimed.kind !== "written" || made.kind !== "written") throw new Error(`${claimed.kind}, ${made.kind}`);
    const confirmed = await writer.update<"BlockAffinity">({ ...claimed.value, state: "confirmed" }, claimed);
    if (confirmed.kind !== "written") throw new Error(confirmed.kind);
    expect((await writer.update<"IPAMBlock">(made.value)).kind).toBe("written");
    expect((await writer.read("IPAMBlock", block.name)).kind).toBe("found");
    expect((await writer.delete("BlockAffinity", confirmed.value)).kind).toBe("deleted");
    await until(() => events.some((event) => event.kind === "upsert" && event.resource.kind === "IPAMBlock" && event.resource.name === block.name));
    stop.abort();
    await running;

    const policy = { apiVersion: "projectcalico.org/v3", kind: "GlobalNetworkPolicy", metadata: { name: "p" } };
    await admin.create(API_RESOURCES.GlobalNetworkPolicy, policy);
    const condition = { type: "Programmed", status: "True", reason: "Programmed", message: "", lastTransitionTime: "2026-01-01T00:00:00Z" };
    const apply = { type: "apply", fieldManager: "sedge-policy-status", force: true } as const;
    const status = { ...policy, status: { conditions: [condition] } };
    await client.patch(API_RESOURCES.GlobalNetworkPolicy, { name: "p" }, status, { ...apply, subresource: "status" });
    await expect(client.patch(API_RESOURCES.GlobalNetworkPolicy, { name: "p" }, { ...policy, spec: { order: 1 } }, apply)).rejects.toMatchObject({
      status: 403,
    });
    const leading = new AbortController();
    const lease = { namespace: NAMESPACE, name: "sedge-fanout", identity: "a", leaseMs: 2_000 };
    let led = false;
    const work = (): Promise<void> => {
      led = true;
      leading.abort();
      return Promise.resolve();
    };
    await new Leader({ client, clock: systemClock, log: silentLogger(), ...lease, work }).run(leading.signal);
    expect(led).toBe(true);

    // The one object about the whole, made and written by the server that leads.
    const members = new Members({ serverName: "pod-a", peers: [] });
    const tier = { members, collect: () => Promise.resolve({ heard: [], unheard: [], unready: [] }) };
    const cluster = new ClusterStatusWriter({ client, tier, isInSync: () => true, clock: systemClock, log: silentLogger() });
    expect(await cluster.pass(new AbortController().signal)).toBe("written");
    expect(await cluster.pass(new AbortController().signal)).toBe("none");
    expect(objectAt(await admin.get(SEDGE_STATUS, { name: "default" }), "status")).toMatchObject({ servers: "0/0", summary: expect.any(String) });

    expect(await allowed(client)).toEqual([...rulesOf("ClusterRole", "sedge-fanout"), ...rulesOf("Role", "sedge-fanout-lease")].sort());
    await expectForbidden(client, NOT_FOR_ANYBODY);
    await expectForbidden(client, [
      ["DELETE", "/apis/projectcalico.org/v3/ippools/p"],
      ["POST", "/apis/projectcalico.org/v3/ippools"],
      ["PUT", `/apis/projectcalico.org/v3/ipamblocks/${block.name}/status`],
      ["GET", `/api/v1/namespaces/${NAMESPACE}`],
      ["PUT", "/apis/sedge.network/v1/sedgestatuses/default"],
      ["PUT", "/apis/sedge.network/v1/sedgestatuses/another/status"],
      ["DELETE", "/apis/sedge.network/v1/sedgestatuses/default"],
      ["POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases"],
      ["PUT", `/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/sedge-controllers`],
    ]);
    client.close();
  });

  it("the controllers' account: what they do, and nothing else", async () => {
    const client = await clientOf("sedge-controllers");
    for (const kind of ["IPPool", "IPAMBlock", "BlockAffinity", "Pod", "Node"] as const) await client.list(API_RESOURCES[kind]);
    const tiers = new TierController({ client, clock: systemClock, log: silentLogger(), intervalMs: 1 });
    const { signal } = new AbortController();
    await tiers.pass(signal);
    await tiers.pass(signal);
    const ready = { conditions: [{ type: "Ready", status: "True" }] };
    expect((await client.list(API_RESOURCES.Tier)).items).toMatchObject(
      ["default", "kube-admin", "kube-baseline"].map((name) => ({ metadata: { name }, status: ready })),
    );
    await admin.delete(API_RESOURCES.Tier, { name: "kube-admin" });
    await tiers.pass(signal);
    await tiers.pass(signal);
    expect((await client.list(API_RESOURCES.Tier)).items).toHaveLength(3);
    expect(await allowed(client)).toEqual([...rulesOf("ClusterRole", "sedge-controllers"), ...rulesOf("Role", "sedge-controllers-lease")].sort());
    await expectForbidden(client, NOT_FOR_ANYBODY);
    await expectForbidden(client, [
      ["POST", "/apis/projectcalico.org/v3/ipamblocks"],
      ["PUT", `/apis/coordination.k8s.io/v1/namespaces/${NAMESPACE}/leases/another`],
      ["POST", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"],
      ["GET", "/apis/networking.k8s.io/v1/networkpolicies"],
    ]);
    client.close();
  });

  it.each(["agent", "relay"])("the %s's account may do nothing", async (component) => {
    const client = await clientOf(`sedge-${component}`);
    expect(await allowed(client)).toEqual([]);
    await expectForbidden(client, [
      ...NOT_FOR_ANYBODY,
      ...Object.values(API_RESOURCES)
        .filter(({ group }) => !group.includes("calico"))
        .map(({ group, version, plural }): Request => ["GET", group === "" ? `/api/${version}/${plural}` : `/apis/${group}/${version}/${plural}`]),
      ["GET", "/apis/projectcalico.org/v3/ipamblocks"],
    ]);
    client.close();
  });

  /** What the account may do beyond an account that is bound to nothing. */
  async function allowed(client: ApiClient): Promise<string[]> {
    return (await allRules(client)).filter((text) => !everybodys.has(text));
  }

  /** As "group/resource[/name] verb", sorted. */
  async function allRules(client: ApiClient): Promise<string[]> {
    const review = { apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectRulesReview", spec: { namespace: NAMESPACE } };
    const answer = await client.requestJson("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", { body: review });
    const { resourceRules, incomplete } = answer["status"] as { resourceRules: RuleText[]; incomplete: boolean };
    expect(incomplete).toBe(false);
    return flat(resourceRules);
  }
});

const BARE = "bound-to-nothing";

type Request = readonly [method: "GET" | "POST" | "PUT" | "DELETE", path: string];

const NOT_FOR_ANYBODY: readonly Request[] = [
  ["GET", `/api/v1/namespaces/${NAMESPACE}/secrets`],
  ["GET", "/api/v1/configmaps"],
  ["POST", `/api/v1/namespaces/${NAMESPACE}/pods`],
  ["PUT", "/api/v1/nodes/n1"],
  ["DELETE", "/api/v1/nodes/n1"],
  ["DELETE", "/apis/projectcalico.org/v3/ippools/p"],
  ["POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"],
  ["POST", `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/sedge-fanout/token`],
];

async function expectForbidden(client: ApiClient, requests: readonly Request[]): Promise<void> {
  for (const [method, path] of requests) {
    const outcome = await client.requestJson(method, path, method === "GET" ? {} : { body: {} }).then(
      () => "allowed",
      (error: unknown) => (error instanceof ApiError ? error.status : error),
    );
    expect(outcome, `${method} ${path}`).toBe(403);
  }
}

interface RuleText {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

function flat(rules: readonly RuleText[]): string[] {
  return rules
    .flatMap(({ apiGroups, resources, resourceNames = [""], verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => resourceNames.flatMap((name) => verbs.map((verb) => `${group}/${resource}${name === "" ? "" : `/${name}`} ${verb}`))),
      ),
    )
    .sort();
}

function rulesOf(kind: string, name: string): string[] {
  const role = objects.find((object) => object.kind === kind && object.metadata.name === name);
  return flat(role?.["rules"] as readonly RuleText[]);
}

const PLURALS: Readonly<Record<string, string>> = { NetworkPolicy: "networkpolicies" };

function collectionOf({ apiVersion, kind, metadata }: KubeObject): string {
  const root = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
  const scope = metadata.namespace === undefined ? "" : `/namespaces/${metadata.namespace}`;
  return `${root}${scope}/${PLURALS[kind] ?? `${kind.toLowerCase()}s`}`;
}

async function isServed(client: ApiClient, kind: ResourceKind): Promise<boolean> {
  return client.list(API_RESOURCES[kind]).then(
    () => true,
    () => false,
  );
}
