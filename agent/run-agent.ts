/**
 * The agent as a whole: which part is handed which. main.ts gives it settings, a log and a signal; tests do the same.
 *
 * Order: the state directory is locked and read, then the kernel is opened, then the parts run. Stopping goes backwards and leaves the kernel as it is.
 */
import { join } from "node:path";
import { collectDefaultMetrics, Registry } from "prom-client";
import type { NodeName } from "../src/model/names.ts";
import type { Loans, Pool } from "../src/model/record.ts";
import type { IpAddress } from "../src/net/ip.ts";
import { CertificateExpiry } from "../src/runtime/certificate-expiry.ts";
import { type Clock, systemClock } from "../src/runtime/clock.ts";
import { Health } from "../src/runtime/health.ts";
import { parseHostAndPort } from "../src/runtime/host-port.ts";
import { serveHealth, serveMetrics } from "../src/runtime/http.ts";
import { findLogLevel, type Logger, setLogLevel } from "../src/runtime/log.ts";
import { type Part, runAll } from "../src/runtime/supervisor.ts";
import type { ViewDelta } from "../src/wire/view.ts";
import { readBootTime } from "./addresses/boot-time.ts";
import { Journal, JournalError } from "./addresses/journal.ts";
import { DiskJournalFiles } from "./addresses/journal-files.ts";
import { createAddressManager } from "./addresses/manager.ts";
import { poolsOf } from "./addresses/node-pools.ts";
import { nodesByAddress } from "./addresses/routed-elsewhere.ts";
import { DeniedFlows } from "./apply/denied-flows.ts";
import { dryNftables } from "./apply/dry-nftables.ts";
import { prepareHost } from "./apply/host-settings.ts";
import { Reconciler } from "./apply/reconciler.ts";
import type { AgentConfig } from "./config.ts";
import { ConntrackDriver } from "./drivers/conntrack/driver.ts";
import { NftDriver } from "./drivers/nftables/driver.ts";
import { RtnetlinkDriver } from "./drivers/rtnetlink/driver.ts";
import { Enrollment } from "./enroll/enrollment.ts";
import { AgentMetrics, registerGauges, registerPolicyCounters } from "./metrics.ts";
import { failsafePorts } from "./plan/failsafe.ts";
import { createPodManager } from "./pods/manager.ts";
import { createPodLinks } from "./pods/pod-link.ts";
import { PodWishes } from "./pods/pod-wishes.ts";
import { Shaper } from "./pods/shaper.ts";
import { UnconnectedPodLinks } from "./pods/unconnected-pod-links.ts";
import { usedPodAddresses } from "./pods/used-addresses.ts";
import { CniService } from "./socket/cni-service.ts";
import { DeleteQueue } from "./socket/delete-queue.ts";
import { SocketServer } from "./socket/server.ts";
import { lockState } from "./state-lock.ts";
import { type AgentStatus, agentStatus } from "./status/status.ts";
import { Acknowledgements } from "./sync/acknowledgements.ts";
import { ClaimCalls } from "./sync/claim-calls.ts";
import { dialer, resolveName } from "./sync/dial.ts";
import { Freshness } from "./sync/freshness.ts";
import { KnownServersFile, loadKnownServers } from "./sync/known-servers.ts";
import { ReportQueue } from "./sync/report-queue.ts";
import { ServerBook } from "./sync/server-book.ts";
import { SyncClient } from "./sync/sync-client.ts";
import { DecodedView } from "./view/decoded-view.ts";
import { StateError, ViewStore } from "./view/store.ts";
import { WrittenView } from "./view/written-view.ts";

export const VERSION = "sedge-agent 0.1.0";

export interface RunAgentOptions {
  readonly config: AgentConfig;
  readonly log: Logger;
  readonly signal: AbortSignal;
  readonly clock?: Clock;
  /** Called when everything is listening, with the ports that were chosen. */
  readonly onStarted?: (facts: { readonly metricsPort: number; readonly healthPort: number; readonly status: () => AgentStatus }) => void;
}

