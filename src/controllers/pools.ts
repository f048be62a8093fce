/**
 * IPPools: whether they can give addresses (condition Allocatable), and their end. A pool that is deleted stays, closed, until nothing of it is in use: pods keep
 * their addresses, routes and masquerading; agents give its blocks back as they run empty, and with the last the finalizer goes.
 *
 * Invariant: the condition tells and decides nothing (who gives addresses sees the objects); the finalizer is taken only after a reading of all blocks, made after
 * the deletion was seen, that has none of the pool. A pool whose range another pool has too waits for no block that is a block of that other one.
 */

import type { ApiClient } from "../datastore/api-client.ts";
import { ApiError } from "../datastore/api-error.ts";
import { API_RESOURCES, apiVersionOf } from "../datastore/api-resources.ts";
import { type JsonObject, objectAt, stringAt, tryJsonObject } from "../datastore/json-object.ts";
import type { AddressSnapshot } from "../ipam/audit.ts";
import { isBlockOf } from "../ipam/block.ts";
import { refusedPools } from "../ipam/pool-overlap.ts";
import { POOL_FINALIZER } from "../model/parse-ip-pool.ts";
import { RESOURCE_INFO } from "../model/parse-resource.ts";
import type { IpamBlock, IpPool } from "../model/resource.ts";
import { cidrContainsCidr, cidrsOverlap } from "../net/cidr.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import { jittered } from "../runtime/retry.ts";

const CONDITION = "Allocatable";

export interface PoolControllerOptions {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly intervalMs: number;
  /** All blocks, as the API has them now. */
  readonly readBlocks: (signal: AbortSignal) => Promise<AddressSnapshot["blocks"]>;
}

/** Reasons as Calico's controller writes them. */
export type PoolReason = "OK" | "CIDROverlap" | "Terminating" | "PoolDisabled";

export interface PoolVerdict {
  readonly reason: PoolReason;
  readonly message: string;
}

/** What the condition of a pool should say. `isDisabled`: spec.disabled. */
export function verdictOf(pool: IpPool, facts: { readonly isDisabled: boolean; readonly older: IpPool | undefined }): PoolVerdict {
  const { isDisabled, older } = facts;
  if (pool.isDeleting === true) return { reason: "Terminating", message: "it is being deleted and gives no new address; it goes when the last one is free" };
  if (older !== undefined)
    return { reason: "CIDROverlap", message: `${pool.cidr} overlaps the older IPPool ${older.name} (${older.cidr}); it is used when that one is gone` };
  if (isDisabled) return { reason: "PoolDisabled", message: "spec.disabled is true" };
  return { reason: "OK", message: "addresses can be taken from it" };
}

/** Blocks for which the pool has to stay. */
export function blocksLeft(pool: IpPool, blocks: readonly IpamBlock[], others: readonly IpPool[]): readonly IpamBlock[] {
  const isOthers = (block: IpamBlock): boolean => others.some((other) => other.name !== pool.name && isBlockOf(other, block.cidr));
  return blocks.filter(
    (block) => cidrsOverlap(pool.cidr, block.cidr) && (isBlockOf(pool, block.cidr) || cidrContainsCidr(pool.cidr, block.cidr)) && !isOthers(block),
  );
}

interface Entry {
  readonly pool: IpPool;
  readonly object: JsonObject;
}

export class PoolController {
  readonly #options: PoolControllerOptions;

