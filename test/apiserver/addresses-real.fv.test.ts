import { describe, it } from "vitest";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { readCrdManifests } from "../../src/datastore/embedded/start.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { describeAddresses } from "./address-suite.ts";
import { kubeApiserverAvailable, startKubeApiserver } from "./start.ts";

const unavailable = kubeApiserverAvailable();
if (unavailable !== undefined) describe.skip(`addresses on kube-apiserver (${unavailable})`, () => it("needs it", () => undefined));
else
  describeAddresses("kube-apiserver", async () => {
    const server = await startKubeApiserver();
    const client = new ApiClient({ connection: await findConnection({ file: server.kubeconfig, environment: {} }) });
    const kinds = ["IPPool", "IPAMBlock", "BlockAffinity"] as const;
    const names = new Set(kinds.map((kind) => `${API_RESOURCES[kind].plural}.projectcalico.org`));
    for (const crd of readCrdManifests())
      if (names.has((crd as { readonly metadata: { readonly name: string } }).metadata.name))
        await client.requestJson("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", { body: crd });
    for (const kind of kinds) {
      const isServed = (): Promise<boolean> =>
        client.list(API_RESOURCES[kind]).then(
          () => true,
          () => false,
        );
      while (!(await isServed())) await systemClock.sleep(50);
    }
    client.close();
    return { kubeconfig: server.kubeconfig, hasEviction: true, [Symbol.asyncDispose]: () => server.stop() };
  });
