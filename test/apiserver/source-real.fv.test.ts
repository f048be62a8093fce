import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "vitest";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { readCrdManifests } from "../../src/datastore/embedded/start.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { describeSource } from "./source-suite.ts";
import { kubeApiserverAvailable, startKubeApiserver } from "./start.ts";

const unavailable = kubeApiserverAvailable();
if (unavailable !== undefined) describe.skip(`source on kube-apiserver (${unavailable})`, () => it("needs it", () => undefined));
else
  describeSource("kube-apiserver", async () => {
    const dir = await mkdtemp(join(tmpdir(), "sedge-source-"));
    let server = await startKubeApiserver({ dir });
    const connection = await findConnection({ file: server.kubeconfig, environment: {} });
    await installCrds(new ApiClient({ connection }));
    return {
      connection,
      async restart() {
        await server.kill();
        server = await startKubeApiserver({ dir });
      },
      compact: () => server.compact(),
      async [Symbol.asyncDispose]() {
        await server.kill();
        await rm(dir, { recursive: true, force: true });
      },
    };
  });

/** Creates the definitions and waits until their kinds are served. */
async function installCrds(client: ApiClient): Promise<void> {
  for (const crd of readCrdManifests()) await client.requestJson("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", { body: crd });
  for (const kind of ["IPPool", "IPAMBlock", "BlockAffinity"] as const) {
    while (
      !(await client.list(API_RESOURCES[kind]).then(
        () => true,
        () => false,
      ))
    )
      await systemClock.sleep(50);
  }
  client.close();
}
