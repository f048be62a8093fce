/**
 * One record stream of the agent, from Hello to its end.
 *
 * The protocol is `AgentSession` (src/wire), pure; this carries its outputs out: bytes to the stream, commits to `onCommit` one after the other (the
 * stream waits while a commit is written to disk), acknowledgements and reports back. It leaves for another server only when the connection to that one
 * stands (`next`), so that a move costs the agent no time without a server, and one that does not work costs nothing.
 */

import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { jittered } from "../../src/runtime/retry.ts";
import { type AgentOutput, AgentSession, encodeAck, encodeEndpointReport } from "../../src/wire/agent-protocol.ts";
import type { Heartbeat, Move } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { failureOf, type SessionFailure } from "../../src/wire/sync-connection.ts";
import type { View, ViewDelta } from "../../src/wire/view.ts";
import type { Acknowledgements } from "./acknowledgements.ts";
import { ABORTED, type Dial, DialError, type Dialed, type SyncStream } from "./dial.ts";
import type { Freshness } from "./freshness.ts";
import type { ReportQueue } from "./report-queue.ts";
import { type Candidate, type KnownServer, knownServers, type ServerBook } from "./server-book.ts";
import { PACKING_FEATURES, unpack } from "./unpack.ts";

export interface SyncSessionOptions {
  readonly node: string;
  readonly version: string;
  readonly book: ServerBook;
  readonly dial: Dial;
  readonly view: View;
  /** The view changed: write it down, then program it. The next message is read when it resolves. It must not reject for a full disk. */
  readonly onCommit: (delta: ViewDelta, isAnswer: boolean) => Promise<void>;
  /** The server confirmed that the view is the newest, up to the view's revision. */
  readonly onConfirmed: () => void;
  /** A view that was not what the server has: for metrics. */
  readonly onRepair: () => void;
  /** A session is live. */
  readonly onLive?: () => void;
  /** A server told which servers there are. */
  readonly onServers?: (servers: readonly KnownServer[]) => void;
  readonly acknowledgements: Acknowledgements;
  readonly reports: ReportQueue;
  readonly freshness: Freshness;
  readonly clock: Clock;
  readonly log: Logger;
  /** How often it is looked whether the node's certificate is another now (ms). */
  readonly certificateCheckMs?: number;
  /** In [0, 1). */
  readonly random?: () => number;
}

/** For the server's Welcome. */
const GREETING_TIMEOUT_MS = 10_000;
const SILENT_HEARTBEATS = 3;
/** An agent that knows no list of a server looks this often whether its first choice is there again; with a list the server asks it to move. */
const RETURN_CHECK_MS = 60_000;
/** The first choice must not have failed for this long. */
const RETURN_HEALTHY_MS = 30_000;
const CERTIFICATE_CHECK_MS = 60_000;
/** Without a moment of its own for a Move. */
const MOVE_SPREAD_MS = 10_000;
const MOVE_RETRY_MS = 500;

export class SyncSession {
  wasLive = false;
  /** The connection to the server that it has left for. */
  next: Dialed | undefined;
  readonly #dialed: Dialed;
  readonly #options: SyncSessionOptions;
  readonly #session: AgentSession;
  readonly #ended = new AbortController();
  #stream: SyncStream | undefined;
  #silenceLimitMs = GREETING_TIMEOUT_MS;
  #heardAt = 0;
  #isBusy = false;
  #endedBy: SessionFailure | undefined;
  /** The move under way; another Move replaces it. */
  #moving: AbortController | undefined;
  /** This server tells which servers there are, and asks to move. */
  #isTold = false;

  constructor(dialed: Dialed, options: SyncSessionOptions) {
    this.#dialed = dialed;
    this.#options = options;
    this.#session = new AgentSession({ identity: { node: options.node, version: options.version, features: PACKING_FEATURES, unpack }, view: options.view });
  }

  /** Settles when the session is over, with the reason. The connection is closed then. */
  async run(signal: AbortSignal): Promise<SessionFailure> {
    const { acknowledgements, reports, freshness } = this.#options;
    try {
      if (signal.aborted) return ABORTED;
      await this.#exchange(signal);
      return this.#endedBy ?? { code: "OK", detail: "the server ended the stream", retryAfterMs: 0, isLasting: false };
    } catch (error) {
      return this.#endedBy ?? failureOf(error);
    } finally {
      this.#ended.abort();
      this.#moving?.abort();
      acknowledgements.end();
      reports.end();
      freshness.disconnected();
      this.#session.closed();
      this.#stream?.cancel();
      this.#dialed.close();
    }
  }

