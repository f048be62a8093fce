// Reading: discovery, get, list, selectors, pages, watches, tables, refusals.
import { describe, expect, it } from "vitest";
import { at, type Body, type Json, textAt } from "./api-client.ts";
import { type GetScope, PODS, POLICIES, podManifest, policyManifest, uniqueName } from "./api-objects.ts";

function names(list: Body): Json[] {
  return ((at(list, "items") ?? []) as Json[]).map((item) => at(item, "metadata", "name") ?? null);
}

export function readCases(scope: GetScope): void {
  describe("reads", () => {
    it("wrong token → 401 Status", async () => {
      const { code, body } = await scope().api.ask("GET", "/api/v1/nodes", { token: "not-the-token" });
      expect({ code, kind: body["kind"], reason: body["reason"], status: body["status"] }).toEqual({
        code: 401,
        kind: "Status",
        reason: "Unauthorized",
        status: "Failure",
      });
    });

    it("health and version are open, unknown paths are a 404 Status", async () => {
      const { api } = scope();
      expect((await api.ask("GET", "/readyz", { token: "" })).text).toContain("ok");
      expect(at((await api.ask("GET", "/version")).body, "major")).toBe("1");
      expect((await api.ask("GET", "/apis/nothing.example/v1/things")).code).toBe(404);
      expect((await api.ask("GET", "/api/v1/namespaces/default/pods/nobody")).body).toMatchObject({
        kind: "Status",
        code: 404,
        reason: "NotFound",
        message: 'pods "nobody" not found',
        details: { name: "nobody", kind: "pods" },
      });
    });

    it("discovery names every kind with its verbs, plain and aggregated", async () => {
      const { api } = scope();
      const resources = at((await api.ask("GET", "/apis/networking.k8s.io/v1")).body, "resources") as Json[];
      expect(resources.find((line) => at(line, "name") === "networkpolicies")).toMatchObject({
        kind: "NetworkPolicy",
        namespaced: true,
        shortNames: ["netpol"],
        verbs: expect.arrayContaining(["create", "list", "patch", "watch"]),
      });
      const groups = await api.ask("GET", "/apis", { accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json" });
      const calico = (at(groups.body, "items") as Json[]).find((item) => at(item, "metadata", "name") === "projectcalico.org");
      expect((at(calico, "versions", 0, "resources") as Json[]).map((line) => at(line, "resource"))).toEqual(
        expect.arrayContaining(["ippools", "ipamblocks", "blockaffinities"]),
      );
    });

    it("openapi v3 describes the kinds and says that patch takes fieldValidation", async () => {
      const { api } = scope();
      // Right after its start the real server still collects the documents; each round is one request.
      let url: Json | undefined;
      while (typeof url !== "string") url = at((await api.ask("GET", "/openapi/v3")).body, "paths", "apis/networking.k8s.io/v1", "serverRelativeURL");
      const document = (await api.ask("GET", url)).body;
      const patch = at(document, "paths", "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}", "patch");
      expect((at(patch, "parameters") as Json[]).map((parameter) => at(parameter, "name"))).toContain("fieldValidation");
    });

    it("label selectors: every form", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      for (const [name, labels] of [
        ["a", { app: "web", env: "prod" }],
        ["b", { app: "db", env: "prod" }],
        ["c", { app: "web" }],
        ["d", {}],
      ] as const) {
        expect((await api.ask("POST", PODS(ns), { body: podManifest(name, { labels }) })).code).toBe(201);
      }
      const table: readonly (readonly [string, string[]])[] = [
        ["app=web", ["a", "c"]],
        ["app==web", ["a", "c"]],
        ["app!=web", ["b", "d"]],
        ["app in (web, db)", ["a", "b", "c"]],
        ["app notin (web)", ["b", "d"]],
        ["app", ["a", "b", "c"]],
        ["!app", ["d"]],
        ["app=web,env=prod", ["a"]],
        ["app=web,!env", ["c"]],
        ["env in (prod),app notin (db)", ["a"]],
        ["", ["a", "b", "c", "d"]],
      ];
      for (const [selector, expected] of table)
        expect([selector, names((await api.ask("GET", `${PODS(ns)}?labelSelector=${encodeURIComponent(selector)}`)).body)]).toEqual([selector, expected]);
      for (const wrong of ["app in web", "app=web,", "=x", "app in (web", "a b"]) {
        expect([wrong, (await api.ask("GET", `${PODS(ns)}?labelSelector=${encodeURIComponent(wrong)}`)).body["reason"]]).toEqual([wrong, "BadRequest"]);
      }
    });

    it("field selectors: name, node, phase; another field is a 400", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      await api.ask("POST", PODS(ns), { body: podManifest("on-n1", { spec: { nodeName: "n1" } }) });
      await api.ask("POST", PODS(ns), { body: podManifest("nowhere") });
      const ask = async (selector: string): Promise<Json[]> => names((await api.ask("GET", `${PODS(ns)}?fieldSelector=${encodeURIComponent(selector)}`)).body);
      expect(await ask("spec.nodeName=n1")).toEqual(["on-n1"]);
      expect(await ask("spec.nodeName!=n1,status.phase=Pending")).toEqual(["nowhere"]);
      expect(await ask("metadata.name=nowhere")).toEqual(["nowhere"]);
      expect(await ask("status.phase=Running")).toEqual([]);
      const wrong = await api.ask("GET", `${PODS(ns)}?fieldSelector=spec.nothing=1`);
      expect(wrong.body).toMatchObject({ code: 400, reason: "BadRequest", message: expect.stringContaining("field label not supported: spec.nothing") });
    });

    it("pages show one revision, whatever is written in between", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      for (const name of ["p1", "p2", "p3", "p4", "p5"]) await api.ask("POST", POLICIES(ns), { body: policyManifest(name) });
      const first = (await api.ask("GET", `${POLICIES(ns)}?limit=2`)).body;
      expect(names(first)).toEqual(["p1", "p2"]);
      expect(at(first, "metadata", "remainingItemCount")).toBe(3);
      await api.ask("POST", POLICIES(ns), { body: policyManifest("p2a") });
      await api.ask("DELETE", `${POLICIES(ns)}/p4`);
      const second = (await api.ask("GET", `${POLICIES(ns)}?limit=2&continue=${textAt(first, "metadata", "continue")}`)).body;
      expect(names(second)).toEqual(["p3", "p4"]);
      expect(at(second, "metadata", "resourceVersion")).toBe(at(first, "metadata", "resourceVersion"));
      const third = (await api.ask("GET", `${POLICIES(ns)}?limit=2&continue=${textAt(second, "metadata", "continue")}`)).body;
      expect(names(third)).toEqual(["p5"]);
      expect(at(third, "metadata", "continue") ?? "").toBe("");
      expect(names((await api.ask("GET", POLICIES(ns))).body)).toEqual(["p1", "p2", "p2a", "p3", "p5"]);
      const exact = await api.ask("GET", `${POLICIES(ns)}?resourceVersionMatch=Exact&resourceVersion=${textAt(first, "metadata", "resourceVersion")}`);
      expect(names(exact.body)).toEqual(["p1", "p2", "p3", "p4", "p5"]);
    });

    it("watch from a list: every change once and in order, with a selector what comes and goes", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const version = textAt((await api.ask("GET", POLICIES(ns))).body, "metadata", "resourceVersion");
      const all = await api.watch(`${POLICIES(ns)}?watch=true&resourceVersion=${version}`);
      const web = await api.watch(`${POLICIES(ns)}?watch=true&resourceVersion=${version}&labelSelector=app%3Dweb`);
      await api.ask("POST", POLICIES(ns), { body: { ...policyManifest("x"), metadata: { name: "x", labels: { app: "web" } } } });
      const relabel = (app: string): Promise<unknown> =>
        api.ask("PATCH", `${POLICIES(ns)}/x`, { type: "application/merge-patch+json", body: { metadata: { labels: { app } } } });
      await relabel("db");
      await relabel("web");
      await api.ask("DELETE", `${POLICIES(ns)}/x`);
      const seen: string[] = [];
      const versions: Json[] = [];
      for (let count = 0; count < 4; count++) {
        const event = await all.next();
        seen.push(`${event?.type} ${textAt(event?.object, "metadata", "labels", "app")}`);
        versions.push(at(event?.object, "metadata", "resourceVersion") ?? null);
      }
      expect(seen).toEqual(["ADDED web", "MODIFIED db", "MODIFIED web", "DELETED web"]);
      expect(new Set(versions).size).toBe(4);
      const filtered: (string | undefined)[] = [];
      for (let count = 0; count < 4; count++) filtered.push((await web.next())?.type);
      expect(filtered).toEqual(["ADDED", "DELETED", "ADDED", "DELETED"]);
      all.close();
      web.close();
      // Resuming at the second change shows what came after it, again.
      const resumed = await api.watch(`${POLICIES(ns)}?watch=true&resourceVersion=${textAt(versions[1])}`);
      expect([(await resumed.next())?.type, (await resumed.next())?.type]).toEqual(["MODIFIED", "DELETED"]);
      resumed.close();
    });

    it("watch without a version begins with what is there", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      await api.ask("POST", POLICIES(ns), { body: policyManifest("there") });
      const watch = await api.watch(`${POLICIES(ns)}?watch=true`);
      expect(at((await watch.next())?.object, "metadata", "name")).toBe("there");
      watch.close();
    });

    it("streaming list: ADDED for each object, then a bookmark that ends it", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      for (const name of ["a", "b"]) await api.ask("POST", POLICIES(ns), { body: policyManifest(name) });
      const watch = await api.watch(`${POLICIES(ns)}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true`);
      const events = [await watch.next({ withBookmarks: true }), await watch.next({ withBookmarks: true }), await watch.next({ withBookmarks: true })];
      watch.close();
      expect(events.map((event) => event?.type)).toEqual(["ADDED", "ADDED", "BOOKMARK"]);
      expect(at(events[2]?.object, "metadata", "annotations", "k8s.io/initial-events-end")).toBe("true");
      expect(events[2]?.object).toMatchObject({ kind: "NetworkPolicy", apiVersion: "networking.k8s.io/v1" });
      expect((await api.ask("GET", `${POLICIES(ns)}?watch=true&sendInitialEvents=true`)).body).toMatchObject({ code: 422, reason: "Invalid" });
    });

    it("timeoutSeconds ends a watch", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const short = await api.watch(`${PODS(ns)}?watch=true&timeoutSeconds=1`);
      expect(await short.next()).toBeUndefined();
    });

    it("a list newer than the server is a timeout with the cause ResourceVersionTooLarge", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      const answer = await api.ask("GET", `${PODS(ns)}?resourceVersion=${Number.MAX_SAFE_INTEGER}&resourceVersionMatch=NotOlderThan`);
      expect([answer.code, at(answer.body, "details", "causes", 0, "reason")]).toEqual([504, "ResourceVersionTooLarge"]);
    });

    it("tables: the columns that kubectl shows, metadata in each row", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      await api.ask("POST", POLICIES(ns), { body: policyManifest("shown", { podSelector: { matchLabels: { app: "web" } } }) });
      const accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
      const table = (await api.ask("GET", POLICIES(ns), { accept })).body;
      expect((at(table, "columnDefinitions") as Json[]).map((column) => at(column, "name"))).toEqual(["Name", "Pod-Selector", "Age"]);
      expect(at(table, "rows", 0, "cells", 1)).toBe("app=web");
      expect(at(table, "rows", 0, "object", "metadata", "name")).toBe("shown");
      const name = uniqueName("pool");
      await api.ask("POST", "/apis/projectcalico.org/v3/ippools", {
        body: { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec: { cidr: "10.1.0.0/16" } },
      });
      const pool = (await api.ask("GET", `/apis/projectcalico.org/v3/ippools/${name}`, { accept })).body;
      expect((at(pool, "columnDefinitions") as Json[]).map((column) => at(column, "name")).slice(0, 3)).toEqual(["Name", "CIDR", "Block size"]);
      expect(at(pool, "rows", 0, "cells", 1)).toBe("10.1.0.0/16");
    });

    it("metadata only, for those who want no more", async () => {
      const { api, namespace } = scope();
      const ns = await namespace();
      await api.ask("POST", PODS(ns), { body: podManifest("m", { labels: { a: "b" } }) });
      const { body } = await api.ask("GET", PODS(ns), { accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io" });
      expect(body["kind"]).toBe("PartialObjectMetadataList");
      expect(at(body, "items", 0, "metadata", "labels")).toEqual({ a: "b" });
      expect(at(body, "items", 0, "spec")).toBeUndefined();
    });
  });
}
