/** The one object about the whole, written to the embedded API by a server that leads, as kubectl's table shows it. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { ApiError } from "../../src/datastore/api-error.ts";
import { objectPath } from "../../src/datastore/api-resources.ts";
import { startEmbeddedApi } from "../../src/datastore/embedded/start.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { GrpcAgent, node, startFanout, upsert } from "../../test/fakes/fanout-fixture.ts";
import { ClusterStatusWriter, SEDGE_STATUS, SEDGE_STATUS_NAME } from "./cluster-status-writer.ts";

describe("ClusterStatusWriter", () => {
  it("makes the object, says which node has no server when that has lasted, and that all is well when it is", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sedge-status-"));
    const api = await startEmbeddedApi({ dataDir: directory });
    await writeFile(join(directory, "kubeconfig"), api.kubeconfig);
    const client = new ApiClient({ connection: await findConnection({ file: join(directory, "kubeconfig"), environment: {} }) });
    const f = await startFanout({ events: upsert(node("n1", 1), node("n2", 2)), serverName: "pod-a" });
    onTestFinished(async () => {
      await f.stop();
      client.close();
      await api.close();
      await rm(directory, { recursive: true, force: true });
    });
    const clock = new ManualClock();
    let isInSync = false;
    const writer = new ClusterStatusWriter({ client, tier: f.server.tier, isInSync: () => isInSync, clock, log: silentLogger() });
    const { signal } = new AbortController();
    expect(await writer.pass(signal)).toBe("none");
    isInSync = true;

    const agents = ["n1", "n2"].map((name) => new GrpcAgent({ address: f.address, node: name }));
    onTestFinished(() => agents.forEach((agent) => agent[Symbol.dispose]()));
    await vi.waitFor(() => expect([...f.server.sessions.clients].filter(({ isLevel }) => isLevel)).toHaveLength(2), { timeout: 10_000, interval: 5 });
    expect(await writer.pass(signal)).toBe("written");
    expect(await writer.pass(signal)).toBe("none");

    /** Its last answers are used for two seconds. */
    const tierHas = (nodes: readonly string[]): Promise<void> =>
      vi.waitFor(async () => expect((await f.server.tier.collect()).heard.map(({ report }) => report.nodes)).toEqual([nodes]), {
        timeout: 10_000,
        interval: 50,
      });
    const table = async (): Promise<unknown> => {
      const answer = await fetchTable(client);
      const { columnDefinitions, rows } = answer as { columnDefinitions: { name: string }[]; rows: { cells: unknown[] }[] };
      return Object.fromEntries(columnDefinitions.map(({ name }, i) => [name, rows[0]?.cells[i]]));
    };
    expect(await table()).toMatchObject({
      Name: "default",
      Ready: "True",
      Servers: "1/1",
      Nodes: "2/2",
      Programmed: "2/2",
      Policies: "AllInForce",
      Certificates: "Valid",
      Summary: "all is well",
    });

    agents[1]?.[Symbol.dispose]();
    await tierHas(["n1"]);
    expect(await writer.pass(signal)).toBe("none");
    await clock.advance(16_000);
    expect(await writer.pass(signal)).toBe("written");
    expect(await table()).toMatchObject({ Ready: "True", Nodes: "1/2", Summary: "1 node has no server: n2" });

    // Another leader begins from what is there: nothing to write.
    const next = new ClusterStatusWriter({ client, tier: f.server.tier, isInSync: () => true, clock, log: silentLogger() });
    expect(await next.pass(signal)).toBe("none");
    // And what somebody else wrote meanwhile is not overwritten unseen.
    const present = await client.get(SEDGE_STATUS, { name: SEDGE_STATUS_NAME });
    await client.update(SEDGE_STATUS, { ...present, status: { ...(present["status"] as object), summary: "by hand" } }, { subresource: "status" });
    agents[0]?.[Symbol.dispose]();
    await tierHas([]);
    await writer.pass(signal);
    await clock.advance(16_000);
    await expect(writer.pass(signal)).rejects.toThrow(ApiError);
  });
});

/** As kubectl asks for it. */
async function fetchTable(client: ApiClient): Promise<unknown> {
  const { url } = client.connection;
  const { headers, ...tls } = await client.connection.credentials();
  const { request } = url.protocol === "http:" ? await import("node:http") : await import("node:https");
  return new Promise((resolve, reject) => {
    const options = {
      ...tls,
      host: url.hostname,
      port: url.port,
      path: objectPath(SEDGE_STATUS, SEDGE_STATUS_NAME),
      headers: { ...headers, accept: "application/json;as=Table;v=v1;g=meta.k8s.io" },
    };
    request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => resolve(JSON.parse(Buffer.concat(chunks).toString())));
    })
      .on("error", reject)
      .end();
  });
}
