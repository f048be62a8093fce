/** Metrics of the fan-out server. Label values come from the code alone, never from the cluster. */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import { COUNTER_NAMES, type SourceCounters } from "../src/datastore/source-counters.ts";
import { CountingHistogram } from "./counting-histogram.ts";
import { ABUSES, type Abuse } from "./delivery/http2/limits.ts";
import { LIMITED, type Limited } from "./identity-limits.ts";
import type { SessionObserver } from "./session/session.ts";
import { CALL_PROBLEMS, type CallError, type CallProblem } from "./status.ts";

const LATENCY_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];

/** Values that are read when metrics are. */
export interface FanoutGauges {
  readonly clients: () => number;
  readonly clientsLevel: () => number;
  readonly relays: () => number;
  readonly relayedClients: () => number;
  readonly relayedClientsLevel: () => number;
  /** Of a relay, else NaN. */
  readonly heldNodes: () => number;
  readonly hasParent: () => number;
  readonly records: () => ReadonlyMap<string, number>;
  readonly revision: () => number;
  readonly isInSync: () => boolean;
  readonly upstreamAgeMs: () => number;
  /** NaN without a certificate. */
  readonly certificateSecondsLeft: () => number;
  readonly invalidObjects: () => number;
  readonly answering: () => number;
  readonly waiting: () => number;
  readonly reportBacklog: () => number;
  readonly framesMade: () => number;
  readonly framesShared: () => number;
  readonly bytesInFlight: () => number;
  readonly packedBytes: () => number;
  readonly packedMade: () => number;
  readonly packedShared: () => number;
  readonly nodes: () => number;
  readonly load: () => number;
  readonly busy: () => number;
  readonly servers: () => number;
  readonly source: () => Readonly<SourceCounters>;
}

