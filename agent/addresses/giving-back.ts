/**
 * Blocks and borrowed addresses that nobody uses go back: forgotten on the disk first, then told to the server, again and again until it has answered.
 *
 * Invariant: what is forgotten is given to no pod, whatever the server answers later; one block with room stays, so that the next pod does not wait. Nothing goes before
 * its cooldown is over, and nothing while the view is not known.
 */
import { type Cidr, cidrVersion } from "../../src/net/cidr.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { jittered } from "../../src/runtime/retry.ts";
import type { ClaimClient } from "../sync/claims.ts";
import type { BlockReports } from "./block-reports.ts";
import { spareOf } from "./claiming.ts";
import type { Holdings } from "./holdings.ts";
import type { JournalBlock, JournalEntry } from "./journal-state.ts";
import type { Ledger } from "./ledger.ts";
import type { Lending } from "./lending.ts";
import type { PoolChoice } from "./pool-choice.ts";

export interface GivingBackOptions {
  readonly ledger: Ledger;
  readonly choice: PoolChoice;
  readonly claims: ClaimClient;
  readonly holdings: Holdings;
  readonly lending: Lending;
  readonly reports: BlockReports;
  readonly clock: Clock;
  readonly log: Logger;
  /** Of borrowed addresses, and blocks that no pod of this node may use any more (ms). Default 30 s. */
  readonly idleMs: number | undefined;
  /** Of blocks that are only more than is needed (ms). Default 5 min. */
  readonly spareIdleMs: number | undefined;
}

const DEFAULT_IDLE_MS = 30_000;
const DEFAULT_SPARE_IDLE_MS = 300_000;
/** Between two tries to give something back. */
const RETRY_MS = 5_000;

export class GivingBack {
  readonly #options: GivingBackOptions;
  readonly #idleSince = new Map<Cidr, number>();
  readonly #retryAt = new Map<Cidr, number>();

  constructor(options: GivingBackOptions) {
    this.#options = options;
  }

  /** Forgets what has been empty for long enough: from then on it is the server's to be told. Rejects with AddressError "journal". */
  async forgetIdle(): Promise<void> {
    const { choice, clock, idleMs = DEFAULT_IDLE_MS, ledger, log, spareIdleMs = DEFAULT_SPARE_IDLE_MS } = this.#options;
    const { blocks, lost, state } = ledger;
    // Without the view nothing is known of what pods may use.
    if (!choice.isKnown) return;
    const now = clock.now();
    const entries: JournalEntry[] = [];
    const forgotten: { readonly cidr: Cidr; readonly pool: string }[] = [];
    for (const { block, free, pool, used } of blocks.status()) {
      if (used > 0 || lost.has(block)) {
        this.#idleSince.delete(block);
        continue;
      }
      const since = this.#idleSince.get(block) ?? now;
      this.#idleSince.set(block, since);
      const isSoon = state.blocks.get(block)?.of !== undefined || !choice.mayBeUsed(block, pool);
      // An address that was in use a moment ago must not be another node's before its cooldown.
      if (now - since < Math.max(choice.cooldownMs(), isSoon ? idleMs : spareIdleMs) || (!isSoon && !this.#isSpare(block, free))) continue;
      blocks.delete(block);
      this.#idleSince.delete(block);
      forgotten.push({ cidr: block, pool });
      entries.push({ op: "release", cidr: block });
    }
    if (forgotten.length === 0) return;
    try {
      await ledger.append(entries);
      log.info({ blocks: forgotten.map(({ cidr }) => cidr) }, "blocks without a pod are given back");
    } catch (error) {
      // Free they were: what was released in them is longer ago than the cooldown.
      for (const { cidr, pool } of forgotten) if (state.blocks.has(cidr)) blocks.add(cidr, pool);
      throw error;
    }
  }

  /** Tells the server what is forgotten. Resolves when it has answered, or cannot now. */
  async tell(signal: AbortSignal | undefined): Promise<void> {
    const { clock, holdings, ledger } = this.#options;
    const due = [...ledger.state.releasing].filter(([cidr]) => (this.#retryAt.get(cidr) ?? 0) <= clock.now());
    if (due.length > 0) await holdings.inTurn(() => this.#giveBack(due, signal));
  }

  /** Without it there are enough left that no other is claimed soon. */
  #isSpare(block: Cidr, free: number): boolean {
    const { blocks } = this.#options.ledger;
    if (!blocks.isUsable(block)) return true;
    const version = cidrVersion(block);
    const left = blocks.freeCount(version) - free;
    return left > 0 && left >= 2 * spareOf(blocks.capacity(version) - free);
  }

  async #giveBack(due: readonly (readonly [Cidr, JournalBlock])[], signal: AbortSignal | undefined): Promise<void> {
    const { claims, clock, ledger, lending, log, reports } = this.#options;
    for (const [cidr, { claim = "", of, pool }] of due) {
      if (!ledger.state.releasing.has(cidr)) continue;
      const borrowed = of === undefined ? {} : { of };
      try {
        const isGone = await claims.releaseBlock({ cidr, claim, ...borrowed }, signal);
        this.#retryAt.delete(cidr);
        if (isGone) await ledger.append([{ op: "drop-block", cidr }]);
        else {
          await ledger.append([ledger.blockEntry({ cidr, pool, claim, ...borrowed })]);
          ledger.blocks.add(cidr, pool);
          await lending.consider();
          reports.mark(cidr);
        }
      } catch (error) {
        this.#retryAt.set(cidr, clock.now() + jittered(RETRY_MS));
        log.debug({ err: error, block: cidr }, "a block could not be given back yet");
      }
    }
  }
}
