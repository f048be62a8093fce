/**
 * The agent's side of the record stream: one session after the other, for as long as the agent lives.
 *
 * The protocol is `AgentSession` (src/wire), pure; this carries its outputs out: bytes to the stream, commits to `onCommit` one after the other (the
 * stream waits while a commit is written to disk), acknowledgements and reports back. Servers are tried in order; one that answers is kept.
 * Invariant: nothing is applied but whole commits, in order; a session that ends takes nothing away. Every wait has a bound and ends at the signal.
 */
import { Metadata } from "@grpc/grpc-js";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { Backoff, jittered } from "../../src/runtime/retry.ts";
import { type AgentOutput, AgentSession, encodeAck, encodeEndpointReport } from "../../src/wire/agent-protocol.ts";
import type { Heartbeat, Move } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import type { RawSyncStream } from "../../src/wire/service.ts";
import { connect, failureOf, type SessionFailure, type SyncConnection, type TlsFiles } from "../../src/wire/sync-connection.ts";
import type { View, ViewDelta } from "../../src/wire/view.ts";
import type { Acknowledgements } from "./acknowledgements.ts";
import type { Freshness } from "./freshness.ts";
import type { ReportQueue } from "./report-queue.ts";
import { PACKING_FEATURES, unpack } from "./unpack.ts";

export interface SyncClientOptions {
  readonly node: string;
  readonly version: string;
  /** "host:port", in order of preference. */
  readonly servers: readonly string[];
  /** undefined: plain text. */
  readonly tls: TlsFiles | undefined;
  readonly view: View;
  /** The view changed: write it down, then program it. The next message is read when it resolves. It must not reject for a full disk. */
  readonly onCommit: (delta: ViewDelta, isAnswer: boolean) => Promise<void>;
  /** The server confirmed that the view is the newest, up to the view's revision. */
  readonly onConfirmed: () => void;
  /** A view that was not what the server has, or a session that ended: for metrics. */
  readonly onRepair: () => void;
  readonly onSessionEnd: (failure: SessionFailure) => void;
  readonly acknowledgements: Acknowledgements;
  readonly reports: ReportQueue;
  readonly freshness: Freshness;
  readonly clock: Clock;
  readonly log: Logger;
}

/** For the connection and the server's Welcome. */
const GREETING_TIMEOUT_MS = 10_000;
const SILENT_HEARTBEATS = 3;
const LASTING_FAILURE_DELAY_MS = 30_000;

export class SyncClient {
  readonly name = "sync";
  readonly #options: SyncClientOptions;
  readonly #backoff = new Backoff({ initialMs: 200, maxMs: 15_000 });
  #connection: SyncConnection | undefined;
  #preferred: readonly string[] = [];

  constructor(options: SyncClientOptions) {
    this.#options = options;
  }

  /** The connection of the present session, for unary calls; undefined when there is none. */
  get connection(): SyncConnection | undefined {
    return this.#connection;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, onSessionEnd } = this.#options;
    for (let next = 0; !signal.aborted; ) {
      const servers = [...this.#preferred, ...this.#options.servers.filter((server) => !this.#preferred.includes(server))];
      const server = servers[next % servers.length] ?? "";
      const session = new Session(server, this.#options, (connection) => {
        this.#connection = connection;
      });
      const failure = await session.run(signal);
      this.#connection = undefined;
      if (signal.aborted) return;
      onSessionEnd(failure);
      if (session.wasLive) this.#backoff.reset();
      if (session.moveTo !== undefined) {
        // Without a target: any other than this one.
        next = session.moveTo.length > 0 ? 0 : next + 1;
        this.#preferred = session.moveTo;
        continue;
      }
      log.warn(
        { server, code: failure.code, reason: failure.detail, retryAfterMs: failure.retryAfterMs },
        failure.isLasting ? "the server refuses this agent" : "session ended",
      );
      // The one that worked comes first again; otherwise the next, and only after a round of all of them the long wait.
      if (!session.wasLive) next++;
      const isRoundOver = next % servers.length === 0 || session.wasLive;
      const asked = failure.isLasting ? LASTING_FAILURE_DELAY_MS : failure.retryAfterMs;
      await clock.sleep(isRoundOver || asked > 0 ? this.#backoff.next(asked) : jittered(50, 0.5), signal);
    }
  }
}

/** One connection and its stream. */
class Session {
  wasLive = false;
  moveTo: readonly string[] | undefined;
  readonly #server: string;
  readonly #options: SyncClientOptions;
  readonly #setConnection: (connection: SyncConnection) => void;
  readonly #session: AgentSession;
  #stream: RawSyncStream | undefined;
  #silenceLimitMs = GREETING_TIMEOUT_MS;
  #heardAt = 0;
  #isBusy = false;
  #endedBy: SessionFailure | undefined;

