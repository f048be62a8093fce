/**
 * What pods ask for in addresses, from their Endpoint records: known as soon as the server has told the pod, which an ADD may be ahead of.
 *
 * Invariant: a record of another uid is that of a pod before under the same name, and does not count. Whoever waits goes on after the bound in any case.
 */
import type { PodKey } from "../../src/model/names.ts";
import type { AddressRequest, Endpoint } from "../../src/model/record.ts";
import type { Clock } from "../../src/runtime/clock.ts";

export interface PodWish {
  /** False: the server did not tell the pod in time. */
  readonly isKnown: boolean;
  readonly request: AddressRequest | undefined;
}

export class PodWishes {
  readonly #record: (key: PodKey) => Endpoint | undefined;
  readonly #clock: Clock;
  readonly #waiters = new Set<() => void>();

  constructor(options: { readonly record: (key: PodKey) => Endpoint | undefined; readonly clock: Clock }) {
    this.#record = options.record;
    this.#clock = options.clock;
  }

  /** Records may be others now. */
  changed(): void {
    for (const wake of this.#waiters) wake();
  }

  async find(key: PodKey, options: { readonly podUid?: string; readonly waitMs: number; readonly signal?: AbortSignal }): Promise<PodWish> {
    const { podUid, signal, waitMs } = options;
    const deadline = this.#clock.now() + waitMs;
    for (;;) {
      const record = this.#record(key);
      if (record !== undefined && (podUid === undefined || record.uid === podUid)) return { isKnown: true, request: record.addressRequest };
      const leftMs = deadline - this.#clock.now();
      if (leftMs <= 0 || signal?.aborted === true) return { isKnown: false, request: undefined };
      await this.#nextChange(leftMs, signal);
    }
  }

  async #nextChange(leftMs: number, signal: AbortSignal | undefined): Promise<void> {
    const stop = new AbortController();
    const wake = (): void => stop.abort();
    this.#waiters.add(wake);
    await this.#clock.sleep(leftMs, signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]));
    this.#waiters.delete(wake);
  }
}
