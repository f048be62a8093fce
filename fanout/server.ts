/**
 * The fan-out server as one part: source events (of a relay: its parent's records) in, sessions and services out. Wiring only; the program, the bench and
 * the tests start it with what they have for an API and a clock. Above 500 lines, because it is the one place where every part is handed the others; none
 * decides here.
 */
import { randomUUID } from "node:crypto";
import type { UntypedServiceImplementation } from "@grpc/grpc-js";
import type { Registry } from "prom-client";
import { type SourceCounters, zeroCounters } from "../src/datastore/source-counters.ts";
import type { ClusterEvent } from "../src/model/event.ts";
import type { NodeName } from "../src/model/names.ts";
import { RESOURCE_KINDS } from "../src/model/resource.ts";
import type { IpAddress } from "../src/net/ip.ts";
import { CertificateExpiry } from "../src/runtime/certificate-expiry.ts";
import type { Clock } from "../src/runtime/clock.ts";
import type { Report } from "../src/runtime/health.ts";
import type { Logger, LogLevel } from "../src/runtime/log.ts";
import { type Part, runAll } from "../src/runtime/supervisor.ts";
import { seedOf } from "../src/wire/digest.ts";
import type { ListRecordsRequest, ReplicaReport } from "../src/wire/gen/sedge/sync/v1/introspection.ts";
import type { ReportResult } from "../src/wire/gen/sedge/sync/v1/sync.ts";
import { IntrospectionServiceService } from "../src/wire/service.ts";
import { AddressBook } from "./claims/address-book.ts";
import type { AddressStore } from "./claims/address-store.ts";
import { BlockClaims } from "./claims/block-claims.ts";
import { Borrowing } from "./claims/borrowing.ts";
import { EndpointReports } from "./claims/endpoint-reports.ts";
import { Holdings } from "./claims/holdings.ts";
import type { TlsFiles } from "./delivery/certificate-files.ts";
import { DEFAULT_DELIVERY, type Delivery, type DeliveryKind, type PeerStream, type StreamHandler } from "./delivery/delivery.ts";
import { type GrpcDeliveryOptions, type GrpcListen, type IdentityOfCall, startGrpcDelivery } from "./delivery/grpc-delivery.ts";
import { startHttp2Delivery } from "./delivery/http2/http2-delivery.ts";
import { Engine, type RecordComputer } from "./engine.ts";
import { type Identity, requireNode } from "./identity.ts";
import { IdentityLimits, type IdentityRates } from "./identity-limits.ts";
import { Load } from "./load.ts";
import { FanoutMetrics, registerGauges } from "./metrics.ts";
import { PolicyStatuses } from "./policy-status/statuses.ts";
import { Feeds } from "./relay/feeds.ts";
import { passOnClaims, passOnQuestions } from "./relay/pass-on.ts";
import { RelayOrigin } from "./relay/relay-origin.ts";
import { Uplink } from "./relay/uplink.ts";
import { Upstream, type UpstreamOptions } from "./relay/upstream.ts";
import { type ClaimServiceOptions, claimService } from "./services/claim-service.ts";
import { HEALTH_SERVICE, HealthService } from "./services/health-service.ts";
import { Introspection } from "./services/introspection-service.ts";
import { invalidOf, type Origin } from "./services/origin.ts";
import { REFLECTION_SERVICES, ReflectionService } from "./services/reflection-service.ts";
import { replicaReport } from "./services/replica-report.ts";
import type { SessionLimits } from "./session/session.ts";
import { type HelloPlace, MOVES_PER_SECOND, RELAY_ACK_PACE, Sessions } from "./session/sessions.ts";
import { CallError } from "./status.ts";
import type { NodeId } from "./table/node-ids.ts";
import { type Commit, Table } from "./table/table.ts";
import { Choices } from "./tier/choices.ts";
import { Members } from "./tier/members.ts";
import { connectPeer } from "./tier/peer-calls.ts";
import { type Rebalance, Rebalancer, type RebalanceWish, sumOf } from "./tier/rebalancer.ts";
import { Tier } from "./tier/tier.ts";
import { type SourceVersions, type UpstreamPositions, UpstreamVersions } from "./upstream-versions.ts";