const ACK_COALESCE_MS = 5;
const HEALTH_INTERVAL_MS = 1_000;

/** Settles when the signal aborted and all has ended; rejects with what broke: StateError, HostSettingError, SystemCallError, … */
export async function runAgent(options: RunAgentOptions): Promise<void> {
  const { stateDir } = options.config;
  const lock = await fromState(stateDir, () => lockState(stateDir));
  const closers: (() => Promise<void> | void)[] = [];
  try {
    await runLocked(options, closers);
  } finally {
    for (const close of closers.reverse()) await close();
    await lock.release();
  }
}

/** What the agent has of the kernel; undefined without dataplane. */
interface Kernel {
  readonly nft: NftDriver;
  readonly rtnetlink: RtnetlinkDriver;
  readonly conntrack: ConntrackDriver;
}

async function runLocked({ config, log, signal, clock = systemClock, onStarted }: RunAgentOptions, closers: (() => Promise<void> | void)[]): Promise<void> {
  const { nodeName: node, interfacePrefix } = config;
  const store = await fromState(config.stateDir, () => ViewStore.open({ directory: config.stateDir, node }));
  closers.push(() => store.close());
  for (const problem of store.problems) log.warn({ problem }, "the stored view was not whole");
  const decoded = DecodedView.restore(store.view, store.kept);
  const written = new WrittenView(store, decoded);
  const time = await readBootTime();
  const journal = await fromState(config.stateDir, async () => Journal.open({ files: await DiskJournalFiles.open(config.stateDir), node, time }));
  for (const problem of journal.problems) log.warn({ problem }, "the stored addresses were not whole");
  const kernel = await openKernel(config, log, closers);

  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const metrics = new AgentMetrics(registry);
  const freshness = new Freshness({ clock, staleAfterMs: config.staleAfterMs });
  const acknowledgements = new Acknowledgements({ coalesceMs: ACK_COALESCE_MS, clock: systemClock });
  const reports = new ReportQueue({ clock, log: log.child({ component: "reports" }) });

  const reconciler = new Reconciler({
    nft: kernel?.nft ?? dryNftables(),
    rtnetlink: kernel?.rtnetlink,
    source: written,
    settings: {
      nodeName: node,
      interfacePrefix,
      endpointToHostAction: config.endpointToHostAction,
      logPrefix: config.logPrefix,
      failsafePorts: failsafePorts(config.failsafeInbound, config.failsafeOutbound),
    },
    clock,
    log: log.child({ component: "reconcile" }),
    observer: metrics,
    onProgrammed({ epoch, revision, failures }) {
      if (epoch === store.view.epoch) acknowledgements.programmed(revision, failures);
    },
    onPolicyChanged: () => deniedFlows?.policyChanged(),
    onFloatingGone: (gone) => {
      try {
        kernel?.conntrack.deleteByAddress({ addresses: new Set(gone) });
      } catch (error) {
        log.warn({ err: error, addresses: gone }, "connections to floating addresses that went cannot be cut: they live until they end");
      }
    },
    checkIntervalMs: config.checkIntervalMs,
  });
  const deniedFlows =
    kernel === undefined || !config.cutDenied
      ? undefined
      : new DeniedFlows({
          conntrack: kernel.conntrack,
          source: decoded,
          endpoints: () => reconciler.endpoints.list(),
          hostAddresses: () => new Set(kernel.rtnetlink.addresses().map(({ address }) => address)),
          clock,
          log: log.child({ component: "connections" }),
          onCut: (connections) => metrics.connectionsCut(connections),
        });

  const known = await loadKnownServers(config.stateDir);
  if (known.problem !== undefined) log.warn({ problem: known.problem }, "the stored list of servers cannot be used");
  const book = new ServerBook({ node, given: config.server, order: config.serverOrder });
  book.tell(known.servers);
  const knownServersFile = new KnownServersFile({
    directory: config.stateDir,
    onProblem: (error) => log.warn({ err: error, directory: config.stateDir }, "the list of servers cannot be written: a restart begins with an older one"),
  });
  const sync = new SyncClient({
    node,
    version: VERSION,
    book,
    dial: dialer(tlsFiles(config)),
    resolve: resolveName,
    onServers: (servers) => void knownServersFile.save(servers),
    onReconnected: (seconds) => metrics.reconnected(seconds),
    view: store.view,
    onCommit: (delta, isAnswer) => takeCommit(delta, isAnswer),
    onConfirmed() {
      written.advance();
      reconciler.viewConfirmed();
    },
    onRepair: () => metrics.viewRepaired(),
    onSessionEnd: () => metrics.sessionEnded(),
    acknowledgements,
    reports,
    freshness,
    clock,
    log: log.child({ component: "sync" }),
  });

  // Asked for each address that is given: not looked for among all records each time.
  let knownPools: readonly Pool[] | undefined;
  const pools = (): readonly Pool[] => (knownPools ??= poolsOf(node, decoded.records));
  let knownElsewhere: ReadonlyMap<IpAddress, NodeName> | undefined;
  const elsewhere = (): ReadonlyMap<IpAddress, NodeName> => (knownElsewhere ??= nodesByAddress(decoded.records));
  const wishes = new PodWishes({
    record: (key) => {
      const value = decoded.records.get(`endpoint/${key}`);
      return value?.kind === "endpoint" ? value : undefined;
    },
    clock,
  });

  /** Append, then let it be programmed. A disk that refuses does not keep policy from the kernel. */
  async function takeCommit(delta: ViewDelta, isAnswer: boolean): Promise<void> {
    const receivedAt = clock.now();
    const change = decoded.decode(delta);
    for (const [key, value] of change.changes)
      if (value !== undefined && value.value === undefined) log.error({ key, reason: value.problem }, "a record is not understood: its last good value stays");
    try {
      await store.append({ delta, isComplete: isAnswer && delta.isDigestRight, kept: change.kept, unkept: change.unkept });
    } catch (error) {
      metrics.storeFailed();
      log.error({ err: error, directory: config.stateDir }, "the view cannot be written to disk: a restart would begin with an older one");
    }
    decoded.apply(change);
    written.advance();
    knownPools = undefined;
    const keys = [...change.changes.keys()];
    const concerns = (kind: string): boolean => keys.some((key) => key.startsWith(kind));
    if (isAnswer || concerns("borrowed/")) knownElsewhere = undefined;
    wishes.changed();
    if (concerns("loans/")) addresses.loansChanged().catch((error: unknown) => log.warn({ err: error }, "what other nodes ask for could not be answered"));
    reconciler.viewChanged({ committedAtUnixUs: isAnswer ? 0n : delta.committedAtUnixUs, receivedAt, keys });
    if (concerns("endpoint/")) shaper?.apply();
  }

  const addresses = createAddressManager({
    journal,
    claims: new ClaimCalls({ node, connection: () => sync.connection }),
    reports,
    clock,
    log: log.child({ component: "addresses" }),
    pools: () => (written.isComplete ? pools() : undefined),
    usedAddresses: () => (kernel === undefined ? [] : usedPodAddresses(kernel.rtnetlink, interfacePrefix)),
    interfacePrefix,
    nodeOf: (address) => elsewhere().get(address),
    loans: () => [...decoded.records.values()].filter((value): value is Loans => value.kind === "loans"),
  });
  const shaper =
    kernel === undefined
      ? undefined
      : new Shaper({
          kernel: kernel.rtnetlink,
          endpoints: () => reconciler.endpoints.list(),
          limitsOf(podKey, podUid) {
            const record = decoded.records.get(`endpoint/${podKey}`);
            // A record of another uid is that of a pod before under the same name.
            return record?.kind !== "endpoint" || (podUid !== undefined && record.uid !== "" && record.uid !== podUid) ? undefined : record.limits;
          },
          isReady: () => written.isComplete && reconciler.programmed !== undefined,
          clock,
          log: log.child({ component: "shaper" }),
        });
  const pods = createPodManager({
    addresses,
    wishes,
    links: kernel === undefined ? new UnconnectedPodLinks(addresses.attachments()) : createPodLinks(kernel.rtnetlink),
    endpoints: reconciler.endpoints,
    clock,
    log: log.child({ component: "pods" }),
    interfacePrefix,
    mtu: config.mtu,
    policyWaitMs: config.policyWaitMs,
    withoutPolicy: config.withoutPolicy,
    onConnected: () => shaper?.apply(),
    forgetConnections: (gone) => void kernel?.conntrack.deleteByAddress({ addresses: new Set(gone) }),
  });
  const cni: CniService = new CniService({ pods, addresses, limitation: () => limitation(reconciler), settleDelete: (key) => deletes.settle(key) });
  const deletes = new DeleteQueue({
    directory: config.cniQueueDir ?? join(config.stateDir, "cni-queue"),
    clock,
    log: log.child({ component: "socket" }),
    del: (request) => cni.answer("del", request, signal),
  });
  const status = (): AgentStatus =>
    agentStatus({
      node,
      version: VERSION,
      dataplane: kernel === undefined ? "none" : "nftables",
      freshness: () => freshness.report(),
      servers: () => book.candidates.map(({ address }) => address),
      view: () => ({ isComplete: store.isComplete, epoch: store.view.epoch, revision: store.view.revision, size: store.view.size, digest: store.view.digest }),
      programmed: () => reconciler.programmed,
      kernelError: () => reconciler.lastError,
      localEndpoints: () => reconciler.endpoints.list().length,
      unconfirmedReports: () => reports.size,
    });
  const tls = tlsFiles(config);
  const expiry = tls === undefined ? undefined : new CertificateExpiry({ file: tls.cert, clock, log: log.child({ component: "certificate" }) });
  const enrollment =
    tls === undefined || config.enrollServer.length === 0
      ? undefined
      : new Enrollment({
          node,
          servers: config.enrollServer,
          authorityFile: tls.ca,
          tokenFile: config.enrollTokenFile,
          file: tls.cert,
          clock,
          log: log.child({ component: "enrollment" }),
          onOutcome: (outcome) => metrics.enrolled(outcome),
        });
  registerGauges(registry, {
    viewRecords: () => store.view.size,
    endpoints: () => reconciler.endpoints.list().length,
    failures: () => reconciler.programmed?.failures.length ?? 0,
    programmedRevision: () => Number(reconciler.programmed?.revision ?? 0n),
    unconfirmedReports: () => reports.size,
    certificateSecondsLeft: () => expiry?.secondsLeft() ?? Number.NaN,
    freshness: () => freshness.report(),
  });

  if (config.policyMetrics) registerPolicyCounters(registry, () => reconciler.policyCounts());

  const health = new Health(clock);
  const metricsServer = await serveMetrics(registry, parseHostAndPort(config.metricsListen));
  closers.push(() => metricsServer.close());
  const healthServer = await serveHealth(health, parseHostAndPort(config.healthListen));
  closers.push(() => healthServer.close());
  onStarted?.({ metricsPort: metricsServer.port, healthPort: healthServer.port, status });

  const parts: readonly Part[] = [
    healthPart({ health, clock, store, reconciler }),
    reconciler,
    ...(deniedFlows === undefined ? [] : [deniedFlows]),
    ...(shaper === undefined ? [] : [shaper]),
    addresses,
    pods,
    ...(expiry === undefined ? [] : [expiry]),
    ...(enrollment === undefined ? [] : [enrollment]),
    new SocketServer({
      path: config.socket,
      cni,
      status,
      view: () => viewHashes(store),
      kernel: async () => ({
        dataplane: kernel === undefined ? "none" : "nftables",
        viewRevision: store.view.revision,
        programmedRevision: reconciler.programmed?.revision ?? 0n,
        kernelError: reconciler.lastError ?? "",
        failures: reconciler.programmed?.failures ?? [],
        drift: kernel === undefined ? [] : ((await reconciler.kernelDrift()) ?? []),
      }),
      setLogLevel(name) {
        const level = findLogLevel(name);
        return level === undefined ? undefined : setLogLevel(log, level);
      },
      log: log.child({ component: "socket" }),
    }),
    deletes,
    enrollment === undefined ? sync : afterFirstCertificate(sync, enrollment),
  ];
  await runAll(parts, { signal, log });
}

