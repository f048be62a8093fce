/**
 * Addresses for the pods of this node: given from memory, written down before they are told, released, reported to the API.
 *
 * Invariants: an address is in use by at most one attachment, over any crash (the journal has it before the caller does, and it is free only after the
 * journal says so); every family that an enabled pool exists for gives an address, or none does; nothing is given while entries may be missing
 * (`isTrusted`): then the API's blocks and the kernel's routes are asked first.
 * The next block is claimed when few addresses are left, so a request waits for the server only when none is free; one claim serves all that wait. When no
 * block is left, addresses are borrowed: each is a block of one address here. What stays empty is given back: forgotten on the disk first, then told.
 * Rejected: asking the server for each address (an ADD would depend on the network, and the API write rate on pod churn).
 * Above 500 lines, because giving, releasing and recovering share the one table of entries that must agree with the journal; choosing among blocks is in
 * `blocks.ts`, files in `journal.ts`.
 */
import type { NodeName } from "../../src/model/names.ts";
import type { AddressRequest, Loans, Pool } from "../../src/model/record.ts";
import { type Cidr, cidrContains, cidrContainsCidr, cidrVersion, hostCidr } from "../../src/net/cidr.ts";
import { compareIps, type IpAddress, type IpVersion, ipVersion } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { Backoff, jittered } from "../../src/runtime/retry.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import { type ClaimClient, ClaimError, type ClaimedBlock, type Held, type ReportClient } from "../sync/claims.ts";
import { AddressError } from "./address-error.ts";
import { type Attachment, type AttachmentRequest, attachmentId, containerMac, handleOf, hostInterfaceName } from "./attachment.ts";
import { type BlockStatus, Blocks } from "./blocks.ts";
import type { Journal } from "./journal.ts";
import type { JournalBlock, JournalEntry } from "./journal-state.ts";
import { Lending, lentOwner } from "./lending.ts";
import { recoverAttachments, UNKNOWN_NETWORK, type UsedAddress } from "./recovery.ts";

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

const DEFAULT_COOLDOWN_MS = 10_000;
/** The next block is claimed when fewer are free than a quarter of a block, at most this many. */
const MAX_SPARE = 16;
const LIST_INTERVAL_MS = 300_000;
/** After a refused claim ahead of need. */
const CLAIM_PAUSE_MS = 30_000;
const UPKEEP_INTERVAL_MS = 1_000;
const DEFAULT_IDLE_MS = 30_000;
const DEFAULT_SPARE_IDLE_MS = 300_000;
/** Between two tries to give something back. */
const RELEASE_RETRY_MS = 5_000;

export function createAddressManager(options: AddressManagerOptions): AddressManager {
  return new Manager(options);
}

class Manager implements AddressManager {
  readonly name = "addresses";
  readonly #options: AddressManagerOptions;
  readonly #blocks: Blocks;
  readonly #attaching = new Map<string, Promise<Attachment>>();
  readonly #claiming = new Map<string, { readonly promise: Promise<void>; readonly isAhead: boolean }>();
  /** Requests that wait for an address, by what they claim. */
  readonly #waiting = new Map<string, number>();
  readonly #lending: Lending;
  readonly #idleSince = new Map<Cidr, number>();
  readonly #releaseAt = new Map<Cidr, number>();
  /** Listing, taking over and giving back are one after the other: each says what is this node's. */
  #holdings: Promise<unknown> = Promise.resolve();
  readonly #refusedUntil = new Map<IpVersion, number>();
  readonly #claimPausedUntil = new Map<IpVersion, number>();
  readonly #dirty = new Set<Cidr>();
  readonly #trustWaiters = new Set<() => void>();
  /** Blocks that the API says are not this node's (any more): their addresses stay, none is given. */
  readonly #lost = new Set<Cidr>();
  #listing: Promise<void> | undefined;
  /** The journal's times are monotonic time plus this (ms): the wall clock may be set at any moment. */
  readonly #journalAheadMs: number;