export interface FanoutSettings {
  readonly delivery: DeliveryKind;
  readonly heartbeatIntervalMs: number;
  readonly keepaliveMs: number;
  readonly keepaliveTimeoutMs: number;
  readonly helloTimeoutMs: number;
  readonly maxAnswers: number;
  readonly maxWaiting: number;
  readonly staleAfterMs: number;
  readonly drainMs: number;
  /** "host:port" of other servers, where no Service tells of them. */
  readonly peers: readonly string[];
  /** The Service whose endpoints the servers of this cluster are. */
  readonly service?: { readonly namespace: string; readonly name: string } | undefined;
  /** "host:port" at which agents reach this server; where a Service tells, it is known from there. */
  readonly advertise?: string | undefined;
  /** Agents that one server is meant to carry. */
  readonly agentsPerServer: number;
  /** Agents that are asked to move, in a second. */
  readonly movesPerSecond: number;
  /** What one node may ask in a time. */
  readonly identityRates?: Partial<IdentityRates>;
  /** See SessionsOptions. */
  readonly olderLimitMs?: number;
  readonly limits?: Partial<SessionLimits>;
  /** Windows of the flush; tests make them short. */
  readonly flushWindowsMs?: readonly number[];
  /** See EngineOptions.gapMs. */
  readonly commitGapMs?: number;
  /** How often certificate files are read again (ms). */
  readonly certificateCheckMs: number;
}

export const DEFAULT_FANOUT_SETTINGS: FanoutSettings = {
  delivery: DEFAULT_DELIVERY,
  heartbeatIntervalMs: 10_000,
  keepaliveMs: 20_000,
  keepaliveTimeoutMs: 20_000,
  helloTimeoutMs: 10_000,
  maxAnswers: 64,
  maxWaiting: 10_000,
  staleAfterMs: 120_000,
  drainMs: 5_000,
  peers: [],
  agentsPerServer: 5_000,
  movesPerSecond: MOVES_PER_SECOND,
  certificateCheckMs: 10_000,
};

/** A server that watches the API. */
export interface RootOptions {
  readonly clusterUid: string;
  readonly compute: RecordComputer;
  readonly store: AddressStore;
  /** Time since the API was last heard of (ms). */
  readonly upstreamAgeMs: () => number;
  /** Where the source's watches stand, by kind; without it agents are told nothing of the API's history, and any is served. */
  readonly upstreamVersions?: SourceVersions;
  /** Finds out how far the kind's watch really is; asked when an agent is refused because it seems to be behind. Must not reject. */
  readonly catchUp?: (kind: string) => Promise<void>;
  readonly sourceCounters?: () => Readonly<SourceCounters>;
  /** Every event of the source, before compute sees it. */
  readonly onEvent?: (event: ClusterEvent) => void;
  readonly relay?: undefined;
}

/** A server that has its views from another. */
export interface RelayOptions {
  readonly relay: Pick<UpstreamOptions, "parents" | "tls" | "isForAll" | "lingerMs"> & {
    /** Questions of operators that this server answers itself: those about itself, or none. */
    readonly ownQuestions: "about-itself" | "none";
  };
}

export type FanoutServerOptions = (RootOptions | RelayOptions) & {
  readonly serverName: string;
  /** What the tier knows it by, when that is another name. */
  readonly memberName?: string;
  readonly version: string;
  readonly listen: readonly GrpcListen[];
  /** Its certificate, for other servers and the metric of its end; that of the first listener that has one unless given. */
  readonly certificate?: TlsFiles;
  readonly clock: Clock;
  readonly log: Logger;
  readonly registry: Registry;
  readonly settings?: Partial<FanoutSettings>;
  readonly onReport?: (report: Report) => void;
  readonly onCommit?: (commit: Commit) => void;
  /** Processes that serve agents for this server: what an operator asks of it is meant for them too. */
  readonly workers?: { rebalance(wish: RebalanceWish): Promise<Rebalance>; setLogLevel(level: LogLevel): void };
  /** From commit to an agent's acknowledgement that its kernel has it (s), each as it comes. For the bench; the metrics have it in buckets. */
  readonly onProgrammed?: (seconds: number) => void;
};

