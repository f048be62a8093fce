/**
 * Our nftables table: brings it to what is desired, in one transaction (see plan/stages.ts), and keeps a copy of what it last put there.
 *
 * Invariant: `#installed` is what the kernel has as far as we know, undefined when that has to be read first. A refused transaction changes nothing
 * for any packet. What others do to the table shows as notifications and is handled by reading it anew (`doubt`).
 */

import type { Nftables } from "../drivers/nftables/driver.ts";
import { NftTransactionError } from "../drivers/nftables/error.ts";
import { type NftDrift, type NftTableState, tableDrift } from "../drivers/nftables/state.ts";
import { StaleElementsError } from "../plan/address-sets.ts";
import { diffRulesets } from "../plan/diff.ts";
import { TABLE } from "../plan/names.ts";
import type { NftOperation, NftRuleset, NftTransaction } from "../plan/nft/ruleset.ts";
import { sourceOf } from "../plan/policy-chains.ts";
import { stagesOf } from "../plan/stages.ts";
import { adoptedRuleset } from "./adopted-ruleset.ts";
import { type PolicyCount, RuleCounters } from "./rule-counters.ts";

export interface TableResult {
  /** Operations carried out; 0: the kernel had it all. */
  readonly operations: number;
  /** What differed from our copy when the table was read anew: someone else changed it. */
  readonly repaired: readonly string[];
}

/** More chains than this are read with one dump of all. */
const MOST_CHAINS = 16;
const LOOKS = 3;

export class KernelTable {
  readonly #counters = new RuleCounters();
  readonly #nft: Nftables;
  #installed: NftRuleset | undefined;
  #generation: number | undefined;
  /** Read before the first `apply`, which need not read it again. */
  #early: NftTableState | undefined;
  #lastTransaction: readonly NftOperation[] = [];

  constructor(nft: Nftables) {
    this.#nft = nft;
  }

  async exists(): Promise<boolean> {
    return (await this.#nft.readTable(TABLE)) !== undefined;
  }

  /** Names of the sets that are there before the first `apply`: what an earlier run has left. */
  async setNames(): Promise<readonly string[]> {
    this.#early = await this.#nft.readTable(TABLE);
    return [...(this.#early?.sets.keys() ?? [])];
  }

  /** The kernel may have something else than we think. */
  doubt(): void {
    this.#generation = undefined;
  }

  /** True when nobody has changed anything of nftables since our last look; cheap. */
  async isUntouched(): Promise<boolean> {
    return this.#generation !== undefined && (await this.#nft.generation()) === this.#generation;
  }

  /** What the last `apply` tried: to find out what a refusal was about. */
  get lastTransaction(): readonly NftOperation[] {
    return this.#lastTransaction;
  }

  /** Throws what the driver throws; nothing was changed then. */
  async apply(desired: NftRuleset): Promise<TableResult> {
    const repaired: string[] = [];
    if (this.#installed === undefined || this.#generation === undefined) repaired.push(...(await this.#read(desired)));
    const transaction = await this.#difference(desired);
    await this.#countBefore(transaction.operations);
    try {
      for (const stage of stagesOf(transaction)) {
        this.#lastTransaction = stage.operations;
        await this.#nft.apply(stage);
        // What is prepared is there, and is not somebody else's doing, should the next be refused.
        this.#installed = undefined;
      }
    } catch (error) {
      // A transaction that was refused changed nothing; of any other error that is not known.
      if (!(error instanceof NftTransactionError)) this.doubt();
      throw error;
    }
    this.#installed = desired;
    this.#generation = await this.#nft.generation();
    return { operations: transaction.operations.length, repaired };
  }

  /** How the kernel's table differs now from what was last put there; undefined: nothing was put there yet, or it is being changed all the time. Changes nothing. */
  async drift(): Promise<readonly NftDrift[] | undefined> {
    for (let look = 0; look < LOOKS; look++) {
      const installed = this.#installed;
      if (installed === undefined) return undefined;
      const actual = await this.#nft.readTable(TABLE);
      // Else a transaction of ours came between.
      if (this.#installed === installed) return unlessStale(() => tableDrift(installed, actual));
    }
    return undefined;
  }

  /** What the policies' rules have counted until now. */
  async counts(): Promise<readonly PolicyCount[]> {
    if (this.#installed !== undefined) this.#counters.collect(this.#installed, await this.#nft.ruleCounts(TABLE), true);
    return this.#counters.list();
  }

  /** Chains that are about to be rewritten begin to count anew. */
  async #countBefore(operations: readonly NftOperation[]): Promise<void> {
    if (this.#installed === undefined) return;
    const chains = operations.flatMap((operation) => (operation.kind === "flush-chain" && this.#hasSource(operation.chain) ? [operation.chain] : []));
    if (chains.length > MOST_CHAINS || operations.some(({ kind }) => kind === "delete-table")) {
      this.#counters.collect(this.#installed, await this.#nft.ruleCounts(TABLE), true);
      return;
    }
    for (const chain of chains) this.#counters.collect(this.#installed, await this.#nft.ruleCounts(TABLE, chain), false);
  }

  #hasSource(chain: string): boolean {
    return this.#installed?.chains.get(chain)?.rules.some((rule) => sourceOf(rule) !== undefined) ?? false;
  }

  /** What someone else had changed. */
  async #read(desired: NftRuleset): Promise<readonly string[]> {
    const early = this.#early;
    this.#early = undefined;
    const actual = early !== undefined && early.generation === (await this.#nft.generation()) ? early : await this.#nft.readTable(TABLE);
    const before = this.#installed;
    this.#installed = actual === undefined ? undefined : adoptedRuleset(desired, actual);
    this.#generation = await this.#nft.generation();
    return before === undefined ? [] : (unlessStale(() => tableDrift(before, actual).map(describeDrift)) ?? []);
  }

  /** After many refusals the copy may be too old to compare with: the kernel is read instead. */
  async #difference(desired: NftRuleset): Promise<NftTransaction> {
    const known = unlessStale(() => diffRulesets(this.#installed, desired));
    if (known !== undefined) return known;
    await this.#read(desired);
    return diffRulesets(this.#installed, desired);
  }
}

function unlessStale<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof StaleElementsError) return undefined;
    throw error;
  }
}

function describeDrift(drift: ReturnType<typeof tableDrift>[number]): string {
  if (drift.kind === "table-missing") return drift.kind;
  return `${drift.kind} ${"chain" in drift ? drift.chain : drift.set}`;
}
