/**
 * Addresses for the pods of this node: given from memory, written down before they are told, released, reported to the API.
 *
 * Invariants: an address is in use by at most one attachment, over any crash (the journal has it before the caller does, and it is free only after the
 * journal says so); every family that an enabled pool exists for gives an address, or none does; nothing is given while entries may be missing
 * (`isTrusted`): then the API's blocks and the kernel's routes are asked first.
 * The next block is claimed when few addresses are left, so a request waits for the server only when none is free; one claim serves all that wait.
 * Rejected: asking the server for each address (an ADD would depend on the network, and the API write rate on pod churn).
 * Above 500 lines, because giving, releasing and recovering share the one table of entries that must agree with the journal; choosing among blocks is in
 * `blocks.ts`, files in `journal.ts`.
 */
import type { AddressRequest, Pool } from "../../src/model/record.ts";
import { type Cidr, cidrContains, cidrContainsCidr, cidrVersion } from "../../src/net/cidr.ts";
import { compareIps, type IpAddress, type IpVersion, ipVersion } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { Backoff, jittered } from "../../src/runtime/retry.ts";
import type { Part } from "../../src/runtime/supervisor.ts";
import { type ClaimClient, ClaimError, type ClaimedBlock, type ReportClient } from "../sync/claims.ts";
import { AddressError } from "./address-error.ts";
import { type Attachment, type AttachmentRequest, attachmentId, containerMac, handleOf, hostInterfaceName } from "./attachment.ts";
import { type BlockStatus, Blocks } from "./blocks.ts";
import type { Journal } from "./journal.ts";
import type { JournalEntry } from "./journal-state.ts";
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
  /** A released address is not given again before this time. Default 10 s. */
  readonly cooldownMs?: number;
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

export function createAddressManager(options: AddressManagerOptions): AddressManager {
  return new Manager(options);
}

class Manager implements AddressManager {
  readonly name = "addresses";
  readonly #options: AddressManagerOptions;
  readonly #blocks: Blocks;
  readonly #attaching = new Map<string, Promise<Attachment>>();
  readonly #claiming = new Map<string, Promise<void>>();
  readonly #claimPausedUntil = new Map<IpVersion, number>();
  readonly #dirty = new Set<Cidr>();
  readonly #trustWaiters = new Set<() => void>();
  /** Blocks that the API says are not this node's (any more): their addresses stay, none is given. */
  readonly #lost = new Set<Cidr>();
  #listing: Promise<void> | undefined;

