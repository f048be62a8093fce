/**
 * What one look of the leader at all policies costs: `sedge bench policy-status [--policies 10000] [--nodes 5000]`.
 *
 * A real table and the real writer, with clients that say what they lack; the API takes every write at once. One JSON line for each situation: the time
 * of a pass, the longest stretch in which the event loop served nothing, and beside it, in the same run, what finding each policy's record once takes.
 */
import { performance } from "node:perf_hooks";
import { setImmediate as yieldToEventLoop } from "node:timers/promises";
import { z } from "zod";
import { ObjectLog } from "../../fanout/object-log.ts";
import type { LagClient } from "../../fanout/policy-status/lag.ts";
import { PolicyStatuses, recordKeyOf } from "../../fanout/policy-status/statuses.ts";
import { PolicyStatusWriter } from "../../fanout/policy-status/writer.ts";
import type { NodeId } from "../../fanout/table/node-ids.ts";
import { Table } from "../../fanout/table/table.ts";
import type { NodeName } from "../../src/model/names.ts";
import { type RecordChange, type RecordKey, type RecordValue, type RuleSide, recordKey } from "../../src/model/record.ts";
import type { GlobalNetworkPolicy, ResourceKey } from "../../src/model/resource.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { silentLogger } from "../../src/runtime/log.ts";
import { benchSettings } from "../settings.ts";

/** Policies of one stack: so many apply to one pod. */
const PER_STACK = 50;
/** Nodes with a pod of one stack. */
const NODES_PER_STACK = 100;
const PASSES = 7;

interface Client extends LagClient {
  open: readonly RecordKey[];
}

interface World {
  readonly table: Table;
  readonly clients: Client[];
  readonly writer: PolicyStatusWriter;
  readonly keys: readonly ResourceKey[];
  readonly gone: Set<Client>;
  readonly stacks: readonly RecordKey[];
  /** Changes one node's record: the next look sees another revision. */
  readonly commit: () => void;
}

interface Situation {
  readonly name: string;
  readonly prepare: (world: World) => void;
}

const SITUATIONS: readonly Situation[] = [
  { name: "quiet", prepare: () => {} },
  {
    name: "one set changed, its nodes lag",
    prepare: ({ clients, commit }) => {
      commit();
      for (const client of clients.slice(0, NODES_PER_STACK)) client.open = ["set/s:0/"];
    },
  },
  {
    name: "a stack of each node lags",
    prepare: ({ clients, stacks, commit }) => {
      commit();
      for (const [i, client] of clients.entries()) client.open = [stacks[Math.floor(i / NODES_PER_STACK) % stacks.length] ?? ""];
    },
  },
  {
    name: "a tenth of the nodes is not connected",
    prepare: ({ clients, gone }) => {
      for (const [i, client] of clients.entries()) if (i % 10 === 0) gone.add(client);
    },
  },
  {
    name: "no node is connected",
    prepare: ({ clients, gone }) => {
      for (const client of clients) gone.add(client);
    },
  },
];

const schema = z.strictObject({
  policies: z.number().int().min(PER_STACK).default(10_000).describe("policies"),
  nodes: z.number().int().min(NODES_PER_STACK).default(5_000).describe("nodes"),
});

/** 0: measured. */
export async function main(argv: readonly string[]): Promise<number> {
  const settings = benchSettings(schema, { argv, usage: { name: "policy-status" } });
  if (settings === undefined) return 0;
  const { policies, nodes } = settings.config;
  const world = makeWorld(policies, nodes);
  await world.writer.pass(new AbortController().signal, policies);
  for (const { name, prepare } of SITUATIONS) {
    for (const client of world.clients) client.open = [];
    world.gone.clear();
    prepare(world);
    const floorMs = median(Array.from({ length: PASSES }, () => findEach(world)));
    const passes: Pass[] = [];
    for (let i = 0; i < PASSES; i++) passes.push(await measuredPass(world));
    process.stdout.write(
      `${JSON.stringify({
        bench: "policy-status",
        situation: name,
        policies,
        nodes,
        passMs: rounded(median(passes.map(({ tookMs }) => tookMs))),
        cpuMs: rounded(median(passes.map(({ cpuMs }) => cpuMs))),
        longestBlockMs: rounded(median(passes.map(({ blockMs }) => blockMs))),
        findEachMs: rounded(floorMs),
      })}\n`,
    );
  }
  return 0;
}

interface Pass {
  readonly tookMs: number;
  readonly cpuMs: number;
  readonly blockMs: number;
}

async function measuredPass({ writer }: World): Promise<Pass> {
  const done = new AbortController();
  let blockMs = 0;
  const watch = async (): Promise<void> => {
    for (let last = performance.now(); !done.signal.aborted; ) {
      await yieldToEventLoop();
      const now = performance.now();
      blockMs = Math.max(blockMs, now - last);
      last = now;
    }
  };
  const watching = watch();
  await yieldToEventLoop();
  const cpu = process.cpuUsage();
  const start = performance.now();
  await writer.pass(new AbortController().signal, 1);
  const tookMs = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  done.abort();
  await watching;
  return { tookMs, cpuMs: (user + system) / 1000, blockMs };
}