export class FanoutMetrics implements Omit<SessionObserver, "ended"> {
  /** Counted in plain numbers, and read when metrics are: a labelled counter costs more than all else that is done here for a message. */
  readonly #sent = {
    update: { messages: 0, bytes: 0 },
    answer: { messages: 0, bytes: 0 },
    heartbeat: { messages: 0, bytes: 0 },
    other: { messages: 0, bytes: 0 },
  };
  readonly #ends: Counter<"reason">;
  readonly #commits: Counter;
  readonly #commitSeconds: Histogram;
  readonly #delivered: CountingHistogram;
  readonly #programmed: CountingHistogram;
  readonly #received: CountingHistogram;
  readonly #eventToCommit: CountingHistogram;
  readonly #claims: Counter<"result">;
  readonly #blockWrites: Counter<"outcome">;
  readonly #refusedPeers: Counter<"reason">;
  readonly #moves: Counter;
  readonly #limited: Counter<"what">;
  readonly #statusWrites: Counter<"outcome">;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#registerSent(registry, { name: "sedge_fanout_messages_sent_total", help: "Messages sent to agents, by kind", what: "messages" });
    this.#registerSent(registry, { name: "sedge_fanout_sent_bytes_total", help: "Bytes of messages sent to agents, by kind", what: "bytes" });
    this.#ends = new Counter({ name: "sedge_fanout_session_ends_total", help: "Sessions that ended, by reason", labelNames: ["reason"], registers });
    this.#statusWrites = new Counter({
      name: "sedge_fanout_policy_status_writes_total",
      help: "Writes of a policy's status by this server while it leads, by outcome",
      labelNames: ["outcome"],
      registers,
    });
    this.#commits = new Counter({ name: "sedge_fanout_commits_total", help: "Revisions made", registers });
    this.#commitSeconds = new Histogram({
      name: "sedge_fanout_commit_seconds",
      help: "Computing and applying one commit",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#delivered = new CountingHistogram({
      name: "sedge_fanout_commit_to_sent_seconds",
      help: "From a commit to its message to an agent",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#eventToCommit = new CountingHistogram({
      name: "sedge_fanout_event_to_commit_seconds",
      help: "From the arrival of the first event of a commit, from the API's watch, to the commit; the first commit, of the whole cluster, is not in it",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#received = new CountingHistogram({
      name: "sedge_fanout_sent_to_received_seconds",
      help: "From a commit's message to its receipt by the agent and back: the time for which the agent held its acknowledgement back is taken off; of commits that share one acknowledgement the newest",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#programmed = new CountingHistogram({
      name: "sedge_fanout_commit_to_programmed_seconds",
      help: "From a commit to the moment since when an agent's kernel has it: the time for which the agent held its acknowledgement back is taken off; of commits that share one acknowledgement the newest",
      buckets: LATENCY_BUCKETS,
      registers,
    });
    this.#claims = new Counter({ name: "sedge_fanout_block_claims_total", help: "Block claims, by result", labelNames: ["result"], registers });
    this.#blockWrites = new Counter({
      name: "sedge_fanout_block_writes_total",
      help: "Endpoint reports brought to the API, by outcome",
      labelNames: ["outcome"],
      registers,
    });
    this.#limited = new Counter({
      name: "sedge_fanout_rate_limited_total",
      help: "Streams, claims and reports of nodes that were refused because the node asked too often",
      labelNames: ["what"],
      registers,
    });
    for (const what of LIMITED) this.#limited.inc({ what }, 0);
    this.#moves = new Counter({ name: "sedge_fanout_moves_asked_total", help: "Agents asked to move to the server that is their first choice", registers });
    this.#refusedPeers = new Counter({
      name: "sedge_fanout_http2_refusals_total",
      help: "Bounds of HTTP/2 that a peer went beyond: its connection, stream or request was refused or cut (zero-window: noticed), by bound",
      labelNames: ["reason"],
      registers,
    });
    for (const reason of ABUSES) this.#refusedPeers.inc({ reason }, 0);
    for (const reason of [...CALL_PROBLEMS, "closed"]) this.#ends.inc({ reason }, 0);
    for (const result of ["given", ...CALL_PROBLEMS]) this.#claims.inc({ result }, 0);
    for (const outcome of ["written", "unchanged", "failed"]) this.#blockWrites.inc({ outcome }, 0);
  }

  statusWritten(outcome: "written" | "gone" | "failed"): void {
    this.#statusWrites.inc({ outcome });
  }

  sent(kind: "update" | "answer" | "heartbeat" | "other", bytes: number, messages = 1): void {
    const sent = this.#sent[kind];
    sent.messages += messages;
    sent.bytes += bytes;
  }

  delivered(seconds: number, count: number): void {
    this.#delivered.add(Math.max(0, seconds), count);
  }

  received(seconds: number): void {
    this.#received.add(Math.max(0, seconds), 1);
  }

  programmed(seconds: number): void {
    this.#programmed.add(Math.max(0, seconds), 1);
  }

  sessionEnded(reason: CallProblem | "closed", _error?: CallError): void {
    this.#ends.inc({ reason });
  }

  /** Seconds that it took, and since its first event arrived; undefined: it has none (a relay's, or that of the whole cluster). */
  committed(seconds: number, sinceEvent?: number): void {
    this.#commits.inc();
    this.#commitSeconds.observe(seconds);
    if (sinceEvent !== undefined) this.#eventToCommit.add(Math.max(0, sinceEvent), 1);
  }

  claimed(result: "given" | CallProblem): void {
    this.#claims.inc({ result });
  }

  refusedPeer(reason: Abuse): void {
    this.#refusedPeers.inc({ reason });
  }

  limited(what: Limited): void {
    this.#limited.inc({ what });
  }

  askedToMove(agents: number): void {
    this.#moves.inc(agents);
  }

  blockWritten(outcome: "written" | "unchanged" | "failed"): void {
    this.#blockWrites.inc({ outcome });
  }

  #registerSent(registry: Registry, { name, help, what }: { readonly name: string; readonly help: string; readonly what: "messages" | "bytes" }): void {
    const sent = this.#sent;
    new Counter({
      name,
      help,
      labelNames: ["kind"],
      registers: [registry],
      collect() {
        this.reset();
        for (const [kind, counts] of Object.entries(sent)) this.inc({ kind }, counts[what]);
      },
    });
  }
}

