/** What the scenarios of a tier share. */
import type { DeliveryKind } from "../../fanout/delivery/delivery.ts";
import type { AgentsMethods } from "../fanout/agents-process.ts";
import type { ClusterShape } from "../fanout/cluster.ts";
import { Worker } from "../fanout/worker.ts";
import type { Servers } from "./servers.ts";

export interface TierOptions {
  readonly agents: number;
  readonly podsPerNode: number;
  readonly policies: number;
  /** Of the handshake storm: those that are there before. */
  readonly connected: number;
  readonly movesPerSecond: number;
  readonly drainMs: number;
  readonly settleMs: number;
  readonly delivery: DeliveryKind;
  readonly sample: number;
  readonly seed: number;
  /** Progress, for people. */
  readonly say: (text: string) => void;
}

export function startAgents(): Worker<AgentsMethods> {
  return new Worker<AgentsMethods>(new URL("../fanout/agents-process.ts", import.meta.url));
}

const POLL_MS = 20;
const TIMEOUT_MS = 600_000;

/** Resolves with how long it took (ms). */
export async function waitUntil(isTrue: () => Promise<boolean>, what: string, timeoutMs = TIMEOUT_MS): Promise<number> {
  const began = performance.now();
  while (!(await isTrue())) {
    if (performance.now() - began > timeoutMs) throw new Error(`not ${what} after ${timeoutMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return performance.now() - began;
}

/** A cluster in which the first `agents` nodes have agents. */
export function shapeOf({ podsPerNode, policies, seed }: TierOptions, agents: number, nodes = agents): ClusterShape {
  return { agents, nodes, podsPerNode, policies, seed };
}

/** All agents are connected and have acknowledged everything. Resolves with how long it took (ms). */
export function untilLevel(servers: Servers, agents: number): Promise<number> {
  return waitUntil(async () => {
    const { clients, levelClients } = await servers.usage();
    return clients === agents && levelClients === agents;
  }, `all ${agents} agents level`);
}

/** What must hold at every quiet point. */
export async function failuresNow(servers: Servers, agents: Worker<AgentsMethods>, repairs: number): Promise<string[]> {
  const failures: string[] = [];
  const wrong = await agents.call("wrongDigests", { digests: await servers.at(0).call("digests", {}) });
  if (wrong > 0) failures.push(`${wrong} agents have another view than the servers say`);
  if (repairs > 0) failures.push(`${repairs} repairs`);
  return failures;
}
