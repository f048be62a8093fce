// One description of how a Kubernetes API behaves, for the kinds that Sedge uses. It runs on the embedded API and on the real kube-apiserver:
// what it says is true of both, so that whatever works against one works against the other.
//
// Every case makes a namespace of its own and depends on no other. Not here: what differs on purpose (docs/embedded-api.md).
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { ApiClient, at, type Body, type Json, textAt } from "./api-client.ts";
import { type Scope, uniqueName } from "./api-objects.ts";
import { kubectlCases } from "./api-suite-kubectl.ts";
import { readCases } from "./api-suite-reads.ts";
import { validationCases } from "./api-suite-validation.ts";
import { writeCases } from "./api-suite-writes.ts";

export interface ApiUnderTest {
  readonly kubeconfigPath: string;
  close(): Promise<void>;
}

/** `start` gives the API, or the reason why it is not there. */
export async function describeApi(name: string, start: () => Promise<ApiUnderTest | string>): Promise<void> {
  const started = await start();
  if (typeof started === "string") {
    it.skip(`${name}: skipped, ${started}`, () => undefined);
    return;
  }
  describe(name, () => {
    const api = new ApiClient(started.kubeconfigPath);
    const scope: Scope = {
      api,
      kubeconfigPath: started.kubeconfigPath,
      async namespace() {
        const namespace = uniqueName("t");
        const { code, text } = await api.ask("POST", "/api/v1/namespaces", { body: { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } } });
        if (code !== 201) throw new Error(`namespace ${namespace}: HTTP ${code} ${text}`);
        return namespace;
      },
    };
    beforeAll(() => installCrds(api));
    afterAll(async () => {
      api.close();
      await started.close();
    });
    readCases(() => scope);
    writeCases(() => scope);
    validationCases(() => scope);
    kubectlCases(() => scope);
  });
}

async function installCrds(api: ApiClient): Promise<void> {
  const directory = fileURLToPath(new URL("../../manifests/crds/", import.meta.url));
  const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  for (const file of readdirSync(directory).sort()) {
    for (const document of parseAllDocuments(readFileSync(`${directory}${file}`, "utf8"))) {
      const crd = document.toJS() as Body;
      const created = await api.ask("POST", path, { body: crd });
      if (created.code !== 201 && created.code !== 409) throw new Error(`${file}: HTTP ${created.code} ${created.text}`);
      const watch = await api.watch(`${path}?watch=true&fieldSelector=metadata.name=${textAt(crd, "metadata", "name")}`);
      for (let event = await watch.next(); event !== undefined && !isEstablished(event.object); ) event = await watch.next();
      watch.close();
      const served = `/apis/${textAt(crd, "spec", "group")}/${textAt(crd, "spec", "versions", 0, "name")}/${textAt(crd, "spec", "names", "plural")}`;
      // The real server serves a new kind a little after it says so; each round is one request.
      while ((await api.ask("GET", served)).code === 404) await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

function isEstablished(crd: Body): boolean {
  const conditions = (at(crd, "status", "conditions") ?? []) as Json[];
  return conditions.some((condition) => at(condition, "type") === "Established" && at(condition, "status") === "True");
}
