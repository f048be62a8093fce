/**
 * Tells agents when the list of servers has changed, and asks those to move whose first choice is another server.
 *
 * Gently: a server must have been ready for a while before anybody is sent to it, agents are asked one after the other at a bounded rate, each at most once
 * in five minutes, and one that does not get through stays where it is. Rejected: a limit of connections above which clients are cut (Typha: it counts
 * servers that are not ready, hits agents at random, and each victim is sent everything again).
 */
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import type { Session } from "../session/session.ts";
import type { Sessions } from "../session/sessions.ts";
import type { Choices } from "./choices.ts";
import type { Members } from "./members.ts";

export interface RebalancerOptions {
  readonly members: Members;
  readonly choices: Choices;
  readonly sessions: Pick<Sessions, "clients" | "move" | "tellServers">;
  readonly clock: Clock;
  readonly log: Logger;
  /** Agents asked to move in a second. */
  readonly movesPerSecond: number;
  /** A server must have been ready for this long. */
  readonly settleMs?: number;
  readonly onAsked?: (agents: number) => void;
}

/** What an operator asks for. */
export interface RebalanceWish {
  /** undefined: the usual pace. */
  readonly movesPerSecond: number | undefined;
  readonly isDryRun: boolean;
}

export interface Rebalance {
  readonly moving: number;
  readonly staying: number;
  readonly spanMs: number;
}

/** Of servers that move their agents at the same time. */
export function sumOf(parts: readonly Rebalance[]): Rebalance {
  const sum = (of: (part: Rebalance) => number): number => parts.reduce((total, part) => total + of(part), 0);
  return { moving: sum(({ moving }) => moving), staying: sum(({ staying }) => staying), spanMs: Math.max(...parts.map(({ spanMs }) => spanMs)) };
}

/** Changes of the list that come together are told together. */
const DEBOUNCE_MS = 500;
const TICK_MS = 250;
/** Looked at this often though the list did not change: an agent may have come here because its first choice was away for a moment. */
const CHECK_MS = 60_000;
const ASK_AGAIN_MS = 300_000;
const SETTLE_MS = 10_000;

export class Rebalancer implements Part {
  readonly name = "rebalance";
  readonly #options: RebalancerOptions;
  /** By identity, for members that are ready. */
  readonly #readySince = new Map<string, number>();
  #changedAt: number | undefined;
  #checkedAt = 0;

  constructor(options: RebalancerOptions) {
    this.#options = options;
    options.members.onChange(() => this.#noteChange());
    this.#noteChange();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, sessions, settleMs = SETTLE_MS } = this.#options;
    this.#checkedAt = clock.now();
    while (!signal.aborted) {
      await clock.sleep(TICK_MS, signal);
      if (signal.aborted) return;
      const now = clock.now();
      if (this.#changedAt !== undefined && now - this.#changedAt >= DEBOUNCE_MS) {
        this.#changedAt = undefined;
        sessions.tellServers();
      }
      const isNewlySettled = [...this.#readySince.values()].some((since) => since + settleMs > this.#checkedAt && since + settleMs <= now);
      if (!isNewlySettled && now - this.#checkedAt < CHECK_MS) continue;
      this.#checkedAt = now;
      this.#move(this.#plan(true), this.#options.movesPerSecond);
    }
  }

  /** As an operator asks: everybody whose first choice is another server, also those that were asked lately. */
  rebalance({ movesPerSecond, isDryRun }: RebalanceWish): Rebalance {
    const { sessions } = this.#options;
    const plan = this.#plan(false);
    const perSecond = movesPerSecond ?? this.#options.movesPerSecond;
    const spanMs = isDryRun ? Math.round((Math.max(0, plan.length - 1) * 1_000) / perSecond) : this.#move(plan, perSecond);
    return { moving: plan.length, staying: sessions.clients.size - plan.length, spanMs };
  }

  #move(plan: readonly { readonly session: Session; readonly targets: readonly string[] }[], perSecond: number): number {
    if (plan.length === 0) return 0;
    const { sessions, log, onAsked } = this.#options;
    const spanMs = sessions.move(plan, "another server is this node's first choice", perSecond);
    log.info({ agents: plan.length, staying: sessions.clients.size - plan.length, spanMs }, "asking agents to move to their first choice");
    onAsked?.(plan.length);
    return spanMs;
  }

  #plan(isAutomatic: boolean): readonly { readonly session: Session; readonly targets: readonly string[] }[] {
    const { choices, clock, members, sessions, settleMs = SETTLE_MS } = this.#options;
    if (members.self === undefined) return [];
    const now = clock.now();
    const plan: { session: Session; targets: readonly string[] }[] = [];
    for (const session of sessions.clients) {
      // What is being sent its view would lose what it has of it.
      if (session.node === undefined || session.state !== "live") continue;
      if (isAutomatic && (now - session.connectedAt < settleMs || now - (session.movedAt ?? Number.NEGATIVE_INFINITY) < ASK_AGAIN_MS)) continue;
      const [first] = choices.ranked(session.node.name);
      if (first === undefined || first.isSelf) continue;
      if (isAutomatic && now - (this.#readySince.get(first.identity) ?? now) < settleMs) continue;
      plan.push({ session, targets: first.addresses });
    }
    return plan;
  }

  #noteChange(): void {
    const { clock, members } = this.#options;
    const now = clock.now();
    this.#changedAt ??= now;
    const ready = new Set(members.ready.map(({ identity }) => identity));
    for (const identity of this.#readySince.keys()) if (!ready.has(identity)) this.#readySince.delete(identity);
    for (const identity of ready) if (!this.#readySince.has(identity)) this.#readySince.set(identity, now);
  }
}
