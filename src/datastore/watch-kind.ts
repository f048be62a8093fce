/**
 * Keeps one kind listed and watched: carries out what the state machine says, and feeds it what comes back.
 *
 * Events of one chunk of the stream are delivered as one batch. Whatever happens, the kind is followed until the signal aborts; `run` never rejects
 * because of the server. Rejected: one loop for all kinds, in which a slow or missing kind would hold up the others.
 */
import type { ClusterEvent, Parsed } from "../model/event.ts";
import { assertNever } from "../model/event.ts";
import { RESOURCE_INFO, resourceKeyOf } from "../model/parse-resource.ts";
import { STATUS_KINDS } from "../model/policy-kinds.ts";
import type { Resource, ResourceKind } from "../model/resource.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import { Backoff } from "../runtime/retry.ts";
import type { ApiClient, Query } from "./api-client.ts";
import { ApiError, ApiUnreachableError } from "./api-error.ts";
import { API_RESOURCES, collectionPath } from "./api-resources.ts";
import { standingSince } from "./catch-up.ts";
import { type JsonObject, numberAt, objectAt, stringAt } from "./json-object.ts";
import { KindStore } from "./kind-store.ts";
import type { WatchFrame } from "./media.ts";
import type { CounterName, SourceCounters } from "./source-counters.ts";
import { classifyFailure } from "./watch-failure.ts";
import { advance, INITIAL_MACHINE, type WatchAction, type WatchFailure, type WatchInput, type WatchMachine } from "./watch-machine.ts";

/** What following a kind needs of the client. */
export type ListWatchClient = Pick<ApiClient, "list" | "watch">;

export interface WatchTuning {
  /** Ask for streaming lists; pages are used where the server refuses. False: pages from the start. */
  readonly useStreamingList: boolean;
  /** Objects on one page of a paged list. */
  readonly pageLimit: number;
  /** No byte for this long ends a watch; above the server's bookmark interval (a minute). */
  readonly silenceMs: number;
  /** The server is asked to end a watch after a time between this and twice this. */
  readonly watchSeconds: number;
  readonly backoffInitialMs: number;
  readonly backoffMaxMs: number;
  /** Longest pause between questions for a kind that the server does not have. */
  readonly missingMaxMs: number;
  /** A kind of which nothing was heard for half of this to all of this is asked about (catch-up.ts): two requests each time. */
  readonly proofIntervalMs: number;
  /** Longest wait for each answer of such a question. */
  readonly proofSilenceMs: number;
  /** A watch that still lacks an event this long after a question has shown it is opened anew. */
  readonly stuckMs: number;
}

export const DEFAULT_TUNING: WatchTuning = {
  useStreamingList: true,
  pageLimit: 500,
  silenceMs: 90_000,
  watchSeconds: 300,
  backoffInitialMs: 100,
  backoffMaxMs: 5_000,
  missingMaxMs: 30_000,
  proofIntervalMs: 10_000,
  proofSilenceMs: 10_000,
  stuckMs: 5_000,
};

export type KindPhase = "starting" | "listing" | "watching" | "retrying" | "missing";

export interface KindStatus {
  readonly kind: ResourceKind;
  readonly phase: KindPhase;
  /** The first list has completed, or the server has said that it has no such kind. */
  readonly isListed: boolean;
  readonly objects: number;
  /** Objects that could not be understood. */
  readonly invalid: number;
  /**
   * Since when there may be something that is not known here, in ms: since the watch last brought something, or since a question was sent whose answer
   * showed that it owes nothing. While the server has no such kind: since it was to be asked again, because until then there is no answer that it owes.
   */
  readonly ageMs: number;
  /** Where a watch would resume; "" before the first list. */
  readonly resourceVersion: string;
  /** Message of the last failure; "" while the watch is open. */
  readonly problem: string;
}

export interface WatchKindOptions {
  readonly kind: ResourceKind;
  readonly client: ListWatchClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tuning: WatchTuning;
  readonly counters: SourceCounters;
  readonly random?: () => number;
  readonly onEvents: (events: readonly ClusterEvent[]) => void;
  /** The kind has begun a list, or has (as far as the server can say) completed one. */
  readonly onListing: (isListed: boolean) => void;
}

/** A stream that lived this long was healthy: the next failure begins a new series. */
const HEALTHY_MS = 5_000;
/** A stream that ended in order sooner than this is opened again only after a pause. */
const SHORT_MS = 1_000;
/** Repeated failures are logged the first time and then every this many. */
const LOG_EVERY = 20;

