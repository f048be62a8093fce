/** The process of simulated agents: those of the nodes `first` to `first + count`. */
import { createSecureContext } from "node:tls";
import { addDigest, addTo, bucketBitsFor, bucketOfHash } from "../../src/wire/digest.ts";
import type { Move } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { type AckMode, Acks } from "./acks.ts";
import { type AgentListener, CheckingAgent, CountingAgent, type SharedState, type SimulatedAgent } from "./agent.ts";
import type { AgentTls } from "./certificates.ts";
import { Keeper, type KeptFigures } from "./keeper.ts";
import { isSharedKey } from "./light-view.ts";
import { PackedBuckets } from "./packed-buckets.ts";
import { type Received, Recorder } from "./recorder.ts";
import { serverOrder } from "./server-order.ts";
import { serveCalls } from "./worker.ts";

/** Agents that may be without their view at once where it is not a storm that is measured. */
const UNANSWERED_AT_ONCE = 400;
const CONNECT_TIMEOUT_MS = 600_000;
const RETRY_MS = 1_000;

const recorder = new Recorder();
const acks = new Acks();
const packed = new PackedBuckets();
const keeper = new Keeper(sharedState);
let agents: SimulatedAgent[] = [];
let checking: CheckingAgent[] = [];
let paused: SimulatedAgent[] = [];
let bytesBefore = { received: 0, sent: 0 };
let isKept = false;
let onAnswered: () => void = () => undefined;
let onEnded: (agent: SimulatedAgent) => void = () => undefined;
let known: { readonly digest: bigint; readonly state: SharedState } | undefined;

const listener: AgentListener = {
  onAnswered(agent) {
    if (isKept) keeper.onAnswered(agent);
    else onAnswered();
  },
  onEnded(agent: SimulatedAgent, isRefused: boolean) {
    if (isKept) keeper.onEnded(agent, isRefused);
    else setTimeout(onEnded, RETRY_MS, agent);
  },
  onMove(agent: SimulatedAgent, move: Move) {
    if (isKept) keeper.onMove(agent, move);
  },
};

/** Makes the agents; nothing is connected. `tls`: of each of them. */
function create(options: {
  readonly first: number;
  readonly count: number;
  readonly sample: number;
  readonly tls: readonly AgentTls[] | undefined;
  readonly acks?: AckMode;
}): void {
  // Held back only while a load is driven.
  acks.mode = options.acks === "none" ? "each" : (options.acks ?? "paced");
  const { first, count, sample, tls } = options;
  const step = Math.max(1, Math.floor(count / sample));
  checking = [];
  agents = Array.from({ length: count }, (_, at) => {
    const own = tls?.[at];
    // Made beforehand: it takes longer than a handshake, and a storm is to come at once.
    const context = own === undefined ? undefined : createSecureContext({ ...own, minVersion: "TLSv1.3" });
    const parts = { index: first + at, recorder, acks, packed, listener, tls: context };
    if (at % step !== 0 || checking.length >= sample) return new CountingAgent(parts);
    const agent = new CheckingAgent(parts);
    checking.push(agent);
    return agent;
  });
}

/** Connects all; resolves when each has its whole view. `isResume`: they have one already and say so. `isStorm`: all at the same moment. */
async function connect(options: { readonly port: number; readonly isResume: boolean; readonly isStorm: boolean }): Promise<{ readonly ms: number }> {
  const began = performance.now();
  const shared = options.isResume ? sharedState() : undefined;
  let next = 0;
  let answered = 0;
  await new Promise<void>((resolve, reject) => {
    const fail = (): void => {
      const end = recorder.received().firstEnd;
      reject(new Error(`${answered} of ${agents.length} agents have their view after ${CONNECT_TIMEOUT_MS / 1000} s; first ended stream: ${end || "none"}`));
    };
    const timer = setTimeout(fail, CONNECT_TIMEOUT_MS);
    const connectNext = (): void => agents[next++]?.connect({ port: options.port, shared });
    // It counts as an ended stream all the same.
    onEnded = (agent) => agent.connect({ port: options.port, shared });
    onAnswered = () => {
      connectNext();
      if (++answered < agents.length) return;
      clearTimeout(timer);
      resolve();
    };
    for (let i = 0; i < (options.isStorm ? agents.length : UNANSWERED_AT_ONCE); i++) connectNext();
  });
  onAnswered = () => undefined;
  onEnded = () => undefined;
  return { ms: performance.now() - began };
}