  async #exchange(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const stream = this.#dialed.open();
    this.#stream = stream;
    // Reading reports errors too; without a listener of its own an error between two reads would end the process.
    stream.on("error", () => undefined);
    const onAbort = (): void => stream.cancel();
    signal.addEventListener("abort", onAbort, { once: true });
    this.#heardAt = clock.now();
    void this.#watchSilence().catch((error: unknown) => log.error({ err: error }, "the watch over silence failed"));
    void this.#watchCertificate().catch((error: unknown) => log.error({ err: error }, "the watch over the certificate failed"));
    void this.#watchFirstChoice().catch((error: unknown) => log.error({ err: error }, "the watch over the first choice failed"));
    try {
      await this.#carryOut(this.#session.open());
      for await (const bytes of stream) {
        this.#heardAt = clock.now();
        this.#isBusy = true;
        await this.#carryOut(this.#session.receive(bytes as Uint8Array));
        this.#isBusy = false;
        this.#heardAt = clock.now();
        if (this.#session.state === "over" || this.next !== undefined) return;
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #carryOut(outputs: readonly AgentOutput[]): Promise<void> {
    for (const output of outputs) await this.#carryOutOne(output);
  }

  async #carryOutOne(output: AgentOutput): Promise<void> {
    const { acknowledgements, reports, freshness, log, onCommit, onConfirmed, onRepair, view } = this.#options;
    switch (output.kind) {
      case "send":
        this.#write(output.bytes);
        return;
      case "welcome": {
        const { welcome } = output;
        const { address } = this.#dialed;
        if (welcome.heartbeatIntervalMs > 0) this.#silenceLimitMs = Math.max(1_000, SILENT_HEARTBEATS * welcome.heartbeatIntervalMs);
        freshness.connected(address, welcome.server);
        acknowledgements.begin((ack) => this.#write(encodeAck(ack)));
        acknowledgements.pace(welcome.ackIntervalMs);
        reports.begin((report) => this.#write(encodeEndpointReport(report)));
        log.info({ server: welcome.server, address, epoch: welcome.epoch, revision: String(welcome.revision) }, "connected");
        return;
      }
      case "commit":
        // Before it is programmed: what is programmed must be known as received.
        acknowledgements.received(output.delta.revision);
        await onCommit(output.delta, output.isAnswer);
        if (output.isAnswer && output.delta.isDigestRight) this.#becameLive();
        return;
      case "heartbeat":
        this.#note(output.heartbeat);
        if (output.heartbeat.digest === view.digest && this.#session.state === "live") {
          acknowledgements.received(view.revision);
          onConfirmed();
        }
        return;
      case "repair":
        log.warn({ isWhole: output.isWhole }, "the view differs from the server's: repairing");
        onRepair();
        return;
      case "servers":
        this.#isTold = true;
        this.#options.book.tell(knownServers(output.servers));
        this.#options.onServers?.(this.#options.book.told);
        return;
      case "queued":
        freshness.waits({ place: output.queued.place, delayMs: output.queued.delayMs });
        log.info({ place: output.queued.place, delayMs: output.queued.delayMs }, "the server sends others their view first");
        return;
      case "report-result":
        reports.result(output.result);
        return;
      case "move":
        void this.#move(output.move).catch((error: unknown) => log.error({ err: error }, "the move failed"));
        return;
      case "end":
        if (output.reason !== "closed") this.#endedBy = { code: output.reason.toUpperCase(), detail: output.detail, retryAfterMs: 0, isLasting: false };
        return;
    }
  }

  #becameLive(): void {
    const { book, freshness, onConfirmed, onLive } = this.#options;
    this.wasLive = true;
    book.worked(this.#dialed.address);
    freshness.synced();
    onConfirmed();
    onLive?.();
  }

  #note({ upstreamAgeMs, stale, ackIntervalMs }: Heartbeat): void {
    this.#options.acknowledgements.pace(ackIntervalMs);
    this.#options.freshness.heard({ upstreamAgeMs: Number(upstreamAgeMs), isStale: stale });
  }

  /**
   * Goes to the first of the targets that answers. Many agents are told at the same moment: each goes at the moment that it is given, or one of its own. With
   * a deadline any other server will do, since this one ends; without one the agent stays when none of the targets answers.
   */
  async #move({ reason, deadlineMs, targets, afterMs }: Move): Promise<void> {
    const { book, clock, log } = this.#options;
    const random = this.#options.random ?? Math.random;
    this.#moving?.abort();
    const moving = new AbortController();
    this.#moving = moving;
    const signal = AbortSignal.any([moving.signal, this.#ended.signal]);
    log.info({ reason, deadlineMs, targets, afterMs }, "the server asks to move");
    await clock.sleep(afterMs ?? Math.min(MOVE_SPREAD_MS, deadlineMs / 2) * random(), signal);
    const end = clock.now() + deadlineMs;
    do {
      const named = targets.map((address) => ({ address, identity: address, given: address }));
      const others =
        deadlineMs === 0 && targets.length > 0 ? [] : book.candidates.filter(({ address }) => address !== this.#dialed.address && !targets.includes(address));
      for (const candidate of [...named, ...others]) if (signal.aborted || (await this.#leaveFor(candidate, signal))) return;
      // Without another server, the same one: whoever was told to go to no one in particular is to come again.
      if (named.length + others.length === 0 && deadlineMs > 0) break;
      await clock.sleep(jittered(MOVE_RETRY_MS, 0.5, random), signal);
    } while (!signal.aborted && clock.now() < end);
  }

  /** True: it stands, and this session ends for it. */
  async #leaveFor(candidate: Candidate, signal: AbortSignal): Promise<boolean> {
    const { book, clock, dial, log } = this.#options;
    try {
      const next = await dial(candidate, signal);
      if (signal.aborted) {
        next.close();
        return true;
      }
      this.next = next;
      log.info({ address: candidate.address }, "moving");
      this.#stream?.cancel();
      return true;
    } catch (error) {
      if (signal.aborted) return true;
      const { failure, isRefused } = asDialError(error);
      book.failed(candidate.address, clock.now(), { ...failure, isRefused });
      log.warn({ server: candidate.address, code: failure.code, reason: failure.detail }, "the server to move to does not answer");
      return false;
    }
  }

  async #watchFirstChoice(): Promise<void> {
    const { book, clock } = this.#options;
    const { signal } = this.#ended;
    while (!signal.aborted) {
      await clock.sleep(jittered(RETURN_CHECK_MS, 0.5, this.#options.random ?? Math.random), signal);
      if (signal.aborted || this.#session.state !== "live" || this.#isTold) continue;
      const first = book.better(this.#dialed.address, { now: clock.now(), healthyMs: RETURN_HEALTHY_MS });
      if (first !== undefined && (await this.#leaveFor(first, signal))) return;
    }
  }

  /**
   * A certificate that was renewed is shown to the server by another connection, made before this one is left: what the tier knows of the node's certificate is
   * what a stream began with, and a stream can outlive it. Each agent at a moment of its own.
   */
  async #watchCertificate(): Promise<void> {
    const { clock, log, book, certificateCheckMs = CERTIFICATE_CHECK_MS } = this.#options;
    const { address, isCurrent } = this.#dialed;
    const { signal } = this.#ended;
    if (isCurrent === undefined) return;
    while (!signal.aborted) {
      await clock.sleep(jittered(certificateCheckMs, 0.5, this.#options.random ?? Math.random), signal);
      if (signal.aborted || this.#session.state !== "live" || this.next !== undefined) continue;
      try {
        if (await isCurrent()) continue;
      } catch (error) {
        log.warn({ err: error }, "the certificate cannot be read: the connection stays as it is");
        continue;
      }
      log.info({ server: address }, "the certificate was renewed: connecting anew");
      const same = book.candidates.find((candidate) => candidate.address === address) ?? { address, identity: address, given: address };
      if (await this.#leaveFor(same, signal)) return;
    }
  }

  #write(bytes: Uint8Array): void {
    // What waits here is bounded: one Ack, and one report a block.
    if (this.#stream?.writable === true) this.#stream.write(bytes);
  }

  async #watchSilence(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#ended;
    while (!signal.aborted) {
      await clock.sleep(this.#silenceLimitMs / 4, signal);
      if (signal.aborted || this.#isBusy || clock.now() - this.#heardAt < this.#silenceLimitMs) continue;
      await this.#carryOut(this.#session.silence());
      this.#stream?.cancel();
      return;
    }
  }
}

export function asDialError(error: unknown): { readonly failure: SessionFailure; readonly isRefused: boolean } {
  return error instanceof DialError ? error : { failure: failureOf(error), isRefused: false };
}
