/**
 * Addresses for the pods of this node: given from memory, written down before they are told, released.
 *
 * Invariants: an address is in use by at most one attachment, over any crash (the journal has it before the caller does, and it is free only after the
 * journal says so); every family that an enabled pool exists for gives an address, or none does; nothing is given while entries may be missing
 * (`isTrusted`): then the API's blocks and the kernel's routes are asked first; a pod that comes again (same uid) has the
 * addresses that it had, cooling down or not, where they are free still and it may have them.
 * Here: a request and its addresses, and which part is handed which. Parts: the table of entries (`ledger.ts`), which pools (`pool-choice.ts`), the next block
 * (`claiming.ts`), what is this node's (`holdings.ts`), what goes back (`giving-back.ts`), what is lent (`lending.ts`), what is told (`block-reports.ts`).
 * Rejected: asking the server for each address (an ADD would depend on the network, and the API write rate on pod churn).
 */
import type { NodeName } from "../../src/model/names.ts";
import type { AddressRequest, Loans, Pool } from "../../src/model/record.ts";
import { type Cidr, hostCidr } from "../../src/net/cidr.ts";
import { type IpAddress, type IpVersion, ipVersion } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { Backoff, jittered } from "../../src/runtime/retry.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import { type ClaimClient, ClaimError, type ReportClient } from "../sync/claims.ts";
import { AddressError } from "./address-error.ts";
import { type Attachment, type AttachmentRequest, attachmentId, containerMac, hostInterfaceName } from "./attachment.ts";
import { BlockReports } from "./block-reports.ts";
import type { BlockStatus } from "./blocks.ts";
import { Claiming } from "./claiming.ts";
import { GivingBack } from "./giving-back.ts";
import { Holdings } from "./holdings.ts";
import type { Journal } from "./journal.ts";
import type { JournalEntry, JournalState } from "./journal-state.ts";
import { Ledger } from "./ledger.ts";
import { Lending } from "./lending.ts";
import { PoolChoice } from "./pool-choice.ts";
import { UNKNOWN_NETWORK, type UsedAddress } from "./recovery.ts";
import { nothingFree, notTrusted } from "./refusals.ts";

export interface AddressManagerOptions {
  /** Open; from then on only this manager appends to it. */
  readonly journal: Journal;
  readonly claims: ClaimClient;
  readonly reports: ReportClient;
  readonly clock: Clock;
  readonly log: Logger;
  /** Pools of the node's view; undefined while there is no complete view yet. */
  readonly pools: () => readonly Pool[] | undefined;
  /** Addresses that the kernel routes to interfaces of ours; asked when the journal is not trusted, and at start. */
  readonly usedAddresses: () => readonly UsedAddress[];
  readonly interfacePrefix: string;
  /** Loans records of the node's view; `loansChanged` is called when they may be others. Without it nothing is lent. */
  readonly loans?: () => readonly Loans[];
  /** Node that the view says has the address by itself: on loan, or floating there. Without it none is. */
  readonly nodeOf?: (address: IpAddress) => NodeName | undefined;
  /** A released address is not given again before this time. Default 10 s. */
  readonly cooldownMs?: number;
  /** What nobody uses is given back after this time (ms): borrowed addresses, and blocks that no pod of this node may use any more. Default 30 s. */
  readonly idleMs?: number;
  /** The same for blocks that are only more than is needed. Default 5 min. */
  readonly spareIdleMs?: number;
}

export interface AddressManager extends Part {
  /** The attachment with its addresses, the same for the same request; on the disk when it resolves. Rejects with AddressError, or as `meanwhile` threw. */
  attach(request: AttachmentRequest, options?: AttachOptions): Promise<Attachment>;
  /** Frees the addresses; on the disk when it resolves. Of one that is not there: nothing. Rejects with AddressError "journal". */
  detach(attachment: Attachment): Promise<void>;
  find(request: AttachmentRequest): Attachment | undefined;
  has(attachment: Attachment): boolean;
  /** Attachments whose host end has the name. */
  holdersOf(interfaceName: string): readonly Attachment[];
  attachments(): readonly Attachment[];
  /** False until the entries that may be missing are recovered. */
  isTrusted(): boolean;
  /** Resolves when trusted, or when the signal aborts. */
  whenTrusted(signal: AbortSignal): Promise<void>;
  /** Why a request now would be refused; undefined when it would get its addresses, or at least may. */
  obstacle(): AddressError | undefined;
  blocks(): readonly BlockStatus[];
  /** The Loans records may be others now. Resolves when what they ask is answered. */
  loansChanged(): Promise<void>;
  /** Looks once for what is to be claimed ahead or given back; `run` does it again and again. Resolves when the server has answered. */
  upkeep(signal?: AbortSignal): Promise<void>;
}

