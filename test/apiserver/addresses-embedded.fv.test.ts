import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedApi } from "../../src/datastore/embedded/start.ts";
import { describeAddresses } from "./address-suite.ts";

describeAddresses("the embedded API", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sedge-addresses-"));
  const api = await startEmbeddedApi({ dataDir: directory });
  const kubeconfig = join(directory, "kubeconfig");
  await writeFile(kubeconfig, api.kubeconfig);
  return {
    kubeconfig,
    hasEviction: false,
    async [Symbol.asyncDispose]() {
      await api.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