export class WatchKind {
  readonly kind: ResourceKind;
  readonly #options: WatchKindOptions;
  readonly #store = new KindStore();
  readonly #backoff: Backoff;
  readonly #missingBackoff: Backoff;
  readonly #random: () => number;
  #machine: WatchMachine;
  #phase: KindPhase = "starting";
  #isListed = false;
  #heardAt: number;
  /** Until then nothing is asked, since the server has no such kind. */
  #quietUntil = Number.NEGATIVE_INFINITY;
  #resourceVersion = "";
  #problem = "";
  #catchingUp: Promise<void> | undefined;
  /** Ends the stream that is open. */
  #stuck = new AbortController();

  constructor(options: WatchKindOptions) {
    const { kind, tuning, clock } = options;
    this.kind = kind;
    this.#options = options;
    this.#machine = { ...INITIAL_MACHINE, memory: { ...INITIAL_MACHINE.memory, canStream: tuning.useStreamingList } };
    this.#random = options.random ?? Math.random;
    this.#backoff = new Backoff({ initialMs: tuning.backoffInitialMs, maxMs: tuning.backoffMaxMs, random: this.#random });
    this.#missingBackoff = new Backoff({ initialMs: Math.min(1_000, tuning.missingMaxMs), maxMs: tuning.missingMaxMs, random: this.#random });
    this.#heardAt = clock.now();
  }

