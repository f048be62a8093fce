/**
 * Addresses of this node's blocks that other nodes have: agreed to here, before the API says so, and taken back only when the API has nobody for them.
 *
 * Invariant: an address is in `lent` on the disk before a report agrees to it, and stays until the server has found, in an object read after that report, that it
 * is on loan to nobody. In between it is in use here, so that no pod is given it; over any crash, and whatever older state a server shows.
 */
import type { Loans } from "../../src/model/record.ts";
import { type Cidr, cidrContains } from "../../src/net/cidr.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { Lent } from "../sync/claims.ts";
import type { Blocks } from "./blocks.ts";
import type { JournalEntry, JournalState } from "./journal-state.ts";

export interface LendingOptions {
  readonly state: () => JournalState;
  readonly blocks: Blocks;
  readonly clock: Clock;
  readonly log: Logger;
  /** Records of the view. */
  readonly loans: () => readonly Loans[];
  /** Floating somewhere, by the view: it is not lent. */
  readonly isElsewhere: (address: IpAddress) => boolean;
  readonly append: (entries: readonly JournalEntry[]) => Promise<void>;
  /** Now, as the journal's entries have it (ms). */
  readonly journalTime: () => number;
  /** The block is to be reported. */
  readonly onChange: (block: Cidr) => void;
}

/** Owner of an address that another node has; no attachment is called so, for its name has a "." before the first "/". */
export function lentOwner(id: string): string {
  return `lent/${id}`;
}

export class Lending {
  readonly #options: LendingOptions;
  /** Ids that the next report declines, by block. */
  readonly #declined = new Map<Cidr, readonly string[]>();
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: LendingOptions) {
    this.#options = options;
  }

  lentOf(block: Cidr): readonly Lent[] {
    return [...this.#options.state().lent].flatMap(([address, id]) => (cidrContains(block, address) ? { address, id } : []));
  }

  declinedOf(block: Cidr): readonly string[] {
    return this.#declined.get(block) ?? [];
  }

  /** Answers what is asked. Resolves when it is on the disk; what the disk refuses is asked again with the next change. */
  consider(): Promise<void> {
    return this.#inTurn(async () => {
      const { append, blocks, clock, isElsewhere, loans, log, onChange, state } = this.#options;
      this.#declined.clear();
      const told = new Set<IpAddress>();
      for (const { block, loans: wanted } of loans()) {
        if (!state().blocks.has(block) || state().blocks.get(block)?.of !== undefined) continue;
        const entries: JournalEntry[] = [];
        const declined: string[] = [];
        for (const { address, id, isAgreed } of wanted) {
          told.add(address);
          const known = state().lent.get(address);
          if (known !== undefined || ((isAgreed || !isElsewhere(address)) && blocks.takeAddress(address, lentOwner(id), clock.now()))) {
            if (known === undefined) entries.push({ op: "lend", address, id });
          } else if (isAgreed) log.error({ address, id, owner: blocks.ownerOf(address) }, "the API says that an address is on loan that this node never lent");
          else declined.push(id);
        }
        if (declined.length > 0) this.#declined.set(block, declined);
        try {
          if (entries.length > 0) await append(entries);
        } catch (error) {
          for (const entry of entries) if (entry.op === "lend") blocks.release(entry.address, lentOwner(entry.id), Number.NEGATIVE_INFINITY);
          log.warn({ err: error, block }, "addresses cannot be lent now");
        }
        if (wanted.some(({ isAgreed }) => !isAgreed)) onChange(block);
      }
      // The server looks whether they are on loan to anyone still.
      for (const address of state().lent.keys()) {
        const block = told.has(address) ? undefined : blocks.blockOf(address);
        if (block !== undefined) onChange(block);
      }
    });
  }

  /** The server found that these are on loan to nobody. */
  end(addresses: readonly IpAddress[]): Promise<void> {
    return this.#inTurn(async () => {
      const { append, blocks, clock, journalTime, log, state } = this.#options;
      const ended = addresses.flatMap((address) => {
        const id = state().lent.get(address);
        return id === undefined ? [] : { address, id };
      });
      if (ended.length === 0) return;
      try {
        await append(ended.map(({ address }) => ({ op: "unlend", address, at: journalTime() })));
      } catch (error) {
        log.warn({ err: error, addresses }, "addresses that were given back stay out of use until the disk takes it");
        return;
      }
      for (const { address, id } of ended) blocks.release(address, lentOwner(id), clock.now());
    });
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const next = this.#queue.then(work, work);
    this.#queue = next.catch(() => undefined);
    return next;
  }
}
