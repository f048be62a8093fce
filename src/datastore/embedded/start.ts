/** The embedded API as one thing that can be started and closed: by `sedge api`, by the demo, by tests. */
import { readdirSync, readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { isIPv6 } from "node:net";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { Logger } from "../../runtime/log.ts";
import { silentLogger } from "../../runtime/log.ts";
import { Handler } from "./handler.ts";
import { loadIdentity } from "./identity.ts";
import { Journal } from "./journal.ts";
import type { JsonObject } from "./json.ts";
import { isObject, stringAt } from "./json.ts";
import { renderKubeconfig } from "./kubeconfig.ts";
import { Objects } from "./objects.ts";
import { projectFile } from "./project-files.ts";
import { Registry } from "./registry.ts";
import { Store } from "./store.ts";
import { BOOKMARK_INTERVAL_MS, STALLED_MS } from "./watch.ts";

export interface EmbeddedApiOptions {
  /** Address to listen on; 127.0.0.1 unless given. */
  readonly host?: string;
  /** 0 (the default) picks a free one. */
  readonly port?: number;
  /** Further names and addresses for the server certificate. */
  readonly sans?: readonly string[];
  /** Keep everything here; in memory only when not given. */
  readonly dataDir?: string | undefined;
  /** Install the definitions of manifests/crds (default true). */
  readonly installsCrds?: boolean;
  readonly log?: Logger;
  readonly bookmarkIntervalMs?: number;
  readonly stalledMs?: number;
  readonly historyChanges?: number;
  readonly historyBytes?: number;
}

export interface EmbeddedApi {
  /** "https://127.0.0.1:6443" */
  readonly url: string;
  /** YAML. */
  readonly kubeconfig: string;
  /** PEM. */
  readonly certificateAuthority: string;
  readonly token: string;
  readonly store: Store;
  /** Ends every connection and, with a data directory, writes what is left. */
  close(): Promise<void>;
}

const SYSTEM_NAMESPACES = ["default", "kube-node-lease", "kube-public", "kube-system"];

/** Listens when it resolves. Rejects with DataDirectoryError for a directory that cannot be used. */
export async function startEmbeddedApi(options: EmbeddedApiOptions = {}): Promise<EmbeddedApi> {
  const { host = "127.0.0.1", port = 0, sans = [], dataDir, installsCrds = true, log = silentLogger() } = options;
  const clock = { now: () => Date.now() };
  const store = new Store({
    // Later than every revision of an earlier life without a directory: a client that resumes from one is told to list again.
    initialRevision: clock.now() * 1000,
    publishesAtOnce: dataDir === undefined,
    ...(options.historyChanges === undefined ? {} : { historyChanges: options.historyChanges }),
    ...(options.historyBytes === undefined ? {} : { historyBytes: options.historyBytes }),
  });
  const journal = dataDir === undefined ? undefined : Journal.open({ directory: dataDir, store });
  for (const problem of journal?.problems ?? []) log.warn({ problem }, "the data directory was not whole");
  const settled = (): Promise<void> => journal?.settled() ?? Promise.resolve();
  const hosts = [...new Set(["127.0.0.1", "::1", "localhost", ...(host === "0.0.0.0" || host === "::" ? [] : [host]), ...sans])];
  const identity = await loadIdentity({ directory: dataDir, hosts });

  const registry = new Registry();
  registry.follow(store);
  const objects = new Objects({ store, registry, clock });
  prepare(objects, registry, installsCrds);
  await settled();

  const stopping = new AbortController();
  const handler = new Handler({
    store,
    registry,
    objects,
    token: identity.token,
    clock,
    log,
    settled,
    signal: stopping.signal,
    bookmarkIntervalMs: options.bookmarkIntervalMs ?? BOOKMARK_INTERVAL_MS,
    stalledMs: options.stalledMs ?? STALLED_MS,
  });
  const server = createServer(
    {
      cert: identity.server.cert,
      key: identity.server.key,
      ca: identity.certificateAuthority,
      requestCert: true,
      rejectUnauthorized: false,
      keepAliveTimeout: 60_000,
    },
    (request: IncomingMessage, response: ServerResponse) => {
      void handler.handle(request, response);
    },
  );
  server.on("tlsClientError", (error) => log.debug({ err: error }, "TLS handshake failed"));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
  const address = server.address() as AddressInfo;
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  const url = `https://${isIPv6(reachable) ? `[${reachable}]` : reachable}:${address.port}`;
  return {
    url,
    kubeconfig: renderKubeconfig({ url, certificateAuthority: identity.certificateAuthority, token: identity.token }),
    certificateAuthority: identity.certificateAuthority,
    token: identity.token,
    store,
    async close() {
      stopping.abort();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // Answers under way are short and watches end by the signal: their connections become idle. What is left after a second is cut.
      const sweep = setInterval(() => server.closeIdleConnections(), 10);
      const cut = setTimeout(() => server.closeAllConnections(), 1000);
      await closed;
      clearInterval(sweep);
      clearTimeout(cut);
      await journal?.close();
    },
  };
}

/**
 * What every cluster has before the first request: system namespaces, our definitions (brought up to date when the directory has older ones);
 * and what a stop left half deleted is finished.
 */
function prepare(objects: Objects, registry: Registry, installsCrds: boolean): void {
  const options = { fieldManager: "sedge-api", fieldValidation: "Strict", isDryRun: false, isForced: true, warn: () => undefined } as const;
  const apply = (group: string, plural: string, body: JsonObject): void => {
    const type = registry.find(group, "v1", plural);
    if (type === undefined) throw new Error(`${plural} is not served`);
    objects.apply(type, { namespace: "", name: stringAt(body, "metadata", "name"), subresource: "" }, body, options);
  };
  for (const name of SYSTEM_NAMESPACES) apply("", "namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  if (installsCrds) for (const crd of readCrdManifests()) apply("apiextensions.k8s.io", "customresourcedefinitions", crd);
  objects.resumeTerminations();
}

/** The definitions of manifests/crds, in the order of their file names. */
export function readCrdManifests(): JsonObject[] {
  const directory = projectFile("manifests/crds");
  return readdirSync(directory)
    .filter((name) => name.endsWith(".yaml"))
    .sort()
    .flatMap((name) =>
      parseAllDocuments(readFileSync(join(directory, name), "utf8")).flatMap((document) => {
        if (document.errors[0] !== undefined) throw new Error(`manifests/crds/${name}: ${document.errors[0].message}`);
        const object = document.toJS() as unknown;
        return isObject(object as JsonObject) ? [object as JsonObject] : [];
      }),
    );
}