  constructor(options: PoolControllerOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs, log } = this.#options;
    while (!signal.aborted) {
      try {
        await this.pass(signal);
      } catch (error) {
        if (!signal.aborted) log.warn({ err: error }, "the pools could not be looked after");
      }
      await clock.sleep(jittered(intervalMs), signal);
    }
  }

  async pass(signal: AbortSignal): Promise<void> {
    const { client, log, readBlocks } = this.#options;
    const { items } = await client.list(API_RESOURCES.IPPool, { signal });
    const entries = items.flatMap((item): Entry[] => {
      const object = tryJsonObject(item);
      const parsed = RESOURCE_INFO.IPPool.parse(item);
      if (parsed.ok && object !== undefined) return [{ pool: parsed.value as IpPool, object }];
      log.warn({ pool: stringAt(objectAt(object, "metadata"), "name") }, "an IPPool cannot be understood: it is left as it is");
      return [];
    });
    const pools = entries.map(({ pool }) => pool);
    const refused = refusedPools(pools);
    // After the list of pools: a block that was claimed before a deletion was seen is in it.
    const blocks = pools.some(({ isDeleting }) => isDeleting) ? await readBlocks(signal) : [];
    for (const entry of entries) {
      if (signal.aborted) return;
      try {
        await this.#settle(entry, { older: refused.get(entry.pool.name), left: blocksLeft(entry.pool, blocks, pools) });
      } catch (error) {
        // Changed or gone meanwhile: the next pass sees it.
        if (!(error instanceof ApiError) || (error.status !== 409 && error.status !== 404)) throw error;
      }
    }
  }

  async #settle({ object, pool }: Entry, { left, older }: { readonly left: readonly IpamBlock[]; readonly older: IpPool | undefined }): Promise<void> {
    const { client, log } = this.#options;
    const finalizers = finalizersOf(object);
    const isHeld = finalizers.includes(POOL_FINALIZER);
    if (pool.isDeleting === true && isHeld && left.length === 0) {
      await this.#replaceFinalizers(
        object,
        finalizers.filter((name) => name !== POOL_FINALIZER),
      );
      log.info({ pool: pool.name, cidr: pool.cidr }, "nothing of the deleted pool is in use: it goes");
      return;
    }
    const held = pool.isDeleting === true || isHeld ? object : await this.#replaceFinalizers(object, [...finalizers, POOL_FINALIZER]);
    const verdict = verdictOf(pool, { isDisabled: objectAt(object, "spec")?.["disabled"] === true, older });
    const counted = pool.isDeleting === true ? { ...verdict, message: `${verdict.message}; ${left.length} blocks are left` } : verdict;
    const status = withCondition(held, counted, new Date(this.#options.clock.wallTime()).toISOString().replace(/\.\d+Z$/, "Z"));
    if (status === undefined) return;
    await client.update(API_RESOURCES.IPPool, { ...held, status }, { subresource: "status" });
    log.info({ pool: pool.name, reason: verdict.reason, message: counted.message }, "pool");
  }

  async #replaceFinalizers(object: JsonObject, finalizers: readonly string[]): Promise<JsonObject> {
    const metadata = { ...objectAt(object, "metadata"), finalizers, managedFields: undefined };
    return await this.#options.client.update(API_RESOURCES.IPPool, { ...object, apiVersion: apiVersionOf(API_RESOURCES.IPPool), kind: "IPPool", metadata });
  }
}

function finalizersOf(object: JsonObject): readonly string[] {
  const found: unknown = objectAt(object, "metadata")?.["finalizers"];
  return Array.isArray(found) ? found.filter((name): name is string => typeof name === "string") : [];
}

/** The status with the condition, other conditions as they were; undefined when it says so already. */
function withCondition(object: JsonObject, { message, reason }: PoolVerdict, now: string): JsonObject | undefined {
  const before = objectAt(object, "status");
  const found: unknown = before?.["conditions"];
  const conditions = Array.isArray(found) ? found.map(tryJsonObject).filter((one) => one !== undefined) : [];
  const present = conditions.find((one) => one["type"] === CONDITION);
  const generation = objectAt(object, "metadata")?.["generation"];
  const status = reason === "OK" ? "True" : "False";
  if (present?.["status"] === status && present["reason"] === reason && present["message"] === message && present["observedGeneration"] === generation)
    return undefined;
  const lastTransitionTime = present?.["status"] === status ? present["lastTransitionTime"] : now;
  const condition = { type: CONDITION, status, reason, message, lastTransitionTime, ...(generation === undefined ? {} : { observedGeneration: generation }) };
  return { ...before, conditions: [...conditions.filter((one) => one !== present), condition] };
}
