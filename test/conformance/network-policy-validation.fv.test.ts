/** What the parser takes and refuses, against the real kube-apiserver, with its strict field validation. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseNetworkPolicy } from "../../src/model/parse-network-policy.ts";
import { ApiClient, type Json } from "../apiserver/api-client.ts";
import { findGoTool, type KubeApiserver, startKubeApiserver } from "../apiserver/start.ts";
import { VALIDATION_SPECS } from "./cases/validation.ts";

const isBuilt = findGoTool("kube-apiserver") !== undefined;

describe.skipIf(!isBuilt)("parseNetworkPolicy (skipped without kube-apiserver: node scripts/build-go-tools.mjs kube-apiserver)", () => {
  let server: KubeApiserver;
  let client: ApiClient;

  beforeAll(async () => {
    server = await startKubeApiserver();
    client = new ApiClient(server.kubeconfig);
  });

  afterAll(async () => {
    await server.stop();
  });

  it("takes what the API server takes, and refuses what it refuses", async () => {
    const differing: string[] = [];
    let refused = 0;
    for (const spec of VALIDATION_SPECS) {
      const object = { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy", metadata: { name: "p", namespace: "default" }, spec };
      const path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies?dryRun=All&fieldValidation=Strict";
      const answer = await client.ask("POST", path, { body: object as Json });
      // Older servers take host bits, and their objects stay: they are masked here, in manifests too.
      if (answer.text.includes("must not have bits set beyond the prefix length")) continue;
      const parsed = parseNetworkPolicy(object, { isStrict: true });
      if (answer.code >= 400) refused++;
      if (answer.code < 300 !== parsed.ok)
        differing.push(`${JSON.stringify(spec)}: the server says ${answer.code} ${JSON.stringify(answer.body["message"])}, we ${JSON.stringify(parsed)}`);
    }
    expect(differing).toEqual([]);
    // Both kinds are there, so that a server that answers everything alike is noticed.
    expect([refused > 50, VALIDATION_SPECS.length - refused > 50]).toEqual([true, true]);
  });
});
