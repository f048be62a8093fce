/** The small HTTP servers of every program: /metrics, /liveness, /readiness. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Health } from "./health.ts";
import { StartError } from "./start-error.ts";

export interface HttpEndpoint {
  readonly port: number;
  close(): Promise<void>;
}

/** Serves GET /metrics from the registry, or what stands for several. Port 0 picks a free one. Throws StartError when nothing can listen there. */
export function serveMetrics(
  registry: { readonly contentType: string; metrics(): Promise<string> },
  listen: { readonly host: string; readonly port: number },
): Promise<HttpEndpoint> {
  return serve({ ...listen, flag: "--metrics-listen" }, async (path) =>
    path === "/metrics" ? { status: 200, type: registry.contentType, body: await registry.metrics() } : undefined,
  );
}

/** Serves GET /liveness and /readiness: 200 or 503 with a line a reporter. Throws StartError when nothing can listen there. */
export function serveHealth(health: Health, listen: { readonly host: string; readonly port: number }): Promise<HttpEndpoint> {
  return serve({ ...listen, flag: "--health-listen" }, (path) => {
    const { live, ready, text } = health.summary();
    if (path === "/liveness") return Promise.resolve({ status: live ? 200 : 503, type: "text/plain", body: text });
    if (path === "/readiness") return Promise.resolve({ status: ready ? 200 : 503, type: "text/plain", body: text });
    return Promise.resolve(undefined);
  });
}

interface Listen {
  readonly host: string;
  readonly port: number;
  /** Setting that a person changes to move it. */
  readonly flag: string;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

async function serve(listen: Listen, answer: (path: string) => Promise<Answer | undefined>): Promise<HttpEndpoint> {
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

function listenOn(server: Server, { host, port, flag }: Listen): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(new StartError(`${flag} ${host}:${port}: ${error.message}; choose another address or port`, { cause: error }));
    server.once("error", fail);
    server.listen(port, host, () => {
      server.off("error", fail);
      resolve();
    });
  });
}
