/**
 * Writes what the whole tier knows to the one SedgeStatus object. Run by the server that leads.
 *
 * Every write is a compare-and-swap on what was read, so that two leaders (a paused process) do not undo each other unseen. Without the definition in the API
 * it asks again now and then. Rejected: an object for each node (a hundred writes a second of a large cluster's nodes, for what nobody reads).
 */
import type { ApiClient } from "../../src/datastore/api-client.ts";
import { ApiError } from "../../src/datastore/api-error.ts";
import { type ApiResource, apiVersionOf } from "../../src/datastore/api-resources.ts";
import { type JsonObject, objectAt, stringAt, tryJsonObject } from "../../src/datastore/json-object.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { CLUSTER_CONDITIONS, clusterStatus } from "./cluster-status.ts";
import { type ClusterStatusPace, ClusterStatusPacer, type DatedCondition, type DatedStatus } from "./cluster-status-pace.ts";
import type { Tier } from "./tier.ts";

export const SEDGE_STATUS: ApiResource = {
  kind: "SedgeStatus",
  group: "sedge.network",
  version: "v1",
  plural: "sedgestatuses",
  isNamespaced: false,
  hasProtobuf: false,
};
export const SEDGE_STATUS_NAME = "default";

export interface ClusterStatusWriterOptions {
  readonly client: Pick<ApiClient, "get" | "create" | "update">;
  readonly tier: Pick<Tier, "collect" | "members">;
  /** False: the cluster's nodes are not known yet, so nothing can be said. */
  readonly isInSync: () => boolean;
  readonly clock: Clock;
  readonly log: Logger;
  readonly intervalMs?: number;
  readonly pace?: ClusterStatusPace;
}

const INTERVAL_MS = 5_000;
const MISSING_MS = 60_000;
/** Failures are logged the first time and then every this many. */
const LOG_EVERY = 60;

export class ClusterStatusWriter {
  readonly #options: ClusterStatusWriterOptions;
  #pacer: ClusterStatusPacer;
  #object: JsonObject | undefined;
  #failures = 0;

  constructor(options: ClusterStatusWriterOptions) {
    this.#options = options;
    this.#pacer = new ClusterStatusPacer(options.pace);
  }

  /** Until the signal aborts; never rejects because of the API. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs = INTERVAL_MS, log } = this.#options;
    this.#forget();
    while (!signal.aborted) {
      let waitMs = intervalMs;
      try {
        await this.pass(signal);
      } catch (error) {
        this.#forget();
        if (error instanceof ApiError && error.status === 404) waitMs = MISSING_MS;
        if (!signal.aborted && this.#failures++ % LOG_EVERY === 0)
          log.warn({ err: error, failures: this.#failures }, "the status of the cluster cannot be written");
      }
      await clock.sleep(waitMs, signal);
    }
  }

  /** One look at the tier, and at most one write. Rejects with what the API said. */
  async pass(signal: AbortSignal): Promise<"written" | "none"> {
    const { client, clock, isInSync, tier } = this.#options;
    if (!isInSync()) return "none";
    this.#object ??= await this.#readOrCreate(signal);
    const wanted = clusterStatus({ tier: await tier.collect(), nodes: tier.members.nodes(), now: clock.wallTime() });
    const due = this.#pacer.due(wanted, clock.now(), new Date(clock.wallTime()).toISOString().replace(/\.\d+Z$/, "Z"));
    if (due === undefined || signal.aborted) return "none";
    this.#object = await client.update(SEDGE_STATUS, { ...this.#object, status: { ...due } }, { subresource: "status", signal });
    this.#pacer.written(due, clock.now());
    return "written";
  }

  async #readOrCreate(signal: AbortSignal): Promise<JsonObject> {
    const { client, clock } = this.#options;
    const object = (await this.#read(signal)) ?? (await client.create(SEDGE_STATUS, EMPTY, { signal }));
    const found = statusOf(object);
    if (found !== undefined) this.#pacer.written(found, clock.now());
    return object;
  }

  async #read(signal: AbortSignal): Promise<JsonObject | undefined> {
    try {
      return await this.#options.client.get(SEDGE_STATUS, { name: SEDGE_STATUS_NAME }, { signal });
    } catch (error) {
      if (error instanceof ApiError && error.status === 404 && error.reason === "NotFound") return undefined;
      throw error;
    }
  }

  #forget(): void {
    this.#object = undefined;
    this.#pacer = new ClusterStatusPacer(this.#options.pace);
  }
}

const EMPTY: JsonObject = { apiVersion: apiVersionOf(SEDGE_STATUS), kind: SEDGE_STATUS.kind, metadata: { name: SEDGE_STATUS_NAME } };

/** What another leader wrote: so that its transitions keep their times. Undefined: nothing, or not all of it. */
function statusOf(object: JsonObject): DatedStatus | undefined {
  const status = objectAt(object, "status");
  const entries: unknown = status?.["conditions"];
  const conditions = (Array.isArray(entries) ? entries : []).flatMap((entry: unknown) => conditionOf(tryJsonObject(entry)) ?? []);
  if (CLUSTER_CONDITIONS.some((type) => !conditions.some((one) => one.type === type))) return undefined;
  const text = (field: string): string => stringAt(status, field) ?? "";
  return { conditions, servers: text("servers"), nodes: text("nodes"), programmed: text("programmed"), summary: text("summary"), replicas: [] };
}

function conditionOf(entry: JsonObject | undefined): DatedCondition | undefined {
  const type = CLUSTER_CONDITIONS.find((one) => one === stringAt(entry, "type"));
  const status = stringAt(entry, "status");
  if (type === undefined || (status !== "True" && status !== "False" && status !== "Unknown")) return undefined;
  return {
    type,
    status,
    reason: stringAt(entry, "reason") ?? "",
    message: stringAt(entry, "message") ?? "",
    lastTransitionTime: stringAt(entry, "lastTransitionTime") ?? "",
  };
}
