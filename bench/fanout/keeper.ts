/**
 * Keeps simulated agents connected by the agent's own rules (agent/sync/sync-client.ts): servers in an order of its own for each agent, the one that worked
 * first, another at once when one fails, back-off after a round, and a moment of its own when all are asked to move. Knows how long each was without a server.
 */
import { Backoff, jittered } from "../../src/runtime/retry.ts";
import type { Move } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import type { AgentListener, SharedState, SimulatedAgent } from "./agent.ts";
import { Latency, type LatencyFigures } from "./latency.ts";

export interface KeptFigures {
  /** From the loss of a server until the view was confirmed by another (or the same), each time. */
  readonly outageMs: LatencyFigures;
  readonly connected: number;
  readonly moves: number;
  /** Tries that led to nothing: refused, or nobody there. */
  readonly failedTries: number;
}

interface Kept {
  order: readonly number[];
  preferred: readonly number[];
  next: number;
  wasLive: boolean;
  isConnected: boolean;
  /** Undefined: has a server. */
  lostAt: number | undefined;
  /** That it is connected to, or tries. */
  port: number;
  timer: NodeJS.Timeout | undefined;
  readonly backoff: Backoff;
}

/** What the server asks of those that it refuses (trailer retry-after-ms, which the bench's streams do not read). */
const ASKED_MS = 1_000;
const MOST_SPREAD_MS = 10_000;

export class Keeper implements AgentListener {
  readonly #kept = new Map<SimulatedAgent, Kept>();
  readonly #outage = new Latency();
  readonly #shared: () => SharedState | undefined;
  #moves = 0;
  #failedTries = 0;

  /** `shared`: see ConnectOptions. */
  constructor(shared: () => SharedState | undefined) {
    this.#shared = shared;
  }

  /** From now on the agent is kept connected to one of these ports, the first at first. */
  keep(agent: SimulatedAgent, order: readonly number[], isConnected: boolean): void {
    const kept: Kept = {
      order,
      preferred: [],
      next: 0,
      wasLive: isConnected,
      isConnected,
      lostAt: isConnected ? undefined : performance.now(),
      port: order[0] ?? 0,
      timer: undefined,
      backoff: new Backoff({ initialMs: 200, maxMs: 15_000 }),
    };
    this.#kept.set(agent, kept);
    if (!isConnected) this.#connect(agent, kept);
  }

  /** Other servers; those that are connected stay where they are. */
  reorder(agent: SimulatedAgent, order: readonly number[]): void {
    const kept = this.#kept.get(agent);
    if (kept !== undefined) kept.order = order;
  }

  release(): void {
    for (const { timer } of this.#kept.values()) clearTimeout(timer);
    this.#kept.clear();
  }

  reset(): void {
    this.#outage.reset();
    this.#moves = 0;
    this.#failedTries = 0;
  }

  figures(): KeptFigures {
    const connected = [...this.#kept.values()].filter(({ isConnected }) => isConnected).length;
    return { outageMs: this.#outage.figures(), connected, moves: this.#moves, failedTries: this.#failedTries };
  }

  onAnswered(agent: SimulatedAgent): void {
    const kept = this.#kept.get(agent);
    if (kept === undefined) return;
    if (kept.lostAt !== undefined) this.#outage.record((performance.now() - kept.lostAt) * 1000);
    kept.lostAt = undefined;
    kept.wasLive = true;
    kept.isConnected = true;
    kept.backoff.reset();
  }

  /** Connected agents by port. */
  counts(): ReadonlyMap<number, number> {
    const counts = new Map<number, number>();
    for (const { isConnected, port } of this.#kept.values()) if (isConnected) counts.set(port, (counts.get(port) ?? 0) + 1);
    return counts;
  }

  onEnded(agent: SimulatedAgent, isRefused: boolean): void {
    const kept = this.#kept.get(agent);
    if (kept === undefined) return;
    clearTimeout(kept.timer);
    kept.lostAt ??= performance.now();
    kept.isConnected = false;
    if (!kept.wasLive) {
      kept.next++;
      this.#failedTries++;
    }
    const isRoundOver = kept.wasLive || kept.next % serversOf(kept).length === 0;
    const askedMs = isRefused ? ASKED_MS : 0;
    this.#later(agent, kept, isRoundOver || askedMs > 0 ? kept.backoff.next(askedMs) : jittered(50, 0.5));
  }

  onMove(agent: SimulatedAgent, { deadlineMs, targets, afterMs }: Move): void {
    const kept = this.#kept.get(agent);
    if (kept === undefined) return;
    this.#moves++;
    clearTimeout(kept.timer);
    kept.timer = setTimeout(
      () => {
        agent.close();
        kept.lostAt = performance.now();
        kept.isConnected = false;
        kept.preferred = targets.map((target) => Number(target.split(":").at(-1)));
        kept.next = targets.length > 0 ? 0 : kept.next + 1;
        this.#connect(agent, kept);
      },
      afterMs ?? Math.min(MOST_SPREAD_MS, deadlineMs / 2) * Math.random(),
    );
  }

  #later(agent: SimulatedAgent, kept: Kept, ms: number): void {
    kept.timer = setTimeout(() => this.#connect(agent, kept), ms);
  }

  #connect(agent: SimulatedAgent, kept: Kept): void {
    const servers = serversOf(kept);
    kept.wasLive = false;
    kept.port = servers[kept.next % servers.length] ?? 0;
    agent.connect({ port: kept.port, shared: this.#shared() });
  }
}

function serversOf({ preferred, order }: Kept): readonly number[] {
  return preferred.length === 0 ? order : [...preferred, ...order.filter((port) => !preferred.includes(port))];
}
