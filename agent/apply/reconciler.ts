/**
 * The reconcile loop: desired state from the view and the connected pods, into the kernel, again and again.
 *
 * One apply at a time; what comes meanwhile is taken by the next. After a long apply the loop rests as long as it took, at most REST_LIMIT_MS, so that
 * a storm of changes is coalesced and the rest of the agent runs.
 * Invariants: the table before the routes, so that nothing is reachable that is not protected. Before the first complete view a table of ours that is
 * there stays as it is, and where there is none one that drops all our interfaces is put there. Nothing is swept before both the view is complete
 * and the pods of the last run are known. A stop leaves everything in place.
 */
import type { PodKey } from "../../src/model/names.ts";
import type { RecordKey, RecordValue } from "../../src/model/record.ts";
import { type Cidr, hostCidr } from "../../src/net/cidr.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { Due } from "../../src/runtime/due.ts";
import type { Logger } from "../../src/runtime/log.ts";
import { Backoff, jittered } from "../../src/runtime/retry.ts";
import type { Nftables } from "../drivers/nftables/driver.ts";
import { SEDGE_ROUTE_PROTOCOL } from "../drivers/rtnetlink/protocol.ts";
import { EffectiveSettings } from "../plan/effective-settings.ts";
import { type FloatingAddress, floatingAddresses } from "../plan/floating.ts";
import { TABLE } from "../plan/names.ts";
import { desiredRoutes } from "../plan/routes.ts";
import { desiredRuleset, type Plan, PlanCache, type PlanFailure, type PlanSettings } from "../plan/ruleset.ts";
import { findCulprit } from "./bisect.ts";
import { EndpointRegistry } from "./endpoint-registry.ts";
import { logFailures, oneEach } from "./failures.ts";
import { describeDrift, type KernelDrift } from "./kernel-drift.ts";
import { KernelRoutes, type RouteDriver } from "./kernel-routes.ts";
import { KernelTable } from "./kernel-table.ts";
import type { LocalEndpoint, LocalEndpoints } from "./local-endpoints.ts";
import { mayBeAnObjects, Refusals } from "./refusals.ts";
import type { PolicyCount } from "./rule-counters.ts";

/** The view as the loop reads it; getters, always the newest whole commit. */
export interface ViewSource {
  readonly records: ReadonlyMap<RecordKey, RecordValue>;
  readonly undecodable: ReadonlyMap<RecordKey, string>;
  readonly outdated: ReadonlyMap<RecordKey, string>;
  readonly revision: bigint;
  readonly epoch: string;
  readonly isComplete: boolean;
}

/** What the kernel has. */
export interface ProgrammedState {
  readonly epoch: string;
  readonly revision: bigint;
  readonly failures: readonly PlanFailure[];
}

/** Measurements, for metrics. */
export interface ReconcileObserver {
  /** One apply, in seconds; with its nftables operations and route changes. */
  applied(facts: { readonly seconds: number; readonly operations: number; readonly routes: number }): void;
  failed(): void;
  /** A pod's policy is in the kernel, so long after its ADD began. */
  podProtected(seconds: number): void;
  /** Someone else changed what is ours, and it was put right. */
  repaired(what: "table" | "routes"): void;
  /** From the commit at the server, by its clock, and from the receipt here, to the kernel. */
  programmed(facts: { readonly sinceCommitSeconds: number | undefined; readonly sinceReceiptSeconds: number }): void;
}

export interface ReconcilerOptions {
  readonly nft: Nftables;
  /** undefined: routes are left alone. */
  readonly rtnetlink: RouteDriver | undefined;
  readonly source: ViewSource;
  /** The agent's own; what the cluster states for the node (record node-settings) holds in their place. */
  readonly settings: PlanSettings;
  readonly clock: Clock;
  readonly log: Logger;
  readonly observer: ReconcileObserver;
  readonly onProgrammed: (state: ProgrammedState) => void;
  /** Floating addresses that lead no longer to the pod that had them: connections that are open would, as they were translated when they began. */
  readonly onFloatingGone?: (addresses: readonly IpAddress[]) => void;
  /** What pods may do is another in the kernel now. */
  readonly onPolicyChanged?: () => void;
  /** Everything is compared with the kernel this often even if nothing was heard. */
  readonly checkIntervalMs: number;
}

