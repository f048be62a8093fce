/**
 * Tiers: the three that are always there have objects, so that people find them where they look; a tier that is deleted stays until no policy is in it; and the
 * condition Ready says so.
 *
 * Invariant: the finalizer is taken only after a reading of all policies, made after the deletion was seen, that has none in the tier. Enforcement needs none of
 * this: built-in tiers hold without an object, and a tier whose object is gone comes last and denies. Of a built-in one that is deleted the object is made again.
 */
import type { ApiClient } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import { API_RESOURCES, apiVersionOf } from "../datastore/api-resources.ts";
import { type JsonObject, objectAt, stringAt, tryJsonObject } from "../datastore/json-object.ts";
import { DEFAULT_TIER } from "../model/parse-calico-policy.ts";
import { BUILT_IN_TIERS } from "../model/parse-tier.ts";
import { describeKind, type ResourceKind } from "../model/resource.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import { jittered } from "../runtime/retry.ts";

/** As Calico's own controller calls it: either can release what the other has held. */
export const TIER_FINALIZER = "projectcalico.org/tier-controller";

/** Kinds that name a tier; staged ones too, or promoting one would find its tier gone. */
export const TIERED_KINDS = [
  "GlobalNetworkPolicy",
  "CalicoNetworkPolicy",
  "ClusterNetworkPolicy",
  "StagedGlobalNetworkPolicy",
  "StagedNetworkPolicy",
] as const satisfies readonly ResourceKind[];
/** ClusterNetworkPolicy's words for tiers. */
const CLUSTER_TIERS: Readonly<Record<string, string>> = { Admin: "kube-admin", Baseline: "kube-baseline" };

const TIER = API_RESOURCES.Tier;
const PAGE_SIZE = 500;
/** Policies that are named in the condition. */
const MAX_NAMED = 5;

export interface TierControllerOptions {
  readonly client: Pick<ApiClient, "list" | "create" | "update">;
  readonly clock: Clock;
  readonly log: Logger;
  readonly intervalMs: number;
}

interface ReadyCondition {
  readonly status: "True" | "False";
  readonly reason: string;
  readonly message: string;
}

export class TierController {
  readonly #options: TierControllerOptions;

