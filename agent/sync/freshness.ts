/**
 * How old what we know is: for status, metrics and people. Nothing is ever deleted because of it.
 *
 * Invariant: the age only grows until the server says otherwise; while there is no session it grows with our own clock.
 */
import type { Clock } from "../../src/runtime/clock.ts";

export interface FreshnessReport {
  readonly isConnected: boolean;
  /** The view was the server's whole view in this session. */
  readonly isSynced: boolean;
  /** Address that we reached, and the name that the server gave itself; "" when not connected. */
  readonly address: string;
  readonly server: string;
  /** Age of the upstream data; undefined as long as no server said so. */
  readonly upstreamAgeMs: number | undefined;
  /** The server said so, or it has not been heard for longer than its limit would be. */
  readonly isStale: boolean;
  /** In the line for the view, as the server last told; undefined: not in a line. */
  readonly waiting: { readonly place: number; readonly delayMs: number } | undefined;
}

export class Freshness {
  readonly #clock: Clock;
  readonly #staleAfterMs: number;
  #address = "";
  #server = "";
  #isSynced = false;
  #upstreamAgeMs: number | undefined;
  #heardAt: number | undefined;
  #isStale = false;
  #waiting: FreshnessReport["waiting"];

  constructor(options: { readonly clock: Clock; readonly staleAfterMs: number }) {
    this.#clock = options.clock;
    this.#staleAfterMs = options.staleAfterMs;
  }

  connected(address: string, server: string): void {
    this.#address = address;
    this.#server = server;
  }

  waits(place: { readonly place: number; readonly delayMs: number }): void {
    this.#waiting = place;
  }

  synced(): void {
    this.#waiting = undefined;
    this.#isSynced = true;
    this.#heardAt ??= this.#clock.now();
    this.#upstreamAgeMs ??= 0;
  }

  heard(report: { readonly upstreamAgeMs: number; readonly isStale: boolean }): void {
    this.#upstreamAgeMs = report.upstreamAgeMs;
    this.#isStale = report.isStale;
    this.#heardAt = this.#clock.now();
  }

  disconnected(): void {
    this.#address = "";
    this.#server = "";
    this.#isSynced = false;
    this.#waiting = undefined;
  }

  report(): FreshnessReport {
    const age = this.#heardAt === undefined || this.#upstreamAgeMs === undefined ? undefined : this.#upstreamAgeMs + this.#clock.now() - this.#heardAt;
    return {
      isConnected: this.#address !== "",
      isSynced: this.#isSynced,
      address: this.#address,
      server: this.#server,
      upstreamAgeMs: age,
      isStale: this.#isStale || (age !== undefined && age > this.#staleAfterMs),
      waiting: this.#waiting,
    };
  }
}