const SYNC_SERVICE = "sedge.sync.v1.SyncService";
const RELAY_SERVICE = "sedge.sync.v1.RelayService";
const INTROSPECTION_SERVICE = "sedge.sync.v1.IntrospectionService";
const HEALTH = "grpc.health.v1.Health";
const REFLECTION = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
const UPSTREAM_CHECK_MS = 1_000;
/** How long closing the listeners may take after all sessions have ended. */
const STOP_GRACE_MS = 1_000;

/** Nothing more is heard of a stream that was refused before it began. */
const REFUSED_STREAM: StreamHandler = { onMessage: () => undefined, onDrain: () => undefined, onClosed: () => undefined };

export class FanoutServer implements Part {
  readonly name = "fanout";
  /** Names this run of the server. */
  readonly id = randomUUID();
  readonly table: Table;
  readonly sessions: Sessions;
  /** Relays below. */
  readonly feeds: Feeds;
  /** Of a relay: where its table comes from. */
  readonly upstream: Upstream | undefined;
  readonly #engine: Engine | undefined;
  readonly #origin: Origin;
  readonly #uplink: Uplink | undefined;
  readonly members: Members;
  /** What all servers of this cluster know together. */
  readonly tier: Tier;
  readonly #choices: Choices;
  readonly #rebalancer: Rebalancer;
  readonly #load: Load;
  readonly #limits: IdentityLimits;
  /** On how many nodes each policy is in force. */
  readonly policies: PolicyStatuses;
  readonly #options: FanoutServerOptions;
  readonly #settings: FanoutSettings;
  readonly #metrics: FanoutMetrics;
  readonly #book = new AddressBook();
  readonly #unary: GrpcDeliveryOptions["unary"];
  readonly #reports: EndpointReports | undefined;
  /** One for each listener with a certificate. */
  readonly #expiries: readonly CertificateExpiry[];
  readonly #introspection: Introspection;
  readonly #health = new HealthService([SYNC_SERVICE, RELAY_SERVICE, INTROSPECTION_SERVICE]);
  /** Of a relay: who waits for the result of a node's reports. */
  readonly #replyTo = new Map<NodeId, (result: ReportResult) => void>();
  #delivery: Delivery | undefined;
  #isDraining = false;

