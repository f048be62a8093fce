/**
 * What agents see of a server's sessions, on streams in memory and a clock that the test moves; the S numbers are the rows of docs/protocol.md.
 * Above 500 lines, because all cases start from one fixture, a server with its agents; following, what was sent and the answers' line have tests of their own.
 */
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { RecordChange } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { addDigest, seedOf } from "../../src/wire/digest.ts";
import { AgentMessage } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { SESSION_TRANSITIONS } from "../../src/wire/session-protocol.ts";
import { decodeServerMessage } from "../../src/wire/update-codec.ts";
import { View } from "../../src/wire/view.ts";
import { MemoryAgent, MemoryStream } from "../../test/fakes/memory-stream.ts";
import { CallError, type CallProblem } from "../status.ts";
import { Table } from "../table/table.ts";
import { FlushWindow } from "./flush-window.ts";
import type { SessionLimits } from "./session.ts";
import { Sessions } from "./sessions.ts";

const SEED = seedOf("u");

interface Fixture {
  readonly clock: ManualClock;
  readonly table: Table;
  readonly sessions: Sessions;
  readonly ends: (CallProblem | "closed")[];
  readonly sent: { kind: string; bytes: number }[];
  readonly reports: string[];
  agent(node: string, view?: View): MemoryAgent;
  commit(...changes: RecordChange[]): void;
}

function fixture(
  options: {
    readonly isServing?: boolean;
    readonly limits?: Partial<SessionLimits>;
    readonly maxAnswers?: number;
    readonly maxWaiting?: number;
    readonly peers?: readonly string[];
    /** As a relay, which can come to be below another root. */
    readonly canRestart?: boolean;
  } = {},
): Fixture {
  const clock = new ManualClock();
  const table = new Table({ seed: SEED });
  const ends: Fixture["ends"] = [];
  const sent: Fixture["sent"] = [];
  const reports: string[] = [];
  const sessions = new Sessions({
    table,
    serverName: "s",
    epoch: "e",
    clock,
    observer: {
      sent: (kind, bytes) => sent.push({ kind, bytes }),
      delivered: () => undefined,
      received: () => undefined,
      programmed: () => undefined,
      ended: (_, reason) => ends.push(reason),
    },
    heartbeatIntervalMs: 1000,
    helloTimeoutMs: 500,
    answerStallMs: 2000,
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    admission: { maxAnswers: options.maxAnswers ?? 10, maxWaiting: options.maxWaiting ?? 10, defer: (run) => run() },
    targetsOf: () => options.peers ?? [],
    ...(options.canRestart === true
      ? {
          hold: (_node, onHeld) => {
            onHeld();
            return () => undefined;
          },
        }
      : {}),
    upstream: () => ({ ageMs: 7, isStale: true }),
    report: (session) => reports.push(session.node?.name ?? ""),
  });
  if (options.isServing !== false) sessions.serve();
  return {
    clock,
    table,
    sessions,
    ends,
    sent,
    reports,
    agent: (node, view = new View()) => new MemoryAgent({ node, view, accept: (stream) => sessions.accept(stream) }),
    commit: (...changes) => {
      const commit = table.commit(changes, 1n);
      if (commit !== undefined) sessions.publish(commit);
    },
  };
}

const stack = (id: string, nodes: readonly string[], noMatchAction: "allow" | "deny" = "allow"): RecordChange => ({
  key: `stack/${id}`,
  value: { kind: "stack", id, tiers: [], noMatchAction },
  isRemoved: false,
  entered: nodes.map((node) => node as NodeName),
  left: [],
});
const pool = (name: string, cidr: string): RecordChange => ({
  key: `pool/${name}`,
  value: { kind: "pool", name, cidr: parseCidr(cidr), natOutgoing: true, disabled: false, blockSize: 26 },
  isRemoved: false,
  entered: [],
  left: [],
});
const hello = (node: string, features: string[] = []): Uint8Array =>
  AgentMessage.encode({
    message: { $case: "hello", value: { node, version: "", features, epoch: "", revision: 0n, view: undefined, upstream: [] } },
  }).finish();
const ack = (revision: bigint): Uint8Array =>
  AgentMessage.encode({ message: { $case: "ack", value: { receivedRevision: revision, programmedRevision: revision, failed: [] } } }).finish();
