/**
 * Model of two replicas and their agents. A replica may lag behind the API, be restarted, catch up; agents go from one to the other with what they have, by
 * way of their disk too. Whatever happens, no agent ever moves back in the history of the cluster, and once no replica lags all agents have the newest.
 */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SessionObserver } from "../../fanout/session/session.ts";
import { Sessions } from "../../fanout/session/sessions.ts";
import { Table } from "../../fanout/table/table.ts";
import { UpstreamVersions } from "../../fanout/upstream-versions.ts";
import type { NodeName } from "../../src/model/names.ts";
import type { RecordChange } from "../../src/model/record.ts";
import { parseCidr } from "../../src/net/cidr.ts";
import { ManualClock } from "../../src/runtime/clock.ts";
import { seedOf } from "../../src/wire/digest.ts";
import { View } from "../../src/wire/view.ts";
import { MemoryAgent } from "../fakes/memory-stream.ts";

const SEED = seedOf("u");
const NODES = ["n1", "n2", "n3"];
const FIRST_VERSION = 1_000;
const OBSERVER: SessionObserver = {
  sent: () => undefined,
  delivered: () => undefined,
  received: () => undefined,
  programmed: () => undefined,
  ended: () => undefined,
};

/** The change number `step` of the cluster: one record that every node has says which it is, another comes to or leaves one node. */
function changesOf(step: number): RecordChange[] {
  const node = NODES[step % NODES.length] as NodeName;
  return [
    {
      key: "pool/step",
      value: { kind: "pool", name: "step", cidr: parseCidr(`10.${step >> 8}.${step & 255}.0/24`), natOutgoing: true, disabled: false, blockSize: 26 },
      isRemoved: false,
      entered: [],
      left: [],
    },
    {
      key: `stack/s${step % 5}`,
      value: { kind: "stack", id: `s${step % 5}`, tiers: [], noMatchAction: step % 2 === 0 ? "allow" : "deny" },
      isRemoved: false,
      entered: step % 3 === 0 ? [] : [node],
      left: step % 3 === 0 ? [node] : [],
    },
  ];
}

function stepOf(view: View): number {
  const bytes = view.records.get("pool/step")?.bytes;
  if (bytes === undefined) return 0;
  for (let step = 1; step < 300; step++) if (Buffer.from(bytes).includes(Buffer.from([10, step >> 8, step & 255, 0]))) return step;
  throw new Error("the step record is not understood");
}

class Replica {
  readonly clock: ManualClock;
  table: Table;
  sessions: Sessions;
  versions: UpstreamVersions;
  step = 0;
  isLagging = false;
  #epoch = 0;
  readonly name: string;

  constructor(name: string, clock: ManualClock) {
    this.name = name;
    this.clock = clock;
    ({ table: this.table, sessions: this.sessions, versions: this.versions } = this.#start());
  }

  /** A new process; its list gives it the cluster as of `step`. */
  restart(step: number): void {
    this.step = 0;
    ({ table: this.table, sessions: this.sessions, versions: this.versions } = this.#start());
    this.catchUp(step);
  }

  catchUp(step: number): void {
    while (this.step < step) {
      this.step++;
      this.versions.note({ kind: "delete", key: { kind: "Pod", namespace: "", name: "" } });
      const commit = this.table.commit(changesOf(this.step), BigInt(this.step));
      this.versions.settle({ revision: this.table.revision, isDrained: true, isListed: true });
      if (commit !== undefined) this.sessions.publish(commit);
    }
  }

  #start(): { table: Table; sessions: Sessions; versions: UpstreamVersions } {
    const table = new Table({ seed: SEED });
    const versions = new UpstreamVersions({ kinds: ["Node", "Pod"], source: () => new Map([["Pod", String(FIRST_VERSION + this.step)]]) });
    const sessions = new Sessions({
      table,
      versions,
      serverName: this.name,
      epoch: `${this.name}${++this.#epoch}`,
      clock: this.clock,
      observer: OBSERVER,
      heartbeatIntervalMs: 1000,
      helloTimeoutMs: 1000,
      answerStallMs: 1000,
      limits: { maxBytesInFlight: 150, partBytes: 60 },
      admission: { maxAnswers: 1, maxWaiting: 5, defer: (run) => run() },
      upstream: () => ({ ageMs: 0, isStale: false }),
      report: () => undefined,
    });
    sessions.serve();
    return { table, sessions, versions };
  }
}

class World {
  readonly clock = new ManualClock();
  readonly replicas = [new Replica("a", this.clock), new Replica("b", this.clock)];
  readonly newest = new Map<string, number>();
  agents: MemoryAgent[];
  step = 0;

