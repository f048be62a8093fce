/** A server that loses its API: it keeps serving, says how old its data is, and stays ready for what it can do. */

import { credentials, type ServiceError, status } from "@grpc/grpc-js";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { NodeName } from "../src/model/names.ts";
import type { Report } from "../src/runtime/health.ts";
import type { GetStatusResponse } from "../src/wire/gen/sedge/sync/v1/introspection.ts";
import { IntrospectionServiceClient } from "../src/wire/service.ts";
import { CHANNEL_OPTIONS, GrpcAgent, namespace, node, pod, pool, startFanout, upsert } from "../test/fakes/fanout-fixture.ts";

const WORLD = upsert(node("n1", 1), namespace("shop"), pool(), pod("shop", "web", { node: "n1" as NodeName }));
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 20_000, interval: 5 });

describe("freshness", () => {
  it("S18 without its API: heartbeats and status say stale and how old, new agents get the view, ready stays true; while it lists anew too", async () => {
    let ageMs = 50;
    const reports: Report[] = [];
    await using f = await startFanout({
      events: WORLD,
      upstreamAgeMs: () => ageMs,
      onReport: (report) => void reports.push(report),
      settings: { staleAfterMs: 1000 },
    });
    const agentOf = (name: string): GrpcAgent => {
      const agent = new GrpcAgent({ address: f.address, node: name });
      onTestFinished(() => agent[Symbol.dispose]());
      return agent;
    };
    const heartbeatOf = (agent: GrpcAgent): unknown => agent.outputs.findLast((output) => output.kind === "heartbeat");
    const first = agentOf("n1");
    await until(() => expect(heartbeatOf(first)).toMatchObject({ heartbeat: { stale: false, upstreamAgeMs: 50n } }));
    ageMs = 61_000;
    await until(() => expect(heartbeatOf(first)).toMatchObject({ heartbeat: { stale: true, upstreamAgeMs: 61_000n } }));
    const second = agentOf("n2");
    await until(() => expect(second.isLive).toBe(true));
    expect(second.view.size).toBeGreaterThan(0);
    const client = new IntrospectionServiceClient(f.address, credentials.createInsecure(), CHANNEL_OPTIONS);
    onTestFinished(() => client.close());
    const found = await new Promise<GetStatusResponse>((resolve, reject) => {
      client.getStatus({}, (error: ServiceError | null, value: GetStatusResponse) => (error === null ? resolve(value) : reject(error)));
    });
    expect([found.stale, found.upstreamAgeMs, found.syncStatus]).toEqual([true, 61_000n, "in-sync"]);
    await until(() => expect(reports.at(-1)).toEqual({ live: true, ready: true, detail: "in-sync, stale: nothing heard of the API for 61 s" }));
    // The API is back and everything is listed anew: what is known is still the best there is.
    f.server.sink([{ kind: "status", status: "resync" }]);
    ageMs = 5;
    await until(() => expect(reports.at(-1)).toEqual({ live: true, ready: true, detail: "resync" }));
    await f.stop();
    expect(reports.at(-1)).toMatchObject({ live: true, ready: false, detail: "draining" });
  });

  it("S18 before the cluster is known: live, not ready", async () => {
    const reports: Report[] = [];
    await using f = await startFanout({ onReport: (report) => void reports.push(report) });
    await until(() => expect(reports.at(-1)).toMatchObject({ live: true, ready: false }));
    expect(f.server.engine.isInSync).toBe(false);
  });

  it("S16 a server whose watches stand behind what the agent has from another refuses over the wire, until they have come as far", async () => {
    let behind = "100";
    await using a = await startFanout({ events: WORLD, upstreamVersions: () => new Map([["Pod", "200"]]) });
    await using b = await startFanout({ events: WORLD, upstreamVersions: () => new Map([["Pod", behind]]) });
    const first = new GrpcAgent({ address: a.address, node: "n1" });
    await until(() => expect(first.isLive).toBe(true));
    first[Symbol.dispose]();
    await until(() => expect(first.status).toBeDefined());
    expect([...first.view.upstream]).toEqual([["Pod", 200n]]);
    const refused = new GrpcAgent({ address: b.address, node: "n1", view: first.view });
    await until(() => expect(refused.status?.code).toBe(status.UNAVAILABLE));
    expect(refused.status?.details).toContain("Pod objects up to resourceVersion 100");
    expect(refused.status?.metadata.get("retry-after-ms")).toEqual(["2000"]);
    refused[Symbol.dispose]();
    behind = "201";
    // A bookmark moves the watch without an event; the server looks once a second.
    await until(() => {
      b.server.engine.refreshVersions();
      const again = new GrpcAgent({ address: b.address, node: "n1", view: first.view });
      onTestFinished(() => again[Symbol.dispose]());
      return until(() => expect(again.isLive).toBe(true));
    });
    // Only objects move what an agent is told: the bookmark did not.
    expect([...first.view.upstream]).toEqual([["Pod", 100n]]);
  });

  it("S16 a server that seems to be behind finds out where its watch stands: the agent is served at its next try", async () => {
    let version = "100";
    const asked: string[] = [];
    await using a = await startFanout({ events: WORLD, upstreamVersions: () => new Map([["Pod", "200"]]) });
    await using b = await startFanout({
      events: WORLD,
      upstreamVersions: () => new Map([["Pod", version]]),
      catchUp: (kind) => {
        asked.push(kind);
        version = "200";
        return Promise.resolve();
      },
    });
    const first = new GrpcAgent({ address: a.address, node: "n1" });
    await until(() => expect(first.isLive).toBe(true));
    first[Symbol.dispose]();
    const refused = new GrpcAgent({ address: b.address, node: "n1", view: first.view });
    await until(() => expect(refused.status?.code).toBe(status.UNAVAILABLE));
    expect(asked).toEqual(["Pod"]);
    const again = new GrpcAgent({ address: b.address, node: "n1", view: first.view });
    onTestFinished(() => again[Symbol.dispose]());
    await until(() => expect(again.isLive).toBe(true));
  });
});
