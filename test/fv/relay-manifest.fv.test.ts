/** The relay of the manifests, started with the arguments and variables that the kubelet would give it: it finds the servers and serves agents over mutual TLS. */
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { credentials } from "@grpc/grpc-js";
import { expect, it, onTestFinished, vi } from "vitest";
import { fanoutConfigSchema } from "../../fanout/config.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { KubeObject } from "../../src/operator/render/object.ts";
import { renderRelay } from "../../src/operator/render/relay.ts";
import { DEFAULT_NAMESPACE, DEFAULT_VALUES } from "../../src/operator/render/values.ts";
import { createCertificateAuthority } from "../../src/runtime/tls.ts";
import { GrpcAgent, node, pool, startFanout, upsert } from "../fakes/fanout-fixture.ts";

const SEDGE = join(import.meta.dirname, "..", "..", "bin", "sedge.ts");
const until = <T>(check: () => T | Promise<T>): Promise<T> => vi.waitFor(check, { timeout: 30_000, interval: 20 });

interface PodSpec {
  readonly enableServiceLinks: boolean;
  readonly automountServiceAccountToken: boolean;
  readonly containers: readonly [{ readonly args: readonly string[]; readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[] }];
}

/** What the kubelet puts into every pod of a namespace for a Service there (documentation of Kubernetes, "Discovering services"). */
function serviceLinks(name: string, host: string, port: number): Record<string, string> {
  const prefix = name.toUpperCase().replaceAll("-", "_");
  return {
    [`${prefix}_SERVICE_HOST`]: host,
    [`${prefix}_SERVICE_PORT`]: String(port),
    [`${prefix}_SERVICE_PORT_SYNC`]: String(port),
    [`${prefix}_PORT`]: `tcp://${host}:${port}`,
    [`${prefix}_PORT_${port}_TCP`]: `tcp://${host}:${port}`,
    [`${prefix}_PORT_${port}_TCP_PROTO`]: "tcp",
    [`${prefix}_PORT_${port}_TCP_PORT`]: String(port),
    [`${prefix}_PORT_${port}_TCP_ADDR`]: host,
  };
}

it("serves an agent the root's view with its own certificate, and ends cleanly; variables of Services are no settings of it", async () => {
  const objects: readonly KubeObject[] = renderRelay({
    namespace: DEFAULT_NAMESPACE,
    values: { ...DEFAULT_VALUES, relay: { ...DEFAULT_VALUES.relay, replicas: 1 } },
  });
  const deployment = objects.find(({ kind }) => kind === "Deployment") as unknown as { readonly spec: { readonly template: { readonly spec: PodSpec } } };
  const { enableServiceLinks, automountServiceAccountToken, containers } = deployment.spec.template.spec;
  const [{ args, volumeMounts }] = containers;
  expect([enableServiceLinks, automountServiceAccountToken]).toEqual([true, false]);
  const variables = { ...serviceLinks("sedge-fanout", "127.0.0.1", 5473), ...serviceLinks("sedge-sync", "127.0.0.1", 5473) };
  const settings = Object.keys(fanoutConfigSchema.shape).map((key) => `SEDGE_FANOUT_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`);
  expect(Object.keys(variables).filter((name) => settings.includes(name))).toEqual([]);

  const directory = await mkdtemp(join(tmpdir(), "sedge-relay-manifest-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const authority = await createCertificateAuthority();
  const rootTls = { ca: join(directory, "ca.crt"), cert: join(directory, "root.crt"), key: join(directory, "root.key") };
  const [root, relay, agent] = await Promise.all([
    authority.issue({ commonName: "fanout", uris: ["spiffe://sedge/fanout"] }),
    authority.issue({ commonName: "sedge-relay", uris: ["spiffe://sedge/relay/sedge-relay"] }),
    authority.issue({ commonName: "n1", uris: ["spiffe://sedge/node/n1"] }),
  ]);
  const files = { "ca.crt": authority.cert, "root.crt": root.cert, "root.key": root.key, "tls.crt": relay.cert, "tls.key": relay.key };
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(directory, name), text)));
  await using server = await startFanout({ events: upsert(node("n1", 1), pool()), tls: rootTls });

  // The test's ports and directory in place of the cluster's; everything else as it is rendered.
  const mount = volumeMounts.find(({ name }) => name === "tls")?.mountPath ?? "";
  const given = args
    .map((text) => text.replaceAll(/\$\(([A-Z0-9_]+)\)/g, (_whole, name: string) => ({ ...variables, POD_NAME: "relay-a" })[name] ?? expect.fail(name)))
    .map((text) => text.replaceAll(mount, directory).replace(/^(--(?:listen|metrics-listen|health-listen))=.*$/, "$1=127.0.0.1:0"))
    .map((text) => (text === "--upstream=127.0.0.1:5473" ? `--upstream=${server.secureAddress}` : text));
  expect(given).toContain(`--upstream=${server.secureAddress}`);
  const child = spawn(process.execPath, [SEDGE, ...given], { stdio: ["ignore", "ignore", "pipe"], env: { PATH: process.env["PATH"], ...variables } });
  const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  let address = "";
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => {
    lines.push(line);
    const { msg, addresses } = JSON.parse(line) as { msg: string; addresses?: string[] };
    if (msg === "listening") address = addresses?.[0] ?? "";
  });
  await until(() => expect(address, lines.join("\n")).not.toBe(""));
  await until(() => expect([...server.server.feeds.feeds].map(({ identityName, name }) => `${identityName} ${name}`)).toEqual(["sedge-relay relay-a"]));
  const channel = credentials.createSsl(Buffer.from(authority.cert), Buffer.from(agent.key), Buffer.from(agent.cert), { checkServerIdentity: () => undefined });
  using client = new GrpcAgent({ address, node: "n1", credentials: channel });
  await until(() => expect(client.isLive).toBe(true));
  const { table } = server.server;
  expect([client.view.digest, client.view.size]).toEqual([table.viewDigest(table.nodes.idOf("n1" as NodeName)), 2]);
  child.kill("SIGTERM");
  client[Symbol.dispose]();
  expect(await ended).toBe(0);
}, 60_000);