  constructor(options: AddressManagerOptions) {
    this.#options = options;
    this.#blocks = new Blocks({
      cooldownMs: () => this.#cooldownMs(),
      isUsable: (block) => this.#isUsable(block),
      isReserved: (address) => this.#isReserved(address),
    });
    this.#restore();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const backoff = new Backoff({ initialMs: 200, maxMs: 10_000 });
    let listAt = clock.now();
    for (const block of this.#options.journal.state.blocks.keys()) this.#markDirty(block);
    while (!signal.aborted) {
      if (clock.now() >= listAt) {
        try {
          await this.#list(signal);
          backoff.reset();
          listAt = clock.now() + jittered(LIST_INTERVAL_MS);
        } catch (error) {
          if (signal.aborted) break;
          log.debug({ err: error, tries: backoff.tries }, "blocks could not be listed: trying again");
          listAt = clock.now() + backoff.next();
        }
      }
      this.#claimAhead();
      await clock.sleep(Math.max(1, Math.min(UPKEEP_INTERVAL_MS, listAt - clock.now())), signal);
    }
    await Promise.allSettled([...this.#claiming.values(), ...this.#attaching.values()]);
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
    const { clock } = this.#options;
    const id = attachmentId(attachment);
    const present = this.#state.attachments.get(id);
    if (present === undefined) return;
    await this.#append([{ op: "detach", id, at: clock.wallTime() }]);
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
      const full = this.#versions().find((version) => this.#blocks.freeCount(version) === 0 && this.#isClaimPaused(version));
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
    if (present !== undefined) return await this.#adopt(present, request);
    if (!this.#state.isTrusted) await this.#list(signal).catch((error: unknown) => Promise.reject(error instanceof AddressError ? error : notTrusted(error)));
    const recovered = this.find(request);
    if (recovered !== undefined) return await this.#adopt(recovered, request);
    if (wish !== undefined && wish.problem !== "") throw new AddressError("bad-request", wish.problem);
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
    const entries: JournalEntry[] = from === to ? [] : [{ op: "detach", id: from, at: this.#options.clock.wallTime() }];
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
    if (asked !== undefined) return this.#takeAsked(asked, owner);
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
        await this.#claim(version, named);
      } catch (error) {
        throw this.#refusal(version, taken.retryAtMs, error, named);
      }
    }
  }

  /** An address that the pod's annotation names: reserved ones too, cooling down or not. */
  #takeAsked(address: IpAddress, owner: string): IpAddress {
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

  /** One call at a time for the same pools: whoever waits shares what it brings. */
  #claim(version: IpVersion, pools?: readonly string[]): Promise<void> {
    const key = `${version} ${pools?.join(" ") ?? ""}`;
    const underWay = this.#claiming.get(key);
    if (underWay !== undefined) return underWay;
    const claiming = this.#claimOne(version, pools).finally(() => this.#claiming.delete(key));
    this.#claiming.set(key, claiming);
    return claiming;
  }

  async #claimOne(version: IpVersion, pools?: readonly string[]): Promise<void> {
    const { claims, clock, log } = this.#options;
    try {
      const block = await claims.claimBlock({ ipVersion: version, full: this.#blocks.ofVersion(version), ...(pools === undefined ? {} : { pools }) });
      if (cidrVersion(block.cidr) !== version || this.#blocks.has(block.cidr))
        throw new ClaimError("unavailable", `the server answered with block ${block.cidr}, which was not asked for`);
      await this.#addBlock(block);
      this.#claimPausedUntil.delete(version);
      log.info({ block: block.cidr, pool: block.pool }, "block claimed");
    } catch (error) {
      if (pools === undefined)
        this.#claimPausedUntil.set(
          version,
          clock.now() + (error instanceof ClaimError && error.code === "no-free-block" ? CLAIM_PAUSE_MS : UPKEEP_INTERVAL_MS),
        );
      throw error;
    }
  }

  #claimAhead(): void {
    if (!this.#state.isTrusted) return;
    for (const version of this.#tryVersions()) {
      const spare = Math.min(MAX_SPARE, Math.ceil((this.#blocks.capacity(version) || 1) / 4));
      if (this.#blocks.freeCount(version) >= spare || this.#isClaimPaused(version)) continue;
      this.#claim(version).catch((error: unknown) => this.#options.log.debug({ err: error, ipVersion: version }, "no further block"));
    }
  }

  #isClaimPaused(version: IpVersion): boolean {
    return (this.#claimPausedUntil.get(version) ?? 0) > this.#options.clock.now();
  }

  #list(signal?: AbortSignal): Promise<void> {
    this.#listing ??= this.#listOnce(signal).finally(() => {
      this.#listing = undefined;
    });
    return this.#listing;
  }

  /** Brings the journal and the API's blocks together. */
  async #listOnce(signal?: AbortSignal): Promise<void> {
    const known = new Set(this.#state.blocks.keys());
    const used = this.#state.isTrusted ? [] : this.#options.usedAddresses();
    const listed = await this.#options.claims.listBlocks(signal);
    for (const { cidr } of listed) this.#lost.delete(cidr);
    if (this.#state.isTrusted) for (const block of listed) await this.#addBlock(block);
    else await this.#recover(listed, used);
    const present = new Set(listed.map(({ cidr }) => cidr));
    for (const block of known) if (!present.has(block)) await this.#loseBlock(block);
  }

  /**
   * Entries may be missing: one that the kernel does not confirm may have ended, and its address may be another's by now. What is learned is written as
   * one batch, so that a crash leaves all of it or none.
   */
  async #recover(listed: readonly ClaimedBlock[], used: readonly UsedAddress[]): Promise<void> {
    const { clock, interfacePrefix, log } = this.#options;
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
        .map((attachment) => ({ op: "detach" as const, id: attachmentId(attachment), at: clock.wallTime() })),
      ...listed.filter(({ cidr }) => !this.#state.blocks.has(cidr)).map((block) => this.#blockEntry(block)),
      ...recovered.map((attachment) => ({ op: "attach" as const, attachment })),
      { op: "trust" },
    ]);
    this.#restore();
    for (const { cidr } of listed) this.#markDirty(cidr);
    log.info({ blocks: listed.length, kept: kept.length, recovered: recovered.length }, "addresses recovered from the API and the kernel");
    for (const resolve of this.#trustWaiters) resolve();
    this.#trustWaiters.clear();
  }

  /** Of one that is there: nothing. Addresses that the API knows in it and nobody here has stay taken. */
  async #addBlock(block: ClaimedBlock): Promise<void> {
    if (this.#blocks.has(block.cidr)) return;
    const { interfacePrefix } = this.#options;
    const attachments = recoverAttachments({
      allocations: block.allocations,
      used: [],
      isOwned: (address) => this.#blocks.ownerOf(address) !== undefined,
      interfacePrefix,
    });
    const fresh = attachments.filter((attachment) => !this.#state.attachments.has(attachmentId(attachment)));
    await this.#append([this.#blockEntry(block), ...fresh.map((attachment) => ({ op: "attach" as const, attachment }))]);
    this.#blocks.add(block.cidr, block.pool);
    for (const attachment of fresh) for (const address of attachment.addresses) this.#blocks.restore(address, attachmentId(attachment));
    this.#markDirty(block.cidr);
  }

  /** The API says that the block is not this node's (any more). */
  async #loseBlock(block: Cidr): Promise<void> {
    const { log } = this.#options;
    const used = this.#blocks.usedIn(block).size;
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
  #blockEntry({ cidr, pool }: ClaimedBlock): JournalEntry {
    return { op: "block", cidr, pool, generation: Math.floor(this.#options.clock.wallTime() * 1_000) };
  }

  /** From the journal, which is the truth of this node. */
  #restore(): void {
    const { clock, journal } = this.#options;
    const { blocks, attachments, released } = journal.state;
    const wallOffset = clock.now() - clock.wallTime();
    for (const [block, { pool }] of blocks) this.#blocks.add(block, pool);
    for (const [id, { addresses }] of attachments) for (const address of addresses) this.#blocks.restore(address, id);
    // A wall clock that was set back must not keep addresses away for longer than the cooldown.
    for (const [address, at] of released) this.#blocks.restoreRelease(address, Math.min(clock.now(), at + wallOffset));
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
      throw new AddressError("journal", `the journal of addresses cannot be written: ${reason}. Check the disk of the state directory`, { cause: error });
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
      this.#options.reports.report({ block, generation: known.generation, allocations });
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

  #isReserved(address: IpAddress): boolean {
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
