/**
 * A whole cluster for tests that break it: embedded API, fan-out server, three nodes with an agent each, every program a process that can be killed alone.
 *
 * `await using cluster = await Cluster.start()`. Built of the demo's parts, under a name of its own, so that it can run beside a demo; two of them too.
 * Invariant: whatever happens, its processes, namespaces and files are gone afterwards; those of a run that was killed are removed by the next.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { credentials, status as grpcStatus, Metadata } from "@grpc/grpc-js";
import type { AgentStatus } from "../../agent/status/status.ts";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { type Child, Children, cniExecutable, logTail } from "../../src/demo/children.ts";
import { createCluster, installCrds, poll } from "../../src/demo/cluster.ts";
import { DemoNetwork, type DemoNode, NODES, SERVER_ADDRESS } from "../../src/demo/network.ts";
import { type Certificates, freePort, startFanout, startForwarder, writeCertificates } from "../../src/demo/programs.ts";
import { Registry } from "../../src/demo/registry.ts";
import { ServerView } from "../../src/demo/server-view.ts";
import { type ExecResult, exec, execOk } from "../../src/runtime/exec.ts";
import { type Client, type GetObjectStatusResponse, IntrospectionServiceClient } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import { unmountBelow } from "./small-disk.ts";

const NAME = "sedge-f";
/** The path as seen from the nodes' namespaces: the demo's forwarder listens there. */
const SYNC_SERVER = `${SERVER_ADDRESS}:5473`;

export interface CniCallOptions {
  readonly command: "ADD" | "DEL" | "CHECK";
  readonly node: string;
  readonly namespace: string;
  readonly pod: string;
  readonly uid: string;
  readonly containerId: string;
  readonly netns: string;
}

export interface AgentFlags {
  /** Node whose certificate it shows; its own by default. */
  readonly certificateOf?: string;
  readonly stateDir?: string;
  /** Name of the process's log; by default the agent's of the node. */
  readonly name?: string;
  readonly socket?: string;
  readonly extra?: readonly string[];
}

export class Cluster implements AsyncDisposable {
  readonly dir: string;
  readonly nodes: readonly string[] = NODES.map(({ name }) => name);
  readonly network: DemoNetwork;
  readonly #registry: Registry;
  readonly #children: Children;
  readonly #programs = new Map<string, Child>();
  readonly #prefix: string;
  readonly #fanoutFlags: readonly string[];
  #certificates: Certificates | undefined;
  #kubeconfig = "";
  #apiPort = 0;
  #syncPort = 0;
  #api: ApiClient | undefined;
  #server: ServerView | undefined;
  #introspection: IntrospectionServiceClient | undefined;