  get status(): KindStatus {
    return {
      kind: this.kind,
      phase: this.#phase,
      isListed: this.#isListed,
      objects: this.#store.size,
      invalid: this.#store.invalid,
      ageMs: Math.max(0, this.#options.clock.now() - Math.max(this.#heardAt, this.#quietUntil)),
      resourceVersion: this.#resourceVersion,
      problem: this.#problem,
    };
  }

  /** Resolves when the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let action = this.#advance({ kind: "due" });
    while (!signal.aborted) {
      if (action === undefined) throw new Error(`${this.kind}: nothing left to do in state ${this.#machine.state.kind}`);
      action = await this.#perform(action, signal);
    }
  }

  /**
   * Brings `status.resourceVersion` to where the API is now, and the age with it, if the watch has all that happened so far; ends the watch if it has not and
   * does not get it. Never rejects; who asks while it runs gets the same answer.
   */
  catchUp(signal: AbortSignal): Promise<void> {
    this.#catchingUp ??= this.#catchUp(signal).finally(() => {
      this.#catchingUp = undefined;
    });
    return this.#catchingUp;
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    const { client, clock, log, tuning } = this.#options;
    const { state } = this.#machine;
    if (state.kind !== "watch") return;
    const from = state.resourceVersion;
    const stream = this.#stuck;
    const isUnmoved = (): boolean => this.#machine.state.kind === "watch" && this.#machine.state.resourceVersion === from;
    const askedAt = clock.now();
    this.#count("proofs");
    try {
      const standing = await standingSince(client, { kind: this.kind, from, silenceMs: tuning.proofSilenceMs, signal });
      if (!isUnmoved()) return;
      if (standing.kind === "quiet") {
        if (standing.isCurrent) this.#heardAt = Math.max(this.#heardAt, askedAt);
        this.#advance({ kind: "progress", resourceVersion: standing.resourceVersion });
      } else if (standing.kind === "moved") {
        await clock.sleep(tuning.stuckMs, signal);
        if (isUnmoved()) stream.abort(); // of that stream: one that was opened meanwhile goes on
      }
    } catch (error) {
      log.debug({ kind: this.kind, err: error }, "where the watch stands could not be found out");
    }
  }

  /** Feeds the machine; carries out at once what takes no time, and returns what does. */
  #advance(input: WatchInput): EffectAction | undefined {
    const { machine, actions } = advance(this.#machine, input);
    this.#machine = machine;
    if (machine.state.kind === "watch") this.#resourceVersion = machine.state.resourceVersion;
    let effect: EffectAction | undefined;
    for (const action of actions) {
      switch (action.kind) {
        case "list-begin":
          this.#store.beginList();
          // Asking again for a kind that was missing is no resync: nothing is known of it that could be stale.
          if (this.#isListed && this.#phase !== "missing") this.#options.onListing(false);
          this.#phase = "listing";
          break;
        case "list-complete":
          this.#count("completedLists");
          this.#missingBackoff.reset();
          this.#emit(this.#store.completeList());
          this.#listed();
          break;
        case "list-missing":
          this.#phase = "missing";
          this.#heardAt = this.#options.clock.now();
          this.#listed();
          break;
        default:
          effect = action;
      }
    }
    return effect;
  }

  #listed(): void {
    this.#isListed = true;
    this.#options.onListing(true);
  }

  async #perform(action: EffectAction, signal: AbortSignal): Promise<EffectAction | undefined> {
    switch (action.kind) {
      case "wait": {
        const { clock } = this.#options;
        const delayMs = (action.pace === "slow" ? this.#missingBackoff : this.#backoff).next(action.atLeastMs);
        if (action.pace === "backoff") this.#phase = "retrying";
        else this.#quietUntil = clock.now() + delayMs;
        await clock.sleep(delayMs, signal);
        return this.#advance({ kind: "due" });
      }
      case "get-page":
        return await this.#getPage(action, signal);
      case "open-stream-list":
        this.#count("streamLists");
        return await this.#follow({ sendInitialEvents: true, resourceVersionMatch: "NotOlderThan" }, true, signal);
      case "open-watch":
        this.#count("watches");
        return await this.#follow({ resourceVersion: action.resourceVersion }, false, signal);
      default:
        return assertNever(action);
    }
  }

  async #getPage({ continueToken, isWhole }: { continueToken: string; isWhole: boolean }, signal: AbortSignal): Promise<EffectAction | undefined> {
    if (continueToken === "") this.#count("pagedLists");
    this.#count("pages");
    try {
      const query: Query = { limit: isWhole ? undefined : this.#options.tuning.pageLimit, continue: continueToken === "" ? undefined : continueToken };
      const page = await this.#options.client.list(API_RESOURCES[this.kind], { query, signal });
      this.#heardAt = this.#options.clock.now();
      this.#emit(page.items.flatMap((item) => this.#put(item) ?? []));
      return this.#advance({ kind: "page", resourceVersion: page.resourceVersion, continueToken: page.continueToken });
    } catch (error) {
      return this.#failed(error, false, signal);
    }
  }

  /** Opens a watch and reads it to its end, whatever that is. */
  async #follow(query: Query, isStreamingList: boolean, signal: AbortSignal): Promise<EffectAction | undefined> {
    const { client, clock, tuning } = this.#options;
    const openedAt = clock.now();
    this.#stuck = new AbortController();
    const stuck = this.#stuck.signal;
    try {
      const stream = client.watch(API_RESOURCES[this.kind], {
        query: { ...query, allowWatchBookmarks: true, timeoutSeconds: Math.ceil(tuning.watchSeconds * (1 + this.#random())) },
        signal: AbortSignal.any([signal, stuck]),
        silenceMs: tuning.silenceMs,
        onOpen: () => {
          this.#problem = "";
          if (!isStreamingList) this.#phase = "watching";
        },
      });
      for await (const frames of stream) {
        this.#heardAt = clock.now();
        this.#read(frames);
      }
      if (stuck.aborted) throw new Error("given up");
    } catch (error) {
      if (clock.now() - openedAt >= HEALTHY_MS) this.#backoff.reset();
      const label = `WATCH ${collectionPath(API_RESOURCES[this.kind])}`;
      const reason = stuck.aborted ? new ApiUnreachableError("SILENT", label, "events that the server has do not come", { cause: error }) : error;
      return this.#failed(reason, isStreamingList && this.#machine.state.kind === "stream-list", signal);
    }
    const livedMs = clock.now() - openedAt;
    if (livedMs >= HEALTHY_MS) this.#backoff.reset();
    this.#count("reconnectsEnded");
    return this.#advance({ kind: "ended", isShort: livedMs < SHORT_MS });
  }

  /** One chunk's frames. What comes before an ERROR counts; its version is where the watch resumes. */
  #read(frames: readonly WatchFrame[]): void {
    const events: ClusterEvent[] = [];
    let version = "";
    const settle = (): void => {
      this.#emit(events.splice(0));
      if (version !== "") this.#advance({ kind: "progress", resourceVersion: version });
      if (version !== "" && this.#machine.state.kind === "watch") this.#backoff.reset();
      version = "";
    };
    for (const { type, object } of frames) {
      const metadata = objectAt(object, "metadata");
      switch (type) {
        case "ADDED":
        case "MODIFIED": {
          const event = this.#put(object);
          if (event !== undefined) events.push(event);
          version = stringAt(metadata, "resourceVersion") ?? version;
          break;
        }
        case "DELETED": {
          const event = this.#remove(object);
          if (event !== undefined) events.push(event);
          version = stringAt(metadata, "resourceVersion") ?? version;
          break;
        }
        case "BOOKMARK":
          this.#count("bookmarks");
          version = stringAt(metadata, "resourceVersion") ?? version;
          if (stringAt(objectAt(metadata, "annotations"), "k8s.io/initial-events-end") === "true" && version !== "") {
            this.#emit(events.splice(0));
            this.#phase = "watching";
            this.#advance({ kind: "initial-end", resourceVersion: version });
            version = "";
          }
          break;
        case "ERROR":
          settle();
          throw new ApiError({ status: numberAt(object, "code") ?? 500, request: `WATCH ${collectionPath(API_RESOURCES[this.kind])}`, body: object });
        default:
          assertNever(type);
      }
    }
    settle();
  }

  #put(object: unknown): ClusterEvent | undefined {
    const key = resourceKeyOf(this.kind, object);
    if (key === undefined) {
      this.#count("nameless");
      return undefined;
    }
    const parsed = this.#parse(object);
    const metadata = objectAt(object as JsonObject, "metadata");
    const event = this.#store.put(
      key,
      parsed,
      parsed.ok ? parsed.value.resourceVersion : (stringAt(metadata, "resourceVersion") ?? ""),
      STATUS_KINDS.has(this.kind) ? numberAt(metadata, "generation") : undefined,
    );
    this.#count(event === undefined ? "unchanged" : event.kind === "invalid" ? "invalids" : "upserts");
    return event;
  }

  #remove(object: unknown): ClusterEvent | undefined {
    const key = resourceKeyOf(this.kind, object);
    if (key === undefined) this.#count("nameless");
    return key === undefined ? undefined : this.#store.remove(key);
  }

  /** A parser that throws is a fault of ours; the object is then not understood, like any other that is not. */
  #parse(object: unknown): Parsed<Resource> {
    try {
      return RESOURCE_INFO[this.kind].parse(object);
    } catch (error) {
      return { ok: false, problems: [{ field: "", message: `cannot be read: ${error instanceof Error ? error.message : String(error)}` }] };
    }
  }

  #emit(events: readonly ClusterEvent[]): void {
    for (const event of events) if (event.kind === "delete") this.#count("deletes");
    if (events.length > 0) this.#options.onEvents(events);
  }

  #failed(error: unknown, isStreamingList: boolean, signal: AbortSignal): EffectAction | undefined {
    if (signal.aborted) return { kind: "wait", pace: "backoff", atLeastMs: 0 };
    if (!(error instanceof ApiError || error instanceof ApiUnreachableError) && !(error instanceof Error && error.name === "KubeconfigError")) throw error;
    const failure = classifyFailure(error, { isStreamingList });
    this.#problem = error.message;
    this.#count(counterOf(failure));
    const { canStream } = this.#machine.memory;
    const action = this.#advance({ kind: "failed", failure });
    if (canStream && !this.#machine.memory.canStream) this.#count("fallbacksToPages");
    this.#logFailure(error, failure);
    return action;
  }

  #logFailure(error: Error, failure: WatchFailure): void {
    const tries = failure.kind === "missing" ? this.#missingBackoff.tries : this.#backoff.tries;
    const isNotable = tries % LOG_EVERY === 0 && failure.kind !== "expired" && failure.kind !== "no-streaming";
    this.#options.log[isNotable ? "warn" : "debug"](
      { kind: this.kind, err: error, failure: failure.kind, tries, state: this.#machine.state.kind },
      "list or watch ended: trying again",
    );
  }

  #count(name: CounterName): void {
    this.#options.counters[name]++;
  }
}

type EffectAction = Extract<WatchAction, { kind: "wait" | "get-page" | "open-stream-list" | "open-watch" }>;

function counterOf(failure: WatchFailure): CounterName {
  switch (failure.kind) {
    case "expired":
      return "reconnectsExpired";
    case "ahead":
      return "reconnectsAhead";
    case "refused":
      return "reconnectsRefused";
    case "missing":
      return "reconnectsMissing";
    case "no-streaming":
      return "reconnectsEnded";
    case "disconnected":
      return failure.isSilence ? "reconnectsSilent" : "reconnectsDisconnected";
    default:
      return assertNever(failure);
  }
}