const REST_LIMIT_MS = 250;
const ENDPOINT_DEADLINE_MS = 15_000;
/** Records that one apply may find refused before it gives up and tries again later. */
const MAX_REFUSALS_PER_APPLY = 64;
const MAX_PENDING_COMMITS = 1_000;
const NO_INTERFACES: ReadonlyMap<IpAddress, string> = new Map();

/** When a commit was made, by the server's clock (0n: not known), and when it came, by ours. */
interface PendingCommit {
  readonly committedAtUnixUs: bigint;
  readonly receivedAt: number;
}

export class Reconciler {
  readonly name = "reconcile";
  readonly #options: ReconcilerOptions;
  readonly #registry: EndpointRegistry;
  readonly #table: KernelTable;
  readonly #routes: KernelRoutes | undefined;
  readonly #settings: EffectiveSettings;
  #cache = new PlanCache();
  /** Keys that changed since the last plan that the kernel took; undefined: any may have. */
  #changed: Set<RecordKey> | undefined;
  readonly #refusals = new Refusals();
  readonly #backoff = new Backoff({ initialMs: 50, maxMs: 5_000 });
  /** The last plan was not of the view's own records. */
  #wasLeftOut = false;
  #asksForInterfaces: boolean | undefined;
  /** Holds as long as nodes, endpoints and floating addresses stay. */
  #desiredRoutes:
    | { readonly endpoints: readonly LocalEndpoint[]; readonly floating: readonly FloatingAddress[]; readonly result: ReturnType<typeof desiredRoutes> }
    | undefined;
  /** Floating addresses and what they led to at the last apply. */
  #translated: ReadonlyMap<IpAddress, IpAddress> = new Map();
  /** undefined: to be read when a host endpoint needs it. */
  #interfacesByAddress: ReadonlyMap<IpAddress, string> | undefined;
  #pending: PendingCommit[] = [];
  readonly #dirty = new Due(true);
  /** The table is ours to change, and the planner knows in which form the kernel holds large sets. */
  #hasOwnTable = false;
  /** Of the plan that the kernel has. */
  #origins: ReadonlyMap<string, RecordKey> = new Map();
  #programmed: ProgrammedState | undefined;
  #lastError: string | undefined;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#settings = new EffectiveSettings(options.settings);
    this.#registry = new EndpointRegistry({
      clock: options.clock,
      onChange: () => this.#dirty.mark(),
      deadlineMs: ENDPOINT_DEADLINE_MS,
      onProtected: (seconds) => options.observer.podProtected(seconds),
    });
    this.#table = new KernelTable(options.nft);
    this.#routes = options.rtnetlink === undefined ? undefined : new KernelRoutes(options.rtnetlink);
  }

  get endpoints(): LocalEndpoints {
    return this.#registry;
  }

  /** undefined until the first apply of a complete view. */
  get programmed(): ProgrammedState | undefined {
    return this.#programmed;
  }

  /** Why the last apply failed; undefined when it did not. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  /**
   * What of our table is not in the kernel as it was put there, each with the record that it belongs to; undefined: nothing has been put there.
   * It is read from the kernel for the purpose, and not repaired by being asked for.
   */
  async kernelDrift(): Promise<readonly KernelDrift[] | undefined> {
    const drift = await this.#table.drift();
    return drift?.map((one) => describeDrift(one, this.#origins));
  }

  /** What the policies' rules have counted. */
  policyCounts(): Promise<readonly PolicyCount[]> {
    return this.#table.counts();
  }

  /** A commit is in the view, and on disk. */
  viewChanged({ keys, ...commit }: PendingCommit & { readonly keys?: Iterable<RecordKey> }): void {
    if (this.#pending.length < MAX_PENDING_COMMITS) this.#pending.push(commit);
    if (keys === undefined) this.#changed = undefined;
    else if (this.#changed !== undefined) for (const key of keys) this.#changed.add(key);
    this.#dirty.mark();
  }

  /** The view's revision grew without a change for us: the kernel has that one too. */
  viewConfirmed(): void {
    if (this.#dirty.isDue || this.#programmed === undefined) return;
    const { revision, epoch } = this.#options.source;
    this.#setProgrammed({ ...this.#programmed, revision, epoch });
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const watchers = [this.#watchTable(signal), this.#watchRoutes(signal), this.#checkRegularly(signal)];
    while (!signal.aborted) {
      await this.#dirty.wait(signal);
      if (signal.aborted) break;
      const began = clock.now();
      const isDone = await this.#applyOnce();
      const tookMs = clock.now() - began;
      if (!isDone) await clock.sleep(this.#backoff.next(), signal);
      else if (tookMs > 5) await clock.sleep(Math.min(tookMs, REST_LIMIT_MS), signal);
    }
    await Promise.all(watchers);
  }

  /** False: it failed and is to be tried again after a while. */
  async #applyOnce(): Promise<boolean> {
    const { observer, log } = this.#options;
    this.#dirty.clear();
    try {
      await this.#apply();
      this.#backoff.reset();
      if (this.#lastError !== undefined) log.info("the kernel takes our state again");
      this.#lastError = undefined;
      return true;
    } catch (error) {
      this.#dirty.mark();
      observer.failed();
      const reason = error instanceof Error ? error.message : String(error);
      if (reason !== this.#lastError) log.error({ err: error }, "programming the kernel failed: trying again");
      this.#lastError = reason;
      this.#registry.trouble(reason);
      return false;
    }
  }

  async #apply(): Promise<void> {
    const { source, clock, observer } = this.#options;
    const isWhole = source.isComplete && this.#registry.isRestored;
    if (!isWhole && !this.#hasOwnTable && (await this.#table.exists())) {
      this.#registry.trouble(`${this.#missing()}, and the agent leaves what an earlier run has programmed as it is`);
      this.#registry.settleRemovals();
      return;
    }
    if (!this.#hasOwnTable) this.#cache.sets.adopt(await this.#table.setNames());
    this.#hasOwnTable = true;
    const began = clock.now();
    const sequence = this.#registry.sequence;
    const pending = this.#pending;
    this.#pending = [];
    const state = { epoch: source.epoch, revision: source.revision };
    try {
      const { plan, operations } = await this.#applyTable();
      const { routes, failed, routeFailures } = this.#applyRoutes();
      observer.applied({ seconds: (clock.now() - began) / 1000, operations, routes });
      this.#noteProgrammed(pending);
      if (!isWhole) {
        // Everything of ours drops, and no route is set: nobody is connected like this.
        this.#registry.trouble(this.#missing());
        this.#registry.settleRemovals();
        return;
      }
      this.#registry.settle({ sequence, withPolicy: plan.withPolicy, failed });
      const failures = oneEach([
        ...this.#refusals.failures,
        ...plan.failures,
        ...[...source.outdated].map(([key, reason]) => ({ key, reason })),
        ...routeFailures,
      ]);
      this.#setProgrammed({ ...state, failures });
      if (operations > 0) this.#options.onPolicyChanged?.();
    } catch (error) {
      this.#pending = [...pending, ...this.#pending].slice(0, MAX_PENDING_COMMITS);
      throw error;
    }
  }

  #missing(): string {
    return this.#options.source.isComplete ? "the pods of the last run are not known yet" : "no server has given a complete view yet";
  }

  async #applyTable(): Promise<{ readonly plan: Plan; readonly operations: number }> {
    const { log } = this.#options;
    let changed: ReadonlySet<RecordKey> | undefined = this.#changed;
    this.#changed = new Set();
    this.#forget(changed);
    for (let attempt = 0; ; attempt++) {
      const plan = this.#plan(changed);
      try {
        const { operations } = await this.#tryPlan(plan, changed);
        return { plan: plan.plan, operations };
      } catch (error) {
        // Whatever comes of it, all is looked at from here on.
        changed = undefined;
        this.#changed = undefined;
        if (attempt >= MAX_REFUSALS_PER_APPLY || !(await this.#findRefused(error, plan.plan))) throw error;
        log.error({ err: error }, "the kernel refuses a record's rules: its last good state stays, the rest goes in");
      }
    }
  }

  #plan(
    changed: ReadonlySet<RecordKey> | undefined,
    heldBack?: ReadonlySet<RecordKey>,
  ): { readonly plan: Plan; readonly records: ReadonlyMap<RecordKey, RecordValue> } {
    const { source } = this.#options;
    const records = this.#refusals.effective(source.records, heldBack);
    const settings = this.#settings.of(records);
    const isAsGiven = records === source.records && !this.#wasLeftOut;
    this.#wasLeftOut = records !== source.records;
    const input = { records, undecodable: source.undecodable, endpoints: this.#registry.list(), settings, interfaceOf: this.#interfaceOf() };
    return { plan: desiredRuleset(isAsGiven ? { ...input, changed } : input, this.#cache), records };
  }

  async #tryPlan(
    { plan, records }: { readonly plan: Plan; readonly records: ReadonlyMap<RecordKey, RecordValue> },
    changed: ReadonlySet<RecordKey> | undefined,
  ): Promise<{ readonly operations: number }> {
    const { observer, log } = this.#options;
    const snapshot = this.#refusals.snapshot(records, changed);
    const { operations, repaired } = await this.#table.apply(plan.ruleset);
    if (repaired.length > 0) {
      observer.repaired("table");
      log.warn({ drift: repaired.slice(0, 20) }, "our nftables table was changed by someone else: repaired");
    }
    this.#refusals.taken(snapshot);
    this.#origins = plan.origins;
    return { operations };
  }

  /** Names what the kernel refuses: by what it says, else by halves. False: it is no record's fault. */
  async #findRefused(error: unknown, plan: Plan): Promise<boolean> {
    const { source } = this.#options;
    const transaction = this.#table.lastTransaction;
    if (this.#refusals.blame(error, plan, transaction, source.records)) return true;
    if (!mayBeAnObjects(error)) return false;
    const culprit = await findCulprit(this.#refusals.suspects(plan, transaction), async (heldBack) => {
      try {
        await this.#tryPlan(this.#plan(undefined, heldBack), undefined);
        return true;
      } catch (cause) {
        if (mayBeAnObjects(cause)) return false;
        throw cause;
      }
    });
    if (culprit === undefined) return false;
    this.#refusals.refuse(culprit, `the kernel refuses all transactions with it: ${error instanceof Error ? error.message : String(error)}`, source.records);
    return true;
  }

  /** What was found by looking through all records holds until one of those changes. */
  #forget(changed: ReadonlySet<RecordKey> | undefined): void {
    const concerns = (kind: string): boolean => changed === undefined || [...changed].some((key) => key.startsWith(kind));
    if (concerns("host/")) this.#asksForInterfaces = undefined;
    if (concerns("node/") || concerns("borrowed/")) this.#desiredRoutes = undefined;
  }

  /** Only where a host endpoint asks for it; the same map as long as nothing changed. */
  #interfaceOf(): ReadonlyMap<IpAddress, string> {
    const { source, rtnetlink } = this.#options;
    if (rtnetlink === undefined || this.#interfacesByAddress !== undefined) return this.#interfacesByAddress ?? NO_INTERFACES;
    this.#asksForInterfaces ??= [...source.records.values()].some((value) => value.kind === "host" && value.interfaceName === "");
    if (!this.#asksForInterfaces) return NO_INTERFACES;
    const names = new Map(rtnetlink.links().map(({ index, name }) => [index, name]));
    const found = new Map<IpAddress, string>();
    for (const { linkIndex, address } of rtnetlink.addresses()) {
      const name = names.get(linkIndex);
      if (name !== undefined) found.set(address, name);
    }
    this.#interfacesByAddress = found;
    return found;
  }

  #applyRoutes(): { readonly routes: number; readonly failed: ReadonlyMap<PodKey, string>; readonly routeFailures: readonly PlanFailure[] } {
    const { source, settings } = this.#options;
    const endpoints = this.#registry.list();
    if (!source.isComplete || !this.#registry.isRestored || this.#routes === undefined) return { routes: 0, failed: new Map(), routeFailures: [] };
    const before = this.#desiredRoutes;
    const floating = floatingAddresses(source.records, endpoints);
    this.#forgetTranslated(floating);
    const isSame =
      before?.endpoints.length === endpoints.length &&
      before.endpoints.every((endpoint, i) => endpoint === endpoints[i]) &&
      before.floating.length === floating.length &&
      before.floating.every(({ address, interfaceName }, i) => address === floating[i]?.address && interfaceName === floating[i].interfaceName);
    const { routes, failures } = isSame ? before.result : desiredRoutes({ records: source.records, endpoints, floating, nodeName: settings.nodeName });
    this.#desiredRoutes = { endpoints, floating, result: { routes, failures } };
    const { changed, failed } = this.#routes.apply(routes);
    const reasons = new Map<Cidr, string>(failed.map(({ route, reason }) => [route.destination, reason]));
    const failedPods = new Map<PodKey, string>();
    for (const { podKey, addresses } of endpoints) {
      for (const address of addresses) {
        const reason = reasons.get(hostCidr(address));
        if (reason !== undefined) failedPods.set(podKey, `route ${address}: ${reason}`);
      }
    }
    const podFailures = [...failedPods].map(([podKey, reason]) => ({ key: `endpoint/${podKey}`, reason }));
    for (const { podKey, address } of floating) {
      const reason = reasons.get(hostCidr(address));
      // The pod is connected all the same.
      if (reason !== undefined) podFailures.push({ key: `endpoint/${podKey}`, reason: `route to its floating address ${address}: ${reason}` });
    }
    const nodeFailures = failed
      .filter(({ route }) => route.kind !== "pod")
      .map(({ route, reason }) => ({ key: this.#nodeOf(route.destination), reason: `route to ${route.destination}: ${reason}` }));
    return { routes: changed, failed: failedPods, routeFailures: [...failures, ...podFailures, ...nodeFailures] };
  }

  /** After the table: no connection begins any more that would have to be forgotten. */
  #forgetTranslated(floating: readonly FloatingAddress[]): void {
    const translated = new Map(floating.map(({ address, target }) => [address, target]));
    const gone = [...this.#translated].filter(([address, target]) => translated.get(address) !== target).map(([address]) => address);
    if (gone.length > 0) this.#options.onFloatingGone?.(gone);
    this.#translated = translated;
  }

  #nodeOf(block: Cidr): RecordKey {
    for (const [key, value] of this.#options.source.records) if (value.kind === "node" && value.blocks.includes(block)) return key;
    for (const [key, value] of this.#options.source.records)
      if (value.kind === "borrowed" && value.addresses.some((address) => hostCidr(address) === block)) return key;
    return `node/${this.#options.settings.nodeName}`;
  }

  #noteProgrammed(pending: readonly PendingCommit[]): void {
    const { clock, observer } = this.#options;
    for (const { committedAtUnixUs, receivedAt } of pending) {
      observer.programmed({
        sinceCommitSeconds: committedAtUnixUs === 0n ? undefined : Math.max(0, clock.wallTime() / 1000 - Number(committedAtUnixUs) / 1e6),
        sinceReceiptSeconds: (clock.now() - receivedAt) / 1000,
      });
    }
  }

  #setProgrammed(state: ProgrammedState): void {
    logFailures(this.#options.log, this.#programmed?.failures ?? [], state.failures);
    this.#programmed = state;
    this.#options.onProgrammed(state);
  }

  async #watchTable(signal: AbortSignal): Promise<void> {
    const { nft } = this.#options;
    await this.#keepWatching("nftables", signal, () =>
      nft.watch(
        TABLE,
        () => {
          this.#table.doubt();
          this.#dirty.mark();
        },
        signal,
      ),
    );
  }

  async #watchRoutes(signal: AbortSignal): Promise<void> {
    const { rtnetlink, observer } = this.#options;
    if (rtnetlink === undefined) return;
    await this.#keepWatching("rtnetlink", signal, () =>
      rtnetlink.watch((change) => {
        if (change.kind !== "route" && this.#interfacesByAddress !== undefined) {
          this.#interfacesByAddress = undefined;
          this.#dirty.mark();
        }
        const isOurs =
          change.kind === "lost" ||
          (change.kind === "route" && change.route.protocol === SEDGE_ROUTE_PROTOCOL) ||
          // One that goes down or away takes its routes along, without a word; one that comes up is of interest to a route that failed.
          (change.kind === "link" && (this.#routes?.mayHaveLost(change.isGone, change.link) === true || (this.#routes?.failed.length ?? 0) > 0)) ||
          (change.kind === "address" && (this.#routes?.failed.length ?? 0) > 0);
        if (!isOurs) return;
        if (change.kind === "route") observer.repaired("routes");
        this.#routes?.doubt();
        this.#dirty.mark();
      }, signal),
    );
  }

  /** A watch that breaks is begun anew, and until then its news counts as lost. */
  async #keepWatching(what: string, signal: AbortSignal, watch: () => Promise<void>): Promise<void> {
    const { log, clock } = this.#options;
    while (!signal.aborted) {
      try {
        await watch();
      } catch (error) {
        log.warn({ err: error, what }, "the kernel's notifications broke off: listening anew");
      }
      if (signal.aborted) return;
      await clock.sleep(1_000, signal);
      this.#table.doubt();
      this.#routes?.doubt();
      this.#dirty.mark();
    }
  }

  async #checkRegularly(signal: AbortSignal): Promise<void> {
    const { clock, checkIntervalMs, log } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(jittered(checkIntervalMs), signal);
      if (signal.aborted) return;
      try {
        if (!(await this.#table.isUntouched())) this.#table.doubt();
      } catch (error) {
        log.warn({ err: error }, "nftables cannot be read");
      }
      this.#routes?.doubt();
      this.#dirty.mark();
    }
  }
}