  constructor(server: string, options: SyncClientOptions, setConnection: (connection: SyncConnection) => void) {
    this.#server = server;
    this.#options = options;
    this.#setConnection = setConnection;
    this.#session = new AgentSession({ identity: { node: options.node, version: options.version, features: PACKING_FEATURES, unpack }, view: options.view });
  }

  /** Settles when the session is over, with the reason. */
  async run(signal: AbortSignal): Promise<SessionFailure> {
    const { acknowledgements, reports, freshness, tls } = this.#options;
    const ended = new AbortController();
    let connection: SyncConnection | undefined;
    try {
      connection = await connect(this.#server, tls);
      if (signal.aborted) return ABORTED;
      await this.#exchange(connection, signal, ended.signal);
      return this.#endedBy ?? { code: "OK", detail: "the server ended the stream", retryAfterMs: 0, isLasting: false };
    } catch (error) {
      return this.#endedBy ?? failureOf(error);
    } finally {
      ended.abort();
      acknowledgements.end();
      reports.end();
      freshness.disconnected();
      this.#session.closed();
      this.#stream?.cancel();
      connection?.close();
    }
  }

  async #exchange(connection: SyncConnection, signal: AbortSignal, ended: AbortSignal): Promise<void> {
    const open = connection["sync"]?.bind(connection) as ((metadata: Metadata) => RawSyncStream) | undefined;
    if (open === undefined) throw new TypeError("the client has no method sync");
    const stream = open(new Metadata());
    this.#stream = stream;
    // Reading reports errors too; without a listener of its own an error between two reads would end the process.
    stream.on("error", () => undefined);
    const onAbort = (): void => stream.cancel();
    signal.addEventListener("abort", onAbort, { once: true });
    this.#heardAt = this.#options.clock.now();
    void this.#watchSilence(ended).catch((error: unknown) => this.#options.log.error({ err: error }, "the watch over silence failed"));
    try {
      this.#setConnection(connection);
      await this.#carryOut(this.#session.open());
      for await (const bytes of stream) {
        this.#heardAt = this.#options.clock.now();
        this.#isBusy = true;
        await this.#carryOut(this.#session.receive(bytes as Uint8Array));
        this.#isBusy = false;
        this.#heardAt = this.#options.clock.now();
        if (this.#session.state === "over" || this.moveTo !== undefined) return;
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
        if (welcome.heartbeatIntervalMs > 0) this.#silenceLimitMs = Math.max(1_000, SILENT_HEARTBEATS * welcome.heartbeatIntervalMs);
        freshness.connected(this.#server, welcome.server);
        acknowledgements.begin((ack) => this.#write(encodeAck(ack)));
        acknowledgements.pace(welcome.ackIntervalMs);
        reports.begin((report) => this.#write(encodeEndpointReport(report)));
        log.info({ server: welcome.server, address: this.#server, epoch: welcome.epoch, revision: String(welcome.revision) }, "connected");
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
        log.debug({ servers: output.servers.servers.length }, "the servers that there are");
        return;
      case "queued":
        freshness.waits({ place: output.queued.place, delayMs: output.queued.delayMs });
        log.info({ place: output.queued.place, delayMs: output.queued.delayMs }, "the server sends others their view first");
        return;
      case "report-result":
        reports.result(output.result);
        return;
      case "move":
        await this.#move(output.move);
        return;
      case "end":
        if (output.reason !== "closed") this.#endedBy = { code: output.reason.toUpperCase(), detail: output.detail, retryAfterMs: 0, isLasting: false };
        return;
    }
  }

  #becameLive(): void {
    this.wasLive = true;
    this.#options.freshness.synced();
    this.#options.onConfirmed();
  }

  #note({ upstreamAgeMs, stale, ackIntervalMs }: Heartbeat): void {
    this.#options.acknowledgements.pace(ackIntervalMs);
    this.#options.freshness.heard({ upstreamAgeMs: Number(upstreamAgeMs), isStale: stale });
  }

  /** Many agents are told at the same moment: each leaves at a moment of its own within half the time. */
  async #move({ reason, deadlineMs, targets }: Move): Promise<void> {
    this.#options.log.info({ reason, deadlineMs, targets }, "the server asks to move");
    await this.#options.clock.sleep(Math.min(10_000, deadlineMs / 2) * Math.random());
    this.moveTo = targets;
  }

  #write(bytes: Uint8Array): void {
    // What waits here is bounded: one Ack, and one report a block.
    if (this.#stream?.writable === true) this.#stream.write(bytes);
  }

  async #watchSilence(ended: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!ended.aborted) {
      await clock.sleep(this.#silenceLimitMs / 4, ended);
      if (ended.aborted || this.#isBusy || clock.now() - this.#heardAt < this.#silenceLimitMs) continue;
      await this.#carryOut(this.#session.silence());
      this.#stream?.cancel();
      return;
    }
  }
}

const ABORTED: SessionFailure = { code: "ABORTED", detail: "stopping", retryAfterMs: 0, isLasting: false };