  constructor(options: TierControllerOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.pass(signal);
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, "the tiers could not be looked after");
      }
      await clock.sleep(jittered(intervalMs), signal);
    }
  }

  async pass(signal: AbortSignal): Promise<void> {
    const tiers = await this.#read("Tier", signal);
    if (tiers === undefined) return;
    const names = new Set(tiers.map(nameOf));
    for (const [name, { order, defaultAction }] of BUILT_IN_TIERS) {
      if (names.has(name)) continue;
      const metadata = { name, finalizers: [TIER_FINALIZER] };
      await this.#tolerant(() =>
        this.#options.client.create(TIER, { apiVersion: apiVersionOf(TIER), kind: TIER.kind, metadata, spec: { order, defaultAction } }, { signal }),
      );
      this.#options.log.info({ tier: name }, "made the built-in tier");
    }
    // After the list of tiers: a policy that was made before a deletion was seen is in it.
    const users = tiers.some(isDeleting) ? await this.#policiesByTier(signal) : new Map<string, readonly string[]>();
    for (const tier of tiers) {
      if (signal.aborted) return;
      await this.#tolerant(() => this.#settle(tier, users.get(nameOf(tier)) ?? []));
    }
  }

  async #settle(tier: JsonObject, users: readonly string[]): Promise<void> {
    const finalizers = finalizersOf(tier);
    const isHeld = finalizers.includes(TIER_FINALIZER);
    if (isDeleting(tier) && users.length === 0) {
      if (!isHeld) return;
      await this.#replaceFinalizers(
        tier,
        finalizers.filter((name) => name !== TIER_FINALIZER),
      );
      this.#options.log.info({ tier: nameOf(tier) }, "no policy is in the deleted tier: it goes");
      return;
    }
    const held = isDeleting(tier) || isHeld ? tier : await this.#replaceFinalizers(tier, [...finalizers, TIER_FINALIZER]);
    const status = this.#statusWith(held, isDeleting(tier) ? terminating(users) : { status: "True", reason: "Ready", message: "" });
    if (status !== undefined)
      await this.#options.client.update(TIER, { ...held, apiVersion: apiVersionOf(TIER), kind: TIER.kind, status }, { subresource: "status" });
  }

  /** undefined: it says that already. */
  #statusWith(tier: JsonObject, ready: ReadyCondition): JsonObject | undefined {
    const list: unknown = objectAt(tier, "status")?.["conditions"];
    const conditions = (Array.isArray(list) ? list : []).map((entry: unknown) => tryJsonObject(entry)).filter((entry) => entry !== undefined);
    const before = conditions.find((entry) => stringAt(entry, "type") === "Ready");
    if (before !== undefined && (["status", "reason", "message"] as const).every((field) => (stringAt(before, field) ?? "") === ready[field])) return undefined;
    const now = new Date(this.#options.clock.wallTime()).toISOString().replace(/\.\d+Z$/, "Z");
    const lastTransitionTime = before !== undefined && stringAt(before, "status") === ready.status ? stringAt(before, "lastTransitionTime") : now;
    return { ...objectAt(tier, "status"), conditions: [...conditions.filter((entry) => entry !== before), { type: "Ready", ...ready, lastTransitionTime }] };
  }

  async #replaceFinalizers(tier: JsonObject, finalizers: readonly string[]): Promise<JsonObject> {
    const metadata = { ...objectAt(tier, "metadata"), finalizers, managedFields: undefined };
    return await this.#options.client.update(TIER, { ...tier, apiVersion: apiVersionOf(TIER), kind: TIER.kind, metadata });
  }

  async #policiesByTier(signal: AbortSignal): Promise<ReadonlyMap<string, readonly string[]>> {
    const users = new Map<string, string[]>();
    for (const kind of TIERED_KINDS) {
      for (const policy of (await this.#read(kind, signal)) ?? []) {
        const tier = tierOf(kind, policy);
        const namespace = stringAt(objectAt(policy, "metadata"), "namespace");
        const label = `${describeKind(kind)} ${namespace === undefined ? "" : `${namespace}/`}${nameOf(policy)}`;
        users.set(tier, [...(users.get(tier) ?? []), label]);
      }
    }
    return users;
  }

  /** All objects of the kind; undefined: its definition is not installed. */
  async #read(kind: ResourceKind, signal: AbortSignal): Promise<readonly JsonObject[] | undefined> {
    const objects: JsonObject[] = [];
    let next = "";
    try {
      do {
        const query = { limit: PAGE_SIZE, ...(next === "" ? {} : { continue: next }) };
        const { items, continueToken } = await this.#options.client.list(API_RESOURCES[kind], { query, signal });
        objects.push(...items.map((item) => tryJsonObject(item)).filter((item) => item !== undefined));
        next = continueToken;
      } while (next !== "");
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
    return objects;
  }

  /** Changed, gone or made meanwhile: the next pass sees it. */
  async #tolerant(act: () => Promise<unknown>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!(error instanceof ApiError) || (error.status !== 409 && error.status !== 404)) throw error;
    }
  }
}

function terminating(users: readonly string[]): ReadyCondition {
  const named = users.slice(0, MAX_NAMED).join(", ");
  const more = users.length > MAX_NAMED ? ` and ${users.length - MAX_NAMED} more` : "";
  return {
    status: "False",
    reason: "Terminating",
    message: `it is being deleted and goes when no policy is in it; there ${users.length === 1 ? "is" : "are"} ${named}${more}`,
  };
}

function tierOf(kind: (typeof TIERED_KINDS)[number], policy: JsonObject): string {
  const written = stringAt(objectAt(policy, "spec"), "tier") ?? "";
  if (kind === "ClusterNetworkPolicy") return CLUSTER_TIERS[written] ?? written;
  return written === "" ? DEFAULT_TIER : written;
}

function nameOf(object: JsonObject): string {
  return stringAt(objectAt(object, "metadata"), "name") ?? "";
}

function isDeleting(object: JsonObject): boolean {
  return stringAt(objectAt(object, "metadata"), "deletionTimestamp") !== undefined;
}

function finalizersOf(object: JsonObject): readonly string[] {
  const found: unknown = objectAt(object, "metadata")?.["finalizers"];
  return Array.isArray(found) ? found.filter((name): name is string => typeof name === "string") : [];
}
