/** The small HTTP servers of every program: /metrics, /liveness, /readiness. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";
import type { Health } from "./health.ts";

export interface HttpEndpoint {
  readonly port: number;
  close(): Promise<void>;
}

/** Serves GET /metrics from the registry. Port 0 picks a free one. */
export function serveMetrics(registry: Registry, listen: { readonly host: string; readonly port: number }): Promise<HttpEndpoint> {
  return serve(listen, async (path) => (path === "/metrics" ? { status: 200, type: registry.contentType, body: await registry.metrics() } : undefined));
}

/** Serves GET /liveness and /readiness: 200 or 503 with a line a reporter. */
export function serveHealth(health: Health, listen: { readonly host: string; readonly port: number }): Promise<HttpEndpoint> {
  return serve(listen, (path) => {
    const { live, ready, text } = health.summary();
    if (path === "/liveness") return Promise.resolve({ status: live ? 200 : 503, type: "text/plain", body: text });
    if (path === "/readiness") return Promise.resolve({ status: ready ? 200 : 503, type: "text/plain", body: text });
    return Promise.resolve(undefined);
  });
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

async function serve(listen: { host: string; port: number }, answer: (path: string) => Promise<Answer | undefined>): Promise<HttpEndpoint> {
  const server = createServer((request, response) => {
    answer(request.url ?? "/").then(
      (found) => response.writeHead(found?.status ?? 404, { "content-type": found?.type ?? "text/plain" }).end(found?.body ?? "not found\n"),
      (error: unknown) => response.writeHead(500).end(`${String(error)}\n`),
    );
  });
  await listenOn(server, listen);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listenOn(server: Server, listen: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
