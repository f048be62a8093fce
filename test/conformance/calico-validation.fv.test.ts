/** The definitions in manifests/crds on the real kube-apiserver: all install, and refuse what they should. */
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { API_RESOURCES, collectionPath } from "../../src/datastore/api-resources.ts";
import { resourceKindOf } from "../../src/model/parse-resource.ts";
import { ApiClient, type Json } from "../apiserver/api-client.ts";
import { findGoTool, type KubeApiserver, startKubeApiserver } from "../apiserver/start.ts";
import { CALICO_VALIDATION_CASES } from "./cases/calico-validation.ts";

const CRDS = new URL("../../manifests/crds/", import.meta.url);
const isBuilt = findGoTool("kube-apiserver") !== undefined;

describe.skipIf(!isBuilt)("definitions (skipped without kube-apiserver: node scripts/build-go-tools.mjs kube-apiserver)", () => {
  let server: KubeApiserver;
  let client: ApiClient;

  beforeAll(async () => {
    server = await startKubeApiserver();
    client = new ApiClient(server.kubeconfig);
    for (const file of readdirSync(CRDS)) {
      const answer = await client.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
        body: parse(readFileSync(new URL(file, CRDS), "utf8")) as Json,
      });
      expect([file, answer.code, answer.code === 201 ? "" : answer.text]).toEqual([file, 201, ""]);
    }
    for (const { object } of CALICO_VALIDATION_CASES) {
      const kind = resourceKindOf(object);
      if (kind !== undefined)
        while ((await client.ask("GET", collectionPath(API_RESOURCES[kind]))).code === 404) await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });

  afterAll(async () => {
    client.close();
    await server.stop();
  });

  it("take and refuse what the cases say", async () => {
    const differing: string[] = [];
    for (const { name, isValid, isBeyondSchema, object } of CALICO_VALIDATION_CASES) {
      const kind = resourceKindOf(object);
      if (kind === undefined) throw new Error(`${name}: of no known kind`);
      const answer = await client.ask("POST", `${collectionPath(API_RESOURCES[kind], "default")}?dryRun=All&fieldValidation=Strict`, { body: object as Json });
      const isTaken = answer.code < 300;
      if (isTaken !== (isValid || isBeyondSchema === true)) differing.push(`${name}: ${answer.code} ${answer.text.slice(0, 400)}`);
    }
    expect(differing).toEqual([]);
  });
});
