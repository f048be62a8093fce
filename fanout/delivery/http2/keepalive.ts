/**
 * Whether a peer is still there: one that has been silent for long is pinged, and one that does not answer is dead. It has no timer of its own: the listener's
 * sweep asks every connection.
 */
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
