/**
 * One leader among several programs, by a Lease (coordination.k8s.io/v1) as client-go's leader election keeps it.
 *
 * Invariant: `work` runs in at most one program at a time as far as clocks of one rate can tell: it is stopped when the lease could not be renewed for two
 * thirds of its time, another takes over only after all of it as measured by the taker's own clock from when it saw the last renewal. What the leader writes
 * must be safe with two leaders nevertheless (a paused process): every write of ours is a compare-and-swap.
 */

import type { Clock } from "../runtime/clock.ts";
import type { Logger } from "../runtime/log.ts";
import type { Part } from "../runtime/supervisor.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import type { ApiResource } from "./api-resources.ts";
import { type JsonObject, numberAt, objectAt, stringAt } from "./json-object.ts";

export interface LeaderOptions {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly log: Logger;
  readonly namespace: string;
  readonly name: string;
  readonly identity: string;
  readonly leaseMs: number;
  /** Runs while this program leads; must end soon after the signal aborts. */
  readonly work: (signal: AbortSignal) => Promise<void>;
}

const LEASE: ApiResource = { kind: "Lease", group: "coordination.k8s.io", version: "v1", plural: "leases", isNamespaced: true, hasProtobuf: false };

export class Leader implements Part {
  readonly name = "leader";
  readonly #options: LeaderOptions;
  /** The last renewal that was seen, and when by our own clock. */
  #seen: { readonly mark: string; readonly at: number } | undefined;
  isLeading = false;

  constructor(options: LeaderOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, leaseMs, log } = this.#options;
    while (!signal.aborted) {
      if (await this.#tryTake(signal)) await this.#lead(signal);
      else await clock.sleep(leaseMs / 6, signal);
    }
    log.debug("not leading any more");
  }

  async #lead(signal: AbortSignal): Promise<void> {
    const { clock, identity, leaseMs, log, work } = this.#options;
    const lost = new AbortController();
    const stop = AbortSignal.any([signal, lost.signal]);
    this.isLeading = true;
    log.info({ identity }, "leading");
    const working = work(stop).finally(() => lost.abort());
    // Whoever awaits it is below; a failure in between must not end the process by itself.
    working.catch(() => undefined);
    let renewedAt = clock.now();
    while (!stop.aborted) {
      await clock.sleep(leaseMs / 3, stop);
      if (stop.aborted) break;
      if (await this.#tryTake(stop)) renewedAt = clock.now();
      else if (clock.now() - renewedAt > (leaseMs * 2) / 3 || this.#isAnothers) {
        log.warn("the lease could not be renewed: another program may lead now");
        lost.abort();
      }
    }
    this.isLeading = false;
    await working;
    if (signal.aborted) await this.#giveUp();
  }

  #isAnothers = false;

  /** True: the lease is ours, for leaseMs from before the call. */
  async #tryTake(signal: AbortSignal): Promise<boolean> {
    const { client, clock, identity, leaseMs, log, name, namespace } = this.#options;
    this.#isAnothers = false;
    try {
      const present = await this.#read(signal);
      const now = new Date(clock.wallTime()).toISOString().replace("Z", "000Z");
      const spec = { holderIdentity: identity, leaseDurationSeconds: Math.ceil(leaseMs / 1_000), acquireTime: now, renewTime: now, leaseTransitions: 0 };
      if (present === undefined) {
        await client.create(LEASE, { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { namespace, name }, spec }, { signal });
        return true;
      }
      const before = objectAt(present, "spec");
      const holder = stringAt(before, "holderIdentity") ?? "";
      if (holder !== identity && holder !== "" && !this.#isOver(before, leaseMs)) {
        this.#isAnothers = true;
        return false;
      }
      const isSame = holder === identity;
      const transitions = numberAt(before, "leaseTransitions") ?? 0;
      const kept = isSame ? { acquireTime: before?.["acquireTime"], leaseTransitions: transitions } : { leaseTransitions: transitions + 1 };
      await client.update(LEASE, { ...present, spec: { ...spec, ...kept } }, { signal });
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      const isLost = error instanceof ApiError && error.status === 409;
      log[isLost ? "debug" : "warn"]({ err: error, lease: `${namespace}/${name}` }, "the lease could not be taken");
      return false;
    }
  }

  /** By our own clock, since the last change that we saw: the holder's clock may be another. */
  #isOver(spec: JsonObject | undefined, leaseMs: number): boolean {
    const { clock } = this.#options;
    const mark = `${stringAt(spec, "holderIdentity") ?? ""} ${stringAt(spec, "renewTime") ?? ""}`;
    if (this.#seen?.mark !== mark) this.#seen = { mark, at: clock.now() };
    return clock.now() - this.#seen.at > Math.max(leaseMs, (numberAt(spec, "leaseDurationSeconds") ?? 0) * 1_000);
  }

  async #read(signal?: AbortSignal): Promise<JsonObject | undefined> {
    const { client, name, namespace } = this.#options;
    try {
      return await client.get(LEASE, { name, namespace }, { signal });
    } catch (error) {
      if (error instanceof ApiError && error.status === 404 && error.reason === "NotFound") return undefined;
      throw error;
    }
  }

  /** So that the next leader need not wait. */
  async #giveUp(): Promise<void> {
    const { client, identity } = this.#options;
    try {
      const present = await this.#read();
      const spec = objectAt(present, "spec");
      if (present === undefined || stringAt(spec, "holderIdentity") !== identity) return;
      await client.update(LEASE, { ...present, spec: { ...spec, holderIdentity: "", leaseDurationSeconds: 1 } }, { timeoutMs: 2_000 });
    } catch (error) {
      this.#options.log.debug({ err: error }, "the lease could not be given up");
    }
  }
}
