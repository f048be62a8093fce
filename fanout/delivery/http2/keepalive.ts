/**
 * Whether a peer is still there: one that has been silent for long is pinged, and one that does not answer is dead. It has no timer of its own: the listener's
 * sweep asks every connection.
 *
 * A ping that is due soon leaves with a message that leaves anyway (`isEarly`): of an idle agent's pings nearly all do, and cost no write of their own.
 */
/** From this share of the time on that a peer may be silent before it is pinged. With heartbeats at half of that time every second one has a ping. */
const EARLY = 0.75;

export class Keepalive {
  #hasRead = false;
  #quietSince: number;
  #pingedAt: number | undefined;

  /** `now`: monotonic ms, as below. */
  constructor(now: number) {
    this.#quietSince = now;
  }

  /** Something came; it counts as heard at the next sweep, so that reading costs no look at the clock. */
  heard(): void {
    this.#hasRead = true;
  }

  /** Whether a ping should go with what is sent now; it counts as sent. */
  isEarly(now: number, { keepaliveMs }: { readonly keepaliveMs: number }): boolean {
    if (this.#hasRead || this.#pingedAt !== undefined || now - this.#quietSince < EARLY * keepaliveMs) return false;
    this.#pingedAt = now;
    return true;
  }

  sweep(now: number, { keepaliveMs, keepaliveTimeoutMs }: { readonly keepaliveMs: number; readonly keepaliveTimeoutMs: number }): "ping" | "dead" | undefined {
    if (this.#hasRead) {
      this.#hasRead = false;
      this.#quietSince = now;
      this.#pingedAt = undefined;
      return undefined;
    }
    if (this.#pingedAt !== undefined) return now - this.#pingedAt < keepaliveTimeoutMs ? undefined : "dead";
    if (now - this.#quietSince < keepaliveMs) return undefined;
    this.#pingedAt = now;
    return "ping";
  }
}