  private constructor(name: string, fanoutFlags: readonly string[]) {
    this.#fanoutFlags = fanoutFlags;
    this.dir = join(tmpdir(), name);
    this.#prefix = `${name}-`;
    this.#registry = new Registry(this.dir, this.#prefix);
    this.#children = new Children(this.#registry);
    this.network = new DemoNetwork(this.#prefix);
  }

  /** `fanoutFlags`: beside those that every server has. */
  static async start({ fanoutFlags = [] }: { readonly fanoutFlags?: readonly string[] } = {}): Promise<Cluster> {
    await removeAbandoned();
    const cluster = new Cluster(`${NAME}${process.pid}`, fanoutFlags);
    cluster.#registry.claim();
    try {
      await cluster.#begin();
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  get api(): ApiClient {
    if (this.#api === undefined) throw new Error("the cluster has no API yet");
    return this.#api;
  }

  get server(): ServerView {
    if (this.#server === undefined) throw new Error("the cluster has no server yet");
    return this.#server;
  }

  get kubeconfig(): string {
    return this.#kubeconfig;
  }

  netnsOf(node: string): string {
    return this.network.nodeNetns(nodeOf(node));
  }

  folderOf(node: string): string {
    return join(this.dir, node);
  }

  stateDirOf(node: string): string {
    return join(this.folderOf(node), "state");
  }

  /** True while the process runs. */
  isUp(program: string): boolean {
    const child = this.#programs.get(program)?.process;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** "api", "fanout" or "agent-<node>". Resolves when it is gone. */
  async kill(program: string, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#programs.get(program)?.process;
    if (child === undefined || !this.isUp(program)) return;
    const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill(signal);
    await gone;
  }

  /** SIGSTOP and SIGCONT. */
  signal(program: string, signal: "SIGSTOP" | "SIGCONT"): void {
    this.#programs.get(program)?.process.kill(signal);
  }

  /** Resolves to the exit code when the process ends by itself. */
  async ended(program: string): Promise<number | undefined> {
    const child = this.#programs.get(program)?.process;
    if (child === undefined) return undefined;
    if (child.exitCode === null && child.signalCode === null) await new Promise<void>((resolve) => child.once("exit", () => resolve()));
    return child.exitCode ?? undefined;
  }

  log(program: string): string {
    const path = join(this.dir, `${program}.log`);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  /** Resolves when it serves. */
  async startApi(): Promise<void> {
    const flags = ["--listen", `127.0.0.1:${this.#apiPort}`, "--data-dir", join(this.dir, "api"), "--kubeconfig-out", this.#kubeconfig];
    this.#start("api", ["api", ...flags]);
    await this.#until("api", "the API serves", async () => {
      // The kubeconfig of an earlier start is as good: credentials are in the data directory.
      if (!existsSync(this.#kubeconfig)) return false;
      this.#api ??= new ApiClient({ connection: await findConnection({ file: this.#kubeconfig, environment: {} }) });
      return this.#api.requestJson("GET", "/version").then(
        () => true,
        () => false,
      );
    });
  }

  startFanout(): void {
    if (this.#certificates === undefined) throw new Error("no certificates yet");
    const { dir } = this;
    // What a killed server left: a new one must cope, and does.
    const options = { dir, kubeconfig: this.#kubeconfig, port: this.#syncPort, certificates: this.#certificates, extra: this.#fanoutFlags };
    this.#programs.set("fanout", startFanout(this.#children, options));
  }

  /** Does not wait. */
  startAgent(
    node: string,
    { certificateOf = node, stateDir = this.stateDirOf(node), name = `agent-${node}`, socket = this.socketOf(node), extra = [] }: AgentFlags = {},
  ): void {
    if (this.#certificates === undefined) throw new Error("no certificates yet");
    mkdirSync(this.folderOf(node), { recursive: true });
    const { cert, key } = this.#certificates.pair(certificateOf);
    const identity = ["--node-name", node, "--tls-cert", cert, "--tls-key", key, "--tls-ca", this.#certificates.ca];
    const files = ["--state-dir", stateDir, "--socket", socket, "--cni-queue-dir", this.queueDirOf(node)];
    const listen = ["--metrics-listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"];
    this.#start(name, ["agent", "--server", SYNC_SERVER, ...identity, ...files, ...listen, ...extra], this.netnsOf(node));
  }

  socketOf(node: string): string {
    return join(this.folderOf(node), "agent.sock");
  }

  queueDirOf(node: string): string {
    return join(this.folderOf(node), "cni-queue");
  }

  /** undefined when the agent does not answer. */
  agentStatus(node: string): Promise<AgentStatus | undefined> {
    return new Promise((resolve) => {
      const call = request({ socketPath: this.socketOf(node), path: "/v1/status", timeout: 2_000 }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (part: string) => {
          text += part;
        });
        response.on("end", () => resolve(JSON.parse(text) as AgentStatus));
        response.on("error", () => resolve(undefined));
      });
      call.on("timeout", () => call.destroy());
      call.on("error", () => resolve(undefined));
      call.end();
    });
  }

  /** What the agent of the node says, once it is so; throws with its last answer after `timeoutMs`. */
  async agentUntil(node: string, what: string, isSo: (status: AgentStatus) => boolean, timeoutMs = 20_000): Promise<AgentStatus> {
    let last: AgentStatus | undefined;
    try {
      await poll(`agent of ${node}: ${what}`, timeoutMs, async () => {
        last = await this.agentStatus(node);
        return last !== undefined && isSo(last);
      });
    } catch (error) {
      throw new Error(
        `${error instanceof Error ? error.message : String(error)}; its status: ${JSON.stringify(last)}; its log:\n${this.#tail(`agent-${node}`)}`,
        { cause: error },
      );
    }
    if (last === undefined) throw new Error(`agent of ${node} gave no status`);
    return last;
  }

  async untilLevel(timeoutMs = 30_000): Promise<void> {
    try {
      await poll(`${this.nodes.length} agents have everything in force`, timeoutMs, async () => {
        try {
          const now = await this.server.status();
          return now.syncStatus === "in-sync" && now.clients === this.nodes.length && now.clientsLevel === this.nodes.length;
        } catch {
          return false;
        }
      });
    } catch (error) {
      throw new Error(
        `${error instanceof Error ? error.message : String(error)}\n${this.#tail("fanout")}\n${this.nodes.map((node) => this.#tail(`agent-${node}`)).join("\n")}`,
        { cause: error },
      );
    }
  }

  /** Rejects while the server is away; undefined: it does not know the object. */
  objectStatus(kind: string, namespace: string, name: string): Promise<GetObjectStatusResponse | undefined> {
    return new Promise((resolve, reject) => {
      this.#introspectionClient.getObjectStatus({ kind, namespace, name }, new Metadata(), { deadline: Date.now() + 5_000 }, (error, response) => {
        if (error === null) resolve(response);
        else if (error.code === grpcStatus.NOT_FOUND) resolve(undefined);
        else reject(error);
      });
    });
  }

  /** What `sedge clients` shows. */
  async clients(): Promise<readonly Client[]> {
    const found: Client[] = [];
    const stream = this.#introspectionClient.listClients({}, new Metadata(), { deadline: Date.now() + 5_000 });
    for await (const client of stream as AsyncIterable<Client>) found.push(client);
    return found;
  }

  get #introspectionClient(): IntrospectionServiceClient {
    this.#introspection ??= new IntrospectionServiceClient(`127.0.0.1:${this.#syncPort}`, credentials.createInsecure());
    return this.#introspection;
  }

  /** The CNI executable, as a runtime calls it. */
  cni({ command, node, namespace, pod, uid, containerId, netns }: CniCallOptions): Promise<ExecResult> {
    const config = { cniVersion: "1.1.0", name: "k8s-pod-network", type: "sedge-cni", socket: this.socketOf(node), queueDir: this.queueDirOf(node) };
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${pod};K8S_POD_INFRA_CONTAINER_ID=${containerId};K8S_POD_UID=${uid}`;
    const env = { CNI_COMMAND: command, CNI_CONTAINERID: containerId, CNI_NETNS: netns, CNI_IFNAME: "eth0", CNI_PATH: "/opt/cni/bin", CNI_ARGS: args };
    return exec([cniExecutable], { stdin: JSON.stringify(config), env, timeoutMs: 70_000 });
  }

  /** `nft` in a node's namespace. */
  nft(node: string, ...args: string[]): Promise<string> {
    return execOk(["ip", "netns", "exec", this.netnsOf(node), "nft", ...args]);
  }

  /** `ip` in a node's namespace. */
  ip(node: string, ...args: string[]): Promise<string> {
    return execOk(["ip", "-n", this.netnsOf(node), ...args]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const program of this.#programs.keys()) if (program.startsWith("agent")) this.signal(program, "SIGCONT");
    await this.#children.stopAll();
    this.#api?.close();
    this.#server?.close();
    this.#introspection?.close();
    if (process.env["SEDGE_KEEP"] === undefined) await this.#registry.release();
  }

  async #begin(): Promise<void> {
    this.#kubeconfig = join(this.dir, "kubeconfig");
    [this.#apiPort, this.#syncPort] = [await freePort(0), await freePort(0)];
    await this.startApi();
    await installCrds(this.api);
    await createCluster(this.api);
    this.#certificates = await writeCertificates(this.dir, this.nodes);
    this.startFanout();
    this.#server = new ServerView(`127.0.0.1:${this.#syncPort}`);
    await this.#server.waitUntilServing();
    await this.network.create();
    startForwarder(this.#children, { dir: this.dir, netns: this.network.fabric });
    for (const node of this.nodes) this.startAgent(node);
    await this.untilLevel();
  }

  #start(name: string, argv: readonly string[], netns?: string): void {
    this.#programs.set(name, this.#children.start(name, argv, netns === undefined ? {} : { netns }));
  }

  async #until(program: string, what: string, isSo: () => Promise<boolean>): Promise<void> {
    await poll(what, 20_000, async () => {
      if (!this.isUp(program)) throw new Error(`${program} ended; the end of its log:\n${this.#tail(program)}`);
      return isSo();
    });
  }

  #tail(program: string): string {
    const child = this.#programs.get(program);
    return child === undefined ? "" : `${program}:\n${logTail(child)}`;
  }
}

export function nodeOf(name: string): DemoNode {
  const node = NODES.find((candidate) => candidate.name === name);
  if (node === undefined) throw new Error(`no node ${name}`);
  return node;
}

/** Ends what a run left whose process is gone. */
async function removeAbandoned(): Promise<void> {
  for (const entry of readdirSync(tmpdir())) {
    const pid = new RegExp(`^${NAME}(\\d+)$`).exec(entry)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    await unmountBelow(join(tmpdir(), entry));
    await new Registry(join(tmpdir(), entry), `${entry}-`).release();
  }
}
