// The embedded API against the suite that the real one passes too.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedApi } from "../../src/datastore/embedded/start.ts";
import { describeApi } from "./api-suite.ts";

await describeApi("embedded API", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sedge-api-"));
  const api = await startEmbeddedApi({ dataDir: join(directory, "data") });
  const kubeconfigPath = join(directory, "kubeconfig");
  await writeFile(kubeconfigPath, api.kubeconfig, { mode: 0o600 });
  return {
    kubeconfigPath,
    async close() {
      await api.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
