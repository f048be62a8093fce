import { describe, it } from "vitest";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { readCrdManifests } from "../../src/datastore/embedded/start.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { STATUS_KINDS } from "../../src/model/policy-kinds.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { describePolicyStatus } from "./policy-status-suite.ts";
import { kubeApiserverAvailable, startKubeApiserver } from "./start.ts";

const unavailable = kubeApiserverAvailable();
if (unavailable !== undefined) describe.skip(`status of policies on kube-apiserver (${unavailable})`, () => it("needs it", () => undefined));
else
  describePolicyStatus("kube-apiserver", async () => {
    const server = await startKubeApiserver();
    const connection = await findConnection({ file: server.kubeconfig, environment: {} });
    const client = new ApiClient({ connection });
    for (const crd of readCrdManifests()) await client.requestJson("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", { body: crd });
    const isServed = (kind: Parameters<typeof STATUS_KINDS.has>[0]): Promise<boolean> =>
      client.list(API_RESOURCES[kind]).then(
        () => true,
        () => false,
      );
    for (const kind of STATUS_KINDS) while (!(await isServed(kind))) await systemClock.sleep(50);
    client.close();
    return { connection, [Symbol.asyncDispose]: () => server.stop() };
  });