/** Acknowledges what was held back; `mode` is how it goes on. */
function acknowledge({ mode }: { readonly mode: AckMode }): void {
  acks.release(mode);
}

function disconnect(): void {
  for (const agent of agents) agent.close();
}

/** All have nothing, as at their first start; only while disconnected. */
function forget(): void {
  for (const agent of agents) agent.forget();
}

/** From now on agents connect by themselves, by the agent's rules, each to the ports in an order of its own. `isConnected`: they are. */
function keep({ ports, isConnected }: { readonly ports: readonly number[]; readonly isConnected: boolean }): void {
  isKept = true;
  keeper.reset();
  for (const agent of agents) keeper.keep(agent, serverOrder(agent.index, ports), isConnected);
}

/** Servers have come or gone. */
function reorder({ ports }: { readonly ports: readonly number[] }): void {
  for (const agent of agents) keeper.reorder(agent, serverOrder(agent.index, ports));
}

/** Agents stay as they are and do nothing by themselves any more. */
function letGo(): void {
  isKept = false;
  keeper.release();
}

function resetKept(): void {
  keeper.reset();
}

function kept(): KeptFigures {
  return keeper.figures();
}

/** Agents that are connected to each of the ports. */
function countsOf({ ports }: { readonly ports: readonly number[] }): readonly number[] {
  const counts = keeper.counts();
  return ports.map((port) => counts.get(port) ?? 0);
}

/** The last so many read nothing any more. */
function pause({ count }: { readonly count: number }): void {
  paused = agents.slice(agents.length - count);
  for (const agent of paused) agent.pause();
}

/** Those that were paused go on. */
function resume(): void {
  for (const agent of paused) agent.resume();
  paused = [];
}

/** Counting begins here. */
function begin(): void {
  recorder.reset();
  bytesBefore = totalBytes();
}

/** What was received since `begin`, and TCP bytes both ways. */
function finish(): Received & { readonly wire: { readonly received: number; readonly sent: number } } {
  const { received, sent } = totalBytes();
  return { ...recorder.received(), wire: { received: received - bytesBefore.received, sent: sent - bytesBefore.sent } };
}

/** Agents whose view does not have the digest that the server gives it. By number of the node. */
function wrongDigests({ digests }: { readonly digests: BigUint64Array }): number {
  let shared = 0n;
  for (const record of checking[0]?.view.records.values() ?? []) if (isSharedKey(record.key)) shared = addDigest(shared, record.hash);
  return agents.filter((agent) => agent.digest(shared) !== digests[agent.index]).length;
}

function sharedState(): SharedState | undefined {
  const view = checking[0]?.view;
  if (view === undefined || view.size === 0) return undefined;
  if (known?.digest === view.digest) return known.state;
  const bits = bucketBitsFor(view.size);
  const digests = new BigUint64Array(2 ** bits);
  let records = 0;
  for (const { key, keyHash, hash } of view.records.values()) {
    if (!isSharedKey(key)) continue;
    addTo(digests, bucketOfHash(keyHash, bits), hash);
    records++;
  }
  known = { digest: view.digest, state: { bits, digests, records } };
  return known.state;
}

function totalBytes(): { readonly received: number; readonly sent: number } {
  let received = 0;
  let sent = 0;
  for (const { bytes } of agents) {
    received += bytes.received;
    sent += bytes.sent;
  }
  return { received, sent };
}

const methods = {
  create,
  acknowledge,
  connect,
  disconnect,
  forget,
  keep,
  reorder,
  letGo,
  resetKept,
  kept,
  countsOf,
  pause,
  resume,
  begin,
  finish,
  wrongDigests,
};
export type AgentsMethods = typeof methods;

serveCalls(methods);
