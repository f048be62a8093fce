/** Serves a FakeApi (or scripted answers) over plain HTTP on loopback: lists, watches and errors as the real server words them, in JSON. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Query } from "../../src/datastore/api-client.ts";
import { ApiError } from "../../src/datastore/api-error.ts";
import { API_RESOURCES, collectionPath } from "../../src/datastore/api-resources.ts";
import type { FakeApi } from "./fake-api.ts";

export interface HttpFixture extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
}

/** What it returns is awaited and not looked at. */
export type Answer = (request: IncomingMessage, response: ServerResponse) => unknown;

/** An HTTP server on a free port of loopback that answers with `answer`; connections are cut when it is disposed. */
export async function serveHttp(answer: Answer): Promise<HttpFixture> {
  const server = createServer((request, response) => {
    Promise.resolve(answer(request, response)).catch((error: unknown) => response.destroy(error instanceof Error ? error : undefined));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export function serveFakeApi(api: FakeApi): Promise<HttpFixture> {
  return serveHttp(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://fake");
    const resource = Object.values(API_RESOURCES).find((one) => collectionPath(one) === url.pathname);
    if (resource === undefined) return void response.writeHead(404).end("404 page not found\n");
    const query: Query = Object.fromEntries([...url.searchParams].map(([name, value]) => [name, value === "true" ? true : value]));
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    try {
      if (query["watch"] !== true) {
        const { items, resourceVersion, continueToken } = await api.list(resource, { query });
        response
          .writeHead(200, { "content-type": "application/json" })
          .end(JSON.stringify({ kind: `${resource.kind}List`, metadata: { resourceVersion, continue: continueToken }, items }));
        return;
      }
      const onOpen = (): void => response.writeHead(200, { "content-type": "application/json" }).flushHeaders();
      for await (const frames of api.watch(resource, { query, signal: gone.signal, silenceMs: 0, onOpen })) {
        for (const frame of frames) response.write(`${JSON.stringify(frame)}\n`);
      }
      response.end();
    } catch (error) {
      if (!(error instanceof ApiError) || response.headersSent) return void response.socket?.resetAndDestroy();
      const body = { kind: "Status", apiVersion: "v1", status: "Failure", code: error.status, reason: error.reason, message: error.message };
      response.writeHead(error.status, {
        "content-type": "application/json",
        ...(error.retryAfterMs > 0 ? { "retry-after": String(Math.ceil(error.retryAfterMs / 1000)) } : {}),
      });
      response.end(JSON.stringify(body));
    }
  });
}
