/**
 * Model of one server and its agents under kills, stalls, reconnects, corruption and server restarts: whatever happened, at every quiet point each agent's
 * view is the naive view of the cluster, and its digest the server's.
 */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SessionObserver } from "../../fanout/session/session.ts";
import { Sessions } from "../../fanout/session/sessions.ts";
import { Table } from "../../fanout/table/table.ts";
import type { NodeName } from "../../src/model/names.ts";
import { type RecordChange, type RecordKey, type RecordValue, recordKey, SHARED_RECORD_KINDS } from "../../src/model/record.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import type { AgentOutput } from "../../src/wire/agent-protocol.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { encodeRecord } from "../../src/wire/record-codec.ts";
import { View } from "../../src/wire/view.ts";
import { MemoryAgent } from "../fakes/memory-stream.ts";
import { recordValue } from "../fakes/record-arbitrary.ts";

const NODES = ["n1", "n2", "n3"].map((name) => name as NodeName);
/** No lane; one of which a message always is in flight; one with room. */
const LANE_ROOM = [0, 1, 3];
const OBSERVER: SessionObserver = {
  sent: () => undefined,
  delivered: () => undefined,
  received: () => undefined,
  programmed: () => undefined,
  ended: () => undefined,
};
const isShared = (key: RecordKey): boolean => SHARED_RECORD_KINDS.some((kind) => key.startsWith(`${kind}/`));

/** The cluster as the test knows it. */
class Model {
  readonly records = new Map<RecordKey, { value: RecordValue; audience: Set<NodeName> }>();
  uid = "u";

  view(node: NodeName): Map<RecordKey, bigint> {
    const seed = seedOf(this.uid);
    const view = new Map<RecordKey, bigint>();
    for (const [key, { value, audience }] of this.records) if (isShared(key) || audience.has(node)) view.set(key, encodeRecord(value, seed).hash);
    return view;
  }
}

/** The system under test. */
class Real {
  clock = new ManualClock();
  table: Table;
  sessions: Sessions;
  readonly agents: MemoryAgent[];
  epoch = 0;
  readonly outputs: AgentOutput[] = [];