/** The disk's own errors do not always say of what: a person is told the directory. */
async function fromState<T>(directory: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof StateError || error instanceof JournalError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new StateError(`the state directory ${directory} cannot be used: ${reason}`, { cause: error });
  }
}

async function openKernel(config: AgentConfig, log: Logger, closers: (() => void)[]): Promise<Kernel | undefined> {
  if (!config.dataplane) {
    log.warn("no dataplane: the kernel is left alone, no pod is connected or protected");
    return undefined;
  }
  await prepareHost();
  const kernel = { nft: NftDriver.open(), rtnetlink: RtnetlinkDriver.open(), conntrack: ConntrackDriver.open() };
  closers.push(() => {
    kernel.nft.close();
    kernel.rtnetlink.close();
    kernel.conntrack.close();
  });
  return kernel;
}

/** For `sedge diff`: the server's hashes of the same records are compared with them. */
function viewHashes({ view, isComplete }: ViewStore): Readonly<Record<string, unknown>> {
  const hashes = Object.fromEntries([...view.records].map(([key, { hash }]) => [key, hash.toString(16).padStart(16, "0")]));
  return { isComplete, epoch: view.epoch, revision: Number(view.revision), digest: view.digest.toString(16).padStart(16, "0"), hashes };
}

function limitation(reconciler: Reconciler): string | undefined {
  if (reconciler.lastError !== undefined) return reconciler.lastError;
  return reconciler.programmed === undefined ? "no complete view has been programmed yet" : undefined;
}

