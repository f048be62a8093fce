/**
 * What a cluster of a size needs of the server tier: arithmetic on what was measured with 5,000 agents. Pure; every assumption is a constant here and a sentence on
 * the page.
 */
import type { ScenarioResult } from "../fanout/result.ts";
import { fixed, table, thousands } from "./blocks.ts";
import type { Line } from "./lines.ts";

/** Pods that come or go, a second, for each node (100 a second on 5,000 nodes). */
const POD_EVENTS_PER_NODE = 0.02;
const CONCERNED_NODES = 20;
/** Changes that reach every node (a node's address, a pool), a second, for each node: one an hour. */
const NODE_CHANGES_PER_NODE = 1 / 3_600;
/** Of a core, in steady state, so that reconnects and bursts have room. */
const BUSY_SHARE = 0.6;
/** All agents come back at once within this (s): what one server must carry when another is gone. */
const RECONNECT_SECONDS = 10;
const SIZES = [1_000, 5_000, 20_000] as const;

interface Measures {
  readonly agents: number;
  readonly idleUsPerClient: number;
  readonly kbPerClient: number;
  readonly mbWithoutClients: number;
  readonly churnUsPerChange: number;
  readonly bytesPerDelivery: number;
  readonly broadcastUs: number;
  readonly broadcastBytes: number;
  readonly startBytes: number;
  readonly startUs: number;
  readonly reconnectUs: number;
  readonly reconnectBytes: number;
}

/** Undefined: a scenario is missing. */
export function measuresOf(lines: readonly Line[]): Measures | undefined {
  const find = (scenario: string): ScenarioResult | undefined =>
    lines.find((line): line is ScenarioResult => line.bench === "fanout" && line.scenario === scenario);
  const [idle, churn, broadcast, start, reconnect] = ["idle", "churn", "broadcast", "start", "reconnect"].map(find);
  if (idle === undefined || churn === undefined || broadcast === undefined || start === undefined || reconnect === undefined) return undefined;
  const { agents } = idle.cluster;
  const idleUsPerClient = (idle.coreShare * 1e6) / agents;
  const kbPerClient = idle.memory?.kbPerClient ?? 0;
  // The share of idling in the time of the churn is counted once.
  const churnUs = churn.coreShare * churn.seconds * 1e6 - idleUsPerClient * agents * churn.seconds;
  return {
    agents,
    idleUsPerClient,
    kbPerClient,
    mbWithoutClients: (idle.memory?.rssMb ?? 0) - (kbPerClient * agents) / 1e3,
    churnUsPerChange: Math.max(0, churnUs) / Math.max(1, churn.load?.changes ?? 0),
    bytesPerDelivery: churn.bytes?.perDelivery ?? 0,
    broadcastUs: broadcast.cpuUsPerDelivery ?? 0,
    broadcastBytes: broadcast.bytes?.perDelivery ?? 0,
    startBytes: start.perAgent?.bytesReceived ?? 0,
    startUs: start.perAgent?.cpuUs ?? 0,
    reconnectUs: reconnect.perAgent?.cpuUs ?? 0,
    reconnectBytes: (reconnect.perAgent?.bytesReceived ?? 0) + (reconnect.perAgent?.bytesSent ?? 0),
  };
}

export interface Need {
  readonly nodes: number;
  /** Agents of one server when all are there. */
  readonly agentsPerServer: number;
  readonly servers: number;
  readonly coreShare: number;
  readonly mb: number;
  readonly steadyKbPerSecond: number;
  readonly startMb: number;
  readonly startSeconds: number;
  readonly reconnectSeconds: number;
}

