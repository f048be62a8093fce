/**
 * A small cluster to measure in, of the demo's parts: embedded API, one fan-out server over TLS, and one agent with a node's namespace of its own, which has a
 * pod. Every program is a process; `await using` ends them and removes what they left, as the next start does for a run that was killed.
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { credentials, Metadata } from "@grpc/grpc-js";
import { ApiClient } from "../../src/datastore/api-client.ts";
import { API_RESOURCES } from "../../src/datastore/api-resources.ts";
import { findConnection } from "../../src/datastore/kubeconfig.ts";
import { type Child, Children } from "../../src/demo/children.ts";
import { createCluster, createPodObject, installCrds } from "../../src/demo/cluster.ts";
import { DemoNetwork, NODES } from "../../src/demo/network.ts";
import { freePort, startAgent, startApi, startFanout, startForwarder, writeCertificates } from "../../src/demo/programs.ts";
import { Registry } from "../../src/demo/registry.ts";
import { ServerView } from "../../src/demo/server-view.ts";
import { type Client, IntrospectionServiceClient } from "../../src/wire/gen/sedge/sync/v1/introspection.ts";

const CALL_DEADLINE_MS = 5_000;

export interface BenchPrograms {
  readonly fanout: number;
  readonly agent: number;
}

export class BenchCluster implements AsyncDisposable {
  readonly api: ApiClient;
  /** Path of the node's network namespace. */
  readonly netns: string;
  /** Process ids. */
  readonly pids: BenchPrograms;
  readonly #stop: () => Promise<void>;
  readonly #introspection: IntrospectionServiceClient;

  private constructor(parts: { api: ApiClient; netns: string; pids: BenchPrograms; introspection: IntrospectionServiceClient; stop: () => Promise<void> }) {
    this.api = parts.api;
    this.netns = parts.netns;
    this.pids = parts.pids;
    this.#introspection = parts.introspection;
    this.#stop = parts.stop;
  }

  /** Its pod is shop/web with the label app=web. */
  static async start(): Promise<BenchCluster> {
    const name = `sedge-b${process.pid}`;
    const dir = join(tmpdir(), name);
    const registry = new Registry(dir, `${name}-`);
    registry.claim();
    const children = new Children(registry);
    const closing: (() => void)[] = [];
    const stop = async (): Promise<void> => {
      await children.stopAll();
      for (const close of closing) close();
      await registry.release();
    };
    try {
      const [node] = NODES;
      if (node === undefined) throw new Error("no node");
      const syncPort = await freePort(0);
      const api = new ApiClient({ connection: await findConnection({ file: await startApi(children, dir, await freePort(0)), environment: {} }) });
      closing.push(() => api.close());
      await installCrds(api);
      await createCluster(api);
      const certificates = await writeCertificates(dir, [node.name]);
      const fanout = startFanout(children, { dir, kubeconfig: join(dir, "kubeconfig"), port: syncPort, certificates });
      const server = new ServerView(`127.0.0.1:${syncPort}`);
      closing.push(() => server.close());
      await server.waitUntilServing();
      const network = new DemoNetwork(`${name}-`);
      await network.create();
      startForwarder(children, { dir, netns: network.fabric });
      await startAgent(children, node, { dir, certificates, netns: network.nodeNetns(node) });
      await createPodObject(api, { namespace: "shop", name: "web", node: node.name, labels: { app: "web" }, ports: [] });
      await server.waitUntilLevel(1);
      const introspection = new IntrospectionServiceClient(`127.0.0.1:${syncPort}`, credentials.createInsecure());
      closing.push(() => introspection.close());
      const pids = { fanout: pidOf(fanout), agent: pidOf(children.named(`agent-${node.name}`)) };
      return new BenchCluster({ api, netns: `/run/netns/${network.nodeNetns(node)}`, pids, introspection, stop });
    } catch (error) {
      await stop();
      throw error;
    }
  }

  /** An object of Calico's API, made or replaced. */
  async put(kind: "GlobalNetworkSet" | "GlobalNetworkPolicy", name: string, labels: Readonly<Record<string, string>>, spec: object): Promise<void> {
    const object = { apiVersion: "projectcalico.org/v3", kind, metadata: { name, labels }, spec };
    await this.api.patch(API_RESOURCES[kind], { name }, object, { type: "apply", fieldManager: "bench" });
  }

  /** Bytes that the server has sent to the agent in this session. */
  async bytesSent(): Promise<number> {
    let sum = 0n;
    const stream = this.#introspection.listClients({}, new Metadata(), { deadline: Date.now() + CALL_DEADLINE_MS });
    for await (const client of stream as AsyncIterable<Client>) sum += client.bytesSent;
    return Number(sum);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
  }
}

function pidOf(child: Child | undefined): number {
  const pid = child?.process.pid;
  if (pid === undefined) throw new Error(`${child?.name ?? "a program"} did not start`);
  return pid;
}
