/** The status that a policy gets on an API: what is written, when, and what is not. The same on the embedded API and on kube-apiserver. */
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import type { Pace } from "../../fanout/policy-status/pace.ts";
import { PolicyStatusWriter } from "../../fanout/policy-status/writer.ts";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { API_RESOURCES, apiVersionOf } from "../../src/datastore/api-resources.ts";
import type { ApiConnection } from "../../src/datastore/connection.ts";
import { type JsonObject, objectAt, stringAt } from "../../src/datastore/json-object.ts";
import { ClusterSource } from "../../src/datastore/source.ts";
import type { ResourceKind } from "../../src/model/resource.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { type FanoutFixture, GrpcAgent, startFanout } from "../fakes/fanout-fixture.ts";

export interface StatusApi extends AsyncDisposable {
  readonly connection: ApiConnection;
}

interface ConditionText {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime: string;
}

const NAMESPACE = "default";
const PACE: Pace = { settleMs: 0, textMs: 0 };

export function describePolicyStatus(name: string, start: () => Promise<StatusApi>): void {
  describe(`status of policies on ${name}`, () => {
    let api: StatusApi;
    let client: ApiClient;
    let fanout: FanoutFixture;
    const stopping = new AbortController();
    let running: Promise<void>;
    const agents = new Map<string, GrpcAgent>();

    beforeAll(async () => {
      api = await start();
      client = new ApiClient({ connection: api.connection });
      const source: ClusterSource = new ClusterSource({ client, clock: systemClock, log: silentLogger(), sink: (events) => fanout.server.sink(events) });
      fanout = await startFanout({ upstreamVersions: () => new Map(source.kinds().map(({ kind, resourceVersion }) => [kind, resourceVersion])) });
      running = source.run(stopping.signal);
      for (const node of ["n1", "n2"]) {
        await create("Node", { metadata: { name: node } });
        const address = { type: "InternalIP", address: `192.168.0.${node.slice(1)}` };
        await client.patch(API_RESOURCES.Node, { name: node }, { status: { addresses: [address] } }, { type: "merge", subresource: "status" });
        await makePod(`web-${node}`, node);
      }
      await vi.waitFor(() => expect(fanout.server.engine.isInSync).toBe(true), { timeout: 60_000 });
      for (const node of ["n1", "n2"]) agents.set(node, new GrpcAgent({ address: fanout.address, node }));
    }, 180_000);

    afterAll(async () => {
      for (const agent of agents.values()) agent[Symbol.dispose]();
      stopping.abort();
      await running;
      await fanout.stop();
      client.close();
      await api[Symbol.asyncDispose]();
    }, 60_000);

    const create = (kind: ResourceKind, object: JsonObject): Promise<JsonObject> => {
      const resource = API_RESOURCES[kind];
      const namespaced = resource.isNamespaced ? { namespace: NAMESPACE } : {};
      return client.create(resource, {
        apiVersion: apiVersionOf(resource),
        kind: resource.kind,
        ...object,
        metadata: { ...namespaced, ...objectAt(object, "metadata") },
      });
    };
    const makePod = async (pod: string, node: string): Promise<void> => {
      await create("Pod", {
        metadata: { name: pod, labels: { app: "web" } },
        spec: { nodeName: node, automountServiceAccountToken: false, containers: [{ name: "c", image: "i" }] },
      });
    };
    const get = (kind: ResourceKind, policy: string): Promise<JsonObject> => client.get(API_RESOURCES[kind], { name: policy, namespace: NAMESPACE });
    const conditionsOf = async (kind: ResourceKind, policy: string): Promise<Readonly<Record<string, ConditionText>>> => {
      const list = (objectAt(await get(kind, policy), "status")?.["conditions"] ?? []) as readonly ConditionText[];
      return Object.fromEntries(list.map((condition) => [condition.type, condition]));
    };
    const versionOf = async (kind: ResourceKind, policy: string): Promise<string> =>
      stringAt(objectAt(await get(kind, policy), "metadata"), "resourceVersion") ?? "";
    /** A leader of its own for each test. */
    const lead = (pace: Pace = PACE): { readonly writer: PolicyStatusWriter; readonly outcomes: string[] } => {
      const outcomes: string[] = [];
      const writer = new PolicyStatusWriter({
        client,
        statuses: fanout.server.policies,
        clock: systemClock,
        log: silentLogger(),
        intervalMs: 20,
        writesPerSecond: 1_000,
        pace,
        onWrite: (outcome) => outcomes.push(outcome),
      });
      const stop = new AbortController();
      const leading = writer.run(stop.signal);
      onTestFinished(async () => {
        stop.abort();
        await leading;
      });
      return { writer, outcomes };
    };
    const until = <T>(check: () => Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 20 });

    it("a policy that is in force says so, with the generation that it is of; a change of the spec, with the next", async () => {
      lead();
      await create("GlobalNetworkPolicy", { metadata: { name: "plain" }, spec: { selector: "app == 'web'", ingress: [{ action: "Allow" }] } });
      await until(async () =>
        expect(await conditionsOf("GlobalNetworkPolicy", "plain")).toMatchObject({
          Accepted: { status: "True", observedGeneration: 1 },
          Programmed: { status: "True", reason: "Programmed", observedGeneration: 1, message: "in force on all 2 nodes that it concerns" },
        }),
      );
      await client.patch(API_RESOURCES.GlobalNetworkPolicy, { name: "plain" }, { spec: { order: 7 } }, { type: "merge" });
      await until(async () =>
        expect(await conditionsOf("GlobalNetworkPolicy", "plain")).toMatchObject({ Programmed: { status: "True", observedGeneration: 2 } }),
      );
    });

    it("every kind that has a status; a NetworkPolicy of Kubernetes has none", async () => {
      lead();
      const rules = { selector: "app == 'web'", ingress: [{ action: "Allow" }] };
      await create("CalicoNetworkPolicy", { metadata: { name: "all" }, spec: rules });
      await create("ClusterNetworkPolicy", { metadata: { name: "all" }, spec: { tier: "Admin", priority: 5, subject: { namespaces: {} } } });
      await create("StagedGlobalNetworkPolicy", { metadata: { name: "all" }, spec: rules });
      await create("StagedNetworkPolicy", { metadata: { name: "all" }, spec: rules });
      await create("StagedKubernetesNetworkPolicy", { metadata: { name: "all" }, spec: { podSelector: {} } });
      await create("NetworkPolicy", { metadata: { name: "all" }, spec: { podSelector: {} } });
      for (const kind of ["CalicoNetworkPolicy", "ClusterNetworkPolicy"] as const)
        await until(async () => expect(await conditionsOf(kind, "all"), kind).toMatchObject({ Accepted: { status: "True" }, Programmed: { status: "True" } }));
      for (const kind of ["StagedGlobalNetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy"] as const)
        await until(async () => expect(await conditionsOf(kind, "all"), kind).toMatchObject({ Programmed: { status: "False", reason: "Staged" } }));
      expect(objectAt(await get("NetworkPolicy", "all"), "status")).toBeUndefined();
    });

    it("nodes that lag are named, and the condition's time stays until its status changes", async () => {
      lead();
      await create("GlobalNetworkPolicy", { metadata: { name: "lags" }, spec: { selector: "app == 'web'" } });
      const programmed = async (): Promise<ConditionText | undefined> => (await conditionsOf("GlobalNetworkPolicy", "lags"))["Programmed"];
      await until(async () => expect(await programmed()).toMatchObject({ status: "True" }));
      const since = (await programmed())?.lastTransitionTime;
      const agent = agents.get("n2");
      if (agent === undefined) throw new Error("no agent");
      agent.failed = [{ key: "policy/GlobalNetworkPolicy//lags", reason: "no room in the kernel" }];
      agent.acknowledge();
      await until(async () =>
        expect(await programmed()).toMatchObject({ status: "False", reason: "NodesLag", message: "in force on 1 of 2 nodes; n2: no room in the kernel" }),
      );
      agent.failed = [];
      agent.acknowledge();
      await until(async () => expect(await programmed()).toMatchObject({ status: "True" }));
      const accepted = (await conditionsOf("GlobalNetworkPolicy", "lags"))["Accepted"];
      expect(accepted?.lastTransitionTime).toBe(since);
    });

    it("what cannot be enforced is named with its field, and conditions of others stay", async () => {
      lead();
      const http = { selector: "app == 'web'", ingress: [{ action: "Allow", protocol: "TCP", http: { methods: ["GET"] } }] };
      await create("GlobalNetworkPolicy", { metadata: { name: "http" }, spec: http });
      await until(async () =>
        expect(await conditionsOf("GlobalNetworkPolicy", "http")).toMatchObject({
          Accepted: { status: "False", reason: "NotEnforceable", message: expect.stringContaining("spec.ingress[0].http: needs a layer 7 proxy") },
          Programmed: { status: "True" },
        }),
      );
      const other = { type: "Reviewed", status: "True", reason: "Ok", message: "", lastTransitionTime: "2026-01-01T00:00:00Z" };
      const { apiVersion, kind } = await get("GlobalNetworkPolicy", "http");
      const object = { apiVersion, kind, metadata: { name: "http" }, status: { conditions: [other] } };
      await client.patch(API_RESOURCES.GlobalNetworkPolicy, { name: "http" }, object, { type: "apply", fieldManager: "people", subresource: "status" });
      await client.patch(API_RESOURCES.GlobalNetworkPolicy, { name: "http" }, { spec: { ingress: [{ action: "Allow" }] } }, { type: "merge" });
      await until(async () =>
        expect(await conditionsOf("GlobalNetworkPolicy", "http")).toMatchObject({ Accepted: { status: "True" }, Reviewed: { status: "True" } }),
      );
    });

    it("nothing is written that is there: not by a leader that goes on, nor by the next one", async () => {
      // A policy that joins a stack is behind everywhere for a moment, and the others of the stack with it.
      const pace = { settleMs: 60_000, textMs: 300_000 };
      const first = lead(pace);
      await create("GlobalNetworkPolicy", { metadata: { name: "quiet" }, spec: { selector: "app == 'web'" } });
      await until(async () => expect(await conditionsOf("GlobalNetworkPolicy", "quiet")).toMatchObject({ Programmed: { status: "True" } }));
      const version = await versionOf("GlobalNetworkPolicy", "quiet");
      const written = first.outcomes.length;
      const second = lead(pace);
      await create("GlobalNetworkPolicy", { metadata: { name: "marker" }, spec: { selector: "app == 'web'" } });
      await until(async () => expect(await conditionsOf("GlobalNetworkPolicy", "marker")).toMatchObject({ Programmed: { status: "True" } }));
      expect(await versionOf("GlobalNetworkPolicy", "quiet")).toBe(version);
      expect(first.outcomes.length - written + second.outcomes.length).toBeLessThanOrEqual(2);
    });

    it("a policy that is deleted and made anew gets its status again", async () => {
      lead();
      const make = (): Promise<JsonObject> => create("CalicoNetworkPolicy", { metadata: { name: "again" }, spec: { selector: "app == 'web'" } });
      const check = (): Promise<void> =>
        until(async () => expect(await conditionsOf("CalicoNetworkPolicy", "again")).toMatchObject({ Programmed: { status: "True", observedGeneration: 1 } }));
      await make();
      await check();
      await client.delete(API_RESOURCES.CalicoNetworkPolicy, { name: "again", namespace: NAMESPACE });
      await make();
      await check();
    });

    it("kubectl's column shows it", async () => {
      lead();
      await create("GlobalNetworkPolicy", { metadata: { name: "column" }, spec: { selector: "app == 'web'" } });
      const table = "application/json;as=Table;v=v1;g=meta.k8s.io";
      await until(async () => {
        const answer = await client.requestJson("GET", "/apis/projectcalico.org/v3/globalnetworkpolicies/column", { accept: table });
        const columns = (answer["columnDefinitions"] as { name: string }[]).map(({ name: column }) => column);
        const [row] = answer["rows"] as { cells: unknown[] }[];
        expect(row?.cells[columns.indexOf("Programmed")]).toBe("True");
      });
    });
  });
}