  constructor(options: AddressManagerOptions) {
    this.#options = options;
    this.#journalAheadMs = options.clock.wallTime() - options.clock.now() + options.journal.wallBehindMs;
    this.#blocks = new Blocks({
      cooldownMs: () => this.#cooldownMs(),
      isUsable: (block) => this.#isUsable(block),
      isReserved: (address) => this.#isReserved(address),
    });
    this.#lending = new Lending({
      state: () => this.#state,
      blocks: this.#blocks,
      clock: options.clock,
      log: options.log,
      loans: options.loans ?? ((): readonly Loans[] => []),
      isElsewhere: (address) => this.#elsewhere(address) !== undefined,
      append: (entries) => this.#append(entries),
      journalTime: () => this.#journalTime(),
      onChange: (block) => this.#markDirty(block),
    });
    options.reports.listen(({ block, ended, isSuperseded }) => {
      this.#answered(block, ended, isSuperseded).catch((error: unknown) => options.log.debug({ err: error, block }, "a block could not be taken over now"));
    });
    this.#restore();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const backoff = new Backoff({ initialMs: 200, maxMs: 10_000 });
    let listAt = clock.now();
    await this.#lending.consider();
    for (const block of this.#options.journal.state.blocks.keys()) this.#markDirty(block);
    while (!signal.aborted) {
      if (clock.now() >= listAt) {
        try {
          await this.#list({ signal });
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
    await Promise.allSettled([...[...this.#claiming.values()].map(({ promise }) => promise), ...this.#attaching.values()]);
  }

  async loansChanged(): Promise<void> {
    if (this.#state.isTrusted) await this.#lending.consider();
  }

  async upkeep(signal?: AbortSignal): Promise<void> {
    if (!this.#state.isTrusted) return;
    this.#claimAhead();
    await this.#forgetIdle();
    const { clock } = this.#options;
    const due = [...this.#state.releasing].filter(([cidr]) => (this.#releaseAt.get(cidr) ?? 0) <= clock.now());
    if (due.length > 0) await this.#inTurn(() => this.#giveBack(due, signal));
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
    await this.#append([{ op: "detach", id, at: this.#journalTime() }]);
    this.#release(present);
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
    return [...this.#state.attachments.values()];
  }

  isTrusted(): boolean {
    return this.#state.isTrusted;
  }

  async whenTrusted(signal: AbortSignal): Promise<void> {
    if (this.#state.isTrusted || signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#trustWaiters.add(resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  obstacle(): AddressError | undefined {
    try {
      if (!this.#state.isTrusted) return notTrusted();
      const full = this.#versions().find(
        (version) => this.#blocks.freeCount(version) === 0 && (this.#refusedUntil.get(version) ?? 0) > this.#options.clock.now(),
      );
      return full === undefined ? undefined : new AddressError("pool-full", `no IPv${full} address is free on this node, and no block could be claimed`);
    } catch (error) {
      if (error instanceof AddressError) return error;
      throw error;
    }
  }

  blocks(): readonly BlockStatus[] {
    return this.#blocks.status();
  }

  get #state(): Journal["state"] {
    return this.#options.journal.state;
  }

  async #attach(request: AttachmentRequest, { signal, meanwhile, wish }: AttachOptions): Promise<Attachment> {
    const present = this.find(request);
    if (present !== undefined && !this.#isHalf(present, wish)) return await this.#adopt(present, request);
    if (!this.#state.isTrusted)
      await this.#list(signal === undefined ? {} : { signal }).catch((error: unknown) =>
        Promise.reject(error instanceof AddressError ? error : notTrusted(error)),
      );
    const recovered = this.find(request);
    if (recovered !== undefined && !this.#isHalf(recovered, wish)) return await this.#adopt(recovered, request);
    if (wish !== undefined && wish.problem !== "") throw new AddressError("bad-request", wish.problem);
    if (recovered !== undefined) await this.detach(recovered);
    const versions = this.#wishedVersions(wish);
    const owner = attachmentId(request);
    const addresses: IpAddress[] = [];
    let attachment: Attachment;
    let problem: { readonly error: unknown } | undefined;
    try {
      for (const version of versions) addresses.push(await this.#take(version, { owner, wish, ...(signal === undefined ? {} : { signal }) }));
      attachment = {
        ...request,
        interfaceName: hostInterfaceName(this.#options.interfacePrefix, request),
        mac: wish !== undefined && wish.mac !== "" ? wish.mac : containerMac(request),
        addresses,
      };
      const writing = this.#append([{ op: "attach", attachment }]).then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      // The disk is at work before this begins.
      await new Promise((resolve) => setImmediate(resolve));
      problem = tried(() => meanwhile?.(attachment));
      const failure = await writing;
      if (failure !== undefined) throw failure.error;
    } catch (error) {
      for (const address of addresses) this.#blocks.release(address, owner, Number.NEGATIVE_INFINITY);
      throw error;
    }
    this.#touch(addresses);
    this.#claimAhead();
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
      return this.#wishedVersions(wish).some((version) => !addresses.some((address) => ipVersion(address) === version));
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
    const entries: JournalEntry[] = from === to ? [] : [{ op: "detach", id: from, at: this.#journalTime() }];
    await this.#append([...entries, { op: "attach", attachment: adopted }]);
    if (from !== to) {
      for (const address of present.addresses) {
        this.#blocks.release(address, from, Number.NEGATIVE_INFINITY);
        this.#blocks.restore(address, to);
      }
    }
    this.#touch(adopted.addresses);
    return adopted;
  }

  async #take(
    version: IpVersion,
    { owner, wish, signal }: { readonly owner: string; readonly wish: AddressRequest | undefined; readonly signal?: AbortSignal },
  ): Promise<IpAddress> {
    const asked = wish?.addresses.find((address) => ipVersion(address) === version);
    if (asked !== undefined) return await this.#takeAsked(asked, owner);
    const named = this.#namedPools(version, wish);
    for (;;) {
      if (signal?.aborted === true) throw new AddressError("unavailable", "the request was given up before an address was free");
      const now = this.#options.clock.now();
      const taken =
        named === undefined
          ? this.#blocks.take(version, owner, now)
          : this.#blocks.take(version, owner, now, (block, pool) => named.includes(pool) && !this.#lost.has(block));
      if (taken.kind === "taken") return taken.address;
      try {
        await this.#claimForRequest({ version, ...(named === undefined ? {} : { pools: named }) });
      } catch (error) {
        throw this.#refusal(version, taken.retryAtMs, error, named);
      }
    }
  }

  /** An address that the pod's annotation names: reserved ones too, cooling down or not. */
  async #takeAsked(address: IpAddress, owner: string): Promise<IpAddress> {
    const elsewhere = this.#elsewhere(address);
    if (elsewhere !== undefined)
      throw new AddressError(
        "bad-request",
        `annotation cni.projectcalico.org/ipAddrs: ${address} cannot be a pod's own: it is routed to node ${elsewhere} by itself, as a floating address of a pod there (cni.projectcalico.org/floatingIPs) or on loan. Take another, or take it away there`,
      );
    if (this.#blocks.blockOf(address) === undefined) {
      try {
        await this.#claimForRequest({ version: ipVersion(address), address });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        const code = error instanceof ClaimError && error.code !== "unavailable" ? "bad-request" : "unavailable";
        throw new AddressError(code, `annotation cni.projectcalico.org/ipAddrs: ${address} cannot be had: ${reason}`, { cause: error });
      }
    }
    const holder = this.#blocks.ownerOf(address);
    if (holder !== undefined && holder !== owner)
      throw new AddressError("bad-request", `annotation cni.projectcalico.org/ipAddrs: ${address} is in use by ${holder}`);
    if (!this.#blocks.restore(address, owner))
      throw new AddressError(
        "bad-request",
        `annotation cni.projectcalico.org/ipAddrs: ${address} is in no block of this node, or this pod has another address of that block`,
      );
    return address;
  }

  /** undefined: those for every pod. Throws AddressError when none of them can be used. */
  #namedPools(version: IpVersion, wish: AddressRequest | undefined): readonly string[] | undefined {
    if (wish === undefined || wish.pools.length === 0) return undefined;
    const open = new Set((this.#options.pools() ?? []).filter((pool) => isOpen(pool) && cidrVersion(pool.cidr) === version).map(({ name }) => name));
    return wish.pools.filter((name) => open.has(name));
  }

  #wishedVersions(wish: AddressRequest | undefined): readonly IpVersion[] {
    if (wish === undefined) return this.#versions();
    const asked = wish.addresses.map(ipVersion);
    if (asked.length > 0) return asked;
    const versions = wish.pools.length === 0 ? this.#versions() : ([4, 6] as const).filter((version) => (this.#namedPools(version, wish)?.length ?? 0) > 0);
    const wanted = versions.filter((version) => wish.ipVersions.length === 0 || wish.ipVersions.includes(version));
    if (wanted.length === 0)
      throw new AddressError(
        "no-pool",
        "no enabled IPPool can be used for what the pod's annotations ask for (cni.projectcalico.org/ipFamilies, ipv4pools, ipv6pools)",
      );
    return wanted;
  }

  #refusal(version: IpVersion, retryAtMs: number | undefined, cause: unknown, named?: readonly string[]): AddressError {
    if (cause instanceof AddressError) return cause;
    const code = cause instanceof ClaimError ? cause.code : "unavailable";
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (code === "unknown-node") return new AddressError("unknown-node", `this node cannot have addresses: ${reason}`, { cause });
    if (code === "unavailable")
      return new AddressError("unavailable", `no IPv${version} address is free in this node's blocks, and the next block cannot be claimed now: ${reason}`, {
        cause,
      });
    const pools = named === undefined ? this.#enabledPools(version) : (this.#options.pools() ?? []).filter(({ name }) => named.includes(name));
    const list = pools.map(({ name, cidr }) => `${name} (${cidr})`).join(", ") || "none";
    if (retryAtMs !== undefined) {
      const seconds = Math.max(1, Math.ceil((retryAtMs - this.#options.clock.now()) / 1_000));
      return new AddressError(
        "cooling",
        `every free IPv${version} address of this node was released a moment ago and is given again in ${seconds} s; the pools have no further block: ${list}`,
        { cause },
      );
    }
    const inUse = this.#blocks.capacity(version);
    return new AddressError(
      "pool-full",
      `the IPv${version} pools are full: ${list}; this node has ${inUse} addresses of them, all in use, and no block is free. Add an IPPool or free addresses (sedge status --socket shows this node's blocks)`,
      { cause },
    );
  }

  /** Counted while it waits, so that what is borrowed is enough for all. */
  async #claimForRequest(wanted: Wanted): Promise<void> {
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

  /** One call at a time for the same pools: whoever waits shares what it brings. */
  #claim(wanted: Wanted, isAhead = false): Promise<void> {
    const key = keyOf(wanted);
    const underWay = this.#claiming.get(key);
    // What is claimed ahead of need borrows nothing: one that needs an address asks again then.
    if (underWay?.isAhead === true && !isAhead) return underWay.promise.catch(() => this.#claim(wanted));
    if (underWay !== undefined) return underWay.promise;
    const promise = this.#claimOnce(wanted, isAhead).finally(() => this.#claiming.delete(key));
    this.#claiming.set(key, { promise, isAhead });
    return promise;
  }

  async #claimOnce(wanted: Wanted, isAhead: boolean): Promise<void> {
    const { address, pools, version } = wanted;
    const { claims, clock, log } = this.#options;
    // All requests of this turn are counted.
    if (!isAhead) await new Promise((resolve) => setImmediate(resolve));
    try {
      const full = [...this.#blocks.ofVersion(version), ...this.#state.releasing.keys()].filter((block) => cidrVersion(block) === version);
      const found = await claims.claimBlock({
        ipVersion: version,
        full,
        borrow: isAhead ? 0 : (this.#waiting.get(keyOf(wanted)) ?? 1),
        ...(pools === undefined ? {} : { pools }),
        ...(address === undefined ? {} : { address }),
      });
      const fresh = found.filter(({ cidr }) => cidrVersion(cidr) === version && !this.#blocks.has(cidr) && !this.#state.releasing.has(cidr));
      if (fresh.length === 0)
        throw new ClaimError("unavailable", `the server answered with ${found.map(({ cidr }) => cidr).join(", ")}, which was not asked for`);
      for (const block of fresh) {
        await this.#addBlock(block);
        log.info({ block: block.cidr, pool: block.pool, ...(block.of === undefined ? {} : { borrowedOf: block.of }) }, "block claimed");
      }
      this.#claimPausedUntil.delete(version);
      this.#refusedUntil.delete(version);
    } catch (error) {
      const isRefused = error instanceof ClaimError && error.code === "no-free-block";
      if (pools === undefined && address === undefined) {
        this.#claimPausedUntil.set(version, clock.now() + (isRefused ? CLAIM_PAUSE_MS : UPKEEP_INTERVAL_MS));
        if (!isAhead && isRefused) this.#refusedUntil.set(version, clock.now() + CLAIM_PAUSE_MS);
      }
      throw error;
    }
  }

  #claimAhead(): void {
    if (!this.#state.isTrusted) return;
    for (const version of this.#tryVersions()) {
      if (this.#blocks.freeCount(version) >= spareOf(this.#blocks.capacity(version)) || this.#isClaimPaused(version)) continue;
      this.#claim({ version }, true).catch((error: unknown) => this.#options.log.debug({ err: error, ipVersion: version }, "no further block"));
    }
  }

  #isClaimPaused(version: IpVersion): boolean {
    return (this.#claimPausedUntil.get(version) ?? 0) > this.#options.clock.now();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#holdings.then(work, work);
    this.#holdings = next.catch(() => undefined);
    return next;
  }

  #list(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    this.#listing ??= this.#inTurn(() => this.#listOnce(options)).finally(() => {
      this.#listing = undefined;
    });
    return this.#listing;
  }

  /** Brings the journal and the API's blocks together. The list may lag behind: what is new in it is taken over before it is used. */
  async #listOnce(options: { readonly signal?: AbortSignal }): Promise<void> {
    const known = new Set(this.#state.blocks.keys());
    const { isTrusted } = this.#state;
    const used = isTrusted ? [] : this.#options.usedAddresses();
    const listed = await this.#options.claims.listBlocks(options);
    const unknown = listed.filter(({ cidr }) => !this.#state.releasing.has(cidr) && (!isTrusted || !this.#blocks.has(cidr)));
    const taken = await this.#takeOver(unknown, options);
    const present = new Set((isTrusted ? listed : taken).map(({ cidr }) => cidr));
    for (const cidr of present) this.#lost.delete(cidr);
    if (isTrusted) for (const block of taken) await this.#addBlock(block);
    else await this.#recover(taken, used);
    for (const block of known) if (!present.has(block) && this.#blocks.has(block)) await this.#loseBlock(block);
    await this.#lending.consider();
  }

  async #takeOver(blocks: readonly Held[], options: { readonly signal?: AbortSignal }): Promise<readonly ClaimedBlock[]> {
    if (blocks.length === 0) return [];
    const wanted = new Set(blocks.map(({ cidr }) => cidr));
    // A server that does not know this answers with all blocks.
    return (await this.#options.claims.listBlocks({ ...options, takeOver: blocks })).filter(({ cidr }) => wanted.has(cidr));
  }

  async #answered(block: Cidr, ended: readonly IpAddress[], isSuperseded: boolean): Promise<void> {
    if (ended.length > 0) {
      await this.#lending.end(ended);
      await this.#lending.consider();
    }
    const known = this.#state.blocks.get(block);
    if (!isSuperseded || known === undefined) return;
    await this.#inTurn(async () => {
      const [taken] = await this.#takeOver([{ cidr: block, ...(known.of === undefined ? {} : { of: known.of }) }], {});
      if (!this.#blocks.has(block)) return;
      if (taken === undefined) {
        await this.#loseBlock(block);
        return;
      }
      await this.#append([this.#blockEntry(taken)]);
      this.#markDirty(block);
    });
  }

  /** Forgets what has been empty for long enough: from then on it is the server's to be told. */
  async #forgetIdle(): Promise<void> {
    const { clock, idleMs = DEFAULT_IDLE_MS, log, spareIdleMs = DEFAULT_SPARE_IDLE_MS } = this.#options;
    // Without the view nothing is known of what pods may use.
    if (this.#options.pools() === undefined) return;
    const now = clock.now();
    const entries: JournalEntry[] = [];
    const forgotten: { readonly cidr: Cidr; readonly pool: string }[] = [];
    for (const { block, free, pool, used } of this.#blocks.status()) {
      if (used > 0 || this.#lost.has(block)) {
        this.#idleSince.delete(block);
        continue;
      }
      const since = this.#idleSince.get(block) ?? now;
      this.#idleSince.set(block, since);
      const isSoon = this.#state.blocks.get(block)?.of !== undefined || !this.#mayBeUsed(block, pool);
      // An address that was in use a moment ago must not be another node's before its cooldown.
      if (now - since < Math.max(this.#cooldownMs(), isSoon ? idleMs : spareIdleMs) || (!isSoon && !this.#isSpare(block, free))) continue;
      this.#blocks.delete(block);
      this.#idleSince.delete(block);
      forgotten.push({ cidr: block, pool });
      entries.push({ op: "release", cidr: block });
    }
    if (forgotten.length === 0) return;
    try {
      await this.#append(entries);
      log.info({ blocks: forgotten.map(({ cidr }) => cidr) }, "blocks without a pod are given back");
    } catch (error) {
      // Free they were: what was released in them is longer ago than the cooldown.
      for (const { cidr, pool } of forgotten) if (this.#state.blocks.has(cidr)) this.#blocks.add(cidr, pool);
      throw error;
    }
  }

  /** A pod of this node can be given an address of it, by itself or by naming its pool. */
  #mayBeUsed(block: Cidr, poolName: string): boolean {
    return (this.#options.pools() ?? []).some((pool) => pool.name === poolName && isOpen(pool) && cidrContainsCidr(pool.cidr, block));
  }

  /** Without it there are enough left that no other is claimed soon. */
  #isSpare(block: Cidr, free: number): boolean {
    if (!this.#isUsable(block)) return true;
    const version = cidrVersion(block);
    const left = this.#blocks.freeCount(version) - free;
    return left > 0 && left >= 2 * spareOf(this.#blocks.capacity(version) - free);
  }

  async #giveBack(due: readonly (readonly [Cidr, JournalBlock])[], signal: AbortSignal | undefined): Promise<void> {
    const { claims, clock, log } = this.#options;
    for (const [cidr, { claim = "", of, pool }] of due) {
      if (!this.#state.releasing.has(cidr)) continue;
      try {
        const isGone = await claims.releaseBlock({ cidr, claim, ...(of === undefined ? {} : { of }) }, signal);
        this.#releaseAt.delete(cidr);
        if (isGone) await this.#append([{ op: "drop-block", cidr }]);
        else {
          await this.#append([this.#blockEntry({ cidr, pool, claim, ...(of === undefined ? {} : { of }) })]);
          this.#blocks.add(cidr, pool);
          await this.#lending.consider();
          this.#markDirty(cidr);
        }
      } catch (error) {
        this.#releaseAt.set(cidr, clock.now() + jittered(RELEASE_RETRY_MS));
        log.debug({ err: error, block: cidr }, "a block could not be given back yet");
      }
    }
  }

  /**
   * Entries may be missing: one that the kernel does not confirm may have ended, and its address may be another's by now. What is learned is written as
   * one batch, so that a crash leaves all of it or none.
   */
  async #recover(listed: readonly ClaimedBlock[], used: readonly UsedAddress[]): Promise<void> {
    const { interfacePrefix, log } = this.#options;
    const holders = new Map(used.map(({ address, interfaceName }) => [address, interfaceName]));
    const kept = this.attachments().filter(({ addresses, interfaceName }) => addresses.every((address) => holders.get(address) === interfaceName));
    const owned = new Set(kept.flatMap(({ addresses }) => addresses));
    const recovered = recoverAttachments({
      allocations: listed.flatMap(({ allocations }) => allocations),
      used,
      isOwned: (address) => owned.has(address),
      interfacePrefix,
    });
    await this.#append([
      ...this.attachments()
        .filter((attachment) => !kept.includes(attachment))
        .map((attachment) => ({ op: "detach" as const, id: attachmentId(attachment), at: this.#journalTime() })),
      ...listed.map((block) => this.#blockEntry(block)),
      ...listed.flatMap(({ lent }) => lent.map(({ address, id }): JournalEntry => ({ op: "lend", address, id }))),
      ...recovered.map((attachment) => ({ op: "attach" as const, attachment })),
      { op: "trust" },
    ]);
    // Nothing was given meanwhile; what the journal said before would keep addresses for owners that are gone.
    this.#blocks.clear();
    this.#restore();
    for (const { cidr } of listed) this.#markDirty(cidr);
    log.info({ blocks: listed.length, kept: kept.length, recovered: recovered.length }, "addresses recovered from the API and the kernel");
    for (const resolve of this.#trustWaiters) resolve();
    this.#trustWaiters.clear();
  }

  /**
   * Of one that is there: nothing. It may be of an earlier life: what the kernel routes to a pod is taken, under the name that the API knows; what the API
   * alone knows is of a pod that is gone, and the next report says so.
   */
  async #addBlock(block: ClaimedBlock): Promise<void> {
    if (this.#blocks.has(block.cidr)) return;
    const { interfacePrefix } = this.#options;
    const known = new Map(this.attachments().flatMap((attachment) => attachment.addresses.map((address) => [address, attachmentId(attachment)] as const)));
    const used = this.#options.usedAddresses().filter(({ address }) => cidrContains(block.cidr, address));
    const routed = new Set(used.map(({ address }) => address));
    const attachments = recoverAttachments({
      allocations: block.allocations.filter(({ address }) => routed.has(address)),
      used,
      isOwned: (address) => known.has(address),
      interfacePrefix,
    });
    const fresh = attachments.filter((attachment) => !this.#state.attachments.has(attachmentId(attachment)));
    await this.#append([
      this.#blockEntry(block),
      ...block.lent.map(({ address, id }): JournalEntry => ({ op: "lend", address, id })),
      ...fresh.map((attachment) => ({ op: "attach" as const, attachment })),
    ]);
    this.#blocks.add(block.cidr, block.pool);
    for (const [address, id] of known) this.#blocks.restore(address, id);
    for (const { address, id } of block.lent) this.#blocks.restore(address, lentOwner(id));
    for (const attachment of fresh) for (const address of attachment.addresses) this.#blocks.restore(address, attachmentId(attachment));
    this.#markDirty(block.cidr);
  }

  /** The API says that the block is not this node's (any more). */
  async #loseBlock(block: Cidr): Promise<void> {
    const { log } = this.#options;
    const used = [...this.#blocks.usedIn(block).values()].filter((owner) => !owner.startsWith(lentOwner(""))).length;
    if (used > 0) {
      if (!this.#lost.has(block)) log.warn({ block, used }, "block is not this node's any more: its addresses stay until their pods end, none is given");
      this.#lost.add(block);
      return;
    }
    log.warn({ block }, "block is not this node's any more: dropped");
    this.#blocks.delete(block);
    this.#lost.delete(block);
    await this.#append([{ op: "drop-block", cidr: block }]);
  }

  /** Wall time (us) stands in for the generations of a journal that is lost: it is ahead of all that were counted up from an earlier time. */
  #blockEntry({ cidr, claim, of, pool }: Pick<ClaimedBlock, "cidr" | "claim" | "of" | "pool">): JournalEntry {
    const generation = Math.floor(this.#options.clock.wallTime() * 1_000);
    return { op: "block", cidr, pool, generation, ...(claim === "" ? {} : { claim }), ...(of === undefined ? {} : { of }) };
  }

  /** From the journal, which is the truth of this node. */
  #restore(): void {
    const { clock, journal } = this.#options;
    const { blocks, attachments, released } = journal.state;
    for (const [block, { pool }] of blocks) this.#blocks.add(block, pool);
    for (const [address, id] of journal.state.lent) this.#blocks.restore(address, lentOwner(id));
    for (const [id, { addresses }] of attachments) for (const address of addresses) this.#blocks.restore(address, id);
    // Of another boot they are of another clock: one set back must not keep addresses away for longer than the cooldown.
    for (const [address, at] of released) this.#blocks.restoreRelease(address, Math.min(clock.now(), at - this.#journalAheadMs));
  }

  #journalTime(): number {
    return this.#options.clock.now() + this.#journalAheadMs;
  }

  #release({ addresses, ...key }: Attachment): void {
    for (const address of addresses) this.#blocks.release(address, attachmentId(key), this.#options.clock.now());
    this.#touch(addresses);
  }

  async #append(entries: readonly JournalEntry[]): Promise<void> {
    try {
      await this.#options.journal.append(entries);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const { directory } = this.#options.journal;
      throw new AddressError("journal", `the journal of addresses in ${directory} cannot be written: ${reason}. Check the disk and its mount`, {
        cause: error,
      });
    }
  }

  #touch(addresses: readonly IpAddress[]): void {
    for (const address of addresses) {
      const block = this.#blocks.blockOf(address);
      if (block !== undefined) this.#markDirty(block);
    }
  }

  /** Reports of one turn of the event loop go as one. */
  #markDirty(block: Cidr): void {
    if (this.#dirty.size === 0) setImmediate(() => this.#report());
    this.#dirty.add(block);
  }

  #report(): void {
    for (const block of this.#dirty) {
      const known = this.#state.blocks.get(block);
      if (known === undefined) continue;
      const allocations = [...this.#blocks.usedIn(block)]
        .sort(([a], [b]) => compareIps(a, b))
        .flatMap(([address, id]) => {
          // Taken and not yet on the disk: the append marks the block again.
          const attachment = this.#state.attachments.get(id);
          return attachment?.addresses.includes(address) === true
            ? { address, handle: handleOf(attachment), namespace: attachment.namespace, pod: attachment.pod }
            : [];
        });
      const { claim = "", generation, of } = known;
      const [lent, declined] = of === undefined ? [this.#lending.lentOf(block), this.#lending.declinedOf(block)] : [[], []];
      this.#options.reports.report({ block, generation, allocations, claim, ...(of === undefined ? {} : { of }), lent, declined });
    }
    this.#dirty.clear();
  }

  #isUsable(block: Cidr): boolean {
    if (this.#lost.has(block)) return false;
    const pools = this.#options.pools();
    return pools === undefined || pools.some(({ cidr, disabled }) => !disabled && cidrContainsCidr(cidr, block));
  }

  /** The longest that any pool asks for, else our own. */
  #cooldownMs(): number {
    const asked = (this.#options.pools() ?? []).flatMap(({ cooldownSeconds }) => cooldownSeconds ?? []);
    return asked.length === 0 ? (this.#options.cooldownMs ?? DEFAULT_COOLDOWN_MS) : Math.max(...asked) * 1_000;
  }

  /** Node that has it by itself; of what this node has borrowed: undefined, that is its own to give. */
  #elsewhere(address: IpAddress): NodeName | undefined {
    const node = this.#options.nodeOf?.(address);
    return node === undefined || this.#state.blocks.get(hostCidr(address))?.of !== undefined ? undefined : node;
  }

  #isReserved(address: IpAddress): boolean {
    if (this.#elsewhere(address) !== undefined) return true;
    return (this.#options.pools() ?? []).some(({ reserved }) => reserved?.some((cidr) => cidrContains(cidr, address)) === true);
  }

  #enabledPools(version: IpVersion): readonly Pool[] {
    return (this.#options.pools() ?? []).filter(({ cidr, disabled }) => !disabled && cidrVersion(cidr) === version);
  }

  /** Families to give an address of. Throws AddressError. */
  #versions(): readonly IpVersion[] {
    const versions = this.#tryVersions();
    if (versions.length > 0) return versions;
    if (this.#options.pools() === undefined) throw new AddressError("unavailable", "the server has not told this node its address pools yet");
    throw new AddressError("no-pool", "there is no enabled IPPool: create one, or set spec.disabled of one to false");
  }

  #tryVersions(): readonly IpVersion[] {
    return ([4, 6] as const).filter((version) => this.#enabledPools(version).length > 0);
  }
}

interface Wanted {
  readonly version: IpVersion;
  readonly pools?: readonly string[];
  readonly address?: IpAddress;
}

function keyOf({ address, pools, version }: Wanted): string {
  return address === undefined ? `${version} ${pools?.join(" ") ?? ""}` : hostCidr(address);
}

/** Fewer free ones than this, and the next block is claimed. */
function spareOf(capacity: number): number {
  return Math.min(MAX_SPARE, Math.ceil((capacity || 1) / 4));
}

function isOpen(pool: Pool): boolean {
  return !pool.disabled || pool.isSelective === true;
}

function tried(action: () => void): { readonly error: unknown } | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return { error };
  }
}

function notTrusted(cause?: unknown): AddressError {
  return new AddressError(
    "unavailable",
    "which addresses are in use on this node is not known yet: the server has to be asked and cannot be reached now",
    cause === undefined ? undefined : { cause },
  );
}
