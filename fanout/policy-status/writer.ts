/**
 * Writes each policy's conditions to its status. Run by the one server that leads.
 *
 * It looks at the whole tier again and again and writes what pace.ts says, the newest state once, at a bounded rate: a policy never costs a write for each
 * node, and what could not be written is still wanted at the next look. Server-side apply, so that conditions of others stay.
 * networking.k8s.io/v1 NetworkPolicy has no status: `sedge policy status` tells it.
 */
import { setImmediate as yieldToEventLoop } from "node:timers/promises";
import type { ApiClient } from "../../src/datastore/api-client.ts";
import { ApiError } from "../../src/datastore/api-error.ts";
import { API_RESOURCES, apiVersionOf } from "../../src/datastore/api-resources.ts";
import { type JsonObject, numberAt, objectAt, stringAt, tryJsonObject } from "../../src/datastore/json-object.ts";
import { STATUS_KINDS } from "../../src/model/policy-kinds.ts";
import { describeKey, type ResourceKey } from "../../src/model/resource.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { conditionsOf } from "./conditions.ts";
import { DEFAULT_PACE, dated, type Pace, urgencyOf, type Wanted, type Written, type WrittenCondition } from "./pace.ts";
import type { PolicyStatus, PolicyStatuses } from "./statuses.ts";

export interface StatusWriterOptions {
  readonly client: Pick<ApiClient, "list" | "patch">;
  readonly statuses: Pick<PolicyStatuses, "collect" | "statuses">;
  readonly clock: Clock;
  readonly log: Logger;
  /** From one look at the tier to the next (ms). */
  readonly intervalMs?: number;
  readonly writesPerSecond: number;
  readonly pace?: Pace;
  readonly onWrite?: (outcome: "written" | "gone" | "failed") => void;
}

const FIELD_MANAGER = "sedge-policy-status";
const INTERVAL_MS = 1_000;
const PAGE_SIZE = 500;
/** Writes that are under way at once. */
const PARALLEL = 4;
/** Longest stretch of looking at policies without a yield (ms). */
const SLICE_MS = 4;
/** A look is followed by a pause of at least so many times what it took: while many nodes lag it costs a share of a core, not a core. */
const PAUSE_FACTOR = 4;
/** Failures are logged the first time and then every this many. */
const LOG_EVERY = 100;

interface Due {
  readonly key: ResourceKey;
  readonly wanted: Wanted;
  readonly urgency: "transition" | "text";
}

export class PolicyStatusWriter {
  readonly #options: StatusWriterOptions;
  readonly #pace: Pace;
  readonly #written = new Map<string, Written>();
  /** Since when an object's conditions are other than what is written. */
  readonly #since = new Map<string, number>();
  #failures = 0;

  constructor(options: StatusWriterOptions) {
    this.#options = options;
    this.#pace = options.pace ?? DEFAULT_PACE;
  }