  constructor(options: FanoutServerOptions) {
    this.#options = options;
    this.#settings = { ...DEFAULT_FANOUT_SETTINGS, ...options.settings };
    const { clock, log, registry } = options;
    const { heartbeatIntervalMs, helloTimeoutMs, maxAnswers, maxWaiting, flushWindowsMs, commitGapMs, peers, olderLimitMs, limits } = this.#settings;
    const root = options.relay === undefined ? options : undefined;
    const sourceVersions = root?.upstreamVersions === undefined ? undefined : new UpstreamVersions({ kinds: RESOURCE_KINDS, source: root.upstreamVersions });
    this.#metrics = new FanoutMetrics(registry);
    const rates = this.#settings.identityRates;
    this.#limits = new IdentityLimits({
      now: () => clock.now(),
      onRefused: (what) => this.#metrics.limited(what),
      ...(rates === undefined ? {} : { rates }),
    });
    const { service, advertise, agentsPerServer, movesPerSecond } = this.#settings;
    this.members = new Members({ serverName: options.memberName ?? options.serverName, service, advertise, peers });
    this.#choices = new Choices(this.members);
    this.#load = new Load({ clock, clients: () => this.sessions.clients.size, capacity: agentsPerServer });
    this.table = new Table({ seed: root === undefined ? 0n : seedOf(root.clusterUid) });
    this.#reports =
      root === undefined ? undefined : new EndpointReports({ book: this.#book, store: root.store, onWrite: (outcome) => this.#metrics.blockWritten(outcome) });
    this.upstream = options.relay === undefined ? undefined : this.#makeUpstream(options.relay);
    const { upstream } = this;
    const versions: UpstreamPositions | undefined = upstream?.versions ?? sourceVersions;
    this.feeds = new Feeds({
      id: this.id,
      table: this.table,
      serverName: options.serverName,
      clock,
      log: log.child({ component: "relays" }),
      heartbeatIntervalMs,
      helloTimeoutMs,
      path: () => upstream?.path ?? [this.id],
      epoch: () => this.epoch,
      refusal: (hello) => this.sessions.refusalOf(hello),
      versions,
      upstream: () => this.#upstream(),
      syncStatus: () => this.#origin.status,
      hold: upstream === undefined ? holdAtOnce : (node, onHeld) => upstream.hold(node, onHeld),
      report: (report) => this.#takeReport(report),
      sent: (kind, bytes) => this.#metrics.sent(kind, bytes),
      ended: (feed, reason, error) => {
        const fields = { relay: feed.name, address: feed.stream.address, reason, detail: error?.message };
        if (error?.cause !== undefined && reason === "internal") log.error({ ...fields, err: error.cause }, "relay session failed");
        else if (reason === "closed" || reason === "replaced" || reason === "draining") log.info(fields, "relay session ended");
        else log.warn(fields, "relay session refused");
      },
      onNode: () => this.#uplink?.touch(),
    });
    this.sessions = new Sessions({
      table: this.table,
      serverName: options.serverName,
      epoch: this.epoch,
      clock,
      relayed: this.feeds.nodes,
      ...(upstream === undefined
        ? {}
        : {
            hold: (node, onHeld) => upstream.hold(node, onHeld),
            refuse: (hello) => this.#refusalOfRelay(upstream, hello),
            onClient: () => this.#uplink?.touch(),
            ackPace: RELAY_ACK_PACE,
          }),
      log: log.child({ component: "sessions" }),
      heartbeatIntervalMs,
      helloTimeoutMs,
      answerStallMs: 6 * heartbeatIntervalMs,
      admission: { maxAnswers, maxWaiting },
      targetsOf: (node) => this.#choices.targetsOf(node),
      serversFor: (node) => this.#choices.listFor(node),
      movesPerSecond,
      ...(versions === undefined ? {} : { versions }),
      ...(olderLimitMs === undefined ? {} : { olderLimitMs }),
      ...(root?.catchUp === undefined ? {} : { onOlder: (kind) => void root.catchUp?.(kind).then(() => this.#engine?.refreshVersions()) }),
      ...(limits === undefined ? {} : { limits }),
      ...(flushWindowsMs === undefined ? {} : { flushWindowsMs }),
      upstream: () => this.#upstream(),
      observer: {
        sent: (kind, bytes, messages) => this.#metrics.sent(kind, bytes, messages),
        delivered: (seconds, count) => this.#metrics.delivered(seconds, count),
        received: (seconds) => this.#metrics.received(seconds),
        programmed: (seconds) => {
          this.#metrics.programmed(seconds);
          options.onProgrammed?.(seconds);
        },
        ended: (session, reason, error) => {
          this.#metrics.sessionEnded(reason);
          const fields = { node: session.node?.name, address: session.stream.address, reason };
          if (error?.cause !== undefined && reason === "internal") log.error({ ...fields, err: error.cause }, "session failed");
          else if (reason === "broken-message" || reason === "wrong-identity" || reason === "hello-overdue")
            log.warn({ ...fields, detail: error?.message }, "session refused");
          else log.debug(fields, "session ended");
        },
      },
      report: (session, report) => {
        if (session.node === undefined) return;
        const refusal = this.#limits.refusal("reports", session.stream.identity);
        if (refusal === undefined) this.#takeReport({ session, node: session.node.name, report, reply: (result) => session.reply(result) });
        else session.reply({ block: report.block, generation: report.generation, error: refusal.message, retry: true, ended: [], superseded: false });
      },
    });
    this.#engine = root === undefined ? undefined : this.#makeEngine(root, { sourceVersions, commitGapMs });
    this.#origin = this.#engine ?? new RelayOrigin(upstream ?? unreachable());
    this.#uplink =
      upstream === undefined ? undefined : new Uplink({ table: this.table, clients: () => this.sessions.everyClient(), clock, refreshMs: heartbeatIntervalMs });
    this.#unary =
      root === undefined
        ? passOnClaims({ connection: () => this.upstream?.connection, requireNode: (identity, node) => this.#requireNode(identity, node) })
        : claimService({
            book: this.#book,
            ...claimsOf(root.store, { book: this.#book, clock, floatingNodeOf: (address) => root.compute.floatingNodeOf?.(address) }),
            requireNode: (identity, node) => {
              this.#requireNode(identity, node);
              const refusal = this.#limits.refusal("claims", identity);
              if (refusal !== undefined) throw refusal;
            },
            refusal: () => this.#refusal(),
            onClaim: (result) => this.#metrics.claimed(result),
            onError: (error) => log.error({ err: error }, "call failed"),
          });
    this.#rebalancer = new Rebalancer({
      members: this.members,
      choices: this.#choices,
      sessions: this.sessions,
      clock,
      log: log.child({ component: "rebalance" }),
      movesPerSecond,
      onAsked: (agents) => this.#metrics.askedToMove(agents),
    });
    this.policies = new PolicyStatuses({
      serverName: options.serverName,
      table: this.table,
      sessions: this.sessions,
      engine: this.#origin,
      versions: sourceVersions,
      others: (policy) => this.tier.lag(policy),
    });
    this.#introspection = new Introspection({
      serverName: options.serverName,
      version: options.version,
      epoch: () => this.epoch,
      clusterUid: root?.clusterUid ?? "",
      table: this.table,
      sessions: this.sessions,
      policies: this.policies,
      origin: this.#origin,
      clock,
      log: options.log,
      upstream: () => this.#upstream(),
      report: () => this.#replicaReport(),
      servers: () =>
        this.members.list.map(({ name, addresses, zone, isReady, isSelf }) => ({ name, addresses: [...addresses], zone, ready: isReady, self: isSelf })),
      rebalance: (wish) => this.#rebalance(wish),
      onLogLevel: (level) => options.workers?.setLogLevel(level),
      tierStatuses: (objects) => this.tier.objectStatuses(objects),
    });
    this.tier = new Tier({
      members: this.members,
      clock,
      log: log.child({ component: "tier" }),
      connect: (address) => connectPeer(address, options.certificate ?? options.listen.find(({ tls }) => tls !== undefined)?.tls),
      ownReport: () => this.#replicaReport(),
      ownStatuses: (objects, isElsewhere) => this.#introspection.objectStatuses(objects, isElsewhere),
    });
    const certificates = options.certificate === undefined ? options.listen.flatMap(({ tls }) => tls ?? []) : [options.certificate];
    this.#expiries = certificates.map(({ cert }) => new CertificateExpiry({ file: cert, clock, log: options.log }));
    this.#registerGauges(registry);
  }

  /** Of the root's run: revisions are comparable within it, in the whole tier. */
  get epoch(): string {
    return this.upstream?.epoch ?? this.id;
  }

  /** Of a root; throws TypeError for a relay, which computes nothing. */
  get engine(): Engine {
    if (this.#engine === undefined) throw new TypeError("a relay has no engine");
    return this.#engine;
  }

  get isInSync(): boolean {
    return this.#origin.isInSync;
  }

  /** Where the source delivers. */
  readonly sink = (events: readonly ClusterEvent[]): void => this.engine.sink(events);

  /** Where it listens; empty before `listen`. */
  get addresses(): readonly { readonly address: string; readonly isSecure: boolean }[] {
    return this.#delivery?.addresses ?? [];
  }

  /** Opens the listeners; until the source is in sync, sessions are refused with UNAVAILABLE. */
  async listen(): Promise<void> {
    const { log, listen } = this.#options;
    const { delivery, keepaliveMs, keepaliveTimeoutMs } = this.#settings;
    const reflection = new ReflectionService([SYNC_SERVICE, RELAY_SERVICE, INTROSPECTION_SERVICE, HEALTH, ...REFLECTION]);
    const options: GrpcDeliveryOptions = {
      listen,
      accept: (stream) => this.#accept(stream),
      acceptRelay: (stream) => this.feeds.accept(stream),
      unary: this.#unary,
      services: [
        { definition: IntrospectionServiceService, implement: (identityOf) => this.#questions(identityOf) },
        { definition: HEALTH_SERVICE, implement: () => this.#health.implementation() },
        ...REFLECTION_SERVICES.map((definition) => ({ definition, implement: () => reflection.implementation() })),
      ],
      keepaliveMs,
      keepaliveTimeoutMs,
      onStreamError: (error) => log.error({ err: error }, "session failed"),
    };
    this.#delivery =
      delivery === "http2" ? await startHttp2Delivery({ ...options, onAbuse: (abuse) => this.#metrics.refusedPeer(abuse) }) : await startGrpcDelivery(options);
    log.info({ delivery, addresses: this.addresses.map(({ address }) => address) }, "listening");
  }

  /** Serves until the signal aborts; then asks the clients to move, waits, and closes. */
  async run(signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    if (this.#delivery === undefined) await this.listen();
    const inner = new AbortController();
    /** What must not act while the server drains. */
    const active = new AbortController();
    const parts = [
      this.upstream ?? this.engine,
      { name: "heartbeats", run: (stop: AbortSignal) => this.sessions.run(stop) },
      { name: "relays", run: (stop: AbortSignal) => this.feeds.run(stop) },
      { name: "readiness", run: (stop: AbortSignal) => this.#watchUpstream(stop) },
      { name: "certificates", run: (stop: AbortSignal) => this.#watchCertificates(stop) },
      ...this.#expiries,
      this.#load,
      { name: this.#rebalancer.name, run: (stop: AbortSignal) => this.#rebalancer.run(AbortSignal.any([stop, active.signal])) },
    ];
    const running = runAll(parts, { signal: inner.signal, log });
    const stopped = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    try {
      await Promise.race([stopped, running]);
      this.#isDraining = true;
      active.abort();
      this.#report();
      const { drainMs, peers } = this.#settings;
      await Promise.all([this.sessions.drain(drainMs), this.feeds.drain(drainMs, peers)]);
    } finally {
      inner.abort();
      await this.close();
    }
    await running;
  }

  /** Closes at once. `run` does it at its end. */
  async close(): Promise<void> {
    this.#introspection.close();
    this.tier.close();
    this.#health.close();
    await this.#delivery?.stop(STOP_GRACE_MS);
  }

  /** Asks those of its agents to move whose first choice is another server. */
  rebalance(wish: RebalanceWish): Rebalance {
    return this.#rebalancer.rebalance(wish);
  }

  /** Counts what the leader's writer did. */
  policyStatusWritten(outcome: "written" | "gone" | "failed"): void {
    this.#metrics.statusWritten(outcome);
  }

  /** Uses certificate files as they are now; the old ones stay when that does not work. */
  reloadCertificates(): void {
    const { log } = this.#options;
    try {
      if (this.#delivery?.reloadCertificates() === true) log.info("new certificates are in use");
    } catch (error) {
      log.warn({ err: error }, "the certificate files cannot be used: the old ones stay");
    }
  }

  async #rebalance(wish: RebalanceWish): Promise<Rebalance> {
    const [own, others] = [this.rebalance(wish), await this.#options.workers?.rebalance(wish)];
    return others === undefined ? own : sumOf([own, others]);
  }

  async #watchCertificates(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#options.clock.sleep(this.#settings.certificateCheckMs, signal);
      if (!signal.aborted) this.reloadCertificates();
    }
  }

  async #watchUpstream(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#origin.refreshVersions();
      this.#report();
      await this.#options.clock.sleep(UPSTREAM_CHECK_MS, signal);
    }
  }

  #onCommit(commit: Commit, tookMs: number, sinceEventMs?: number): void {
    this.#metrics.committed(tookMs / 1000, sinceEventMs === undefined ? undefined : sinceEventMs / 1000);
    this.sessions.publish(commit);
    this.feeds.publish(commit);
    this.#introspection.publish(commit);
    this.#options.onCommit?.(commit);
    this.#options.log.debug({ revision: commit.revision, records: commit.touched.length, tookMs }, "commit");
  }

  #onInSync(): void {
    this.#options.log.info({ revision: this.table.revision, records: this.table.size }, "in sync: serving");
    this.sessions.serve();
    this.#report();
  }

  /**
   * Ready: agents that connect are served. That needs the whole cluster once; it does not need the API afterwards, whatever the source's status. A server that
   * lost its API, or that lists everything anew, has the best view that there is and says how old it is; were it not ready, all replicas would leave
   * their Service together, just when the API is in trouble.
   */
  #report(): void {
    const isReady = this.#origin.isInSync && !this.#isDraining;
    this.#health.set(isReady);
    const { ageMs, isStale } = this.#upstream();
    const detail = this.#isDraining
      ? "draining"
      : `${this.#origin.status}${this.upstream !== undefined && !this.upstream.isLive ? ", no parent answers: what is held is served" : ""}${isStale ? `, stale: nothing heard of the API for ${Math.round(ageMs / 1000)} s` : ""}`;
    this.#options.onReport?.({ live: true, ready: isReady, detail });
  }

  #replicaReport(): ReplicaReport {
    const { clock } = this.#options;
    const secondsLeft = Math.min(...this.#expiries.map((expiry) => expiry.secondsLeft()));
    return replicaReport({
      table: this.table,
      sessions: this.sessions,
      clock,
      status: () => this.#introspection.status(),
      lagMs: (session) => this.#introspection.lagMs(session),
      isDraining: () => this.#isDraining,
      load: () => this.#load.ratio,
      clusterNodes: () => this.members.nodeCount,
      certificateEndsAt: () => (Number.isFinite(secondsLeft) ? clock.wallTime() + secondsLeft * 1_000 : undefined),
    });
  }

  #accept(stream: PeerStream): StreamHandler {
    const refusal = this.#limits.refusal("streams", stream.identity);
    if (refusal === undefined) return this.sessions.accept(stream);
    stream.end(refusal);
    return REFUSED_STREAM;
  }

  #refusal(): CallError | undefined {
    if (this.#isDraining) return new CallError("draining", "the server is stopping");
    return this.#origin.isInSync ? undefined : new CallError("not-in-sync", "the server does not have the whole cluster yet");
  }

  #upstream(): { readonly ageMs: number; readonly isStale: boolean } {
    if (this.upstream !== undefined) return this.upstream.upstream();
    const ageMs = this.#options.relay === undefined ? this.#options.upstreamAgeMs() : 0;
    return { ageMs, isStale: ageMs > this.#settings.staleAfterMs };
  }

  #makeEngine(root: RootOptions, { sourceVersions, commitGapMs }: { sourceVersions: UpstreamVersions | undefined; commitGapMs: number | undefined }): Engine {
    return new Engine({
      compute: root.compute,
      table: this.table,
      clock: this.#options.clock,
      onEvent: (event) => {
        this.#book.apply(event);
        this.members.apply(event);
        root.onEvent?.(event);
      },
      onCommit: (commit, tookMs, sinceEventMs) => this.#onCommit(commit, tookMs, sinceEventMs),
      onInSync: () => this.#onInSync(),
      ...(sourceVersions === undefined ? {} : { versions: sourceVersions }),
      ...(commitGapMs === undefined ? {} : { gapMs: commitGapMs }),
    });
  }

  #makeUpstream(relay: RelayOptions["relay"]): Upstream {
    const { serverName, version, clock, log } = this.#options;
    return new Upstream({
      ...relay,
      table: this.table,
      name: serverName,
      version,
      id: this.id,
      staleAfterMs: this.#settings.staleAfterMs,
      clock,
      log: log.child({ component: "upstream" }),
      below: () => this.feeds.below,
      onEpoch: (epoch) => {
        const clients = this.sessions.clients.size;
        if (clients > 0) log.info({ epoch, clients }, "another run of the root is above: what agents have is compared anew, in the streams that they have");
        const error = new CallError("new-epoch", "this relay has another run of the root above it: come again, your view is compared by digests", {
          retryAfterMs: 100,
        });
        this.sessions.restart(epoch, error);
        this.feeds.cutAll(error);
      },
      onCommit: (commit) => {
        this.#onCommit(commit, 0);
        this.#uplink?.touch();
      },
      onInSync: () => this.#onInSync(),
      onParent: (send) => {
        if (send === undefined) this.#uplink?.end();
        else this.#uplink?.begin(send);
        this.#report();
      },
      onAdvance: () => this.#uplink?.touch(),
      onReportResult: (node, result) => this.#replyTo.get(node)?.(result),
    });
  }

  /** A report of a node's block: written to the API, or passed on. */
  #takeReport(options: Parameters<EndpointReports["take"]>[0]): void {
    if (this.#reports !== undefined) {
      this.#reports.take(options);
      return;
    }
    const node = this.table.nodes.findId(options.node);
    if (node === undefined || this.upstream === undefined) return;
    this.#replyTo.set(node, options.reply);
    // What the parent knows of the node must be there before its report.
    this.#uplink?.flush();
    this.upstream.report(node, options.report);
  }

  /** A relay serves what it has; not a node that has come further elsewhere, nor while the parent is away one that it does not hold. */
  #refusalOfRelay(upstream: Upstream, { node, epoch, revision }: HelloPlace): CallError | undefined {
    if (epoch === upstream.epoch && revision > this.table.revision)
      return new CallError("older-upstream", `this relay is at revision ${this.table.revision}, ${node} has ${revision}`, { retryAfterMs: 500 });
    return undefined;
  }

  /** Throws CallError("wrong-identity") unless the peer may act for the node: it is the node, or a relay that serves it. */
  #requireNode(identity: Identity, node: string): void {
    const id = identity.kind === "relay" ? this.table.nodes.findId(node as NodeName) : undefined;
    if (identity.kind === "relay" && id !== undefined && this.feeds.serves(identity.name, id)) return;
    requireNode(identity, node);
  }

  /** A relay passes on what only the root can know. */
  #questions(identityOf: IdentityOfCall): UntypedServiceImplementation {
    const own = this.#introspection.implementation(identityOf);
    const relay = this.#options.relay;
    if (relay === undefined) return own;
    return passOnQuestions({
      connection: () => this.upstream?.connection,
      identityOf,
      own,
      isOwn: (method, request) => relay.ownQuestions === "about-itself" && isAboutItself(method, request, (node) => this.upstream?.isHeld(node) === true),
    });
  }

  #registerGauges(registry: Registry): void {
    const { sessions, table } = this;
    const origin = this.#origin;
    registerGauges(registry, {
      clients: () => sessions.clients.size,
      clientsLevel: () => [...sessions.clients].filter((session) => session.isLevel).length,
      relays: () => this.feeds.feeds.size,
      relayedClients: () => this.feeds.nodes.size,
      relayedClientsLevel: () => [...this.feeds.nodes.values()].filter((client) => client.isLevel).length,
      heldNodes: () => this.upstream?.heldNodes ?? Number.NaN,
      hasParent: () => (this.upstream === undefined ? Number.NaN : this.upstream.isLive ? 1 : 0),
      records: () => table.countByKind,
      revision: () => Number(table.revision),
      isInSync: () => origin.isInSync,
      upstreamAgeMs: () => this.#upstream().ageMs,
      certificateSecondsLeft: () => (this.#expiries.length === 0 ? Number.NaN : Math.min(...this.#expiries.map((one) => one.secondsLeft()))),
      invalidObjects: () => invalidOf(origin).length,
      answering: () => sessions.admission.answering,
      waiting: () => sessions.admission.waiting,
      reportBacklog: () => this.#reports?.backlog ?? 0,
      framesMade: () => sessions.frames.counts.made,
      framesShared: () => sessions.frames.counts.shared,
      bytesInFlight: () => sessions.bytesInFlight,
      packedBytes: () => sessions.packed.bytes,
      packedMade: () => sessions.packed.counts.made,
      packedShared: () => sessions.packed.counts.shared,
      nodes: () => table.nodes.size,
      load: () => this.#load.ratio,
      busy: () => this.#load.busy,
      servers: () => this.members.ready.length,
      source: (this.#options.relay === undefined ? this.#options.sourceCounters : undefined) ?? zeroCounters,
    });
  }
}