  constructor() {
    this.agents = NODES.map((node) => this.#agent(node, new View()));
    this.change();
  }

  change(): void {
    this.step++;
    for (const replica of this.replicas) if (!replica.isLagging) replica.catchUp(this.step);
  }

  connect(agent: number, replica: number): void {
    this.agents[agent]?.connect((stream) => this.#replica(replica).sessions.accept(stream));
  }

  read(agent: number, count: number): void {
    for (let i = 0; i < count; i++) this.agents[agent]?.read(1);
    this.check();
  }

  viaDisk(index: number): void {
    const agent = this.agents[index];
    if (agent === undefined) return;
    agent.disconnect();
    const { seed, epoch, revision, records, upstream } = agent.view;
    this.agents[index] = this.#agent(agent.node, View.restore({ seed, epoch, revision, upstream, records: [...records.values()].map(({ bytes }) => bytes) }));
  }

  restart(index: number): void {
    const replica = this.#replica(index);
    // Its list may be served by a part of the API that lags as well, but it never goes back behind what this process had.
    replica.restart(replica.isLagging ? replica.step : this.step);
    for (const agent of this.agents) agent.disconnect();
  }

  async settle(): Promise<void> {
    for (const replica of this.replicas) {
      replica.isLagging = false;
      replica.catchUp(this.step);
    }
    for (let round = 0; round < 20; round++) {
      for (const replica of this.replicas) replica.sessions.flush();
      await new Promise((resolve) => setImmediate(resolve));
      for (const [i, agent] of this.agents.entries()) {
        if (!agent.isConnected) this.connect(i, i % 2);
        while (agent.read(1)) this.check();
      }
    }
    for (const agent of this.agents) {
      expect(stepOf(agent.view)).toBe(this.step);
      expect(agent.view.digest).toBe(this.#replica(0).table.viewDigest(this.#replica(0).table.nodes.idOf(agent.node as NodeName)));
    }
  }

  check(): void {
    for (const { node, view } of this.agents) {
      const step = stepOf(view);
      expect(step, `${node} moved back`).toBeGreaterThanOrEqual(this.newest.get(node) ?? 0);
      this.newest.set(node, step);
    }
  }

  #agent(node: string, view: View): MemoryAgent {
    return new MemoryAgent({ node, view, accept: (stream) => this.#replica(0).sessions.accept(stream) });
  }

  #replica(index: number): Replica {
    const replica = this.replicas[index];
    if (replica === undefined) throw new RangeError("no such replica");
    return replica;
  }
}

type Step = (world: World) => void | Promise<void>;
const named = (name: string, run: Step): { name: string; run: Step } => ({ name, run });
const agent = fc.nat(NODES.length - 1);
const replica = fc.nat(1);
const step = fc.oneof(
  fc.constant(named("change", (world) => world.change())),
  fc.tuple(agent, replica).map(([a, r]) => named(`agent ${a} connects to ${r}`, (world) => world.connect(a, r))),
  fc.tuple(agent, replica).map(([a, r]) =>
    named(`agent ${a} goes to ${r} and takes all`, (world) => {
      world.connect(a, r);
      world.read(a, 20);
    }),
  ),
  fc.tuple(agent, fc.nat(8)).map(([a, count]) => named(`agent ${a} reads ${count}`, (world) => world.read(a, count))),
  agent.map((a) => named(`agent ${a} is cut`, (world) => world.agents[a]?.disconnect())),
  agent.map((a) => named(`agent ${a} starts again from its disk`, (world) => world.viaDisk(a))),
  replica.map((r) =>
    named(`replica ${r} lags`, (world) => {
      const one = world.replicas[r];
      if (one !== undefined) one.isLagging = true;
    }),
  ),
  replica.map((r) =>
    named(`replica ${r} catches up`, (world) => {
      const one = world.replicas[r];
      if (one === undefined) return;
      one.isLagging = false;
      one.catchUp(world.step);
      one.sessions.flush();
    }),
  ),
  replica.map((r) => named(`replica ${r} restarts`, (world) => world.restart(r))),
  replica.map((r) => named(`replica ${r} flushes`, (world) => world.replicas[r]?.sessions.flush())),
);

describe("two replicas", () => {
  it("S16 an agent never moves back, and ends with the newest", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), async (steps) => {
        const world = new World();
        for (const { run } of steps) {
          await run(world);
          world.check();
        }
        await world.settle();
      }),
      { numRuns: 150 },
    );
  });

  it("S16 a replica that lags refuses with the kind and when to come again, and serves when it has come as far", () => {
    const world = new World();
    world.connect(0, 0);
    world.read(0, 20);
    const [, b] = world.replicas;
    if (b === undefined) throw new Error("no replica");
    b.isLagging = true;
    world.change();
    world.replicas[0]?.sessions.flush();
    world.read(0, 20);
    expect(stepOf(world.agents[0]?.view ?? new View())).toBe(2);
    world.connect(0, 1);
    expect(world.agents[0]?.stream?.error).toMatchObject({ problem: "older-upstream", message: expect.stringContaining("Pod"), retryAfterMs: 2000 });
    b.catchUp(2);
    world.connect(0, 1);
    world.read(0, 20);
    expect(world.agents[0]?.session?.state).toBe("live");
  });

  it("S16 an API that has itself gone back: after a time in which it answers, the agent is served", async () => {
    const world = new World();
    for (let i = 0; i < 5; i++) world.change();
    world.connect(0, 0);
    world.read(0, 20);
    const b = world.replicas[1];
    // As after a restore of the API's store from a copy.
    b?.restart(2);
    world.connect(0, 1);
    expect(world.agents[0]?.stream?.error).toMatchObject({ problem: "older-upstream" });
    await world.clock.advance(180_000);
    world.newest.clear();
    world.connect(0, 1);
    world.read(0, 20);
    expect([world.agents[0]?.session?.state, stepOf(world.agents[0]?.view ?? new View())]).toEqual(["live", 2]);
    // Its place is the server's now: it is not refused again.
    world.connect(0, 1);
    world.read(0, 20);
    expect(world.agents[0]?.session?.state).toBe("live");
  });
});