/** Registers the values that are read when asked for. */
export function registerGauges(registry: Registry, gauges: FanoutGauges): void {
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name: `sedge_fanout_${name}`,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  };
  gauge("clients", "Agents connected", gauges.clients);
  gauge("clients_level", "Agents that have everything that the table holds for them in their kernel", gauges.clientsLevel);
  gauge("relays", "Relays and workers that have their views from this server", gauges.relays);
  gauge("relayed_clients", "Agents connected to relays or workers below", gauges.relayedClients);
  gauge("relayed_clients_level", "Of those, agents that have everything that the table holds for them in their kernel", gauges.relayedClientsLevel);
  gauge("held_nodes", "Nodes whose views a relay or worker holds; NaN for a server that watches the API", gauges.heldNodes);
  gauge("has_parent", "1 when the parent of a relay or worker answers; NaN for a server that watches the API", gauges.hasParent);
  gauge("revision", "Revision of the table", gauges.revision);
  gauge("in_sync", "1 when the table holds the whole cluster", () => (gauges.isInSync() ? 1 : 0));
  gauge(
    "upstream_age_seconds",
    "Since when there may be something in the API that is not known here, for the kind of which that is longest",
    () => gauges.upstreamAgeMs() / 1000,
  );
  gauge("certificate_expiry_seconds", "Time until the server's certificate expires; NaN without one", gauges.certificateSecondsLeft);
  gauge("invalid_objects", "Objects that could not be understood in whole; `sedge status` says what is in force instead", gauges.invalidObjects);
  gauge("answers_running", "Views being sent", gauges.answering);
  gauge("answers_waiting", "Agents that wait for their view to be sent", gauges.waiting);
  gauge("report_backlog", "Blocks whose allocations wait to be written to the API", gauges.reportBacklog);
  gauge("bytes_in_flight", "Given to all streams and not yet taken by their readers", gauges.bytesInFlight);
  gauge("packed_bytes", "Shared records kept encoded and compressed", gauges.packedBytes);
  gauge("load_ratio", "What this server carries of what it can: agents of --agents-per-server, or the event loop's busy share if that is more", gauges.load);
  gauge("busy_ratio", "Share of the time that the event loop was busy, over half a minute", gauges.busy);
  gauge("servers_ready", "Ready servers of the cluster, as this one knows them", gauges.servers);
  gauge("nodes", "Nodes that have records of their own or are connected", gauges.nodes);
  new Counter({
    name: "sedge_fanout_packed_total",
    help: "Chunks of shared records sent, by whether one was made or a made one was shared",
    labelNames: ["how"],
    registers,
    collect() {
      this.reset();
      this.inc({ how: "made" }, gauges.packedMade());
      this.inc({ how: "shared" }, gauges.packedShared());
    },
  });
  new Gauge({
    name: "sedge_fanout_records",
    help: "Records of the table, by kind",
    labelNames: ["kind"],
    registers,
    collect() {
      for (const [kind, count] of gauges.records()) this.set({ kind }, count);
    },
  });
  new Counter({
    name: "sedge_fanout_frames_total",
    help: "Update frames, by whether one was made or a made one was shared",
    labelNames: ["how"],
    registers,
    collect() {
      this.reset();
      this.inc({ how: "made" }, gauges.framesMade());
      this.inc({ how: "shared" }, gauges.framesShared());
    },
  });
  new Counter({
    name: "sedge_fanout_source_events_total",
    help: "What the source has seen of the API",
    labelNames: ["what"],
    registers,
    collect() {
      const counters = gauges.source();
      this.reset();
      for (const what of COUNTER_NAMES) this.inc({ what }, counters[what]);
    },
  });
}

/** Of the main process of workers; returns the counter of restarts. Each worker's own metrics stand beside the main process's with the label `worker`. */
export function registerWorkerMetrics(registry: Registry, readyWorkers: () => number): Counter {
  const registers = [registry];
  new Gauge({
    name: "sedge_fanout_workers_ready",
    help: "Workers that serve agents; with --workers. All other metrics come once more from each worker, with its number as the label worker",
    registers,
    collect() {
      this.set(readyWorkers());
    },
  });
  return new Counter({ name: "sedge_fanout_worker_restarts_total", help: "Workers that ended or hung and were started again; with --workers", registers });
}