function healthPart({ health, clock, store, reconciler }: { health: Health; clock: Clock; store: ViewStore; reconciler: Reconciler }): Part {
  const view = health.register("view", 10 * HEALTH_INTERVAL_MS);
  const dataplane = health.register("kernel", 10 * HEALTH_INTERVAL_MS);
  return {
    name: "health",
    async run(signal) {
      while (!signal.aborted) {
        view({ live: true, ready: store.isComplete, detail: store.isComplete ? `revision ${store.view.revision}` : "no complete view yet" });
        const trouble = limitation(reconciler);
        dataplane({ live: true, ready: trouble === undefined, ...(trouble === undefined ? {} : { detail: trouble }) });
        await clock.sleep(HEALTH_INTERVAL_MS, signal);
      }
    },
  };
}

function afterFirstCertificate(sync: Part, enrollment: Enrollment): Part {
  return {
    name: sync.name,
    async run(signal) {
      await enrollment.untilUsable(signal);
      await sync.run(signal);
    },
  };
}

function tlsFiles({ enrollServer, insecure, stateDir, tlsCa, tlsCert, tlsKey }: AgentConfig): { cert: string; key: string; ca: string } | undefined {
  if (insecure || tlsCa === undefined) return undefined;
  if (enrollServer.length > 0) {
    const own = join(stateDir, "tls", "node.pem");
    return { cert: own, key: own, ca: tlsCa };
  }
  return tlsCert === undefined || tlsKey === undefined ? undefined : { cert: tlsCert, key: tlsKey, ca: tlsCa };
}
