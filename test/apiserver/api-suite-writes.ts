// Writing: create, replace, three kinds of patch, server-side apply, status, delete.
import { describe, expect, it } from "vitest";
import { at, type Body, type Json, textAt } from "./api-client.ts";
import { type GetScope, PODS, POLICIES, POOLS, podManifest, policyManifest, poolManifest, uniqueName } from "./api-objects.ts";

const MERGE = "application/merge-patch+json";
const JSON_PATCH = "application/json-patch+json";
const STRATEGIC = "application/strategic-merge-patch+json";
const APPLY = "application/apply-patch+yaml";

export function writeCases(scope: GetScope): void {
  describe("writes", () => {
    it("an EndpointSlice: defaults, columns, what is refused, a type that stays", async () => {
      const { api, namespace } = scope();
      const path = `/apis/discovery.k8s.io/v1/namespaces/${await namespace()}/endpointslices`;
      const slice = (more: Body): Body => ({ apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice", metadata: { name: "web-1" }, ...more });
      const good = {
        addressType: "IPv4",
        ports: [{ port: 80 }],
        endpoints: [{ addresses: ["10.0.0.1"], conditions: { ready: true } }, { addresses: ["10.0.0.2"] }],
      };
      const refused: readonly (readonly [Body, string])[] = [
        [{ ...good, addressType: "IPv5" }, "addressType"],
        [{ ...good, endpoints: [{ addresses: ["::1"] }] }, "endpoints[0].addresses[0]"],
        [{ ...good, endpoints: [{ addresses: [] }] }, "endpoints[0].addresses"],
        [{ ...good, ports: [{ port: 80, protocol: "ICMP" }] }, "ports[0].protocol"],
      ];
      for (const [bad, field] of refused) {
        const { code, body } = await api.ask("POST", path, { body: slice(bad) });
        expect([code, (at(body, "details", "causes") as Json[]).map((cause) => at(cause, "field"))], field).toEqual([422, expect.arrayContaining([field])]);
      }
      const { code, body } = await api.ask("POST", path, { body: slice(good) });
      expect(code).toBe(201);
      expect(body).toMatchObject({ metadata: { generation: 1 }, ports: [{ name: "", port: 80, protocol: "TCP" }] });
      const moved = await api.ask("PATCH", `${path}/web-1`, { body: { addressType: "IPv6", endpoints: [] }, type: MERGE });
      expect(moved).toMatchObject({ code: 422, body: { message: expect.stringContaining("field is immutable") } });
      const table = (await api.ask("GET", path, { accept: "application/json;as=Table;v=v1;g=meta.k8s.io" })).body;
      expect((at(table, "columnDefinitions") as Json[]).map((column) => at(column, "name"))).toEqual(["Name", "AddressType", "Ports", "Endpoints", "Age"]);
      expect((at(table, "rows", 0, "cells") as Json[]).slice(0, 4)).toEqual(["web-1", "IPv4", "80", "10.0.0.1,10.0.0.2"]);
    });

    it("create: server-owned metadata, defaults, 201; again → 409 AlreadyExists", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const { code, body } = await api.ask("POST", PODS(ns), { body: podManifest("web") });
      expect(code).toBe(201);
      expect(body).toMatchObject({
        kind: "Pod",
        apiVersion: "v1",
        metadata: {
          name: "web",
          namespace: ns,
          uid: expect.stringMatching(/^[0-9a-f-]{36}$/),
          resourceVersion: expect.stringMatching(/^\d+$/),
          creationTimestamp: expect.stringMatching(/^\d{4}-.*Z$/),
        },
        spec: {
          restartPolicy: "Always",
          dnsPolicy: "ClusterFirst",
          containers: [{ name: "main", ports: [{ containerPort: 8080, protocol: "TCP" }], imagePullPolicy: "IfNotPresent" }],
        },
        status: { phase: "Pending" },
      });
      expect((await api.ask("POST", PODS(ns), { body: podManifest("web") })).body).toMatchObject({
        code: 409,
        reason: "AlreadyExists",
        message: 'pods "web" already exists',
      });
    });

    it("create: generateName, missing namespace, wrong namespace, wrong kind", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const generated = await api.ask("POST", POLICIES(ns), { body: { ...policyManifest(""), metadata: { generateName: "deny-" } } });
      expect(at(generated.body, "metadata", "name")).toMatch(/^deny-[a-z0-9]{5}$/);
      expect((await api.ask("POST", PODS("no-such-namespace"), { body: podManifest("x") })).body).toMatchObject({
        code: 404,
        message: 'namespaces "no-such-namespace" not found',
      });
      expect((await api.ask("POST", PODS(ns), { body: { ...podManifest("x"), metadata: { name: "x", namespace: "other" } } })).code).toBe(400);
      expect((await api.ask("POST", PODS(ns), { body: policyManifest("x") })).code).toBe(400);
      expect((await api.ask("POST", PODS(ns), { body: "{not an object" })).code).toBe(400);
    });

    it("a namespace carries its own name as a label", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      expect((await api.ask("GET", `/api/v1/namespaces/${ns}`)).body).toMatchObject({
        metadata: { labels: { "kubernetes.io/metadata.name": ns } },
        spec: { finalizers: ["kubernetes"] },
        status: { phase: "Active" },
      });
    });

    it("replace: needs the version it read; the same content is no change", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const made = (await api.ask("POST", POLICIES(ns), { body: policyManifest("p") })).body;
      const changed = (
        await api.ask("PUT", `${POLICIES(ns)}/p`, { body: { ...made, spec: { podSelector: { matchLabels: { a: "b" } }, policyTypes: ["Egress"] } } })
      ).body;
      expect(at(changed, "metadata", "generation")).toBe(2);
      expect((await api.ask("PUT", `${POLICIES(ns)}/p`, { body: made })).body).toMatchObject({
        code: 409,
        reason: "Conflict",
        message: expect.stringContaining("the object has been modified"),
      });
      const same = (await api.ask("PUT", `${POLICIES(ns)}/p`, { body: changed })).body;
      expect(at(same, "metadata", "resourceVersion")).toBe(at(changed, "metadata", "resourceVersion"));
      expect((await api.ask("PUT", `${POLICIES(ns)}/other`, { body: changed })).code).toBe(400);
      expect((await api.ask("PUT", `${POLICIES(ns)}/absent`, { body: policyManifest("absent") })).code).toBe(404);
    });

    it("merge patch: null deletes, lists are replaced, a stale version conflicts", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      await api.ask("POST", POLICIES(ns), { body: policyManifest("p", { podSelector: { matchLabels: { a: "1", b: "2" } }, ingress: [{}] }) });
      const path = `${POLICIES(ns)}/p`;
      const { body } = await api.ask("PATCH", path, {
        type: MERGE,
        body: { metadata: { labels: { x: "y" } }, spec: { podSelector: { matchLabels: { a: null, c: "3" } }, ingress: [] } },
      });
      expect(body).toMatchObject({ metadata: { labels: { x: "y" } }, spec: { podSelector: { matchLabels: { b: "2", c: "3" } } } });
      expect(at(body, "spec", "podSelector", "matchLabels", "a")).toBeUndefined();
      expect((await api.ask("PATCH", path, { type: MERGE, body: { metadata: { resourceVersion: "1", labels: { z: "z" } } } })).code).toBe(409);
    });

    it("JSON patch: operations in order, a failing test changes nothing", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      await api.ask("POST", PODS(ns), { body: podManifest("p", { labels: { a: "1" } }) });
      const path = `${PODS(ns)}/p`;
      const done = await api.ask("PATCH", path, {
        type: JSON_PATCH,
        body: [
          { op: "test", path: "/metadata/labels/a", value: "1" },
          { op: "add", path: "/metadata/labels/x~1y", value: "2" },
          { op: "remove", path: "/metadata/labels/a" },
        ],
      });
      expect(at(done.body, "metadata", "labels")).toEqual({ "x/y": "2" });
      const failed = await api.ask("PATCH", path, {
        type: JSON_PATCH,
        body: [
          { op: "add", path: "/metadata/labels/z", value: "z" },
          { op: "test", path: "/metadata/labels/x~1y", value: "other" },
        ],
      });
      expect(failed.code).toBe(422);
      expect(at((await api.ask("GET", path)).body, "metadata", "labels")).toEqual({ "x/y": "2" });
    });

    it("strategic patch: containers by name, environment by name, deletion by directive; custom kinds refuse it", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const spec = {
        containers: [
          { name: "a", image: "registry.example/a:1", env: [{ name: "X", value: "1" }] },
          { name: "b", image: "registry.example/b:1" },
        ],
        tolerations: [{ key: "k", operator: "Exists" }],
      };
      await api.ask("POST", PODS(ns), { body: podManifest("p", { spec }) });
      const { body } = await api.ask("PATCH", `${PODS(ns)}/p`, {
        type: STRATEGIC,
        body: { spec: { containers: [{ name: "b", image: "registry.example/b:2" }] } },
      });
      expect((at(body, "spec", "containers") as Json[]).map((container) => at(container, "image"))).toEqual(["registry.example/a:1", "registry.example/b:2"]);
      const status = await api.ask("PATCH", `${PODS(ns)}/p/status`, {
        type: STRATEGIC,
        body: { status: { podIPs: [{ ip: "10.0.0.1" }], podIP: "10.0.0.1", conditions: [{ type: "Ready", status: "True" }] } },
      });
      expect(at(status.body, "status", "podIPs")).toEqual([{ ip: "10.0.0.1" }]);
      const more = await api.ask("PATCH", `${PODS(ns)}/p/status`, {
        type: STRATEGIC,
        body: {
          status: {
            conditions: [
              { type: "Ready", status: "False" },
              { type: "Other", status: "True" },
            ],
          },
        },
      });
      expect(
        (at(more.body, "status", "conditions") as Json[]).map((condition) => `${textAt(condition, "type")}=${textAt(condition, "status")}`).sort(),
      ).toEqual(["Other=True", "Ready=False"]);
      const gone = await api.ask("PATCH", `${PODS(ns)}/p/status`, { type: STRATEGIC, body: { status: { conditions: [{ type: "Other", $patch: "delete" }] } } });
      expect((at(gone.body, "status", "conditions") as Json[]).map((condition) => at(condition, "type"))).toEqual(["Ready"]);
      const name = uniqueName("pool");
      await api.ask("POST", POOLS, { body: poolManifest(name, { cidr: "10.2.0.0/16" }) });
      expect((await api.ask("PATCH", `${POOLS}/${name}`, { type: STRATEGIC, body: { spec: { disabled: true } } })).code).toBe(415);
    });

    it("status subresource: the main resource leaves the status, /status leaves the rest", async () => {
      const { api } = scope();
      const name = uniqueName("pool");
      await api.ask("POST", POOLS, { body: { ...poolManifest(name, { cidr: "10.3.0.0/16" }), status: { conditions: [] } } });
      const path = `${POOLS}/${name}`;
      const condition = { type: "Allocatable", status: "True", reason: "OK", lastTransitionTime: "2026-01-01T00:00:00Z" };
      const status = await api.ask("PATCH", `${path}/status`, { type: MERGE, body: { spec: { disabled: true }, status: { conditions: [condition] } } });
      expect(status.body).toMatchObject({ spec: { disabled: false }, status: { conditions: [condition] }, metadata: { generation: 1 } });
      const main = await api.ask("PATCH", path, { type: MERGE, body: { spec: { disabled: true }, status: { conditions: [] } } });
      expect(main.body).toMatchObject({ spec: { disabled: true }, status: { conditions: [condition] }, metadata: { generation: 2 } });
    });

    it("server-side apply: creates, owns, conflicts by name, force takes, what is dropped goes", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const path = `${PODS(ns)}/p`;
      const apply = (manager: string, labels: Body, force = false): Promise<{ code: number; body: Body }> =>
        api.ask("PATCH", `${path}?fieldManager=${manager}${force ? "&force=true" : ""}`, {
          type: APPLY,
          body: { apiVersion: "v1", kind: "Pod", metadata: { name: "p", labels }, ...(manager === "one" ? { spec: podManifest("p")["spec"] ?? {} } : {}) },
        });
      expect((await apply("one", { a: "1", b: "1" })).code).toBe(201);
      expect((await apply("one", { a: "1", b: "1" })).code).toBe(200);
      const conflict = await apply("two", { b: "2", c: "2" });
      expect(conflict.body).toMatchObject({
        code: 409,
        reason: "Conflict",
        message: 'Apply failed with 1 conflict: conflict with "one": .metadata.labels.b',
        details: { causes: [{ reason: "FieldManagerConflict", field: ".metadata.labels.b", message: 'conflict with "one"' }] },
      });
      expect((await apply("two", { b: "2", c: "2" }, true)).code).toBe(200);
      const dropped = await apply("two", { b: "2" });
      expect(at(dropped.body, "metadata", "labels")).toEqual({ a: "1", b: "2" });
      expect(at((await apply("one", {})).body, "metadata", "labels")).toEqual({ b: "2" });
      const managers = at(dropped.body, "metadata", "managedFields") as Json[];
      expect(managers.find((entry) => at(entry, "manager") === "two")).toMatchObject({
        operation: "Apply",
        apiVersion: "v1",
        fieldsType: "FieldsV1",
        fieldsV1: { "f:metadata": { "f:labels": { "f:b": {} } } },
      });
      expect((await api.ask("PATCH", path, { type: APPLY, body: podManifest("p") })).code).toBe(422);
    });

    it("a plain update takes ownership, so an apply of the old value conflicts", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const path = `${POLICIES(ns)}/p`;
      const applied = policyManifest("p", { podSelector: {}, policyTypes: ["Ingress"] });
      await api.ask("PATCH", `${path}?fieldManager=config`, { type: APPLY, body: applied });
      await api.ask("PATCH", `${path}?fieldManager=hand`, { type: MERGE, body: { spec: { policyTypes: ["Egress"] } } });
      const again = await api.ask("PATCH", `${path}?fieldManager=config`, { type: APPLY, body: applied });
      expect(again.body).toMatchObject({
        code: 409,
        details: { causes: [{ field: ".spec.policyTypes", message: expect.stringContaining('conflict with "hand" using networking.k8s.io/v1') }] },
      });
    });

    it("delete: preconditions, then gone", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const made = (await api.ask("POST", POLICIES(ns), { body: policyManifest("p") })).body;
      const path = `${POLICIES(ns)}/p`;
      const options = (preconditions: Body): Body => ({ kind: "DeleteOptions", apiVersion: "v1", preconditions });
      expect((await api.ask("DELETE", path, { body: options({ uid: "00000000-0000-0000-0000-000000000000" }) })).body).toMatchObject({
        code: 409,
        reason: "Conflict",
      });
      expect((await api.ask("DELETE", path, { body: options({ resourceVersion: "1" }) })).code).toBe(409);
      const gone = await api.ask("DELETE", path, {
        body: options({ uid: at(made, "metadata", "uid") ?? "", resourceVersion: at(made, "metadata", "resourceVersion") ?? "" }),
      });
      expect(gone.body).toMatchObject({ kind: "Status", status: "Success", details: { name: "p", kind: "networkpolicies" } });
      expect((await api.ask("DELETE", path)).code).toBe(404);
    });

    it("finalizers hold an object until they are taken off", async () => {
      const { api } = scope();
      const name = uniqueName("pool");
      const path = `${POOLS}/${name}`;
      await api.ask("POST", POOLS, { body: { ...poolManifest(name, { cidr: "10.4.0.0/16" }), metadata: { name, finalizers: ["sedge.network/test"] } } });
      expect((await api.ask("DELETE", path)).code).toBe(200);
      expect(at((await api.ask("GET", path)).body, "metadata", "deletionTimestamp")).toMatch(/Z$/);
      expect((await api.ask("PATCH", path, { type: MERGE, body: { metadata: { finalizers: ["sedge.network/test", "sedge.network/late"] } } })).code).toBe(422);
      await api.ask("PATCH", path, { type: MERGE, body: { metadata: { finalizers: null } } });
      expect((await api.ask("GET", path)).code).toBe(404);
    });

    it("deletecollection takes what the selector names", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      for (const [name, app] of [
        ["a", "web"],
        ["b", "db"],
        ["c", "web"],
      ] as const)
        await api.ask("POST", POLICIES(ns), { body: { ...policyManifest(name), metadata: { name, labels: { app } } } });
      expect((await api.ask("DELETE", `${POLICIES(ns)}?labelSelector=app%3Dweb`)).code).toBe(200);
      expect(((await api.ask("GET", POLICIES(ns))).body["items"] as Json[]).map((item) => at(item, "metadata", "name"))).toEqual(["b"]);
    });

    it("dryRun=All answers as if, and does nothing", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      expect((await api.ask("POST", `${POLICIES(ns)}?dryRun=All`, { body: policyManifest("p") })).code).toBe(201);
      expect((await api.ask("GET", `${POLICIES(ns)}/p`)).code).toBe(404);
      await api.ask("POST", POLICIES(ns), { body: policyManifest("p") });
      const patched = await api.ask("PATCH", `${POLICIES(ns)}/p?dryRun=All`, { type: MERGE, body: { metadata: { labels: { a: "b" } } } });
      expect(at(patched.body, "metadata", "labels")).toEqual({ a: "b" });
      await api.ask("DELETE", `${POLICIES(ns)}/p?dryRun=All`);
      expect(at((await api.ask("GET", `${POLICIES(ns)}/p`)).body, "metadata", "labels")).toBeUndefined();
    });

    it("binding puts a pod on a node, once", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      await api.ask("POST", PODS(ns), { body: podManifest("p") });
      const binding = { apiVersion: "v1", kind: "Binding", metadata: { name: "p" }, target: { kind: "Node", name: "n1" } };
      expect((await api.ask("POST", `${PODS(ns)}/p/binding`, { body: binding })).code).toBe(201);
      expect(at((await api.ask("GET", `${PODS(ns)}/p`)).body, "spec", "nodeName")).toBe("n1");
      expect((await api.ask("POST", `${PODS(ns)}/p/binding`, { body: binding })).code).toBe(409);
    });

    it("leases: the same write twice with one version, the second loses", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const path = `/apis/coordination.k8s.io/v1/namespaces/${ns}/leases`;
      const made = (
        await api.ask("POST", path, {
          body: { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name: "l" }, spec: { holderIdentity: "a", leaseDurationSeconds: 15 } },
        })
      ).body;
      const take = (holderIdentity: string): Promise<{ code: number }> => api.ask("PUT", `${path}/l`, { body: { ...made, spec: { holderIdentity } } });
      const codes = [(await take("b")).code, (await take("c")).code];
      expect(codes).toEqual([200, 409]);
    });
  });
}
