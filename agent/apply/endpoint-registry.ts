/**
 * The connected pods, and who waits for which of them. The reconcile loop reads `list` and says with `settle` how far the kernel is.
 *
 * Invariant: every promise settles: when the kernel has the change, at the signal, or at the deadline. A change is numbered; an apply that began
 * before it does not settle it.
 */
import type { PodKey } from "../../src/model/names.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { EndpointNotProgrammedError, type LocalEndpoint, type LocalEndpoints, type ProgrammedEndpoint, type UpsertOptions } from "./local-endpoints.ts";

interface Waiter {
  readonly podKey: PodKey;
  readonly sequence: number;
  readonly kind: "upsert" | "remove";
  readonly policyDeadline: number;
  /** The kernel has the endpoint; only its policy is awaited. */
  isProgrammed: boolean;
  readonly resolve: (result: ProgrammedEndpoint) => void;
  readonly reject: (reason: string) => void;
}

export interface Progress {
  /** `sequence` when the apply began. */
  readonly sequence: number;
  readonly withPolicy: ReadonlySet<PodKey>;
  /** Endpoints that are in the table and whose routes the kernel refuses, with the reason. */
  readonly failed: ReadonlyMap<PodKey, string>;
}

export class EndpointRegistry implements LocalEndpoints {
  readonly #clock: Clock;
  readonly #onChange: () => void;
  readonly #deadlineMs: number;
  readonly #endpoints = new Map<PodKey, LocalEndpoint>();
  readonly #waiters = new Set<Waiter>();
  /** Endpoints whose policy is not in the kernel yet: since when, and with which change. */
  readonly #unprotected = new Map<PodKey, { readonly since: number; readonly sequence: number }>();
  readonly #onProtected: (seconds: number) => void;
  #sequence = 0;
  #isRestored = false;
  #trouble = "the kernel has not been programmed yet";

  /** `onProtected`: once for each `upsert`, with the time from its ADD's beginning to its policy in the kernel. */
  constructor(options: {
    readonly clock: Clock;
    readonly onChange: () => void;
    readonly deadlineMs: number;
    readonly onProtected?: (seconds: number) => void;
  }) {
    this.#clock = options.clock;
    this.#onChange = options.onChange;
    this.#deadlineMs = options.deadlineMs;
    this.#onProtected = options.onProtected ?? (() => undefined);
  }

  /** False until the pods of the last run are known: nothing may be swept before. */
  get isRestored(): boolean {
    return this.#isRestored;
  }

  /** Number of the newest change. */
  get sequence(): number {
    return this.#sequence;
  }

  restore(endpoints: readonly LocalEndpoint[]): void {
    for (const endpoint of endpoints) if (!this.#endpoints.has(endpoint.podKey)) this.#endpoints.set(endpoint.podKey, endpoint);
    this.#isRestored = true;
    this.#changed();
  }

  upsert(endpoint: LocalEndpoint, { waitForPolicyMs = 0, since = this.#clock.now(), signal }: UpsertOptions = {}): Promise<ProgrammedEndpoint> {
    this.#endpoints.set(endpoint.podKey, endpoint);
    this.#changed();
    this.#unprotected.set(endpoint.podKey, { since, sequence: this.#sequence });
    return this.#wait({ podKey: endpoint.podKey, kind: "upsert", policyDeadline: this.#clock.now() + waitForPolicyMs }, waitForPolicyMs, signal);
  }

  async remove(podKey: PodKey, containerId: string): Promise<void> {
    if (this.#endpoints.get(podKey)?.containerId !== containerId) return;
    this.#endpoints.delete(podKey);
    this.#unprotected.delete(podKey);
    this.#changed();
    await this.#wait({ podKey, kind: "remove", policyDeadline: 0 }, 0, undefined);
  }

  list(): readonly LocalEndpoint[] {
    return [...this.#endpoints.values()];
  }

  /** An apply has ended well. */
  settle({ sequence, withPolicy, failed }: Progress): void {
    for (const [podKey, { since, sequence: changed }] of this.#unprotected) {
      if (changed > sequence || failed.has(podKey) || !withPolicy.has(podKey)) continue;
      this.#unprotected.delete(podKey);
      this.#onProtected((this.#clock.now() - since) / 1_000);
    }
    for (const waiter of this.#waiters) {
      if (waiter.sequence > sequence) continue;
      const failure = failed.get(waiter.podKey);
      if (waiter.kind === "remove") waiter.resolve({ hasPolicy: false });
      else if (!this.#endpoints.has(waiter.podKey)) waiter.reject("it was removed meanwhile");
      else if (failure !== undefined) waiter.reject(failure);
      else if (withPolicy.has(waiter.podKey)) waiter.resolve({ hasPolicy: true });
      else if (this.#clock.now() >= waiter.policyDeadline) waiter.resolve({ hasPolicy: false });
      else waiter.isProgrammed = true;
    }
  }

  /** The kernel is left alone for now: what was removed needs no more. */
  settleRemovals(): void {
    for (const waiter of this.#waiters) if (waiter.kind === "remove") waiter.resolve({ hasPolicy: false });
  }

  /** Why nothing settles: for the error of those that give up. */
  trouble(reason: string): void {
    this.#trouble = reason;
  }

  #changed(): void {
    this.#sequence++;
    this.#onChange();
  }

  #wait(what: Pick<Waiter, "podKey" | "kind" | "policyDeadline">, waitForPolicyMs: number, signal: AbortSignal | undefined): Promise<ProgrammedEndpoint> {
    return new Promise((resolve, reject) => {
      const settled = new AbortController();
      const finish = (action: () => void): void => {
        this.#waiters.delete(waiter);
        signal?.removeEventListener("abort", onAbort);
        settled.abort();
        action();
      };
      const waiter: Waiter = {
        ...what,
        sequence: this.#sequence,
        isProgrammed: false,
        resolve: (result) => finish(() => resolve(result)),
        reject: (reason) => finish(() => reject(new EndpointNotProgrammedError(what.podKey, reason))),
      };
      const onAbort = (): void => waiter.reject("the request was given up");
      this.#waiters.add(waiter);
      if (signal?.aborted === true) return onAbort();
      signal?.addEventListener("abort", onAbort, { once: true });
      void this.#expire(waiter, waitForPolicyMs, settled.signal);
    });
  }

  async #expire(waiter: Waiter, waitForPolicyMs: number, settled: AbortSignal): Promise<void> {
    if (waitForPolicyMs > 0) {
      await this.#clock.sleep(waitForPolicyMs, settled);
      if (!settled.aborted && waiter.isProgrammed) return waiter.resolve({ hasPolicy: false });
    }
    await this.#clock.sleep(Math.max(0, this.#deadlineMs - waitForPolicyMs), settled);
    if (!settled.aborted) waiter.reject(this.#trouble);
  }
}
