/** Starts the programs of the demo: the embedded API, the fan-out server, an agent a node; with certificates for the way between them. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createCertificateAuthority } from "../runtime/tls.ts";
import type { Child, Children } from "./children.ts";
import { poll } from "./cluster.ts";
import { type DemoNode, SERVER_ADDRESS } from "./network.ts";
import type { CniTarget } from "./pods.ts";

const SYNC_PORT = 5473;

/** The port asked for, or a free one when it is taken. */
export async function freePort(wanted: number): Promise<number> {
  const tryPort = (port: number): Promise<number | undefined> =>
    new Promise((resolve) => {
      const server = createServer();
      server.once("error", () => resolve(undefined));
      server.listen(port, "127.0.0.1", () => {
        const address = server.address();
        server.close(() => resolve(typeof address === "object" && address !== null ? address.port : undefined));
      });
    });
  const port = (await tryPort(wanted)) ?? (await tryPort(0));
  if (port === undefined) throw new Error("no free port on 127.0.0.1");
  return port;
}

export async function startApi(children: Children, dir: string, port: number): Promise<string> {
  const kubeconfig = join(dir, "kubeconfig");
  children.start("api", ["api", "--listen", `127.0.0.1:${port}`, "--data-dir", join(dir, "api"), "--kubeconfig-out", kubeconfig]);
  await poll("the embedded API has written its kubeconfig", 20_000, () => Promise.resolve(existsSync(kubeconfig)));
  return kubeconfig;
}

export interface Certificates {
  readonly ca: string;
  /** Files of the leaf with that name. */
  readonly pair: (name: string) => { readonly cert: string; readonly key: string };
}

/** A CA and a leaf for the server and for each node: a node's certificate names it, and the server gives it no other node's view. */
export async function writeCertificates(dir: string, nodes: readonly string[]): Promise<Certificates> {
  const folder = join(dir, "tls");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const authority = await createCertificateAuthority("sedge-demo-ca");
  const path = (name: string): string => join(folder, name);
  writeFileSync(path("ca.crt"), authority.cert);
  const write = async (name: string, options: Parameters<typeof authority.issue>[0]): Promise<void> => {
    const { cert, key } = await authority.issue(options);
    writeFileSync(path(`${name}.crt`), cert);
    writeFileSync(path(`${name}.key`), key, { mode: 0o600 });
  };
  await write("server", { commonName: "sedge-fanout", hosts: ["localhost", "127.0.0.1", SERVER_ADDRESS], uris: ["spiffe://sedge/fanout"] });
  for (const node of nodes) await write(node, { commonName: node, uris: [`spiffe://sedge/node/${node}`] });
  return { ca: path("ca.crt"), pair: (name) => ({ cert: path(`${name}.crt`), key: path(`${name}.key`) }) };
}

/** The server listens with mutual TLS on a unix socket (the fabric's address leads there) and in plain text on loopback, for people. */
export function startFanout(
  children: Children,
  options: { dir: string; kubeconfig: string; port: number; certificates: Certificates; extra?: readonly string[] },
): Child {
  const { cert, key } = options.certificates.pair("server");
  const tls = ["--tls-cert", cert, "--tls-key", key, "--tls-ca", options.certificates.ca];
  const listen = ["--listen", `unix:${fanoutSocket(options.dir)}`, "--insecure-listen", `127.0.0.1:${options.port}`];
  return children.start("fanout", [
    "fanout",
    "--kubeconfig",
    options.kubeconfig,
    ...listen,
    ...tls,
    "--metrics-listen",
    "127.0.0.1:0",
    "--health-listen",
    "127.0.0.1:0",
    ...(options.extra ?? []),
  ]);
}

function fanoutSocket(dir: string): string {
  return join(dir, "fanout.sock");
}

/** Makes the server reachable from the nodes' namespaces. */
export function startForwarder(children: Children, { dir, netns }: { dir: string; netns: string }): Child {
  return children.start("forward", [SERVER_ADDRESS, `${SYNC_PORT}`, fanoutSocket(dir)], {
    netns,
    entry: new URL("./forward.ts", import.meta.url).pathname,
  });
}

export interface AgentOptions {
  readonly dir: string;
  readonly certificates: Certificates;
  /** The node's namespace; undefined: without the kernel, and the server is reached over its unix socket. */
  readonly netns: string | undefined;
}

/** Starts the agent of a node; resolves when its socket is there. */
export async function startAgent(children: Children, node: DemoNode, { dir, certificates, netns }: AgentOptions): Promise<CniTarget> {
  const folder = join(dir, node.name);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const socket = join(folder, "agent.sock");
  const queueDir = join(folder, "cni-queue");
  const { cert, key } = certificates.pair(node.name);
  const server = netns !== undefined ? `${SERVER_ADDRESS}:${SYNC_PORT}` : `unix:${fanoutSocket(dir)}`;
  const argv = ["agent", "--node-name", node.name, "--server", server, "--tls-cert", cert, "--tls-key", key, "--tls-ca", certificates.ca];
  const files = [
    "--state-dir",
    join(folder, "state"),
    "--socket",
    socket,
    "--cni-queue-dir",
    queueDir,
    "--metrics-listen",
    "127.0.0.1:0",
    "--health-listen",
    "127.0.0.1:0",
  ];
  children.start(`agent-${node.name}`, [...argv, ...files, ...(netns === undefined ? ["--no-dataplane"] : [])], netns === undefined ? {} : { netns });
  await poll(`the agent of ${node.name} serves its socket`, 20_000, () => Promise.resolve(existsSync(socket)));
  return { node, socket, queueDir };
}