  /** Until the signal aborts; never rejects because of the API. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, intervalMs = INTERVAL_MS, writesPerSecond } = this.#options;
    this.#written.clear();
    this.#since.clear();
    let isKnown = false;
    while (!signal.aborted) {
      const start = clock.now();
      try {
        if (!isKnown) await this.#readWritten(signal);
        isKnown = true;
        await this.pass(signal, Math.max(1, Math.floor((writesPerSecond * intervalMs) / 1_000)));
      } catch (error) {
        if (!signal.aborted && this.#failures++ % LOG_EVERY === 0)
          log.warn({ err: error, failures: this.#failures }, "the status of policies cannot be written");
      }
      const tookMs = clock.now() - start;
      await clock.sleep(Math.max(PAUSE_FACTOR * tookMs, intervalMs - tookMs), signal);
    }
  }

  /** One look at the tier and at most `budget` writes. */
  async pass(signal: AbortSignal, budget: number): Promise<void> {
    const due = await this.#due();
    const chosen = [...due.filter(({ urgency }) => urgency === "transition"), ...due.filter(({ urgency }) => urgency === "text")].slice(0, budget);
    const next = chosen.values();
    const work = async (): Promise<void> => {
      for (const one of next) {
        if (signal.aborted) return;
        await this.#write(one, signal);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, work));
  }

  async #due(): Promise<readonly Due[]> {
    const { clock, statuses } = this.#options;
    const tier = await statuses.collect();
    const due: Due[] = [];
    const present = new Set<string>();
    let sliceEnd = clock.now() + SLICE_MS;
    for (const status of statuses.statuses(tier, ({ kind }) => STATUS_KINDS.has(kind))) {
      present.add(describeKey(status.key));
      const one = this.#dueOf(status, clock.now());
      if (one !== undefined) due.push(one);
      if (clock.now() < sliceEnd) continue;
      await yieldToEventLoop();
      sliceEnd = clock.now() + SLICE_MS;
    }
    for (const name of this.#written.keys()) if (!present.has(name)) this.#forget(name);
    return due;
  }

  #dueOf(status: PolicyStatus, now: number): Due | undefined {
    const { key, generation, resourceVersion } = status;
    const name = describeKey(key);
    const wanted: Wanted = { conditions: conditionsOf(status), generation, resourceVersion };
    const since = this.#since.get(name) ?? now;
    const urgency = urgencyOf(wanted, this.#written.get(name), { now, since, pace: this.#pace });
    if (urgency === "none") this.#since.delete(name);
    else this.#since.set(name, since);
    return urgency === "transition" || urgency === "text" ? { key, wanted, urgency } : undefined;
  }

  async #write({ key, wanted }: Due, signal: AbortSignal): Promise<void> {
    const { client, clock, log, onWrite } = this.#options;
    const name = describeKey(key);
    const resource = API_RESOURCES[key.kind];
    const conditions = dated(wanted.conditions, this.#written.get(name), new Date(clock.wallTime()).toISOString().replace(/\.\d+Z$/, "Z"));
    const metadata = { name: key.name, ...(key.namespace === "" ? {} : { namespace: key.namespace }) };
    const observed = wanted.generation === 0 ? {} : { observedGeneration: wanted.generation };
    const object = {
      apiVersion: apiVersionOf(resource),
      kind: resource.kind,
      metadata,
      status: { conditions: conditions.map((one) => ({ ...one, ...observed })) },
    };
    try {
      await client.patch(resource, key, object, { type: "apply", fieldManager: FIELD_MANAGER, force: true, subresource: "status", signal });
      this.#written.set(name, { ...wanted, conditions, at: clock.now() });
      this.#since.delete(name);
      onWrite?.("written");
    } catch (error) {
      if (signal.aborted) return;
      const isGone = error instanceof ApiError && error.status === 404;
      onWrite?.(isGone ? "gone" : "failed");
      if (isGone) this.#forget(name);
      else if (this.#failures++ % LOG_EVERY === 0)
        log.warn({ err: error, policy: name, failures: this.#failures }, "the status of a policy could not be written");
    }
  }

  #forget(name: string): void {
    this.#written.delete(name);
    this.#since.delete(name);
  }

  /** What the leader before has written, so that nothing is written that is there. */
  async #readWritten(signal: AbortSignal): Promise<void> {
    for (const kind of STATUS_KINDS) {
      let next = "";
      do {
        const page = await this.#readPage(kind, next, signal);
        for (const item of page.items) this.#take(kind, tryJsonObject(item));
        next = page.continueToken;
      } while (next !== "");
    }
  }

  async #readPage(
    kind: ResourceKey["kind"],
    next: string,
    signal: AbortSignal,
  ): Promise<{ readonly items: readonly unknown[]; readonly continueToken: string }> {
    try {
      return await this.#options.client.list(API_RESOURCES[kind], { query: { limit: PAGE_SIZE, ...(next === "" ? {} : { continue: next }) }, signal });
    } catch (error) {
      // The definition is not installed.
      if (error instanceof ApiError && error.status === 404) return { items: [], continueToken: "" };
      throw error;
    }
  }

  #take(kind: ResourceKey["kind"], object: JsonObject | undefined): void {
    const metadata = objectAt(object, "metadata");
    const list: unknown = objectAt(object, "status")?.["conditions"];
    const entries = (Array.isArray(list) ? list : []).map((entry: unknown) => tryJsonObject(entry)).filter((entry) => entry !== undefined);
    const conditions = entries.flatMap((entry) => conditionOf(entry) ?? []);
    if (conditions.length < 2) return;
    const ours = entries.filter((entry) => conditionOf(entry) !== undefined);
    const generation = Math.min(...ours.map((entry) => numberAt(entry, "observedGeneration") ?? 0));
    const key = { kind, namespace: stringAt(metadata, "namespace") ?? "", name: stringAt(metadata, "name") ?? "" };
    this.#written.set(describeKey(key), { conditions, generation, resourceVersion: undefined, at: this.#options.clock.now() });
  }
}

/** One of ours, as it was written. */
function conditionOf(entry: JsonObject): WrittenCondition | undefined {
  const [type, status] = [stringAt(entry, "type"), stringAt(entry, "status")];
  if ((type !== "Accepted" && type !== "Programmed") || (status !== "True" && status !== "False" && status !== "Unknown")) return undefined;
  return {
    type,
    status,
    reason: stringAt(entry, "reason") ?? "",
    message: stringAt(entry, "message") ?? "",
    lastTransitionTime: stringAt(entry, "lastTransitionTime") ?? "",
  };
}
