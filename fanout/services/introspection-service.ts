/**
 * What an operator, or another server of the tier, asks the server. Read only but for the log level; large answers are streamed at the reader's pace.
 */
import { type ServerUnaryCall, type ServerWritableStream, type sendUnaryData, type UntypedServiceImplementation } from "@grpc/grpc-js";
import type { NodeName } from "../../src/model/names.ts";
import type { Clock } from "../../src/runtime/clock.ts";
import { findLogLevel, LOG_LEVELS, type Logger, type LogLevel, setLogLevel } from "../../src/runtime/log.ts";
import type {
  Client,
  ClientPage,
  ExplainRecordRequest,
  ExplainRecordResponse,
  GetLagRequest,
  GetLagResponse,
  GetObjectStatusesRequest,
  GetObjectStatusesResponse,
  GetObjectStatusRequest,
  GetObjectStatusResponse,
  GetReplicaReportRequest,
  GetStatusRequest,
  GetStatusResponse,
  KnownServer,
  ListClientsRequest,
  ListPolicyStatusRequest,
  ListRecordsRequest,
  ListServersRequest,
  ListServersResponse,
  PolicyStatus,
  RebalanceRequest,
  RebalanceResponse,
  RecordEntry,
  RecordEvent,
  ReplicaReport,
  SetLogLevelRequest,
  SetLogLevelResponse,
} from "../../src/wire/gen/sedge/sync/v1/introspection.ts";
import type { IdentityOfCall } from "../delivery/grpc-delivery.ts";
import { explainRecord } from "../explain.ts";
import { requireOperator, requireReader } from "../identity.ts";
import { type ObjectStatusSources, objectStatus } from "../object-status.ts";
import type { PolicyStatuses } from "../policy-status/statuses.ts";
import type { ClientState } from "../session/client-state.ts";
import type { Sessions } from "../session/sessions.ts";
import { CallError, statusOf } from "../status.ts";
import type { NodeId } from "../table/node-ids.ts";
import type { Commit, Table } from "../table/table.ts";
import type { Rebalance, RebalanceWish } from "../tier/rebalancer.ts";
import { CommitTimes } from "./commit-times.ts";
import { invalidOf, type Origin } from "./origin.ts";
import { invalidObjects, lagResponse, policyStatuses } from "./policy-status-messages.ts";
import { RecordWatch, recordEntry } from "./record-watch.ts";

/** About 50 kB. */
const CLIENTS_PER_PAGE = 500;

export interface IntrospectionOptions {
  readonly serverName: string;
  readonly version: string;
  readonly epoch: () => string;
  readonly clusterUid: string;
  readonly table: Table;
  readonly sessions: Sessions;
  readonly policies: PolicyStatuses;
  readonly origin: Origin;
  readonly clock: Clock;
  /** Its level is what SetLogLevel sets. */
  readonly log: Logger;
  readonly upstream: () => { readonly ageMs: number; readonly isStale: boolean };
  readonly report: () => ReplicaReport;
  readonly servers: () => KnownServer[];
  readonly rebalance: (request: RebalanceWish) => Promise<Rebalance>;
  /** The log level was changed to this. */
  readonly onLogLevel: (level: LogLevel) => void;
  /** Objects over all servers, see Tier.objectStatuses. */
  readonly tierStatuses: (objects: readonly GetObjectStatusRequest[]) => Promise<readonly GetObjectStatusResponse[]>;
}

const MAX_OBJECTS = 1_000;

export class Introspection {
  readonly #options: IntrospectionOptions;
  readonly #startedAt: number;
  readonly #watches = new Set<RecordWatch>();
  readonly #commitTimes = new CommitTimes();

  constructor(options: IntrospectionOptions) {
    this.#options = options;
    this.#startedAt = options.clock.now();
  }