/** Every server has the whole cluster's records, and its part of the agents; with one gone the others carry its agents. */
export function needOf(measures: Measures, nodes: number): Need {
  const largest = largestShare(measures, nodes);
  const servers = Math.max(2, Math.ceil(nodes / largest) + 1);
  // As if one were away.
  const agents = Math.ceil(nodes / (servers - 1));
  return {
    nodes,
    servers,
    agentsPerServer: Math.ceil(nodes / servers),
    coreShare: steadyUs(measures, nodes, agents) / 1e6,
    mb: (measures.mbWithoutClients * nodes) / measures.agents + (measures.kbPerClient * agents) / 1e3,
    steadyKbPerSecond: bytesPerSecond(nodes, agents, measures) / 1e3,
    startMb: (agents * growing(measures.startBytes, measures, nodes)) / 1e6,
    startSeconds: (agents * growing(measures.startUs, measures, nodes)) / 1e6,
    reconnectSeconds: (agents * measures.reconnectUs) / 1e6,
  };
}

/** Most of a view are records of nodes: it grows with them. */
function growing(value: number, { agents }: Measures, nodes: number): number {
  return (value * nodes) / agents;
}

/** Agents that one server carries within the bounds, rounded down to hundreds. */
function largestShare(measures: Measures, nodes: number): number {
  let agents = 100;
  while (agents < nodes && steadyUs(measures, nodes, agents + 100) <= BUSY_SHARE * 1e6 && (agents + 100) * measures.reconnectUs <= RECONNECT_SECONDS * 1e6)
    agents += 100;
  return agents;
}

function steadyUs(measures: Measures, nodes: number, agents: number): number {
  const { idleUsPerClient, churnUsPerChange, broadcastUs } = measures;
  // Computing a change costs every server; delivering it, the one that has the agent. What is measured has both: a delivery is taken out at what it costs among many.
  const delivering = Math.min(churnUsPerChange, CONCERNED_NODES * broadcastUs);
  const churn = nodes * POD_EVENTS_PER_NODE * (churnUsPerChange - delivering + delivering * (agents / nodes));
  return agents * idleUsPerClient + churn + nodes * NODE_CHANGES_PER_NODE * agents * broadcastUs;
}

/** Bytes a second to the agents of one server. */
function bytesPerSecond(nodes: number, agents: number, { bytesPerDelivery, broadcastBytes }: Measures): number {
  const scoped = nodes * POD_EVENTS_PER_NODE * CONCERNED_NODES * (agents / nodes) * bytesPerDelivery;
  return scoped + nodes * NODE_CHANGES_PER_NODE * agents * broadcastBytes;
}

export function needsBlock(name: string, lines: readonly Line[]): string {
  const measures = measuresOf(lines);
  if (measures === undefined) return `Not measured yet: \`bench/baselines/${name}.jsonl\` has not all of start, idle, broadcast, churn and reconnect.`;
  const rows = SIZES.map((nodes) => {
    const need = needOf(measures, nodes);
    return [
      thousands(nodes),
      `${need.servers} (${thousands(need.agentsPerServer)} agents each)`,
      `${fixed(need.coreShare * 100)} %`,
      thousands(Math.round(need.mb)),
      fixed(need.steadyKbPerSecond),
      `${fixed(need.startMb)} MB, ${fixed(need.startSeconds)} s`,
      `${fixed(need.reconnectSeconds)} s`,
    ];
  });
  return [
    table(
      [
        "nodes",
        "servers",
        "core of one, steady",
        "memory of one, MB",
        "sent by one, KB/s",
        "all of its agents start with nothing",
        "all of its agents reconnect, CPU",
      ],
      rows,
    ),
    `Taken from [${name}](../bench/baselines/${name}.jsonl): an idle client ${fixed(measures.idleUsPerClient)} us of CPU a second and ${fixed(measures.kbPerClient)} KB; a pod event ${fixed(measures.churnUsPerChange)} us, its deliveries ${fixed(measures.bytesPerDelivery)} bytes; a change for all ${fixed(measures.broadcastUs)} us and ${fixed(measures.broadcastBytes)} bytes an agent; a first start ${thousands(measures.startBytes)} bytes and ${fixed(measures.startUs / 1_000)} ms of CPU; a reconnect ${thousands(measures.reconnectBytes)} bytes both ways and ${fixed(measures.reconnectUs / 1_000)} ms; the server alone ${fixed(measures.mbWithoutClients)} MB.`,
  ].join("\n\n");
}
