/**
 * Nodes, servers and an API for addresses in one process, every step of which a test decides: the real address managers with journals in memory, the real
 * server parts with caches that lag, and every write to the API held until it is let through.
 *
 * A server or an agent can stop at any such point and comes back with no memory (an agent with its disk or without). What was under way at a server goes
 * on after the agent gave up on it. Only the wire is left out; its messages are made and read as the real ones.
 * Above 500 lines, because nodes, servers and API are held up at the same steps, which are one state of one world.
 */
import type { ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import type { Attachment } from "../../agent/addresses/attachment.ts";
import { Journal } from "../../agent/addresses/journal.ts";
import { type AddressManager, createAddressManager } from "../../agent/addresses/manager.ts";
import type { UsedAddress } from "../../agent/addresses/recovery.ts";
import { ClaimCalls } from "../../agent/sync/claim-calls.ts";
import { ReportQueue } from "../../agent/sync/report-queue.ts";
import { AddressBook } from "../../fanout/claims/address-book.ts";
import type { AddressStore } from "../../fanout/claims/address-store.ts";
import { BlockClaims } from "../../fanout/claims/block-claims.ts";
import { Borrowing } from "../../fanout/claims/borrowing.ts";
import { EndpointReports } from "../../fanout/claims/endpoint-reports.ts";
import { Holdings } from "../../fanout/claims/holdings.ts";
import { requireNode } from "../../fanout/identity.ts";
import { claimService } from "../../fanout/services/claim-service.ts";
import { Ledger } from "../../src/compute/ledger.ts";
import { Loans } from "../../src/compute/loans.ts";
import { Collector } from "../../src/controllers/collector.ts";
import { AddressRepair } from "../../src/datastore/address-repair.ts";
import type { ApiClient } from "../../src/datastore/api-client.ts";
import { ApiError } from "../../src/datastore/api-error.ts";
import type { ApiResource } from "../../src/datastore/api-resources.ts";
import type { JsonObject } from "../../src/datastore/json-object.ts";
import type { AddressWriter } from "../../src/datastore/writer.ts";
import type { AddressSnapshot } from "../../src/ipam/audit.ts";
import type { ClusterEvent } from "../../src/model/event.ts";
import type { NodeName } from "../../src/model/names.ts";
import { RESOURCE_INFO } from "../../src/model/parse-resource.ts";
import type { Loans as LoansRecord, Pool } from "../../src/model/record.ts";
import type { BlockAffinity, IpamBlock, IpamConfiguration, IpPool, Pod } from "../../src/model/resource.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import type { SyncConnection } from "../../src/wire/sync-connection.ts";
import { MemoryAddressStore } from "../fakes/memory-address-store.ts";
import { MemoryJournalFiles, type WriteFault } from "../fakes/memory-journal-files.ts";

export const IDLE_MS = 2_000;
export const SPARE_IDLE_MS = 5_000;
export const COOLDOWN_MS = 500;
export const GRACE_MS = 3_000;
const CALL_TIMEOUT_MS = 10_000;

export class AddressesWorld {
  readonly clock = new ManualClock();
  readonly api = new MemoryAddressStore();
  readonly pools: IpPool[];
  readonly nodes: WorldNode[] = [];
  readonly servers: WorldServer[] = [];
  configuration: IpamConfiguration | undefined;
  /** Pods of the API, "namespace/name", and the node of each. */
  readonly pods = new Map<string, NodeName>();
  /** After each write to the API, by the server that made it. */
  wrote: (life: ServerLife) => void = () => undefined;
  readonly #collector: Collector;
  /** Work that goes on when it is picked. */
  readonly gates: (() => void)[] = [];
  #ids = 0;

  constructor(options: { readonly pools: readonly IpPool[]; readonly nodes: number; readonly servers?: number; readonly configuration?: IpamConfiguration }) {
    this.pools = [...options.pools];
    this.configuration = options.configuration;
    this.api.written = (event) => {
      for (const server of this.servers) server.told(event);
    };
    const writer = gated(this) as unknown as AddressWriter;
    this.#collector = new Collector({
      read: () => Promise.resolve(this.#snapshot()),
      repair: new AddressRepair({ client: { get: (kind, name) => this.#get(kind, name) } as ApiClient, writer }),
      clock: this.clock,
      log: silentLogger(),
      intervalMs: 1_000,
      leakGraceMs: GRACE_MS,
      nodeGraceMs: GRACE_MS,
      maxRepairs: 100,
      isDryRun: false,
    });
    for (let i = 0; i < options.nodes; i++) this.nodes.push(new WorldNode(this, `n${i + 1}` as NodeName));
    for (let i = 0; i < (options.servers ?? 2); i++) this.servers.push(new WorldServer(this));
  }

  /** One pass over what the API has. */
  async collect(): Promise<void> {
    await this.#collector.pass(new AbortController().signal);
  }

  /** The Node objects that there are. */
  get nodeNames(): ReadonlySet<NodeName> {
    return new Set(this.nodes.flatMap(({ isGone, name }) => (isGone ? [] : name)));
  }

  nodeChanged({ isGone, name }: WorldNode): void {
    const event: ClusterEvent = isGone
      ? { kind: "delete", key: { kind: "Node", namespace: "", name } }
      : { kind: "upsert", resource: { kind: "Node", name, resourceVersion: "1", labels: {}, addresses: [] } };
    for (const server of this.servers) server.told(event);
  }

  #snapshot(): AddressSnapshot {
    const pods = [...this.pods].map(([key, node]): Pod => {
      const found = RESOURCE_INFO.Pod.parse(podObject(key, node));
      if (!found.ok) throw new Error(`pod ${key} cannot be understood`);
      return found.value as Pod;
    });
    return { nodes: this.nodeNames, pods, pools: this.pools, blocks: this.blocks, affinities: this.affinities };
  }

  async #get(resource: ApiResource, { name, namespace = "" }: { readonly name: string; readonly namespace?: string | undefined }): Promise<JsonObject> {
    await this.gate();
    const node = this.pods.get(`${namespace}/${name}`);
    if (resource.kind === "Node" && this.nodeNames.has(name as NodeName)) return { metadata: { name } };
    if (resource.kind === "Pod" && node !== undefined) return podObject(`${namespace}/${name}`, node);
    throw new ApiError({ status: 404, request: `GET ${resource.kind} ${name}`, body: { reason: "NotFound" } });
  }

  newId(): string {
    return `id-${++this.#ids}`;
  }

  gate(): Promise<void> {
    return new Promise((resolve) => this.gates.push(resolve));
  }

  /** Lets one piece of waiting work go on; false when there is none. */
  async step(pick: (count: number) => number): Promise<boolean> {
    const waiting = this.servers.filter((server) => server.backlog.length > 0 && !server.isHeld);
    const count = this.gates.length + waiting.length;
    if (count > 0) {
      const index = pick(count);
      if (index < this.gates.length) this.gates.splice(index, 1)[0]?.();
      else waiting[index - this.gates.length]?.deliver();
    }
    await turn();
    for (const node of this.nodes) await node.checkFault();
    return count > 0;
  }

  /** Runs until nothing waits; with `promise` until that is settled, moving the clock when nothing else happens. */
  async settle(pick: (count: number) => number, promise?: Promise<unknown>): Promise<void> {
    const state = { isSettled: promise === undefined };
    promise
      ?.catch(() => undefined)
      .finally(() => {
        state.isSettled = true;
      })
      .catch(() => undefined);
    for (let quiet = 0, steps = 0; quiet < 4 || !state.isSettled; steps++) {
      if (steps > 20_000) throw new Error("the world does not come to rest");
      if (await this.step(pick)) quiet = 0;
      else if (++quiet >= 4 && !state.isSettled) await this.clock.advance(100);
    }
  }

  block(name: string): IpamBlock | undefined {
    return this.api.find("IPAMBlock", name);
  }

  get blocks(): readonly IpamBlock[] {
    return [...this.api.objects.values()].filter((object) => object.kind === "IPAMBlock");
  }

  get affinities(): readonly BlockAffinity[] {
    return [...this.api.objects.values()].filter((object) => object.kind === "BlockAffinity");
  }

  /** Addresses of pods whose ADD returned and that were not removed, with the node. */
  connected(): readonly { readonly node: NodeName; readonly address: string }[] {
    return this.nodes.flatMap(({ name, kernel }) => [...kernel.values()].flatMap(({ addresses }) => addresses.map((address) => ({ node: name, address }))));
  }
}

export class WorldServer {
  readonly #world: AddressesWorld;
  /** Events of the watch that it has not seen. */
  readonly backlog: ClusterEvent[] = [];
  /** Its watch does not go on. */
  isHeld = false;
  /** Told when this server's table changes. */
  readonly sessions = new Map<WorldNode, object>();
  #life!: ServerLife;

  constructor(world: AddressesWorld) {
    this.#world = world;
    this.start();
  }

  get life(): ServerLife {
    return this.#life;
  }

  told(event: ClusterEvent): void {
    this.backlog.push(event);
  }

  deliver(): void {
    const event = this.backlog.shift();
    if (event === undefined) return;
    this.#life.apply(event);
    for (const node of this.sessions.keys()) node.viewChanged();
  }

  /** A new process: what the old one had under way goes no further, and nobody hears of it. */
  start(): void {
    this.#life = new ServerLife(this.#world);
    this.backlog.length = 0;
    for (const node of this.sessions.keys()) node.disconnect();
  }

  stop(): void {
    this.#life.isDead = true;
    this.start();
  }
}

export class ServerLife {
  readonly book = new AddressBook();
  readonly reports: EndpointReports;
  readonly service: ReturnType<ReturnType<typeof claimService>>;
  isDead = false;
  readonly #loans = new Loans();
  readonly #records = new Map<string, { readonly record: LoansRecord; node: NodeName }>();

  constructor(world: AddressesWorld) {
    const { book } = this;
    const store = gated(world, this);
    const newId = (): string => world.newId();
    const borrowing = new Borrowing({ book, store, clock: world.clock, newId, waitMs: 4_000 });
    const holdings = new Holdings({ book, store, newId });
    const claims = new BlockClaims({ book, store, borrowing, newId });
    this.reports = new EndpointReports({ book, store });
    this.service = claimService({
      book,
      claims,
      borrowing,
      holdings,
      requireNode,
      refusal: () => undefined,
      onClaim: () => undefined,
      onError: () => undefined,
    })(() => ({ kind: "local" }));
    for (const name of world.nodeNames) this.apply({ kind: "upsert", resource: { kind: "Node", name, resourceVersion: "1", labels: {}, addresses: [] } });
    for (const resource of world.pools) this.apply({ kind: "upsert", resource });
    if (world.configuration !== undefined) this.apply({ kind: "upsert", resource: world.configuration });
    for (const resource of world.api.objects.values()) this.apply({ kind: "upsert", resource });
  }

  apply(event: ClusterEvent): void {
    this.book.apply(event);
    if (event.kind === "upsert" && event.resource.kind === "IPAMBlock") this.#loans.setBlock(event.resource.name, event.resource);
    if (event.kind === "upsert" && event.resource.kind === "Node") this.#loans.setNode(event.resource.name, true);
    if (event.kind === "delete" && event.key.kind === "Node") this.#loans.setNode(event.key.name as NodeName, false);
    if (event.kind === "delete" && event.key.kind === "IPAMBlock") this.#loans.setBlock(event.key.name, undefined);
    const ledger = new Ledger();
    this.#loans.commit(ledger);
    for (const { entered, isRemoved, key, value } of ledger.changes()) {
      if (isRemoved) this.#records.delete(key);
      else if (value?.kind === "loans") this.#records.set(key, { record: value, node: entered[0] ?? this.#records.get(key)?.node ?? ("" as NodeName) });
    }
  }

  loansOf(node: NodeName): readonly LoansRecord[] {
    return [...this.#records.values()].flatMap((entry) => (entry.node === node ? entry.record : []));
  }
}

export class WorldNode {
  readonly name: NodeName;
  readonly #world: AddressesWorld;
  /** Interfaces of pods whose ADD returned. */
  readonly kernel = new Map<string, Attachment>();
  files = new MemoryJournalFiles();
  manager: AddressManager | undefined;
  /** The machine is away and its Node object deleted. */
  isGone = false;
  /** Called once when a write has failed as `failWrite` said; what comes of the process then. */
  onFault: (() => Promise<void>) | undefined;
  journal: Journal | undefined;
  #server: WorldServer | undefined;
  #reports: ReportQueue | undefined;
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(world: AddressesWorld, name: NodeName) {
    this.#world = world;
    this.name = name;
  }

  async start(): Promise<void> {
    const world = this.#world;
    const { clock } = world;
    const life = new AbortController();
    this.#stop = life;
    const reports = new ReportQueue({ clock, log: silentLogger() });
    this.#reports = reports;
    const journal = await Journal.open({ files: this.files, node: this.name });
    const manager = createAddressManager({
      journal,
      claims: new ClaimCalls({ node: this.name, connection: () => (life.signal.aborted ? undefined : this.#connection(life.signal)) }),
      reports,
      clock,
      log: silentLogger(),
      pools: () => world.pools.map(poolRecord),
      usedAddresses: () => this.#used(),
      interfacePrefix: "cali",
      loans: () => this.#server?.life.loansOf(this.name) ?? [],
      cooldownMs: COOLDOWN_MS,
      idleMs: IDLE_MS,
      spareIdleMs: SPARE_IDLE_MS,
    });
    this.journal = journal;
    this.manager = manager;
    this.#running = manager.run(life.signal).catch(() => undefined);
    this.#audit(manager, life.signal).catch(() => undefined);
  }

  /** As the pod manager does at its start: what has no interface is released. */
  async #audit(manager: AddressManager, signal: AbortSignal): Promise<void> {
    await manager.whenTrusted(signal);
    if (signal.aborted) return;
    for (const attachment of manager.attachments()) if (!this.kernel.has(attachment.interfaceName)) await manager.detach(attachment);
  }

  /** The process ends; `losesDisk` and `reboot` (no interface is left) with it. */
  async crash(options: { readonly losesDisk?: boolean; readonly reboot?: boolean } = {}): Promise<void> {
    this.#stop.abort();
    this.#reports?.end();
    if (this.#server !== undefined) this.#server.sessions.delete(this);
    const server = this.#server;
    this.#server = undefined;
    if (options.reboot === true) this.kernel.clear();
    this.files.fault = { at: 0, how: "nothing" };
    this.files = new MemoryJournalFiles(options.losesDisk === true ? new Map() : this.files.files);
    // No process restarts within one tick of the clock.
    await this.#world.clock.advance(1);
    await this.start();
    if (server !== undefined) this.connect(server);
  }

  /** The machine goes, and its Node object with it. */
  vanish(): void {
    this.#stop.abort();
    this.disconnect();
    this.kernel.clear();
    this.files.fault = { at: 0, how: "nothing" };
    this.manager = undefined;
    this.isGone = true;
    for (const [key, node] of this.#world.pods) if (node === this.name) this.#world.pods.delete(key);
    this.#world.nodeChanged(this);
  }

  /** Another machine under the same name. */
  async appear(server: WorldServer | undefined): Promise<void> {
    this.isGone = false;
    this.#world.nodeChanged(this);
    await this.crash({ losesDisk: true });
    if (server !== undefined) this.connect(server);
  }

  async checkFault(): Promise<void> {
    const { fault, writes } = this.files;
    const { onFault } = this;
    if (onFault === undefined || fault === undefined || writes < fault.at) return;
    this.onFault = undefined;
    await onFault();
  }

  failWrite(at: number, how: WriteFault): void {
    this.files.fault = { at: this.files.writes + at, how };
  }

  connect(server: WorldServer): void {
    this.disconnect();
    this.#server = server;
    const session = {};
    const life = server.life;
    server.sessions.set(this, session);
    const reports = this.#reports;
    reports?.begin((report) => {
      life.reports.take({
        session,
        node: this.name,
        report,
        reply: (result) => {
          if (server.sessions.get(this) === session && !life.isDead && reports === this.#reports) reports.result(result);
        },
      });
    });
    this.viewChanged();
  }

  disconnect(): void {
    this.#server?.sessions.delete(this);
    this.#server = undefined;
    this.#reports?.end();
  }

  get isConnected(): boolean {
    return this.#server !== undefined;
  }

  viewChanged(): void {
    this.manager?.loansChanged().catch(() => undefined);
  }

  /** As ADD: resolves to the pod's attachment when its interface is there. */
  async attach(container: string, options?: Parameters<AddressManager["attach"]>[1]): Promise<Attachment> {
    const manager = this.manager;
    const life = this.#stop.signal;
    if (manager === undefined) throw new Error("the agent does not run");
    this.#world.pods.set(`shop/${container}`, this.name);
    const names = { namespace: "shop", pod: container, podUid: `uid-${container}` };
    const attachment = await manager.attach({ network: "net", containerId: container, ifname: "eth0", ...names, netns: "" }, options);
    if (life.aborted) throw new Error("the agent stopped");
    this.kernel.set(attachment.interfaceName, attachment);
    return attachment;
  }

  async detach(container: string): Promise<void> {
    const attachment = [...this.kernel.values()].find(({ containerId }) => containerId === container);
    if (attachment === undefined || this.manager === undefined) {
      this.#world.pods.delete(`shop/${container}`);
      return;
    }
    this.kernel.delete(attachment.interfaceName);
    // One that was recovered is known under another name.
    await this.manager.detach(this.manager.find(attachment) ?? attachment);
    this.#world.pods.delete(`shop/${container}`);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.disconnect();
    await this.#running;
  }

  #used(): readonly UsedAddress[] {
    return [...this.kernel.values()].flatMap(({ addresses, interfaceName }) => addresses.map((address) => ({ address, interfaceName })));
  }

  /** The unary calls, as grpc-js has them: given up on after a time, while the server goes on. */
  #connection(agent: AbortSignal): SyncConnection | undefined {
    const server = this.#server?.life;
    if (server === undefined) return undefined;
    const { clock } = this.#world;
    const method =
      (name: "claimBlock" | "listBlocks" | "releaseBlock") =>
      (request: unknown, _metadata: unknown, _options: unknown, callback: (error: unknown, response?: unknown) => void): { cancel(): void } => {
        let isOver = false;
        const end = (error: unknown, response?: unknown): void => {
          if (isOver || agent.aborted) return;
          isOver = true;
          callback(error, response);
        };
        const handler = server.service[name] as (call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>) => void;
        handler({ request } as ServerUnaryCall<unknown, unknown>, (error, response) => {
          if (server.isDead) return;
          // The answer is under way for a while too.
          this.#world.gates.push(() => end(error, response));
        });
        clock
          .sleep(CALL_TIMEOUT_MS)
          .then(() => end({ code: 4, details: "too late" }))
          .catch(() => undefined);
        return { cancel: () => end({ code: 1, details: "cancelled" }) };
      };
    return { claimBlock: method("claimBlock"), listBlocks: method("listBlocks"), releaseBlock: method("releaseBlock") } as unknown as SyncConnection;
  }
}

/** Of a server, or of the collector. Each call waits to be picked, before it takes effect and again before its caller learns what came of it; a dead server's call takes effect or not, and nobody learns. */
function gated(world: AddressesWorld, life?: ServerLife): AddressStore {
  const never = new Promise<never>(() => undefined);
  const isDead = (): boolean => life?.isDead === true;
  const around = async <T>(call: () => Promise<T>, isWrite = true): Promise<T> => {
    await world.gate();
    if (isDead()) return await never;
    const result = await call();
    if (isWrite && life !== undefined) world.wrote(life);
    await world.gate();
    return isDead() ? await never : result;
  };
  return {
    read: (kind, name) => around(() => world.api.read(kind, name), false),
    create: (resource) => around(() => world.api.create(resource)),
    update: (resource) => around(() => world.api.update(resource)),
    delete: (kind, object) => around(() => world.api.delete(kind, object)),
  };
}

function podObject(key: string, node: NodeName): JsonObject {
  const [namespace = "", name = ""] = key.split("/");
  return { apiVersion: "v1", kind: "Pod", metadata: { namespace, name }, spec: { nodeName: node, containers: [] }, status: {} };
}

function poolRecord({ blockSize, cidr, disabled, name, natOutgoing }: IpPool): Pool {
  return { kind: "pool", name, cidr, natOutgoing, disabled, blockSize };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
