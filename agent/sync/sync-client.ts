/**
 * The agent's side of the record stream: one session after the other, for as long as the agent lives.
 *
 * Which server is the book's matter (server-book.ts). Here: the best that may be tried is tried at once; while it does not answer the next one is, beside it,
 * and the first connection that stands is used. So an agent is without a server for as long as all of them are, and hardly longer.
 * Invariant: nothing is applied but whole commits, in order; a session that ends takes nothing away. Every wait has a bound and ends at the signal.
 */
import type { SessionFailure, SyncConnection } from "../../src/wire/sync-connection.ts";
import type { Dialed } from "./dial.ts";
import type { Candidate } from "./server-book.ts";
import { asDialError, SyncSession, type SyncSessionOptions } from "./sync-session.ts";

export interface SyncClientOptions extends SyncSessionOptions {
  /** The addresses of a given name; absent: names are left to the connection. */
  readonly resolve?: (given: string) => Promise<readonly string[]>;
  /** A session that ended, or did not begin: for metrics. */
  readonly onSessionEnd: (failure: SessionFailure) => void;
  /** A session is live, after so long without one (s); not at the first. */
  readonly onReconnected?: (seconds: number) => void;
}

/** A server that does not answer for this long is not waited for alone; the third is tried after twice as long again. */
const HEDGE_MS = 800;
const MAX_AT_ONCE = 3;
/** Agents whose server has just died come to the others over this span. */
const LOST_SPREAD_MS = 250;
const RESOLVE_EVERY_MS = 10_000;
const RESOLVE_WAIT_MS = 2_000;

type Outcome = { readonly candidate: Candidate } & ({ readonly dialed: Dialed } | { readonly error: unknown });

export class SyncClient {
  readonly name = "sync";
  readonly #options: SyncClientOptions;
  #connection: SyncConnection | undefined;
  #resolvedAt = Number.NEGATIVE_INFINITY;
  /** When the last live session ended. */
  #lostAt: number | undefined;

  constructor(options: SyncClientOptions) {
    this.#options = {
      ...options,
      onLive: () => {
        if (this.#lostAt !== undefined) options.onReconnected?.((options.clock.now() - this.#lostAt) / 1_000);
        this.#lostAt = undefined;
        options.onLive?.();
      },
    };
  }

  /** The connection of the present session, for unary calls; undefined when there is none. */
  get connection(): SyncConnection | undefined {
    return this.#connection;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { book, clock, log, onSessionEnd } = this.#options;
    const random = this.#options.random ?? Math.random;
    let dialed: Dialed | undefined;
    while (!signal.aborted) {
      dialed ??= await this.#connect(signal);
      if (dialed === undefined) return;
      const { address } = dialed;
      this.#connection = dialed.calls;
      const session = new SyncSession(dialed, this.#options);
      const failure = await session.run(signal);
      this.#connection = undefined;
      if (session.wasLive) this.#lostAt = clock.now();
      dialed = session.next;
      if (signal.aborted) break;
      onSessionEnd(failure);
      if (dialed !== undefined) continue;
      log.warn(
        { server: address, code: failure.code, reason: failure.detail, retryAfterMs: failure.retryAfterMs },
        failure.isLasting ? "the server refuses this agent" : "session ended",
      );
      book.failed(address, clock.now(), { ...failure, isRefused: session.wasLive });
      if (session.wasLive) await clock.sleep(LOST_SPREAD_MS * random(), signal);
    }
    dialed?.close();
  }

  /** The first connection that stands; undefined: the signal has aborted. */
  async #connect(signal: AbortSignal): Promise<Dialed | undefined> {
    const { book, clock } = this.#options;
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const tries = new Map<string, Promise<Outcome>>();
    let tryAt = clock.now();
    try {
      await this.#resolveNames(signal);
      while (!signal.aborted) {
        const now = clock.now();
        const candidate = tries.size < MAX_AT_ONCE && now >= tryAt ? book.next(now, new Set(tries.keys())) : undefined;
        if (candidate !== undefined) {
          tries.set(candidate.address, this.#try(candidate, either));
          tryAt = now + HEDGE_MS * 2 ** (tries.size - 1);
          continue;
        }
        const waitMs = tries.size >= MAX_AT_ONCE ? Number.POSITIVE_INFINITY : Math.max(tryAt - now, book.waitMs(now, new Set(tries.keys())));
        const outcome = await this.#first([...tries.values()], waitMs, signal);
        if (outcome === undefined) continue;
        tries.delete(outcome.candidate.address);
        if ("dialed" in outcome) return outcome.dialed;
        if (!signal.aborted) this.#failed(outcome);
        tryAt = clock.now();
        await this.#resolveNames(signal);
      }
      return undefined;
    } finally {
      stop.abort();
      // Those that come too late are closed.
      for (const late of tries.values()) void late.then((outcome) => ("dialed" in outcome ? outcome.dialed.close() : undefined));
    }
  }

  /** Never rejects. */
  async #try(candidate: Candidate, signal: AbortSignal): Promise<Outcome> {
    try {
      return { candidate, dialed: await this.#options.dial(candidate, signal) };
    } catch (error) {
      return { candidate, error };
    }
  }

  /** The first outcome; undefined: the time is over, or the signal has aborted. */
  async #first(tries: readonly Promise<Outcome>[], waitMs: number, signal: AbortSignal): Promise<Outcome | undefined> {
    const done = new AbortController();
    const waiting = AbortSignal.any([signal, done.signal]);
    const timeOut = async (): Promise<undefined> => {
      await this.#options.clock.sleep(Math.min(Math.ceil(waitMs) + 1, MAX_WAIT_MS), waiting);
      return undefined;
    };
    try {
      return await Promise.race([...tries, timeOut()]);
    } finally {
      done.abort();
    }
  }

  #failed({ candidate, error }: { readonly candidate: Candidate; readonly error: unknown }): void {
    const { book, clock, log, onSessionEnd } = this.#options;
    const { failure, isRefused } = asDialError(error);
    book.failed(candidate.address, clock.now(), { ...failure, isRefused });
    onSessionEnd(failure);
    log.warn({ server: candidate.address, code: failure.code, reason: failure.detail }, "no connection to the server");
  }

  /** Names are looked up now and then, beside everything else; only an agent that knows no address at all waits for it. */
  async #resolveNames(signal: AbortSignal): Promise<void> {
    const { book, clock, resolve } = this.#options;
    const { names } = book;
    if (resolve === undefined || names.length === 0 || clock.now() - this.#resolvedAt < RESOLVE_EVERY_MS) return;
    this.#resolvedAt = clock.now();
    const asked = Promise.all(names.map((given) => this.#resolveName(given, resolve)));
    if (book.candidates.every(({ address }) => names.includes(address))) await Promise.race([asked, clock.sleep(RESOLVE_WAIT_MS, signal)]);
  }

  async #resolveName(given: string, resolve: (given: string) => Promise<readonly string[]>): Promise<void> {
    const { book, log } = this.#options;
    try {
      book.resolve(given, await resolve(given));
    } catch (error) {
      // What it stood for before stays.
      log.warn({ err: error, server: given }, "the name of the servers cannot be looked up");
    }
  }
}

const MAX_WAIT_MS = 30_000;
