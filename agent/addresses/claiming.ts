/**
 * The conversation with the server about the next block: one call serves all requests that wait for the same, and the next block is claimed ahead of need.
 *
 * Invariant: what is claimed ahead borrows nothing; what is claimed for requests borrows at most for as many as wait. After a refusal nothing is claimed ahead for a while.
 */
import { type Cidr, cidrVersion, hostCidr } from "../../src/net/cidr.ts";
import type { IpAddress, IpVersion } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { type ClaimClient, ClaimError, type ClaimedBlock } from "../sync/claims.ts";
import type { Ledger } from "./ledger.ts";

export interface ClaimingOptions {
  readonly claims: ClaimClient;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly log: Logger;
  /** Families that pods have addresses of; empty while it is not known. */
  readonly versions: () => readonly IpVersion[];
  /** Writes down and uses a block that is this node's from now on. */
  readonly add: (block: ClaimedBlock) => Promise<void>;
}

export interface Wanted {
  readonly version: IpVersion;
  /** Names of the pools that it may be of; absent: those for every pod. */
  readonly pools?: readonly string[];
  /** Just this one. */
  readonly address?: IpAddress;
}

/** The next block is claimed when fewer are free than a quarter of a block, at most this many. */
const MAX_SPARE = 16;
/** After a refused claim. */
const REFUSED_PAUSE_MS = 30_000;
/** After a claim that could not be asked for. */
const FAILED_PAUSE_MS = 1_000;

export class Claiming {
  readonly #options: ClaimingOptions;
  readonly #underWay = new Map<string, { readonly promise: Promise<void>; readonly isAhead: boolean }>();
  /** Requests that wait for an address, by what they claim. */
  readonly #waiting = new Map<string, number>();
  readonly #refusedUntil = new Map<IpVersion, number>();
  readonly #pausedUntil = new Map<IpVersion, number>();

  constructor(options: ClaimingOptions) {
    this.#options = options;
  }

  /** Resolves when there may be an address. Counted while it waits, so that what is borrowed is enough for all. Rejects with ClaimError, AddressError. */
  async forRequest(wanted: Wanted): Promise<void> {
    const key = keyOf(wanted);
    this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1);
    try {
      await this.#claim(wanted);
    } finally {
      const left = (this.#waiting.get(key) ?? 1) - 1;
      if (left === 0) this.#waiting.delete(key);
      else this.#waiting.set(key, left);
    }
  }

  /** Begins to claim where few addresses are left. */
  ahead(): void {
    const { clock, ledger, log, versions } = this.#options;
    if (!ledger.state.isTrusted) return;
    for (const version of versions()) {
      const isPaused = (this.#pausedUntil.get(version) ?? 0) > clock.now();
      if (ledger.blocks.freeCount(version) >= spareOf(ledger.blocks.capacity(version)) || isPaused) continue;
      this.#claim({ version }, true).catch((error: unknown) => log.debug({ err: error, ipVersion: version }, "no further block"));
    }
  }

  /** The server has said a moment ago that there is no further block. */
  isRefused(version: IpVersion): boolean {
    return (this.#refusedUntil.get(version) ?? 0) > this.#options.clock.now();
  }

  /** Calls that are under way. */
  pending(): readonly Promise<void>[] {
    return [...this.#underWay.values()].map(({ promise }) => promise);
  }

  /** One call at a time for the same pools: whoever waits shares what it brings. */
  #claim(wanted: Wanted, isAhead = false): Promise<void> {
    const key = keyOf(wanted);
    const underWay = this.#underWay.get(key);
    // What is claimed ahead of need borrows nothing: one that needs an address asks again then.
    if (underWay?.isAhead === true && !isAhead) return underWay.promise.catch(() => this.#claim(wanted));
    if (underWay !== undefined) return underWay.promise;
    const promise = this.#claimOnce(wanted, isAhead).finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, { promise, isAhead });
    return promise;
  }

  async #claimOnce(wanted: Wanted, isAhead: boolean): Promise<void> {
    const { address, pools, version } = wanted;
    const { add, claims, clock, ledger, log } = this.#options;
    const { blocks, state } = ledger;
    // All requests of this turn are counted.
    if (!isAhead) await new Promise((resolve) => setImmediate(resolve));
    try {
      const full = [...blocks.ofVersion(version), ...state.releasing.keys()].filter((block: Cidr) => cidrVersion(block) === version);
      const found = await claims.claimBlock({
        ipVersion: version,
        full,
        borrow: isAhead ? 0 : (this.#waiting.get(keyOf(wanted)) ?? 1),
        ...(pools === undefined ? {} : { pools }),
        ...(address === undefined ? {} : { address }),
      });
      const fresh = found.filter(({ cidr }) => cidrVersion(cidr) === version && !blocks.has(cidr) && !state.releasing.has(cidr));
      if (fresh.length === 0)
        throw new ClaimError("unavailable", `the server answered with ${found.map(({ cidr }) => cidr).join(", ")}, which was not asked for`);
      for (const block of fresh) {
        await add(block);
        log.info({ block: block.cidr, pool: block.pool, ...(block.of === undefined ? {} : { borrowedOf: block.of }) }, "block claimed");
      }
      this.#pausedUntil.delete(version);
      this.#refusedUntil.delete(version);
    } catch (error) {
      const isRefused = error instanceof ClaimError && error.code === "no-free-block";
      if (pools === undefined && address === undefined) {
        this.#pausedUntil.set(version, clock.now() + (isRefused ? REFUSED_PAUSE_MS : FAILED_PAUSE_MS));
        if (!isAhead && isRefused) this.#refusedUntil.set(version, clock.now() + REFUSED_PAUSE_MS);
      }
      throw error;
    }
  }
}

function keyOf({ address, pools, version }: Wanted): string {
  return address === undefined ? `${version} ${pools?.join(" ") ?? ""}` : hostCidr(address);
}

/** Fewer free ones than this, and the next block is claimed. */
export function spareOf(capacity: number): number {
  return Math.min(MAX_SPARE, Math.ceil((capacity || 1) / 4));
}