  constructor(model: Model) {
    ({ table: this.table, sessions: this.sessions } = this.#start(model));
    this.agents = NODES.map((node) => this.agent(node, new View()));
  }

  agent(node: string, view: View): MemoryAgent {
    const laneRoom = LANE_ROOM[NODES.indexOf(node as NodeName)] ?? 0;
    return new MemoryAgent({ node, view, accept: (stream) => this.sessions.accept(stream), outputs: this.outputs, laneRoom });
  }

  /** A new server process with the same cluster. */
  restart(model: Model): void {
    for (const agent of this.agents) agent.disconnect();
    ({ table: this.table, sessions: this.sessions } = this.#start(model));
  }

  commit(changes: readonly RecordChange[]): void {
    const commit = this.table.commit(changes, 1n);
    if (commit !== undefined) this.sessions.publish(commit);
  }

  /** Everything that can move has moved: reconnect, read, flush, heartbeat, repair, until nothing is left to read. */
  async settle(): Promise<void> {
    for (const agent of this.agents) if (!agent.isConnected) agent.connect();
    for (let round = 0; round < 20; round++) {
      this.sessions.flush();
      await new Promise((resolve) => setImmediate(resolve));
      for (const agent of this.agents) while (agent.read());
      for (const client of this.sessions.clients) client.heartbeat();
      const isQuiet = this.agents.every((agent) => agent.session?.state === "live" && (agent.stream?.inFlight.length ?? 0) <= 1);
      for (const agent of this.agents) while (agent.read());
      for (const agent of this.agents) if (!agent.isConnected) agent.connect();
      if (isQuiet && round > 2) return;
    }
    throw new Error("the system does not come to rest");
  }

  #start(model: Model): { table: Table; sessions: Sessions } {
    const table = new Table({ seed: seedOf(model.uid) });
    const changes: RecordChange[] = [...model.records].map(([key, { value, audience }]) => ({
      key,
      value,
      isRemoved: false,
      entered: isShared(key) ? [] : [...audience],
      left: [],
    }));
    table.commit(changes, 1n);
    const sessions = new Sessions({
      table,
      serverName: "s",
      epoch: `e${++this.epoch}`,
      clock: this.clock,
      observer: OBSERVER,
      heartbeatIntervalMs: 1000,
      helloTimeoutMs: 1000,
      answerStallMs: 1000,
      limits: { maxBytesInFlight: 150, partBytes: 60 },
      admission: { maxAnswers: 1, maxWaiting: 2, defer: (run) => run() },
      upstream: () => ({ ageMs: 0, isStale: false }),
      report: () => undefined,
    });
    sessions.serve();
    return { table, sessions };
  }
}

type Command = fc.AsyncCommand<Model, Real>;
type Step = (model: Model, real: Real) => void | Promise<void>;

function command(name: string, step: Step): Command {
  return { check: () => true, run: async (model, real) => step(model, real), toString: () => name };
}

/** Nothing was damaged, so a repair would only hide a mistake of the server. */
function isTrouble(output: AgentOutput): boolean {
  return output.kind === "repair" || (output.kind === "end" && output.reason !== "closed");
}

function expectEqualViews(model: Model, real: Real): void {
  expect(real.outputs.filter(isTrouble)).toEqual([]);
  for (const [i, name] of NODES.entries()) {
    const agent = real.agents[i];
    const view = model.view(name);
    expect(new Map([...(agent?.view.records ?? [])].map(([key, { hash }]) => [key, hash]))).toEqual(view);
    expect(agent?.view.digest).toBe(real.table.viewDigest(real.table.nodes.idOf(name)));
    expect(agent?.view.revision).toBe(real.table.revision);
  }
}

const agentIndex = fc.nat(NODES.length - 1);
const commands = [
  fc.tuple(fc.array(fc.tuple(recordValue, fc.subarray(NODES), fc.subarray(NODES)), { minLength: 1, maxLength: 4 })).map(([changes]) =>
    command(`commit ${changes.map(([value]) => recordKey(value)).join(" ")}`, (model, real) => {
      real.commit(
        changes.map(([value, entered, left]): RecordChange => {
          const key = recordKey(value);
          const record = model.records.get(key) ?? { value, audience: new Set<NodeName>() };
          record.value = value;
          for (const node of left) record.audience.delete(node);
          for (const node of entered) record.audience.add(node);
          model.records.set(key, record);
          return { key, value, isRemoved: false, entered: isShared(key) ? [] : entered, left: isShared(key) ? [] : left };
        }),
      );
    }),
  ),
  fc.nat(30).map((n) =>
    command(`remove #${n}`, (model, real) => {
      const key = [...model.records.keys()][n % Math.max(1, model.records.size)];
      if (key === undefined) return;
      model.records.delete(key);
      real.commit([{ key, value: undefined, isRemoved: true, entered: [], left: [] }]);
    }),
  ),
  fc.tuple(agentIndex, fc.nat(5)).map(([i, count]) => command(`agent ${i} reads ${count}`, (_, real) => void real.agents[i]?.read(count))),
  agentIndex.map((i) => command(`agent ${i} connects`, (_, real) => real.agents[i]?.connect())),
  agentIndex.map((i) => command(`agent ${i} is cut`, (_, real) => real.agents[i]?.disconnect())),
  agentIndex.map((i) =>
    command(`agent ${i} loses its disk`, (_, real) => {
      const agent = real.agents[i];
      if (agent === undefined) return;
      agent.disconnect();
      real.agents[i] = real.agent(agent.node, new View());
    }),
  ),
  agentIndex.map((i) =>
    command(`agent ${i} comes back from an older disk`, (_, real) => {
      const agent = real.agents[i];
      if (agent === undefined) return;
      agent.disconnect();
      const records = [...agent.view.records.values()].slice(1).map(({ bytes }) => bytes);
      real.agents[i] = real.agent(agent.node, View.restore({ seed: agent.view.seed, epoch: agent.view.epoch, revision: agent.view.revision, records }));
    }),
  ),
  agentIndex.map((i) =>
    command(`agent ${i} opens a second session`, (_, real) => {
      const agent = real.agents[i];
      if (agent?.stream === undefined) return;
      const first = agent.stream;
      agent.stream = undefined;
      agent.session = undefined;
      agent.view.discard();
      agent.connect();
      if (agent.isConnected && !first.isOver) first.close();
    }),
  ),
  fc.constant(command("flush", (_, real) => real.sessions.flush())),
  fc.constant(command("server restart", (model, real) => real.restart(model))),
  fc.constant(
    command("another cluster", (model, real) => {
      model.uid += "'";
      real.restart(model);
    }),
  ),
  fc.constant(
    command("quiet", async (model, real) => {
      await real.settle();
      expectEqualViews(model, real);
    }),
  ),
];

describe("server and agents", () => {
  it("S1 at every quiet point each agent has the server's view, whatever happened before", async () => {
    await fc.assert(
      fc.asyncProperty(fc.commands(commands, { maxCommands: 60, size: "max" }), async (list) => {
        const model = new Model();
        const real = new Real(model);
        await fc.asyncModelRun(() => ({ model, real }), list);
        await real.settle();
        expectEqualViews(model, real);
      }),
      { numRuns: 150 },
    );
  });
});
