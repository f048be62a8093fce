/**
 * The one table of this node's addresses: the journal on the disk and the blocks in memory, which must agree.
 *
 * Invariant: whoever takes an address takes it in `blocks` before it appends, whoever frees one appends first; so in doubt an address is in use. `restore`
 * makes the blocks what the journal says.
 */
import type { Cidr } from "../../src/net/cidr.ts";
import { type IpAddress, type IpVersion, ipVersion } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { ClaimedBlock } from "../sync/claims.ts";
import { AddressError } from "./address-error.ts";
import { type Attachment, type AttachmentRequest, attachmentId, lastingIdOf } from "./attachment.ts";
import { Blocks } from "./blocks.ts";
import type { Journal } from "./journal.ts";
import type { JournalEntry, JournalState } from "./journal-state.ts";
import { lentOwner } from "./lending.ts";
import type { PoolChoice } from "./pool-choice.ts";

export class Ledger {
  readonly blocks: Blocks;
  /** Blocks that the API says are not this node's (any more): their addresses stay, none is given. */
  readonly lost = new Set<Cidr>();
  readonly #journal: Journal;
  readonly #clock: Clock;
  /** The journal's times are monotonic time plus this (ms): the wall clock may be set at any moment. */
  readonly #journalAheadMs: number;

  constructor(options: { readonly journal: Journal; readonly clock: Clock; readonly choice: PoolChoice }) {
    const { choice, clock, journal } = options;
    this.#journal = journal;
    this.#clock = clock;
    this.#journalAheadMs = clock.wallTime() - clock.now() + journal.wallBehindMs;
    this.blocks = new Blocks({
      cooldownMs: () => choice.cooldownMs(),
      isUsable: (block) => !this.lost.has(block) && choice.isForEveryPod(block),
      isReserved: (address) => choice.isReserved(address),
    });
  }

  get state(): JournalState {
    return this.#journal.state;
  }

  /** Rejects with AddressError "journal". */
  async append(entries: readonly JournalEntry[]): Promise<void> {
    try {
      await this.#journal.append(entries);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new AddressError("journal", `the journal of addresses in ${this.#journal.directory} cannot be written: ${reason}. Check the disk and its mount`, {
        cause: error,
      });
    }
  }

  /** Now, as the journal's entries have it (ms). */
  journalTime(): number {
    return this.#clock.now() + this.#journalAheadMs;
  }

  /** Wall time (us) stands in for the generations of a journal that is lost: it is ahead of all that were counted up from an earlier time. */
  blockEntry({ cidr, claim, of, pool }: Pick<ClaimedBlock, "cidr" | "claim" | "of" | "pool">): JournalEntry {
    const generation = Math.floor(this.#clock.wallTime() * 1_000);
    return { op: "block", cidr, pool, generation, ...(claim === "" ? {} : { claim }), ...(of === undefined ? {} : { of }) };
  }

  attachments(): readonly Attachment[] {
    return [...this.state.attachments.values()];
  }

  /** From the journal, which is the truth of this node. */
  restore(): void {
    const { attachments, blocks, lent, released } = this.state;
    for (const [block, { pool }] of blocks) this.blocks.add(block, pool);
    for (const [address, id] of lent) this.blocks.restore(address, lentOwner(id));
    for (const [id, { addresses }] of attachments) for (const address of addresses) this.blocks.restore(address, id);
    // Of another boot they are of another clock: one set back must not keep addresses away for longer than the cooldown.
    for (const [address, at] of released) this.blocks.restoreRelease(address, this.#clockTime(at));
  }

  /** Addresses that the pod had last, the latest first; in use by now or not. */
  rememberedOf(request: AttachmentRequest, version: IpVersion): readonly IpAddress[] {
    const pod = lastingIdOf(request);
    return pod === undefined ? [] : this.state.remembered.of(pod).filter((address) => ipVersion(address) === version);
  }

  /** Of addresses that were taken and did not come to the journal: they are as free as they were. */
  putBack(addresses: readonly IpAddress[], owner: string): void {
    for (const address of addresses) {
      const at = this.state.released.get(address);
      this.blocks.release(address, owner, at === undefined ? Number.NEGATIVE_INFINITY : this.#clockTime(at));
    }
  }

  /** Of an attachment that the journal has no longer: its addresses begin their cooldown. */
  release({ addresses, ...key }: Attachment): void {
    for (const address of addresses) this.blocks.release(address, attachmentId(key), this.#clock.now());
  }

  #clockTime(journalMs: number): number {
    return Math.min(this.#clock.now(), journalMs - this.#journalAheadMs);
  }
}