export interface AttachOptions {
  readonly signal?: AbortSignal;
  /** What the pod asks for; absent: what every pod may have. */
  readonly wish?: AddressRequest;
  /**
   * Work that can be done while a new attachment is on its way to the disk; not called for one that was there. When it throws, `attach` rejects with
   * that, and the attachment is there for the caller to undo.
   */
  readonly meanwhile?: (attachment: Attachment) => void;
}

const LIST_INTERVAL_MS = 300_000;
const UPKEEP_INTERVAL_MS = 1_000;

export function createAddressManager(options: AddressManagerOptions): AddressManager {
  return new Manager(options);
}

class Manager implements AddressManager {
  readonly name = "addresses";
  readonly #options: AddressManagerOptions;
  readonly #choice: PoolChoice;
  readonly #ledger: Ledger;
  readonly #reports: BlockReports;
  readonly #lending: Lending;
  readonly #holdings: Holdings;
  readonly #claiming: Claiming;
  readonly #givingBack: GivingBack;
  readonly #attaching = new Map<string, Promise<Attachment>>();

  constructor(options: AddressManagerOptions) {
    this.#options = options;
    const { claims, clock, journal, log } = options;
    const choice = new PoolChoice({
      pools: options.pools,
      nodeOf: options.nodeOf,
      isBorrowed: (address) => journal.state.blocks.get(hostCidr(address))?.of !== undefined,
      cooldownMs: options.cooldownMs,
    });
    const ledger = new Ledger({ journal, clock, choice });
    const reports = new BlockReports({ ledger, lending: () => this.#lending, client: options.reports });
    const lending = new Lending({
      state: () => ledger.state,
      blocks: ledger.blocks,
      clock,
      log,
      loans: options.loans ?? ((): readonly Loans[] => []),
      isElsewhere: (address) => choice.elsewhere(address) !== undefined,
      append: (entries) => ledger.append(entries),
      journalTime: () => ledger.journalTime(),
      onChange: (block) => reports.mark(block),
    });
    const { interfacePrefix, usedAddresses } = options;
    const holdings = new Holdings({ ledger, claims, lending, reports, log, usedAddresses, interfacePrefix });
    [this.#choice, this.#ledger, this.#reports, this.#lending, this.#holdings] = [choice, ledger, reports, lending, holdings];
    this.#claiming = new Claiming({ claims, ledger, clock, log, versions: () => choice.tryVersions(), add: (block) => holdings.add(block) });
    const { idleMs, spareIdleMs } = options;
    this.#givingBack = new GivingBack({ ledger, choice, claims, holdings, lending, reports, clock, log, idleMs, spareIdleMs });
    options.reports.listen(({ block, ended, isSuperseded }) => {
      holdings.answered(block, ended, isSuperseded).catch((error: unknown) => log.debug({ err: error, block }, "a block could not be taken over now"));
    });
    ledger.restore();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const backoff = new Backoff({ initialMs: 200, maxMs: 10_000 });
    let listAt = clock.now();
    await this.#lending.consider();
    for (const block of this.#state.blocks.keys()) this.#reports.mark(block);
    while (!signal.aborted) {
      if (clock.now() >= listAt) {
        try {
          await this.#holdings.list({ signal });
          backoff.reset();
          listAt = clock.now() + jittered(LIST_INTERVAL_MS);
        } catch (error) {
          if (signal.aborted) break;
          log.debug({ err: error, tries: backoff.tries }, "blocks could not be listed: trying again");
          listAt = clock.now() + backoff.next();
        }
      }
      await this.upkeep(signal).catch((error: unknown) => log.warn({ err: error }, "blocks could not be looked after"));
      await clock.sleep(Math.max(1, Math.min(UPKEEP_INTERVAL_MS, listAt - clock.now())), signal);
    }
    await Promise.allSettled([...this.#claiming.pending(), ...this.#attaching.values()]);
  }

  async loansChanged(): Promise<void> {
    if (this.#state.isTrusted) await this.#lending.consider();
  }

  async upkeep(signal?: AbortSignal): Promise<void> {
    if (!this.#state.isTrusted) return;
    this.#claiming.ahead();
    await this.#givingBack.forgetIdle();
    await this.#givingBack.tell(signal);
  }

  attach(request: AttachmentRequest, options: AttachOptions = {}): Promise<Attachment> {
    const id = attachmentId(request);
    const underWay = this.#attaching.get(id);
    if (underWay !== undefined) return underWay;
    const attaching = this.#attach(request, options).finally(() => this.#attaching.delete(id));
    this.#attaching.set(id, attaching);
    return attaching;
  }

  async detach(attachment: Attachment): Promise<void> {
    const id = attachmentId(attachment);
    const present = this.#state.attachments.get(id);
    if (present === undefined) return;
    await this.#ledger.append([{ op: "detach", id, at: this.#ledger.journalTime() }]);
    this.#ledger.release(present);
    this.#reports.touch(present.addresses);
  }

  find(request: AttachmentRequest): Attachment | undefined {
    // One recovered from the API has no interface in the container, one recovered from the kernel only its host end: whoever fits is taken for it.
    const { attachments } = this.#state;
    const interfaceName = hostInterfaceName(this.#options.interfacePrefix, request);
    const unnamed = { network: UNKNOWN_NETWORK, containerId: interfaceName, ifname: "" };
    return attachments.get(attachmentId(request)) ?? attachments.get(attachmentId({ ...request, ifname: "" })) ?? attachments.get(attachmentId(unnamed));
  }

  has(attachment: Attachment): boolean {
    return this.#state.attachments.has(attachmentId(attachment));
  }

  holdersOf(interfaceName: string): readonly Attachment[] {
    const found: Attachment[] = [];
    for (const attachment of this.#state.attachments.values()) if (attachment.interfaceName === interfaceName) found.push(attachment);
    return found;
  }

  attachments(): readonly Attachment[] {
    return this.#ledger.attachments();
  }

  isTrusted(): boolean {
    return this.#state.isTrusted;
  }

  whenTrusted(signal: AbortSignal): Promise<void> {
    return this.#holdings.whenTrusted(signal);
  }

  obstacle(): AddressError | undefined {
    try {
      if (!this.#state.isTrusted) return notTrusted();
      const full = this.#choice.versions().find((version) => this.#ledger.blocks.freeCount(version) === 0 && this.#claiming.isRefused(version));
      return full === undefined ? undefined : new AddressError("pool-full", `no IPv${full} address is free on this node, and no block could be claimed`);
    } catch (error) {
      if (error instanceof AddressError) return error;
      throw error;
    }
  }

  blocks(): readonly BlockStatus[] {
    return this.#ledger.blocks.status();
  }

  get #state(): JournalState {
    return this.#ledger.state;
  }

  async #attach(request: AttachmentRequest, { signal, meanwhile, wish }: AttachOptions): Promise<Attachment> {
    const present = this.find(request);
    if (present !== undefined && !this.#isHalf(present, wish)) return await this.#adopt(present, request);
    if (!this.#state.isTrusted)
      await this.#holdings
        .list(signal === undefined ? {} : { signal })
        .catch((error: unknown) => Promise.reject(error instanceof AddressError ? error : notTrusted(error)));
    const recovered = this.find(request);
    if (recovered !== undefined && !this.#isHalf(recovered, wish)) return await this.#adopt(recovered, request);
    if (wish !== undefined && wish.problem !== "") throw new AddressError("bad-request", wish.problem);
    if (recovered !== undefined) await this.detach(recovered);
    const versions = this.#choice.wishedVersions(wish);
    const owner = attachmentId(request);
    const addresses: IpAddress[] = [];
    let attachment: Attachment;
    let problem: { readonly error: unknown } | undefined;
    try {
      for (const version of versions) addresses.push(await this.#take(version, { request, owner, wish, ...(signal === undefined ? {} : { signal }) }));
      attachment = {
        ...request,
        interfaceName: hostInterfaceName(this.#options.interfacePrefix, request),
        mac: wish !== undefined && wish.mac !== "" ? wish.mac : containerMac(request),
        addresses,
      };
      const writing = this.#ledger.append([{ op: "attach", attachment }]).then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      // The disk is at work before this begins.
      await new Promise((resolve) => setImmediate(resolve));
      problem = tried(() => meanwhile?.(attachment));
      const failure = await writing;
      if (failure !== undefined) throw failure.error;
    } catch (error) {
      this.#ledger.putBack(addresses, owner);
      throw error;
    }
    this.#reports.touch(addresses);
    this.#claiming.ahead();
    if (problem !== undefined) throw problem.error;
    return attachment;
  }

  /**
   * Out of the API, where only a part of its addresses had been reported when the journal was lost, and with no interface that says more: its pod would get
   * fewer addresses than others.
   */
  #isHalf({ addresses, ifname, interfaceName }: Attachment, wish: AddressRequest | undefined): boolean {
    if (ifname !== "" || this.#options.usedAddresses().some((used) => used.interfaceName === interfaceName)) return false;
    try {
      return this.#choice.wishedVersions(wish).some((version) => !addresses.some((address) => ipVersion(address) === version));
    } catch {
      // Without a pool there would be nothing to give instead.
      return false;
    }
  }

  /** The same attachment again: same addresses. What the caller knows better (interface, namespace path) is written down. */
  async #adopt(present: Attachment, request: AttachmentRequest): Promise<Attachment> {
    const adopted: Attachment = {
      ...present,
      ...request,
      interfaceName: hostInterfaceName(this.#options.interfacePrefix, request),
      mac: present.ifname === "" ? containerMac(request) : present.mac,
    };
    if (JSON.stringify(adopted) === JSON.stringify(present)) return present;
    const [from, to] = [attachmentId(present), attachmentId(adopted)];
    const entries: JournalEntry[] = from === to ? [] : [{ op: "detach", id: from, at: this.#ledger.journalTime() }];
    await this.#ledger.append([...entries, { op: "attach", attachment: adopted }]);
    if (from !== to) {
      for (const address of present.addresses) {
        this.#ledger.blocks.release(address, from, Number.NEGATIVE_INFINITY);
        this.#ledger.blocks.restore(address, to);
      }
    }
    this.#reports.touch(adopted.addresses);
    return adopted;
  }

  async #take(
    version: IpVersion,
    {
      request,
      owner,
      wish,
      signal,
    }: { readonly request: AttachmentRequest; readonly owner: string; readonly wish: AddressRequest | undefined; readonly signal?: AbortSignal },
  ): Promise<IpAddress> {
    const asked = wish?.addresses.find((address) => ipVersion(address) === version);
    if (asked !== undefined) return await this.#takeAsked(asked, owner);
    const named = this.#choice.namesOf(version, wish);
    const isUsable = named === undefined ? undefined : (block: Cidr, pool: string): boolean => named.includes(pool) && !this.#ledger.lost.has(block);
    // The cooldown is for those who may still talk to the pod that had the address: this is the one.
    for (const address of this.#ledger.rememberedOf(request, version)) if (this.#ledger.blocks.takeAgain(address, owner, isUsable)) return address;
    for (;;) {
      if (signal?.aborted === true) throw new AddressError("unavailable", "the request was given up before an address was free");
      const now = this.#options.clock.now();
      const taken = this.#ledger.blocks.take(version, owner, now, isUsable);
      if (taken.kind === "taken") return taken.address;
      try {
        await this.#claiming.forRequest({ version, ...(named === undefined ? {} : { pools: named }) });
      } catch (error) {
        throw nothingFree({
          version,
          cause: error,
          retryInMs: taken.retryAtMs === undefined ? undefined : taken.retryAtMs - this.#options.clock.now(),
          pools: named === undefined ? this.#choice.enabled(version) : this.#choice.named(named),
          capacity: this.#ledger.blocks.capacity(version),
        });
      }
    }
  }

  /** An address that the pod's annotation names: reserved ones too, cooling down or not. */
  async #takeAsked(address: IpAddress, owner: string): Promise<IpAddress> {
    const elsewhere = this.#choice.elsewhere(address);
    if (elsewhere !== undefined)
      throw new AddressError(
        "bad-request",
        `annotation cni.projectcalico.org/ipAddrs: ${address} cannot be a pod's own: it is routed to node ${elsewhere} by itself, as a floating address of a pod there (cni.projectcalico.org/floatingIPs) or on loan. Take another, or take it away there`,
      );
    if (this.#ledger.blocks.blockOf(address) === undefined) {
      try {
        await this.#claiming.forRequest({ version: ipVersion(address), address });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        const code = error instanceof ClaimError && error.code !== "unavailable" ? "bad-request" : "unavailable";
        throw new AddressError(code, `annotation cni.projectcalico.org/ipAddrs: ${address} cannot be had: ${reason}`, { cause: error });
      }
    }
    const holder = this.#ledger.blocks.ownerOf(address);
    if (holder !== undefined && holder !== owner)
      throw new AddressError("bad-request", `annotation cni.projectcalico.org/ipAddrs: ${address} is in use by ${holder}`);
    if (!this.#ledger.blocks.restore(address, owner))
      throw new AddressError(
        "bad-request",
        `annotation cni.projectcalico.org/ipAddrs: ${address} is in no block of this node, or this pod has another address of that block`,
      );
    return address;
  }
}

function tried(action: () => void): { readonly error: unknown } | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return { error };
  }
}
