/** What one server holds, however its clients behave: counts and bytes over a simulated time. */
import { describe, expect, it } from "vitest";
import type { NodeName } from "../../src/model/names.ts";
import type { RecordChange } from "../../src/model/record.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { AgentMessage } from "../../src/wire/gen/sedge/sync/v1/sync.ts";
import { decodeServerMessage } from "../../src/wire/update-codec.ts";
import { View } from "../../src/wire/view.ts";
import { MemoryAgent } from "../../test/fakes/memory-stream.ts";
import { Table } from "../table/table.ts";
import type { SessionLimits } from "./session.ts";
import { Sessions } from "./sessions.ts";

const SEED = seedOf("u");

function stack(id: string, nodes: readonly string[], text: string): RecordChange {
  return {
    key: `stack/${id}`,
    value: { kind: "stack", id, tiers: [], noMatchAction: "allow", profiles: [`policy/${text}`] },
    isRemoved: false,
    entered: nodes.map((node) => node as NodeName),
    left: [],
  };
}

function server(limits: Partial<SessionLimits> = {}): {
  readonly clock: ManualClock;
  readonly table: Table;
  readonly sessions: Sessions;
  commit(...changes: RecordChange[]): void;
} {
  const clock = new ManualClock();
  const table = new Table({ seed: SEED });
  const sessions = new Sessions({
    table,
    serverName: "s",
    epoch: "e",
    clock,
    observer: { sent: () => undefined, delivered: () => undefined, received: () => undefined, programmed: () => undefined, ended: () => undefined },
    heartbeatIntervalMs: 10_000,
    helloTimeoutMs: 500,
    answerStallMs: 2000,
    limits,
    admission: { maxAnswers: 64, maxWaiting: 1000, defer: (run) => run() },
    upstream: () => ({ ageMs: 0, isStale: false }),
    report: () => undefined,
  });
  sessions.serve();
  return {
    clock,
    table,
    sessions,
    commit: (...changes) => {
      const commit = table.commit(changes, 1n);
      if (commit !== undefined) sessions.publish(commit);
    },
  };
}

describe("bounds", () => {
  it("S14 an hour of churn with a tenth of the clients stuck: dirty keys at most the view, bytes at most the bounds, the others level all the time", () => {
    const limits = { maxBytesInFlight: 8 * 1024, minBytesInFlight: 1024, maxTotalBytesInFlight: 32 * 1024, partBytes: 2048 };
    const { table, sessions, commit } = server(limits);
    const agents = Array.from({ length: 100 }, (_, i) => new MemoryAgent({ node: `n${i}`, view: new View(), accept: (stream) => sessions.accept(stream) }));
    const names = agents.map(({ node }) => node);
    for (const agent of agents) agent.connect();
    for (const agent of agents) while (agent.read());
    const stuck = agents.slice(0, 10);
    const well = agents.slice(10);
    const keys = 50;
    let mostDirty = 0;
    let mostBytes = 0;
    for (let second = 0; second < 3600; second++) {
      commit(stack(`s${second % keys}`, names, `${second}-${"x".repeat(300)}`));
      sessions.flush();
      if (second % 10 === 0) for (const session of sessions.clients) session.heartbeat();
      for (const agent of well) while (agent.read());
      for (const session of sessions.clients) mostDirty = Math.max(mostDirty, session.dirtyKeys);
      mostBytes = Math.max(mostBytes, sessions.bytesInFlight);
      expect(well.every(({ view: { revision } }) => revision === table.revision)).toBe(true);
    }
    expect(sessions.clients.size).toBe(100);
    expect(mostDirty).toBe(keys);
    // The budget, then every stuck stream up to its least and one part; a flush to the 90 others is in flight for a moment.
    expect(mostBytes).toBeLessThan(32 * 1024 + 10 * (8 * 1024 + 2048) + 90 * 700);
    for (let round = 0; round < 50; round++) for (const agent of stuck) agent.read();
    for (const agent of stuck) {
      expect(agent.view.digest).toBe(table.viewDigest(table.nodes.idOf(agent.node as NodeName)));
      // The newest value once, not 3600.
      expect(agent.outputs.filter(({ kind }) => kind === "commit").length).toBeLessThan(40);
    }
    expect(sessions.bytesInFlight).toBe(0);
  });

  it("S15 what is too large for a message goes out in parts as the reader takes them, is atomic, and has in its commit what changed meanwhile", () => {
    const { table, sessions, commit } = server({ maxBytesInFlight: 3000, partBytes: 1000 });
    const agent = new MemoryAgent({ node: "n", view: new View(), accept: (stream) => sessions.accept(stream) });
    agent.connect();
    while (agent.read());
    const all = Array.from({ length: 100 }, (_, i) => stack(`s${i}`, ["n"], "x".repeat(200)));
    commit(...all);
    sessions.flush();
    expect(agent.stream?.bytesInFlight).toBeLessThan(3000 + 1300);
    const [session] = sessions.clients;
    expect([session?.isCaughtUp, session?.dirtyKeys]).toEqual([false, 0]);
    agent.read(3);
    // Nothing before the commit; a heartbeat in between makes no claim.
    expect(agent.view.size).toBe(0);
    session?.heartbeat();
    commit(stack("s0", ["n"], "changed"), { key: "stack/s1", value: undefined, isRemoved: true, entered: [], left: [] });
    sessions.flush();
    while (agent.read());
    expect([agent.view.size, agent.view.digest, agent.view.revision]).toEqual([99, table.viewDigest(table.nodes.idOf("n" as NodeName)), table.revision]);
    expect(agent.outputs.filter(({ kind }) => kind === "commit")).toHaveLength(2);
    expect(agent.outputs.filter(({ kind }) => kind === "repair")).toHaveLength(0);
  });

  it("S15 a repair that comes while parts are under way: what they brought is put right by its answer", () => {
    const { table, sessions, commit } = server({ maxBytesInFlight: 3000, partBytes: 1000 });
    const agent = new MemoryAgent({ node: "n", view: new View(), accept: (stream) => sessions.accept(stream) });
    commit(...Array.from({ length: 100 }, (_, i) => stack(`s${i}`, ["n"], "before")));
    agent.connect();
    while (agent.read());
    const state = agent.view.viewState();
    commit(...Array.from({ length: 100 }, (_, i) => stack(`s${i}`, ["n"], "x".repeat(200))));
    sessions.flush();
    // The agent's repair crosses the parts on the wire: it states the view of before them. Then everything changes back.
    agent.stream?.handler?.onMessage(AgentMessage.encode({ message: { $case: "repair", value: state } }).finish());
    commit(...Array.from({ length: 100 }, (_, i) => stack(`s${i}`, ["n"], "before")));
    agent.view.setBucketBits(state.bucketBits);
    const commits: boolean[] = [];
    for (let bytes = agent.stream?.take(); bytes !== undefined; bytes = agent.stream?.take()) {
      const message = decodeServerMessage(bytes);
      if (message?.$case !== "update") continue;
      agent.view.stage(message.value);
      if (message.value.commit) commits.push(agent.view.commit().isDigestRight);
    }
    expect(commits).toEqual([true]);
    expect(agent.view.digest).toBe(table.viewDigest(table.nodes.idOf("n" as NodeName)));
  });
});