  publish(commit: Commit): void {
    this.#commitTimes.add(commit);
    for (const watch of this.#watches) watch.publish(commit);
  }

  /** Ends all watches, so that the server can stop. */
  close(): void {
    for (const watch of this.#watches) watch.end();
  }

  implementation(identityOf: IdentityOfCall): UntypedServiceImplementation {
    return {
      getStatus: (call: ServerUnaryCall<GetStatusRequest, GetStatusResponse>, callback: sendUnaryData<GetStatusResponse>) =>
        answer(callback, () => {
          requireReader(identityOf(call));
          return this.status();
        }),
      getObjectStatus: (call: ServerUnaryCall<GetObjectStatusRequest, GetObjectStatusResponse>, callback: sendUnaryData<GetObjectStatusResponse>) =>
        void answerLater(callback, async () => {
          requireReader(identityOf(call));
          const own = objectStatus(call.request, this.#sources);
          const [ofTier] = call.request.tier === true ? await this.#options.tierStatuses([{ ...call.request, tier: false }]) : [];
          return ofTier ?? own;
        }),
      getObjectStatuses: (call: ServerUnaryCall<GetObjectStatusesRequest, GetObjectStatusesResponse>, callback: sendUnaryData<GetObjectStatusesResponse>) =>
        answer(callback, () => {
          requireReader(identityOf(call));
          return { statuses: this.objectStatuses(call.request.objects) };
        }),
      getReplicaReport: (call: ServerUnaryCall<GetReplicaReportRequest, ReplicaReport>, callback: sendUnaryData<ReplicaReport>) =>
        answer(callback, () => {
          requireReader(identityOf(call));
          return this.#options.report();
        }),
      listServers: (call: ServerUnaryCall<ListServersRequest, ListServersResponse>, callback: sendUnaryData<ListServersResponse>) =>
        answer(callback, () => {
          requireReader(identityOf(call));
          return { servers: this.#options.servers() };
        }),
      explainRecord: (call: ServerUnaryCall<ExplainRecordRequest, ExplainRecordResponse>, callback: sendUnaryData<ExplainRecordResponse>) =>
        answer(callback, () => {
          requireReader(identityOf(call));
          const { table, origin } = this.#options;
          return explainRecord(call.request, { table, describe: (key) => origin.describe(key) });
        }),
      rebalance: (call: ServerUnaryCall<RebalanceRequest, RebalanceResponse>, callback: sendUnaryData<RebalanceResponse>) =>
        void answerLater(callback, async () => {
          requireOperator(identityOf(call));
          const { movesPerSecond, dryRun: isDryRun } = call.request;
          const { moving, staying, spanMs } = await this.#options.rebalance({ movesPerSecond: movesPerSecond === 0 ? undefined : movesPerSecond, isDryRun });
          return { moving, staying, spanMs: BigInt(spanMs) };
        }),
      listPolicyStatus: (call: ServerWritableStream<ListPolicyStatusRequest, PolicyStatus>) =>
        streamLater(call, async () => {
          requireReader(identityOf(call));
          return await policyStatuses(call.request, this.#options.policies);
        }),
      getLag: (call: ServerUnaryCall<GetLagRequest, GetLagResponse>, callback: sendUnaryData<GetLagResponse>) =>
        answer(callback, () => {
          requireReader(identityOf(call));
          return lagResponse(this.#options.policies.ownLag(call.request.policy === "" ? undefined : call.request.policy));
        }),
      setLogLevel: (call: ServerUnaryCall<SetLogLevelRequest, SetLogLevelResponse>, callback: sendUnaryData<SetLogLevelResponse>) =>
        answer(callback, () => {
          requireOperator(identityOf(call));
          return this.#setLogLevel(call.request.level);
        }),
      listClients: (call: ServerWritableStream<ListClientsRequest, Client>) =>
        stream(call, () => {
          requireReader(identityOf(call));
          return this.#clients();
        }),
      listClientPages: (call: ServerWritableStream<ListClientsRequest, ClientPage>) =>
        stream(call, () => {
          requireReader(identityOf(call));
          return this.#clientPages();
        }),
      listRecords: (call: ServerWritableStream<ListRecordsRequest, RecordEntry>) =>
        stream(call, () => {
          requireReader(identityOf(call));
          this.#requireKnown(call.request.node);
          return this.#records(call.request);
        }),
      watchRecords: (call: ServerWritableStream<ListRecordsRequest, RecordEvent>) => this.#watch(call, identityOf),
    };
  }

  get #sources(): ObjectStatusSources {
    const { table, sessions, origin } = this.#options;
    return { table, sessions, objects: origin.objects };
  }

  /** In their order; throws CallError("broken-message") for too many, or a kind that there is not. */
  objectStatuses(objects: readonly GetObjectStatusRequest[], isElsewhere?: (node: string) => boolean): GetObjectStatusResponse[] {
    if (objects.length > MAX_OBJECTS) throw new CallError("broken-message", `${objects.length} objects, at most ${MAX_OBJECTS} at once`);
    const sources = { ...this.#sources, ...(isElsewhere === undefined ? {} : { isElsewhere }) };
    return objects.map((object) => {
      try {
        return objectStatus(object, sources);
      } catch (error) {
        if (error instanceof CallError && error.problem === "unknown-object") return UNKNOWN_OBJECT;
        throw error;
      }
    });
  }

  status(): GetStatusResponse {
    const { serverName, version, epoch, clusterUid, table, sessions, origin, clock, upstream } = this.#options;
    const { ageMs, isStale } = upstream();
    const clients = [...sessions.everyClient()];
    return {
      server: serverName,
      version,
      epoch: epoch(),
      clusterUid,
      revision: table.revision,
      syncStatus: origin.status,
      upstreamAgeMs: BigInt(Math.round(ageMs)),
      stale: isStale,
      clients: clients.length,
      clientsLevel: clients.filter((session) => session.isLevel).length,
      recordsByKind: Object.fromEntries([...table.countByKind].sort(([a], [b]) => (a < b ? -1 : 1))),
      invalid: invalidOf(origin).flatMap(invalidObjects),
      unused: origin.problems.filter(({ outcome }) => outcome === "unused").flatMap(invalidObjects),
      uptimeMs: BigInt(Math.round(clock.now() - this.#startedAt)),
    };
  }

  *#clients(): Generator<Client> {
    for (const session of [...this.#options.sessions.everyClient()].sort(byNode)) yield this.#client(session);
  }

  *#clientPages(): Generator<ClientPage> {
    let clients: Client[] = [];
    for (const client of this.#clients()) {
      clients.push(client);
      if (clients.length < CLIENTS_PER_PAGE) continue;
      yield { clients };
      clients = [];
    }
    if (clients.length > 0) yield { clients };
  }

  #client(session: ClientState): Client {
    const { clock, table } = this.#options;
    const { sent, received, programmed, failed, at } = session.acknowledged;
    return {
      node: session.node?.name ?? "",
      address: session.address,
      version: session.version,
      connectedMs: BigInt(Math.round(clock.now() - session.connectedAt)),
      // Heartbeats tell of revisions that change nothing for the node, and it has those too.
      sentRevision: sent > programmed ? sent : programmed,
      receivedRevision: received,
      programmedRevision: programmed,
      level: session.isLevel,
      dirtyKeys: session.dirtyKeys,
      bytesSent: BigInt(session.bytesSent),
      lastAckMs: at === 0 ? 0n : BigInt(Math.round(clock.now() - at)),
      failed: failed.map(({ key, reason }) => ({ key, reason })),
      lagCommits: session.isLevel ? 0n : table.revision - programmed,
      lagMs: session.isLevel ? 0n : BigInt(Math.round(this.lagMs(session))),
      viewRecords: session.node === undefined ? 0 : table.viewSize(session.node.id),
    };
  }

  /** Age of the oldest commit that the node should have in its kernel and has not, ms. */
  lagMs(session: ClientState): number {
    const { clock } = this.#options;
    const oldest = session.sentCommits.oldestOpenAtUnixUs || Number(this.#commitTimes.after(session.acknowledged.sent));
    if (oldest === 0) return clock.now() - session.connectedAt;
    return Math.max(0, clock.wallTime() - oldest / 1_000);
  }

  #setLogLevel(wanted: string): SetLogLevelResponse {
    const { log } = this.#options;
    const level = findLogLevel(wanted);
    if (level === undefined) throw new CallError("broken-message", `level ${JSON.stringify(wanted)} is not known; known: ${LOG_LEVELS.join(", ")}`);
    log.warn({ previous: log.level, level }, "an operator changes the log level");
    const previous = setLogLevel(log, level);
    this.#options.onLogLevel(level);
    return { previous };
  }

  /** A mistyped node would be answered with what every node has, and look right. */
  #requireKnown(node: string): void {
    const { table, origin } = this.#options;
    // A number belongs to a name while a record's audience, a session or a watch holds it.
    if (node === "" || table.findEntry(`node/${node}`) !== undefined || table.nodes.findId(node as NodeName) !== undefined) return;
    const advice = origin.isInSync ? "sedge get nodes lists them" : "the server has not read the API to its end yet, ask again when sedge status says in-sync";
    throw new CallError("unknown-object", `there is no node ${JSON.stringify(node)}: ${advice}`);
  }

  *#records({ node, keyPrefix }: ListRecordsRequest): Generator<RecordEntry> {
    const { table, origin } = this.#options;
    const view = node === "" ? table.entries() : table.viewOf(node as NodeName);
    const keys = [...view].filter(({ key }) => key.startsWith(keyPrefix)).map(({ key }) => key);
    for (const key of keys.sort()) {
      const entry = table.findEntry(key);
      if (entry !== undefined) yield { ...recordEntry(entry), about: origin.describe(key) ?? "" };
    }
  }

  #watch(call: ServerWritableStream<ListRecordsRequest, RecordEvent>, identityOf: IdentityOfCall): void {
    try {
      requireReader(identityOf(call));
      this.#requireKnown(call.request.node);
    } catch (error) {
      call.emit("error", statusOf(error));
      return;
    }
    const { table } = this.#options;
    const node: NodeId | undefined = call.request.node === "" ? undefined : table.nodes.idOf(call.request.node as NodeName);
    const watch = new RecordWatch({ table, node, keyPrefix: call.request.keyPrefix, write: (event) => call.write(event), end: () => call.end() });
    this.#watches.add(watch);
    if (node !== undefined) table.nodes.hold(node);
    const forget = (): void => {
      if (this.#watches.delete(watch) && node !== undefined) table.nodes.release(node);
    };
    call.on("drain", () => watch.pump());
    call.on("close", forget);
    call.on("cancelled", forget);
    call.on("error", forget);
    watch.pump();
  }
}

const UNKNOWN_OBJECT: GetObjectStatusResponse = {
  resourceVersion: "",
  revision: 0n,
  nodes: 0,
  nodesProgrammed: 0,
  lagging: [],
  committedAtUnixUs: 0n,
  programmedAtUnixUs: 0n,
  nodesConnected: 0,
  unheard: [],
  lastProgrammedAtUnixUs: 0n,
};

function byNode(a: ClientState, b: ClientState): number {
  return (a.node?.name ?? "") < (b.node?.name ?? "") ? -1 : 1;
}

function answer<T>(callback: sendUnaryData<T>, act: () => T): void {
  try {
    callback(null, act());
  } catch (error) {
    callback(statusOf(error));
  }
}

/** As `answer`, for what takes a while; never rejects. */
async function answerLater<T>(callback: sendUnaryData<T>, act: () => Promise<T>): Promise<void> {
  let response: T;
  try {
    response = await act();
  } catch (error) {
    callback(statusOf(error));
    return;
  }
  callback(null, response);
}

/** Writes until the stream says full, then waits for drain. */
function stream<T>(call: ServerWritableStream<unknown, T>, begin: () => Iterator<T>): void {
  let items: Iterator<T>;
  try {
    items = begin();
  } catch (error) {
    call.emit("error", statusOf(error));
    return;
  }
  const pump = (): void => {
    for (;;) {
      const item = items.next();
      if (item.done === true) {
        call.end();
        return;
      }
      if (!call.write(item.value)) {
        call.once("drain", pump);
        return;
      }
    }
  };
  pump();
}

/** As `stream`, for what must be asked for first. */
function streamLater<T>(call: ServerWritableStream<unknown, T>, begin: () => Promise<Iterator<T>>): void {
  begin().then(
    (items) => stream(call, () => items),
    (error: unknown) => call.emit("error", statusOf(error)),
  );
}