function findEach({ table, keys }: World): number {
  const start = performance.now();
  let nodes = 0;
  for (const key of keys) nodes += table.findEntry(recordKeyOf(key))?.audience.size ?? 0;
  return nodes > 0 ? performance.now() - start : Number.NaN;
}

function makeWorld(policies: number, nodes: number): World {
  const table = new Table({ seed: 1n });
  const names = Array.from({ length: nodes }, (_, i) => `node-${i}` as NodeName);
  const keys = Array.from({ length: policies }, (_, i): ResourceKey => ({ kind: "GlobalNetworkPolicy", namespace: "", name: `policy-${i}` }));
  const stacks: RecordKey[] = [];
  const changes: RecordChange[] = [];
  const put = (value: RecordValue, entered: readonly NodeName[]): void => {
    changes.push({ key: recordKey(value), value, isRemoved: false, entered, left: [] });
  };
  for (const name of names) put({ kind: "node", name, addresses: [], blocks: [] }, []);
  for (let start = 0; start < policies; start += PER_STACK) {
    const at = ((start / PER_STACK) * NODES_PER_STACK) % nodes;
    const audience = names.slice(at, at + NODES_PER_STACK);
    const own = keys.slice(start, start + PER_STACK);
    const id = `stack-${start}`;
    const tier = { name: "default", defaultAction: "deny", ingress: own.map(recordKeyOf), egress: [] } as const;
    put({ kind: "stack", id, tiers: [tier], noMatchAction: "allow" }, audience);
    stacks.push(`stack/${id}`);
    for (const [i, { name }] of own.entries()) {
      const set = `s:${start + i}`;
      const rule = { action: "allow", protocol: 6, source: { ...ANY, sets: [set] }, destination: ANY, origin: 0 } as const;
      put({ kind: "policy", policyKind: "GlobalNetworkPolicy", namespace: "", name, tier: "default", ingress: [rule], egress: [] }, audience);
      put({ kind: "set", id: set, shard: "", type: "address", members: [] }, audience);
    }
  }
  table.commit(changes, 1n);
  const clients = names.map((name) => clientOf(name, table));
  const byNode = new Map(clients.map((client) => [client.node?.id, client]));
  const gone = new Set<Client>();
  const sessions = { everyClient: () => clients.filter((client) => !gone.has(client)), clientOf: (id: NodeId) => byNode.get(id) };
  const engine = { isInSync: true, problems: [], objects: objectsOf(keys), refreshVersions: () => {} };
  const statuses = new PolicyStatuses({ serverName: "bench", table, sessions, engine, versions: undefined });
  const client = { list: async () => ({ items: [], continueToken: "", resourceVersion: "1" }), patch: async () => ({}) };
  const writer = new PolicyStatusWriter({ client, statuses, clock: systemClock, log: silentLogger(), writesPerSecond: 1 });
  let commits = 0;
  const commit = (): void => {
    const value: RecordValue = { kind: "node", name: "node-0" as NodeName, addresses: [], blocks: [], ...(++commits % 2 === 0 ? {} : { key: "x" }) };
    table.commit([{ key: recordKey(value), value, isRemoved: false, entered: [], left: [] }], 1n);
  };
  return { table, clients, writer, keys, gone, stacks, commit };
}

const ANY: RuleSide = { nets: [], notNets: [], sets: [], notSets: [], ports: [], portSets: [] };

function clientOf(name: NodeName, table: Table): Client {
  const id = table.nodes.findId(name);
  return {
    node: id === undefined ? undefined : { name, id },
    open: [],
    state: "live",
    dirtyKeys: 0,
    acknowledged: { programmed: 1n, received: 1n, sent: 2n, failed: [], at: 1 },
    get isLevel() {
      return this.open.length === 0;
    },
    askForAck: () => {},
    openKeys() {
      return this.open;
    },
  };
}

function objectsOf(keys: readonly ResourceKey[]): ObjectLog {
  const objects = new ObjectLog();
  for (const { name } of keys) objects.note({ kind: "upsert", resource: { ...POLICY, name }, generation: 1 });
  objects.settle({ commit: undefined, revision: 1n, nowUnixUs: 1n });
  return objects;
}

const POLICY: Omit<GlobalNetworkPolicy, "name"> = {
  kind: "GlobalNetworkPolicy",
  resourceVersion: "1",
  tier: "default",
  order: undefined,
  selector: "all()",
  serviceAccountSelector: "",
  namespaceSelector: "",
  types: ["Ingress"],
  ingress: [],
  egress: [],
  doNotTrack: false,
  preDNAT: false,
  applyOnForward: false,
};

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
