/** The servers of a tier: processes with the same cluster, on ports that stay theirs, that know each other by the EndpointSlices of their Service. */
import { createServer } from "node:net";
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import type { FanoutSettings } from "../../fanout/server.ts";
import type { Certificates } from "../fanout/certificates.ts";
import type { ClusterShape } from "../fanout/cluster.ts";
import { startServer } from "../fanout/parts.ts";
import type { ChangeKind } from "../fanout/scenarios.ts";
import type { ServerEndpoint, ServerMethods } from "../fanout/server-process.ts";
import type { Worker } from "../fanout/worker.ts";

export interface ServersOptions {
  readonly count: number;
  readonly shape: ClusterShape;
  readonly delivery: DeliveryKind;
  readonly certificates?: Certificates;
  readonly settings?: Partial<FanoutSettings>;
}

export class Servers {
  readonly #options: ServersOptions;
  readonly #history: { readonly kind: ChangeKind; readonly changes: number }[] = [];
  readonly #workers: Worker<ServerMethods>[] = [];
  #list: ServerEndpoint[] = [];
  /** CPU of processes that are gone (us). */
  #spentCpuUs = 0;

  constructor(options: ServersOptions) {
    this.#options = options;
  }

  get ports(): readonly number[] {
    return this.#list.map(({ port }) => port);
  }

  at(index: number): Worker<ServerMethods> {
    const worker = this.#workers[index];
    if (worker === undefined) throw new RangeError(`there is no server ${index}`);
    return worker;
  }

  async start(): Promise<void> {
    const { count } = this.#options;
    const ports = await freePorts(count);
    this.#list = ports.map((port, index) => ({ name: `fanout-${index}`, port, isReady: true }));
    for (let index = 0; index < count; index++) this.#workers.push(startServer());
    await Promise.all(this.#list.map((_, index) => this.#load(index)));
  }

  /** As Kubernetes does it: not ready for anybody, then asked to stop. Resolves when it has no more clients and has closed its door. */
  async drain(index: number): Promise<void> {
    await this.#setReady(index, false);
    await this.at(index).call("drain", undefined);
  }

  /** A new process in its place; ready when it has the whole cluster. */
  async replace(index: number): Promise<void> {
    const worker = this.at(index);
    this.#spentCpuUs += (await worker.call("usage", { isCollected: false })).cpuUs;
    await worker.stop();
    this.#workers[index] = startServer();
    await this.#load(index);
    await this.#setReady(index, true);
  }

  /** The same changes at the same moment on all that run. */
  async change(kind: ChangeKind, changes: number, running: readonly number[]): Promise<void> {
    const load = { kind, ratePerSecond: 100, batch: 1, changes, isEachAlone: false, warmUpChanges: 0 };
    await Promise.all(running.map((index) => this.at(index).call("drive", { load, seconds: 0, nodes: 0 })));
    this.#history.push({ kind, changes });
  }

  /** Sums over all servers that run (`cpuUs`: and of those that ran). */
  async usage(): Promise<{ readonly cpuUs: number; readonly clients: number; readonly levelClients: number }> {
    let [cpuUs, clients, levelClients] = [this.#spentCpuUs, 0, 0];
    for (const worker of this.#workers) {
      const usage = await worker.call("usage", { isCollected: false });
      cpuUs += usage.cpuUs;
      clients += usage.clients;
      levelClients += usage.levelClients;
    }
    return { cpuUs, clients, levelClients };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.stop()));
  }

  async #load(index: number): Promise<void> {
    const { shape, delivery, certificates, settings } = this.#options;
    const { name: serverName, port } = this.#list[index] ?? { name: "", port: 0 };
    await this.at(index).call("start", {
      shape,
      delivery,
      port,
      tls: certificates?.server,
      history: this.#history,
      servers: this.#list,
      serverName,
      ...(settings === undefined ? {} : { settings }),
    });
  }

  async #setReady(index: number, isReady: boolean): Promise<void> {
    this.#list = this.#list.map((one, at) => (at === index ? { ...one, isReady } : one));
    await Promise.all(this.#workers.map((worker) => worker.call("servers", { list: this.#list })));
  }
}

/** Ports that nobody listens on at the moment. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === "object" && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
