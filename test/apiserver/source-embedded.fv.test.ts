import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fixedConnection } from "../../src/datastore/connection.ts";
import { startEmbeddedApi } from "../../src/datastore/embedded/start.ts";
import { describeSource } from "./source-suite.ts";

describeSource("the embedded API", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "sedge-source-"));
  let api = await startEmbeddedApi({ dataDir });
  let historyChanges: number | undefined;
  const { port } = new URL(api.url);
  return {
    connection: fixedConnection(api.url, { ca: api.certificateAuthority, headers: { authorization: `Bearer ${api.token}` } }),
    async restart() {
      await api.close();
      api = await startEmbeddedApi({ dataDir, port: Number(port), ...(historyChanges === undefined ? {} : { historyChanges }) });
    },
    // It keeps its history over a restart, as far as it is told to.
    compact() {
      historyChanges = 1;
      return Promise.resolve();
    },
    async [Symbol.asyncDispose]() {
      await api.close();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
});
