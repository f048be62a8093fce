/**
 * The cluster as a stream of events: every kind listed and watched, and one status over all of them.
 *
 * Status: `wait-for-datastore` until each kind has been listed once, then `in-sync`; `resync` while a kind is being listed anew. An unreachable server changes no status:
 * what is known stays true as far as anyone knows, and `upstreamAgeMs` says how old it is. A kind to which nothing happens is asked about, so that its age says
 * how old the data is and not how quiet the cluster: each kind by itself, at its own moment. Order holds within a kind; between kinds there is none,
 * as in the API.
 */
import type { ClusterEvent, SyncStatus } from "../model/event.ts";
import { RESOURCE_KINDS, type ResourceKind } from "../model/resource.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import type { Part } from "../runtime/supervisor.ts";
import { type SourceCounters, zeroCounters } from "./source-counters.ts";
import { DEFAULT_TUNING, type KindStatus, type ListWatchClient, WatchKind, type WatchTuning } from "./watch-kind.ts";

export interface ClusterSourceOptions {
  readonly client: ListWatchClient;
  readonly clock: Clock;
  readonly log: Logger;
  /** Called with each batch, in order; must not throw. A status event is a batch of its own, after the events that it speaks of. */
  readonly sink: (events: readonly ClusterEvent[]) => void;
  readonly kinds?: readonly ResourceKind[];
  readonly tuning?: Partial<WatchTuning>;
  readonly random?: () => number;
}

export class ClusterSource implements Part {
  readonly name = "source";
  readonly #options: ClusterSourceOptions;
  readonly #counters: SourceCounters = zeroCounters();
  readonly #watches: readonly WatchKind[];
  /** Kinds whose list is not complete: all at first, then those being listed anew. */
  readonly #unlisted: Set<ResourceKind>;
  #status: SyncStatus = "wait-for-datastore";
  readonly #stop = new AbortController();

  constructor(options: ClusterSourceOptions) {
    this.#options = options;
    const { client, clock, log, sink, kinds = RESOURCE_KINDS, random } = options;
    this.#unlisted = new Set(kinds);
    this.#watches = kinds.map(
      (kind) =>
        new WatchKind({
          kind,
          client,
          clock,
          log: log.child({ component: "source" }),
          tuning: { ...DEFAULT_TUNING, ...options.tuning },
          counters: this.#counters,
          ...(random === undefined ? {} : { random }),
          onEvents: sink,
          onListing: (isListed) => this.#onListing(kind, isListed),
        }),
    );
  }

  get status(): SyncStatus {
    return this.#status;
  }

  async run(signal: AbortSignal): Promise<void> {
    this.#options.sink([{ kind: "status", status: this.#status }]);
    // A kind that fails is a fault of this program, not of the server: the others stop too, and the supervisor hears of it.
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    try {
      await Promise.all(
        this.#watches.map((watch) =>
          Promise.all([watch.run(either), this.#keepProven(watch, either)]).catch((error: unknown) => {
            failed.abort();
            throw error;
          }),
        ),
      );
    } finally {
      this.#stop.abort();
    }
  }

  /** Age of the kind that is oldest (`KindStatus.ageMs`), in ms. */
  upstreamAgeMs(): number {
    return Math.max(0, ...this.#watches.map((watch) => watch.status.ageMs));
  }

  /** Where the kind's watch stands; "" before its first list. Opaque. */
  resourceVersionOf(kind: ResourceKind): string {
    return this.#watches.find((watch) => watch.kind === kind)?.status.resourceVersion ?? "";
  }

  /** Asks about the kind whenever nothing was heard of it for a while. Half of each wait is random, which keeps kinds and servers apart. */
  async #keepProven(watch: WatchKind, signal: AbortSignal): Promise<void> {
    const { clock, random = Math.random, tuning } = this.#options;
    const intervalMs = tuning?.proofIntervalMs ?? DEFAULT_TUNING.proofIntervalMs;
    while (!signal.aborted) {
      await clock.sleep(intervalMs * (0.5 + random() / 2), signal);
      if (!signal.aborted && watch.status.ageMs >= intervalMs / 2) await watch.catchUp(signal);
    }
  }

  /** Finds out now how far the kind's watch really is, instead of at its next bookmark; takes a second or two. A kind that it does not follow is ignored. Never rejects. */
  async catchUp(kind: string): Promise<void> {
    await this.#watches.find((watch) => watch.kind === kind)?.catchUp(this.#stop.signal);
  }

  kinds(): readonly KindStatus[] {
    return this.#watches.map((watch) => watch.status);
  }

  counters(): Readonly<SourceCounters> {
    return { ...this.#counters };
  }

  #onListing(kind: ResourceKind, isListed: boolean): void {
    if (isListed) this.#unlisted.delete(kind);
    else this.#unlisted.add(kind);
    const next = this.#unlisted.size === 0 ? "in-sync" : this.#status === "wait-for-datastore" ? "wait-for-datastore" : "resync";
    if (next === this.#status) return;
    this.#options.log.info({ component: "source", status: next, kinds: [...this.#unlisted] }, "sync status changed");
    this.#status = next;
    this.#options.sink([{ kind: "status", status: next }]);
  }
}