const holdAtOnce = (_: NodeName, onHeld: () => void): (() => void) => {
  onHeld();
  return () => undefined;
};

/** What gives a node blocks and addresses. */
function claimsOf(
  store: AddressStore,
  { book, clock, floatingNodeOf }: { readonly book: AddressBook; readonly clock: Clock; readonly floatingNodeOf: (address: IpAddress) => NodeName | undefined },
): Pick<ClaimServiceOptions, "claims" | "borrowing" | "holdings"> {
  const borrowing = new Borrowing({ book, store, clock, newId: randomUUID, floatingNodeOf });
  return {
    borrowing,
    holdings: new Holdings({ book, store, newId: randomUUID }),
    claims: new BlockClaims({ book, store, borrowing, newId: randomUUID, floatingNodeOf }),
  };
}

function unreachable(): never {
  throw new TypeError("a server has an engine or a parent");
}

/** Questions about a relay itself, and about views that it holds. */
function isAboutItself(method: string, request: unknown, isHeld: (node: NodeName) => boolean): boolean {
  if (["getStatus", "listClients", "listClientPages", "getReplicaReport", "setLogLevel"].includes(method)) return true;
  if (method !== "listRecords" && method !== "watchRecords") return false;
  const { node } = request as ListRecordsRequest;
  return node === "" || isHeld(node as NodeName);
}
