/**
 * What is this node's: the journal and the API's blocks brought together, at start and again and again; blocks that come, that are lost, and entries that are
 * recovered.
 *
 * Invariants: listing, taking over and giving back are one after the other, since each says what is this node's; a list may lag behind, so what is new in it is taken
 * over before it is used, and what is missing in it is only not used. Without a journal that is trusted nothing is given before `list` has ended.
 */
import { type Cidr, cidrContains } from "../../src/net/cidr.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import type { Logger } from "../../src/runtime/log.ts";
import type { ClaimClient, ClaimedBlock, Held } from "../sync/claims.ts";
import { attachmentId } from "./attachment.ts";
import type { BlockReports } from "./block-reports.ts";
import type { JournalEntry } from "./journal-state.ts";
import type { Ledger } from "./ledger.ts";
import { type Lending, lentOwner } from "./lending.ts";
import { recoverAttachments, type UsedAddress } from "./recovery.ts";

export interface HoldingsOptions {
  readonly ledger: Ledger;
  readonly claims: ClaimClient;
  readonly lending: Lending;
  readonly reports: BlockReports;
  readonly log: Logger;
  /** Addresses that the kernel routes to interfaces of ours. */
  readonly usedAddresses: () => readonly UsedAddress[];
  readonly interfacePrefix: string;
}

interface Abortable {
  readonly signal?: AbortSignal;
}

export class Holdings {
  readonly #options: HoldingsOptions;
  readonly #trustWaiters = new Set<() => void>();
  #queue: Promise<unknown> = Promise.resolve();
  #listing: Promise<void> | undefined;

  constructor(options: HoldingsOptions) {
    this.#options = options;
  }

