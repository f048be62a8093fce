import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { FakeApi, throttled } from "../../test/fakes/fake-api.ts";
import { type Answer, serveFakeApi, serveHttp } from "../../test/fakes/fake-api-http.ts";
import { startTcpProxy } from "../../test/fakes/tcp-proxy.ts";
import type { ClusterEvent } from "../model/event.ts";
import { systemClock } from "../runtime/clock.ts";
import { silentLogger } from "../runtime/log.ts";
import { ApiClient } from "./api-client.ts";
import { ApiError, ApiUnreachableError } from "./api-error.ts";
import { API_RESOURCES } from "./api-resources.ts";
import { fixedConnection } from "./connection.ts";
import { ClusterSource } from "./source.ts";

function clientOf(url: string, timeoutMs = 5_000): ApiClient {
  return new ApiClient({ connection: fixedConnection(url, { headers: { authorization: "Bearer t" } }), timeoutMs });
}

async function failureOf(answer: Answer, timeoutMs?: number): Promise<unknown> {
  await using server = await serveHttp(answer);
  const client = clientOf(server.url, timeoutMs);
  const failure: unknown = await client.list(API_RESOURCES.Pod).catch((error: unknown) => error);
  client.close();
  return failure;
}

describe("ApiClient: requests", () => {
  it("method, path, query, headers and body as the API wants them", async () => {
    const seen: unknown[] = [];
    await using server = await serveHttp(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const { accept, authorization, "content-type": type } = request.headers;
      seen.push({ request: `${request.method} ${request.url}`, accept, authorization, type, body: Buffer.concat(chunks).toString() });
      response.end('{"kind":"Status","metadata":{"resourceVersion":"1"}}');
    });
    const client = clientOf(`${server.url}/cluster-7/`);
    await client.list(API_RESOURCES.Pod, { namespace: "shop", query: { limit: 5, continue: undefined } });
    await client.patch(API_RESOURCES.Node, { name: "n1" }, { a: 1 }, { type: "apply", fieldManager: "me", subresource: "status" });
    await client.delete(API_RESOURCES.IPAMBlock, { name: "b" }, { resourceVersion: "7" });
    const authorization = "Bearer t";
    expect(seen).toEqual([
      {
        request: "GET /cluster-7/api/v1/namespaces/shop/pods?limit=5",
        accept: "application/vnd.kubernetes.protobuf, application/json",
        authorization,
        type: undefined,
        body: "",
      },
      {
        request: "PATCH /cluster-7/api/v1/nodes/n1/status?fieldManager=me&force=true",
        accept: "application/json",
        authorization,
        type: "application/apply-patch+yaml",
        body: '{"a":1}',
      },
      {
        request: "DELETE /cluster-7/apis/projectcalico.org/v3/ipamblocks/b",
        accept: "application/json",
        authorization,
        type: "application/json",
        body: '{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"resourceVersion":"7"}}',
      },
    ]);
    client.close();
  });

  it("a kept-alive connection that was closed meanwhile → a GET is sent again", async () => {
    const api = new FakeApi();
    await using server = await serveFakeApi(api);
    await using proxy = await startTcpProxy({ host: "127.0.0.1", port: server.port });
    const client = clientOf(`http://127.0.0.1:${proxy.port}`);
    for (let i = 0; i < 5; i++) {
      await client.list(API_RESOURCES.Pod);
      proxy.resetAll();
    }
    await expect(client.list(API_RESOURCES.Pod)).resolves.toMatchObject({ items: [] });
    client.close();
  });

  it("aborted before and during → rejects, and the server sees the end", async () => {
    let closed: Promise<unknown> | undefined;
    await using server = await serveHttp((request) => void (closed = once(request.socket, "close")));
    const client = clientOf(server.url);
    const stop = new AbortController();
    const call = client.list(API_RESOURCES.Pod, { signal: stop.signal });
    setImmediate(() => stop.abort());
    await expect(call).rejects.toThrow(ApiUnreachableError);
    await closed;
    await expect(client.list(API_RESOURCES.Pod, { signal: stop.signal })).rejects.toThrow(ApiUnreachableError);
    client.close();
  });
});

