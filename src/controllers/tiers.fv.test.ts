import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ApiClient } from "../datastore/api-client.ts";
import { API_RESOURCES, apiVersionOf } from "../datastore/api-resources.ts";
import { fixedConnection } from "../datastore/connection.ts";
import { type EmbeddedApi, startEmbeddedApi } from "../datastore/embedded/start.ts";
import { type JsonObject, objectAt } from "../datastore/json-object.ts";
import type { ResourceKind } from "../model/resource.ts";
import { systemClock } from "../runtime/clock.ts";
import { silentLogger } from "../runtime/log.ts";
import { TIER_FINALIZER, TierController } from "./tiers.ts";

let api: EmbeddedApi;
let client: ApiClient;
let controller: TierController;
const { signal } = new AbortController();

beforeAll(async () => {
  api = await startEmbeddedApi({});
  client = new ApiClient({ connection: fixedConnection(api.url, { ca: api.certificateAuthority, headers: { authorization: `Bearer ${api.token}` } }) });
  controller = new TierController({ client, clock: systemClock, log: silentLogger(), intervalMs: 1 });
});
afterAll(async () => {
  client.close();
  await api.close();
});
beforeEach(() => controller.pass(signal));

async function create(kind: ResourceKind, name: string, spec: JsonObject): Promise<void> {
  const resource = API_RESOURCES[kind];
  const metadata = { name, ...(resource.isNamespaced ? { namespace: "default" } : {}) };
  await client.create(resource, { apiVersion: apiVersionOf(resource), kind: resource.kind, metadata, spec });
}

/** "kube-admin 1000 Pass", sorted by order. */
async function tiers(): Promise<readonly string[]> {
  const { items } = await client.list(API_RESOURCES.Tier);
  const found = items as { metadata: { name: string }; spec: { order: number; defaultAction: string } }[];
  return found.toSorted((a, b) => a.spec.order - b.spec.order).map(({ metadata, spec }) => `${metadata.name} ${spec.order} ${spec.defaultAction}`);
}

async function ready(name: string): Promise<unknown> {
  const conditions = objectAt(await client.get(API_RESOURCES.Tier, { name }), "status")?.["conditions"];
  return Array.isArray(conditions) ? (conditions[0] as unknown) : undefined;
}

const BUILT_IN = ["kube-admin 1000 Pass", "default 1000000 Deny", "kube-baseline 10000000 Pass"];

describe("TierController", () => {
  it("makes the built-in tiers once, and again when one was deleted", async () => {
    expect(await tiers()).toEqual(BUILT_IN);
    await client.delete(API_RESOURCES.Tier, { name: "kube-admin" });
    await controller.pass(signal);
    await controller.pass(signal);
    expect(await tiers()).toEqual(BUILT_IN);
    expect(await ready("default")).toMatchObject({ type: "Ready", status: "True" });
  });

  it.each<[ResourceKind, string, JsonObject]>([
    ["GlobalNetworkPolicy", "GlobalNetworkPolicy p", { tier: "t" }],
    ["CalicoNetworkPolicy", "NetworkPolicy.projectcalico.org default/p", { tier: "t" }],
    ["StagedNetworkPolicy", "StagedNetworkPolicy default/p", { tier: "t" }],
  ])("a tier with a %s is not deleted before that is gone, and says why", async (kind, label, spec) => {
    await create("Tier", "t", { order: 5 });
    await create(kind, "p", spec);
    await controller.pass(signal);
    const { finalizers } = objectAt(await client.get(API_RESOURCES.Tier, { name: "t" }), "metadata") as { finalizers: string[] };
    expect(finalizers).toEqual([TIER_FINALIZER]);
    await client.delete(API_RESOURCES.Tier, { name: "t" });
    await controller.pass(signal);
    expect(await ready("t")).toMatchObject({ status: "False", reason: "Terminating", message: expect.stringContaining(`there is ${label}`) });
    await client.delete(API_RESOURCES[kind], { name: "p", namespace: "default" });
    await controller.pass(signal);
    expect(await tiers()).toEqual(BUILT_IN);
  });

  it("what is ready already is not written again", async () => {
    await controller.pass(signal);
    const before = (await client.list(API_RESOURCES.Tier)).resourceVersion;
    const versions = async (): Promise<unknown> =>
      (await client.list(API_RESOURCES.Tier)).items.map((item) => objectAt(item as JsonObject, "metadata")?.["resourceVersion"]);
    const first = await versions();
    await controller.pass(signal);
    expect([await versions(), before]).toEqual([first, before]);
  });
});