  /** One after the other. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#queue.then(work, work);
    this.#queue = next.catch(() => undefined);
    return next;
  }

  /** Brings the journal and the API's blocks together; who calls meanwhile shares it. */
  list(options: Abortable = {}): Promise<void> {
    this.#listing ??= this.inTurn(() => this.#listOnce(options)).finally(() => {
      this.#listing = undefined;
    });
    return this.#listing;
  }

  /** Resolves when the entries that may be missing are recovered, or when the signal aborts. */
  async whenTrusted(signal: AbortSignal): Promise<void> {
    if (this.#options.ledger.state.isTrusted || signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#trustWaiters.add(resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  /**
   * Of one that is there: nothing. It may be of an earlier life: what the kernel routes to a pod is taken, under the name that the API knows; what the API
   * alone knows is of a pod that is gone, and the next report says so.
   */
  async add(block: ClaimedBlock): Promise<void> {
    const { interfacePrefix, ledger, reports, usedAddresses } = this.#options;
    const { blocks } = ledger;
    if (blocks.has(block.cidr)) return;
    const known = new Map(ledger.attachments().flatMap((attachment) => attachment.addresses.map((address) => [address, attachmentId(attachment)] as const)));
    const used = usedAddresses().filter(({ address }) => cidrContains(block.cidr, address));
    const routed = new Set(used.map(({ address }) => address));
    const attachments = recoverAttachments({
      allocations: block.allocations.filter(({ address }) => routed.has(address)),
      used,
      isOwned: (address) => known.has(address),
      interfacePrefix,
    });
    const fresh = attachments.filter((attachment) => !ledger.state.attachments.has(attachmentId(attachment)));
    await ledger.append([
      ledger.blockEntry(block),
      ...block.lent.map(({ address, id }): JournalEntry => ({ op: "lend", address, id })),
      ...fresh.map((attachment) => ({ op: "attach" as const, attachment })),
    ]);
    blocks.add(block.cidr, block.pool);
    for (const [address, id] of known) blocks.restore(address, id);
    for (const { address, id } of block.lent) blocks.restore(address, lentOwner(id));
    for (const attachment of fresh) for (const address of attachment.addresses) blocks.restore(address, attachmentId(attachment));
    reports.mark(block.cidr);
  }

  /** The server has answered a report: these are on loan to nobody any more; a superseded one was of an earlier life. */
  async answered(block: Cidr, ended: readonly IpAddress[], isSuperseded: boolean): Promise<void> {
    const { ledger, lending, reports } = this.#options;
    if (ended.length > 0) {
      await lending.end(ended);
      await lending.consider();
    }
    const known = ledger.state.blocks.get(block);
    if (!isSuperseded || known === undefined) return;
    await this.inTurn(async () => {
      const [taken] = await this.#takeOver([{ cidr: block, ...(known.of === undefined ? {} : { of: known.of }) }], {});
      if (!ledger.blocks.has(block)) return;
      if (taken === undefined) {
        await this.#lose(block);
        return;
      }
      await ledger.append([ledger.blockEntry(taken)]);
      reports.mark(block);
    });
  }

  async #listOnce(options: Abortable): Promise<void> {
    const { claims, ledger, lending, usedAddresses } = this.#options;
    const { blocks, lost, state } = ledger;
    const known = new Set(state.blocks.keys());
    const { isTrusted } = state;
    const used = isTrusted ? [] : usedAddresses();
    const listed = await claims.listBlocks(options);
    const unknown = listed.filter(({ cidr }) => !state.releasing.has(cidr) && (!isTrusted || !blocks.has(cidr)));
    const taken = await this.#takeOver(unknown, options);
    const present = new Set((isTrusted ? listed : taken).map(({ cidr }) => cidr));
    for (const cidr of present) lost.delete(cidr);
    if (isTrusted) for (const block of taken) await this.add(block);
    else await this.#recover(taken, used);
    for (const block of known) if (!present.has(block) && blocks.has(block)) await this.#lose(block);
    await lending.consider();
  }

  async #takeOver(blocks: readonly Held[], options: Abortable): Promise<readonly ClaimedBlock[]> {
    if (blocks.length === 0) return [];
    const wanted = new Set(blocks.map(({ cidr }) => cidr));
    // A server that does not know this answers with all blocks.
    return (await this.#options.claims.listBlocks({ ...options, takeOver: blocks })).filter(({ cidr }) => wanted.has(cidr));
  }

  /**
   * Entries may be missing: one that the kernel does not confirm may have ended, and its address may be another's by now. What is learned is written as
   * one batch, so that a crash leaves all of it or none.
   */
  async #recover(listed: readonly ClaimedBlock[], used: readonly UsedAddress[]): Promise<void> {
    const { interfacePrefix, ledger, log, reports } = this.#options;
    const holders = new Map(used.map(({ address, interfaceName }) => [address, interfaceName]));
    const before = ledger.attachments();
    const kept = before.filter(({ addresses, interfaceName }) => addresses.every((address) => holders.get(address) === interfaceName));
    const owned = new Set(kept.flatMap(({ addresses }) => addresses));
    const recovered = recoverAttachments({
      allocations: listed.flatMap(({ allocations }) => allocations),
      used,
      isOwned: (address) => owned.has(address),
      interfacePrefix,
    });
    await ledger.append([
      ...before
        .filter((attachment) => !kept.includes(attachment))
        .map((attachment) => ({ op: "detach" as const, id: attachmentId(attachment), at: ledger.journalTime() })),
      ...listed.map((block) => ledger.blockEntry(block)),
      ...listed.flatMap(({ lent }) => lent.map(({ address, id }): JournalEntry => ({ op: "lend", address, id }))),
      ...recovered.map((attachment) => ({ op: "attach" as const, attachment })),
      { op: "trust" },
    ]);
    // Nothing was given meanwhile; what the journal said before would keep addresses for owners that are gone.
    ledger.blocks.clear();
    ledger.restore();
    for (const { cidr } of listed) reports.mark(cidr);
    log.info({ blocks: listed.length, kept: kept.length, recovered: recovered.length }, "addresses recovered from the API and the kernel");
    for (const resolve of this.#trustWaiters) resolve();
    this.#trustWaiters.clear();
  }

  /** The API says that the block is not this node's (any more). */
  async #lose(block: Cidr): Promise<void> {
    const { ledger, log } = this.#options;
    const { blocks, lost } = ledger;
    const used = [...blocks.usedIn(block).values()].filter((owner) => !owner.startsWith(lentOwner(""))).length;
    if (used > 0) {
      if (!lost.has(block)) log.warn({ block, used }, "block is not this node's any more: its addresses stay until their pods end, none is given");
      lost.add(block);
      return;
    }
    log.warn({ block }, "block is not this node's any more: dropped");
    blocks.delete(block);
    lost.delete(block);
    await ledger.append([{ op: "drop-block", cidr: block }]);
  }
}