describe("ApiClient: errors", () => {
  it("a Status → status, reason, object, causes, and the longer of both advices", async () => {
    const body = {
      kind: "Status",
      reason: "Conflict",
      message: "changed",
      code: 409,
      details: { name: "b1", kind: "ipamblocks", group: "projectcalico.org", retryAfterSeconds: 3, causes: [{ reason: "R", message: "m", field: "spec" }] },
    };
    const error = await failureOf((_request, response) =>
      response.writeHead(409, { "content-type": "application/json", "retry-after": "2" }).end(JSON.stringify(body)),
    );
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({
      status: 409,
      reason: "Conflict",
      object: "ipamblocks.projectcalico.org b1",
      retryAfterMs: 3_000,
      causes: [{ reason: "R", message: "m", field: "spec" }],
    });
    expect((error as ApiError).message).toBe("GET /api/v1/pods: 409 Conflict: changed");
  });

  it("a proxy's page → the status line and its text", async () => {
    const error = await failureOf((_request, response) =>
      response.writeHead(502, { "content-type": "text/html", "retry-after": "1" }).end("<h1>Bad Gateway</h1>"),
    );
    expect(error).toMatchObject({ status: 502, reason: "", retryAfterMs: 1_000, message: "GET /api/v1/pods: 502: <h1>Bad Gateway</h1>" });
  });

  it.each([
    ["closed without an answer", "CONNECTION", (request, response) => void (request.socket.resetAndDestroy(), response)],
    [
      "an answer cut off",
      "CONNECTION",
      (_request, response) => void (response.writeHead(200, { "content-length": "100" }).write("{"), setImmediate(() => response.destroy())),
    ],
    ["200 with nonsense", "GARBAGE", (_request, response) => void response.end("<html>")],
    ["200 and empty", "GARBAGE", (_request, response) => void response.end()],
  ] satisfies [string, string, Answer][])("%s → %s", async (_name, code, answer) => {
    expect(await failureOf(answer)).toMatchObject({ name: "ApiUnreachableError", code });
  });

  it("no answer → TIMEOUT", async () => {
    expect(await failureOf(() => undefined, 50)).toMatchObject({ code: "TIMEOUT" });
  });
});

describe("ApiClient: watch", () => {
  it("a server that falls silent → SILENT, after the frames that came", async () => {
    await using server = await serveHttp(
      (_request, response) => void response.writeHead(200, { "content-type": "application/json" }).write('{"type":"ADDED","object":{"metadata":{}}}\n'),
    );
    const client = clientOf(server.url);
    const got: string[] = [];
    const read = async (): Promise<void> => {
      for await (const frames of client.watch(API_RESOURCES.Pod, { query: {}, signal: new AbortController().signal, silenceMs: 100 }))
        got.push(...frames.map(({ type }) => type));
    };
    await expect(read()).rejects.toMatchObject({ code: "SILENT" });
    expect(got).toEqual(["ADDED"]);
    client.close();
  });
});

describe("ClusterSource over sockets", () => {
  it("resets, silence, throttling, 410 and a missing kind: every kind arrives, in-sync once, then ends at the server's state", async () => {
    const api = new FakeApi();
    const namespace = (name: string, label: string): void => api.put(API_RESOURCES.Namespace, { metadata: { name, labels: { label } } });
    namespace("a", "1");
    namespace("b", "1");
    api.put(API_RESOURCES.Node, { metadata: { name: "n1" }, status: { addresses: [{ type: "InternalIP", address: "10.0.0.1" }] } });
    api.missing.add("/apis/projectcalico.org/v3/ippools");
    api.failures.push(throttled(429, 1_000));
    await using server = await serveFakeApi(api);
    await using proxy = await startTcpProxy({ host: "127.0.0.1", port: server.port });
    const client = clientOf(`http://127.0.0.1:${proxy.port}`);
    const view = new Map<string, string>();
    const statuses: string[] = [];
    let wake = (): void => undefined;
    const sink = (events: readonly ClusterEvent[]): void => {
      for (const event of events) {
        if (event.kind === "status") statuses.push(event.status);
        if (event.kind === "upsert")
          view.set(`${event.resource.kind} ${event.resource.name}`, event.resource.kind === "Namespace" ? (event.resource.labels["label"] ?? "") : "");
        if (event.kind === "delete") view.delete(`${event.key.kind} ${event.key.name}`);
      }
      wake();
    };
    const until = async (condition: () => boolean): Promise<void> => {
      while (!condition()) await new Promise<void>((resolve) => (wake = resolve));
    };
    const source = new ClusterSource({
      client,
      clock: systemClock,
      log: silentLogger(),
      sink,
      tuning: { silenceMs: 300, backoffInitialMs: 5, backoffMaxMs: 20 },
    });
    const stop = new AbortController();
    const running = source.run(stop.signal);
    await until(() => source.status === "in-sync");
    expect(Object.fromEntries(view)).toEqual({ "Namespace a": "1", "Namespace b": "1", "Node n1": "" });
    expect(source.kinds().find(({ kind }) => kind === "IPPool")).toMatchObject({ phase: "missing" });

    proxy.resetAll();
    namespace("a", "2");
    await until(() => view.get("Namespace a") === "2");

    proxy.setMode("stall");
    namespace("a", "3");
    api.remove(API_RESOURCES.Namespace, { name: "b" });
    proxy.setMode("refuse");
    api.compact();
    proxy.resetAll();
    proxy.setMode("pass");
    await until(() => view.get("Namespace a") === "3" && !view.has("Namespace b"));
    await until(() => source.status === "in-sync");
    expect(statuses.slice(0, 2)).toEqual(["wait-for-datastore", "in-sync"]);
    expect(new Set(statuses.slice(2))).toEqual(new Set(["resync", "in-sync"]));
    expect(source.upstreamAgeMs()).toBeGreaterThanOrEqual(0);
    expect(source.resourceVersionOf("Namespace")).not.toBe("");

    stop.abort();
    await running;
    client.close();
  });
});
