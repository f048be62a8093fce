/** One connection of a relay to a parent and its stream; upstream.ts makes one after the other. Every wait has a bound and ends at the signal. */
import { type ClientDuplexStream, Metadata } from "@grpc/grpc-js";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { RelayHello, RelayWelcome, Subscribe } from "../../src/wire/gen/sedge/sync/v1/relay.ts";
import { encodeRelayMessage, type RelayMessageValue, type UpstreamOutput, UpstreamSession } from "../../src/wire/relay-protocol.ts";
import { connectRelay, failureOf, type RelayConnection, type SessionFailure, type TlsFiles } from "../../src/wire/sync-connection.ts";

/** For the connection and the parent's RelayWelcome. */
const GREETING_TIMEOUT_MS = 10_000;
const SILENT_HEARTBEATS = 3;

export interface LinkOptions {
  readonly address: string;
  readonly tls: TlsFiles | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly hello: () => { hello: RelayHello; subscribes: Subscribe[] };
  readonly carryOut: (output: UpstreamOutput) => void;
}

export class Link {
  readonly address: string;
  connection: RelayConnection | undefined;
  session: UpstreamSession | undefined;
  welcome: RelayWelcome | undefined;
  wasLive = false;
  moveTo: readonly string[] | undefined;
  readonly #options: LinkOptions;
  #stream: ClientDuplexStream<Uint8Array, Uint8Array> | undefined;
  #silenceLimitMs = GREETING_TIMEOUT_MS;
  #heardAt = 0;
  #failure: SessionFailure | undefined;
  #isOver = false;

  constructor(options: LinkOptions) {
    this.address = options.address;
    this.#options = options;
  }

  get isLive(): boolean {
    return this.wasLive && !this.#isOver;
  }

  becameLive(): void {
    this.wasLive = true;
  }

  greeted(welcome: RelayWelcome): void {
    this.welcome = welcome;
    if (welcome.heartbeatIntervalMs > 0) this.#silenceLimitMs = Math.max(1_000, SILENT_HEARTBEATS * welcome.heartbeatIntervalMs);
  }

  write(message: RelayMessageValue): void {
    this.writeBytes(encodeRelayMessage(message));
  }

  writeBytes(bytes: Uint8Array): void {
    if (!this.#isOver && this.#stream?.writable === true) this.#stream.write(bytes);
  }

  leave(targets: readonly string[]): void {
    this.moveTo = targets;
    this.#stream?.cancel();
  }

  fail(failure: SessionFailure): void {
    this.#failure ??= failure;
    this.#stream?.cancel();
  }

  end({ reason, detail }: { readonly reason: string; readonly detail: string }): void {
    if (reason === "closed") return;
    this.fail({ code: reason.toUpperCase(), detail, retryAfterMs: 0, isLasting: false });
  }

  async run(signal: AbortSignal): Promise<SessionFailure> {
    const ended = new AbortController();
    try {
      this.connection = await connectRelay(this.address, this.#options.tls);
      if (!signal.aborted) await this.#exchange(this.connection, signal, ended.signal);
      return this.#failure ?? { code: "OK", detail: "the parent ended the stream", retryAfterMs: 0, isLasting: false };
    } catch (error) {
      return this.#failure ?? failureOf(error);
    } finally {
      this.#isOver = true;
      ended.abort();
      this.session?.closed();
      this.#stream?.cancel();
      this.connection?.close();
    }
  }

  async #exchange(connection: RelayConnection, signal: AbortSignal, ended: AbortSignal): Promise<void> {
    const { clock, hello, log } = this.#options;
    const stream = connection.openRelay(new Metadata());
    this.#stream = stream;
    stream.on("error", () => undefined);
    const onAbort = (): void => stream.cancel();
    signal.addEventListener("abort", onAbort, { once: true });
    this.#heardAt = clock.now();
    void this.#watchSilence(ended).catch((error: unknown) => log.error({ err: error }, "the watch over silence failed"));
    try {
      const session = new UpstreamSession(hello());
      this.session = session;
      this.#carryOut(session.open());
      for await (const bytes of stream) {
        this.#heardAt = clock.now();
        this.#carryOut(session.receive(bytes as Uint8Array));
        if (session.state === "over" || this.moveTo !== undefined || this.#failure !== undefined) return;
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #carryOut(outputs: readonly UpstreamOutput[]): void {
    for (const output of outputs) this.#options.carryOut(output);
  }

  async #watchSilence(ended: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!ended.aborted) {
      await clock.sleep(this.#silenceLimitMs / 4, ended);
      if (ended.aborted || clock.now() - this.#heardAt < this.#silenceLimitMs) continue;
      this.#carryOut(this.session?.silence() ?? []);
      this.#stream?.cancel();
      return;
    }
  }
}