const view = (bucketBits: number, digests: bigint[]): Uint8Array =>
  AgentMessage.encode({ message: { $case: "repair", value: { hashSeed: SEED, bucketBits, digests } } }).finish();

/** A stream on which the test itself speaks. */
function rawStream(f: Fixture, ...messages: Uint8Array[]): MemoryStream {
  const stream = new MemoryStream();
  stream.handler = f.sessions.accept(stream);
  for (const message of messages) stream.handler.onMessage(message);
  return stream;
}

const problemOf = (stream: MemoryStream): unknown => (stream.error as { problem?: unknown } | undefined)?.problem;

describe("sessions", () => {
  it("S2 a change for 20 of 200 nodes is 20 messages, and equal deltas share one frame", async () => {
    const f = fixture();
    const agents = Array.from({ length: 200 }, (_, i) => f.agent(`n${i}`));
    for (const agent of agents) agent.connect();
    for (const agent of agents) agent.read();
    f.sent.length = 0;
    f.commit(
      stack(
        "a",
        agents.slice(0, 20).map(({ node }) => node),
      ),
    );
    await f.clock.advance(10);
    expect(f.sent.filter(({ kind }) => kind === "update")).toHaveLength(20);
    expect(new Set(agents.flatMap(({ stream }) => stream?.inFlight ?? [])).size).toBe(1);
    expect(f.sessions.frames.counts).toEqual({ made: 1, shared: 19 });
    for (const agent of agents) agent.read();
    expect(agents.filter(({ view: { size } }) => size === 1)).toHaveLength(20);
  });

  it("S2 a change for everybody is one frame for all that have nothing else to send; those get it with the rest", async () => {
    const f = fixture({ limits: { maxBytesInFlight: 60 }, maxAnswers: 200 });
    const agents = Array.from({ length: 100 }, (_, i) => f.agent(`n${i}`));
    for (const agent of agents) agent.connect();
    const [busy, full] = agents;
    f.commit(pool("p0", "10.0.0.0/16"));
    await f.clock.advance(10);
    for (const agent of agents) if (agent !== full) agent.read();
    const unread = full?.stream?.inFlight.length;
    const made = f.sessions.frames.counts.made;
    f.commit(pool("p1", "10.1.0.0/16"));
    f.commit(pool("p2", "10.2.0.0/16"));
    f.commit(stack("a", ["n0"]));
    f.commit(pool("p3", "10.3.0.0/16"));
    expect(agents.map(({ node }) => f.sessions.clientOf(f.table.nodes.idOf(node as NodeName))?.dirtyKeys)).toEqual([4, ...Array(99).fill(3)]);
    await f.clock.advance(10);
    expect(f.sessions.frames.counts.made - made).toBe(2);
    expect(new Set(agents.slice(2).flatMap(({ stream }) => stream?.inFlight ?? [])).size).toBe(1);
    expect(busy?.stream?.inFlight).toHaveLength(1);
    expect(full?.stream?.inFlight).toHaveLength(unread ?? 0);
    for (const agent of agents) agent.read();
    for (const agent of agents) expect(agent.view.digest).toBe(f.table.viewDigest(f.table.nodes.idOf(agent.node as NodeName)));
  });

  it("S3 10,000 changes of one record within a second are few messages to each, and all are level right after the last", async () => {
    const f = fixture();
    const agents = Array.from({ length: 50 }, (_, i) => f.agent(`n${i}`));
    for (const agent of agents) agent.connect();
    for (const agent of agents) agent.read();
    let [messages, bytes] = [0, 0];
    for (let ms = 0; ms < 1_000; ms++) {
      for (let i = 0; i < 10; i++) f.commit(pool("hot", `10.${ms % 250}.${i}.0/24`));
      await f.clock.advance(1);
      const sent = agents[0]?.stream?.inFlight ?? [];
      messages += sent.length;
      for (const message of sent) bytes += message.length;
      for (const agent of agents) agent.read();
    }
    await f.clock.advance(100);
    for (const agent of agents) agent.read();
    // One for each window of 10 ms at most: nothing was slow here. Under load the windows grow.
    expect(messages).toBeLessThanOrEqual(100);
    expect(bytes).toBeLessThan(10_000);
    for (const agent of agents) expect(agent.view.digest).toBe(f.table.viewDigest(f.table.nodes.idOf(agent.node as NodeName)));
  });

  it("a pace of Acks is told with Welcome and with each heartbeat, when there are many", () => {
    const f = fixture();
    const paceOf = (stream: MemoryStream | undefined): unknown =>
      stream?.inFlight
        .map(decodeServerMessage)
        .flatMap((message) => (message?.$case === "welcome" || message?.$case === "heartbeat" ? [message.value.ackIntervalMs] : []));
    const agents = Array.from({ length: 300 }, (_, i) => f.agent(`n${i}`));
    for (const agent of agents) agent.connect();
    expect([paceOf(agents[0]?.stream), paceOf(agents[299]?.stream)]).toEqual([[0], [150]]);
    for (const session of f.sessions.clients) session.heartbeat();
    expect([paceOf(agents[0]?.stream), paceOf(agents[299]?.stream)]).toEqual([
      [0, 150],
      [150, 150],
    ]);
  });

  it("who waits for an Ack asks for it: those that have not acknowledged are told a short pace, once until their next heartbeat", () => {
    const f = fixture();
    const agents = Array.from({ length: 300 }, (_, i) => f.agent(`n${i}`));
    for (const agent of agents) {
      agent.connect();
      agent.read();
    }
    f.commit(stack("a", ["n0"]));
    const ask = (): unknown[] => {
      for (const session of f.sessions.clients) session.askForAck();
      return agents.flatMap(({ node, stream }) =>
        (stream?.inFlight.splice(0) ?? [])
          .map(decodeServerMessage)
          .flatMap((message) => (message?.$case === "heartbeat" ? [[node, message.value.ackIntervalMs, message.value.digest === undefined]] : [])),
      );
    };
    // Not sent yet, so it has no digest; all others are level.
    expect(ask()).toEqual([["n0", 100, true]]);
    expect(ask()).toEqual([]);
    f.sessions.flush();
    for (const session of f.sessions.clients) session.heartbeat();
    for (const { stream } of agents) stream?.inFlight.splice(0);
    expect(ask()).toEqual([["n0", 100, false]]);
  });

  it("S3 a slow reader gets the newest value once, costs keys only and delays nobody", () => {
    const f = fixture({ limits: { maxBytesInFlight: 100, partBytes: 1000 } });
    const [slow, fast] = [f.agent("slow"), f.agent("fast")];
    for (const agent of [slow, fast]) {
      agent.connect();
      agent.read();
    }
    for (let i = 0; i < 1000; i++) {
      f.commit(stack("a", ["slow", "fast"], i % 2 === 0 ? "allow" : "deny"));
      f.sessions.flush();
      fast.read();
      expect(slow.stream?.bytesInFlight).toBeLessThan(250);
    }
    expect(fast.view.revision).toBe(1000n);
    const [client] = [...f.sessions.clients].filter((session) => session.node?.name === "slow");
    expect(client?.dirtyKeys).toBe(1);
    const before = slow.outputs.length;
    slow.read();
    expect(slow.outputs.slice(before).filter(({ kind }) => kind === "commit").length).toBeLessThan(5);
    expect(slow.view.digest).toBe(fast.view.digest);
    expect(slow.view.revision).toBe(1000n);
  });

  it("S4 changes during an answer are in the commit that ends it", () => {
    const f = fixture({ limits: { maxBytesInFlight: 200, partBytes: 100 } });
    const ids = Array.from({ length: 50 }, (_, i) => `s${i}`);
    f.commit(...ids.map((id) => stack(id, ["n1"])));
    const agent = f.agent("n1");
    agent.connect();
    agent.read(4);
    expect(agent.session?.state).toBe("answering");
    f.commit({ ...stack("s1", []), value: undefined, isRemoved: true }, stack("s2", [], "deny"), stack("new", ["n1"]));
    agent.read();
    expect(agent.session?.state).toBe("live");
    expect(agent.view.revision).toBe(2n);
    expect(agent.view.digest).toBe(f.table.viewDigest(f.table.nodes.idOf("n1" as NodeName)));
    expect(agent.outputs.filter(({ kind }) => kind === "repair")).toEqual([]);
  });

  it("S5 a heartbeat has the digest when nothing is dirty, else none; a view that differs is repaired", () => {
    const f = fixture();
    f.commit(stack("a", ["n1"]), stack("b", ["n1"]));
    const agent = f.agent("n1");
    agent.connect();
    agent.read();
    const [session] = [...f.sessions.clients];
    session?.heartbeat();
    const message = decodeServerMessage(agent.stream?.take() ?? new Uint8Array());
    expect(message).toEqual({ $case: "heartbeat", value: { revision: 1n, digest: agent.view.digest, upstreamAgeMs: 7n, stale: true, ackIntervalMs: 0 } });
    f.commit(stack("c", ["n1"]));
    session?.heartbeat();
    expect(decodeServerMessage(agent.stream?.take() ?? new Uint8Array())).toMatchObject({ value: { digest: undefined } });
    f.sessions.flush();
    agent.read();
    // The agent's memory loses a record.
    agent.view.stage({ buckets: [], upserts: [], removed: ["stack/a"], commit: true, revision: 2n, digest: undefined, committedAtUnixUs: 0n });
    agent.view.commit();
    session?.heartbeat();
    agent.read();
    expect(agent.outputs.filter(({ kind }) => kind === "repair")).toHaveLength(1);
    expect([...agent.view.records.keys()].toSorted()).toEqual(["stack/a", "stack/b", "stack/c"]);
  });

  it("S6 a resume is told only of the buckets that differ", () => {
    const f = fixture();
    f.commit(...Array.from({ length: 400 }, (_, i) => stack(`s${i}`, ["n1"])));
    const agent = f.agent("n1");
    agent.connect();
    agent.read();
    agent.disconnect();
    f.commit(stack("s7", [], "deny"));
    f.sent.length = 0;
    agent.connect();
    agent.read();
    expect(agent.view.revision).toBe(2n);
    expect(f.sent.filter(({ kind }) => kind === "answer").reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(3000);
    const isComplete = agent.view.digest === [...f.table.entries()].reduce((sum, { hash }) => addDigest(sum, hash), 0n);
    expect(isComplete).toBe(true);
  });

  const misbehaviour: readonly (readonly [string, CallProblem, (f: Fixture) => MemoryStream])[] = [
    ["garbage", "broken-message", (f) => rawStream(f, Buffer.from([0xff, 0xff]))],
    ["an empty message", "broken-message", (f) => rawStream(f, new Uint8Array())],
    ["Ack before Hello", "broken-message", (f) => rawStream(f, ack(0n))],
    ["a second Hello", "broken-message", (f) => rawStream(f, hello("n1"), hello("n1"))],
    ["Hello without a name", "broken-message", (f) => rawStream(f, hello(""))],
    ["an Ack of the future", "broken-message", (f) => rawStream(f, hello("n1"), ack(99n))],
    ["digests that do not fit", "broken-message", (f) => rawStream(f, hello("n1"), view(3, [1n]))],
    ["too many buckets", "broken-message", (f) => rawStream(f, hello("n1"), view(13, []))],
  ];
  it.each(misbehaviour)("S7 %s → %s", (_, problem, act) => {
    const f = fixture();
    const stream = act(f);
    expect(problemOf(stream)).toBe(problem);
    expect(f.sessions.openStreams).toBe(0);
    expect(f.ends).toEqual([problem]);
  });

  it("S7 another node's name → wrong-identity; no Hello in time → hello-overdue", async () => {
    const f = fixture();
    const stream = new MemoryStream({ kind: "node", node: "n2" as NodeName });
    stream.handler = f.sessions.accept(stream);
    stream.handler.onMessage(hello("n1"));
    expect(problemOf(stream)).toBe("wrong-identity");
    const silent = rawStream(f);
    await f.clock.advance(499);
    expect(silent.isOver).toBe(false);
    await f.clock.advance(1);
    expect(problemOf(silent)).toBe("hello-overdue");
  });

  it("S8 a node has one session: the newer ends the older", () => {
    const f = fixture();
    const older = rawStream(f, hello("n1"));
    const newer = rawStream(f, hello("n1"));
    expect([problemOf(older), newer.isOver, f.sessions.clients.size]).toEqual(["replaced", false, 1]);
  });

  it("S9 nothing is served before the table is complete, nor while draining", async () => {
    const early = fixture({ isServing: false });
    expect(rawStream(early, hello("n1")).error).toMatchObject({ problem: "not-in-sync", retryAfterMs: 1000 });
    const f = fixture();
    const agent = f.agent("n1");
    agent.connect();
    agent.read();
    const done = f.sessions.drain(1000);
    agent.read();
    expect(agent.outputs.at(-1)).toMatchObject({ kind: "move", move: { deadlineMs: 1000 } });
    expect(problemOf(rawStream(f, hello("n2")))).toBe("draining");
    const stream = agent.stream;
    await f.clock.advance(1000);
    await done;
    expect(stream === undefined ? undefined : problemOf(stream)).toBe("draining");
    expect(f.sessions.openStreams).toBe(0);
  });

  it("S10 answers at once are bounded; a session beyond the line is told when to come again, and a stalled one gives its place up", async () => {
    const f = fixture({ maxAnswers: 1, maxWaiting: 1, limits: { maxBytesInFlight: 100, partBytes: 50 } });
    f.commit(...Array.from({ length: 50 }, (_, i) => stack(`s${i}`, ["n1", "n2", "n3"])));
    const agents = ["n1", "n2", "n3"].map((node) => f.agent(node));
    for (const agent of agents) agent.connect();
    expect(agents.map(({ stream }) => (stream === undefined ? undefined : problemOf(stream)))).toEqual([undefined, undefined, "not-admitted"]);
    agents[1]?.read();
    expect(agents[1]?.session?.state).toBe("answering");
    expect(agents[1]?.view.size).toBe(0);
    const stop = new AbortController();
    const running = f.sessions.run(stop.signal);
    await f.clock.advance(2100);
    agents[1]?.read();
    expect(agents[1]?.view.size).toBe(50);
    agents[0]?.read();
    expect(agents[0]?.view.size).toBe(50);
    stop.abort();
    await f.clock.advance(100);
    await running;
  });

  it("S19 who waits is told the place and about how long, and again when it changes; an agent that does not know the message is not", async () => {
    const f = fixture({ maxAnswers: 1, limits: { maxBytesInFlight: 100, partBytes: 50 } });
    f.commit(...Array.from({ length: 200 }, (_, i) => stack(`s${i}`, ["a", "b", "c", "old"])));
    const agents = ["a", "b", "c"].map((name) => f.agent(name));
    for (const agent of agents) {
      agent.connect();
      await f.clock.advance(100);
    }
    const old = rawStream(f, hello("old"));
    const [a, b, c] = agents;
    const places = (agent: MemoryAgent | undefined): unknown[] => (agent?.outputs ?? []).flatMap((output) => (output.kind === "queued" ? [output.queued] : []));
    b?.read();
    c?.read();
    expect([places(a), places(b), places(c)]).toEqual([[], [{ place: 0, delayMs: 0 }], [{ place: 1, delayMs: 0 }]]);
    while (a?.read());
    for (const session of f.sessions.clients) session.heartbeat();
    c?.read();
    // The first answer took its 300 ms, so the second one has about that long to go.
    expect(places(c).at(-1)).toEqual({ place: 0, delayMs: 300 });
    while (b?.read());
    while (c?.read());
    expect(agents.map((agent) => [agent.session?.state, agent.view.size])).toEqual(Array.from({ length: 3 }, () => ["live", 200]));
    const kinds: (string | undefined)[] = [];
    for (let message = old.take(); message !== undefined; message = old.take()) kinds.push(decodeServerMessage(message)?.$case);
    expect(new Set(kinds)).toEqual(new Set(["welcome", "update", "heartbeat"]));
  });

  it("S24 another run of the root: Acks of before are void, each greeting has its Hello, who says none is ended in its own time, who cannot is cut", async () => {
    const f = fixture({ canRestart: true });
    const void_ = new CallError("new-epoch", "another run");
    const problemOf = (one: MemoryStream | undefined): CallProblem | undefined => (one?.error instanceof CallError ? one.error.problem : undefined);
    f.commit(pool("a", "10.0.0.0/16"));
    const streams = ["n1", "n2"].map((name) => rawStream(f, hello(name, ["again"]), ack(1n)));
    const older = rawStream(f, hello("n3"), ack(1n));
    const [stream, silent] = streams;
    const session = [...f.sessions.clients].find(({ node }) => node?.name === "n1");
    const known = (): unknown[] => [session?.state, session?.acknowledged.sent, session?.acknowledged.programmed, session?.isLevel];
    const welcomes = (): number => stream?.inFlight.filter((bytes) => decodeServerMessage(bytes)?.$case === "welcome").length ?? 0;
    expect(known()).toEqual(["live", 1n, 1n, true]);

    f.sessions.restart("e2", void_);
    expect([problemOf(older), welcomes()]).toEqual(["new-epoch", 2]);
    stream?.handler?.onMessage(ack(1n));
    expect(known()).toEqual(["restating", 0n, 0n, false]);
    // A commit meanwhile is in the answer.
    f.commit(pool("b", "10.1.0.0/16"));
    await f.clock.advance(1500);
    f.sessions.restart("e3", void_);
    expect(welcomes()).toBe(3);
    stream?.handler?.onMessage(hello("n1"));
    stream?.handler?.onMessage(ack(1n));
    expect(known()).toEqual(["restating", 0n, 0n, false]);
    // The first greeting's time is over, the second's is not.
    await f.clock.advance(600);
    expect([stream, silent].map(problemOf)).toEqual([undefined, undefined]);
    stream?.handler?.onMessage(hello("n1"));
    expect(known()).toEqual(["live", 2n, 0n, false]);
    stream?.handler?.onMessage(ack(2n));
    expect(known()).toEqual(["live", 2n, 2n, true]);
    await f.clock.advance(1500);
    expect([stream, silent].map(problemOf)).toEqual([undefined, "hello-overdue"]);
  });

  it("S9 a drain names the other servers", async () => {
    const f = fixture({ peers: ["10.0.0.2:5473"] });
    const agent = f.agent("a");
    agent.connect();
    agent.read();
    const drained = f.sessions.drain(50);
    agent.read();
    expect(agent.outputs.at(-1)).toMatchObject({ kind: "move", move: { targets: ["10.0.0.2:5473"] } });
    await f.clock.advance(100);
    await drained;
  });

  it("acknowledgements make a client level, and reports reach the host", () => {
    const f = fixture();
    f.commit(stack("a", ["n1"]));
    const agent = f.agent("n1");
    agent.connect();
    const [client] = [...f.sessions.clients];
    expect(client?.isLevel).toBe(false);
    agent.read();
    expect(client?.isLevel).toBe(true);
    expect(client?.acknowledged).toMatchObject({ sent: 1n, received: 1n, programmed: 1n });
    agent.stream?.handler?.onMessage(
      AgentMessage.encode({
        message: { $case: "endpointReport", value: { block: undefined, generation: 1n, allocations: [], claim: "", of: undefined, lent: [], declined: [] } },
      }).finish(),
    );
    expect(f.reports).toEqual(["n1"]);
  });

  it("the table: over is final; only live flushes into a repair", () => {
    for (const transition of Object.values(SESSION_TRANSITIONS.over)) expect(transition).toEqual({ next: "over", effect: "ignore" });
    expect(
      Object.entries(SESSION_TRANSITIONS)
        .filter(([, row]) => row.repair.effect === "queue-repair")
        .map(([state]) => state),
    ).toEqual(["live"]);
  });

  it("the flush window grows while flushing takes most of the time, and shrinks again", () => {
    const window = new FlushWindow([10, 100, 500]);
    const seen = [
      [6, 0, 11],
      [60, 0, 101],
      [300, 0, 501],
      [130, 0, 501],
      [90, 0, 501],
      [30, 0, 101],
      [10, 5, 101],
    ].map(([tookMs = 0, lateMs = 0, sinceMs = 0]) => {
      window.note({ tookMs, lateMs, sinceMs });
      return window.currentMs;
    });
    expect(seen).toEqual([100, 500, 500, 500, 100, 100, 10]);
  });

  it("the flush window stays short for a rare change, however long it takes to send, and grows when flushes come late", () => {
    const window = new FlushWindow([10, 100, 500]);
    window.note({ tookMs: 300, lateMs: 0, sinceMs: Number.POSITIVE_INFINITY });
    window.note({ tookMs: 300, lateMs: 0, sinceMs: 1_000 });
    expect(window.currentMs).toBe(10);
    window.note({ tookMs: 30, lateMs: 60, sinceMs: 100 });
    expect(window.currentMs).toBe(100);
  });

  it("stopping while a stream is young → nothing goes on turning", async () => {
    const f = fixture();
    f.agent("n1").connect();
    const stop = new AbortController();
    const running = f.sessions.run(stop.signal);
    stop.abort();
    await running;
    // A timer that began itself anew without time passing would never let this come.
    await new Promise((resolve) => setImmediate(resolve));
    expect(f.sessions.openStreams).toBe(1);
  });
});
